//! What is on the card, for people and programs.

use super::{Keys, MAX_MANIFEST, Manifest, NotNow, Outcome, Stage};
use crate::card::{BootChoice, KernelLine, MANIFEST, Places, Problem, Problems, Slot, SlotFiles};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};

/// One slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SlotStatus {
    /// Which.
    pub slot: Slot,
    /// Version of its firmware, where it can be booted.
    pub version: Option<u64>,
    /// Its name.
    pub name: Option<String>,
    /// It was healthy once.
    pub good: bool,
    /// Why it is not to be booted.
    pub bad: Option<String>,
}

/// Slots, trial, and the newest update.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// The slot that runs, if this machine runs from a card.
    pub running: Option<Slot>,
    /// Attempts left after this one, while the running slot is on trial.
    pub trial_left: Option<u8>,
    /// The slot that the next start picks; `None` if no slot can be loaded.
    pub next: Option<Slot>,
    /// Both.
    pub slots: [SlotStatus; 2],
    /// The newest update.
    pub update: Option<Outcome>,
    /// Keys that are known, and how many have to sign.
    pub keys: Option<[usize; 2]>,
    /// Why no update can be judged.
    pub keys_fault: Option<String>,
    /// Problems of the whole node.
    pub problems: Vec<Problem>,
}

impl Status {
    /// Of this card. Writes nothing, and reads no more than small files.
    ///
    /// # Errors
    /// [`NotNow::Denied`] where the boot partition is root's alone.
    pub fn read(places: &Places) -> Result<Status, NotNow> {
        let line = KernelLine::read(places).unwrap_or_default();
        if fs::read_dir(&places.boot).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            return Err(NotNow::Denied {
                path: places.boot.clone(),
            });
        }
        let keys = Keys::find(places);
        Ok(Status {
            running: line.slot,
            trial_left: line.on_trial().and(line.trial),
            next: BootChoice::of(places).slot,
            slots: Slot::ALL.map(|slot| slot_status(places, slot)),
            update: Outcome::read(places).map(|outcome| outcome.now(places, &line)),
            keys_fault: keys.as_ref().err().map(ToString::to_string),
            keys: keys.ok().map(|keys| [keys.threshold(), keys.count()]),
            problems: Problems::of(places).list(),
        })
    }

    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        if self.running.is_none() {
            text.push_str("This machine does not run from a Turnpike card.\n");
        }
        for slot in &self.slots {
            let _ = writeln!(text, "{}", self.slot_line(slot));
        }
        if let Some(update) = &self.update {
            let _ = writeln!(text, "{}", update_line(update));
        }
        match (&self.keys, &self.keys_fault) {
            (Some([threshold, count]), _) => {
                let _ = writeln!(text, "updates need {threshold} of {count} keys");
            }
            (None, Some(fault)) => {
                let _ = writeln!(text, "{fault}");
            }
            (None, None) => {}
        }
        for Problem { code, text: what } in &self.problems {
            let _ = writeln!(text, "problem {code}: {what}");
        }
        text
    }

    fn slot_line(&self, slot: &SlotStatus) -> String {
        let mut line = format!("slot {}: ", slot.slot.name());
        match (slot.version, &slot.name) {
            (Some(version), Some(name)) => {
                let _ = write!(line, "version {version} ({name})");
            }
            (Some(version), None) => {
                let _ = write!(line, "version {version}");
            }
            (None, _) => line.push_str("no whole firmware"),
        }
        if self.running == Some(slot.slot) {
            line.push_str(", runs");
            if let Some(left) = self.trial_left {
                let _ = write!(line, " on trial, {left} more attempts");
            }
        }
        if self.next == Some(slot.slot) && self.running != self.next {
            line.push_str(", starts next");
        }
        if slot.good {
            line.push_str(", good");
        }
        if let Some(reason) = &slot.bad {
            let _ = write!(line, ", bad: {reason}");
        }
        line
    }
}

/// One line on an update and what became of it.
pub fn update_line(update: &Outcome) -> String {
    let version = match (update.version, &update.name) {
        (Some(version), Some(name)) => format!("version {version} ({name})"),
        (Some(version), None) => format!("version {version}"),
        (None, _) => "an update".to_owned(),
    };
    let state = match update.stage {
        Stage::Fetching => "is not whole yet",
        Stage::Written => "is in its slot, not switched to",
        Stage::Trial => "is on trial",
        Stage::Committed => "is committed",
        Stage::Refused => "was refused",
        Stage::RolledBack => "was rolled back",
    };
    let back = match (update.stage, update.from_version) {
        (Stage::RolledBack, Some(from)) => format!(" to version {from}"),
        _ => String::new(),
    };
    format!(
        "update: {version} from {} {state}{back}: {}",
        update.source, update.reason
    )
}

fn slot_status(places: &Places, slot: Slot) -> SlotStatus {
    let files = SlotFiles::of(places, slot);
    let facts = files.facts();
    let name = || -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::open(files.path(MANIFEST)).ok()?;
        file.take(MAX_MANIFEST).read_to_end(&mut bytes).ok()?;
        Some(Manifest::parse(&bytes).ok()?.facts.name)
    };
    SlotStatus {
        slot,
        version: files.env().filter(|_| facts.loadable).map(|env| env.version),
        name: facts.loadable.then(name).flatten(),
        good: facts.good,
        bad: files.bad(),
    }
}
