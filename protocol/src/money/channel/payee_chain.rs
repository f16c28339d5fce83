//! What the chain does to a payee's simplex: fundings seen, late and gone, spends, reorganisations, heights.

use super::payee::{Payee, REFUSE};
use super::payee_input::{PayeeAction, PayeeError, TakenBack};
use super::payee_record::PayeeState;
use super::policy::deep;
use crate::base::{BlockHeight, Msat, Outpoint, Sat, Txid};
use crate::crypto::Verifier;
use crate::wire::ErrorCode;

impl Payee {
    pub(super) fn funded(
        &mut self,
        verifier: &Verifier,
        outpoint: Outpoint,
        value: Sat,
        height: Option<BlockHeight>,
    ) -> Result<(), PayeeError> {
        if matches!(
            self.record.state,
            PayeeState::Over | PayeeState::Refunded { .. } | PayeeState::Spent { height: Some(_), .. }
        ) {
            return Ok(());
        }
        if value != self.record.terms.capacity {
            return Err(REFUSE(ErrorCode::FundingMismatch));
        }
        let known = self.record.outpoint == Some(outpoint);
        let Some(at) = height else {
            self.seen |= known;
            self.remember_sighting(outpoint);
            return Ok(());
        };
        let late = at > self.record.accept_until;
        // What was paid can still be had, however late the funding comes.
        let held = self.record.total > Msat::ZERO || self.record.state == PayeeState::Restored;
        if late && !(known && held) {
            return Err(REFUSE(ErrorCode::NotAccepted));
        }
        if known {
            self.seen = true;
            if self.record.funded_at != Some(at) {
                self.record.funded_at = Some(at);
                self.act(PayeeAction::Persist);
            }
            let open = self.record.state == PayeeState::Open;
            if self.record.state == PayeeState::Missing || (late && open) {
                self.record.state = PayeeState::Closing;
                self.act(PayeeAction::Persist);
                self.act(PayeeAction::Settle);
            }
            return Ok(());
        }
        match self.record.funded_at {
            // A second funding of one acceptance: only its payer can take it back, at the expiry.
            Some(_) => Err(REFUSE(ErrorCode::FundingMismatch)),
            None if self.record.total == Msat::ZERO => {
                self.bind(verifier, outpoint)?;
                self.record.funded_at = Some(at);
                self.seen = true;
                Ok(())
            }
            // Paid on one output, confirmed another: the payer double-spent its funding, or made two.
            None => {
                self.miss();
                Ok(())
            }
        }
    }

    fn remember_sighting(&mut self, outpoint: Outpoint) {
        if self.sighted.contains(&outpoint) {
            return;
        }
        if self.sighted.is_full() {
            self.sighted.remove(0);
        }
        let _ = self.sighted.push(outpoint);
    }

    pub(super) fn lose_sight(&mut self, outpoint: Outpoint) {
        self.seen &= self.record.outpoint != Some(outpoint);
        self.sighted.retain(|o| *o != outpoint);
    }

    pub(super) fn spent(
        &mut self,
        txid: Txid,
        height: Option<BlockHeight>,
        back: Option<TakenBack>,
    ) -> Result<(), PayeeError> {
        let state = match (self.record.state, back, height) {
            (PayeeState::Over, ..) => return Ok(()),
            // Judged once: the fee rate may be another one when the chain says it again.
            (PayeeState::Refunded { txid: known, .. }, ..) if known == txid && height.is_some() => {
                return Ok(());
            }
            (_, Some(back), Some(height)) => PayeeState::Refunded { txid, height, back },
            _ => PayeeState::Spent { txid, height },
        };
        // An unconfirmed spend changes nothing before we settle ourselves: it may never confirm.
        let ours = matches!(self.record.state, PayeeState::Closing | PayeeState::Spent { .. });
        if (height.is_some() || ours) && self.record.state != state {
            self.record.state = state;
            self.act(PayeeAction::Persist);
        }
        Ok(())
    }

    pub(super) fn reorganised(&mut self, last: BlockHeight) -> Result<(), PayeeError> {
        self.height = self.height.min(last);
        if self.record.funded_at.is_some_and(|at| at > last) {
            self.record.funded_at = None;
            if let Some(outpoint) = self.record.outpoint {
                self.lose_sight(outpoint);
            }
            self.act(PayeeAction::Persist);
        }
        if let PayeeState::Spent {
            txid,
            height: Some(at),
        } = self.record.state
        {
            if at > last {
                self.record.state = PayeeState::Spent { txid, height: None };
                self.act(PayeeAction::Persist);
                // Our settlement may have to be sent again.
                self.act(PayeeAction::Settle);
            }
        }
        if matches!(self.record.state, PayeeState::Refunded { height, .. } if height > last) {
            // The race is open again.
            self.record.state = PayeeState::Closing;
            self.act(PayeeAction::Persist);
            self.act(PayeeAction::Settle);
        }
        Ok(())
    }

    pub(super) fn height(&mut self, height: BlockHeight) -> Result<(), PayeeError> {
        self.height = self.height.max(height);
        match self.record.state {
            PayeeState::Open | PayeeState::Restored => {
                // A restored one waits for its payer's newest signature until it is settled.
                if self.is_overdue() && self.record.total == Msat::ZERO {
                    return self.lose(TakenBack::Owed);
                }
                if self.is_overdue() && self.record.state == PayeeState::Open {
                    self.miss();
                    return Ok(());
                }
                if self.height >= self.settle_at() {
                    return self.close();
                }
                Ok(())
            }
            // Until a block has it: its funding may have come back after a reorganisation, fees may have fallen, or the
            // mempools may have forgotten it.
            PayeeState::Closing | PayeeState::Spent { height: None, .. } if self.is_overdue() => {
                if self.record.total == Msat::ZERO {
                    return self.lose(TakenBack::Owed);
                }
                self.miss();
                Ok(())
            }
            // From the expiry on the payer would have it back before any settlement.
            PayeeState::Missing if self.height >= self.record.terms.expiry && self.dark_since.is_none() => {
                self.lose(TakenBack::Owed)
            }
            PayeeState::Closing | PayeeState::Spent { height: None, .. }
                if self.record.total > Msat::ZERO =>
            {
                self.act(PayeeAction::Settle);
                Ok(())
            }
            PayeeState::Spent { height: Some(at), .. }
                if self.height >= at.plus(deep(self.record.terms.capacity) - 1) =>
            {
                self.over();
                Ok(())
            }
            PayeeState::Refunded { height: at, back, .. }
                if self.height >= at.plus(deep(self.record.terms.capacity) - 1) =>
            {
                self.lose(back)
            }
            _ => Ok(()),
        }
    }

    /// The chain is in sight, and no block holds the funding although it is too late for one.
    fn is_overdue(&self) -> bool {
        self.record.funded_at.is_none() && self.dark_since.is_none() && self.height >= self.given_up_at()
    }

    fn miss(&mut self) {
        if self.record.state != PayeeState::Missing {
            self.record.state = PayeeState::Missing;
            self.act(PayeeAction::Persist);
        }
    }
}
