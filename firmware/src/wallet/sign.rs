//! Signing the wallet's own transactions.

use super::{Wallet, WalletError};
use bdk_wallet::SignOptions;
use bitcoin::{Psbt, Transaction};

impl Wallet {
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
