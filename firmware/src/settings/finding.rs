//! What is to be said about the owner's files.

use super::source::Kind;
use crate::config::ConfigError;
use std::fmt;
use std::path::Path;

/// What follows from a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// The file cannot be read at all: it does not count.
    Garbage,
    /// A value is wrong: the file does not count.
    Wrong,
    /// The file counts without this.
    Odd,
    /// Nothing to correct.
    Note,
}

/// One line for the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What follows.
    pub weight: Weight,
    /// The file to which it belongs; `None`: what all of it comes to.
    pub(super) file: Option<Kind>,
    /// The section of `turnpike.toml` that it is about, empty for a file as a whole.
    pub(super) section: String,
    line: Box<ConfigError>,
}

impl Finding {
    /// About a file as a whole.
    pub(super) fn whole(weight: Weight, kind: Kind, line: ConfigError) -> Finding {
        Finding {
            weight,
            file: Some(kind),
            section: String::new(),
            line: Box::new(line),
        }
    }

    /// About a section or key of a file.
    pub(super) fn about(weight: Weight, kind: Kind, section: &str, line: ConfigError) -> Finding {
        Finding {
            weight,
            file: Some(kind),
            section: section.to_owned(),
            line: Box::new(line),
        }
    }

    /// About what the settings come to on this machine.
    pub(super) fn outcome(weight: Weight, key: &str, what: impl ToString, remedy: impl ToString) -> Finding {
        Finding {
            weight,
            file: None,
            section: String::new(),
            line: Box::new(ConfigError::new(Path::new(super::OWN), None, key, what, remedy)),
        }
    }

    /// The line that it is about.
    pub(super) fn at(&self) -> Option<usize> {
        self.line.line()
    }

    /// The same, as one about this section.
    pub(super) fn in_section(mut self, section: &str) -> Finding {
        section.clone_into(&mut self.section);
        self
    }

    /// Whether the owner has something to correct.
    pub fn is_problem(&self) -> bool {
        self.weight != Weight::Note
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.fmt(f)
    }
}
