//! Where things are on the device.

use super::Slot;
use std::path::{Path, PathBuf};

/// Names a folder that stands for a card: tests and image scripts run on plain files with it.
pub const CARD_VARIABLE: &str = "TURNPIKE_CARD";

/// Every place that the card's code reads or writes. None of them is a constant elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// Mount point of the boot partition, read-only except while something is written.
    pub boot: PathBuf,
    /// Partition that holds slot a's root and its hash tree.
    pub root_a: PathBuf,
    /// The same of slot b.
    pub root_b: PathBuf,
    /// Mount point of the data partition.
    pub data: PathBuf,
    /// Folder in RAM: problems, locks.
    pub run: PathBuf,
    /// The kernel's command line.
    pub cmdline: PathBuf,
    /// The device tree's `compatible`: texts, each ended by a zero.
    pub compatible: PathBuf,
    /// Update keys that the image was built with.
    pub keys: PathBuf,
}

impl Places {
    /// The card that this machine runs from.
    pub fn card() -> Places {
        Places {
            boot: "/boot".into(),
            root_a: "/dev/turnpike/root-a".into(),
            root_b: "/dev/turnpike/root-b".into(),
            data: "/data".into(),
            run: "/run/turnpike".into(),
            cmdline: "/proc/cmdline".into(),
            compatible: "/sys/firmware/devicetree/base/compatible".into(),
            keys: "/etc/turnpike/update-keys.toml".into(),
        }
    }

    /// A folder that stands for a card, with one entry per place: `boot`, `root-a`, `root-b`, `data`, `run`, `cmdline`,
    /// `compatible`, `update-keys.toml`.
    pub fn under(folder: &Path) -> Places {
        Places {
            boot: folder.join("boot"),
            root_a: folder.join("root-a"),
            root_b: folder.join("root-b"),
            data: folder.join("data"),
            run: folder.join("run"),
            cmdline: folder.join("cmdline"),
            compatible: folder.join("compatible"),
            keys: folder.join("update-keys.toml"),
        }
    }

    /// [`Places::under`] of the folder that was named or that [`CARD_VARIABLE`] names, else [`Places::card`].
    pub fn find(named: Option<&Path>) -> Places {
        let variable = std::env::var_os(CARD_VARIABLE).map(PathBuf::from);
        match named.map(Path::to_owned).or(variable) {
            Some(folder) => Places::under(&folder),
            None => Places::card(),
        }
    }

    /// The partition of a slot's root.
    pub fn root(&self, slot: Slot) -> &Path {
        match slot {
            Slot::A => &self.root_a,
            Slot::B => &self.root_b,
        }
    }

    /// The folder of a slot on the boot partition.
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.boot.join(slot.name())
    }

    /// The trial's record.
    pub fn trial(&self) -> PathBuf {
        self.boot.join("trial.env")
    }

    /// What became of the newest update.
    pub fn outcome(&self) -> PathBuf {
        self.settings().join("update.toml")
    }

    /// Folder of the last good settings.
    pub fn settings(&self) -> PathBuf {
        self.data.join("settings")
    }

    /// Update keys that the owner's settings name, as of this boot.
    pub fn owner_keys(&self) -> PathBuf {
        self.run.join("settings").join("update-keys.toml")
    }

    /// The daemon's store.
    pub fn store(&self) -> PathBuf {
        self.data.join("turnpike").join("store.redb")
    }
}
