//! The payee's side of a simplex.
//!
//! Call order: [`Payee::accept`] for a new one or [`Payee::load`] after a restart; then [`Payee::handle`] for every
//! input, and [`Payee::poll_action`] until it is empty after each. There is no timer: it lives by block heights.

use super::payee_input::{PayeeAction, PayeeError, PayeeInput, TakenBack};
use super::payee_record::{PayeeRecord, PayeeState};
use super::policy::{PayeePolicy, deep};
use super::tx::{PaymentDigest, PaymentError, Terms, TermsError};
use crate::base::limits::{LOSS_BLOCKS, MARGIN};
use crate::base::{BlockHeight, ChannelId, Msat, NodeId, Outpoint, Slot};
use crate::crypto::{Verifier, channel_id};
use crate::wire::{ErrorCode, Signature};
use heapless::{Deque, Vec};

/// The payee's side of one simplex.
#[derive(Debug)]
pub struct Payee {
    pub(super) slot: Slot,
    pub(super) record: PayeeRecord,
    pub(super) digest: Option<PaymentDigest>,
    /// The lowest height that the chain can have now.
    pub(super) height: BlockHeight,
    /// The funding is in the mempool or in a block, as our own back end saw it.
    pub(super) seen: bool,
    /// Outputs in the mempool that would fund this simplex, the oldest first: a back end says each once, perhaps before the
    /// payer names it.
    pub(super) sighted: Vec<Outpoint, MAX_SIGHTED>,
    /// The total when the chain went out of sight.
    pub(super) dark_since: Option<Msat>,
    pub(super) actions: Deque<PayeeAction, 8>,
}

/// Unconfirmed fundings of one acceptance that are remembered: one, a replacement of it, and some more.
const MAX_SIGHTED: usize = 4;

pub(super) const REFUSE: fn(ErrorCode) -> PayeeError = PayeeError::Refused;

impl Payee {
    /// A new simplex, accepted just now. The caller has checked the terms against its policy, and sends the
    /// acceptance after the `Persist` action.
    pub fn accept(
        slot: Slot,
        peer: NodeId,
        terms: Terms,
        key_index: u32,
        now: BlockHeight,
        accept_until: BlockHeight,
    ) -> Result<Payee, TermsError> {
        terms.check()?;
        let record = PayeeRecord {
            peer,
            terms,
            key_index,
            accepted_at: now,
            accept_until,
            outpoint: None,
            funded_at: None,
            total: Msat::ZERO,
            signature: Signature([0; 64]),
            state: PayeeState::Open,
        };
        let mut payee = Payee {
            slot,
            record,
            digest: None,
            height: now,
            seen: false,
            sighted: Vec::new(),
            dark_since: None,
            actions: Deque::new(),
        };
        payee.act(PayeeAction::Persist);
        Ok(payee)
    }

    /// The simplex as it was persisted, its journalled payments applied. The chain reports its sightings again.
    pub fn load(slot: Slot, record: PayeeRecord, verifier: &Verifier) -> Result<Payee, TermsError> {
        let digest = record
            .outpoint
            .map(|o| PaymentDigest::new(verifier.context(), &record.terms, o))
            .transpose()?;
        let height = record.accepted_at;
        // Until the back end speaks, the chain is out of sight.
        let dark_since = Some(record.total);
        Ok(Payee {
            slot,
            record,
            digest,
            height,
            seen: false,
            sighted: Vec::new(),
            dark_since,
            actions: Deque::new(),
        })
    }

    /// Marks a simplex of a restored store: it takes one last signature and is settled (money.md rule 16).
    pub fn restored(mut record: PayeeRecord) -> PayeeRecord {
        if record.state == PayeeState::Open {
            record.state = PayeeState::Restored;
        }
        record
    }

