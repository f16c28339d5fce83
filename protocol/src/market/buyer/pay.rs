//! When to pay, and how much.

use super::claim::SEGMENT;
use super::state::Flight;
use super::{Buyer, BuyerError, BuyerState, StopReason};
use crate::base::{ByteCount, Duration, Instant, Msat};
use crate::market::{Prices, Quantity, UNLIMITED, time_for};

/// A relay sets so much of the money aside for seconds at most (the default of
/// [`crate::market::AccountConfig::lease_seconds`]).
const ASIDE_SECONDS: u64 = 10;
/// A relay that grants less than was paid has so long to say why.
const EXPLAIN_WITHIN: Duration = Duration::from_secs(10);

impl Buyer {
    /// Pays the next window if it is time, and names the state of the purchase.
    pub(super) fn decide(&mut self, now: Instant) {
        let Some(order) = self.order else { return };
        // What was used up stays used up, whatever happens to session and prices.
        if self.state == BuyerState::Done {
            return;
        }
        let (Some(offer), Some(channel), Some(_)) = (self.offer, self.channel, self.bound) else {
            self.state = BuyerState::Preparing;
            return;
        };
        if self.flight.is_some() {
            return;
        }
        let unread = self.meter.waiting() || self.meter.failures > 0;
        if unread || self.next_offer.is_some() || self.claim.is_some() {
            return;
        }
        let missing = self.missing();
        if missing == Some(ByteCount::ZERO) {
            let used = self.used().saturating_sub(order.used_before);
            let over = self.exhausted || order.bytes.is_some_and(|bytes| used >= bytes);
            if over && self.state != BuyerState::Done {
                self.pending.checkpoint = true;
            }
            self.state = if over { BuyerState::Done } else { BuyerState::Paid };
            return;
        }
        self.state = BuyerState::Buying;
        let Some(step) = self.step(missing) else { return };
        let seconds = time_for(step, self.meter.rate).map_or(1, |time| time.as_micros().div_ceil(1_000_000));
        let Some(price) = offer.prices.window_cost(step, seconds.max(1)) else {
            return self.end(StopReason::MaxSpent);
        };
        if price == Msat::ZERO {
            return;
        }
        let allowed = order.max.saturating_sub(order.spent);
        if allowed == Msat::ZERO {
            // What is granted may still be used.
            if self.left() > ByteCount::ZERO {
                self.state = BuyerState::Paid;
            } else {
                self.stop(StopReason::MaxSpent);
                self.pending.checkpoint = true;
            }
            return;
        }
        let in_channel = channel.capacity.saturating_sub(channel.total);
        if in_channel == Msat::ZERO {
            if self.state != BuyerState::ChannelUsedUp {
                self.need_channel(missing, allowed);
            }
            return;
        }
        let below_ceiling = channel.ceiling.saturating_sub(channel.total);
        if below_ceiling == Msat::ZERO {
            self.state = BuyerState::Ceiling;
            return;
        }
        if self.is_underserved(&offer.prices, channel.total) {
            return self.wait_for_service(now);
        }
        self.short_since = None;
        let amount = price.min(allowed).min(in_channel).min(below_ceiling);
        self.pay(now, amount);
    }

    /// Bytes ordered that are not granted yet; `None` for an order without a number.
    fn missing(&self) -> Option<ByteCount> {
        let order = self.order?;
        let target = order.used_before.saturating_add(order.bytes?);
        Some(target.saturating_sub(self.record.granted))
    }

    /// The window to buy now; `None` while enough is left.
    fn step(&self, missing: Option<ByteCount>) -> Option<ByteCount> {
        let prices = self.offer.as_ref()?.prices;
        let left = self.left();
        let window = self.window();
        if left >= self.trigger() {
            return None;
        }
        // What is prepaid never exceeds the largest window.
        let most = prices.sheet().window_max.saturating_sub(left);
        let step = window.min(most);
        let rest = missing.unwrap_or(UNLIMITED);
        if rest <= step {
            return Some(rest);
        }
        (step >= prices.sheet().window_min).then_some(step)
    }

    /// With fewer bytes left than this, the next window is paid.
    fn trigger(&self) -> ByteCount {
        let ahead =
            u128::from(self.meter.rate.value()) * u128::from(self.config.ahead.as_micros()) / 1_000_000;
        let ahead = ByteCount::new(u64::try_from(ahead).unwrap_or(u64::MAX));
        ByteCount::new(self.window().value() / 2).max(ahead)
    }

