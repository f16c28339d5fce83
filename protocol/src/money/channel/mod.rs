//! The simplex: one payer, one payee, one taproot output. A guest channel is one of them, days long.
//!
//! What comes in: the peer's messages, sightings on the chain, the owner's wishes. What goes out: what to persist,
//! what was credited, what to broadcast, in that order. What it never does: send before it persisted, count credit
//! twice, or accept anything once its own signature may have left it.
//! Spec page: `protocol/spec/channel.md`.

mod acceptance;
mod payee;
mod payee_chain;
mod payee_input;
mod payee_record;
mod payer;
mod policy;
mod settler;
#[cfg(test)]
mod tests;
pub mod tx;

pub use acceptance::Acceptance;
pub use payee::Payee;
pub use payee_input::{PayeeAction, PayeeError, PayeeInput, TakenBack};
pub use payee_record::{PayeeRecord, PayeeState};
pub use payer::{Payer, PayerAction, PayerError, PayerInput, PayerRecord, PayerState};
pub use policy::{PayeePolicy, PolicyError, deep};
pub use settler::{Batch, Candidate, SettleError, Settler, SettlerAction};
