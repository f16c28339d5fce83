//! What leaves the chain task: events, and the bytes to persist before they are handled.

use super::position::Position;
use super::watch::Watches;
use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};
use turnpike_protocol::money::chain::ChainEvent;

/// Version of the stored state's layout.
const STATE_VERSION: u8 = 1;

/// A piece of news. The receiver commits `state` and `wallet` in the same store transaction as (or before) the effects
/// of `events`, then takes the next report: after a crash in between, the events come again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// In the order in which they must be handled.
    pub events: Vec<ChainEvent>,
    /// The follower's state, replacing the one before; `None` if it did not change.
    pub state: Option<Vec<u8>>,
    /// One entry to append to the wallet's journal.
    pub wallet: Option<Vec<u8>>,
}

/// A report in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) events: Vec<ChainEvent>,
    /// Whether the follower's state changed since it was last serialised.
    pub(super) changed: bool,
}

/// Everything that the follower remembers over a restart.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    version: u8,
    genesis: BlockHash,
    pub(super) position: Option<Position>,
    pub(super) watches: Watches,
    /// The first block that still has to be looked at again for watches that came later.
    pub(super) rescan: Option<u32>,
}

impl State {
    pub(super) fn new(genesis: BlockHash) -> Self {
        State {
            version: STATE_VERSION,
            genesis,
            position: None,
            watches: Watches::default(),
            rescan: None,
        }
    }

    /// Reads a stored state.
    pub(super) fn read(bytes: &[u8], genesis: BlockHash) -> Result<Self, StateError> {
        match bytes.first() {
            Some(&STATE_VERSION) => {}
            Some(other) => return Err(StateError::Version(*other)),
            None => return Err(StateError::Damaged),
        }
        let mut state: State = postcard::from_bytes(bytes).map_err(|_| StateError::Damaged)?;
        if state.genesis != genesis {
            return Err(StateError::OtherChain {
                stored: state.genesis,
                configured: genesis,
            });
        }
        state.watches.index();
        Ok(state)
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        postcard::to_allocvec(self).map_err(|_| StateError::Damaged)
    }
}

/// Why a stored state cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It was written by another version.
    #[error(
        "the stored chain position has layout {0}, this version reads {STATE_VERSION}; start from a backup or delete it to scan anew"
    )]
    Version(u8),
    /// It cannot be read.
    #[error("the stored chain position is damaged; delete it to scan anew from the node's first block")]
    Damaged,
    /// It belongs to another chain.
    #[error(
        "the stored chain position is of the chain {stored}, the configuration says {configured}; use the right data folder"
    )]
    OtherChain {
        /// First block of the stored chain.
        stored: BlockHash,
        /// First block of the configured chain.
        configured: BlockHash,
    },
}
