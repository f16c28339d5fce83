//! Pure transaction builders: the Bitcoin side of a simplex.
//!
//! What it does: turns the terms of a simplex into its taproot scripts, computes and checks payments, and builds
//! the settlement, the refund, the remainder's spend and the recovery data of the funding.
//! What comes in: terms, outpoints, amounts, fee rates, and the keys that sign, all from the caller.
//! What goes out: scripts, 32-byte digests, 64-byte signatures, signed transactions.
//! What it never does: derive a key, pick a coin, know the height, talk to a chain, or decide that something
//! should be signed. Spec page: `protocol/spec/transactions.md`.

pub mod costs;
mod leaf;
mod payment;
mod recovery;
mod refund;
mod remainder;
mod settlement;
mod sweep;
mod terms;

#[cfg(test)]
mod tests;

pub use leaf::{LeafScript, UNSPENDABLE_KEY};
pub use payment::{Form, PaymentDigest, PaymentError};
pub use recovery::{Found, Position, RecoveryData, carries_recovery, recover};
pub use refund::{Refund, is_refund};
pub use remainder::RemainderScript;
pub use settlement::{Claim, LeftOut, LeftOutReason, Settlement, SettlementError, WalletInput};
pub use sweep::SweepError;
pub use terms::{FundingScript, Terms, TermsError};

use crate::base::{Outpoint, Txid};
use bitcoin::hashes::Hash;

/// Version of settlements: 3, so that their unconfirmed descendants stay small (money.md rule 5).
pub const SETTLEMENT_VERSION: i32 = 3;

/// Sequence of every input but the remainder's: not final, so that nLockTime counts and the fee can be raised,
/// and with bit 31 set, so that BIP68 reads no relative lock out of it.
pub const SEQUENCE: u32 = 0xFFFF_FFFD;

impl From<Outpoint> for bitcoin::OutPoint {
    fn from(o: Outpoint) -> Self {
        bitcoin::OutPoint {
            txid: bitcoin::Txid::from_byte_array(*o.txid.as_bytes()),
            vout: o.vout,
        }
    }
}

impl From<bitcoin::OutPoint> for Outpoint {
    fn from(o: bitcoin::OutPoint) -> Self {
        Outpoint {
            txid: Txid::from_bytes(o.txid.to_byte_array()),
            vout: o.vout,
        }
    }
}

/// A transaction's id in our own type.
pub fn txid(transaction: &bitcoin::Transaction) -> Txid {
    Txid::from_bytes(transaction.compute_txid().to_byte_array())
}
