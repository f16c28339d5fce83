//! Which version of each file counts.

use super::card::{self, Card};
use super::daemon;
use super::entry::{Entry, entries};
use super::finding::{Finding, Weight};
use super::preseed;
use super::source::{Kind, Source};
use super::wiring::{Interfaces, Wiring};
use crate::config::{Config, suggestion};
use std::path::Path;
use turnpike_protocol::crypto::Seed;

/// Sections that one file says alone, if it says anything of them.
const WHOLE: [&str; 4] = ["wifi", "access_point", "chain", "update"];
/// Sections through which an owner reaches the node.
const REACH: [&str; 2] = ["system", "wifi"];
/// Keys under which people keep seed words.
const SEED_KEYS: [&str; 6] = [
    "seed",
    "words",
    "seed_words",
    "seed_phrase",
    "mnemonic",
    "restore",
];

/// The settings that count.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Settings {
    pub card: Card,
    pub wiring: Wiring,
    /// Text of the daemon's configuration.
    pub daemon: String,
    /// A chain is named.
    pub chain: bool,
    /// Something is to be sold.
    pub sells: bool,
}

/// Versions of one kind of file, best first.
#[derive(Default)]
pub(super) struct Versions {
    /// On the open partition.
    pub current: Option<Source>,
    /// Entries of it, with moved secrets put back.
    pub current_entries: Vec<Entry>,
    /// In the data partition.
    pub last_good: Option<Source>,
}

/// The version of a file that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    Current,
    LastGood,
    /// What the owner reaches the node by, of the current one.
    Reach,
    Nothing,
}

/// What was chosen.
pub(super) struct Choice {
    pub settings: Settings,
    /// By kind.
    pub versions: [Version; 2],
    pub findings: Vec<Finding>,
}

/// Where things are on this machine.
pub(super) struct Machine<'m> {
    pub interfaces: &'m Interfaces,
    /// The daemon's folder.
    pub data_dir: &'m Path,
    /// Where the daemon's configuration will be.
    pub config: &'m Path,
}

/// Chooses: see the spec page. `said` are findings about the files so far.
pub(super) fn choose(files: &[Versions; 2], said: Vec<Finding>, machine: &Machine<'_>) -> Choice {
    let mut findings = said;
    let mut versions = files.each_ref().map(Versions::best);
    // Sections of each file that are not fit for `Version::Reach`.
    let mut unfit: [Vec<String>; 2] = Default::default();
    loop {
        let parts = Kind::ALL.map(|kind| {
            let at = kind as usize;
            files[at].entries(versions[at], &unfit[at])
        });
        let (settings, mut found) = read(parts, machine);
        let mut stepped = false;
        for kind in Kind::ALL {
            let at = kind as usize;
            let is_wrong = |finding: &&Finding| finding.file == Some(kind) && finding.weight <= Weight::Wrong;
            if found.iter().any(|finding| is_wrong(&finding)) {
                let sections = found
                    .iter()
                    .filter(is_wrong)
                    .map(|finding| finding.section.clone());
                unfit[at].extend(sections);
                versions[at] = files[at].below(versions[at]);
                stepped = true;
            } else if versions[at] != Version::Current {
                // What the current text has beside its mistakes was said when it was read.
                found.retain(|finding| finding.file != Some(kind));
            }
        }
        if stepped {
            // What the others come to is said of the settings that count.
            found.retain(|finding| finding.file.is_some());
        }
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        if !stepped {
            findings.sort_by_key(|finding| (finding.weight, finding.file, finding.at()));
            return Choice {
                settings,
                versions,
                findings,
            };
        }
    }
}

impl Versions {
    fn best(&self) -> Version {
        match (&self.current, &self.last_good) {
            (Some(_), _) => Version::Current,
            (None, Some(_)) => Version::LastGood,
            (None, None) => Version::Nothing,
        }
    }

    fn below(&self, version: Version) -> Version {
        match version {
            Version::Current if self.last_good.is_some() => Version::LastGood,
            Version::Current => Version::Reach,
            _ => Version::Nothing,
        }
    }

