//! The payer's way out: from the expiry height on it takes the funding output back alone.

use super::SEQUENCE;
use super::sweep::{Sweep, SweepError};
use super::terms::Terms;
use crate::base::{FeeRate, Outpoint, Sat};
use bitcoin::key::{Keypair, Secp256k1, Verification};
use bitcoin::secp256k1::Signing;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, absolute};

/// An output that pays a channel's funding script, to be taken back by its payer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refund {
    /// The channel's terms.
    pub terms: Terms,
    /// The output.
    pub outpoint: Outpoint,
    /// What the output really holds: a second or a mistaken funding need not equal the capacity.
    pub value: Sat,
}

impl Refund {
    /// The signed refund to the script `to`. Its nLockTime is the expiry: nodes take it into their mempools from
    /// the block `expiry` on, and it confirms first in block `expiry + 1`.
    ///
    /// # Errors
    /// See [`SweepError`]; nothing is signed then.
    pub fn sign(
        &self,
        secp: &Secp256k1<impl Signing + Verification>,
        payer: &Keypair,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, SweepError> {
        let funding = self.terms.funding_output(secp).map_err(|_| SweepError::Terms)?;
        let lock_time =
            absolute::LockTime::from_height(self.terms.expiry.value()).map_err(|_| SweepError::Terms)?;
        let sweep = Sweep {
            outpoint: self.outpoint,
            prevout: TxOut {
                value: Amount::from_sat(self.value.value()),
                script_pubkey: funding.to_script_buf(),
            },
            leaf: funding.refund,
            control: &funding.refund_control,
            sequence: Sequence(SEQUENCE),
            lock_time,
        };
        sweep.sign(secp, payer, to, rate)
    }
}
