//! The simplex: one payer, one payee, one taproot output; a guest channel is one of them.
//!
//! Spec page: `protocol/spec/channel.md`.

pub mod tx;
