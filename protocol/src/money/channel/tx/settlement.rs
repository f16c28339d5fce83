//! The settlement: the payee takes what it was paid, of many channels in one transaction.

use super::costs::{INPUT_WU, MAX_SETTLEMENT_WU, NONE_CLAIM_WU, OVERHEAD_WU, SINGLE_CLAIM_WU};
use super::payment::{Form, PaymentDigest, PaymentError};
use super::remainder::RemainderScript;
use super::terms::{FundingScript, Terms, TermsError};
use super::{SEQUENCE, SETTLEMENT_VERSION};
use crate::base::{FeeRate, Outpoint, Sat, limits};
use alloc::vec::Vec;
use bitcoin::key::{Keypair, Secp256k1, Verification};
use bitcoin::secp256k1::{Message, Signing};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Amount, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness, absolute, transaction,
};
use thiserror::Error;

/// A channel that its payee settles: the newest total and the payer's signature for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The channel's terms.
    pub terms: Terms,
    /// Its funding output, confirmed, whose value is the capacity. An unconfirmed one would hold up the batch.
    pub outpoint: Outpoint,
    /// Cumulative total paid.
    pub paid: Sat,
    /// The payer's signature for that total.
    pub signature: [u8; 64],
}

/// A coin of the payee's wallet that helps to pay the fee. It must be confirmed: policy refuses a version-3
/// transaction that spends unconfirmed outputs of other versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalletInput {
    /// The coin.
    pub outpoint: Outpoint,
    /// Its value and script.
    pub prevout: TxOut,
    /// Weight of the witness that the wallet will add, its count included; for a taproot key path
    /// [`super::costs::KEY_SPEND_WITNESS_WU`].
    pub witness_wu: u64,
}

/// A claim that is not in the settlement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Its place in the list given.
    pub index: usize,
    /// The channel's funding output.
    pub outpoint: Outpoint,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why a claim was left out of a settlement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// It brings less than it costs. Wait for lower fees, or give it up.
    #[error("it brings {worth} and would cost {cost} at this fee rate; wait for lower fees or give it up")]
    Worthless {
        /// What it adds to the payee's output before fees.
        worth: Sat,
        /// What its own size costs, rounded up.
        cost: Sat,
    },
    /// The payer's signature is not valid, and would have sunk the whole batch. Our mistake: such a payment is
    /// refused when it comes in.
    #[error("the payer's stored signature is not valid; restore the channel's state and settle it again")]
    BadSignature,
    /// The terms are not valid, or less than what was paid. Our mistake: such a channel is refused when it opens.
    #[error("the channel's stored terms are not valid; restore the channel's state and settle it again")]
    Terms,
    /// The same funding output is in the list already. Our mistake.
    #[error("the same channel is in the batch already")]
    Repeated,
}

/// Why a settlement was not built or not signed. Nothing left this function; all claims stay good until expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SettlementError {
    /// More claims than one transaction takes. Our mistake: settle in batches of at most 60.
    #[error("{given} channels are more than the 60 of one settlement; settle them in several")]
    TooMany {
        /// How many were given.
        given: usize,
    },
    /// No claim is worth its size at this fee rate. Wait for lower fees, or give them up.
    #[error("no channel is worth settling at this fee rate; wait for lower fees or give them up")]
    Nothing,
    /// With its wallet inputs it is larger than policy relays. Use fewer of them.
    #[error(
        "the settlement would have {vbytes} vB, over the 10,000 that nodes relay; use fewer wallet coins"
    )]
    TooLarge {
        /// Size, virtual bytes.
        vbytes: u64,
    },
    /// The payee's output would be dust after the fee. Lower the fee or add wallet coins.
    #[error(
        "a fee of {fee} leaves the payee less than the dust limit; {largest} is the most; lower it or add coins"
    )]
    Dust {
        /// The fee asked for.
        fee: Sat,
        /// The largest fee that leaves the payee an output, zero if none does.
        largest: Sat,
    },
    /// The fee rate or a sum is beyond all money.
    #[error("the fee or a sum of values does not fit; give a lower fee rate")]
    Overflow,
    /// The key for a claim is not the payee's. Our mistake: derive the channel's own key.
    #[error("the key given for channel {index} is not its payee key; nothing was signed")]
    WrongKey {
        /// The claim's place in the list given.
        index: usize,
    },
    /// The signature hash could not be computed. Our mistake.
    #[error("the signature hash could not be computed; nothing was signed")]
    Sighash,
}

