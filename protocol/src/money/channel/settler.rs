//! Settling many simplexes in one transaction, and raising its fee until a block takes it.
//!
//! Call order: [`Settler::settle`] with the closing simplexes, [`Settler::height`] with every block,
//! [`Settler::spent`] when the chain shows one of them spent; drain [`Settler::poll_action`] after each.
//! It keeps nothing on disk: a simplex is persisted as closing before it comes here, and after a restart it comes
//! here again. Whatever it signs pays the payee, so signing twice costs nothing.

use super::tx::{Claim, Settlement, SettlementError};
use crate::base::limits::{MARGIN, MAX_BATCH};
use crate::base::{BlockHeight, FeeRate, Sat, Slot, Txid};
use crate::crypto::{Keys, Role, Verifier};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bitcoin::ScriptBuf;
use bitcoin::consensus::encode::serialize;
use thiserror::Error;

/// A simplex whose payee wants it settled; its record says `Closing` on disk.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its row.
    pub slot: Slot,
    /// Total and signature.
    pub claim: Claim,
    /// Index of the payee's keys of this channel.
    pub key_index: u32,
}

/// What the settler wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettlerAction {
    /// Broadcast this settlement of these simplexes; it may be a replacement of an earlier one.
    Broadcast {
        /// What it settles.
        slots: Vec<Slot>,
        /// Its id.
        txid: Txid,
        /// The transaction, raw.
        tx: Vec<u8>,
        /// Its fee.
        fee: Sat,
    },
    /// This simplex costs more to settle now than it brings. It is tried again at every block until its expiry; one
    /// whose settlement bids all that it brings stays broadcast.
    LeftOut {
        /// Its row.
        slot: Slot,
        /// What it would bring.
        paid: Sat,
        /// Less than one margin is left before expiry: this much is being given up.
        last_call: bool,
    },
}

/// Why nothing was settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The builder's reason.
    #[error("{0}")]
    Build(#[from] SettlementError),
    /// A key could not be derived: the store holds an impossible key index.
    #[error("the channel's key index is out of range: restore the store from a backup")]
    Key,
}

/// One settlement that waits for a block.
#[derive(Debug)]
pub struct Batch {
    /// Those in it that no block has settled yet.
    candidates: Vec<Candidate>,
    /// Key index of every claim given to the builder, in its order.
    key_indexes: Vec<u32>,
    settlement: Settlement,
    rate: FeeRate,
    /// Ids of every version signed, the newest last: an older one may be the one that confirms.
    history: Vec<Txid>,
    tx: Vec<u8>,
    expiry: BlockHeight,
}

/// Settlements under way.
pub struct Settler {
    payout: ScriptBuf,
    waiting: Vec<Candidate>,
    batches: Vec<Batch>,
    actions: VecDeque<SettlerAction>,
}

