//! The list of what is wrong: one small file each, in RAM.

use super::Places;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

/// Most of a problem's text that is kept, bytes.
const MAX_TEXT: usize = 1_000;
/// Most files of the folder that are looked at.
const MAX_FILES: usize = 64;

/// Every problem that the node knows (card.md, "Problems").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProblemCode {
    /// A slot's root differs from its hash tree.
    RootCorrupt,
    /// A new firmware did not get healthy and was given up.
    SlotRolledBack,
    /// An update was refused.
    UpdateRefused,
    /// The data partition cannot be mounted.
    DataUnreadable,
    /// The data partition is full.
    DataFull,
    /// The card loses writes that it confirmed.
    CardDropsWrites,
    /// The owner's settings have a fault.
    Settings,
    /// The owner's settings cannot be read at all.
    SettingsGarbage,
    /// No interface has a network.
    NoNetwork,
    /// A device has no firmware file.
    FirmwareMissing,
    /// The store cannot be opened.
    StoreUnreadable,
    /// Identity and money of this node go on on another card.
    StoreMoved,
    /// The node waits to be set up.
    SetupMode,
}

impl ProblemCode {
    /// Every one.
    pub const ALL: [ProblemCode; 13] = [
        ProblemCode::RootCorrupt,
        ProblemCode::SlotRolledBack,
        ProblemCode::UpdateRefused,
        ProblemCode::DataUnreadable,
        ProblemCode::DataFull,
        ProblemCode::CardDropsWrites,
        ProblemCode::Settings,
        ProblemCode::SettingsGarbage,
        ProblemCode::NoNetwork,
        ProblemCode::FirmwareMissing,
        ProblemCode::StoreUnreadable,
        ProblemCode::StoreMoved,
        ProblemCode::SetupMode,
    ];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            ProblemCode::RootCorrupt => "root-corrupt",
            ProblemCode::SlotRolledBack => "slot-rolled-back",
            ProblemCode::UpdateRefused => "update-refused",
            ProblemCode::DataUnreadable => "data-unreadable",
            ProblemCode::DataFull => "data-full",
            ProblemCode::CardDropsWrites => "card-drops-writes",
            ProblemCode::Settings => "settings",
            ProblemCode::SettingsGarbage => "settings-garbage",
            ProblemCode::NoNetwork => "no-network",
            ProblemCode::FirmwareMissing => "firmware-missing",
            ProblemCode::StoreUnreadable => "store-unreadable",
            ProblemCode::StoreMoved => "store-moved",
            ProblemCode::SetupMode => "setup-mode",
        }
    }
}

/// One problem as it stands in the folder. The code is text: an older program lists newer ones too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// See [`ProblemCode`].
    pub code: String,
    /// What it is, what it means, what to do.
    pub text: String,
}

/// The folder of problems.
#[derive(Clone, Debug)]
pub struct Problems {
    folder: PathBuf,
}

impl Problems {
    /// This card's.
    pub fn of(places: &Places) -> Problems {
        Problems {
            folder: places.run.join("problems"),
        }
    }

    /// Reports one, in place of what it said before. Line ends become spaces.
    pub fn report(&self, code: ProblemCode, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let line = crate::control::one_line(text);
        let end = (0..=line.len().min(MAX_TEXT))
            .rev()
            .find(|end| line.is_char_boundary(*end));
        let line = line.get(..end.unwrap_or(0)).unwrap_or_default();
        // Readers see a whole line or the old one.
        let unfinished = self.folder.join(format!(".{}", code.name()));
        fs::write(&unfinished, format!("{line}\n"))?;
        fs::rename(unfinished, self.folder.join(code.name()))
    }

    /// It is over.
    pub fn clear(&self, code: ProblemCode) -> io::Result<()> {
        match fs::remove_file(self.folder.join(code.name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All of them by code. What cannot be read is left out.
    pub fn list(&self) -> Vec<Problem> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut list: Vec<Problem> = entries
            .take(MAX_FILES)
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let code = entry.file_name().into_string().ok()?;
                if code.starts_with('.') {
                    return None;
                }
                let mut bytes = Vec::new();
                let file = File::open(entry.path()).ok()?;
                file.take(MAX_TEXT as u64).read_to_end(&mut bytes).ok()?;
                let text = crate::control::one_line(String::from_utf8_lossy(&bytes).trim());
                Some(Problem { code, text })
            })
            .collect();
        list.sort_by(|a, b| a.code.cmp(&b.code));
        list
    }
}
