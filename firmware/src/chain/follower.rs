//! Follows the best chain block by block, and the mempool, and reports what concerns watched outputs.

use super::backend::{Backend, BackendError, Fault, MAX_BATCH, Tip};
use super::position::Position;
use super::report::{Draft, State};
use crate::wallet::Wallet;
use bitcoin::{Block, BlockHash, Transaction, Txid};
use std::collections::HashSet;
use std::time::Duration;
use turnpike_protocol::base::{BlockHeight, FeeRate, Slot};
use turnpike_protocol::money::chain::ChainEvent;
use turnpike_protocol::money::channel::tx::carries_recovery;

/// Blocks taken in one look, so that orders are heard and progress is persisted in between.
const CHUNK: u32 = 32;
/// Mempool transactions fetched in one look: two seconds of asking, and a full mempool takes twenty looks.
const MAX_FRESH: usize = 100 * MAX_BATCH;
/// With at most this many transactions in the mempool all of them are looked at again for a new watch. With more that
/// would cost minutes, and a funding is sent only after both sides watch for it.
const SMALL_MEMPOOL: usize = 2_000;
/// Confirmation target of the fee estimate, blocks ([`ChainEvent::FeeRate`]).
const FEE_TARGET: u16 = 6;

/// How to follow.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// Hash of block 0. A back end on another chain is never believed.
    pub genesis: BlockHash,
    /// Time between two looks: 30 s on a real chain, 250 ms on a regtest or play chain.
    pub poll: Duration,
    /// Longest time between two attempts while the back end is down. The first comes after `poll`, each next one
    /// after twice the time.
    pub longest_wait: Duration,
    /// Fee rate to report while the back end has no estimate.
    pub fallback_rate: FeeRate,
    /// The first block to take where no state is stored; `None` starts above the present tip (a new node). A node
    /// restored from its seed gives the height at which it was born, or 0.
    pub first_block: Option<u32>,
}

impl FollowerConfig {
    /// The defaults for a chain: `quick` for regtest and play chains.
    pub fn new(genesis: BlockHash, quick: bool) -> Self {
        let (poll, longest_wait) = match quick {
            true => (Duration::from_millis(250), Duration::from_secs(4)),
            false => (Duration::from_secs(30), Duration::from_secs(240)),
        };
        FollowerConfig {
            genesis,
            poll,
            longest_wait,
            fallback_rate: FeeRate::new(2_000),
            first_block: None,
        }
    }
}

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// There is more to see at once.
    Unfinished,
    /// Everything up to the tip and the whole mempool was seen.
    Done,
}

pub(super) struct Follower<B> {
    pub(super) backend: B,
    pub(super) config: FollowerConfig,
    pub(super) state: State,
    pub(super) wallet: Option<Wallet>,
    pub(super) draft: Draft,
    /// Mempool transactions that were looked at.
    seen: HashSet<Txid>,
    /// The tip last reported; `None` before the first look and while dark.
    reported: Option<BlockHash>,
    rate: Option<FeeRate>,
}

impl<B: Backend> Follower<B> {
    pub(super) fn new(backend: B, config: FollowerConfig, state: State, wallet: Option<Wallet>) -> Self {
        let (draft, seen) = (Draft::default(), HashSet::new());
        Follower {
            backend,
            config,
            state,
            wallet,
            draft,
            seen,
            reported: None,
            rate: None,
        }
    }

    /// One look at the chain and the mempool. After an error what was seen before it stays in the draft.
    pub(super) async fn look(&mut self) -> Result<Look, BackendError> {
        if self.reported.is_none() {
            self.check_chain().await?;
        }
        let tip = self.backend.tip().await?;
        let mut position = match self.state.position.take() {
            Some(position) => position,
            None => self.first_position(tip).await?,
        };
        let caught_up = self.catch_up(&mut position, tip).await;
        let height = position.height();
        self.state.position = Some(position);
        if caught_up? == Look::Unfinished || self.rescan(height).await? == Look::Unfinished {
            return Ok(Look::Unfinished);
        }

        if self.reported.is_none() {
            // The first contact, or the first after darkness: nothing that was reported before may count as known.
            let again = self.state.watches.repeat(None);
            self.draft.events.extend(again);
            self.rate = None;
        }
        let news = self.reported != Some(tip.hash);
        if news {
            self.draft.events.push(ChainEvent::Tip {
                height: BlockHeight::new(height),
            });
            self.reported = Some(tip.hash);
        }
        let looked = self.look_at_mempool(tip).await?;
        if news {
            self.report_fee().await?;
        }
        Ok(looked)
    }

    /// The back end is gone: heights are a minimum until the next tip.
    pub(super) fn lose_contact(&mut self) {
        self.reported = None;
        self.seen.clear();
        self.draft.events.push(ChainEvent::Dark);
    }

