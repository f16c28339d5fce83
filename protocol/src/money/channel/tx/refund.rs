//! The payer's way out: from the expiry height on it takes the funding output back alone.

use super::SEQUENCE;
use super::leaf::LeafScript;
use super::sweep::{Sweep, SweepError};
use super::terms::{FundingScript, Terms, TermsError};
use crate::base::{FeeRate, Outpoint, Sat};
use bitcoin::key::{Keypair, Secp256k1, Verification};
use bitcoin::secp256k1::Signing;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, absolute};

/// An output that pays a channel's funding script, to be taken back by its payer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refund {
    funding: FundingScript,
    outpoint: Outpoint,
    value: Sat,
    lock_time: absolute::LockTime,
}

/// Whether `tx` takes `outpoint`, which pays the script of `terms`, back by the payer's leaf. The payer may do that
/// together with whatever else it likes, so only the script that was run tells.
pub fn is_refund(terms: &Terms, outpoint: Outpoint, tx: &Transaction) -> bool {
    let leaf = LeafScript::refund(&terms.payer_key, terms.expiry);
    tx.input.iter().any(|input| {
        Outpoint::from(input.previous_output) == outpoint
            && input
                .witness
                .taproot_leaf_script()
                .is_some_and(|run| run.script.as_bytes() == leaf.as_bytes())
    })
}

impl Refund {
    /// The refund of `outpoint`, which pays the script of `terms` and holds `value`: what is really there, since a
    /// second or a mistaken funding need not equal the capacity.
    ///
    /// # Errors
    /// As [`Terms::funding_output`].
    pub fn new(
        secp: &Secp256k1<impl Verification>,
        terms: &Terms,
        outpoint: Outpoint,
        value: Sat,
    ) -> Result<Self, TermsError> {
        Ok(Refund {
            funding: terms.funding_output(secp)?,
            outpoint,
            value,
            lock_time: absolute::LockTime::from_height(terms.expiry.value())
                .map_err(|_| TermsError::Expiry)?,
        })
    }

    /// The signed refund to the script `to`. Its nLockTime is the expiry: nodes take it into their mempools from
    /// the block `expiry` on, and it confirms first in block `expiry + 1`.
    ///
    /// # Errors
    /// See [`SweepError`]; nothing is signed then.
    pub fn sign(
        &self,
        secp: &Secp256k1<impl Signing>,
        payer: &Keypair,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, SweepError> {
        let sweep = Sweep {
            outpoint: self.outpoint,
            prevout: TxOut {
                value: Amount::from_sat(self.value.value()),
                script_pubkey: self.funding.to_script_buf(),
            },
            leaf: self.funding.refund,
            control: &self.funding.refund_control,
            // Not final, else nLockTime is void and the leaf refuses; bit 31 set, so no relative lock (BIP68).
            sequence: Sequence(SEQUENCE),
            lock_time: self.lock_time,
        };
        sweep.sign(secp, payer, to, rate)
    }
}
