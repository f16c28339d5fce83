//! What is wrong with a configuration, in one line.

use crate::control::one_line;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// One line: `FILE:LINE: KEY: what is wrong: what to do`. Nothing was changed on the system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    key: String,
    what: String,
    remedy: String,
}

impl ConfigError {
    pub(crate) fn new(
        path: &Path,
        line: Option<usize>,
        key: &str,
        what: impl ToString,
        remedy: impl ToString,
    ) -> ConfigError {
        ConfigError {
            path: path.to_owned(),
            line,
            key: key.to_owned(),
            what: one_line(&what),
            remedy: one_line(&remedy),
        }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
        let (what, remedy) = match error.kind() {
            io::ErrorKind::NotFound => (
                "there is no such file".to_owned(),
                "run `turnpike init`, or name the file with --config",
            ),
            io::ErrorKind::PermissionDenied => (
                "permission denied".to_owned(),
                "run as the user who owns the file",
            ),
            io::ErrorKind::InvalidData => ("it is not UTF-8 text".to_owned(), "save it as UTF-8"),
            _ => (error.to_string(), "name a readable file with --config"),
        };
        ConfigError::new(path, None, "", what, remedy)
    }

    /// The same about another place: where an owner wrote what a program put together.
    pub(crate) fn at(mut self, path: &Path, line: Option<usize>, key: &str) -> ConfigError {
        path.clone_into(&mut self.path);
        self.line = line;
        key.clone_into(&mut self.key);
        self
    }

    /// Line of the file, from 1, if the error is at one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The key with its section, such as `price.free`; empty if the file as a whole is meant.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}: {}", self.what, self.remedy)
    }
}

impl std::error::Error for ConfigError {}
