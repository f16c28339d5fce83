//! The daemon: puts store, node, chain, gate and sessions together, and takes them apart cleanly.
//!
//! What comes in: a checked configuration. What goes out: a node that sells, buys or both until it is told to stop.
//! What it never does: start half. Whatever is missing is found before anything on the system is changed, and said in
//! one line.
//! Spec page: `protocol/spec/node.md`.

mod chronicle;
mod core;
mod gatekeeper;
mod link;
mod program;
mod requests;
mod rows;
mod sales;
mod start;
#[cfg(test)]
mod tests;
mod writer;

pub use self::core::{Core, CoreError, CoreHandle, Down};
pub use program::program;
pub use rows::Batch;
pub use start::{StartError, run, store_of_another_chain};
pub use writer::{Commit, Writer};
