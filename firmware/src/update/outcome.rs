//! `update.toml`: what became of the newest update.

use crate::card::{Disk, KernelLine, Medium, Places, Slot, SlotFiles, Trial};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};

/// Longest file, bytes.
const MAX_OUTCOME: u64 = 16 * 1024;
/// Longest reason and source that are kept, bytes.
const MAX_TEXT: usize = 2_000;

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// Being written, or interrupted: applying it again goes on.
    Fetching,
    /// In the slot and read back; the switch is next.
    Written,
    /// The next boots are its trial.
    Trial,
    /// It was healthy and is what runs.
    Committed,
    /// Nothing of it will boot.
    Refused,
    /// It was tried and given up.
    RolledBack,
}

/// The newest update, rolling back included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Version that was to be installed, where it is known.
    pub version: Option<u64>,
    /// Its name.
    pub name: Option<String>,
    /// Version that ran then.
    pub from_version: Option<u64>,
    /// The slot that it went into.
    pub slot: Option<Slot>,
    /// File, address, or `rollback`.
    pub source: String,
    /// How far it came.
    pub stage: Stage,
    /// One sentence.
    pub reason: String,
    /// What the health service found wrong on trial.
    #[serde(default)]
    pub fault: Option<String>,
}

impl Outcome {
    /// As it stands in the file; `None` where there is none, or one that cannot be read.
    pub fn read(places: &Places) -> Option<Outcome> {
        let mut bytes = Vec::new();
        let file = File::open(places.outcome()).ok()?;
        file.take(MAX_OUTCOME).read_to_end(&mut bytes).ok()?;
        toml::from_str(std::str::from_utf8(&bytes).ok()?).ok()
    }

    /// Writes the file, durably.
    pub fn write(&self, places: &Places) -> io::Result<()> {
        let mut outcome = self.clone();
        for text in [&mut outcome.source, &mut outcome.reason] {
            *text = crate::control::one_line(&bounded(text));
        }
        outcome.fault = outcome
            .fault
            .map(|text| crate::control::one_line(&bounded(&text)));
        let text = toml::to_string(&outcome).map_err(io::Error::other)?;
        Disk.put(&places.outcome(), text.as_bytes())
    }

    /// [`Outcome::write`], where nothing more can be done if the data partition is full or cannot be written: an update may
    /// be what helps it.
    pub(super) fn record(&self, places: &Places) {
        if let Err(error) = self.write(places) {
            tracing::warn!(
                "{}: {error}: what becomes of the update is not recorded",
                places.outcome().display()
            );
        }
    }

    /// What it is by now: a trial that ended since the file was written has ended, whoever has noticed yet.
    pub fn now(mut self, places: &Places, line: &KernelLine) -> Outcome {
        let (Stage::Trial, Some(slot)) = (self.stage, self.slot) else {
            return self;
        };
        let running = line.slot;
        let good = SlotFiles::of(places, slot).facts().good;
        if running == Some(slot) {
            // Without a trial it boots only when it is good.
            if good && line.on_trial().is_none() {
                self.stage = Stage::Committed;
                self.reason = "it was healthy".to_owned();
            }
            return self;
        }
        if line.failed == Some(slot) {
            let damaged = || SlotFiles::of(places, slot).bad();
            self.roll_back(match self.fault.clone().or_else(damaged) {
                Some(fault) => fault,
                None => format!(
                    "no reason was recorded in {} attempts: the kernel panicked, the node hung, or the power was cut; see the \
                     folder crash on the data partition",
                    crate::card::ATTEMPTS
                ),
            });
        } else if line.unbootable == Some(slot) {
            self.roll_back("its kernel could not be loaded".to_owned());
        } else if Trial::read(places).is_none_or(|trial| trial.slot != slot) {
            self.roll_back(
                "the record of its trial was lost before it ended (trial.env): apply it again".to_owned(),
            );
        }
        self
    }

    fn roll_back(&mut self, why: String) {
        self.stage = Stage::RolledBack;
        self.reason = why;
    }
}

fn bounded(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
