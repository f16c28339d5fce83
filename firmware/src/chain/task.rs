//! The chain task: one loop that owns the follower and the wallet, and the handle that others hold to it.

use super::backend::{Backend, BackendError, Verdict};
use super::follower::{Follower, FollowerConfig, Look};
use super::report::{Report, State, StateError};
use crate::wallet::{Balance, Wallet, WalletError};
use bitcoin::hashes::Hash;
use bitcoin::{Address, Transaction, Txid};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use turnpike_protocol::base::{FeeRate, Sat, Slot};
use turnpike_protocol::money::chain::{ChainAction, ChainEvent};

/// Orders waiting at most; a sender waits beyond.
const MAX_ORDERS: usize = 64;
/// Reports waiting at most; the task waits beyond, so that a slow store slows the scan and loses nothing.
const MAX_REPORTS: usize = 8;
/// Events waiting in the task itself at most, before it stops taking orders too.
const MAX_EVENTS: usize = 4_096;
/// Transactions kept for sending while the back end is down; the node asks again for each at every block anyway.
const MAX_UNSENT: usize = 64;

/// Follows the chain, keeps the wallet, carries out [`ChainAction`]s.
///
/// Call order: [`ChainTask::new`], then [`ChainTask::run`] in a task of its own until every handle is dropped.
pub struct ChainTask<B> {
    follower: Follower<B>,
    orders: mpsc::Receiver<Order>,
    reports: mpsc::Sender<Report>,
    unsent: VecDeque<(Slot, Transaction)>,
    /// Failed looks in a row.
    failures: u32,
}

/// Asks the chain task for things. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainHandle {
    orders: mpsc::Sender<Order>,
}

/// Why an order to the wallet was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The wallet refused.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// No node took the transaction; its coins are free again.
    #[error("the transaction was refused ({reason}); nothing was paid")]
    Refused {
        /// The back end's own words.
        reason: String,
    },
    /// The back end could not be asked; the coins are free again.
    #[error("nothing was paid: {0}")]
    Backend(#[from] BackendError),
    /// This node was started without a wallet.
    #[error("this node has no wallet; start it with a seed")]
    NoWallet,
    /// The chain task ended.
    #[error("the chain task has ended; restart the daemon and read its log")]
    Ended,
}

#[derive(Debug)]
enum Order {
    Act(ChainAction),
    Address(Reply<Address>),
    ChangeAddress(Reply<Address>),
    Balance(Reply<Balance>),
    FundingFee {
        value: Sat,
        rate: FeeRate,
        reply: Reply<Sat>,
    },
    Pay {
        address: Address,
        value: Sat,
        rate: FeeRate,
        reply: Reply<Txid>,
    },
}

// The one exception to "no type aliases": it stands for the plumbing of an answer, not for a thing.
type Reply<T> = oneshot::Sender<Result<T, OrderError>>;

impl ChainHandle {
    /// Hands over an action; its answers come as reports. Waits while the task is busy.
    ///
    /// # Errors
    /// [`OrderError::Ended`].
    pub async fn act(&self, action: ChainAction) -> Result<(), OrderError> {
        self.orders
            .send(Order::Act(action))
            .await
            .map_err(|_| OrderError::Ended)
    }

    /// A receiving address that nobody has paid to yet.
    ///
    /// # Errors
    /// [`OrderError::NoWallet`], [`OrderError::Ended`].
    pub async fn address(&self) -> Result<Address, OrderError> {
        self.ask(Order::Address).await
    }

    /// A change address, for the payee's output of a settlement.
    ///
    /// # Errors
    /// [`OrderError::NoWallet`], [`OrderError::Ended`].
    pub async fn change_address(&self) -> Result<Address, OrderError> {
        self.ask(Order::ChangeAddress).await
    }

    /// What the wallet holds.
    ///
    /// # Errors
    /// [`OrderError::NoWallet`], [`OrderError::Ended`].
    pub async fn balance(&self) -> Result<Balance, OrderError> {
        self.ask(Order::Balance).await
    }

    /// What funding a channel of this capacity would cost in fees now.
    ///
    /// # Errors
    /// [`OrderError::Wallet`] (too few coins), [`OrderError::NoWallet`], [`OrderError::Ended`].
    pub async fn funding_fee(&self, value: Sat, rate: FeeRate) -> Result<Sat, OrderError> {
        self.ask(|reply| Order::FundingFee { value, rate, reply }).await
    }

