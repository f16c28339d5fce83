//! The payer's side of a simplex.
//!
//! Call order: [`Payer::fund`] with a verified acceptance or [`Payer::load`] after a restart; then [`Payer::handle`]
//! for every input, and [`Payer::poll_action`] until it is empty after each. Signing is done by the caller's key at
//! the moment a payment is sent: the same total always gives the same signature, so a retry is the same payment.

use super::acceptance::Acceptance;
use super::policy::deep;
use super::tx::costs::REMAINDER_SPEND_VB;
use super::tx::{PaymentDigest, RemainderScript, Terms, TermsError};
use crate::base::limits::DUST_P2TR_SAT;
use crate::base::{BlockHeight, ChannelId, FeeRate, Msat, NodeId, Outpoint, Sat, Slot, Txid};
use crate::crypto::{Verifier, channel_id};
use crate::wire::Signature;
use alloc::vec::Vec;
use bitcoin::consensus::encode::deserialize;
use heapless::Deque;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a simplex stands for its payer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PayerState {
    /// Accepted by the payee, not funded yet: costs nothing to drop.
    Accepted,
    /// The funding is signed and may be on its way into a block.
    Open,
    /// The payee was asked to settle. Payments still count, none are made.
    CloseAsked,
    /// Spent on chain by this transaction.
    Spent {
        /// The spending transaction.
        txid: Txid,
        /// Its block's height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// Spent deep, and what was ours is ours; or never funded.
    Over,
    /// Settled deep; the remainder is on its way home.
    Sweeping {
        /// The settlement.
        txid: Txid,
        /// Its block's height.
        height: BlockHeight,
        /// Height of the block in which the remainder went home, if it is in one.
        swept: Option<BlockHeight>,
    },
}

/// What a payer keeps on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayerRecord {
    /// The payee's identity.
    pub peer: NodeId,
    /// What both sides build scripts from.
    pub terms: Terms,
    /// Index of our hardened keys of this channel.
    pub key_index: u32,
    /// Our height when it was accepted.
    pub accepted_at: BlockHeight,
    /// The payee's signed acceptance: last height at which the funding may confirm.
    pub accept_until: BlockHeight,
    /// The payee's signature over the acceptance.
    pub acceptance: Signature,
    /// The funding output, once built.
    pub outpoint: Option<Outpoint>,
    /// The funding transaction, raw; empty until built.
    pub funding_tx: Vec<u8>,
    /// What funding cost on chain.
    pub funding_fee: Sat,
    /// Height of the funding's block.
    pub funded_at: Option<BlockHeight>,
    /// Newest cumulative total that was signed.
    pub total: Msat,
    /// The highest total that the payee acknowledged.
    pub acknowledged: Msat,
    /// The remainder output of the settlement, once seen: index and value.
    pub remainder: Option<(u32, Sat)>,
    /// Where it stands.
    pub state: PayerState,
}