    /// More is prepaid than the relay grants: what it does grant is used up first, and the reason may still come (prices
    /// that changed). Then the purchase is over.
    fn wait_for_service(&mut self, now: Instant) {
        if self.left() > SEGMENT {
            self.short_since = None;
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        if now.since(since) >= EXPLAIN_WITHIN {
            self.pending.ask_receipt = true;
            self.end(StopReason::UnderGrant);
        }
    }

    /// When a relay that grants too little has had its time to explain.
    pub(super) fn explain_by(&self) -> Option<Instant> {
        self.short_since.map(|since| since + EXPLAIN_WITHIN)
    }

    /// Whether more is prepaid than a relay can need that grants what it was paid for: whatever it says of its grant, the
    /// next window is paid only when the money before it is used, by our count or by the claim that we believed. What
    /// both may differ by is left to the relay, once and not once per payment.
    fn is_underserved(&self, prices: &Prices, total: Msat) -> bool {
        let record = &self.record;
        if record.forgotten {
            return false;
        }
        let prepaid = total.saturating_sub(self.own_cost().max(self.claimed_cost));
        let (_, believed, _) = self.tolerated();
        // Where the directions cost differently, the relay grants by the dearer one and makes bytes of what that was too
        // much with the next reading.
        let unequal = |prices: &Prices| prices.sheet().up != prices.sheet().down;
        let lag = if unequal(prices) || self.older.as_ref().is_some_and(unequal) {
            self.window()
        } else {
            ByteCount::ZERO
        };
        let bytes = self
            .trigger()
            .saturating_add(lag)
            .saturating_add(believed.saturating_sub(self.counted()))
            .saturating_add(SEGMENT);
        let seconds = ASIDE_SECONDS
            .saturating_add(self.config.seconds_slack)
            .saturating_add(record.unseen);
        let most = [Some(prices), self.older.as_ref()]
            .into_iter()
            .flatten()
            .map(|prices| prices.window_cost(bytes, seconds).unwrap_or(Msat::MAX))
            .fold(Msat::ZERO, Msat::max);
        let rounding = Msat::new(u64::from(record.stretches) + 1);
        prepaid > most.saturating_add(record.turn_slack).saturating_add(rounding)
    }

    pub(super) fn window(&self) -> ByteCount {
        self.offer.as_ref().map_or(ByteCount::ZERO, |offer| {
            offer.prices.default_window(self.meter.rate)
        })
    }

    fn pay(&mut self, now: Instant, amount: Msat) {
        let (Some(offer), Some(channel), Some(order)) =
            (self.offer, self.channel.as_mut(), self.order.as_mut())
        else {
            return;
        };
        let Some(total) = channel.total.checked_add(amount) else {
            return;
        };
        order.spent = order.spent.saturating_add(amount);
        channel.total = total;
        // Where seconds have a price, the relay sets some of the money aside for them.
        let bought = offer.prices.room(amount, &Quantity::default());
        let most = self.record.granted.saturating_add(bought.unwrap_or(UNLIMITED));
        self.record.promised = most;
        let timed = |prices: &Prices| prices.per_second() > Msat::ZERO;
        let timed = timed(&offer.prices) || self.older.as_ref().is_some_and(timed);
        let grant = (!timed).then(|| most.min(self.granted_at_least(&offer.prices, total)));
        self.flight = Some(Flight {
            total,
            amount,
            grant,
            sent: now,
            tries: 0,
        });
        if let Some(binding) = self.bound.as_mut() {
            binding.signed = now;
        }
        self.pending.pay = Some(amount);
        self.pending.checkpoint = true;
    }

    /// What `total` lets pass in all at the dearer of the sheets that the relay may reckon by: what was granted before a
    /// sheet changed may have become less.
    fn granted_at_least(&self, prices: &Prices, total: Msat) -> ByteCount {
        let record = &self.record;
        let cost = self
            .own_cost()
            .saturating_add(record.turn_slack)
            .saturating_add(Msat::new(u64::from(record.stretches) + 1));
        let credit = total.saturating_sub(cost);
        let room = |prices: &Prices| {
            prices
                .room(credit, &Quantity::default())
                .unwrap_or(ByteCount::ZERO)
        };
        let older = self.older.as_ref().map_or(UNLIMITED, room);
        self.counted()
            .saturating_sub(record.lead)
            .saturating_add(room(prices).min(older))
    }

    fn need_channel(&mut self, missing: Option<ByteCount>, allowed: Msat) {
        let price = |bytes| {
            self.offer
                .as_ref()
                .and_then(|offer| offer.prices.window_cost(bytes, 1))
        };
        let amount = missing.and_then(price).unwrap_or(Msat::MAX).min(allowed);
        self.state = BuyerState::ChannelUsedUp;
        self.pending.need = Some(amount);
    }

    pub(super) fn take_ack(&mut self, total: Msat, granted: ByteCount) -> Result<(), BuyerError> {
        let Some(channel) = self.channel else {
            return Ok(());
        };
        if total > channel.total {
            return Err(BuyerError::AckTooHigh);
        }
        if total < self.record.acknowledged {
            return Ok(());
        }
        self.record.acknowledged = total;
        self.take_grant(granted);
        match self.flight {
            Some(flight) if total >= flight.total => {
                self.flight = None;
                let short = flight
                    .grant
                    .is_some_and(|grant| granted.saturating_add(self.config.slack) < grant);
                if short && !self.record.forgotten {
                    self.pending.ask_receipt = true;
                    self.end(StopReason::UnderGrant);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn take_grant(&mut self, granted: ByteCount) {
        if granted > self.record.granted {
            self.exhausted = false;
        }
        self.record.granted = granted;
    }

    pub(super) fn resend_at(&self) -> Option<Instant> {
        let flight = self.flight.as_ref()?;
        self.bound.as_ref()?;
        let wait = self.config.resend.as_micros() << flight.tries.min(3);
        Some(flight.sent + Duration::from_micros(wait))
    }

    /// When the own meter is to be read next: half-way to the next payment.
    pub(super) fn next_read(&self) -> Option<Instant> {
        self.bound.as_ref()?;
        self.order.as_ref()?;
        if self.meter.waiting() || self.state == BuyerState::Done {
            return None;
        }
        let config = &self.config;
        let trigger = ByteCount::new(self.window().value() / 2);
        let until = ByteCount::new(self.left().saturating_sub(trigger).value() / 2);
        let wait = match time_for(until, self.meter.rate) {
            _ if self.meter.failures > 0 => config.read_max,
            Some(wait) => wait.clamp(config.read_min, config.read_max),
            None => config.read_max + config.read_max,
        };
        // Nothing to decide before the acknowledgement, and little while the last window is used.
        let wait = if self.flight.is_some() || self.state == BuyerState::Paid {
            wait.max(Duration::from_micros(config.read_max.as_micros() / 4))
        } else {
            wait
        };
        Some(self.meter.base + wait)
    }
}
