//! The gate: prepaid credit per client, enforced by the kernel for IPv4 and IPv6 alike.
//!
//! What comes in: bindings (whose packets), cumulative limits (how many bytes may ever pass), blocked and exempt
//! devices. What goes out: rules in one nftables table of our own, readings of what passed, and a wake-up when a
//! client's credit is used up. What it never does: decide about money, touch another table, answer a reading
//! error with zero, or let an unpaid byte pass while it is being changed or while no daemon runs.
//!
//! Three parts stand alone: [`Gate`] on the relay, [`Watcher`] which reports used-up credit without polling, and
//! [`Meter`] which counts on the client. Spec page: `protocol/spec/gate.md`.

mod binding;
mod check;
mod error;
mod mark;
mod meter;
mod neighbour;
mod netlink;
mod nft;
mod objects;
mod recovery;
mod ruleset;
mod state;
mod watcher;

pub use binding::{Binding, ClientSlot, InterfaceName, Mac};
pub use error::GateError;
pub use meter::{Meter, MeterPlan, MeterReading, Prefix};
pub use neighbour::{Neighbour, index_of, mac_of, neighbours};
pub use recovery::Survivor;
pub use state::{Gate, GatePlan, Reading};
pub use watcher::{AsyncWatcher, Watcher, WatcherEvent};
