//! The owner's file, for somebody who writes it on the node itself.

use super::choice::{Machine, Version, choose};
use super::disk::{Disk, System, replace_on_open_partition};
use super::entry::{MOVED, entries, quoted};
use super::source::{Kind, MAX_FILE, Source};
use super::stored::{self, Folders, secrets, splice};
use super::{Finding, Interfaces, OWN, Weight, example};
use crate::card::Places;
use std::io::{self, ErrorKind};

/// The owner's file without its passwords: each is replaced by [`MOVED`]. Where the file is none, its last good text, or
/// the example.
pub fn for_editing(places: &Places) -> String {
    let disk = System(places);
    let last_good = || {
        let bytes = disk.read(&places.settings().join(OWN), MAX_FILE + 1).ok()?;
        Source::new(Kind::Own, OWN, &bytes).ok()
    };
    let shown = Kind::Own.find(&disk, &places.boot).source.or_else(last_good);
    match shown {
        Some(source) => splice(&source.text, secrets(&source).iter(), |_| Some(quoted(MOVED))),
        None => example().to_owned(),
    }
}

/// Stores a text as the owner's file on the open partition, if the next start would take it. [`MOVED`] keeps a password,
/// also one that still stands there.
///
/// Gives what may be corrected, or why it is not stored.
///
/// # Errors
/// The disk's: the file there is the old one or the new one.
pub fn accept(
    places: &Places,
    text: &str,
    interfaces: &Interfaces,
) -> io::Result<Result<Vec<Finding>, Vec<Finding>>> {
    let disk = System(places);
    // As forms send it.
    let text = text.replace("\r\n", "\n");
    let source = match Source::new(Kind::Own, OWN, text.as_bytes()) {
        Ok(source) => source,
        Err(finding) => return Ok(Err(vec![finding])),
    };
    let text = with_own_secrets(&disk, places, &source);
    let source = Source { text, ..source };
    let stored = places.settings();
    let folders = Folders {
        boot: &places.boot,
        stored: &stored,
    };
    let other = Kind::Preseed.find(&disk, &places.boot).source;
    let files = [
        stored::versions(&disk, &folders, Kind::Own, Some(source.clone())),
        stored::versions(&disk, &folders, Kind::Preseed, other),
    ];
    let (data_dir, config) = (places.data.join("turnpike"), places.run.join(OWN));
    let machine = Machine {
        interfaces,
        data_dir: &data_dir,
        config: &config,
    };
    let choice = choose(&files, Vec::new(), &machine);
    let counts = choice.versions.get(Kind::Own as usize) == Some(&Version::Current);
    let mut findings = choice.findings;
    findings.retain(|finding| finding.is_problem() && finding.file != Some(Kind::Preseed));
    findings.sort_by_key(|finding| finding.weight);
    if !counts || findings.iter().any(|finding| finding.weight <= Weight::Wrong) {
        return Ok(Err(findings));
    }
    let bytes = source.bytes(&source.text);
    if let Err(error) = replace_on_open_partition(&disk, &places.boot, OWN, &bytes) {
        if error.kind() != ErrorKind::NotFound {
            return Err(error);
        }
        // There was none: nothing has to be wiped.
        let (new, path) = (places.boot.join("turnpike.new"), places.boot.join(OWN));
        disk.while_writable(&mut || {
            disk.remove(&new)?;
            disk.create(&new, &bytes, 0o644)?;
            disk.sync(&new)?;
            disk.rename(&new, &path)?;
            disk.sync_folder(&places.boot)
        })?;
    }
    Ok(Ok(findings))
}

/// The text with the passwords that still stand on the open partition in the place of what hid them.
fn with_own_secrets(disk: &dyn Disk, places: &Places, source: &Source) -> String {
    let Some(there) = Kind::Own.find(disk, &places.boot).source else {
        return source.text.clone();
    };
    let known = secrets(&there);
    let hidden = entries(source);
    splice(
        &source.text,
        hidden.iter().filter(|entry| entry.is_moved()),
        |entry| {
            let found = known.iter().find(|known| known.dotted() == entry.dotted())?;
            there.text.get(found.span()).map(str::to_owned)
        },
    )
}