    /// Starts watching, or repeats what a known watch has seen.
    pub(super) fn watch(&mut self, slot: Slot, key: [u8; 32], from: u32) {
        self.draft.changed = true;
        if !self.state.watches.add(slot, key, from) {
            let again = self.state.watches.repeat(Some(slot));
            self.draft.events.extend(again);
            return;
        }
        if self.state.position.as_ref().is_some_and(|p| from <= p.height()) {
            self.state.rescan = Some(self.state.rescan.map_or(from, |r| r.min(from)));
        }
        if self.seen.len() <= SMALL_MEMPOOL {
            self.seen.clear();
        }
    }

    pub(super) fn unwatch(&mut self, slot: Slot) {
        self.state.watches.remove(slot);
        self.draft.changed = true;
        if let Some(wallet) = &mut self.wallet {
            wallet.release(slot);
        }
    }

    async fn check_chain(&self) -> Result<(), BackendError> {
        let genesis = self.backend.block_hash(0).await?;
        if genesis == Some(self.config.genesis) {
            return Ok(());
        }
        Err(BackendError {
            url: "the chain back end".into(),
            method: "getblockhash",
            fault: Fault::WrongChain {
                expected: self.config.genesis,
                found: genesis,
            },
        })
    }

    /// Where to begin without a stored state.
    async fn first_position(&mut self, tip: Tip) -> Result<Position, BackendError> {
        let height = match self.config.first_block {
            None => tip.height,
            Some(first) => first.saturating_sub(1).min(tip.height),
        };
        let hash = match self.backend.block_hash(height).await? {
            Some(hash) => hash,
            None => return Ok(Position::new(0, self.config.genesis)),
        };
        if let Some(wallet) = &mut self.wallet {
            if let Err(e) = wallet.start_at(height, hash) {
                tracing::error!("wallet: {e}");
            }
        }
        self.draft.changed = true;
        Ok(Position::new(height, hash))
    }

    /// Leaves blocks that are no longer in the best chain and takes the next ones.
    async fn catch_up(&mut self, position: &mut Position, tip: Tip) -> Result<Look, BackendError> {
        if position.hash() == Some(tip.hash) {
            return Ok(Look::Done);
        }
        self.rewind(position).await?;
        for _ in 0..CHUNK {
            if position.hash() == Some(tip.hash) {
                return Ok(Look::Done);
            }
            let height = position.height().saturating_add(1);
            let Some(hash) = self.backend.block_hash(height).await? else {
                break;
            };
            let block = self.backend.block(hash).await?;
            // The chain changed between two questions: the next look sorts it out.
            if Some(block.header.prev_blockhash) != position.hash() {
                break;
            }
            self.take_block(&block, height, position);
        }
        match position.hash() == Some(tip.hash) {
            true => Ok(Look::Done),
            false => Ok(Look::Unfinished),
        }
    }

    async fn rewind(&mut self, position: &mut Position) -> Result<(), BackendError> {
        let mut fork = position.height();
        loop {
            let ours = position.hash_at(fork);
            let theirs = self.backend.block_hash(fork).await?;
            match ours {
                Some(_) if ours == theirs => break,
                Some(_) if fork > 0 => fork -= 1,
                // Deeper than remembered: believe the back end, whose first block is the right one.
                _ => match theirs {
                    Some(hash) => {
                        tracing::error!(
                            fork,
                            "a reorganisation deeper than {} blocks",
                            position.height() - fork
                        );
                        *position = Position::new(fork, hash);
                        self.void_above(fork);
                        return Ok(());
                    }
                    None if fork > 0 => fork -= 1,
                    None => return Ok(()),
                },
            }
        }
        if fork < position.height() {
            tracing::warn!(
                fork,
                blocks = position.height() - fork,
                "the chain was reorganised"
            );
            position.rewind(fork);
            self.void_above(fork);
        }
        Ok(())
    }

    fn void_above(&mut self, height: u32) {
        self.state.watches.rewind(height);
        self.seen.clear();
        self.draft.events.push(ChainEvent::Reorg {
            height: BlockHeight::new(height),
        });
        self.draft.changed = true;
    }

    fn take_block(&mut self, block: &Block, height: u32, position: &mut Position) {
        self.look_for_recovery_data(block, height);
        self.scan_block(block, height);
        if let Some(Err(e)) = self.wallet.as_mut().map(|w| w.apply_block(block, height)) {
            // Its journal is older than the follower's state, or was lost.
            tracing::warn!("{e}; it goes on from here, payments in between stay unseen");
            let before = (height.saturating_sub(1), block.header.prev_blockhash);
            let again = |w: &mut Wallet| {
                w.start_at(before.0, before.1)
                    .and_then(|()| w.apply_block(block, height))
            };
            if let Some(Err(e)) = self.wallet.as_mut().map(again) {
                tracing::error!("wallet: {e}");
            }
        }
        position.push(block.block_hash());
        self.draft.changed = true;
    }

