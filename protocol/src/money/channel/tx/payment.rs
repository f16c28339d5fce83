//! Payments: the payer's signature over a settlement in which its remainder is smaller. The metering hot path.

use super::remainder::RemainderScript;
use super::terms::{Terms, TermsError};
use super::{SEQUENCE, SETTLEMENT_VERSION};
use crate::base::{Outpoint, Sat, limits};
use bitcoin::TapSighash;
use bitcoin::TapSighashType;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::key::{Keypair, Secp256k1, Verification, XOnlyPublicKey};
use bitcoin::secp256k1::{Message, Signing, schnorr};
use core::fmt;
use thiserror::Error;

/// What the payer's signature covers besides its own input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `SINGLE|ANYONECANPAY`: the output of the same index, which is the payer's remainder.
    Single,
    /// `NONE|ANYONECANPAY`: nothing, because the remainder would be dust and is left to the payee.
    None,
}

impl Form {
    /// The byte behind the signature in the witness (BIP341 hash type).
    pub const fn hash_type(self) -> u8 {
        self.sighash_type() as u8
    }

    pub(super) const fn sighash_type(self) -> TapSighashType {
        match self {
            Form::Single => TapSighashType::SinglePlusAnyoneCanPay,
            Form::None => TapSighashType::NonePlusAnyoneCanPay,
        }
    }
}

/// Why a payment was not signed, or is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PaymentError {
    /// More is paid than the channel holds. As payer: our mistake; as payee: refuse, the older payment stands.
    #[error(
        "a payment of {paid} exceeds the capacity of {capacity}; it was refused and the one before it stands"
    )]
    OverCapacity {
        /// The cumulative total asked for.
        paid: Sat,
        /// What the channel holds.
        capacity: Sat,
    },
    /// The peer's signature is not for this channel and total: it is worth nothing. Refuse; the older one stands.
    #[error(
        "the payer's signature is not for this channel and total; it was refused and the payment before it stands"
    )]
    BadSignature,
    /// The key is not the payer's. Our mistake: derive the channel's own key.
    #[error(
        "the key given is not the payer's key of this channel; nothing was signed; use the channel's own key"
    )]
    WrongKey,
}

/// Everything constant of a channel's payments, so that one payment costs three SHA-256 blocks (none where the
/// remainder is dust), no allocation, and one curve operation.
///
/// Call order: [`PaymentDigest::new`] once per channel, then [`PaymentDigest::sign_payment`] as payer or
/// [`PaymentDigest::verify_payment`] as payee for each cumulative total. It keeps no secret and can be rebuilt.
#[derive(Clone)]
pub struct PaymentDigest {
    capacity: Sat,
    payer: XOnlyPublicKey,
    /// BIP341 signature message up to and with the input's sequence, for the SINGLE form.
    prefix: sha256::HashEngine,
    /// BIP342 extension: leaf hash, key version 0, no code separator.
    extension: [u8; EXTENSION],
    /// The remainder output behind its amount: script length and script.
    remainder_script: [u8; 35],
    /// The digest of the NONE form, which does not depend on the total.
    none: [u8; 32],
}

const EXTENSION: usize = 37;
/// BIP341 spend type: two for the extension of BIP342, nothing for "no annex".
const SPEND_TYPE: u8 = 2;
/// First byte of every BIP341 signature message.
const EPOCH: u8 = 0;