/// What happens to a payer's simplex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayerInput<'a> {
    /// The wallet built the funding.
    FundingBuilt {
        /// The channel's output.
        outpoint: Outpoint,
        /// The fee it pays.
        fee: Sat,
        /// The raw transaction.
        tx: &'a [u8],
    },
    /// Give up a channel that is not funded yet.
    Abandon,
    /// The chain shows an output paying the script.
    Funded {
        /// The output.
        outpoint: Outpoint,
        /// Its block's height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// The funding output was spent.
    Spent {
        /// By this transaction.
        txid: Txid,
        /// Raw.
        tx: &'a [u8],
        /// In a block of this height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// The remainder of a deep settlement was spent, which only we can do.
    Swept {
        /// In a block of this height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// Blocks above this height are void.
    Reorg {
        /// The last height that holds.
        height: BlockHeight,
    },
    /// The chain's height.
    Height {
        /// The height.
        height: BlockHeight,
    },
    /// Pay `step` more.
    Pay {
        /// How much more.
        step: Msat,
        /// Totals above this the payee refuses now.
        ceiling: Msat,
    },
    /// The payee has everything up to this total.
    Acknowledged {
        /// Its newest total.
        total: Msat,
    },
    /// The payee shows a payment of ours that we do not remember: we run on an old backup.
    Proof {
        /// Its total.
        total: Msat,
        /// Our own signature for it.
        signature: Signature,
    },
    /// Ask the payee to settle.
    Close,
}

/// What a payer's simplex wants done, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayerAction {
    /// Write the whole record.
    Persist,
    /// Ask the wallet for a funding transaction.
    Fund,
    /// Broadcast the funding transaction and hand it to the payee.
    Broadcast,
    /// Sign and send the payment of the newest total.
    SendPayment,
    /// Ask the payee to settle.
    SendClose,
    /// Build and broadcast the refund: the expiry has come.
    Refund,
    /// Build and broadcast the transaction that brings the remainder home.
    SweepRemainder,
    /// Watch the remainder's script from here on, instead of the funding's.
    WatchRemainder,
    /// Nothing more to watch.
    Forget,
}

/// Why an input was refused. No money moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PayerError {
    /// The channel cannot pay now.
    #[error("the channel is not open for payments: open a new one")]
    NotOpen,
    /// The payee would refuse this total now.
    #[error("the payee accepts totals up to {ceiling} now (unconfirmed or dark): wait for confirmations")]
    Ceiling {
        /// The highest total that it accepts.
        ceiling: Msat,
    },
    /// The capacity is used up.
    #[error("the channel's capacity is used up ({left} left): open a new one")]
    Capacity {
        /// What is left.
        left: Msat,
    },
    /// What the payee shows is not signed by us.
    #[error("the payee claims a payment that we did not sign: nothing was paid on its word")]
    ForgedProof,
    /// The funding transaction does not pay the agreed script and amount: our own wallet's fault.
    #[error("the wallet built a funding transaction that does not pay the channel: nothing was broadcast")]
    WrongFunding,
    /// The funding may be on its way: only the payee or the expiry can end this channel.
    #[error("the channel is funded: close it, or wait for its expiry")]
    Funded,
}

/// The payer's side of one simplex.
#[derive(Debug)]
pub struct Payer {
    slot: Slot,
    record: PayerRecord,
    digest: Option<PaymentDigest>,
    remainder: RemainderScript,
    height: BlockHeight,
    actions: Deque<PayerAction, 8>,
}

impl Payer {
    /// A new simplex on terms that the payee has signed; the caller has verified that signature.
    pub fn fund(
        slot: Slot,
        peer: NodeId,
        accepted: Acceptance,
        acceptance: Signature,
        key_index: u32,
        now: BlockHeight,
        verifier: &Verifier,
    ) -> Result<Payer, TermsError> {
        accepted.terms.check()?;
        let record = PayerRecord {
            peer,
            terms: accepted.terms,
            key_index,
            accepted_at: now,
            accept_until: accepted.accept_until,
            acceptance,
            outpoint: None,
            funding_tx: Vec::new(),
            funding_fee: Sat::ZERO,
            funded_at: None,
            total: Msat::ZERO,
            acknowledged: Msat::ZERO,
            remainder: None,
            state: PayerState::Accepted,
        };
        let mut payer = Payer::load(slot, record, verifier)?;
        payer.height = now;
        payer.act(PayerAction::Persist);
        payer.act(PayerAction::Fund);
        Ok(payer)
    }

    /// The simplex as it was persisted. The chain reports its sightings again.
    pub fn load(slot: Slot, record: PayerRecord, verifier: &Verifier) -> Result<Payer, TermsError> {
        let digest = record
            .outpoint
            .map(|o| PaymentDigest::new(verifier.context(), &record.terms, o))
            .transpose()?;
        let remainder = RemainderScript::new(verifier.context(), &record.terms.payer_key)?;
        Ok(Payer {
            slot,
            record,
            digest,
            remainder,
            height: BlockHeight::ZERO,
            actions: Deque::new(),
        })
    }

