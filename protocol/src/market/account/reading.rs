//! The gate as the account sees it: what was granted, what was read, when to read again.

use super::state::Turn;
use super::{Account, AccountError, GateMark, PauseReason, Standing};
use crate::base::{ByteCount, Duration, Instant, SheetHash};
use crate::market::{Prices, rate_of, time_for};

/// First wait for a reading while the rate is unknown.
const FIRST_READ: Duration = Duration::from_millis(100);
/// Times that a gate is set anew without a byte passing. A sender of large segments comes back with smaller ones
/// after its retransmission timeout (0.2 s at least, RFC 6298 says 1 s); five doublings of 20 ms wait 0.6 s.
pub(super) const MAX_REARMS: u8 = 5;
/// A full packet on the usual links: less than that left after a drop counts as nothing left.
pub(super) const PACKET: ByteCount = ByteCount::new(1_514);

/// One attached gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gate {
    pub attachment: u32,
    /// The newest grant.
    pub limit: ByteCount,
    /// What may have been passed by any grant that a reading has not yet ruled out.
    pub bound: ByteCount,
    /// The reading that rules out the grants before `limit`.
    pub confirm: Option<u32>,
    /// Number of the newest read action, and of the newest that was answered.
    pub reads: u32,
    pub answered: u32,
    pub answer_by: Option<Instant>,
    /// The reading that the rate is measured from.
    pub base: Instant,
    pub base_bytes: ByteCount,
    pub rate: u64,
    pub quiet: Duration,
    pub last_use: Instant,
    pub failures: u8,
    pub exhausted: bool,
    pub rearm: bool,
    pub rearms: u8,
    pub rearm_used: ByteCount,
    /// A packet was dropped and less than one is left.
    pub spent: bool,
    /// It is being closed: the number of its last reading.
    pub closing: Option<u32>,
}

impl Gate {
    fn new(attachment: u32, now: Instant) -> Self {
        Gate {
            attachment,
            limit: ByteCount::ZERO,
            bound: ByteCount::ZERO,
            confirm: None,
            reads: 0,
            answered: 0,
            answer_by: None,
            base: now,
            base_bytes: ByteCount::ZERO,
            rate: 0,
            quiet: FIRST_READ,
            last_use: now,
            failures: 0,
            exhausted: false,
            rearm: false,
            rearms: 0,
            rearm_used: ByteCount::ZERO,
            spent: false,
            closing: None,
        }
    }

    pub(super) fn waiting(&self) -> bool {
        self.answered < self.reads
    }
}

impl Account {
    pub(super) fn attach(&mut self, now: Instant, attachment: u32) -> Result<(), AccountError> {
        if let Some(gate) = &self.gate {
            if gate.attachment == attachment && gate.closing.is_none() {
                return Ok(());
            }
            if attachment <= gate.attachment {
                return Err(AccountError::Attachment);
            }
            self.next_attachment = Some(attachment);
            self.close();
            return Ok(());
        }
        if attachment <= self.record.gate.attachment {
            return Err(AccountError::Attachment);
        }
        self.record.gate = GateMark {
            attachment,
            ..GateMark::default()
        };
        self.gate = Some(Gate::new(attachment, now));
        self.sign = now;
        self.receipt_at = now;
        self.low = false;
        self.checkpoint();
        Ok(())
    }

