//! The shared protocol of Turnpike nodes.
//!
//! What it does: fixes the bytes on the wire, and decides about money, credit and sessions.
//! What comes in: bytes, timers, user commands, chain events, all with the time passed in.
//! What goes out: actions, drained one by one.
//! What it never does: read a clock, draw randomness, open a socket or a file, start a thread.
//!
//! Arrows point down only, and modules of one row never import each other:
//!
//! ```text
//! node                    composes; the only place where subsystems meet
//! money  market  talk
//! wire   crypto
//! base                    time, units, ids, limits, log macros
//! ```
//!
//! Every state machine has one shape: `handle(now, input)`, `poll_action()`, `next_timeout()`.
//! The pages under `protocol/spec/` give bytes, invariants, limits and threats.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

#[macro_use]
pub mod base;
pub mod crypto;
pub mod market;
pub mod money;
pub mod node;
pub mod talk;
pub mod wire;
