//! Setup mode's web page: for an owner who has a telephone and no keyboard on the node.
//!
//! What it does: shows what is wrong, the report and the firmware's state; takes a new `turnpike.toml`, checks it as a boot
//! would, and stores it on the open partition; says when the node is to start again.
//! What comes in: HTTP/1.1 requests of anybody on the link. What goes out: pages without script, one file.
//! What it never does: show or change anything about money, seed or channels, show a password, store settings that a boot
//! would not take, outlast its time.
//! Spec page: `protocol/spec/card.md`, "Setup mode".

mod page;
mod request;
mod server;
#[cfg(test)]
mod tests;

pub use server::{Ended, Setup, SetupError};