    /// Its row.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// What is on disk, or will be after the pending `Persist` action.
    pub fn record(&self) -> &PayerRecord {
        &self.record
    }

    /// Its name, once funded.
    pub fn id(&self) -> Option<ChannelId> {
        self.record.outpoint.as_ref().map(channel_id)
    }

    /// What signs and checks this channel's payments, once funded.
    pub fn digest(&self) -> Option<&PaymentDigest> {
        self.digest.as_ref()
    }

    /// Whether it can pay.
    pub fn is_open(&self) -> bool {
        self.record.state == PayerState::Open && self.record.outpoint.is_some()
    }

    /// Confirmations of the funding, 0 while unconfirmed.
    pub fn confirmations(&self) -> u32 {
        self.record
            .funded_at
            .map_or(0, |at| (self.height.value() + 1).saturating_sub(at.value()))
    }

    /// What the capacity still holds.
    pub fn left(&self) -> Msat {
        self.record
            .terms
            .capacity
            .to_msat()
            .unwrap_or(Msat::ZERO)
            .saturating_sub(self.record.total)
    }

    /// The most that publishing any state we ever signed could give us beyond what is ours now, money.md rule 9:
    /// the largest (paid) over all states, less what is paid now. Totals only rise, so it is zero.
    pub fn exposure(&self) -> Msat {
        self.record.acknowledged.saturating_sub(self.record.total)
    }

