//! The two slots and their files on the boot partition.

use super::{Medium, Places, SlotFacts};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// The kernel's name in a slot and in a bundle.
pub const KERNEL: &str = "kernel";
/// The initramfs' name.
pub const INITRD: &str = "initrd.img";
/// The manifest's name.
pub const MANIFEST: &str = "manifest.toml";

const ENV: &str = "slot.env";
const GOOD: &str = "good";
const BAD: &str = "bad";
/// Most that is read of a marker or of `slot.env`, bytes.
const MAX_TEXT: u64 = 4_096;

/// One of the card's two places for a whole firmware.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The one that the card is flashed with.
    A,
    /// The one that the first update fills.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// `a` or `b`.
    pub const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// By name.
    pub fn named(name: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| slot.name() == name)
    }

    /// The other one.
    pub const fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// `slot.env`: what U-Boot needs to know of a slot's root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotEnv {
    /// Hash at the top of the root's tree, hex.
    pub root_hash: String,
    /// Salt of the tree, hex.
    pub root_salt: String,
    /// Blocks of 4,096 bytes before the tree.
    pub root_data_blocks: u64,
    /// The firmware's version.
    pub version: u64,
}

impl SlotEnv {
    /// Reads the text; `None` where a line is missing or cannot be read.
    pub fn parse(text: &str) -> Option<SlotEnv> {
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        Some(SlotEnv {
            root_hash: value("root_hash")?.to_owned(),
            root_salt: value("root_salt")?.to_owned(),
            root_data_blocks: value("root_data_blocks")?.parse().ok()?,
            version: value("version")?.parse().ok()?,
        })
    }

    /// The text.
    pub fn to_text(&self) -> String {
        let SlotEnv {
            root_hash,
            root_salt,
            root_data_blocks,
            version,
        } = self;
        format!(
            "root_hash={root_hash}\nroot_salt={root_salt}\nroot_data_blocks={root_data_blocks}\nversion={version}\n"
        )
    }
}

/// A slot's folder on the boot partition.
#[derive(Clone, Debug)]
pub struct SlotFiles {
    folder: PathBuf,
}

impl SlotFiles {
    /// Of this slot.
    pub fn of(places: &Places, slot: Slot) -> SlotFiles {
        SlotFiles {
            folder: places.slot(slot),
        }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the boot rule looks at.
    pub fn facts(&self) -> SlotFacts {
        SlotFacts {
            good: self.path(GOOD).exists(),
            bad: self.path(BAD).exists(),
            loadable: [ENV, KERNEL, INITRD].iter().all(|name| self.path(name).exists()),
        }
    }

    /// `slot.env`, where it is there and can be read.
    pub fn env(&self) -> Option<SlotEnv> {
        SlotEnv::parse(&self.text(ENV)?)
    }

    /// Why the slot is not to be booted, if it says so.
    pub fn bad(&self) -> Option<String> {
        let text = self.text(BAD)?;
        Some(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Writes `slot.env`: from now on U-Boot can start this slot.
    pub fn write_env(&self, env: &SlotEnv, medium: &mut dyn Medium) -> io::Result<()> {
        medium.put(&self.path(ENV), env.to_text().as_bytes())
    }

    /// Removes `slot.env`: U-Boot does not start this slot, whatever else is in it.
    pub fn remove_env(&self, medium: &mut dyn Medium) -> io::Result<()> {
        medium.remove(&self.path(ENV))
    }

    /// Marks the slot as one that was healthy, for the reason in `line`.
    pub fn mark_good(&self, line: &str, medium: &mut dyn Medium) -> io::Result<()> {
        medium.put(&self.path(GOOD), format!("{line}\n").as_bytes())
    }

    /// Marks the slot as one that does not verify, for the reason in `line`.
    pub fn mark_bad(&self, line: &str, medium: &mut dyn Medium) -> io::Result<()> {
        medium.put(&self.path(BAD), format!("{line}\n").as_bytes())
    }

    /// Takes the mark away.
    pub fn unmark_good(&self, medium: &mut dyn Medium) -> io::Result<()> {
        medium.remove(&self.path(GOOD))
    }

    /// Takes the mark away.
    pub fn unmark_bad(&self, medium: &mut dyn Medium) -> io::Result<()> {
        medium.remove(&self.path(BAD))
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(name)).ok()?;
        file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