    /// Begins to detach: the gate is closed, read for the last time and removed. However long that takes, it is
    /// waited for: what passed meanwhile is not known before.
    pub(super) fn close(&mut self) {
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.closing.is_none()) {
            gate.reads = gate.reads.saturating_add(1);
            gate.limit = self.record.gate.bytes();
            gate.answer_by = None;
            gate.closing = Some(gate.reads);
            self.pending.grant = false;
            self.pending.read = false;
            self.pending.detach = Some((gate.attachment, gate.reads));
        }
    }

    pub(super) fn take_reading(
        &mut self,
        now: Instant,
        attachment: u32,
        read: u32,
        (up, down): (ByteCount, ByteCount),
        exhausted: bool,
    ) -> Result<(), AccountError> {
        if attachment == 0 || attachment != self.record.gate.attachment {
            return Ok(());
        }
        // An answer that was taken before, or that a newer one overtook: its figures are in already.
        let stale = |gate: &Gate| read != 0 && (read <= gate.answered || read > gate.reads);
        if self.gate.as_ref().is_some_and(stale) {
            return Ok(());
        }
        let mark = self.record.gate;
        let counted = match (up.checked_sub(mark.up), down.checked_sub(mark.down)) {
            (Some(up), Some(down)) => self.record.add(up, down).ok_or(AccountError::Overflow),
            _ => Err(AccountError::WentBack),
        };
        if let Err(error) = counted {
            self.take_failure(now, attachment, read);
            return Err(error);
        }
        let used = self.record.gate.bytes();
        let read_min = self.config.read_min;
        let Some(gate) = self.gate.as_mut() else {
            // A gate that outlived a restart of this program was read before it was removed.
            self.checkpoint();
            return Ok(());
        };
        gate.measure(now, used, read_min);
        gate.failures = 0;
        gate.rearm = exhausted;
        gate.spent |= exhausted;
        if exhausted && !gate.exhausted {
            self.pending.warn = true;
        }
        gate.exhausted = exhausted;
        if read == 0 {
            return Ok(());
        }
        gate.answered = read;
        if !gate.waiting() {
            gate.answer_by = None;
        }
        if gate.confirm.is_some_and(|confirm| read >= confirm) {
            gate.confirm = None;
            gate.bound = gate.limit.max(used);
        }
        let closed = gate.closing.is_some_and(|last| read >= last);
        if self.turn.is_some_and(|turn| read >= turn.read) {
            self.end_turn();
        }
        self.answer_questions();
        if closed {
            self.closed(now);
        }
        Ok(())
    }

    pub(super) fn take_failure(&mut self, now: Instant, attachment: u32, read: u32) {
        let Some(gate) = self.gate.as_mut() else { return };
        if gate.attachment != attachment || read <= gate.answered || read != gate.reads {
            return;
        }
        gate.answered = read;
        gate.answer_by = None;
        gate.failures = gate.failures.saturating_add(1);
        gate.base = now;
        gate.base_bytes = self.record.gate.bytes();
        if gate.closing.is_some() {
            let unread = gate.bound.saturating_sub(self.record.gate.bytes());
            self.pending.unread = Some(unread);
            self.end_turn();
            self.closed(now);
        }
    }

    pub(super) fn take_timer(&mut self, now: Instant) {
        let Some(gate) = self.gate.as_ref() else { return };
        if gate.answer_by.is_some_and(|at| now >= at) {
            let (attachment, read) = (gate.attachment, gate.reads);
            self.take_failure(now, attachment, read);
        } else if self.next_read(gate).is_some_and(|at| now >= at) {
            self.request_read(now);
        }
    }

    pub(super) fn sign_of_life(&mut self, now: Instant) {
        self.sign = self.sign.max(now);
        let idle = |gate: &Gate| gate.limit > self.record.gate.bytes() && self.next_read(gate).is_none();
        if self
            .gate
            .as_ref()
            .is_some_and(|gate| !gate.waiting() && idle(gate))
        {
            self.request_read(now);
        }
    }

    /// Asks for a reading after everything that was granted so far; returns its number, 0 without a gate.
    pub(super) fn request_read(&mut self, now: Instant) -> u32 {
        let timeout = self.config.read_timeout;
        let Some(gate) = self.gate.as_mut() else { return 0 };
        if gate.closing.is_none() {
            gate.reads = gate.reads.saturating_add(1);
            gate.answer_by = Some(now + timeout);
            self.pending.read = true;
        }
        gate.reads
    }

    pub(super) fn read_or_answer(&mut self, now: Instant) {
        match &self.gate {
            Some(gate) if gate.waiting() && self.pending.read => {}
            Some(_) => {
                self.request_read(now);
            }
            None => self.answer_questions(),
        }
    }

    /// When the gate is to be read next: after the time in which half of what may pass would be used, more rarely
    /// while nothing passes, and not at all while idle or closed.
    pub(super) fn next_read(&self, gate: &Gate) -> Option<Instant> {
        if gate.waiting() || gate.closing.is_some() {
            return None;
        }
        let config = &self.config;
        let left = gate.limit.saturating_sub(self.record.gate.bytes());
        let half = ByteCount::new(left.value() / 2);
        let wait = if gate.failures > 0 {
            config.read_max
        } else if self.paused.is_some() {
            return None;
        } else if gate.exhausted {
            Duration::from_micros(config.read_min.as_micros() << gate.rearms.min(MAX_REARMS))
        } else if let Some(wait) = time_for(half, ByteCount::new(gate.rate)) {
            wait.clamp(config.read_min, config.read_max)
        } else if gate.base.since(gate.last_use) < config.idle_after {
            gate.quiet.clamp(config.read_min, config.read_max)
        } else {
            config.read_max
        };
        let idle =
            gate.rate == 0 && gate.base.since(gate.last_use) >= config.idle_after && gate.failures == 0;
        let at = (!idle).then(|| gate.base + wait);
        let lease = self.lease_check();
        at.into_iter().chain(lease).min()
    }

    /// A sheet or a standing changes once the gate was read; until then no more is granted than both would.
    pub(super) fn begin_turn(
        &mut self,
        now: Instant,
        sheet: Option<(SheetHash, Prices)>,
        standing: Option<Standing>,
    ) {
        let old = self.turn;
        self.turn = Some(Turn {
            sheet: sheet.or(old.and_then(|turn| turn.sheet)),
            standing: standing.or(old.and_then(|turn| turn.standing)),
            read: 0,
        });
        if self.gate.is_none() {
            self.end_turn();
        } else {
            let (limit, used) = (self.limit_in_turn(), self.record.gate.bytes());
            if let Some(gate) = self.gate.as_mut().filter(|gate| gate.limit > limit) {
                gate.limit = limit.max(used);
                self.pending.grant = true;
            }
            let read = self.request_read(now);
            if let Some(gate) = self.gate.as_mut() {
                gate.confirm = Some(read);
            }
            self.turn = self.turn.map(|turn| Turn { read, ..turn });
        }
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        if let Some((sheet, prices)) = turn.sheet {
            self.record.turn(sheet, prices);
            self.leased = 0;
            self.window = prices.clamp_window(self.window);
            self.free_gone = None;
            self.pending.warn |= self.gate.is_some();
        }
        if let Some(standing) = turn.standing {
            self.record.standing = standing;
        }
        self.checkpoint();
    }

    fn answer_questions(&mut self) {
        self.pending.warn |= core::mem::take(&mut self.usage_asked);
        if core::mem::take(&mut self.receipt_asked) {
            self.make_receipt();
        }
    }

    pub(super) fn make_receipt(&mut self) {
        if self.record.channel.is_none() {
            return;
        }
        let receipt = &mut self.record.receipt;
        let again = receipt.open;
        let bytes = self.record.up.saturating_add(self.record.down);
        if !again && bytes == receipt.bytes {
            // Nothing was used since the one before: it says all there is to say.
            return;
        }
        if !again {
            let Some(sequence) = receipt.sequence.checked_add(1) else {
                return;
            };
            receipt.sequence = sequence;
            receipt.open = true;
            receipt.bytes = bytes;
            self.checkpoint();
        }
        self.pending.receipt = Some(again);
    }

    fn closed(&mut self, now: Instant) {
        if self.record.bytes() > self.record.receipt.bytes || self.record.receipt.open {
            self.make_receipt();
        }
        self.gate = None;
        self.clock = None;
        self.paused = None;
        self.pending.pause = None;
        self.checkpoint();
        if let Some(attachment) = self.next_attachment.take() {
            // Numbers rise, which was checked when it was asked for.
            let _ = self.attach(now, attachment);
        }
    }

    pub(super) fn gate_down(&self, gate: &Gate) -> Option<PauseReason> {
        (gate.failures >= self.config.read_failures).then_some(PauseReason::GateDown)
    }
}

impl Gate {
    fn measure(&mut self, now: Instant, used: ByteCount, read_min: Duration) {
        let time = now.since(self.base);
        let bytes = used.saturating_sub(self.base_bytes);
        if time.as_micros() < read_min.as_micros() / 2 {
            return;
        }
        self.rate = rate_of(bytes, time).map_or(0, ByteCount::value);
        self.base = now;
        self.base_bytes = used;
        if bytes > ByteCount::ZERO {
            self.last_use = now;
            self.quiet = FIRST_READ;
        } else {
            self.quiet = self.quiet + self.quiet;
        }
    }
}