    /// Pays to an address from confirmed coins and sends the transaction.
    ///
    /// # Errors
    /// Any of [`OrderError`]; nothing was paid then.
    pub async fn pay(&self, address: Address, value: Sat, rate: FeeRate) -> Result<Txid, OrderError> {
        self.ask(|reply| Order::Pay {
            address,
            value,
            rate,
            reply,
        })
        .await
    }

    async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, OrderError> {
        let (reply, answer) = oneshot::channel();
        self.orders
            .send(order(reply))
            .await
            .map_err(|_| OrderError::Ended)?;
        answer.await.map_err(|_| OrderError::Ended)?
    }
}

impl<B: Backend> ChainTask<B> {
    /// Prepares the task. `state` is what the last [`Report`] with one carried, `None` at the first start.
    ///
    /// # Errors
    /// [`StateError`] if the stored state cannot be used.
    pub fn new(
        backend: B,
        config: FollowerConfig,
        state: Option<&[u8]>,
        wallet: Option<Wallet>,
    ) -> Result<(Self, ChainHandle, mpsc::Receiver<Report>), StateError> {
        let state = match state {
            Some(bytes) => State::read(bytes, config.genesis)?,
            None => State::new(config.genesis),
        };
        let (order_sender, orders) = mpsc::channel(MAX_ORDERS);
        let (reports, report_receiver) = mpsc::channel(MAX_REPORTS);
        let follower = Follower::new(backend, config, state, wallet);
        let task = ChainTask {
            follower,
            orders,
            reports,
            unsent: VecDeque::new(),
            failures: 0,
        };
        Ok((task, ChainHandle { orders: order_sender }, report_receiver))
    }