/// A settlement with its fee chosen, not yet signed.
///
/// Call order: [`Settlement::new`]; look at [`Settlement::left_out`]; persist that every channel in it is closing
/// (money.md rule 7); [`Settlement::sign`]. To raise the fee later: [`Settlement::raise`], then sign that.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// SINGLE claims, then NONE claims: input i of the former pairs with output i.
    inputs: Vec<ClaimInput>,
    wallet: Vec<WalletInput>,
    payout: ScriptBuf,
    left_out: Vec<LeftOut>,
    fee: Sat,
}

#[derive(Clone, Debug)]
struct ClaimInput {
    index: usize,
    claim: Claim,
    form: Form,
    funding: FundingScript,
    /// The payer's output, in the SINGLE form.
    remainder: Option<TxOut>,
}

impl Settlement {
    /// Puts the claims worth their size at `rate` into one transaction that pays the rest, less the fee, to the
    /// script `payout`.
    ///
    /// # Errors
    /// See [`SettlementError`].
    pub fn new(
        secp: &Secp256k1<impl Verification>,
        claims: &[Claim],
        wallet: Vec<WalletInput>,
        payout: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Settlement, SettlementError> {
        if claims.len() > limits::MAX_BATCH {
            return Err(SettlementError::TooMany { given: claims.len() });
        }
        let mut inputs: Vec<ClaimInput> = Vec::with_capacity(claims.len());
        let mut left_out = Vec::new();
        for (index, claim) in claims.iter().enumerate() {
            let repeated = inputs.iter().any(|i| i.claim.outpoint == claim.outpoint);
            let checked = if repeated {
                Err(LeftOutReason::Repeated)
            } else {
                ClaimInput::new(secp, index, claim).and_then(|input| input.worth_its_size(rate))
            };
            match checked {
                Ok(input) => inputs.push(input),
                Err(reason) => left_out.push(LeftOut {
                    index,
                    outpoint: claim.outpoint,
                    reason,
                }),
            }
        }
        if inputs.is_empty() {
            return Err(SettlementError::Nothing);
        }
        inputs.sort_by_key(|i| i.form == Form::None);
        let settlement = Settlement {
            inputs,
            wallet,
            payout,
            left_out,
            fee: Sat::ZERO,
        };
        let fee = rate.fee(settlement.vbytes()).ok_or(SettlementError::Overflow)?;
        settlement.checked(fee)
    }

    /// The same inputs, from the same payer signatures, at another fee: the payee's output gives way.
    ///
    /// # Errors
    /// [`SettlementError::Dust`] over [`Settlement::largest_fee`].
    pub fn with_fee(&self, fee: Sat) -> Result<Settlement, SettlementError> {
        self.clone().checked(fee)
    }

    /// A replacement of this settlement, once it was broadcast: the same claims, `more` coins of the wallet, and
    /// a fee at `rate` or the least that policy accepts for a replacement, whichever is larger.
    ///
    /// # Errors
    /// [`SettlementError::Dust`] if the payee cannot afford that, [`SettlementError::TooLarge`].
    pub fn raise(&self, rate: FeeRate, more: Vec<WalletInput>) -> Result<Settlement, SettlementError> {
        let mut raised = self.clone();
        raised.wallet.extend(more);
        let vbytes = raised.vbytes();
        // BIP125 rule 4: a replacement pays for its own relay on top of what it replaces.
        let least = FeeRate::MIN_RELAY
            .fee(vbytes)
            .and_then(|own| self.fee.checked_add(own));
        let fee = rate
            .fee(vbytes)
            .zip(least)
            .map(|(a, b)| a.max(b))
            .ok_or(SettlementError::Overflow)?;
        raised.checked(fee)
    }

    /// Signs every claim as its payee. `key_of` gets a claim's place in the list given to [`Settlement::new`].
    /// Wallet inputs are left without witness, for the wallet to sign ([`Settlement::prevouts`]); that does not
    /// change the transaction id.
    ///
    /// # Errors
    /// [`SettlementError::WrongKey`]; no signature leaves this function then.
    pub fn sign(
        &self,
        secp: &Secp256k1<impl Signing>,
        mut key_of: impl FnMut(usize) -> Keypair,
    ) -> Result<Transaction, SettlementError> {
        let unsigned = self.unsigned();
        let prevouts = self.prevouts();
        let mut witnesses = Vec::with_capacity(self.inputs.len());
        let mut cache = SighashCache::new(&unsigned);
        for (at, input) in self.inputs.iter().enumerate() {
            let mut key = key_of(input.index);
            if key.x_only_public_key().0.serialize() != input.claim.terms.payee_key {
                return Err(SettlementError::WrongKey { index: input.index });
            }
            let hash = cache
                .taproot_script_spend_signature_hash(
                    at,
                    &Prevouts::All(&prevouts),
                    input.funding.both.hash(),
                    TapSighashType::Default,
                )
                .map_err(|_| SettlementError::Sighash)?;
            let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &key);
            key.non_secure_erase();
            witnesses.push(input.witness(&signature.serialize()));
        }
        let mut signed = unsigned;
        for (input, witness) in signed.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        Ok(signed)
    }

