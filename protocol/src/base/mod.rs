//! Time, units, ids, limits and log macros: what every other module speaks in.
//!
//! What comes in and goes out: plain values. What it never does: decide anything.
//! Spec page: `protocol/spec/units.md`.

mod ids;
pub mod limits;
#[macro_use]
mod log;
mod time;
mod units;

pub use ids::{AccountId, ChannelId, ConnectionId, GenesisHash, NodeId, Outpoint, SheetHash, Slot, Txid};
pub use time::{Duration, Instant};
pub use units::{BlockHeight, ByteCount, FeeRate, Msat, Sat};