    /// What may be recovery data goes to the node, which alone can read it: a store that was made from seed words, or
    /// from a backup, finds its channels by it.
    fn look_for_recovery_data(&mut self, block: &Block, height: u32) {
        let carriers = block.txdata.iter().filter(|tx| carries_recovery(tx));
        self.draft.events.extend(carriers.map(|tx| ChainEvent::Recovery {
            tx: bitcoin::consensus::serialize(tx),
            height: BlockHeight::new(height),
        }));
    }

    fn scan_block(&mut self, block: &Block, height: u32) {
        if self.state.watches.is_empty() {
            return;
        }
        for tx in &block.txdata {
            let seen = self.state.watches.see(tx, Some(height));
            self.draft.events.extend(seen);
        }
    }

    /// Looks once more at blocks that were taken before a watch was added.
    async fn rescan(&mut self, tip: u32) -> Result<Look, BackendError> {
        let Some(first) = self.state.rescan else {
            return Ok(Look::Done);
        };
        let last = first.saturating_add(CHUNK - 1).min(tip);
        for height in first..=last {
            let Some(hash) = self.backend.block_hash(height).await? else {
                break;
            };
            match self.backend.block(hash).await {
                Ok(block) => self.scan_block(&block, height),
                // Nothing can bring it back; what follows is worth more than waiting for ever.
                Err(
                    e @ BackendError {
                        fault: Fault::Pruned(_),
                        ..
                    },
                ) => {
                    tracing::error!(height, "payments to a channel in this block stay unseen: {e}");
                }
                Err(e) => return Err(e),
            }
            self.state.rescan = Some(height.saturating_add(1));
        }
        self.draft.changed = true;
        if last < tip {
            return Ok(Look::Unfinished);
        }
        self.state.rescan = None;
        Ok(Look::Done)
    }

    async fn look_at_mempool(&mut self, tip: Tip) -> Result<Look, BackendError> {
        if self.state.watches.is_empty() && self.wallet.is_none() {
            return Ok(Look::Done);
        }
        let listed: HashSet<Txid> = self.backend.mempool().await?.into_iter().collect();
        self.seen.retain(|txid| listed.contains(txid));
        let fresh: Vec<Txid> = listed.difference(&self.seen).take(MAX_FRESH).copied().collect();
        for tx in self.backend.mempool_transactions(&fresh).await? {
            self.see_unconfirmed(&tx);
        }
        self.seen.extend(fresh);
        self.look_for_spends().await?;
        self.look_for_vanished(&listed, tip).await?;
        match self.seen.len() < listed.len() {
            true => Ok(Look::Unfinished),
            false => Ok(Look::Done),
        }
    }

    /// Asks for spends directly: a child may have been looked at before its parent.
    async fn look_for_spends(&mut self) -> Result<(), BackendError> {
        let outputs = self.state.watches.unspent();
        let spenders = self.backend.mempool_spenders(&outputs).await?;
        let mut news: HashSet<Txid> = HashSet::new();
        for (output, spender) in outputs.into_iter().zip(spenders) {
            match spender {
                Some(txid) if !self.state.watches.knows_spend(output, txid) => {
                    news.insert(txid);
                }
                Some(_) => {}
                None => self.draft.changed |= self.state.watches.unspend(output),
            }
        }
        let news: Vec<Txid> = news.into_iter().collect();
        for tx in self.backend.mempool_transactions(&news).await? {
            self.see_unconfirmed(&tx);
        }
        Ok(())
    }

    pub(super) fn see_unconfirmed(&mut self, tx: &Transaction) {
        let seen = self.state.watches.see(tx, None);
        self.draft.changed |= !seen.is_empty();
        self.draft.events.extend(seen);
        if let Some(wallet) = &mut self.wallet {
            wallet.apply_unconfirmed(tx);
        }
    }

    /// What left the mempool either entered a block or is gone; only while the chain stands still is that certain.
    async fn look_for_vanished(&mut self, listed: &HashSet<Txid>, tip: Tip) -> Result<(), BackendError> {
        let of_wallet = self.wallet.as_ref().map(Wallet::unconfirmed).unwrap_or_default();
        let of_wallet: Vec<Txid> = of_wallet
            .into_iter()
            .filter(|txid| !listed.contains(txid))
            .collect();
        if of_wallet.is_empty() && !self.state.watches.misses(listed) {
            return Ok(());
        }
        if self.backend.tip().await?.hash != tip.hash {
            return Ok(());
        }
        let gone = self.state.watches.drop_vanished(listed);
        self.draft.changed |= !gone.is_empty();
        self.draft.events.extend(gone);
        if let Some(wallet) = self.wallet.as_mut().filter(|_| !of_wallet.is_empty()) {
            wallet.drop_unconfirmed(&of_wallet);
        }
        Ok(())
    }

    async fn report_fee(&mut self) -> Result<(), BackendError> {
        let estimate = self.backend.fee(FEE_TARGET).await?;
        let rate = estimate
            .rate
            .unwrap_or(self.config.fallback_rate)
            .max(estimate.floor);
        if self.rate != Some(rate) {
            self.rate = Some(rate);
            self.draft.events.push(ChainEvent::FeeRate { rate });
        }
        Ok(())
    }
}