    /// Claims that are not in it, and why.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Places, in the list given, of the claims that are in it, in the order of the inputs.
    pub fn settled(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().map(|i| i.index)
    }

    /// The fee.
    pub fn fee(&self) -> Sat {
        self.fee
    }

    /// What the payee's output holds.
    pub fn payee_value(&self) -> Sat {
        self.available().unwrap_or(Sat::ZERO).saturating_sub(self.fee)
    }

    /// The largest fee that leaves the payee an output above the dust limit; zero if none does.
    pub fn largest_fee(&self) -> Sat {
        let dust = Sat::new(self.payout.minimal_non_dust().to_sat());
        self.available().unwrap_or(Sat::ZERO).saturating_sub(dust)
    }

    /// The least fee that policy accepts for a replacement of this settlement with the same inputs.
    pub fn least_replacement_fee(&self) -> Sat {
        self.fee
            .saturating_add(FeeRate::MIN_RELAY.fee(self.vbytes()).unwrap_or(Sat::MAX))
    }

    /// Weight once all inputs are signed, weight units.
    pub fn weight(&self) -> u64 {
        let claims: u64 = self.inputs.iter().map(ClaimInput::weight).sum();
        let wallet = self.wallet.iter().fold(0u64, |sum, w| {
            sum.saturating_add(INPUT_WU).saturating_add(w.witness_wu)
        });
        let payout = TxOut {
            value: Amount::ZERO,
            script_pubkey: self.payout.clone(),
        }
        .weight()
        .to_wu();
        OVERHEAD_WU
            .saturating_add(claims)
            .saturating_add(wallet)
            .saturating_add(payout)
    }

    /// Virtual bytes once all inputs are signed.
    pub fn vbytes(&self) -> u64 {
        self.weight().div_ceil(4)
    }

    /// The outputs that it spends, in the order of its inputs: what a wallet needs to sign its own.
    pub fn prevouts(&self) -> Vec<TxOut> {
        let claims = self.inputs.iter().map(|i| TxOut {
            value: Amount::from_sat(i.claim.terms.capacity.value()),
            script_pubkey: i.funding.to_script_buf(),
        });
        claims
            .chain(self.wallet.iter().map(|w| w.prevout.clone()))
            .collect()
    }

    /// Everything that is not a payer's remainder; `None` if it does not fit.
    fn available(&self) -> Option<Sat> {
        let claims = self
            .inputs
            .iter()
            .try_fold(Sat::ZERO, |sum, i| sum.checked_add(i.worth()))?;
        self.wallet.iter().try_fold(claims, |sum, w| {
            sum.checked_add(Sat::new(w.prevout.value.to_sat()))
        })
    }

