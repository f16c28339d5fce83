//! Signing: the wallet's own transactions, and its own inputs in somebody else's.

use super::{Wallet, WalletError};
use bdk_wallet::SignOptions;
use bitcoin::{OutPoint, Psbt, Transaction, TxOut, Witness};
use turnpike_protocol::base::{Sat, Slot};

/// A coin of the wallet that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub prevout: TxOut,
}

impl Wallet {
    /// Sets confirmed coins worth at least `value` aside for a channel, the largest first, so that its settlement can
    /// pay more fee than it brings. They stay set aside until [`Wallet::release`].
    ///
    /// # Errors
    /// [`WalletError::Insufficient`], with nothing set aside.
    pub fn reserve(&mut self, slot: Slot, value: Sat) -> Result<Vec<Coin>, WalletError> {
        let mut sum = Sat::ZERO;
        let mut coins = Vec::new();
        for coin in self.spendable() {
            if sum >= value {
                break;
            }
            sum = sum.saturating_add(Sat::new(coin.txout.value.to_sat()));
            coins.push(Coin {
                outpoint: coin.outpoint,
                prevout: coin.txout,
            });
        }
        if sum < value {
            return Err(WalletError::Insufficient {
                available: sum,
                needed: value,
            });
        }
        self.set_aside(slot, coins.iter().map(|c| c.outpoint));
        Ok(coins)
    }

    /// Signs this wallet's inputs of a transaction that others built, with SIGHASH_DEFAULT. `prevouts` are the outputs
    /// that its inputs spend, in their order; other inputs keep their witnesses. The caller vouches for what the
    /// transaction pays.
    ///
    /// # Errors
    /// [`WalletError::Signing`] if `prevouts` do not fit or no input is ours.
    pub fn sign_inputs(&self, tx: &Transaction, prevouts: &[TxOut]) -> Result<Transaction, WalletError> {
        if prevouts.len() != tx.input.len() {
            return Err(WalletError::Signing(format!(
                "{} inputs, {} prevouts",
                tx.input.len(),
                prevouts.len()
            )));
        }
        let mut bare = tx.clone();
        bare.input.iter_mut().for_each(|i| i.witness = Witness::new());
        let mut psbt = Psbt::from_unsigned_tx(bare).map_err(|e| WalletError::Signing(e.to_string()))?;
        for (input, prevout) in psbt.inputs.iter_mut().zip(prevouts) {
            input.witness_utxo = Some(prevout.clone());
        }
        let options = SignOptions {
            trust_witness_utxo: true,
            try_finalize: false,
            ..SignOptions::default()
        };
        let [external, internal] = &self.signers;
        self.bdk
            .sign_with_signers(&mut psbt, &[external, internal], options)
            .map_err(|e| WalletError::Signing(e.to_string()))?;

        let mut signed = tx.clone();
        let mut count = 0;
        for (input, found) in signed.input.iter_mut().zip(&psbt.inputs) {
            if let Some(signature) = &found.tap_key_sig {
                input.witness = Witness::p2tr_key_spend(signature);
                count += 1;
            }
        }
        match count {
            0 => Err(WalletError::Signing("no input belongs to this wallet".into())),
            _ => Ok(signed),
        }
    }

    /// Signs every input; all of them must be ours.
    pub(super) fn sign_own(&self, mut psbt: Psbt) -> Result<Transaction, WalletError> {
        let signing = |e: &dyn std::fmt::Display| WalletError::Signing(e.to_string());
        let [external, internal] = &self.signers;
        let whole = self
            .bdk
            .sign_with_signers(&mut psbt, &[external, internal], SignOptions::default())
            .map_err(|e| signing(&e))?;
        match whole {
            true => psbt.extract_tx().map_err(|e| signing(&e)),
            false => Err(signing(&"an input is not ours")),
        }
    }
}
