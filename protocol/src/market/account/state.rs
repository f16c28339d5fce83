//! The account's public face: inputs, actions, timeouts, and the figures that others ask for.

use super::reading::Gate;
use super::{
    AccountAction, AccountConfig, AccountError, AccountInput, AccountRecord, ChannelBase, EarlierChannel,
    PauseReason, ReceiptMark, Standing, UsageFigures,
};
use crate::base::{BlockHeight, ByteCount, ChannelId, Duration, Instant, Msat, NodeId, SheetHash};
use crate::market::{Prices, UNLIMITED};
use crate::wire::{BindingClass, Receipt};

/// One client's account on the relay.
///
/// Call order: [`Account::restore`], then any number of [`handle`](Account::handle); after each, drain
/// [`poll_action`](Account::poll_action) and ask [`next_timeout`](Account::next_timeout), at which
/// [`AccountInput::Timer`] is due. The money side tells the paid total before the gate is attached.
#[derive(Clone, Debug)]
pub struct Account {
    pub(super) config: AccountConfig,
    pub(super) record: AccountRecord,
    /// Total of the present channel.
    pub(super) paid: Msat,
    /// What payments buy at a time; bounds the use that is not checkpointed.
    pub(super) window: ByteCount,
    pub(super) gate: Option<Gate>,
    /// Waits until the gate before it has been read for the last time.
    pub(super) next_attachment: Option<u32>,
    pub(super) turn: Option<Turn>,
    /// Seconds of the present stretch that are set aside, those gone included.
    pub(super) leased: u64,
    /// Paid service is open since then (already counted up to then).
    pub(super) clock: Option<Instant>,
    pub(super) saved_bytes: ByteCount,
    pub(super) saved_open: Duration,
    pub(super) saved_cost: Msat,
    pub(super) sign: Instant,
    /// The newest sign of life is too old.
    pub(super) dead: bool,
    pub(super) receipt_at: Instant,
    pub(super) paused: Option<PauseReason>,
    pub(super) low: bool,
    pub(super) usage_asked: bool,
    pub(super) receipt_asked: bool,
    pub(super) free_asked: bool,
    pub(super) free_gone: Option<u32>,
    pub(super) pending: Pending,
}

/// A change that waits until the gate was read, so that what passed before it is billed as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub sheet: Option<(SheetHash, Prices)>,
    pub standing: Option<Standing>,
    pub read: u32,
}

/// Actions that wait to be polled. Each is a fact about now, so a later one replaces an earlier one of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pending {
    pub checkpoint: bool,
    pub lease_free: bool,
    pub grant: bool,
    pub detach: Option<(u32, u32)>,
    pub read: bool,
    pub pause: Option<Option<PauseReason>>,
    pub warn: bool,
    pub receipt: Option<bool>,
    pub unread: Option<ByteCount>,
}

