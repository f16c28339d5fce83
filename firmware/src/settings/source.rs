//! The text of one of the owner's files, if it has one.

use super::disk::Disk;
use super::entry::{Entry, entries};
use super::finding::{Finding, Weight};
use crate::config::{ConfigError, line_of};
use std::io::ErrorKind;
use std::path::Path;
use toml::de::DeTable;

/// Longest file that is read, bytes: a thousand times what a node needs.
pub const MAX_FILE: usize = 64 * 1024;

/// Which of the two files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `turnpike.toml`.
    Own,
    /// `rpi-preseed.toml` or `custom.toml`.
    Preseed,
}

/// A file that is TOML.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Source {
    pub kind: Kind,
    /// Its name, for messages and for writing it again.
    pub name: String,
    /// Its text without a byte order mark.
    pub text: String,
    /// It had one.
    pub marked: bool,
}

/// What was found under the names of a kind.
pub(super) struct Found {
    /// The file, if it is one.
    pub source: Option<Source>,
    /// No name of the kind is there.
    pub missing: bool,
    pub findings: Vec<Finding>,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

impl Kind {
    pub(super) const ALL: [Kind; 2] = [Kind::Own, Kind::Preseed];

    /// Its name in the data partition.
    pub(super) fn stored_name(self) -> &'static str {
        match self {
            Kind::Own => super::OWN,
            Kind::Preseed => super::PRESEED,
        }
    }

    /// Its names on the open partition, best first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Own => &[super::OWN, "turnpike.toml.txt"],
            Kind::Preseed => &[
                super::PRESEED,
                "custom.toml",
                "rpi-preseed.toml.txt",
                "custom.toml.txt",
            ],
        }
    }

    /// The kind of a file with this name.
    pub(super) fn of(name: &str) -> Kind {
        let lower = name.to_ascii_lowercase();
        if Kind::Preseed.names().contains(&lower.as_str()) {
            Kind::Preseed
        } else {
            Kind::Own
        }
    }

    /// Looks for a file of this kind in a folder.
    pub(super) fn find(self, disk: &dyn Disk, folder: &Path) -> Found {
        let mut found = Found {
            source: None,
            missing: true,
            findings: Vec::new(),
        };
        for name in self.names() {
            let read = disk.read(&folder.join(name), MAX_FILE + 1);
            if matches!(&read, Err(error) if error.kind() == ErrorKind::NotFound) {
                continue;
            }
            // What the image brought says nothing yet: then the other one is meant.
            let silent = found.source.as_ref().is_some_and(Source::is_silent);
            if !found.missing && !silent {
                let used = self.names().first().copied().unwrap_or_default();
                let remedy = format!("keep one of the two; only {used} is read");
                found.say(
                    self,
                    Weight::Odd,
                    name,
                    "another file of its kind is here, too",
                    &remedy,
                );
                continue;
            }
            found.missing = false;
            if name.ends_with(".txt") {
                let right = name.trim_end_matches(".txt");
                let remedy = format!(
                    "it is read; name it {right} (in Windows Explorer: View, Show, File name extensions)"
                );
                found.say(self, Weight::Odd, name, "the name has .txt at its end", &remedy);
            }
            match read {
                Ok(bytes) => match Source::new(self, name, &bytes) {
                    Ok(source) => found.source = Some(source),
                    Err(finding) => {
                        found.source = None;
                        found.findings.push(finding);
                    }
                },
                Err(error) => found.say(
                    self,
                    Weight::Garbage,
                    name,
                    &format!("it cannot be read: {error}"),
                    "write the file again; if that does not help, the card is worn out",
                ),
            }
        }
        found
    }
}

impl Found {
    fn say(&mut self, kind: Kind, weight: Weight, name: &str, what: &str, remedy: &str) {
        let line = ConfigError::new(Path::new(name), None, "", what, remedy);
        self.findings.push(Finding::whole(weight, kind, line));
    }
}

impl Source {
    /// The file with this content.
    ///
    /// # Errors
    /// Why it is no text that could be settings.
    pub(super) fn new(kind: Kind, name: &str, bytes: &[u8]) -> Result<Source, Finding> {
        let garbage = |line: Option<usize>, what: &str, remedy: &str| {
            let line = ConfigError::new(Path::new(name), line, "", what, remedy);
            Finding::whole(Weight::Garbage, kind, line)
        };
        let anew = "write the file again; to begin anew, one line with a # in it is enough";
        if bytes.len() > MAX_FILE {
            return Err(garbage(
                None,
                "it is larger than 64 KiB, so these are no settings",
                anew,
            ));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(garbage(
                None,
                "it is UTF-16 text",
                "save it as UTF-8 (in Notepad: Save as, Encoding)",
            ));
        }
        if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(garbage(
                None,
                "it is empty, as after a card that was pulled while it was written",
                anew,
            ));
        }
        let Ok(whole) = std::str::from_utf8(bytes) else {
            let what = if bytes.contains(&0) {
                "it is no text"
            } else {
                "it is not UTF-8 text"
            };
            return Err(garbage(None, what, "save it as UTF-8"));
        };
        let text = whole.strip_prefix(BYTE_ORDER_MARK);
        let (text, marked) = (text.unwrap_or(whole), text.is_some());
        if let Err(error) = DeTable::parse(text) {
            let line = error.span().map(|span| line_of(text, span.start));
            return Err(garbage(
                line,
                &format!("this is not TOML ({})", error.message()),
                "write KEY = \"VALUE\" under a [SECTION]",
            ));
        }
        Ok(Source {
            kind,
            name: name.to_owned(),
            text: text.to_owned(),
            marked,
        })
    }

    /// Headings and comments, and no key.
    fn is_silent(&self) -> bool {
        entries(self).iter().all(Entry::is_header)
    }

    /// The file's bytes with this text in place of its own.
    pub(super) fn bytes(&self, text: &str) -> Vec<u8> {
        let mark = if self.marked { BYTE_ORDER_MARK } else { "" };
        [mark, text].concat().into_bytes()
    }
}
