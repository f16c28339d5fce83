//! How far the gate may be open: credit turned into bytes, and into seconds where they have a price.
//!
//! Seconds are set aside before they begin. What the gate may pass plus the seconds set aside never cost more than
//! was paid; to turn money for bytes into money for seconds, the grant is lowered first and a reading taken.

use super::reading::{Gate, MAX_REARMS, PACKET};
use super::{Account, PauseReason, Standing};
use crate::base::{ByteCount, Duration, Instant, Msat};
use crate::market::UNLIMITED;

impl Account {
    /// Brings grants, pauses, warnings and receipts in line with what is known now.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(mut gate) = self.gate else {
            self.clock = None;
            return;
        };
        if gate.closing.is_some() {
            self.clock = None;
            return;
        }
        self.dead = self.live_class() && now.since(self.sign) >= self.config.liveness;
        let shut = self.shut(&gate);
        self.ask_free(shut.is_some());
        if self.turn.is_none() {
            if shut.is_none() {
                self.set_seconds_aside(now, &mut gate);
            }
            self.gate = Some(gate);
            self.regrant(now, shut.is_some());
        }
        self.pause(shut);
        self.set_clock(now);
        self.watch_credit();
        self.watch_receipt(now);
    }

    /// Bytes that may pass from here on; [`UNLIMITED`] where nothing limits them.
    pub(super) fn room(&self) -> ByteCount {
        if self.record.standing == Standing::Exempt {
            return UNLIMITED;
        }
        let record = &self.record;
        let elapsed = record.stretch_seconds();
        let credit = match self.paid_total().checked_sub(record.closed_cost) {
            Some(credit) => credit,
            None => return ByteCount::ZERO,
        };
        if record.prices.room(credit, &record.billed(elapsed)).is_none() {
            return ByteCount::ZERO;
        }
        let timed = record.prices.per_second() > Msat::ZERO;
        let seconds = if timed { self.leased.max(elapsed) } else { 0 };
        match record.prices.room(credit, &record.billed(seconds)) {
            Some(_) if timed && self.lease_left() == Duration::ZERO => record.free.left,
            Some(UNLIMITED) => UNLIMITED,
            Some(room) => room.saturating_add(record.free.left),
            None => record.free.left,
        }
    }

    /// The grant that is safe both before and after the change that is under way.
    pub(super) fn limit_in_turn(&self) -> ByteCount {
        let Some(turn) = self.turn else { return UNLIMITED };
        let used = self.record.gate.bytes();
        let prices = turn.sheet.map_or(self.record.prices, |(_, prices)| prices);
        match turn.standing.unwrap_or(self.record.standing) {
            Standing::Exempt => return UNLIMITED,
            Standing::Blocked => return used,
            Standing::Normal => {}
        }
        let begun = u64::from(prices.per_second() > Msat::ZERO);
        let quantity = crate::market::Quantity {
            seconds: begun,
            ..Default::default()
        };
        let credit = self.paid_total().checked_sub(self.record.cost());
        match credit.map(|credit| prices.room(credit, &quantity)) {
            None => used,
            Some(None) => used.saturating_add(self.record.free.left),
            Some(Some(room)) => used.saturating_add(self.record.free.left).saturating_add(room),
        }
    }

    fn shut(&self, gate: &Gate) -> Option<PauseReason> {
        if self.record.standing == Standing::Blocked {
            return Some(PauseReason::Blocked);
        }
        self.gate_down(gate)
            .or(self.dead.then_some(PauseReason::NoLiveness))
            .or(
                (self.debt() > Msat::ZERO && self.record.standing != Standing::Exempt)
                    .then_some(PauseReason::Debt),
            )
    }

    fn ask_free(&mut self, shut: bool) {
        let free = &self.record.free;
        let wanted = !shut
            && self.record.standing == Standing::Normal
            && free.leased < self.record.prices.sheet().free
            && free.left.value() < self.config.free_lease.value() / 2
            && self.free_gone != Some(free.period);
        if wanted && !self.free_asked {
            self.free_asked = true;
            self.pending.lease_free = true;
        }
    }

    fn set_seconds_aside(&mut self, now: Instant, gate: &mut Gate) {
        let record = &self.record;
        let elapsed = record.stretch_seconds();
        self.leased = self.leased.max(elapsed);
        let prices = record.prices;
        if prices.per_second() == Msat::ZERO || record.standing == Standing::Exempt {
            self.leased = elapsed;
            return;
        }
        let Some(credit) = self.paid_total().checked_sub(record.closed_cost) else {
            return;
        };
        // At most half of the money goes to seconds, but one second if there is money for it.
        let affordable = prices.seconds_room(credit, &record.billed(elapsed), ByteCount::ZERO);
        let ahead = affordable
            .min((affordable / 2).max(1))
            .min(self.config.lease_seconds);
        let target = elapsed.saturating_add(ahead);
        let used = record.gate.bytes();
        // The gate is at the end of its bytes: what is set aside beyond the next second becomes bytes again.
        if gate.exhausted || gate.bound <= used {
            self.leased = self.leased.min(elapsed.saturating_add(ahead.max(1)));
            if gate.exhausted {
                self.leased = self.leased.min(elapsed.saturating_add(1));
            }
        }
        let outside = gate.bound.saturating_sub(used).saturating_sub(record.free.left);
        let more = prices.seconds_room(credit, &record.billed(self.leased), outside);
        if !gate.exhausted || self.leased <= elapsed {
            self.leased = self.leased.saturating_add(more).min(target).max(self.leased);
        }
        let short = self.leased.saturating_sub(elapsed) < ahead.div_ceil(2);
        if !short || gate.confirm.is_some() || record.free.left > ByteCount::ZERO {
            return;
        }
        let bytes = prices
            .room(credit, &record.billed(target))
            .unwrap_or(ByteCount::ZERO);
        let limit = used.saturating_add(bytes);
        if limit < gate.limit {
            gate.limit = limit;
            self.gate = Some(*gate);
            self.pending.grant = true;
            let read = self.request_read(now);
            if let Some(fresh) = self.gate.as_mut() {
                fresh.confirm = Some(read);
                *gate = *fresh;
            }
        }
    }

    fn regrant(&mut self, now: Instant, shut: bool) {
        let used = self.record.gate.bytes();
        let room = if shut { ByteCount::ZERO } else { self.room() };
        let mut want = match room {
            UNLIMITED => UNLIMITED,
            room => used.saturating_add(room),
        };
        if self.record.standing == Standing::Normal && self.record.prices.dearest() > Msat::ZERO {
            let old = self.gate.as_ref().map_or(ByteCount::ZERO, |gate| gate.limit);
            want = want.min(self.checkpointed_limit(used).max(old));
        }
        let Some(gate) = self.gate.as_mut() else { return };
        if want > gate.limit && gate.confirm.is_none() {
            gate.limit = want;
            gate.bound = gate.bound.max(want);
            gate.last_use = now;
            gate.exhausted = false;
            (gate.rearm, gate.rearms) = (false, 0);
            gate.spent = false;
            self.pending.grant = true;
        } else if want < gate.limit && gate.limit > used {
            gate.limit = want.max(used);
            self.pending.grant = true;
            let read = self.request_read(now);
            if let Some(gate) = self.gate.as_mut() {
                gate.confirm = Some(read);
            }
        } else if core::mem::take(&mut gate.rearm) && gate.limit > used {
            if used > gate.rearm_used {
                gate.rearms = 0;
            }
            if gate.rearms < MAX_REARMS {
                gate.rearms += 1;
                gate.rearm_used = used;
                self.pending.grant = true;
            }
        }
    }

    // A power cut forgets the use since the last checkpoint, so the gate is never open further than one window
    // beyond it.
    fn checkpointed_limit(&mut self, used: ByteCount) -> ByteCount {
        let unsaved = self.record.bytes().saturating_sub(self.saved_bytes);
        if unsaved.value() >= self.window.value() / 2 {
            self.checkpoint();
            return used.saturating_add(self.window);
        }
        used.saturating_add(self.window.saturating_sub(unsaved))
    }

    fn pause(&mut self, shut: Option<PauseReason>) {
        let Some(gate) = &self.gate else { return };
        let left = gate.limit.saturating_sub(self.record.gate.bytes());
        let empty = left == ByteCount::ZERO && gate.confirm.is_none();
        let stuck = (gate.spent && left < PACKET) || (gate.exhausted && gate.rearms >= MAX_REARMS);
        let reason = shut.or((empty || stuck).then_some(PauseReason::NoCredit));
        if reason != self.paused && self.turn.is_none() {
            self.paused = reason;
            self.pending.pause = Some(reason);
        }
    }

    fn set_clock(&mut self, now: Instant) {
        let open = self.paused.is_none()
            && self.record.standing == Standing::Normal
            && self.record.free.left == ByteCount::ZERO
            && self
                .gate
                .as_ref()
                .is_some_and(|gate| gate.limit > self.record.gate.bytes());
        let timed = self.record.prices.per_second() > Msat::ZERO;
        let open = open && !(timed && self.lease_left() == Duration::ZERO);
        self.clock = open.then_some(now);
        let unsaved = self
            .record
            .open
            .as_secs()
            .saturating_sub(self.saved_open.as_secs());
        if timed && unsaved >= self.config.lease_seconds {
            self.checkpoint();
        }
    }

    /// Counts open time up to now, but never a second that was not set aside.
    pub(super) fn run_clock(&mut self, now: Instant) {
        let Some(since) = self.clock else { return };
        let mut time = now.since(since);
        if self.record.prices.per_second() > Msat::ZERO {
            time = time.min(self.lease_left());
        }
        self.record.open = self.record.open + time;
        self.record.stretch_open = self.record.stretch_open + time;
        self.clock = Some(since.max(now));
    }

    fn lease_left(&self) -> Duration {
        let leased = self.leased.saturating_mul(1_000_000);
        Duration::from_micros(leased.saturating_sub(self.record.stretch_open.as_micros()))
    }

    /// When the seconds set aside end.
    pub(super) fn lease_end(&self) -> Option<Instant> {
        let timed = self.record.prices.per_second() > Msat::ZERO;
        self.clock
            .filter(|_| timed)
            .map(|since| since + self.lease_left())
    }

    /// When to read the gate so that more seconds can be set aside in time.
    pub(super) fn lease_check(&self) -> Option<Instant> {
        let half = Duration::from_micros(self.lease_left().as_micros() / 2).max(self.config.read_min);
        let since = self.clock?;
        self.lease_end().map(|end| (since + half).min(end))
    }

    fn watch_credit(&mut self) {
        let Some(gate) = &self.gate else { return };
        let room = self.room();
        let low = room.value() < self.window.value() / 4 && gate.limit > ByteCount::ZERO;
        if low && !self.low {
            self.pending.warn = true;
        }
        if low || room.value() >= self.window.value() / 2 {
            self.low = low;
        }
    }

    fn watch_receipt(&mut self, now: Instant) {
        let bytes = self
            .record
            .bytes()
            .saturating_sub(self.record.receipt.bytes)
            .value();
        let windows = self.window.value().saturating_mul(self.config.receipt_windows);
        let due = bytes >= windows.max(self.config.receipt_bytes.value())
            || now.since(self.receipt_at) >= self.config.receipt_every;
        if bytes > 0 && due {
            self.receipt_at = now;
            self.make_receipt();
        }
    }
}
