//! The payer's output of a settlement: what it did not spend.

use super::leaf::{LeafScript, TreeOutput};
use super::sweep::{Sweep, SweepError};
use super::terms::TermsError;
use crate::base::{FeeRate, Outpoint, Sat};
use bitcoin::key::{Keypair, Secp256k1, Verification, XOnlyPublicKey};
use bitcoin::secp256k1::Signing;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, absolute};

/// Script of the payer's remainder: one leaf `1 CSV DROP <payer> CHECKSIG` under the unspendable key.
///
/// The relative lock of one block keeps the payer from pinning a settlement by an unconfirmed child (money.md
/// rule 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemainderScript {
    /// `OP_1 <output key>`.
    pub script_pubkey: [u8; 34],
    /// BIP341 output key (x-only).
    pub output_key: [u8; 32],
    /// The only leaf.
    pub leaf: LeafScript,
    /// Its control block.
    pub control: [u8; 33],
}

impl RemainderScript {
    /// The remainder's script for this payer key (x-only).
    ///
    /// # Errors
    /// [`TermsError::PayerKey`] if the key is not on the curve.
    pub fn new(secp: &Secp256k1<impl Verification>, payer_key: &[u8; 32]) -> Result<Self, TermsError> {
        XOnlyPublicKey::from_slice(payer_key).map_err(|_| TermsError::PayerKey)?;
        let leaf = LeafScript::remainder(payer_key);
        let output = TreeOutput::new(secp, leaf.hash().into()).ok_or(TermsError::PayerKey)?;
        Ok(RemainderScript {
            script_pubkey: output.script_pubkey,
            output_key: output.output_key,
            leaf,
            control: output.control_alone(),
        })
    }

    /// The output script in the form that transactions hold.
    pub fn to_script_buf(&self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.script_pubkey.to_vec())
    }

    /// The remainder that `transaction` pays to this script, if it does.
    pub fn find(&self, transaction: &Transaction) -> Option<(Outpoint, Sat)> {
        let vout = transaction
            .output
            .iter()
            .position(|o| o.script_pubkey.as_bytes() == self.script_pubkey)?;
        let value = transaction.output.get(vout)?.value.to_sat();
        let txid = transaction.compute_txid();
        let outpoint = bitcoin::OutPoint {
            txid,
            vout: u32::try_from(vout).ok()?,
        };
        Some((outpoint.into(), Sat::new(value)))
    }

    /// Spends the remainder `outpoint` of `value` to the script `to`. Policy takes it once the settlement is in a
    /// block, not before.
    ///
    /// # Errors
    /// See [`SweepError`]; nothing is signed then.
    pub fn spend(
        &self,
        secp: &Secp256k1<impl Signing>,
        payer: &Keypair,
        outpoint: Outpoint,
        value: Sat,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, SweepError> {
        let sweep = Sweep {
            outpoint,
            prevout: TxOut {
                value: Amount::from_sat(value.value()),
                script_pubkey: self.to_script_buf(),
            },
            leaf: self.leaf,
            control: &self.control,
            // Bit 31 clear and value 1: BIP68 asks for one block on top of the output's own, and the script for no less.
            sequence: Sequence::from_height(1),
            lock_time: absolute::LockTime::ZERO,
        };
        sweep.sign(secp, payer, to, rate)
    }
}