impl Account {
    /// Goes on from a persisted record ([`AccountRecord::new`] for a new key). Nothing is attached yet and nothing is
    /// paid until the money side says so.
    pub fn restore(config: AccountConfig, record: AccountRecord, now: Instant) -> Self {
        Account {
            config,
            paid: record.channel.and_then(|base| base.over).unwrap_or(Msat::ZERO),
            window: record.prices.default_window(ByteCount::ZERO),
            gate: None,
            next_attachment: None,
            turn: None,
            leased: record.stretch_seconds(),
            clock: None,
            saved_bytes: record.bytes(),
            saved_open: record.open,
            saved_cost: record.cost(),
            sign: now,
            dead: false,
            receipt_at: now,
            paused: None,
            low: false,
            usage_asked: false,
            receipt_asked: false,
            free_asked: false,
            free_gone: None,
            pending: Pending::default(),
            record,
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`AccountError`]: the input was refused, no money was counted from it; credit and use stand as before.
    pub fn handle(&mut self, now: Instant, input: AccountInput) -> Result<(), AccountError> {
        self.run_clock(now);
        let result = self.take(now, input);
        self.settle(now);
        result
    }

    /// The next thing to do. Checkpoints come first: what follows may rest on them.
    pub fn poll_action(&mut self) -> Option<AccountAction> {
        let pending = &mut self.pending;
        if core::mem::take(&mut pending.checkpoint) {
            return Some(AccountAction::Checkpoint);
        }
        if core::mem::take(&mut pending.lease_free) {
            return Some(AccountAction::LeaseFree {
                want: self.config.free_lease,
            });
        }
        if let Some(gate) = &self.gate {
            if core::mem::take(&mut pending.grant) {
                return Some(AccountAction::Grant {
                    attachment: gate.attachment,
                    limit: gate.limit,
                });
            }
        }
        if let Some((attachment, read)) = pending.detach.take() {
            return Some(AccountAction::Detach { attachment, read });
        }
        if let Some(gate) = &self.gate {
            if core::mem::take(&mut pending.read) {
                return Some(AccountAction::ReadGate {
                    attachment: gate.attachment,
                    read: gate.reads,
                });
            }
        }
        if let Some(pause) = pending.pause.take() {
            return Some(pause.map_or(AccountAction::Resume, AccountAction::Pause));
        }
        if core::mem::take(&mut pending.warn) {
            return Some(AccountAction::Warn);
        }
        if let Some(again) = pending.receipt.take() {
            return Some(AccountAction::ReceiptDue {
                sequence: self.record.receipt.sequence,
                again,
            });
        }
        let bytes = pending.unread.take()?;
        Some(AccountAction::Unread { bytes })
    }

    /// When [`AccountInput::Timer`] is due; `None` while there is nothing to wait for.
    pub fn next_timeout(&self) -> Option<Instant> {
        let gate = self.gate.as_ref()?;
        let liveness = (self.live_class() && !self.dead && gate.closing.is_none())
            .then(|| self.sign + self.config.liveness);
        [gate.answer_by, self.next_read(gate), self.lease_end(), liveness]
            .into_iter()
            .flatten()
            .min()
    }

    /// How the owner wants this client to be served, also where a reading of the gate still stands before it.
    pub fn standing(&self) -> Standing {
        self.turn
            .and_then(|turn| turn.standing)
            .unwrap_or(self.record.standing)
    }

    /// What must be persisted at a checkpoint.
    pub const fn record(&self) -> &AccountRecord {
        &self.record
    }

    /// Whether this channel can pay from now on: it pays already, or the one before can be remembered until its money
    /// is safe.
    pub fn has_place_for(&self, channel: ChannelId) -> bool {
        let present = self.record.channel.filter(|base| base.over.is_none());
        present.is_none_or(|present| present.channel == channel)
            || self.record.earlier.iter().any(Option::is_none)
    }

    /// The gate that is attached, if any.
    pub fn attachment(&self) -> Option<u32> {
        self.gate.as_ref().map(|gate| gate.attachment)
    }

    /// The gate is being closed: its last reading is waited for.
    pub fn is_closing(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.closing.is_some())
    }

    /// Why nothing passes, while something is attached.
    pub const fn paused(&self) -> Option<PauseReason> {
        self.paused
    }

    /// Everything paid, by all channels; saturates.
    pub const fn paid_total(&self) -> Msat {
        self.record.paid_before.saturating_add(self.paid)
    }

    /// What was used beyond what is paid.
    pub fn debt(&self) -> Msat {
        self.record.cost().saturating_sub(self.paid_total())
    }

    /// Credit left at the last reading.
    pub fn credit(&self) -> Msat {
        self.paid_total().saturating_sub(self.record.cost())
    }

    /// Cost of the use that a power cut now would forget.
    pub fn unsaved_cost(&self) -> Msat {
        self.record.cost().saturating_sub(self.saved_cost)
    }

    /// The window that payments of this client buy, and the rate of the last readings, in bytes per second.
    pub fn window_and_rate(&self) -> (ByteCount, ByteCount) {
        let rate = self.gate.as_ref().map_or(0, |gate| gate.rate);
        (self.window, ByteCount::new(rate))
    }

