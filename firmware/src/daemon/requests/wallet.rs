//! The on-chain wallet.

use super::{Desk, refusal};
use crate::chain::OrderError;
use crate::control::{self, Failed, Hex, Response};
use crate::wallet::{Balance, WalletError};
use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::hashes::Hash;
use std::time::Duration;
use turnpike_protocol::base::{FeeRate, Sat, Txid};
use turnpike_protocol::money::channel::tx::costs::OPENING_VB;

/// How long the chain task may take to answer. It waits for a slow back end, and orders wait behind it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

impl Desk {
    pub(super) async fn wallet_address(&self) -> Result<Response, Failed> {
        let address = self.chain_task(self.chain.address()).await?;
        Ok(Response::Address {
            address: address.to_string(),
        })
    }

    pub(super) async fn wallet_balance(&self) -> Result<Response, Failed> {
        let Balance {
            confirmed,
            unconfirmed,
            reserved,
        } = self.chain_task(self.chain.balance()).await?;
        let balance = control::Balance {
            confirmed_sat: confirmed,
            unconfirmed_sat: unconfirmed,
            reserved_sat: reserved,
        };
        Ok(Response::Balance(balance))
    }

    pub(super) async fn wallet_send(
        &self,
        address: &str,
        amount: Sat,
        rate: Option<FeeRate>,
    ) -> Result<Response, Failed> {
        let network = self.config.chain.network;
        let address: Address<NetworkUnchecked> = address.parse().map_err(|error| {
            Failed::usage(
                format!("{address:?} is no address ({error})"),
                "copy it again; nothing was sent",
            )
        })?;
        let address = address.require_network(network).map_err(|_| {
            Failed::usage(
                format!("the address belongs to another chain; this daemon uses {network}"),
                "ask for an address of this chain; nothing was sent",
            )
        })?;
        let rate = match rate {
            Some(rate) => rate,
            None => self.core.look(|n| n.fee_rate()).await?,
        };
        // No deadline: whether it was sent must not be left open. The chain task's own patience bounds it.
        let txid = self
            .chain
            .pay(address, amount, rate)
            .await
            .map_err(refusal::order)?;
        Ok(Response::Sent {
            txid: Hex(Txid::from_bytes(txid.to_byte_array())),
            amount_sat: amount,
        })
    }

    /// Coins that can be spent now; `None` without a wallet.
    pub(super) async fn spendable(&self) -> Result<Option<Sat>, Failed> {
        Ok(self.coins().await?.map(|balance| balance.confirmed))
    }

    /// The wallet's coins; `None` without a wallet.
    pub(super) async fn coins(&self) -> Result<Option<Balance>, Failed> {
        let balance = async {
            match self.chain.balance().await {
                Ok(balance) => Ok(Some(balance)),
                Err(OrderError::NoWallet) => Ok(None),
                Err(error) => Err(refusal::order(error)),
            }
        };
        refusal::within(ANSWER_WITHIN, balance, late).await
    }

    /// What funding a channel costs: by the coins of the wallet, or from one coin where they do not suffice (yet).
    /// `None` if it is beyond all money.
    pub(super) async fn funding_fee(&self, capacity: Sat, rate: FeeRate) -> Result<Option<Sat>, Failed> {
        let fee = async {
            match self.chain.funding_fee(capacity, rate).await {
                Ok(fee) => Ok(Some(fee)),
                // With what is there already, many small coins may cost more than one.
                Err(OrderError::Wallet(WalletError::Insufficient { needed, .. })) => Ok(rate
                    .fee(OPENING_VB)
                    .map(|fee| fee.max(needed.saturating_sub(capacity)))),
                Err(OrderError::NoWallet | OrderError::Wallet(_)) => Ok(rate.fee(OPENING_VB)),
                Err(error) => Err(refusal::order(error)),
            }
        };
        refusal::within(ANSWER_WITHIN, fee, late).await
    }

    async fn chain_task<T>(&self, asked: impl Future<Output = Result<T, OrderError>>) -> Result<T, Failed> {
        refusal::within(ANSWER_WITHIN, async { asked.await.map_err(refusal::order) }, late).await
    }
}

fn late() -> Failed {
    let error = format!(
        "the chain back end keeps the wallet waiting for over {} s",
        ANSWER_WITHIN.as_secs()
    );
    Failed::refused(error, "look at the back end, and ask again")
}
