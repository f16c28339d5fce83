//! What the relay claims, held against the own count.

use super::state::{Offered, Waiting, seconds};
use super::{Buyer, BuyerState, Claim, StopReason};
use crate::base::{ByteCount, Duration, Instant, Msat};
use crate::market::{Expected, Quantity, ReceiptError};

/// The largest packet that a gate can drop: an offloaded segment with its headers, bytes.
pub(super) const SEGMENT: ByteCount = ByteCount::new(65_549);

/// The end of a stretch shorter than this adds nothing to what is tolerated.
const SHORTEST_STRETCH: Duration = Duration::from_secs(60);

impl Buyer {
    /// Another sheet ends our stretch too, at the next reading of the own meter.
    pub(super) fn take_offer(&mut self, now: Instant, offer: Offered) {
        let known = self.offer.filter(|old| old.sheet == offer.sheet).or(self
            .next_offer
            .map(|(next, _)| next)
            .filter(|next| next.sheet == offer.sheet));
        match known {
            Some(_) if self.next_offer.is_none() => self.offer = Some(offer),
            Some(_) => {}
            None if self.offer.is_none() || self.bound.is_none() => {
                self.next_offer = None;
                self.turn(offer);
            }
            None => {
                let read = self.read_meter(now);
                self.next_offer = Some((offer, read));
            }
        }
    }

    pub(super) fn after_reading(&mut self, read: u32) {
        if let Some((offer, due)) = self.next_offer {
            if read >= due {
                self.next_offer = None;
                self.turn(offer);
            }
        }
        if let Some((claim, due)) = self.claim {
            if read >= due {
                self.claim = None;
                self.judge(&claim);
            }
        }
        if let Some(waiting) = self.offered {
            if read >= waiting.read {
                self.offered = None;
                self.judge_receipt(&waiting);
            }
        }
    }

    /// The most use that we believe, and the most that it may cost.
    pub(super) fn tolerated(&self) -> (Quantity, ByteCount, Msat) {
        let record = &self.record;
        let aside = self.config.slack.saturating_add(record.uncounted);
        let unseen = self.config.seconds_slack.saturating_add(record.unseen);
        let raise = |bytes: ByteCount| {
            let bytes = u128::from(bytes.value());
            let lossy = bytes * (1_000_000 + u128::from(self.config.loss_ppm)) / 1_000_000;
            ByteCount::new(u64::try_from(lossy).unwrap_or(u64::MAX)).saturating_add(aside)
        };
        let most = Quantity {
            up: raise(record.up),
            down: raise(record.down),
            // Time that costs nothing is nobody's business.
            seconds: match self.offer.as_ref().map(|offer| offer.prices.per_second()) {
                Some(Msat::ZERO) => u64::MAX,
                _ => seconds(record.open).saturating_add(unseen),
            },
        };
        let cost = u128::from(self.own_cost().value());
        let lossy = cost * (1_000_000 + u128::from(self.config.loss_ppm)) / 1_000_000;
        let aside_cost = self
            .offer
            .as_ref()
            .and_then(|offer| offer.prices.window_cost(aside, unseen))
            .unwrap_or(Msat::ZERO);
        // One millisatoshi of rounding, and one begun second (in the slack), for each stretch.
        let cost = Msat::new(u64::try_from(lossy).unwrap_or(u64::MAX))
            .saturating_add(aside_cost)
            .saturating_add(record.turn_slack)
            .saturating_add(Msat::new(u64::from(record.stretches) + 1));
        (most, raise(self.counted()), cost)
    }

    fn turn(&mut self, offer: Offered) {
        if let Some(old) = self.record.prices.filter(|old| *old != offer.prices) {
            self.older = Some(old);
            // The relay's stretch ended at another moment than ours: up to a second of traffic may be billed by the
            // dearer of the two sheets.
            let dearer = |prices: crate::market::Prices| prices.window_cost(self.meter.rate, 2);
            let aside = dearer(old).max(dearer(offer.prices)).unwrap_or(Msat::ZERO);
            // Once a minute at most: a relay that changes its prices all the time does not raise what is tolerated.
            let lasted = self
                .record
                .open
                .as_micros()
                .saturating_sub(self.record.stretch_open.as_micros());
            let aside = if lasted >= SHORTEST_STRETCH.as_micros() {
                aside
            } else {
                Msat::ZERO
            };
            let cost = self.own_cost();
            let record = &mut self.record;
            record.closed_cost = cost;
            record.stretches = record.stretches.saturating_add(1);
            record.turn_slack = record.turn_slack.saturating_add(aside);
            record.stretch_up = record.up;
            record.stretch_down = record.down;
            record.stretch_open = record.open;
        }
        let [newest, _] = self.record.sheets;
        if newest != Some(offer.sheet) {
            self.record.sheets = [Some(offer.sheet), newest];
        }
        self.record.prices = Some(offer.prices);
        self.offer = Some(offer);
        self.pending.checkpoint = true;
        if let Some(flight) = self.flight.as_mut() {
            flight.grant = None;
            self.pending.again = true;
        }
    }