    /// The same while running: a peer showed that this store is an old copy. Gives whether anything changed; the
    /// caller persists the record.
    pub fn mark_restored(&mut self) -> bool {
        let open = self.record.state == PayeeState::Open;
        if open {
            self.record.state = PayeeState::Restored;
        }
        open
    }

    /// Its row.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// What is on disk, or will be after the pending `Persist` action.
    pub fn record(&self) -> &PayeeRecord {
        &self.record
    }

    /// Its name, once an output is known.
    pub fn id(&self) -> Option<ChannelId> {
        self.record.outpoint.as_ref().map(channel_id)
    }

    /// Whether payments are taken at all.
    pub fn is_open(&self) -> bool {
        self.record.state == PayeeState::Open
    }

    /// Whether the funding is as deep as its capacity asks, in a block early enough for credit.
    pub fn is_deep(&self) -> bool {
        let early = |at: BlockHeight| at < self.record.terms.expiry.minus(4 * MARGIN);
        self.is_buried() && self.deep_at().is_some_and(early)
    }

    /// Whether the funding is as deep as its capacity asks: it can be settled, however late it came.
    pub fn is_buried(&self) -> bool {
        self.deep_at().is_some_and(|at| self.height >= at)
    }

    fn deep_at(&self) -> Option<BlockHeight> {
        let blocks = deep(self.record.terms.capacity) - 1;
        self.record.funded_at.map(|at| at.plus(blocks))
    }

    /// The height from which a funding that no block holds is not waited for any more.
    pub(super) fn given_up_at(&self) -> BlockHeight {
        self.record.accept_until.plus(deep(self.record.terms.capacity))
    }

    /// Whether our own back end has ever seen the funding, or money was credited on it.
    pub fn is_seen(&self) -> bool {
        self.seen || self.record.funded_at.is_some() || self.record.total > Msat::ZERO
    }

    /// Whether nothing was ever named or seen as its funding: its keys stand in no transaction.
    pub fn is_untouched(&self) -> bool {
        self.record.outpoint.is_none() && self.sighted.is_empty() && !self.is_seen()
    }

    /// Whether our own back end has seen this output fund this simplex: nobody else's output can.
    pub fn has_sighted(&self, outpoint: Outpoint) -> bool {
        let named = self.record.outpoint == Some(outpoint);
        (named && (self.seen || self.record.funded_at.is_some())) || self.sighted.contains(&outpoint)
    }

    /// Lets go of an output that was named and never seen, since another simplex proves that it is its own. The caller
    /// persists the record. Nothing was ever credited on it.
    pub fn unname(&mut self) {
        if !self.is_seen() {
            self.record.outpoint = None;
            self.digest = None;
        }
    }

    /// What counts as paid now: the newest total, or nothing once the payer has it back and owes it.
    pub fn counted(&self) -> Msat {
        match self.record.state {
            PayeeState::Missing
            | PayeeState::Refunded {
                back: TakenBack::Owed,
                ..
            } => Msat::ZERO,
            _ => self.record.total,
        }
    }

    /// What was credited on a funding that never came, as long as that is recent: as much less is credited to others, so that
    /// what double spends can cost is bounded over a day, not only at each moment.
    pub fn lately_lost(&self) -> Msat {
        let recent = self.height < self.given_up_at().plus(LOSS_BLOCKS);
        if self.record.state == PayeeState::Missing && recent {
            self.record.total
        } else {
            Msat::ZERO
        }
    }

    /// What was credited although it could still be lost.
    pub fn unconfirmed(&self) -> Msat {
        let live = matches!(
            self.record.state,
            PayeeState::Open
                | PayeeState::Restored
                | PayeeState::Closing
                | PayeeState::Spent { height: None, .. }
        );
        if live && !self.is_deep() {
            self.record.total
        } else {
            Msat::ZERO
        }
    }