    fn checked(mut self, fee: Sat) -> Result<Settlement, SettlementError> {
        if self.weight() > MAX_SETTLEMENT_WU {
            return Err(SettlementError::TooLarge {
                vbytes: self.vbytes(),
            });
        }
        let available = self.available().ok_or(SettlementError::Overflow)?;
        let dust = Sat::new(self.payout.minimal_non_dust().to_sat());
        match available.checked_sub(fee) {
            Some(left) if left >= dust => {
                self.fee = fee;
                Ok(self)
            }
            _ => Err(SettlementError::Dust {
                fee,
                largest: self.largest_fee(),
            }),
        }
    }

    fn unsigned(&self) -> Transaction {
        let outpoints = self
            .inputs
            .iter()
            .map(|i| i.claim.outpoint)
            .chain(self.wallet.iter().map(|w| w.outpoint));
        let payee = TxOut {
            value: Amount::from_sat(self.payee_value().value()),
            script_pubkey: self.payout.clone(),
        };
        Transaction {
            version: transaction::Version(SETTLEMENT_VERSION),
            lock_time: absolute::LockTime::ZERO,
            input: outpoints
                .map(|outpoint| TxIn {
                    previous_output: outpoint.into(),
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence(SEQUENCE),
                    witness: Witness::new(),
                })
                .collect(),
            output: self
                .inputs
                .iter()
                .filter_map(|i| i.remainder.clone())
                .chain([payee])
                .collect(),
        }
    }
}

impl ClaimInput {
    fn new(secp: &Secp256k1<impl Verification>, index: usize, claim: &Claim) -> Result<Self, LeftOutReason> {
        let invalid = |_: TermsError| LeftOutReason::Terms;
        let funding = claim.terms.funding_output(secp).map_err(invalid)?;
        let payments = PaymentDigest::new(secp, &claim.terms, claim.outpoint).map_err(invalid)?;
        payments
            .verify_payment(secp, claim.paid, &claim.signature)
            .map_err(|e| match e {
                PaymentError::BadSignature => LeftOutReason::BadSignature,
                _ => LeftOutReason::Terms,
            })?;
        let (form, _) = payments.digest(claim.paid).map_err(|_| LeftOutReason::Terms)?;
        let remainder = match form {
            Form::None => None,
            Form::Single => Some(TxOut {
                value: Amount::from_sat(claim.terms.capacity.saturating_sub(claim.paid).value()),
                script_pubkey: RemainderScript::new(secp, &claim.terms.payer_key)
                    .map_err(invalid)?
                    .to_script_buf(),
            }),
        };
        Ok(ClaimInput {
            index,
            claim: *claim,
            form,
            funding,
            remainder,
        })
    }

    fn worth_its_size(self, rate: FeeRate) -> Result<Self, LeftOutReason> {
        let worth = self.worth();
        // Satoshi per 1,000 vB are satoshi per 4,000 weight units.
        let cost = u128::from(rate.value()) * u128::from(self.weight());
        if u128::from(worth.value()) * 4_000 < cost {
            let cost = Sat::new(u64::try_from(cost.div_ceil(4_000)).unwrap_or(u64::MAX));
            return Err(LeftOutReason::Worthless { worth, cost });
        }
        Ok(self)
    }

    /// What it adds to the payee's output before fees.
    fn worth(&self) -> Sat {
        match self.form {
            Form::Single => self.claim.paid,
            Form::None => self.claim.terms.capacity,
        }
    }

    fn weight(&self) -> u64 {
        match self.form {
            Form::Single => SINGLE_CLAIM_WU,
            Form::None => NONE_CLAIM_WU,
        }
    }

    /// Signatures stand in reverse: the payer's is checked first, so it is on top.
    fn witness(&self, payee: &[u8; 64]) -> Witness {
        let mut payer = [self.form.hash_type(); 65];
        for (slot, byte) in payer.iter_mut().zip(&self.claim.signature) {
            *slot = *byte;
        }
        Witness::from_slice(&[
            &payee[..],
            &payer,
            self.funding.both.as_bytes(),
            &self.funding.both_control,
        ])
    }
}