    /// The figures for a `Usage` message and for a payment's acknowledgement, with the open time up to `now`.
    pub fn usage(&self, now: Instant) -> UsageFigures {
        let mut at = self.clone();
        at.run_clock(now);
        at.figures()
    }

    fn figures(&self) -> UsageFigures {
        let (up, down, open, cost) = match &self.record.channel {
            Some(base) => (base.up, base.down, base.open, base.cost),
            None => (ByteCount::ZERO, ByteCount::ZERO, Duration::ZERO, Msat::ZERO),
        };
        let up = self.record.up.saturating_sub(up);
        let down = self.record.down.saturating_sub(down);
        let granted = match self.room() {
            UNLIMITED => UNLIMITED,
            room => up.saturating_add(down).saturating_add(room),
        };
        UsageFigures {
            up,
            down,
            seconds: self
                .record
                .open
                .as_micros()
                .saturating_sub(open.as_micros())
                .div_ceil(1_000_000),
            cost: self.record.cost().saturating_sub(cost),
            paid: self.paid,
            granted,
            exhausted: self.gate.as_ref().is_some_and(|gate| gate.exhausted),
        }
    }

    /// The receipt that [`AccountAction::ReceiptDue`] asks for, to be signed by the relay. `None` before a channel.
    pub fn receipt(&self, relay: NodeId, client: NodeId, height: BlockHeight) -> Option<Receipt> {
        let base = self.record.channel.as_ref()?;
        let usage = self.figures();
        Some(Receipt {
            relay,
            client,
            channel: base.channel,
            sequence: self.record.receipt.sequence,
            sheet: self.record.sheet,
            height,
            up: usage.up,
            down: usage.down,
            seconds: usage.seconds,
            cost: usage.cost,
            paid: usage.paid,
        })
    }

    fn take(&mut self, now: Instant, input: AccountInput) -> Result<(), AccountError> {
        match input {
            AccountInput::Paid { total } => self.take_paid(now, total),
            AccountInput::Channel { channel } => return self.take_channel(channel),
            AccountInput::Earlier { channel, total, over } => self.take_earlier(channel, total, over),
            AccountInput::Lost { amount, given_up } => {
                let record = &mut self.record;
                let sum = if given_up {
                    &mut record.given_up
                } else {
                    &mut record.lost
                };
                *sum = sum.saturating_add(amount);
                self.checkpoint();
            }
            AccountInput::Attach { attachment } => return self.attach(now, attachment),
            AccountInput::Detach => {
                self.next_attachment = None;
                self.close();
            }
            AccountInput::Reading {
                attachment,
                read,
                up,
                down,
                exhausted,
            } => return self.take_reading(now, attachment, read, (up, down), exhausted),
            AccountInput::ReadFailed { attachment, read } => self.take_failure(now, attachment, read),
            AccountInput::Liveness => self.sign_of_life(now),
            AccountInput::Timer => self.take_timer(now),
            AccountInput::Sheet { sheet, prices } => {
                let newest = self.turn.and_then(|turn| turn.sheet);
                if newest.map_or(self.record.sheet, |(newest, _)| newest) != sheet {
                    self.begin_turn(now, Some((sheet, prices)), None);
                }
            }
            AccountInput::Standing(standing) => {
                if self.standing() != standing {
                    self.begin_turn(now, None, Some(standing));
                }
            }
            AccountInput::FreeLease { period, leased } => self.take_free(period, leased),
            AccountInput::FreePeriod { period } => {
                if period > self.record.free.period {
                    self.record.free.period = period;
                    self.record.free.leased = self.record.free.left;
                    self.free_gone = None;
                }
            }
            AccountInput::UsageAsked => {
                self.usage_asked = true;
                self.read_or_answer(now);
            }
            AccountInput::ReceiptAsked => {
                self.receipt_asked = true;
                self.read_or_answer(now);
            }
            AccountInput::ReceiptAnswered { sequence } => {
                if sequence == self.record.receipt.sequence && self.record.receipt.open {
                    self.record.receipt.open = false;
                    self.checkpoint();
                }
            }
        }
        Ok(())
    }

