//! Paying: a channel's funding with its recovery data, or a plain payment to an address.

use super::{Wallet, WalletError};
use bdk_wallet::TxOrdering;
use bdk_wallet::coin_selection::{InsufficientFunds, LargestFirstCoinSelection};
use bdk_wallet::error::CreateTxError;
use bitcoin::key::TweakedPublicKey;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, XOnlyPublicKey, absolute};
use turnpike_protocol::base::limits::{DUST_P2TR_SAT, MAX_FUNDING_TX};
use turnpike_protocol::base::{Outpoint, Sat, Slot};
use turnpike_protocol::money::channel::tx::{Position, RecoveryData, UNSPENDABLE_KEY};

/// A signed funding, not yet sent, its coins set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FundingTransaction {
    /// The channel's output in it.
    pub outpoint: OutPoint,
    /// The fee it pays.
    pub fee: Sat,
    /// The transaction.
    pub tx: Transaction,
}

impl Wallet {
    /// Builds and signs a transaction that pays `value` to the taproot output key of a channel, with `recovery` sealed
    /// under its first input in an OP_RETURN. Its coins, confirmed ones only, stay set aside for the slot until
    /// [`Wallet::release`]. A funding built earlier for the same slot loses its coins first.
    ///
    /// Output 0 is the channel, output 1 the OP_RETURN, output 2 the change if there is any. nLockTime is 0, so
    /// that a relay whose node is a block behind accepts it too.
    ///
    /// # Errors
    /// [`WalletError::Insufficient`], [`WalletError::Dust`], [`WalletError::TooLarge`] beyond what one message
    /// carries; nothing stays set aside then.
    pub fn fund(
        &mut self,
        slot: Slot,
        output_key: [u8; 32],
        value: Sat,
        rate: turnpike_protocol::base::FeeRate,
        recovery: [u8; 40],
    ) -> Result<FundingTransaction, WalletError> {
        let key = XOnlyPublicKey::from_slice(&output_key)
            .map_err(|_| WalletError::Build("the channel's output key is not on the curve".into()))?;
        let script = ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(key));
        let recovery = RecoveryData::from_bytes(&recovery).ok_or_else(|| {
            WalletError::Build("the recovery data has an expiry or key index out of range".into())
        })?;
        if value < Sat::new(DUST_P2TR_SAT) {
            return Err(WalletError::Dust);
        }
        self.release(slot);

        // First pass: the coins decide the nonce, so a placeholder of the same length chooses them.
        let placeholder = RecoveryData::script(&[0; 40], None);
        let mut psbt = self.choose_coins(&[(script, value), (placeholder, Sat::ZERO)], rate, Some(0))?;
        // Second pass: the real bytes, sealed under the first input.
        let first = psbt
            .unsigned_tx
            .input
            .first()
            .map(|i| Outpoint::from(i.previous_output));
        let first = first.ok_or_else(|| WalletError::Build("a transaction without inputs".into()))?;
        let sealed = recovery.seal(&self.recovery, first, Position::First);
        match psbt.unsigned_tx.output.get_mut(1) {
            Some(output) if output.script_pubkey.is_op_return() => {
                output.script_pubkey = RecoveryData::script(&sealed, None);
            }
            _ => return Err(WalletError::Build("the OP_RETURN is not where it was put".into())),
        }

        let fee = psbt.fee().map_err(|e| WalletError::Build(e.to_string()))?;
        let tx = self.sign_own(psbt)?;
        let bytes = tx.total_size();
        if bytes > MAX_FUNDING_TX {
            return Err(WalletError::TooLarge {
                bytes,
                limit: MAX_FUNDING_TX,
            });
        }
        self.set_aside(slot, tx.input.iter().map(|i| i.previous_output));
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        Ok(FundingTransaction {
            outpoint,
            fee: Sat::new(fee.to_sat()),
            tx,
        })
    }

    /// What [`Wallet::fund`] would pay in fees for a channel of this capacity now: the coins decide.
    ///
    /// # Errors
    /// [`WalletError::Insufficient`], [`WalletError::Dust`], [`WalletError::Build`].
    pub fn funding_fee(
        &mut self,
        value: Sat,
        rate: turnpike_protocol::base::FeeRate,
    ) -> Result<Sat, WalletError> {
        // Every channel's script has the same length, so any key will do.
        let any = XOnlyPublicKey::from_slice(&UNSPENDABLE_KEY)
            .map_err(|_| WalletError::Build("the unspendable key is not on the curve".into()))?;
        let script = ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(any));
        let recovery = RecoveryData::script(&[0; 40], None);
        let psbt = self.choose_coins(&[(script, value), (recovery, Sat::ZERO)], rate, Some(0))?;
        let fee = psbt.fee().map_err(|e| WalletError::Build(e.to_string()))?;
        Ok(Sat::new(fee.to_sat()))
    }

    /// Builds and signs a payment to an address from confirmed coins, and counts them as spent. Call
    /// [`Wallet::drop_unconfirmed`] if it turns out that no node takes it.
    ///
    /// # Errors
    /// [`WalletError::Insufficient`], [`WalletError::Dust`], [`WalletError::Build`].
    pub fn pay(
        &mut self,
        address: &Address,
        value: Sat,
        rate: turnpike_protocol::base::FeeRate,
    ) -> Result<Transaction, WalletError> {
        let psbt = self.choose_coins(&[(address.script_pubkey(), value)], rate, None)?;
        let tx = self.sign_own(psbt)?;
        self.apply_unconfirmed(&tx);
        Ok(tx)
    }

    /// Chooses confirmed and unreserved coins, the largest first, so that a funding stays small.
    fn choose_coins(
        &mut self,
        outputs: &[(ScriptBuf, Sat)],
        rate: turnpike_protocol::base::FeeRate,
        lock_height: Option<u32>,
    ) -> Result<Psbt, WalletError> {
        let rate = FeeRate::from_sat_per_kwu(rate.value().div_ceil(4));
        let untouchable = self.untouchable();
        let available = self
            .spendable()
            .iter()
            .map(|c| c.txout.value.to_sat())
            .fold(0, u64::saturating_add);
        let mut builder = self.bdk.build_tx().coin_selection(LargestFirstCoinSelection);
        for (script, value) in outputs {
            builder.add_recipient(script.clone(), Amount::from_sat(value.value()));
        }
        builder
            .unspendable(untouchable)
            .ordering(TxOrdering::Untouched)
            .fee_rate(rate);
        if let Some(height) = lock_height {
            let height =
                absolute::LockTime::from_height(height).map_err(|e| WalletError::Build(e.to_string()))?;
            builder.nlocktime(height);
        }
        builder.finish().map_err(|e| match e {
            CreateTxError::CoinSelection(InsufficientFunds { needed, .. }) => WalletError::Insufficient {
                available: Sat::new(available),
                needed: Sat::new(needed.to_sat()),
            },
            CreateTxError::OutputBelowDustLimit(_) => WalletError::Dust,
            other => WalletError::Build(other.to_string()),
        })
    }
}