    /// Feeds one input. Afterwards drain [`Payer::poll_action`].
    pub fn handle(&mut self, verifier: &Verifier, input: PayerInput<'_>) -> Result<(), PayerError> {
        match input {
            PayerInput::FundingBuilt { outpoint, fee, tx } => self.built(verifier, outpoint, fee, tx),
            PayerInput::Abandon => self.abandon(),
            PayerInput::Funded { outpoint, height } => {
                self.funded(outpoint, height);
                Ok(())
            }
            PayerInput::Spent { txid, tx, height } => {
                self.spent(txid, tx, height);
                Ok(())
            }
            PayerInput::Swept { height } => {
                self.swept(height);
                Ok(())
            }
            PayerInput::Reorg { height } => {
                self.reorganised(height);
                Ok(())
            }
            PayerInput::Height { height } => {
                self.height(height);
                Ok(())
            }
            PayerInput::Pay { step, ceiling } => self.pay(step, ceiling),
            PayerInput::Acknowledged { total } => {
                // More than we signed is no acknowledgement: the proof path is for that.
                let total = total.min(self.record.total);
                if total > self.record.acknowledged {
                    self.record.acknowledged = total;
                }
                Ok(())
            }
            PayerInput::Proof { total, signature } => self.proof(verifier, total, signature),
            PayerInput::Close => self.close(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<PayerAction> {
        self.actions.pop_front()
    }

    fn built(
        &mut self,
        verifier: &Verifier,
        outpoint: Outpoint,
        fee: Sat,
        tx: &[u8],
    ) -> Result<(), PayerError> {
        if self.record.state != PayerState::Accepted {
            return Err(PayerError::NotOpen);
        }
        let funding = self
            .record
            .terms
            .funding_output(verifier.context())
            .map_err(|_| PayerError::WrongFunding)?;
        let parsed: bitcoin::Transaction = deserialize(tx).map_err(|_| PayerError::WrongFunding)?;
        let output = usize::try_from(outpoint.vout)
            .ok()
            .and_then(|i| parsed.output.get(i));
        let pays = output.is_some_and(|o| {
            o.value.to_sat() == self.record.terms.capacity.value()
                && o.script_pubkey == funding.to_script_buf()
        });
        if !pays || super::tx::txid(&parsed) != outpoint.txid {
            return Err(PayerError::WrongFunding);
        }
        let digest = PaymentDigest::new(verifier.context(), &self.record.terms, outpoint);
        self.digest = Some(digest.map_err(|_| PayerError::WrongFunding)?);
        self.record.outpoint = Some(outpoint);
        self.record.funding_fee = fee;
        self.record.funding_tx = tx.to_vec();
        self.record.state = PayerState::Open;
        self.act(PayerAction::Persist);
        self.act(PayerAction::Broadcast);
        Ok(())
    }

    fn abandon(&mut self) -> Result<(), PayerError> {
        if self.record.state != PayerState::Accepted {
            return Err(PayerError::Funded);
        }
        self.over();
        Ok(())
    }

    fn funded(&mut self, outpoint: Outpoint, height: Option<BlockHeight>) {
        if self.record.outpoint == Some(outpoint) && self.record.funded_at != height && height.is_some() {
            self.record.funded_at = height;
            self.act(PayerAction::Persist);
        }
    }

    fn spent(&mut self, txid: Txid, tx: &[u8], height: Option<BlockHeight>) {
        if matches!(self.record.state, PayerState::Over | PayerState::Sweeping { .. }) {
            return;
        }
        let state = PayerState::Spent { txid, height };
        // A settlement in the mempool can still be replaced by its payee; only a block decides. But it ends payments.
        if self.record.state != state {
            let found = deserialize::<bitcoin::Transaction>(tx)
                .ok()
                .and_then(|t| self.remainder.find(&t));
            self.record.remainder = found.map(|(outpoint, value)| (outpoint.vout, value));
            self.record.state = state;
            self.act(PayerAction::Persist);
        }
        if height.is_some() && self.record.remainder.is_some() {
            self.act(PayerAction::SweepRemainder);
        }
    }

    fn swept(&mut self, at: Option<BlockHeight>) {
        if let PayerState::Sweeping { swept, .. } = &mut self.record.state {
            if at.is_some() && *swept != at {
                *swept = at;
                self.act(PayerAction::Persist);
            }
        }
    }

    fn reorganised(&mut self, last: BlockHeight) {
        self.height = self.height.min(last);
        if self.record.funded_at.is_some_and(|at| at > last) {
            self.record.funded_at = None;
            self.act(PayerAction::Persist);
            self.act(PayerAction::Broadcast);
        }
        if let PayerState::Spent {
            txid,
            height: Some(at),
        } = self.record.state
        {
            if at > last {
                self.record.state = PayerState::Spent { txid, height: None };
                self.act(PayerAction::Persist);
            }
        }
        if let PayerState::Sweeping { swept, .. } = &mut self.record.state {
            if swept.is_some_and(|at| at > last) {
                *swept = None;
                self.act(PayerAction::Persist);
            }
        }
    }

    fn height(&mut self, height: BlockHeight) {
        self.height = height;
        match self.record.state {
            PayerState::Accepted if height > self.record.accept_until => self.over(),
            PayerState::Open | PayerState::CloseAsked | PayerState::Spent { height: None, .. } => {
                if self.record.funded_at.is_none() && self.record.outpoint.is_some() {
                    // Unconfirmed after a block: the mempools may have dropped it.
                    self.act(PayerAction::Broadcast);
                }
                if height >= self.record.terms.expiry {
                    self.act(PayerAction::Refund);
                }
            }
            PayerState::Spent {
                txid,
                height: Some(at),
            } => {
                if self.record.remainder.is_some() {
                    self.act(PayerAction::SweepRemainder);
                }
                match self.is_buried(at) {
                    // Fees may keep the remainder waiting for long, and mempools forget.
                    true if self.is_worth_sweeping() => {
                        self.record.state = PayerState::Sweeping {
                            txid,
                            height: at,
                            swept: None,
                        };
                        self.act(PayerAction::Persist);
                        self.act(PayerAction::WatchRemainder);
                    }
                    true => self.over(),
                    false => {}
                }
            }
            PayerState::Sweeping { swept: None, .. } => self.act(PayerAction::SweepRemainder),
            PayerState::Sweeping { swept: Some(at), .. } if self.is_buried(at) => self.over(),
            _ => {}
        }
    }

    fn is_buried(&self, at: BlockHeight) -> bool {
        self.height >= at.plus(deep(self.record.terms.capacity) - 1)
    }

    /// Whether the remainder brings anything at the lowest fee there is.
    fn is_worth_sweeping(&self) -> bool {
        let fee = FeeRate::MIN_RELAY.fee(REMAINDER_SPEND_VB).unwrap_or(Sat::ZERO);
        self.record
            .remainder
            .is_some_and(|(_, value)| value.value() >= fee.value().saturating_add(DUST_P2TR_SAT))
    }

    fn pay(&mut self, step: Msat, ceiling: Msat) -> Result<(), PayerError> {
        if !self.is_open() {
            return Err(PayerError::NotOpen);
        }
        let left = self.left();
        if step > left {
            return Err(PayerError::Capacity { left });
        }
        let total = self
            .record
            .total
            .checked_add(step)
            .ok_or(PayerError::Capacity { left })?;
        if total > ceiling {
            return Err(PayerError::Ceiling { ceiling });
        }
        self.record.total = total;
        self.act(PayerAction::Persist);
        self.act(PayerAction::SendPayment);
        Ok(())
    }

    fn proof(&mut self, verifier: &Verifier, total: Msat, signature: Signature) -> Result<(), PayerError> {
        // Signatures cover whole satoshi: within the one that we know we signed, our own total counts.
        if total.to_sat_ceil() <= self.record.total.to_sat_ceil() {
            return Ok(());
        }
        let digest = self.digest.as_ref().ok_or(PayerError::ForgedProof)?;
        digest
            .verify_payment(verifier.context(), total.to_sat_ceil(), &signature.0)
            .map_err(|_| PayerError::ForgedProof)?;
        // Our signature covers whole satoshi; of the totals that round to it the payee's word is taken, at most
        // 999 msat above what we know we signed.
        self.record.total = total;
        self.record.acknowledged = total;
        self.act(PayerAction::Persist);
        Ok(())
    }

    fn close(&mut self) -> Result<(), PayerError> {
        match self.record.state {
            PayerState::Accepted => self.abandon(),
            PayerState::Open => {
                self.record.state = PayerState::CloseAsked;
                self.act(PayerAction::Persist);
                self.act(PayerAction::SendClose);
                Ok(())
            }
            PayerState::CloseAsked => {
                self.act(PayerAction::SendClose);
                Ok(())
            }
            PayerState::Spent { .. } | PayerState::Sweeping { .. } | PayerState::Over => Ok(()),
        }
    }

    fn over(&mut self) {
        self.record.state = PayerState::Over;
        self.act(PayerAction::Persist);
        self.act(PayerAction::Forget);
    }

    fn act(&mut self, action: PayerAction) {
        if !self.actions.iter().any(|a| *a == action) {
            let full = self.actions.push_back(action).is_err();
            debug_assert!(!full, "drain the actions after each input");
        }
    }

    /// What the planner shows before opening (money.md rule 4): at worst this much is locked until this height.
    pub fn worst_lock(terms: &Terms) -> (Sat, BlockHeight) {
        (terms.capacity, terms.expiry)
    }

    /// Whether opening is worth it: funding and refund together must stay under a fifth of the capacity.
    pub fn worth_opening(capacity: Sat, fund_vbytes: u64, refund_vbytes: u64, rate: FeeRate) -> bool {
        rate.fee(fund_vbytes + refund_vbytes)
            .is_some_and(|fee| fee.value().saturating_mul(5) <= capacity.value())
    }
}
