//! The settings of a node that runs from a card.
//!
//! What it does: makes one model out of the owner's file and Raspberry Pi Imager's, keeps the last good text of both,
//! takes secrets off the open partition, and says what is wrong.
//! What comes in: two files that anybody may have written, what was good before, the names of the interfaces. What
//! goes out: the daemon's configuration, files for scripts, problems, a report. What it never does: leave the node
//! without a configuration, mix a file with an older text of itself, take a password for logging in or seed words.
//! Spec page: `protocol/spec/settings.md`.

mod card;
mod choice;
mod daemon;
mod disk;
mod edit;
mod entry;
mod finding;
mod key;
mod output;
mod preseed;
mod radio;
mod report;
mod source;
mod stored;
#[cfg(test)]
mod tests;
mod wiring;

pub use edit::{accept, for_editing};
pub use entry::MOVED;
pub use finding::{Finding, Weight};
pub use source::{Kind, MAX_FILE};
pub use wiring::Interfaces;

use crate::card::{Places, ProblemCode, Problems};
use crate::config::ConfigError;
use choice::{Choice, Machine, Version, Versions, choose};
use disk::{Disk, System};
use source::Source;
use std::io;
use std::path::Path;
use stored::Folders;

/// The owner's file.
pub const OWN: &str = "turnpike.toml";
/// Raspberry Pi Imager's.
pub const PRESEED: &str = "rpi-preseed.toml";

/// What a boot said about the settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// All of it, the gravest first.
    pub findings: Vec<Finding>,
    /// `REPORT.txt`.
    pub report: String,
}

/// Reads the settings and writes what the node's programs need. Whatever is wrong with the owner's files, there is a
/// configuration afterwards.
///
/// # Errors
/// Only if the files cannot be written below `run`.
pub fn apply(places: &Places, interfaces: &Interfaces) -> io::Result<Told> {
    apply_on(&System(places), places, interfaces)
}

fn apply_on(disk: &dyn Disk, places: &Places, interfaces: &Interfaces) -> io::Result<Told> {
    let stored = places.settings();
    // Where this fails nothing can be kept: the settings count all the same.
    let folder = disk.make_folder(&stored);
    let folders = Folders {
        boot: &places.boot,
        stored: &stored,
    };
    let mut said = Vec::new();
    let files = Kind::ALL.map(|kind| {
        let found = kind.find(disk, &places.boot);
        said.extend(found.findings);
        let versions = stored::versions(disk, &folders, kind, found.source);
        if found.missing && versions.last_good.is_some() {
            let what = "there is no such file; the last good one counts";
            let remedy = "to begin anew, write one with a # in it";
            let line = ConfigError::new(Path::new(kind.stored_name()), None, "", what, remedy);
            said.push(Finding::whole(Weight::Note, kind, line));
        }
        versions
    });
    let (data_dir, config) = (places.data.join("turnpike"), places.run.join(OWN));
    let machine = Machine {
        interfaces,
        data_dir: &data_dir,
        config: &config,
    };
    let mut choice = choose(&files, said, &machine);
    match folder.and_then(|()| keep(disk, &folders, &files, &choice)) {
        Ok(findings) => choice.findings.extend(findings),
        Err(error) => {
            let what = format!("these settings could not be kept: {error}");
            let remedy = "secrets stay on this partition; if it stays so, replace the card";
            choice
                .findings
                .push(Finding::outcome(Weight::Odd, "", what, remedy));
        }
    }
    choice.findings.sort_by_key(|finding| finding.weight);
    let mut others = Problems::of(places).list();
    others.retain(|problem| {
        !output::PROBLEMS
            .map(ProblemCode::name)
            .contains(&problem.code.as_str())
    });
    let report = report::text(&choice, &others);
    output::write(places, &choice.settings, &choice.findings, &report)?;
    Ok(Told {
        findings: choice.findings,
        report,
    })
}

/// Keeps what counts, and says which secrets stay on the open partition.
fn keep(
    disk: &dyn Disk,
    folders: &Folders<'_>,
    files: &[Versions; 2],
    choice: &Choice,
) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (versions, version) in files.iter().zip(choice.versions) {
        let Some(current) = &versions.current else {
            continue;
        };
        let moved = match version {
            Version::Current => stored::keep(disk, folders, current, versions.last_good.as_ref())?,
            _ => 0,
        };
        if stored::secrets(current).len() > moved {
            let what = "passwords in it stay on this partition, where everybody can read them";
            let remedy = match version {
                Version::Current => "they are moved when the data partition works again",
                _ => "they are moved when the file counts: correct it",
            };
            let line = ConfigError::new(Path::new(&current.name), None, "", what, remedy);
            findings.push(Finding::whole(Weight::Note, current.kind, line));
        }
    }
    Ok(findings)
}

/// What a node would say about this file, if it had no other one: for owners who write it on a desktop. Secrets that
/// were moved count as there.
pub fn check(name: &str, bytes: &[u8], interfaces: &Interfaces) -> Vec<Finding> {
    let kind = Kind::of(name);
    let source = match Source::new(kind, name, bytes) {
        Ok(source) => source,
        Err(finding) => return vec![finding],
    };
    let mut current_entries = entry::entries(&source);
    for entry in current_entries.iter_mut().filter(|entry| entry.is_moved()) {
        entry.value = entry::Value::Text("something".to_owned());
    }
    let mut files = [Versions::default(), Versions::default()];
    files[kind as usize] = Versions {
        current: Some(source),
        current_entries,
        last_good: None,
    };
    let machine = Machine {
        interfaces,
        data_dir: Path::new("/data/turnpike"),
        config: Path::new(OWN),
    };
    choose(&files, Vec::new(), &machine).findings
}

/// A commented file for an owner to fill in: it says nothing yet.
pub fn example() -> &'static str {
    include_str!("example.toml")
}

/// Hexadecimal digits and nothing else.
fn hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