impl PaymentDigest {
    /// Prepares the payments of the channel with these terms, funded by `outpoint`, whose value is the capacity.
    ///
    /// # Errors
    /// As [`Terms::check`].
    pub fn new(
        secp: &Secp256k1<impl Verification>,
        terms: &Terms,
        outpoint: Outpoint,
    ) -> Result<Self, TermsError> {
        terms.check()?;
        let payer = terms.keys()?;
        let funding = terms.funding_output(secp)?;
        let remainder = RemainderScript::new(secp, &terms.payer_key)?;

        let prefix = |form: Form| {
            let mut engine = TapSighash::engine();
            engine.input(&[EPOCH, form.hash_type()]);
            engine.input(&SETTLEMENT_VERSION.to_le_bytes());
            engine.input(&0u32.to_le_bytes());
            engine.input(&[SPEND_TYPE]);
            engine.input(outpoint.txid.as_bytes());
            engine.input(&outpoint.vout.to_le_bytes());
            engine.input(&terms.capacity.value().to_le_bytes());
            engine.input(&[SCRIPT_LEN]);
            engine.input(&funding.script_pubkey);
            engine.input(&SEQUENCE.to_le_bytes());
            engine
        };

        let leaf = funding.both.hash();
        let mut extension = [0xff; EXTENSION];
        for (slot, byte) in extension.iter_mut().zip(leaf.as_byte_array().iter().chain(&[0])) {
            *slot = *byte;
        }
        let mut remainder_script = [SCRIPT_LEN; 35];
        for (slot, byte) in remainder_script.iter_mut().skip(1).zip(&remainder.script_pubkey) {
            *slot = *byte;
        }
        let mut none = prefix(Form::None);
        none.input(&extension);

        Ok(PaymentDigest {
            capacity: terms.capacity,
            payer,
            prefix: prefix(Form::Single),
            extension,
            remainder_script,
            none: TapSighash::from_engine(none).to_byte_array(),
        })
    }

    /// The form of a payment of the cumulative total `paid`, and the 32 bytes that the payer signs.
    ///
    /// # Errors
    /// [`PaymentError::OverCapacity`].
    pub fn digest(&self, paid: Sat) -> Result<(Form, [u8; 32]), PaymentError> {
        let remainder = self
            .capacity
            .checked_sub(paid)
            .ok_or(PaymentError::OverCapacity {
                paid,
                capacity: self.capacity,
            })?;
        if remainder.value() < limits::DUST_P2TR_SAT {
            return Ok((Form::None, self.none));
        }
        let mut output = sha256::HashEngine::default();
        output.input(&remainder.value().to_le_bytes());
        output.input(&self.remainder_script);
        let mut engine = self.prefix.clone();
        engine.input(sha256::Hash::from_engine(output).as_byte_array());
        engine.input(&self.extension);
        Ok((Form::Single, TapSighash::from_engine(engine).to_byte_array()))
    }

    /// Signs a payment of the cumulative total `paid`. The same total gives the same signature.
    ///
    /// # Errors
    /// [`PaymentError::OverCapacity`], [`PaymentError::WrongKey`]; nothing is signed then.
    pub fn sign_payment(
        &self,
        secp: &Secp256k1<impl Signing>,
        payer: &Keypair,
        paid: Sat,
    ) -> Result<[u8; 64], PaymentError> {
        if payer.x_only_public_key().0 != self.payer {
            return Err(PaymentError::WrongKey);
        }
        let (_, digest) = self.digest(paid)?;
        Ok(secp
            .sign_schnorr_no_aux_rand(&Message::from_digest(digest), payer)
            .serialize())
    }

    /// Checks a payment of the cumulative total `paid`. That the total grew is for the caller to check.
    ///
    /// # Errors
    /// [`PaymentError::OverCapacity`], [`PaymentError::BadSignature`].
    pub fn verify_payment(
        &self,
        secp: &Secp256k1<impl Verification>,
        paid: Sat,
        signature: &[u8; 64],
    ) -> Result<(), PaymentError> {
        let (_, digest) = self.digest(paid)?;
        let signature = schnorr::Signature::from_slice(signature).map_err(|_| PaymentError::BadSignature)?;
        secp.verify_schnorr(&signature, &Message::from_digest(digest), &self.payer)
            .map_err(|_| PaymentError::BadSignature)
    }

    /// What the payer keeps after paying `paid`: zero where it would be dust, `None` over the capacity.
    pub fn remainder(&self, paid: Sat) -> Option<Sat> {
        let remainder = self.capacity.checked_sub(paid)?;
        Some(if remainder.value() < limits::DUST_P2TR_SAT {
            Sat::ZERO
        } else {
            remainder
        })
    }
}

impl fmt::Debug for PaymentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentDigest")
            .field("capacity", &self.capacity)
            .field("payer", &self.payer)
            .finish()
    }
}

/// Length of a taproot output script, as the compact size in front of it.
const SCRIPT_LEN: u8 = 34;