    fn entries(&self, version: Version, unfit: &[String]) -> (Vec<Entry>, Vec<Finding>) {
        let current = || self.current_entries.clone();
        match version {
            Version::Current => own_names(current()),
            Version::LastGood => own_names(self.last_good.as_ref().map(entries).unwrap_or_default()),
            Version::Reach => {
                let (mut entries, findings) = own_names(current());
                // A mistake that belongs to no section puts all of them in doubt.
                let doubt = unfit.iter().any(String::is_empty);
                entries.retain(|entry| {
                    !doubt && REACH.contains(&entry.section.as_str()) && !unfit.contains(&entry.section)
                });
                let findings = findings
                    .into_iter()
                    .filter(|finding| finding.weight > Weight::Wrong);
                (entries, findings.collect())
            }
            Version::Nothing => Default::default(),
        }
    }
}

/// Entries by their names in `turnpike.toml`, and what is wrong with the file itself.
fn own_names(entries: Vec<Entry>) -> (Vec<Entry>, Vec<Finding>) {
    let mut findings: Vec<_> = entries.iter().filter_map(seed_words).collect();
    let (mut entries, said) = match entries.first().map(|entry| entry.kind) {
        Some(Kind::Preseed) => preseed::translate(entries),
        _ => (entries, Vec::new()),
    };
    findings.extend(said);
    findings.extend(entries.iter().filter(|entry| entry.is_moved()).map(|entry| {
        let what = "it says that this secret was moved to the card's data partition, but it is not there";
        entry.finding(Weight::Wrong, what, "write it once more")
    }));
    let known: Vec<_> = card::SECTIONS.into_iter().chain(daemon::SECTIONS).collect();
    entries.retain(|entry| {
        let outside = entry.section.is_empty();
        let name = if outside { &entry.key } else { &entry.section };
        let is_known = known.contains(&name.as_str());
        if is_known && outside {
            let remedy = format!("write [{name}] on a line of its own and its keys below");
            let finding = entry.finding(Weight::Wrong, "this is a section, not a key", remedy);
            findings.push(finding.in_section(name));
        } else if !is_known && (outside || entry.is_header()) {
            let what = if outside {
                "there is no such key outside of a section"
            } else {
                "there is no such section"
            };
            findings.push(entry.finding(Weight::Odd, what, suggestion(name, &known)));
        }
        is_known && !outside
    });
    (entries, findings)
}

/// Seed words have no place on a partition that every computer opens.
fn seed_words(entry: &Entry) -> Option<Finding> {
    let named = SEED_KEYS.contains(&entry.key.to_ascii_lowercase().as_str());
    let texts = entry.texts().unwrap_or_default();
    let are = || Seed::from_words(&texts.join(" ")).is_ok();
    (named || are()).then(|| {
        let what =
            "seed words are not taken from this partition: whoever had the card for a minute has the money";
        let remedy =
            "remove them; move what they hold to a new seed, or give them over SSH with `turnpike restore`";
        entry.finding(Weight::Wrong, what, remedy)
    })
}

/// One model out of both files: the first one wins.
fn merge(own: Vec<Entry>, preseed: Vec<Entry>) -> Vec<Entry> {
    let mut merged = own;
    for entry in preseed {
        let said = merged.iter().any(|there| {
            there.kind == Kind::Own
                && !there.is_header()
                && there.section == entry.section
                && (WHOLE.contains(&entry.section.as_str()) || there.key == entry.key)
        });
        // Good SSH keys count where all of the first file's are bad.
        if !said || entry.is("system", "ssh_keys") {
            merged.push(entry);
        }
    }
    merged
}

/// Reads both files' entries, each with what was found so far.
fn read([own, preseed]: [(Vec<Entry>, Vec<Finding>); 2], machine: &Machine<'_>) -> (Settings, Vec<Finding>) {
    let mut findings = own.1;
    findings.extend(preseed.1);
    let merged = merge(own.0, preseed.0);
    let (card, found) = card::read(&merged);
    findings.extend(found);
    let (wiring, found) = Wiring::new(&card, &merged, machine.interfaces);
    findings.extend(found);
    let (daemon, found) = daemon::write(&merged, &wiring, machine.data_dir, machine.config);
    findings.extend(found);
    let settings = Settings {
        chain: merged
            .iter()
            .any(|entry| entry.section == "chain" && !entry.is_header()),
        sells: Config::parse(machine.config, &daemon).is_ok_and(|config| config.relay.enabled),
        card,
        wiring,
        daemon,
    };
    (settings, findings)
}
