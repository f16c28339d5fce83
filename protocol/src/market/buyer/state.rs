//! The buyer's public face: inputs, actions, timeouts, the own count.

use super::clock::SILENT_SECONDS;
use super::order::{Ended, Order};
use super::{BuyerAction, BuyerConfig, BuyerError, BuyerInput, BuyerRecord, BuyerState, Claim, StopReason};
use crate::base::{AccountId, ByteCount, ChannelId, Duration, Instant, Msat, NodeId, SheetHash};
use crate::market::{Prices, Quantity, ReceiptError, UNLIMITED, rate_of};
use crate::wire::{ErrorCode, Receipt};

/// One client's purchases from one relay.
///
/// Call order: [`Buyer::restore`], then any number of [`handle`](Buyer::handle) in any order; after each, drain
/// [`poll_action`](Buyer::poll_action) and ask [`next_timeout`](Buyer::next_timeout), at which
/// [`BuyerInput::Timer`] is due.
#[derive(Clone, Debug)]
pub struct Buyer {
    pub(super) config: BuyerConfig,
    pub(super) relay: NodeId,
    pub(super) client: NodeId,
    pub(super) record: BuyerRecord,
    pub(super) offer: Option<Offered>,
    /// An offer that counts once the own meter was read, and the number of that reading.
    pub(super) next_offer: Option<(Offered, u32)>,
    /// The prices before the present ones: the relay's account may be on them still.
    pub(super) older: Option<Prices>,
    pub(super) channel: Option<Paying>,
    pub(super) bound: Option<Binding>,
    pub(super) order: Option<Order>,
    /// What the last order came to, once it is over.
    pub(super) ended: Option<Ended>,
    /// Since when the session is gone whose end we did not ask for.
    pub(super) away: Option<Instant>,
    /// This side comes from a record: the relay's first claim tells what passed meanwhile.
    pub(super) returned: bool,
    pub(super) state: BuyerState,
    pub(super) flight: Option<Flight>,
    pub(super) claim: Option<(Claim, u32)>,
    pub(super) offered: Option<Waiting>,
    pub(super) claimed: ByteCount,
    /// Since when the relay has granted less than was paid, and all of that is used.
    pub(super) short_since: Option<Instant>,
    /// What the relay's newest claim that we believed costs.
    pub(super) claimed_cost: Msat,
    pub(super) exhausted: bool,
    pub(super) meter: Meter,
    pub(super) pending: Pending,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offered {
    pub sheet_id: u8,
    pub sheet: SheetHash,
    pub prices: Prices,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paying {
    pub channel: ChannelId,
    pub total: Msat,
    pub ceiling: Msat,
    pub capacity: Msat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Binding {
    pub account: AccountId,
    pub liveness: Duration,
    pub signed: Instant,
    pub counter: u32,
    /// Open time was counted up to here.
    pub clock: Instant,
}

/// A receipt that waits for a reading of the own meter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub receipt: Receipt,
    /// The reading.
    pub read: u32,
    /// What the relay had acknowledged when the receipt came: what it acknowledges later, the receipt cannot know.
    pub acknowledged: Msat,
}

/// A payment that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flight {
    pub total: Msat,
    pub amount: Msat,
    /// What must be granted once it is acknowledged; `None` where that cannot be foretold.
    pub grant: Option<ByteCount>,
    pub sent: Instant,
    pub tries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meter {
    pub up: ByteCount,
    pub down: ByteCount,
    pub reads: u32,
    pub answered: u32,
    pub answer_by: Option<Instant>,
    pub base: Instant,
    pub base_bytes: ByteCount,
    pub rate: ByteCount,
    pub failures: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pending {
    pub checkpoint: bool,
    pub read: bool,
    pub pay: Option<Msat>,
    pub again: bool,
    pub liveness: bool,
    pub ask_receipt: bool,
    pub sign: Option<u32>,
    pub refuse: Option<(u32, ReceiptError)>,
    pub stop: Option<AccountId>,
    pub need: Option<Msat>,
    pub report: bool,
}

impl Buyer {
    /// Goes on from a persisted record (the default one where there is none). `relay` and `client` are the two
    /// identities, which receipts must name. What could have passed uncounted meanwhile is tolerated in claims.
    pub fn restore(
        config: BuyerConfig,
        relay: NodeId,
        client: NodeId,
        record: BuyerRecord,
        now: Instant,
    ) -> Self {
        let counted = record.up.saturating_add(record.down);
        Buyer {
            config,
            relay,
            client,
            record: BuyerRecord {
                // What is given away is not billed.
                uncounted: match record.granted.max(record.promised) {
                    UNLIMITED => record.uncounted,
                    most => most.saturating_sub(counted),
                },
                unseen: match record.channel {
                    Some(_) => record.unseen.saturating_add(SILENT_SECONDS),
                    None => 0,
                },
                ..record
            },
            offer: None,
            next_offer: None,
            older: None,
            channel: None,
            bound: None,
            order: None,
            ended: None,
            away: None,
            returned: record.channel.is_some(),
            state: BuyerState::Idle,
            flight: None,
            claim: None,
            offered: None,
            claimed: ByteCount::ZERO,
            short_since: None,
            claimed_cost: Msat::ZERO,
            exhausted: false,
            meter: Meter {
                up: ByteCount::ZERO,
                down: ByteCount::ZERO,
                reads: 0,
                answered: 0,
                answer_by: None,
                base: now,
                base_bytes: ByteCount::ZERO,
                rate: ByteCount::ZERO,
                failures: 0,
            },
            pending: Pending::default(),
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`BuyerError`]: the input was refused; nothing is paid because of it.
    pub fn handle(&mut self, now: Instant, input: BuyerInput) -> Result<(), BuyerError> {
        self.run_clock(now);
        let before = self.state;
        let result = self.take(now, input);
        self.decide(now);
        self.pending.report |= self.state != before;
        result
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<BuyerAction> {
        let pending = &mut self.pending;
        if core::mem::take(&mut pending.checkpoint) {
            return Some(BuyerAction::Checkpoint);
        }
        if core::mem::take(&mut pending.read) {
            return Some(BuyerAction::ReadMeter {
                read: self.meter.reads,
            });
        }
        if let (Some(binding), Some(offer)) = (&self.bound, &self.offer) {
            let (account, sheet_id) = (binding.account, offer.sheet_id);
            if let Some(amount) = pending.pay.take() {
                return Some(BuyerAction::Pay {
                    account,
                    sheet_id,
                    amount,
                });
            }
            if core::mem::take(&mut pending.again) {
                return Some(BuyerAction::PayAgain { account, sheet_id });
            }
        }
        if let Some(binding) = &self.bound {
            let account = binding.account;
            if core::mem::take(&mut pending.liveness) {
                let counter = binding.counter;
                return Some(BuyerAction::Liveness { account, counter });
            }
            if core::mem::take(&mut pending.ask_receipt) {
                return Some(BuyerAction::AskReceipt { account });
            }
        }
        if let Some(sequence) = pending.sign.take() {
            return Some(BuyerAction::SignReceipt { sequence });
        }
        if let Some((sequence, reason)) = pending.refuse.take() {
            return Some(BuyerAction::RefuseReceipt { sequence, reason });
        }
        if let Some(account) = pending.stop.take() {
            // The relay closes the binding; whoever buys again binds anew.
            (self.bound, self.away) = (None, None);
            return Some(BuyerAction::Stop { account });
        }
        if let Some(amount) = pending.need.take() {
            return Some(BuyerAction::NeedChannel { amount });
        }
        core::mem::take(&mut pending.report).then_some(BuyerAction::Report)
    }

    /// When [`BuyerInput::Timer`] is due; `None` while there is nothing to wait for.
    pub fn next_timeout(&self) -> Option<Instant> {
        let liveness = self.bound.as_ref().map(|binding| binding.due());
        let explain = self.order.and_then(|_| self.explain_by());
        [
            self.meter.answer_by,
            self.next_read(),
            self.resend_at(),
            liveness,
            explain,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What must be persisted at a checkpoint.
    pub const fn record(&self) -> &BuyerRecord {
        &self.record
    }

    /// Own count over the channel.
    pub fn counted(&self) -> ByteCount {
        self.record.up.saturating_add(self.record.down)
    }

    /// Bytes used as the relay sees it: our count, and how far its own was ahead or behind when it last told us.
    pub(super) fn used(&self) -> ByteCount {
        let used = self
            .counted()
            .saturating_add(self.record.lag)
            .saturating_sub(self.record.lead);
        if self.exhausted {
            used.max(self.record.granted)
        } else {
            used
        }
    }

    /// Bytes that may still pass; [`UNLIMITED`] where the relay's owner gives them away.
    pub(super) fn left(&self) -> ByteCount {
        if self.record.granted == UNLIMITED {
            return UNLIMITED;
        }
        self.record.granted.saturating_sub(self.used())
    }

    pub(super) fn own_cost(&self) -> Msat {
        let record = &self.record;
        let stretch = record.prices.and_then(|prices| {
            prices.cost(&Quantity {
                up: record.up.saturating_sub(record.stretch_up),
                down: record.down.saturating_sub(record.stretch_down),
                seconds: seconds(record.open).saturating_sub(seconds(record.stretch_open)),
            })
        });
        record.closed_cost.saturating_add(stretch.unwrap_or(Msat::ZERO))
    }

    fn take(&mut self, now: Instant, input: BuyerInput) -> Result<(), BuyerError> {
        match input {
            BuyerInput::Offer {
                sheet_id,
                sheet,
                prices,
            } => {
                let offer = Offered {
                    sheet_id,
                    sheet,
                    prices,
                };
                self.take_offer(now, offer);
            }
            BuyerInput::Channel {
                channel,
                total,
                ceiling,
                capacity,
            } => self.take_channel(channel, total, ceiling, capacity),
            BuyerInput::Bound {
                account,
                granted,
                liveness,
            } => {
                self.take_grant(granted);
                self.catch_up(now);
                self.bound = Some(Binding {
                    account,
                    liveness,
                    signed: now,
                    counter: self.bound.map_or(0, |binding| binding.counter),
                    clock: now,
                });
                self.pending.again |= self.flight.is_some();
                self.read_meter(now);
            }
            BuyerInput::Unbound => {
                // The relay's clock goes on until it notices.
                self.away = self.bound.map(|binding| binding.clock).or(self.away);
                self.bound = None;
                (self.claim, self.offered) = (None, None);
                self.pending = Pending {
                    checkpoint: true,
                    report: true,
                    ..Pending::default()
                };
            }
            BuyerInput::Meter { read, up, down } => return self.take_meter(now, read, up, down),
            BuyerInput::MeterFailed { read } => self.take_failure(now, read),
            // Without a binding it is about one that is over, and perhaps about another channel.
            BuyerInput::Usage(_) if self.bound.is_none() => {}
            BuyerInput::Usage(claim) => {
                let read = self.read_meter(now);
                self.claim = Some((claim, read));
            }
            BuyerInput::Ack { total, granted } => return self.take_ack(total, granted),
            BuyerInput::Refused(code) => self.take_refusal(code),
            BuyerInput::PayFailed => {
                if let (Some(flight), Some(channel)) = (self.flight.take(), self.channel.as_mut()) {
                    channel.total = channel.total.saturating_sub(flight.amount);
                    if let Some(order) = self.order.as_mut() {
                        order.spent = order.spent.saturating_sub(flight.amount);
                    }
                    self.end(StopReason::PayFailed);
                }
            }
            BuyerInput::ReceiptOffered(receipt) => {
                let read = self.read_meter(now);
                self.offered = Some(Waiting {
                    receipt,
                    read,
                    acknowledged: self.record.acknowledged,
                });
            }
            BuyerInput::Buy { bytes, max } => {
                self.ended = None;
                self.order = Some(Order {
                    bytes,
                    used_before: self.used(),
                    spent: Msat::ZERO,
                    max,
                });
                self.state = BuyerState::Preparing;
                self.read_meter(now);
            }
            BuyerInput::Stop => {
                self.end(StopReason::User);
            }
            BuyerInput::Outdated => {
                // What was used and agreed to since the backup is taken from the relay once, as far as it is paid for.
                self.record.forgotten = true;
                self.record.receipt = None;
                self.pending.checkpoint = true;
            }
            BuyerInput::Timer => self.take_timer(now),
        }
        Ok(())
    }

    fn take_channel(&mut self, channel: ChannelId, total: Msat, ceiling: Msat, capacity: Msat) {
        if self.record.channel != Some(channel) {
            // The relay counts from zero over a new channel, and so do we. A channel that has paid before is one
            // whose figures we lost.
            self.record = BuyerRecord {
                channel: Some(channel),
                forgotten: total > Msat::ZERO,
                sheets: self.record.sheets,
                prices: self.record.prices,
                ..BuyerRecord::default()
            };
            self.claimed = ByteCount::ZERO;
            self.claimed_cost = Msat::ZERO;
            self.short_since = None;
            self.exhausted = false;
            self.flight = None;
            self.bound = None;
            self.returned = false;
            (self.claim, self.offered) = (None, None);
            if let Some(order) = self.order.as_mut() {
                order.used_before = ByteCount::ZERO;
            }
            self.pending.checkpoint = true;
        }
        self.channel = Some(Paying {
            channel,
            total,
            ceiling,
            capacity,
        });
    }

    fn take_refusal(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::Closing
            | ErrorCode::Expiring
            | ErrorCode::TotalTooHigh
            | ErrorCode::UnknownChannel => {
                self.flight = None;
                if let Some(channel) = self.channel.as_mut() {
                    channel.capacity = channel.total;
                }
            }
            ErrorCode::ExposureFull => {
                if let Some(channel) = self.channel.as_mut() {
                    channel.ceiling = channel.ceiling.min(channel.total);
                }
            }
            // Passing: the same payment goes again, by the new offer where prices have changed.
            ErrorCode::WrongSheet
            | ErrorCode::GateDown
            | ErrorCode::UnknownAccount
            | ErrorCode::BindingDrift
            | ErrorCode::NoLiveness
            | ErrorCode::TooFast
            | ErrorCode::OutOfOrder => {}
            code => self.end(StopReason::Refused(code)),
        }
    }

    fn take_meter(
        &mut self,
        now: Instant,
        read: u32,
        up: ByteCount,
        down: ByteCount,
    ) -> Result<(), BuyerError> {
        if read != 0 && (read <= self.meter.answered || read > self.meter.reads) {
            return Ok(());
        }
        let (Some(more_up), Some(more_down)) =
            (up.checked_sub(self.meter.up), down.checked_sub(self.meter.down))
        else {
            self.take_failure(now, read);
            return Err(BuyerError::WentBack);
        };
        let sums = self
            .record
            .up
            .checked_add(more_up)
            .zip(self.record.down.checked_add(more_down));
        let Some((sum_up, sum_down)) = sums else {
            self.take_failure(now, read);
            return Err(BuyerError::Overflow);
        };
        (self.record.up, self.record.down) = (sum_up, sum_down);
        (self.meter.up, self.meter.down) = (up, down);
        self.meter.failures = 0;
        self.meter.measure(now, self.config.read_min);
        self.pending.report |= self.order.is_some();
        if read != 0 {
            self.meter.answered = read;
            if read == self.meter.reads {
                self.meter.answer_by = None;
            }
            self.after_reading(read);
        }
        Ok(())
    }

    fn take_failure(&mut self, now: Instant, read: u32) {
        if read == 0 || read != self.meter.reads || read <= self.meter.answered {
            return;
        }
        self.meter.answered = read;
        self.meter.answer_by = None;
        self.meter.base = now;
        self.meter.base_bytes = self.meter.up.saturating_add(self.meter.down);
        self.meter.failures = self.meter.failures.saturating_add(1);
        if self.meter.failures >= self.config.read_failures && self.order.is_some() {
            self.end(StopReason::MeterDown);
        }
    }

    fn take_timer(&mut self, now: Instant) {
        if self.meter.answer_by.is_some_and(|at| now >= at) {
            self.take_failure(now, self.meter.reads);
        }
        if self.next_read().is_some_and(|at| now >= at) {
            self.read_meter(now);
        }
        if self.resend_at().is_some_and(|at| now >= at) {
            if let Some(flight) = self.flight.as_mut() {
                flight.tries = flight.tries.saturating_add(1);
                flight.sent = now;
                self.pending.again = true;
            }
        }
        if let Some(binding) = self.bound.as_mut().filter(|binding| now >= binding.due()) {
            binding.signed = now;
            binding.counter = binding.counter.wrapping_add(1);
            self.pending.liveness = true;
        }
    }

    /// Asks for a reading from now on; returns its number.
    pub(super) fn read_meter(&mut self, now: Instant) -> u32 {
        self.meter.reads = self.meter.reads.saturating_add(1);
        self.meter.answer_by = Some(now + self.config.read_timeout);
        self.pending.read = true;
        self.meter.reads
    }
}

impl Binding {
    // Three signs in the time after which the relay pauses: two may be lost.
    fn due(&self) -> Instant {
        self.signed + Duration::from_micros(self.liveness.as_micros() / 3)
    }
}

impl Meter {
    pub(super) fn waiting(&self) -> bool {
        self.answered < self.reads
    }

    fn measure(&mut self, now: Instant, read_min: Duration) {
        let time = now.since(self.base);
        if time.as_micros() >= read_min.as_micros() / 2 {
            let bytes = self.up.saturating_add(self.down);
            let passed = bytes.saturating_sub(self.base_bytes);
            self.rate = rate_of(passed, time).unwrap_or(ByteCount::ZERO);
            self.base = now;
            self.base_bytes = bytes;
        }
    }
}

/// Begun seconds.
pub(super) const fn seconds(time: Duration) -> u64 {
    time.as_micros().div_ceil(1_000_000)
}
