//! What a service account must remember across a restart.

use super::free::FreeUse;
use crate::base::limits::MAX_EARLIER_CHANNELS;
use crate::base::{ByteCount, ChannelId, Duration, Msat, SheetHash};
use crate::market::{Prices, Quantity};
use serde::{Deserialize, Serialize};

/// How the relay's owner treats a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Standing {
    /// Pays like everyone.
    #[default]
    Normal,
    /// Is served for nothing and without limit.
    Exempt,
    /// Is not served; its credit is kept.
    Blocked,
}

/// The figures of the account when its present channel began to pay, so that receipts can be about one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelBase {
    /// The channel.
    pub channel: ChannelId,
    /// Bytes from the client before it.
    pub up: ByteCount,
    /// Bytes to the client before it.
    pub down: ByteCount,
    /// Open service before it.
    pub open: Duration,
    /// What the receipts of this channel count its cost from: the cost before it, or what earlier channels paid if
    /// that is more (credit that came along was paid there).
    pub cost: Msat,
    /// What it paid in all, once it is over.
    pub over: Option<Msat>,
}

/// A channel that paid before the present one and whose money may still be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EarlierChannel {
    /// The channel.
    pub channel: ChannelId,
    /// What of it counts as paid.
    pub total: Msat,
}

/// Gate counts of one attachment that are in the record already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GateMark {
    /// The attachment; 0 before the first one.
    pub attachment: u32,
    /// Bytes from the client that passed the gate since it was attached.
    pub up: ByteCount,
    /// Bytes to the client that passed the gate since it was attached.
    pub down: ByteCount,
}

impl GateMark {
    /// Bytes both ways.
    pub const fn bytes(&self) -> ByteCount {
        self.up.saturating_add(self.down)
    }
}

/// Where the receipts of the present channel stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReceiptMark {
    /// Number of the newest receipt, 0 before the first.
    pub sequence: u32,
    /// The client has not answered that one yet; no new one is made before it does.
    pub open: bool,
    /// Bytes both ways on the account when it was made.
    pub bytes: ByteCount,
}

/// The persisted part of an account. Write it at every checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Bytes from the client, over the life of the account.
    pub up: ByteCount,
    /// Bytes to the client, over the life of the account.
    pub down: ByteCount,
    /// Time that paid service was open, over the life of the account.
    pub open: Duration,
    /// Cost of all stretches before the present one: fixed.
    pub closed_cost: Msat,
    /// The sheet of the present stretch.
    pub sheet: SheetHash,
    /// Its prices.
    pub prices: Prices,
    /// Bytes of the present stretch that are billed (free and exempt ones are not).
    pub stretch_up: ByteCount,
    /// The same towards the client.
    pub stretch_down: ByteCount,
    /// Open time of the present stretch.
    pub stretch_open: Duration,
    /// What earlier channels paid in all, as far as it counts.
    pub paid_before: Msat,
    /// Those of them that are not settled deep.
    pub earlier: [Option<EarlierChannel>; MAX_EARLIER_CHANNELS],
    /// Money that counted as paid and never came, or went back to the client: what was used for it is debt.
    pub lost: Msat,
    /// Money that still counts as paid, although collecting it would have cost more than it brings.
    pub given_up: Msat,
    /// The channel that pays now.
    pub channel: Option<ChannelBase>,
    /// Free allowance.
    pub free: FreeUse,
    /// Receipts.
    pub receipt: ReceiptMark,
    /// Gate counts.
    pub gate: GateMark,
    /// The owner's decision about this key.
    pub standing: Standing,
}

impl AccountRecord {
    /// A new account under a sheet.
    pub fn new(sheet: SheetHash, prices: Prices) -> Self {
        AccountRecord {
            up: ByteCount::ZERO,
            down: ByteCount::ZERO,
            open: Duration::ZERO,
            closed_cost: Msat::ZERO,
            sheet,
            prices,
            stretch_up: ByteCount::ZERO,
            stretch_down: ByteCount::ZERO,
            stretch_open: Duration::ZERO,
            paid_before: Msat::ZERO,
            earlier: [None; MAX_EARLIER_CHANNELS],
            lost: Msat::ZERO,
            given_up: Msat::ZERO,
            channel: None,
            free: FreeUse::default(),
            receipt: ReceiptMark::default(),
            gate: GateMark::default(),
            standing: Standing::Normal,
        }
    }

    /// Bytes both ways, over the life of the account.
    pub const fn bytes(&self) -> ByteCount {
        self.up.saturating_add(self.down)
    }

    /// What is billed in the present stretch, with `seconds` of open service.
    pub const fn billed(&self, seconds: u64) -> Quantity {
        Quantity {
            up: self.stretch_up,
            down: self.stretch_down,
            seconds,
        }
    }

    /// Begun seconds of the present stretch.
    pub const fn stretch_seconds(&self) -> u64 {
        self.stretch_open.as_micros().div_ceil(1_000_000)
    }

    /// What everything so far cost. A cost beyond 64 bits stands at their largest value, which no payment reaches:
    /// service stops.
    pub fn cost(&self) -> Msat {
        self.prices
            .cost(&self.billed(self.stretch_seconds()))
            .and_then(|cost| cost.checked_add(self.closed_cost))
            .unwrap_or(Msat::MAX)
    }

    /// Adds bytes that passed the gate. Free bytes are taken from the dearer direction first. `None` when a counter
    /// would overflow; then nothing is changed.
    pub(super) fn add(&mut self, up: ByteCount, down: ByteCount) -> Option<()> {
        let mut next = *self;
        next.up = self.up.checked_add(up)?;
        next.down = self.down.checked_add(down)?;
        next.gate.up = self.gate.up.checked_add(up)?;
        next.gate.down = self.gate.down.checked_add(down)?;
        if self.standing != Standing::Exempt {
            let sheet = self.prices.sheet();
            let (free_up, free_down) = if sheet.up > sheet.down {
                let free_up = up.min(self.free.left);
                (free_up, down.min(self.free.left.checked_sub(free_up)?))
            } else {
                let free_down = down.min(self.free.left);
                (up.min(self.free.left.checked_sub(free_down)?), free_down)
            };
            next.free.left = self.free.left.checked_sub(free_up)?.checked_sub(free_down)?;
            next.stretch_up = self.stretch_up.checked_add(up.checked_sub(free_up)?)?;
            next.stretch_down = self.stretch_down.checked_add(down.checked_sub(free_down)?)?;
        }
        *self = next;
        Some(())
    }

    /// Ends the stretch: what it cost is fixed, and a new one begins under another sheet.
    pub(super) fn turn(&mut self, sheet: SheetHash, prices: Prices) {
        self.closed_cost = self.cost();
        self.stretch_up = ByteCount::ZERO;
        self.stretch_down = ByteCount::ZERO;
        self.stretch_open = Duration::ZERO;
        self.sheet = sheet;
        self.prices = prices;
    }
}