impl Settler {
    /// Settles to this script of the payee's own wallet.
    pub fn new(payout: ScriptBuf) -> Settler {
        Settler {
            payout,
            waiting: Vec::new(),
            batches: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Settlements that wait for a block.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Simplexes that no settlement holds since they cost more than they bring.
    pub fn waiting(&self) -> &[Candidate] {
        &self.waiting
    }

    /// Settles these together, at most [`MAX_BATCH`] in one transaction. One that is in a batch already has that
    /// batch broadcast again.
    pub fn settle(
        &mut self,
        keys: &Keys,
        verifier: &Verifier,
        candidates: &[Candidate],
        rate: FeeRate,
        now: BlockHeight,
    ) -> Result<(), SettleError> {
        for candidate in candidates {
            if self.batches.iter().any(|b| b.holds(candidate.slot)) {
                self.rebroadcast(candidate.slot);
            } else if !self.waiting.iter().any(|w| w.slot == candidate.slot) {
                self.waiting.push(*candidate);
            }
        }
        self.build(keys, verifier, rate, now)
    }

    /// A block came: raises fees that lag behind, from E − 2 margins on at every block, sends everything again, and
    /// tries what was left out.
    pub fn height(
        &mut self,
        keys: &Keys,
        verifier: &Verifier,
        rate: FeeRate,
        now: BlockHeight,
    ) -> Result<(), SettleError> {
        for at in 0..self.batches.len() {
            let Some(batch) = self.batches.get_mut(at) else {
                break;
            };
            let pressing = now >= batch.expiry.minus(2 * MARGIN);
            // A quarter more at each block doubles the rate every three blocks: 2 margins outbid any fee market.
            let risen = FeeRate::new(batch.rate.value().saturating_add(batch.rate.value() / 4 + 1));
            let wanted = if pressing { rate.max(risen) } else { rate };
            if wanted.value() > batch.rate.value().saturating_mul(5) / 4 || (pressing && wanted > batch.rate)
            {
                batch.raise(keys, wanted)?;
            }
            self.actions.push_back(batch.broadcast());
            // It bids all that it brings, and that is less than a block asks for.
            let outbid = batch.settlement.fee() < rate.fee(batch.settlement.vbytes()).unwrap_or(Sat::MAX);
            if outbid && now >= batch.expiry.minus(MARGIN) {
                let given_up = batch.candidates.iter().map(|c| SettlerAction::LeftOut {
                    slot: c.slot,
                    paid: c.claim.paid,
                    last_call: true,
                });
                self.actions.extend(given_up);
            }
        }
        self.build(keys, verifier, rate, now)
    }

    /// Raises the fee of the batch that holds `slot` to at least `rate`, by the owner's wish.
    pub fn raise(&mut self, keys: &Keys, slot: Slot, rate: FeeRate) -> Result<bool, SettleError> {
        let Some(batch) = self.batches.iter_mut().find(|b| b.holds(slot)) else {
            return Ok(false);
        };
        let raised = batch.raise(keys, rate)?;
        let action = batch.broadcast();
        self.actions.push_back(action);
        Ok(raised)
    }

    /// The chain shows `slot` spent by `txid`; `confirmed` if in a block. Gives whether the spend is a settlement
    /// of ours. Once confirmed, the others of a batch that lost this one to another transaction are settled anew.
    pub fn spent(&mut self, slot: Slot, txid: Txid, confirmed: bool) -> bool {
        let ours = self
            .batches
            .iter()
            .any(|b| b.holds(slot) && b.history.contains(&txid));
        if confirmed {
            self.waiting.retain(|w| w.slot != slot);
            for batch in self.batches.iter_mut().filter(|b| b.holds(slot)) {
                batch.candidates.retain(|c| c.slot != slot);
                if !batch.history.contains(&txid) {
                    self.waiting.append(&mut batch.candidates);
                }
            }
            self.batches.retain(|b| !b.candidates.is_empty());
        }
        ours
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<SettlerAction> {
        self.actions.pop_front()
    }

    fn rebroadcast(&mut self, slot: Slot) {
        if let Some(batch) = self.batches.iter().find(|b| b.holds(slot)) {
            let action = batch.broadcast();
            if !self.actions.contains(&action) {
                self.actions.push_back(action);
            }
        }
    }

    fn build(
        &mut self,
        keys: &Keys,
        verifier: &Verifier,
        rate: FeeRate,
        now: BlockHeight,
    ) -> Result<(), SettleError> {
        let mut rest = core::mem::take(&mut self.waiting);
        // The most urgent first, so that a full batch never leaves one behind that expires earlier.
        rest.sort_by_key(|c| c.claim.terms.expiry);
        let mut left_out = Vec::new();
        let mut failed = None;
        for chunk in rest.chunks(MAX_BATCH) {
            match Batch::build(keys, verifier, chunk, self.payout.clone(), rate) {
                Ok((batch, out)) => {
                    self.actions.push_back(batch.broadcast());
                    self.batches.push(batch);
                    left_out.extend(out);
                }
                Err(SettleError::Build(SettlementError::Nothing | SettlementError::Dust { .. })) => {
                    left_out.extend(chunk)
                }
                Err(error) => {
                    failed = Some(error);
                    left_out.extend(chunk);
                }
            }
        }
        for candidate in &left_out {
            self.actions.push_back(SettlerAction::LeftOut {
                slot: candidate.slot,
                paid: candidate.claim.paid,
                last_call: now >= candidate.claim.terms.expiry.minus(MARGIN),
            });
        }
        self.waiting = left_out;
        failed.map_or(Ok(()), Err)
    }
}

impl Batch {
    fn build(
        keys: &Keys,
        verifier: &Verifier,
        candidates: &[Candidate],
        payout: ScriptBuf,
        rate: FeeRate,
    ) -> Result<(Batch, Vec<Candidate>), SettleError> {
        let claims: Vec<Claim> = candidates.iter().map(|c| c.claim).collect();
        let settlement = Settlement::new(verifier.context(), &claims, Vec::new(), payout, rate)?;
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        for (index, candidate) in candidates.iter().enumerate() {
            let is_out = settlement.left_out().iter().any(|l| l.index == index);
            if is_out {
                out.push(*candidate)
            } else {
                kept.push(*candidate)
            }
        }
        let mut batch = Batch {
            expiry: kept
                .iter()
                .map(|c| c.claim.terms.expiry)
                .min()
                .unwrap_or(BlockHeight::MAX),
            candidates: kept,
            key_indexes: candidates.iter().map(|c| c.key_index).collect(),
            settlement,
            rate,
            history: Vec::new(),
            tx: Vec::new(),
        };
        batch.sign(keys)?;
        Ok((batch, out))
    }

    fn holds(&self, slot: Slot) -> bool {
        self.candidates.iter().any(|c| c.slot == slot)
    }

    fn raise(&mut self, keys: &Keys, rate: FeeRate) -> Result<bool, SettleError> {
        let raised = match self.settlement.raise(rate, Vec::new()) {
            Ok(raised) => raised,
            // All that this batch can pay: the most that leaves the payee an output, if that still replaces.
            Err(SettlementError::Dust { largest, .. }) if largest > self.settlement.fee() => {
                let least = FeeRate::MIN_RELAY
                    .fee(self.settlement.vbytes())
                    .and_then(|own| own.checked_add(self.settlement.fee()));
                if least.is_none_or(|least| largest < least) {
                    return Ok(false);
                }
                self.settlement.with_fee(largest)?
            }
            Err(SettlementError::Dust { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.settlement = raised;
        self.rate = rate;
        self.sign(keys)?;
        Ok(true)
    }

    fn sign(&mut self, keys: &Keys) -> Result<(), SettleError> {
        let mut pairs = Vec::with_capacity(self.key_indexes.len());
        for index in &self.key_indexes {
            pairs.push(
                keys.channel(Role::Payee, *index)
                    .map_err(|_| SettleError::Key)?
                    .funding,
            );
        }
        let first = pairs.first().copied().ok_or(SettleError::Key)?;
        let tx = self.settlement.sign(keys.signer().context(), |i| {
            pairs.get(i).copied().unwrap_or(first)
        })?;
        self.history.push(super::tx::txid(&tx));
        self.tx = serialize(&tx);
        Ok(())
    }

    fn broadcast(&self) -> SettlerAction {
        SettlerAction::Broadcast {
            slots: self.candidates.iter().map(|c| c.slot).collect(),
            txid: self.history.last().copied().unwrap_or(Txid::from_bytes([0; 32])),
            tx: self.tx.clone(),
            fee: self.settlement.fee(),
        }
    }
}
