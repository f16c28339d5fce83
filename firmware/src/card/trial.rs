//! `trial.env`: which slot is on trial, and how often it may still be tried.

use super::{Medium, Places, Slot};
use std::fs::File;
use std::io::{self, Read};

/// Size of the file, bytes: U-Boot reads and writes exactly this many.
pub const TRIAL_BYTES: usize = 1_024;
/// Boots that a new slot gets to become healthy: one may be lost to the owner's plug, one to chance.
pub const ATTEMPTS: u8 = 3;

/// A trial: `left` 0 means that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trial {
    /// The slot.
    pub slot: Slot,
    /// Boots that it still has, at most [`ATTEMPTS`].
    pub left: u8,
}

impl Trial {
    /// Reads the file; `None` where it is missing, torn, or names no trial.
    pub fn read(places: &Places) -> Option<Trial> {
        let mut bytes = Vec::new();
        let file = File::open(places.trial()).ok()?;
        file.take(TRIAL_BYTES as u64).read_to_end(&mut bytes).ok()?;
        Trial::from_bytes(&bytes)
    }

    /// Reads what `env export -c -s 0x400` wrote. Like U-Boot, it takes the first text of a name that it cannot use for none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Trial> {
        let (sum, texts) = bytes.split_first_chunk::<4>()?;
        if bytes.len() != TRIAL_BYTES || u32::from_le_bytes(*sum) != crc32fast::hash(texts) {
            return None;
        }
        let (mut slot, mut left) = (None, None);
        // Two zeros in a row end the list.
        for text in texts.split(|byte| *byte == 0).take_while(|text| !text.is_empty()) {
            match std::str::from_utf8(text).ok()?.split_once('=')? {
                ("trial_slot", value) => slot = Slot::named(value),
                ("trial_left", value) => left = value.parse().ok().filter(|left| *left <= ATTEMPTS),
                _ => {}
            }
        }
        Some(Trial {
            slot: slot?,
            left: left?,
        })
    }

    /// The whole file; without a trial one that says so, with a text in it because U-Boot warns of an empty list.
    pub fn to_bytes(trial: Option<Trial>) -> [u8; TRIAL_BYTES] {
        let texts = match trial {
            // In the order in which U-Boot exports them.
            Some(Trial { slot, left }) => format!("trial_left={left}\0trial_slot={}\0", slot.name()),
            None => "trial=none\0".to_owned(),
        };
        let mut bytes = [0; TRIAL_BYTES];
        let (sum, rest) = bytes.split_at_mut(4);
        for (to, from) in rest.iter_mut().zip(texts.bytes()) {
            *to = from;
        }
        sum.copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
        bytes
    }

    /// Writes the file in place, as U-Boot does, and makes it durable: two sectors, and a torn one means no trial.
    pub fn write(trial: Option<Trial>, places: &Places, medium: &mut dyn Medium) -> io::Result<()> {
        let path = places.trial();
        medium.write_at(&path, 0, &Trial::to_bytes(trial))?;
        medium.truncate(&path, TRIAL_BYTES as u64)?;
        medium.sync(&path)
    }
}