    fn take_channel(&mut self, channel: ChannelId) -> Result<(), AccountError> {
        let present = self.record.channel.map(|base| base.channel);
        if present == Some(channel) {
            return Ok(());
        }
        // Of one that paid before the present one, the money moves along: it is counted under one name, once.
        let back = self
            .record
            .earlier
            .iter()
            .position(|e| e.is_some_and(|e| e.channel == channel));
        let taken = |at: usize| self.record.earlier.get(at).copied().flatten();
        let returned = back.and_then(taken).map_or(Msat::ZERO, |e| e.total);
        let paid = self.record.paid_before.checked_add(self.paid);
        let paid = paid.ok_or(AccountError::Overflow)?.saturating_sub(returned);
        if let Some(place) = back.and_then(|at| self.record.earlier.get_mut(at)) {
            *place = None;
        }
        // What an earlier channel paid may still be lost, unless it is over.
        if let Some(channel) = present.filter(|_| self.record.channel.is_some_and(|base| base.over.is_none()))
        {
            let free = self.record.earlier.iter_mut().find(|e| e.is_none());
            *free.ok_or(AccountError::Full)? = Some(EarlierChannel {
                channel,
                total: self.paid,
            });
        }
        self.record.paid_before = paid;
        self.paid = returned;
        self.record.channel = Some(ChannelBase {
            channel,
            up: self.record.up,
            down: self.record.down,
            open: self.record.open,
            cost: self.record.cost().max(self.record.paid_before),
            over: None,
        });
        self.record.receipt = ReceiptMark {
            bytes: self.record.bytes(),
            ..ReceiptMark::default()
        };
        self.checkpoint();
        Ok(())
    }

    fn take_earlier(&mut self, channel: ChannelId, total: Msat, over: bool) {
        let record = &mut self.record;
        if let Some(base) = record.channel.as_mut().filter(|base| base.channel == channel) {
            self.paid = total;
            base.over = over.then_some(total);
            return self.checkpoint();
        }
        let known = |e: &EarlierChannel| e.channel == channel;
        let Some(place) = record.earlier.iter_mut().find(|e| e.as_ref().is_some_and(known)) else {
            return;
        };
        let counted = place.map_or(Msat::ZERO, |e| e.total);
        *place = (!over).then_some(EarlierChannel { channel, total });
        let rest = record.paid_before.saturating_sub(counted);
        record.paid_before = rest.saturating_add(total);
        if counted != total || over {
            self.checkpoint();
        }
    }

    fn take_paid(&mut self, now: Instant, total: Msat) {
        if let Some(step) = total.checked_sub(self.paid).filter(|step| *step > Msat::ZERO) {
            let bytes = self.record.prices.room(step, &crate::market::Quantity::default());
            // It shrinks slowly, so that the small rest of an order does not throttle the large window before it.
            let half = ByteCount::new(self.window.value() / 2);
            let bytes = bytes.unwrap_or(ByteCount::ZERO).max(half);
            self.window = self.record.prices.clamp_window(bytes);
            self.paid = total;
            self.sign_of_life(now);
        }
        self.paid = total;
    }

    fn take_free(&mut self, period: u32, leased: ByteCount) {
        self.free_asked = false;
        let free = &mut self.record.free;
        if period < free.period {
            // An answer about a period that is over: nothing more is asked for before the next one.
            self.free_gone = Some(free.period);
            return;
        }
        if period > free.period {
            (free.period, free.leased) = (period, free.left);
        }
        match leased
            .checked_sub(free.leased)
            .filter(|more| *more > ByteCount::ZERO)
        {
            Some(more) => {
                free.leased = leased;
                free.left = free.left.saturating_add(more);
                self.checkpoint();
            }
            None => self.free_gone = Some(period),
        }
    }

    pub(super) fn checkpoint(&mut self) {
        self.pending.checkpoint = true;
        self.saved_bytes = self.record.bytes();
        self.saved_open = self.record.open;
        self.saved_cost = self.record.cost();
    }

    pub(super) fn live_class(&self) -> bool {
        self.record.prices.class() == BindingClass::Address
    }
}