    /// Runs until all handles or the receiver of reports are dropped.
    ///
    /// While reports are not taken no further look is made, but orders are still carried out: who takes the reports
    /// may wait for an answer to an order.
    pub async fn run(mut self) {
        let reports = self.reports.clone();
        let mut next_look = Instant::now();
        loop {
            let news = self.has_news();
            tokio::select! {
                biased;
                place = reports.reserve(), if news => {
                    let (Ok(place), Some(report)) = (place, self.report()) else { return };
                    place.send(report);
                }
                order = self.orders.recv(), if self.follower.draft.events.len() < MAX_EVENTS => match order {
                    Some(order) => {
                        if self.carry_out(order).await {
                            next_look = Instant::now();
                        }
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next_look), if !news => {
                    next_look = Instant::now() + self.look().await;
                }
            }
        }
    }

    /// Looks once; returns how long to wait before the next time.
    async fn look(&mut self) -> Duration {
        let looked = match self.send_unsent().await {
            Ok(()) => self.follower.look().await,
            Err(e) => Err(e),
        };
        match looked {
            Ok(look) => {
                if self.failures > 0 {
                    tracing::info!("the chain back end answers again");
                }
                self.failures = 0;
                if look == Look::Unfinished {
                    Duration::ZERO
                } else {
                    self.follower.config.poll
                }
            }
            Err(e) => {
                if self.failures == 0 {
                    tracing::warn!("dark: {e}");
                    self.follower.lose_contact();
                }
                let config = &self.follower.config;
                let wait = config
                    .poll
                    .saturating_mul(1 << self.failures.min(16))
                    .min(config.longest_wait);
                self.failures = self.failures.saturating_add(1);
                wait
            }
        }
    }

    /// Carries out one order; returns whether a look soon would show its effect.
    async fn carry_out(&mut self, order: Order) -> bool {
        match order {
            Order::Act(action) => return self.act(action).await,
            Order::Address(reply) => self.with_wallet(reply, |w| Ok(w.address())),
            Order::ChangeAddress(reply) => self.with_wallet(reply, |w| Ok(w.change_address())),
            Order::Balance(reply) => self.with_wallet(reply, |w| Ok(w.balance())),
            Order::FundingFee { value, rate, reply } => {
                self.with_wallet(reply, |w| w.funding_fee(value, rate));
            }
            Order::Pay {
                address,
                value,
                rate,
                reply,
            } => {
                let paid = self.pay(&address, value, rate).await;
                let _ = reply.send(paid);
                return true;
            }
        }
        false
    }

    fn with_wallet<T>(&mut self, reply: Reply<T>, job: impl FnOnce(&mut Wallet) -> Result<T, WalletError>) {
        let answer = match &mut self.follower.wallet {
            Some(wallet) => job(wallet).map_err(OrderError::from),
            None => Err(OrderError::NoWallet),
        };
        // Who asked may have gone.
        let _ = reply.send(answer);
    }

    async fn pay(&mut self, address: &Address, value: Sat, rate: FeeRate) -> Result<Txid, OrderError> {
        let wallet = self.follower.wallet.as_mut().ok_or(OrderError::NoWallet)?;
        let tx = wallet.pay(address, value, rate)?;
        let txid = tx.compute_txid();
        let sent = match self.follower.backend.send(&tx).await {
            Ok(Verdict::Accepted | Verdict::Confirmed) => Ok(txid),
            Ok(Verdict::Refused { reason }) => Err(OrderError::Refused { reason }),
            Err(e) => Err(OrderError::Backend(e)),
        };
        if let (Err(_), Some(wallet)) = (&sent, &mut self.follower.wallet) {
            wallet.drop_unconfirmed(&[txid]);
        }
        sent
    }

    async fn act(&mut self, action: ChainAction) -> bool {
        match action {
            ChainAction::Watch {
                slot,
                output_key,
                from,
            } => {
                self.follower.watch(slot, output_key, from.value());
                true
            }
            ChainAction::Unwatch { slot } => {
                self.follower.unwatch(slot);
                self.unsent.retain(|(s, _)| *s != slot);
                false
            }
            ChainAction::Fund {
                slot,
                output_key,
                value,
                rate,
                recovery,
            } => {
                let event = self.fund(slot, output_key, value, rate, recovery);
                self.follower.draft.events.push(event);
                false
            }
            ChainAction::Broadcast { slot, tx } => {
                match bitcoin::consensus::deserialize::<Transaction>(&tx) {
                    Ok(tx) => {
                        if let Err(e) = self.broadcast(slot, &tx).await {
                            tracing::warn!(slot = slot.0, "kept for sending later: {e}");
                            self.keep_unsent(slot, tx);
                        }
                        true
                    }
                    Err(e) => {
                        tracing::error!(slot = slot.0, "not a transaction, not sent: {e}");
                        false
                    }
                }
            }
        }
    }

    fn fund(
        &mut self,
        slot: Slot,
        output_key: [u8; 32],
        value: Sat,
        rate: FeeRate,
        recovery: [u8; 40],
    ) -> ChainEvent {
        let Some(wallet) = &mut self.follower.wallet else {
            return ChainEvent::FundingFailed {
                slot,
                available: Sat::ZERO,
                needed: value,
            };
        };
        match wallet.fund(slot, output_key, value, rate, recovery) {
            Ok(funding) => ChainEvent::FundingBuilt {
                slot,
                outpoint: funding.outpoint.into(),
                fee: funding.fee,
                tx: bitcoin::consensus::serialize(&funding.tx),
            },
            Err(WalletError::Insufficient { available, needed }) => ChainEvent::FundingFailed {
                slot,
                available,
                needed,
            },
            Err(e) => {
                tracing::error!(slot = slot.0, "cannot fund: {e}");
                ChainEvent::FundingFailed {
                    slot,
                    available: wallet.balance().confirmed,
                    needed: value,
                }
            }
        }
    }

    async fn broadcast(&mut self, slot: Slot, tx: &Transaction) -> Result<(), BackendError> {
        let txid = tx.compute_txid();
        let accepted = match self.follower.backend.send(tx).await? {
            Verdict::Accepted => {
                self.follower.see_unconfirmed(tx);
                true
            }
            Verdict::Confirmed => true,
            // Confirmed and its outputs spent again looks like this too.
            Verdict::Refused { reason } => {
                let known = self.follower.state.watches.has_confirmed(txid);
                if !known {
                    tracing::warn!(slot = slot.0, %txid, "refused: {reason}");
                }
                known
            }
        };
        let txid = turnpike_protocol::base::Txid::from_bytes(txid.to_byte_array());
        self.follower
            .draft
            .events
            .push(ChainEvent::Broadcast { slot, txid, accepted });
        Ok(())
    }

    fn keep_unsent(&mut self, slot: Slot, tx: Transaction) {
        let txid = tx.compute_txid();
        self.unsent
            .retain(|(s, t)| *s != slot || t.compute_txid() != txid);
        if self.unsent.len() >= MAX_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back((slot, tx));
    }

    async fn send_unsent(&mut self) -> Result<(), BackendError> {
        while let Some((slot, tx)) = self.unsent.front().cloned() {
            self.broadcast(slot, &tx).await?;
            self.unsent.pop_front();
        }
        Ok(())
    }

    fn has_news(&self) -> bool {
        let follower = &self.follower;
        let of_wallet = follower.wallet.as_ref().is_some_and(Wallet::has_changes);
        follower.draft.changed || !follower.draft.events.is_empty() || of_wallet
    }

    /// What there is to report; `None` if it cannot be written down, after which nothing may go on.
    fn report(&mut self) -> Option<Report> {
        let follower = &mut self.follower;
        let stop = |e: &dyn std::fmt::Display| tracing::error!("the chain task stops: {e}");
        let wallet = follower.wallet.as_mut().map(Wallet::take_changes).transpose();
        let wallet = wallet.inspect_err(|e| stop(e)).ok()?.flatten();
        let state = follower
            .draft
            .changed
            .then(|| follower.state.to_bytes())
            .transpose();
        let state = state.inspect_err(|e| stop(e)).ok()?;
        follower.draft.changed = false;
        Some(Report {
            events: std::mem::take(&mut follower.draft.events),
            state,
            wallet,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Fault, FeeEstimate, Tip, UnspentOutput};
    use bitcoin::{Block, BlockHash, OutPoint};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A back end whose chain never grows, or that is never there; it counts how often it is asked for the tip.
    struct Still {
        asked: Arc<AtomicU32>,
        down: bool,
    }

    impl Still {
        fn genesis() -> BlockHash {
            crate::chain::ChainName::Bitcoin.genesis()
        }

        fn asked(&self) -> Result<(), BackendError> {
            if !self.down {
                return Ok(());
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            let fault = Fault::Slow(Duration::from_secs(1));
            Err(BackendError {
                url: "http://nowhere:1".into(),
                method: "getblockhash",
                fault,
            })
        }
    }

    impl Backend for Still {
        async fn tip(&self) -> Result<Tip, BackendError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok(Tip {
                height: 0,
                hash: Self::genesis(),
            })
        }
        async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, BackendError> {
            self.asked()?;
            Ok((height == 0).then(Self::genesis))
        }
        async fn block(&self, _: BlockHash) -> Result<Block, BackendError> {
            Ok(bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin))
        }
        async fn mempool(&self) -> Result<Vec<Txid>, BackendError> {
            Ok(Vec::new())
        }
        async fn mempool_transactions(&self, _: &[Txid]) -> Result<Vec<Transaction>, BackendError> {
            Ok(Vec::new())
        }
        async fn mempool_spenders(&self, outputs: &[OutPoint]) -> Result<Vec<Option<Txid>>, BackendError> {
            Ok(vec![None; outputs.len()])
        }
        async fn send(&self, _: &Transaction) -> Result<Verdict, BackendError> {
            Ok(Verdict::Accepted)
        }
        async fn fee(&self, _: u16) -> Result<FeeEstimate, BackendError> {
            Ok(FeeEstimate {
                rate: None,
                floor: FeeRate::MIN_RELAY,
            })
        }
        async fn output(&self, _: OutPoint) -> Result<Option<UnspentOutput>, BackendError> {
            Ok(None)
        }
    }

    /// How often the back end is asked within an hour of default timing on a real chain.
    async fn questions_in_an_hour(down: bool) -> u32 {
        let asked = Arc::new(AtomicU32::new(0));
        let backend = Still {
            asked: asked.clone(),
            down,
        };
        let config = FollowerConfig::new(Still::genesis(), false);
        let (task, handle, mut reports) = ChainTask::new(backend, config, None, None).unwrap();
        let task = tokio::spawn(task.run());
        handle
            .act(ChainAction::Watch {
                slot: Slot(1),
                output_key: [1; 32],
                from: Default::default(),
            })
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        while reports.try_recv().is_ok() {}
        task.abort();
        asked.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn orders_are_carried_out_while_nobody_takes_the_reports() {
        let backend = Still {
            asked: Arc::default(),
            down: false,
        };
        let config = FollowerConfig::new(Still::genesis(), false);
        let (task, handle, mut reports) = ChainTask::new(backend, config, None, None).unwrap();
        tokio::spawn(task.run());
        for slot in 0..100 {
            let watch = ChainAction::Watch {
                slot: Slot(slot),
                output_key: [1; 32],
                from: Default::default(),
            };
            handle.act(watch).await.unwrap();
            assert!(matches!(handle.balance().await, Err(OrderError::NoWallet)));
        }
        // What was held back is one report once there is room.
        let mut taken = 0;
        while tokio::time::timeout(Duration::from_secs(60), reports.recv())
            .await
            .is_ok()
        {
            taken += 1;
        }
        assert!((MAX_REPORTS..=MAX_REPORTS + 2).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_takes_a_look_every_thirty_seconds() {
        let looks = questions_in_an_hour(false).await;
        assert!((100..=130).contains(&looks), "{looks}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dark_hour_takes_ever_fewer_looks() {
        let looks = questions_in_an_hour(true).await;
        assert!((15..=25).contains(&looks), "{looks}");
    }
}
