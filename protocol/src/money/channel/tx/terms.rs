//! What the two sides of a simplex agree on, and the funding script that follows from it.

use super::leaf::{LeafScript, TreeOutput};
use crate::base::{BlockHeight, Sat, limits};
use bitcoin::ScriptBuf;
use bitcoin::key::{Secp256k1, Verification, XOnlyPublicKey};
use bitcoin::taproot::TapNodeHash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Terms of a simplex. Both sides build every script from them and compare (money.md rule 2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The payer's key of this channel, x-only (BIP340).
    pub payer_key: [u8; 32],
    /// The payee's key of this channel, x-only (BIP340).
    pub payee_key: [u8; 32],
    /// Value of the funding output, at least the dust limit and at most 21 million bitcoin.
    pub capacity: Sat,
    /// Height from which the payer alone may spend: the refund fits first into block `expiry + 1`.
    pub expiry: BlockHeight,
}

/// Why terms cannot become a channel. Nothing is at stake yet: refuse them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// The payer's key is no point of the curve.
    #[error("the payer's key is not on the curve: the channel could never be settled or refunded; refuse it")]
    PayerKey,
    /// The payee's key is no point of the curve.
    #[error("the payee's key is not on the curve: the channel could never be settled; refuse it")]
    PayeeKey,
    /// Payer and payee are one key.
    #[error("payer and payee have the same key: no channel between two; refuse it")]
    SameKey,
    /// The capacity is below the dust limit of 330 sat or above all bitcoin there is.
    #[error("the capacity cannot be an output (330 sat to 21 million bitcoin); refuse it")]
    Capacity,
    /// The expiry is 0, or from 500,000,000 on, where it would mean seconds.
    #[error("the expiry is not a block height (1 to 499,999,999); refuse it")]
    Expiry,
}

/// The funding output's script and what spending it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FundingScript {
    /// `OP_1 <output key>`.
    pub script_pubkey: [u8; 34],
    /// BIP341 output key (x-only).
    pub output_key: [u8; 32],
    /// Root of the tree of both leaves.
    pub merkle_root: TapNodeHash,
    /// Leaf A: both keys together.
    pub both: LeafScript,
    /// Control block of leaf A.
    pub both_control: [u8; 65],
    /// Leaf B: the payer alone from the expiry height on.
    pub refund: LeafScript,
    /// Control block of leaf B.
    pub refund_control: [u8; 65],
}

impl Terms {
    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), TermsError> {
        self.keys()?;
        if self.capacity.value() < limits::DUST_P2TR_SAT || self.capacity.value() > MAX_MONEY_SAT {
            return Err(TermsError::Capacity);
        }
        Ok(())
    }

    /// The funding output's script. The capacity is no part of it: an output of another value that pays this
    /// script can be refunded all the same.
    ///
    /// # Errors
    /// As [`Terms::check`], but for the capacity.
    pub fn funding_output(&self, secp: &Secp256k1<impl Verification>) -> Result<FundingScript, TermsError> {
        self.keys()?;
        let both = LeafScript::both(&self.payer_key, &self.payee_key);
        let refund = LeafScript::refund(&self.payer_key, self.expiry);
        let (both_hash, refund_hash) = (both.hash(), refund.hash());
        let merkle_root = TapNodeHash::from_node_hashes(both_hash.into(), refund_hash.into());
        let output = TreeOutput::new(secp, merkle_root).ok_or(TermsError::PayerKey)?;
        Ok(FundingScript {
            script_pubkey: output.script_pubkey,
            output_key: output.output_key,
            merkle_root,
            both,
            both_control: output.control_beside(&refund_hash),
            refund,
            refund_control: output.control_beside(&both_hash),
        })
    }

    /// The payer's key, parsed; also checks the payee's key and the expiry.
    pub(super) fn keys(&self) -> Result<XOnlyPublicKey, TermsError> {
        let payer = XOnlyPublicKey::from_slice(&self.payer_key).map_err(|_| TermsError::PayerKey)?;
        XOnlyPublicKey::from_slice(&self.payee_key).map_err(|_| TermsError::PayeeKey)?;
        if self.payer_key == self.payee_key {
            return Err(TermsError::SameKey);
        }
        if self.expiry == BlockHeight::ZERO || self.expiry.value() > limits::MAX_HEIGHT {
            return Err(TermsError::Expiry);
        }
        Ok(payer)
    }
}

impl FundingScript {
    /// The output script in the form that transactions hold.
    pub fn to_script_buf(&self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.script_pubkey.to_vec())
    }
}

/// All bitcoin there will be, satoshi (`MAX_MONEY` of Bitcoin Core).
const MAX_MONEY_SAT: u64 = 21_000_000 * 100_000_000;
