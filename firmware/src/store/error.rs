//! Why the store refused. Every text says what to do.

use super::moving::{CardId, Moved};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a store operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No file there.
    #[error(
        "{path}: there is no store here: restore a backup with `turnpike restore`, or begin anew with `turnpike init`"
    )]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// A file is there already.
    #[error("{path} exists and is never overwritten: move it away first if it is to be replaced")]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another process holds it.
    #[error("{path} is in use by another turnpiked: stop that one first")]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// This user may not.
    #[error("{path}: permission denied: run as the user who owns the data folder")]
    Denied {
        /// Where.
        path: PathBuf,
    },
    /// The file cannot be read as a store.
    #[error(
        "{path} is damaged ({reason}); it is not taken for an empty one: keep the file, move it away, and restore a backup with `turnpike restore`"
    )]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// Written by a newer version.
    #[error("{path} has store format {found}, this version knows {known}: update turnpike")]
    Newer {
        /// Where.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// The newest format that this build knows.
        known: u32,
    },
    /// Reading or writing failed. After this the commit in question is durable or not, nobody knows which:
    /// send nothing that depends on it, stop, and open the store again.
    #[error("{path}: {error}: nothing more is written until a restart; check the disk and its free space")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A journal entry is longer than [`super::MAX_ENTRY`]. Nothing was written.
    #[error("a journal entry of {0} bytes is longer than 65,535")]
    EntryTooLong(usize),
    /// The journal holds [`super::MAX_JOURNAL`] bytes: fold it. Nothing was written.
    #[error("the journal is full: it must be folded before more is appended")]
    JournalFull,
    /// The backup file cannot be read or written.
    #[error("{path}: {error}: name another file for the backup")]
    BackupFile {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The backup cannot be opened with this seed's key, or somebody changed it.
    #[error("{path} does not open with this seed: it belongs to another seed, or was changed")]
    BackupRefused {
        /// Where.
        path: PathBuf,
    },
    /// Not a whole backup.
    #[error("{path} is not a whole backup ({reason}): take another copy")]
    BackupDamaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store goes on elsewhere.
    #[error(
        "{path}: identity and money of this node moved to card {to} on {day} by this node's clock, and only that card goes on with them: nothing is paid or sold here any more. If file or code got lost, `turnpike backup --move-to {to} FILE` gives them again; if that card never started with them and never will, `turnpike backup --undo-move` lets this one go on"
    )]
    Moved {
        /// Where.
        path: PathBuf,
        /// The card that goes on.
        to: CardId,
        /// When, such as `2026-03-01`.
        day: String,
    },
    /// Moving a store to where it is.
    #[error("{card} is this card itself: name the new one, by what `turnpike card id` says there")]
    OwnCard {
        /// This one.
        card: CardId,
    },
    /// A move for another card, or one that was used up.
    #[error(
        "{path} is for card {to}, and this is card {here}: put it there. Each file opens once; if it was opened here before, this node has what was in it. If that card is lost, say `turnpike backup --move-to {here} FILE` on the old one after `turnpike backup --undo-move`"
    )]
    OtherCard {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        to: CardId,
        /// This one.
        here: CardId,
    },
    /// The code does not open the move, or somebody changed the file.
    #[error(
        "{path} does not open with this code: take the code of this very file, and compare the file's SHA-256 with the one that was printed beside it"
    )]
    MoveRefused {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("{path} has backup format {found}, this version knows {known}: update turnpike")]
    BackupNewer {
        /// Where.
        path: PathBuf,
        /// The file's format.
        found: u8,
        /// The newest format that this build knows.
        known: u8,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, error: io::Error) -> StoreError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { path },
            io::ErrorKind::AlreadyExists => StoreError::Exists { path },
            io::ErrorKind::PermissionDenied => StoreError::Denied { path },
            // What redb says of a file that is no database, or too short for one.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Unreadable {
                path,
                reason: error.to_string(),
            },
            _ => StoreError::Io { path, error },
        }
    }

    pub(super) fn moved(path: &Path, moved: &Moved) -> StoreError {
        StoreError::Moved {
            path: path.to_owned(),
            to: moved.to,
            day: moved.day(),
        }
    }

    pub(super) fn backup(path: &Path, error: io::Error) -> StoreError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path },
            _ => StoreError::BackupFile { path, error },
        }
    }

    pub(super) fn unreadable(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn database(path: &Path, error: impl Into<redb::Error>) -> StoreError {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked {
                path: path.to_owned(),
            },
            redb::Error::Io(error) => StoreError::io(path, error),
            redb::Error::PreviousIo => StoreError::Io {
                path: path.to_owned(),
                error: io::Error::other("an earlier write failed"),
            },
            other => StoreError::unreadable(path, other),
        }
    }
}