    /// Totals above this are refused now, with `room` the unconfirmed credit left for this channel in all.
    pub fn ceiling(&self, policy: &PayeePolicy, room: Msat) -> Msat {
        let Some(capacity) = self.record.terms.capacity.to_msat() else {
            return Msat::ZERO;
        };
        let bound = match self.dark_since {
            Some(total) if self.is_deep() => total.saturating_add(policy.dark),
            None if self.is_deep() => capacity,
            None if self.seen => room.min(policy.unconfirmed),
            _ => self.record.total,
        };
        bound.min(capacity)
    }

    /// The height from which the payee must have broadcast (money.md rule 8).
    pub fn settle_at(&self) -> BlockHeight {
        self.record.terms.expiry.minus(3 * MARGIN)
    }

    /// Feeds one input. Afterwards drain [`Payee::poll_action`].
    pub fn handle(
        &mut self,
        policy: &PayeePolicy,
        verifier: &Verifier,
        input: PayeeInput,
    ) -> Result<(), PayeeError> {
        match input {
            PayeeInput::Declared { outpoint } => self.declared(verifier, outpoint),
            PayeeInput::Funded {
                outpoint,
                value,
                height,
            } => self.funded(verifier, outpoint, value, height),
            PayeeInput::Unfunded { outpoint } => {
                self.lose_sight(outpoint);
                Ok(())
            }
            PayeeInput::Spent { txid, height, back } => self.spent(txid, height, back),
            PayeeInput::Reorg { height } => self.reorganised(height),
            PayeeInput::Height { height } => self.height(height),
            PayeeInput::Dark => {
                self.dark_since.get_or_insert(self.record.total);
                Ok(())
            }
            PayeeInput::Lit => {
                self.dark_since = None;
                Ok(())
            }
            PayeeInput::Payment {
                total,
                signature,
                room,
            } => {
                if self.record.state != PayeeState::Open {
                    return Err(REFUSE(ErrorCode::Closing));
                }
                self.payment(policy, verifier, total, signature, room)
            }
            PayeeInput::Resume {
                total,
                signature,
                room,
            } => self.resume(policy, verifier, total, signature, room),
            PayeeInput::Close => self.close(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<PayeeAction> {
        self.actions.pop_front()
    }

    fn declared(&mut self, verifier: &Verifier, outpoint: Outpoint) -> Result<(), PayeeError> {
        match self.record.outpoint {
            Some(known) if known == outpoint => Ok(()),
            // Only the first confirmed output binds; until then the payer may name another one, as long as nothing
            // was paid on the one before.
            Some(_) if self.record.funded_at.is_some() || self.record.total > Msat::ZERO => {
                Err(REFUSE(ErrorCode::FundingMismatch))
            }
            _ if self.record.state != PayeeState::Open => Err(REFUSE(ErrorCode::Closing)),
            _ if self.height > self.record.accept_until => Err(REFUSE(ErrorCode::NotAccepted)),
            _ => self.bind(verifier, outpoint),
        }
    }

    pub(super) fn bind(&mut self, verifier: &Verifier, outpoint: Outpoint) -> Result<(), PayeeError> {
        let digest = PaymentDigest::new(verifier.context(), &self.record.terms, outpoint);
        self.digest = Some(digest.map_err(|_| REFUSE(ErrorCode::FundingMismatch))?);
        self.record.outpoint = Some(outpoint);
        self.seen = self.sighted.contains(&outpoint);
        self.act(PayeeAction::Persist);
        Ok(())
    }

    fn payment(
        &mut self,
        policy: &PayeePolicy,
        verifier: &Verifier,
        total: Msat,
        signature: Signature,
        room: Msat,
    ) -> Result<(), PayeeError> {
        let digest = self.digest.as_ref().ok_or(REFUSE(ErrorCode::UnknownChannel))?;
        if total == self.record.total {
            // A retry of the newest payment, or a replay: credited once already, said again.
            self.act(PayeeAction::Credited { total });
            return Ok(());
        }
        let Some(step) = total.checked_sub(self.record.total) else {
            return Err(REFUSE(ErrorCode::TotalTooLow));
        };
        let capacity = self.record.terms.capacity.to_msat().unwrap_or(Msat::ZERO);
        if total > capacity {
            return Err(REFUSE(ErrorCode::TotalTooHigh));
        }
        if step < policy.payment_min || step > policy.payment_max {
            return Err(REFUSE(ErrorCode::OutOfOrder));
        }
        if total > self.ceiling(policy, room) {
            return Err(REFUSE(ErrorCode::ExposureFull));
        }
        if let Err(error) = digest.verify_payment(verifier.context(), total.to_sat_ceil(), &signature.0) {
            return Err(REFUSE(match error {
                PaymentError::OverCapacity { .. } => ErrorCode::TotalTooHigh,
                _ => ErrorCode::BadSignature,
            }));
        }
        self.record.total = total;
        self.record.signature = signature;
        self.act(PayeeAction::PersistPayment);
        self.act(PayeeAction::Credited { total });
        Ok(())
    }

    fn resume(
        &mut self,
        policy: &PayeePolicy,
        verifier: &Verifier,
        total: Msat,
        signature: Signature,
        room: Msat,
    ) -> Result<(), PayeeError> {
        match self.record.state {
            PayeeState::Open if total > self.record.total => {
                self.payment(policy, verifier, total, signature, room)
            }
            PayeeState::Open => Ok(()),
            PayeeState::Restored => {
                if total > self.record.total {
                    let digest = self.digest.as_ref().ok_or(REFUSE(ErrorCode::UnknownChannel))?;
                    // Not before the funding is as deep as for any other credit: the payer says it again.
                    if !self.is_buried() {
                        return Err(REFUSE(ErrorCode::ExposureFull));
                    }
                    if digest
                        .verify_payment(verifier.context(), total.to_sat_ceil(), &signature.0)
                        .is_err()
                    {
                        return Err(REFUSE(ErrorCode::BadSignature));
                    }
                    self.record.total = total;
                    self.record.signature = signature;
                    self.act(PayeeAction::Persist);
                    self.act(PayeeAction::Credited { total });
                }
                self.close()
            }
            _ => Err(REFUSE(ErrorCode::Closing)),
        }
    }

    pub(super) fn close(&mut self) -> Result<(), PayeeError> {
        match self.record.state {
            PayeeState::Open | PayeeState::Restored => {
                self.record.state = PayeeState::Closing;
                self.act(PayeeAction::Persist);
                self.act(PayeeAction::Settle);
                Ok(())
            }
            // Asked again: settling once more is harmless, and repairs a lost broadcast.
            PayeeState::Closing | PayeeState::Spent { height: None, .. } => {
                self.act(PayeeAction::Settle);
                Ok(())
            }
            PayeeState::Missing
            | PayeeState::Spent { .. }
            | PayeeState::Refunded { .. }
            | PayeeState::Over => Ok(()),
        }
    }

    pub(super) fn lose(&mut self, back: TakenBack) -> Result<(), PayeeError> {
        let amount = self.record.total;
        if back == TakenBack::Owed {
            self.record.total = Msat::ZERO;
            self.record.signature = Signature([0; 64]);
        }
        self.over();
        if amount > Msat::ZERO {
            self.act(PayeeAction::Lost { amount, back });
        }
        Ok(())
    }

    pub(super) fn over(&mut self) {
        self.record.state = PayeeState::Over;
        self.act(PayeeAction::Persist);
        self.act(PayeeAction::Forget);
    }

    pub(super) fn act(&mut self, action: PayeeAction) {
        // Each input gives at most four actions and the caller drains after each, so the queue of eight is never
        // full; a repeated `Persist` is dropped so that it stays so.
        if !(action == PayeeAction::Persist && self.actions.iter().any(|a| *a == PayeeAction::Persist)) {
            let full = self.actions.push_back(action).is_err();
            debug_assert!(!full, "drain the actions after each input");
        }
    }
}
