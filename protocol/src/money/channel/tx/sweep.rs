//! A payer's transaction that takes one output by one leaf that only the payer's key opens.

use super::leaf::LeafScript;
use crate::base::{FeeRate, Outpoint, Sat};
use alloc::vec;
use bitcoin::key::{Keypair, Secp256k1};
use bitcoin::secp256k1::{Message, Signing};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Amount, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness, absolute, transaction,
};
use thiserror::Error;

/// Why a refund or a remainder's spend was not built. The coins stay where they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The key is not the one that the leaf names. Our mistake: derive the channel's own key.
    #[error(
        "the key given is not the payer's key of this channel; nothing was signed; use the channel's own key"
    )]
    WrongKey,
    /// After the fee less than the dust limit would be left. Wait for lower fees, or give the coins up.
    #[error("{value} at a fee of {fee} leaves less than the dust limit; wait for lower fees")]
    Dust {
        /// Value of the output to be taken.
        value: Sat,
        /// Fee at the rate asked for.
        fee: Sat,
    },
    /// The fee rate is beyond all money.
    #[error("the fee rate is too high to compute a fee; give a lower one")]
    Rate,
    /// The signature hash could not be computed. Our mistake.
    #[error("the signature hash could not be computed; nothing was signed")]
    Sighash,
}

/// Version of the payer's own transactions: 2 knows relative locks, and every node relays it.
const VERSION: transaction::Version = transaction::Version::TWO;

pub(super) struct Sweep<'a> {
    pub(super) outpoint: Outpoint,
    pub(super) prevout: TxOut,
    pub(super) leaf: LeafScript,
    pub(super) control: &'a [u8],
    pub(super) sequence: Sequence,
    pub(super) lock_time: absolute::LockTime,
}

impl Sweep<'_> {
    pub(super) fn sign(
        self,
        secp: &Secp256k1<impl Signing>,
        payer: &Keypair,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, SweepError> {
        // The payer's key is the push before the leaf's last opcode.
        let (key, _) = payer.x_only_public_key();
        let leaf = self.leaf.as_bytes();
        if leaf.len().checked_sub(33).and_then(|at| leaf.get(at..at + 32)) != Some(key.serialize().as_slice())
        {
            return Err(SweepError::WrongKey);
        }
        let mut transaction = Transaction {
            version: VERSION,
            lock_time: self.lock_time,
            input: vec![TxIn {
                previous_output: self.outpoint.into(),
                script_sig: ScriptBuf::new(),
                sequence: self.sequence,
                witness: self.witness([0; 64]),
            }],
            output: vec![TxOut {
                value: self.prevout.value,
                script_pubkey: to,
            }],
        };
        let value = Sat::new(self.prevout.value.to_sat());
        let fee = rate
            .fee(transaction.weight().to_vbytes_ceil())
            .ok_or(SweepError::Rate)?;
        let output = transaction.output.first_mut().ok_or(SweepError::Sighash)?;
        output.value = value
            .checked_sub(fee)
            .map(|left| Amount::from_sat(left.value()))
            .filter(|left| *left >= output.script_pubkey.minimal_non_dust())
            .ok_or(SweepError::Dust { value, fee })?;
        let prevouts = [&self.prevout];
        let hash = SighashCache::new(&transaction)
            .taproot_script_spend_signature_hash(
                0,
                &Prevouts::All(&prevouts),
                self.leaf.hash(),
                TapSighashType::Default,
            )
            .map_err(|_| SweepError::Sighash)?;
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), payer);
        let input = transaction.input.first_mut().ok_or(SweepError::Sighash)?;
        input.witness = self.witness(signature.serialize());
        Ok(transaction)
    }

    fn witness(&self, signature: [u8; 64]) -> Witness {
        Witness::from_slice(&[&signature[..], self.leaf.as_bytes(), self.control])
    }
}
