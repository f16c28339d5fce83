//! Why an update did not happen.

use super::SourceError;
use crate::card::Slot;
use std::io;
use std::path::{Path, PathBuf};

/// What ended an update, a trial or a way back. One line: what, what it means, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The bundle, or the keys that it is judged by. Trying again changes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The bundle could not be read to its end. What was written stays; trying again takes only the rest.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not possible in the state in which the node is.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// The card, or the right to write to it.
    #[error(
        "{path}: {error}: the running firmware is as it was; look at the card and its files, then try again"
    )]
    Card {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What was written is not what is read.
    #[error(
        "{file} reads back other than it was written: the card loses writes, the running firmware is as it was; use another card"
    )]
    ReadBack {
        /// The file of the slot.
        file: &'static str,
    },
}

impl UpdateError {
    pub(super) fn card(path: &Path) -> impl FnOnce(io::Error) -> UpdateError {
        let path = path.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::PermissionDenied => NotNow::Denied { path }.into(),
            _ => UpdateError::Card { path, error },
        }
    }
}

/// The bundle is refused; nothing of it will ever boot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody may sign for this node.
    #[error(
        "no update keys are known, so no update can be trusted: name them under [update] in turnpike.toml as keys = [\"RW…\"] and \
         threshold = 2"
    )]
    NoKeys,
    /// The owner's keys cannot be understood.
    #[error(
        "{path}: {reason}: no update can be trusted until that is corrected under [update] in turnpike.toml"
    )]
    Keys {
        /// Where they stand.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not a bundle, or a damaged one.
    #[error("this is not a whole update bundle ({reason}): get it again")]
    Bundle {
        /// What is wrong.
        reason: String,
    },
    /// N of M.
    #[error(
        "{valid} of the {threshold} signatures that are needed are good ({keys} keys are known): it is not from whom you trust, or too \
         few signed; get it from them"
    )]
    Signatures {
        /// Keys with a good signature.
        valid: usize,
        /// Needed.
        threshold: usize,
        /// Known.
        keys: usize,
    },
    /// Enough keys signed something that makes no sense.
    #[error("its manifest makes no sense ({reason}): tell those who signed it")]
    Manifest {
        /// What is wrong.
        reason: String,
    },
    /// A newer kind of manifest.
    #[error("its manifest has format {found}, this firmware knows {known}: take an update in between first")]
    Format {
        /// In the manifest.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// For other hardware.
    #[error("it is for other boards ({boards}), this one is {own}: get the one for this board")]
    Board {
        /// The manifest's.
        boards: String,
        /// This board.
        own: String,
    },
    /// Older than, or equal to, what runs.
    #[error("its version {version} is not above {running}, which runs: `turnpike update rollback` goes back")]
    NotNewer {
        /// The bundle's.
        version: u64,
        /// The running one.
        running: u64,
    },
    /// The new firmware cannot open the money.
    #[error(
        "it reads stores of format {oldest} to {newest}, and the one here has {found}: it could not open this node's money; take another \
         version"
    )]
    StoreTooOther {
        /// Of the store.
        found: u32,
        /// Read by the new firmware.
        oldest: u32,
        /// Read by the new firmware.
        newest: u32,
    },
    /// There would be no way back.
    #[error(
        "it writes stores of format {writes}, and the running firmware reads {oldest} to {newest}: there would be no way back; take an \
         update in between first"
    )]
    StoreOneWay {
        /// Written by the new firmware.
        writes: u32,
        /// Read by the running one.
        oldest: u32,
        /// Read by the running one.
        newest: u32,
    },
    /// Larger than its place.
    #[error("{what} needs {size} bytes and has {room}: {remedy}")]
    Room {
        /// What.
        what: &'static str,
        /// Needed.
        size: u64,
        /// There.
        room: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// The source gave other bytes than were signed.
    #[error(
        "{file} is not what was signed (MiB {chunk}): the source is damaged or dishonest; get it elsewhere"
    )]
    Chunk {
        /// The file.
        file: &'static str,
        /// Number of the chunk, from 0.
        chunk: usize,
    },
}

/// The node is not in a state for it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotNow {
    /// No card layout here.
    #[error("this machine does not run from a Turnpike card ({reason}): update it as it was installed")]
    NoCard {
        /// What is missing.
        reason: String,
    },
    /// The running slot has to prove itself first.
    #[error(
        "slot {} is on trial: wait until it is committed (`turnpike update status`), or restart to go on without it",
        .slot.name()
    )]
    OnTrial {
        /// The slot.
        slot: Slot,
    },
    /// Nothing to judge.
    #[error("no trial is under way: nothing changes")]
    NoTrial,
    /// Another one is at work.
    #[error("another update is under way: wait for its end")]
    Busy,
    /// Only root may.
    #[error("{path}: permission denied: run it as root")]
    Denied {
        /// Where.
        path: PathBuf,
    },
    /// No way back.
    #[error("slot {} cannot be gone back to ({reason}): apply an update instead", .slot.name())]
    NoWayBack {
        /// The other slot.
        slot: Slot,
        /// Why.
        reason: String,
    },
    /// Nothing that others would trust.
    #[error(
        "the running firmware was flashed and has no signatures, so nobody would take it: after the next update it can be served"
    )]
    Unsigned,
    /// The address is taken, or not this machine's.
    #[error("{address}: {reason}: choose another address or port")]
    Listen {
        /// Asked for.
        address: std::net::SocketAddr,
        /// What the system says.
        reason: String,
    },
}
