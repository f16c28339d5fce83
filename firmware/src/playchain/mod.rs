//! The play chain: a chain of worthless coins in one process, for demos and tests without a Bitcoin node.
//!
//! What it does: serves the part of bitcoind's JSON-RPC that [`crate::chain::Bitcoind`] asks for, makes a block every
//! few seconds, and gives coins to whoever asks. It judges transactions as a bitcoind does: scripts by Bitcoin Core's
//! own verifier, and finality, BIP68, coinbase maturity, fees, dust, replacement and version-3 rules by its own code,
//! which the tests compare with a real node. What comes in: JSON-RPC over HTTP on one loopback port. What goes out:
//! answers, and blocks in a file if wanted. What it never does: talk to other nodes, or hold anything of value.
//! Spec page: `protocol/spec/chain.md`.

mod blocks;
mod consensus;
mod mempool;
mod node;
mod policy;
mod rpc;
mod server;

pub use blocks::Coin;
pub use consensus::Refusal;
pub use node::{FaucetError, PlayNode};
pub use server::{PlayServer, ServeError, ServerConfig};
