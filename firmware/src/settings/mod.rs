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

pub use entry::MOVED;
pub use finding::{Finding, Weight};
pub use source::{Kind, MAX_FILE};
pub use wiring::Interfaces;

use choice::{Choice, Machine, Version, Versions, choose};
use disk::{Disk, System};
use source::Source;
use std::io;
use std::path::{Path, PathBuf};
use stored::Folders;

/// The owner's file.
pub const OWN: &str = "turnpike.toml";
/// Raspberry Pi Imager's.
pub const PRESEED: &str = "rpi-preseed.toml";

/// Where a card's folders are.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// The open partition.
    pub boot: PathBuf,
    /// The data partition.
    pub data: PathBuf,
    /// What comes out.
    pub run: PathBuf,
}

/// What a boot said about the settings.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// All of it, the gravest first.
    pub findings: Vec<Finding>,
    /// `REPORT.txt`.
    pub report: String,
}

impl Place {
    /// Reads the settings and writes what the node's programs need. Whatever is wrong with the owner's files, there is
    /// a configuration afterwards.
    ///
    /// # Errors
    /// Only if the files cannot be written below `run`.
    pub fn apply(&self, interfaces: &Interfaces) -> io::Result<Told> {
        self.apply_on(&System, interfaces)
    }

    fn apply_on(&self, disk: &dyn Disk, interfaces: &Interfaces) -> io::Result<Told> {
        let stored = self.data.join("settings");
        // Where this fails nothing can be kept: the settings count all the same.
        let folder = disk.make_folder(&stored);
        let folders = Folders {
            boot: &self.boot,
            stored: &stored,
        };
        let mut said = Vec::new();
        let files = Kind::ALL.map(|kind| {
            let found = kind.find(disk, &self.boot);
            said.extend(found.findings);
            let versions = stored::versions(disk, &folders, kind, found.source);
            if found.missing && versions.last_good.is_some() {
                let what = "there is no such file; the last good one counts";
                let remedy = "to begin anew, write one with a # in it";
                let line =
                    crate::config::ConfigError::new(Path::new(kind.stored_name()), None, "", what, remedy);
                said.push(Finding::whole(Weight::Note, kind, line));
            }
            versions
        });
        let (data_dir, config) = (self.data.join("turnpike"), self.run.join(OWN));
        let machine = Machine {
            interfaces,
            data_dir: &data_dir,
            config: &config,
        };
        let mut choice = choose(&files, said, &machine);
        let kept = folder.and_then(|()| self.keep(disk, &folders, &files, &choice));
        if let Err(error) = kept {
            let what = format!("these settings could not be kept: {error}");
            let remedy = "secrets stay on this partition; if it stays so, replace the card";
            choice
                .findings
                .push(Finding::outcome(Weight::Odd, "", what, remedy));
        }
        let report = report::text(&choice, &self.other_problems());
        output::write(&self.run, &choice.settings, &choice.findings, &report)?;
        Ok(Told {
            findings: choice.findings,
            report,
        })
    }

    fn keep(
        &self,
        disk: &dyn Disk,
        folders: &Folders<'_>,
        files: &[Versions; 2],
        choice: &Choice,
    ) -> io::Result<()> {
        for (versions, version) in files.iter().zip(choice.versions) {
            if version == Version::Current {
                stored::keep(disk, folders, versions)?;
            }
        }
        Ok(())
    }

    /// Problems that others have reported by now: name and text of each.
    fn other_problems(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(self.run.join("problems")).into_iter().flatten();
        let mut problems: Vec<_> = files
            .filter_map(|file| {
                let path = file.ok()?.path();
                let code = path.file_name()?.to_str()?.to_owned();
                let text = std::fs::read_to_string(&path).ok()?;
                Some((code, crate::control::one_line(&text)))
            })
            .filter(|(code, _)| !code.starts_with("settings") && !code.starts_with('.'))
            .collect();
        problems.sort();
        problems
    }
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

/// Hexadecimal digits and nothing else.
fn hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
