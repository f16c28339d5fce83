//! The way back to the other slot.

use super::apply::{fall_back_to, holds, lock, place};
use super::checks::Standing;
use super::{MAX_MANIFEST, Manifest, NotNow, Outcome, Stage, UpdateError};
use crate::card::{ATTEMPTS, MANIFEST, Medium, Places, Slot, SlotFiles, Trial, Writable};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Puts the other slot on trial, if it was good once or is still what its manifest says. Gives its slot and version.
pub fn rollback(places: &Places, medium: &mut dyn Medium) -> Result<(Slot, u64), UpdateError> {
    let _one = lock(places)?;
    let (standing, line) = Standing::read(places)?;
    if let Some(slot) = line.on_trial() {
        return Err(NotNow::OnTrial { slot }.into());
    }
    let slot = standing.target;
    let files = SlotFiles::of(places, slot);
    let no_way = |reason: String| UpdateError::from(NotNow::NoWayBack { slot, reason });
    if let Some(reason) = files.bad() {
        return Err(no_way(format!("it is marked as bad: {reason}")));
    }
    let facts = files.facts();
    let env = files.env().filter(|_| facts.loadable);
    let version = env
        .map(|env| env.version)
        .ok_or_else(|| no_way("it holds no whole firmware".to_owned()))?;
    if !facts.good {
        let intact = intact(places, slot).map_err(|error| no_way(error.to_string()))?;
        if let Some(file) = intact {
            return Err(no_way(format!("its {file} is damaged")));
        }
    }
    let outcome = Outcome {
        version: Some(version),
        name: None,
        from_version: Some(standing.version),
        slot: Some(slot),
        source: "rollback".to_owned(),
        stage: Stage::Trial,
        reason: "it is on trial from the next boot on".to_owned(),
        fault: None,
    };
    outcome.record(places);
    let mut switch = || -> io::Result<()> {
        let _writable = Writable::open(places)?;
        fall_back_to(places, standing.running, medium)?;
        let left = ATTEMPTS;
        Trial::write(Some(Trial { slot, left }), places, medium)
    };
    switch().map_err(UpdateError::card(&places.boot))?;
    Ok((slot, version))
}

/// The first file of a slot that is not what the slot's manifest says.
fn intact(places: &Places, slot: Slot) -> io::Result<Option<&'static str>> {
    let path = SlotFiles::of(places, slot).path(MANIFEST);
    let mut bytes = Vec::new();
    opened(&path)?.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
    let manifest = Manifest::parse(&bytes).map_err(io::Error::other)?;
    for entry in &manifest.files {
        if !holds(&opened(&place(places, slot, entry))?, entry)? {
            return Ok(Some(entry.name));
        }
    }
    Ok(None)
}

fn opened(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
