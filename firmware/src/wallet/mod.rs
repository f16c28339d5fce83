//! The node's own on-chain coins: BIP86 addresses from the seed, a balance, fundings, fees for settlements.
//!
//! What comes in: descriptors with their secret keys, the same blocks and mempool transactions that the chain
//! follower looks at, and orders to pay. What goes out: signed transactions and journal entries; the caller's store
//! commits an entry together with what it belongs to, and gives all of them back at the next start. What it never
//! does: send anything, read a clock, or fund a channel with an unconfirmed coin.
//! Spec page: `protocol/spec/chain.md`.

mod error;
mod fund;
mod journal;
mod sign;
mod state;

#[cfg(test)]
mod tests;

pub use error::WalletError;
pub use fund::FundingTransaction;
pub use journal::{chain_of, is_untouched, merge};
pub use state::{Balance, Wallet, WalletKeys};
