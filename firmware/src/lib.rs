//! The shell around `turnpike-protocol`: sockets, gate, chain, wallet and store.
//!
//! One task owns the node; every other task holds a channel handle to it.

pub mod card;
pub mod chain;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod gate;
#[cfg(feature = "playchain")]
pub mod playchain;
pub mod settings;
pub mod setup;
pub mod store;
pub mod transport;
pub mod update;
pub mod wallet;