    fn judge(&mut self, claim: &Claim) {
        if self.record.forgotten {
            self.adopt(claim.up, claim.down, claim.cost, claim.seconds);
        }
        let (most, bytes, cost) = self.tolerated();
        let total = claim.up.checked_add(claim.down);
        let over = claim.up > most.up
            || claim.down > most.down
            || total.is_none_or(|total| total > bytes)
            || claim.seconds > most.seconds
            || claim.cost > cost;
        self.claimed = claim.up.saturating_add(claim.down);
        if over {
            crate::warn!(
                "a relay claims {} B up, {} B down, {} s, {} msat; believed were {} up, {} down, {} both, {} s, {} msat",
                claim.up.value(),
                claim.down.value(),
                claim.seconds,
                claim.cost.value(),
                most.up.value(),
                most.down.value(),
                bytes.value(),
                most.seconds,
                cost.value()
            );
            self.over_claim();
            return;
        }
        let lag = self.claimed.saturating_sub(self.counted());
        // What passed while nobody counted here belongs to no order of this run.
        if core::mem::take(&mut self.returned) {
            let unseen = lag.saturating_sub(self.record.lag);
            if let Some(order) = self.order.as_mut() {
                order.used_before = order.used_before.saturating_add(unseen);
            }
        }
        self.record.lag = lag;
        self.claimed_cost = claim.cost;
        self.take_grant(claim.granted);
        // The flag may be older than the grant beside it: a gate that drops has less than a segment left.
        self.exhausted = claim.exhausted && self.claimed.saturating_add(SEGMENT) >= claim.granted;
        // While the gate drops, nothing is under way that the relay has not counted yet.
        if self.exhausted {
            self.record.lead = self.counted().saturating_sub(self.claimed);
        }
    }

    fn judge_receipt(&mut self, waiting: &Waiting) {
        let receipt = &waiting.receipt;
        if self.record.forgotten {
            self.adopt(receipt.up, receipt.down, receipt.cost, receipt.seconds);
        }
        let Some(channel) = self.channel else { return };
        let [Some(newest), older] = self.record.sheets else {
            return;
        };
        let (most, _, most_cost) = self.tolerated();
        let expected = Expected {
            relay: self.relay,
            client: self.client,
            channel: channel.channel,
            sheets: [newest, older.unwrap_or(newest)],
            previous: self.record.receipt.as_ref(),
            forgotten: self.record.adopted,
            paid: [waiting.acknowledged, channel.total],
            most,
            most_cost,
        };
        match expected.check(receipt) {
            Ok(()) => {
                self.record.receipt = Some(*receipt);
                self.pending.checkpoint = true;
                self.pending.sign = Some(receipt.sequence);
            }
            Err(reason) => {
                self.pending.refuse = Some((receipt.sequence, reason));
                if matches!(reason, ReceiptError::OverClaim | ReceiptError::OverPriced) {
                    self.over_claim();
                }
            }
        }
    }

    // Our own figures are lost: what the relay says is taken once, as far as it was paid for.
    fn adopt(&mut self, up: ByteCount, down: ByteCount, cost: Msat, open: u64) {
        let paid = self.channel.map_or(Msat::ZERO, |channel| channel.total);
        if cost > paid {
            return;
        }
        let record = &mut self.record;
        record.forgotten = false;
        record.adopted = true;
        record.up = record.up.max(up);
        record.down = record.down.max(down);
        record.open = record.open.max(crate::base::Duration::from_secs(open));
        record.closed_cost = cost;
        record.stretch_up = record.up;
        record.stretch_down = record.down;
        record.stretch_open = record.open;
        record.acknowledged = paid.min(record.acknowledged);
        if let Some(order) = self.order.as_mut() {
            order.used_before = order.used_before.max(record.up.saturating_add(record.down));
        }
        self.pending.checkpoint = true;
    }

    // The proof is what the relay signs: it is asked for before service is stopped.
    fn over_claim(&mut self) {
        if self.state != BuyerState::Stopped(StopReason::OverClaim) {
            self.pending.ask_receipt = true;
            self.end(StopReason::OverClaim);
        }
    }
}
