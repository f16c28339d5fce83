//! How a trial ends.

use super::apply::lock;
use super::{NotNow, Outcome, Stage, UpdateError};
use crate::card::{KernelLine, Medium, Places, ProblemCode, Problems, Slot, SlotFiles, Trial, Writable};
use std::io;

/// What [`commit`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// The slot on trial is good from now on.
    Done(Slot),
    /// No trial was under way.
    NoTrial,
}

/// What [`settle`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing ended since the last boot.
    Nothing,
    /// A trial was committed, and a power cut had kept that from being recorded.
    Committed(Outcome),
    /// A trial ended badly; the problem `slot-rolled-back` is reported.
    RolledBack(Outcome),
}

/// The node is healthy: the slot on trial becomes good, the other one loses `good`, the trial is over, in this order.
/// Without a trial nothing changes.
pub fn commit(places: &Places, medium: &mut dyn Medium) -> Result<Commit, UpdateError> {
    let _one = lock(places)?;
    let line = read_line(places)?;
    let Some(slot) = line.on_trial() else {
        return Ok(Commit::NoTrial);
    };
    make_good(places, slot, medium).map_err(UpdateError::card(&places.boot))?;
    if let Some(mut outcome) = Outcome::read(places).filter(|outcome| outcome.slot == Some(slot)) {
        outcome.stage = Stage::Committed;
        outcome.reason = "it was healthy".to_owned();
        outcome.fault = None;
        outcome.record(places);
    }
    Ok(Commit::Done(slot))
}

/// The node is not healthy for this reason: the trial has no attempt left, so that the next boot is the other slot's. The
/// caller restarts the machine.
pub fn fail(places: &Places, reason: &str, medium: &mut dyn Medium) -> Result<Slot, UpdateError> {
    let _one = lock(places)?;
    let slot = read_line(places)?.on_trial().ok_or(NotNow::NoTrial)?;
    if let Some(mut outcome) = Outcome::read(places).filter(|outcome| outcome.slot == Some(slot)) {
        outcome.fault = Some(reason.to_owned());
        outcome.record(places);
    }
    let mut write = || -> io::Result<()> {
        let _writable = Writable::open(places)?;
        Trial::write(Some(Trial { slot, left: 0 }), places, medium)
    };
    write().map_err(UpdateError::card(&places.trial()))?;
    Ok(slot)
}

/// After a boot: what ended is recorded, reported, and its trial taken off the card. Without an end nothing is written.
pub fn settle(places: &Places, medium: &mut dyn Medium) -> Result<Verdict, UpdateError> {
    let _one = lock(places)?;
    let line = read_line(places)?;
    let before = Outcome::read(places);
    let now = before.clone().map(|outcome| outcome.now(places, &line));
    // Also after a commit that was cut off, and whose slot booted by its mark: whatever it left besides is harmless.
    if line.on_trial().is_none() && (line.failed.is_some() || line.unbootable.is_some()) {
        let mut clear = || -> io::Result<()> {
            if Trial::read(places).is_none() {
                return Ok(());
            }
            let _writable = Writable::open(places)?;
            Trial::write(None, places, medium)
        };
        clear().map_err(UpdateError::card(&places.trial()))?;
    }
    let changed = now != before;
    let Some(outcome) = now.filter(|outcome| changed || outcome.stage == Stage::RolledBack) else {
        return Ok(lost(places, &line));
    };
    if changed {
        outcome.record(places);
    }
    match outcome.stage {
        Stage::RolledBack => {
            let version = outcome
                .version
                .map_or("an update".to_owned(), |v| format!("version {v}"));
            let text = format!(
                "{version} was given up, and the version before it runs: {}",
                outcome.reason
            );
            drop(Problems::of(places).report(ProblemCode::SlotRolledBack, &text));
            Ok(match changed {
                true => Verdict::RolledBack(outcome),
                false => Verdict::Nothing,
            })
        }
        Stage::Committed => Ok(Verdict::Committed(outcome)),
        _ => Ok(Verdict::Nothing),
    }
}

/// A trial ended of which no outcome tells: the data partition is new or unreadable.
fn lost(places: &Places, line: &KernelLine) -> Verdict {
    let Some(slot) = line.failed.filter(|slot| Some(*slot) != line.slot) else {
        return Verdict::Nothing;
    };
    let text = format!(
        "the firmware in slot {} was given up, and the one before it runs: nothing is recorded of why",
        slot.name()
    );
    drop(Problems::of(places).report(ProblemCode::SlotRolledBack, &text));
    Verdict::Nothing
}

fn make_good(places: &Places, slot: Slot, medium: &mut dyn Medium) -> io::Result<()> {
    let _writable = Writable::open(places)?;
    let files = SlotFiles::of(places, slot);
    let version = files.env().map_or(0, |env| env.version);
    files.mark_good(&format!("version {version} was healthy"), medium)?;
    SlotFiles::of(places, slot.other()).unmark_good(medium)?;
    Trial::write(None, places, medium)
}

fn read_line(places: &Places) -> Result<KernelLine, UpdateError> {
    KernelLine::read(places).map_err(|error| {
        NotNow::NoCard {
            reason: format!("{}: {error}", places.cmdline.display()),
        }
        .into()
    })
}
