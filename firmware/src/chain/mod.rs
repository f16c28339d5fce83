//! The chain, as far as money needs it: what was funded, what was spent, how high the tip is.
//!
//! What comes in: blocks and the mempool of a [`Backend`], [`ChainAction`]s of the node. What goes out:
//! [`ChainEvent`]s, and with them the bytes that must be persisted before the events are handled. What it never
//! does: verify proof of work (a bitcoind is trusted to have done it), decide about channels, or hold keys other than
//! the wallet's. Spec page: `protocol/spec/chain.md`.
//!
//! [`ChainAction`]: turnpike_protocol::money::chain::ChainAction
//! [`ChainEvent`]: turnpike_protocol::money::chain::ChainEvent

mod backend;
mod follower;
mod http;
mod name;
mod position;
mod report;
mod rpc;
mod task;
mod watch;

pub use backend::{Backend, BackendError, Fault, FeeEstimate, MAX_BATCH, Tip, UnspentOutput, Verdict};
pub use follower::FollowerConfig;
pub use name::{ChainName, UnknownChain, play_genesis};
pub use report::{Report, StateError};
pub use rpc::{Auth, Bitcoind, DEFAULT_PATIENCE};
pub use task::{ChainHandle, ChainTask, OrderError};
