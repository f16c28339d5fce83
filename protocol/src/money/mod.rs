//! Money: trade channels and the chain they settle on.
//!
//! What comes in: peers' messages, chain events, the owner's commands. What goes out: signed payments,
//! settlements, refunds, and what must be persisted before them. What it never does: touch a socket, a disk or a
//! wallet; those are actions, answered later. Spec page: `protocol/spec/channel.md`.

pub mod chain;
pub mod channel;
pub mod headers;
