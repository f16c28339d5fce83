//! The client's purchase from one relay: pays window by window, counts for itself, and stops at a lie.
//!
//! What comes in: [`BuyerInput`]. What goes out: [`BuyerAction`]. What it never does: pay while a payment is not
//! acknowledged or the own meter fails, spend more than the user allowed, or believe a claim beyond the tolerance.

mod claim;
mod clock;
mod order;
mod pay;
mod state;
#[cfg(test)]
mod tests;

use super::{Prices, ReceiptError};
use crate::base::{AccountId, ByteCount, ChannelId, Duration, Msat, SheetHash};
use crate::wire::{ErrorCode, Receipt};
use serde::{Deserialize, Serialize};
pub use state::Buyer;
use thiserror::Error;

/// Settings of a purchase. The defaults are the project's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BuyerConfig {
    /// Loss between the relay's counter and ours that is believed, parts per million.
    pub loss_ppm: u32,
    /// Bytes that a claim may exceed the own count by beside that (packets under way, the start of a flow).
    pub slack: ByteCount,
    /// Seconds that a claim may exceed the own clock by.
    pub seconds_slack: u64,
    /// Traffic of this much time at least is prepaid when the next payment starts: several round trips.
    pub ahead: Duration,
    /// Shortest time between two readings of the own meter.
    pub read_min: Duration,
    /// Longest time between two readings while something is being bought.
    pub read_max: Duration,
    /// How long a reading may take before it counts as failed.
    pub read_timeout: Duration,
    /// Failed readings in a row after which the purchase stops.
    pub read_failures: u8,
    /// First wait before an unacknowledged payment is sent again; doubles up to eight times this.
    pub resend: Duration,
}

impl Default for BuyerConfig {
    fn default() -> Self {
        BuyerConfig {
            loss_ppm: 20_000,
            slack: ByteCount::new(256 << 10),
            seconds_slack: 5,
            ahead: Duration::from_millis(100),
            read_min: Duration::from_millis(20),
            read_max: Duration::from_secs(1),
            read_timeout: Duration::from_secs(2),
            read_failures: 3,
            resend: Duration::from_secs(1),
        }
    }
}

/// What a buyer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuyerInput {
    /// The relay's offer; its signature is verified and its sheet checked.
    Offer {
        /// The sheet's short name in this session.
        sheet_id: u8,
        /// The sheet.
        sheet: SheetHash,
        /// Its prices.
        prices: Prices,
    },
    /// A channel to the relay is ready, or its figures changed.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// The newest total that was signed.
        total: Msat,
        /// Totals above this are refused for now.
        ceiling: Msat,
        /// All that the channel can pay.
        capacity: Msat,
    },
    /// The relay showed a payment of ours that we do not remember: our figures are an old backup's.
    Outdated,
    /// The service account is open.
    Bound {
        /// Its short name in this session.
        account: AccountId,
        /// Bytes that may pass in all over the channel.
        granted: ByteCount,
        /// Without a sign of life for this long, service pauses.
        liveness: Duration,
    },
    /// The session or the binding is gone.
    Unbound,
    /// The own meter was read.
    Meter {
        /// The number of the read action that this answers; 0 for a reading that nobody asked for.
        read: u32,
        /// Bytes sent through the relay since this buyer was made.
        up: ByteCount,
        /// Bytes received through the relay since this buyer was made.
        down: ByteCount,
    },
    /// The own meter could not be read. That says nothing about use.
    MeterFailed {
        /// The number of the read action that this answers.
        read: u32,
    },
    /// The relay's count.
    Usage(Claim),
    /// The relay's acknowledgement.
    Ack {
        /// The newest total that it has.
        total: Msat,
        /// Bytes that may pass in all over the channel.
        granted: ByteCount,
    },
    /// The relay refused the newest payment.
    Refused(ErrorCode),
    /// The money side could not make the payment; nothing was signed.
    PayFailed,
    /// The relay offers a receipt; its signature is verified.
    ReceiptOffered(Receipt),
    /// The user buys. Bytes that are granted already count towards the order.
    Buy {
        /// How many bytes to use from now on; `None` to go on until `max` is spent.
        bytes: Option<ByteCount>,
        /// The most to spend on it.
        max: Msat,
    },
    /// The user stops. Credit is kept.
    Stop,
    /// A timeout has passed.
    Timer,
}

/// The figures of a `Usage` message: cumulative over the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Bytes from the client.
    pub up: ByteCount,
    /// Bytes to the client.
    pub down: ByteCount,
    /// Seconds of open service.
    pub seconds: u64,
    /// What all of that cost.
    pub cost: Msat,
    /// Bytes that may pass in all.
    pub granted: ByteCount,
    /// The gate has dropped a packet for want of credit.
    pub exhausted: bool,
}

/// What the shell (or the node) is to do, in order; it stops at the first that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuyerAction {
    /// Persist [`Buyer::record`] before the actions behind this one.
    Checkpoint,
    /// Read the own meter.
    ReadMeter {
        /// Number for the answer.
        read: u32,
    },
    /// Pay `amount` more.
    Pay {
        /// For this account.
        account: AccountId,
        /// By this sheet.
        sheet_id: u8,
        /// The step.
        amount: Msat,
    },
    /// Send the newest payment once more: the same total, by this sheet.
    PayAgain {
        /// For this account.
        account: AccountId,
        /// By this sheet.
        sheet_id: u8,
    },
    /// Send a sign of life.
    Liveness {
        /// For this account.
        account: AccountId,
        /// Rises by one.
        counter: u32,
    },
    /// Tell the relay that no more service is wanted for now.
    Stop {
        /// For this account.
        account: AccountId,
    },
    /// Ask the relay to sign what it claims.
    AskReceipt {
        /// For this account.
        account: AccountId,
    },
    /// Sign the offered receipt (or send the signature again), keep both signatures, answer.
    SignReceipt {
        /// The receipt's number.
        sequence: u32,
    },
    /// Do not sign the offered receipt; keep it with the relay's signature, it is what the relay claims.
    RefuseReceipt {
        /// The receipt's number.
        sequence: u32,
        /// Why.
        reason: ReceiptError,
    },
    /// The channel is used up: a new one is needed, to pay about this much more.
    NeedChannel {
        /// What is left to buy would cost this.
        amount: Msat,
    },
    /// The state of the purchase changed or went on: show [`Buyer::view`].
    Report,
}

/// How a purchase stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum BuyerState {
    /// Nothing is being bought.
    #[default]
    Idle,
    /// Waits for offer, channel and binding.
    Preparing,
    /// Pays window by window.
    Buying,
    /// All of it is paid; the rest of the granted bytes is being used.
    Paid,
    /// Everything bought was used.
    Done,
    /// The relay takes no more for now: its ceiling for this channel is reached.
    Ceiling,
    /// The channel is used up.
    ChannelUsedUp,
    /// Over before its end.
    Stopped(StopReason),
}

/// Why a purchase ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The user said so.
    User,
    /// All that the user allowed is spent.
    MaxSpent,
    /// The relay claims more than was counted here, beyond the tolerance, or charges more than agreed.
    OverClaim,
    /// The relay grants less than was paid for.
    UnderGrant,
    /// The own meter cannot be read.
    MeterDown,
    /// The money side could not pay.
    PayFailed,
    /// The relay refused.
    Refused(ErrorCode),
}

/// A purchase for displays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BuyerView {
    /// How it stands.
    pub state: BuyerState,
    /// Bytes ordered; `None` for as many as the money buys.
    pub ordered: Option<ByteCount>,
    /// Bytes used since the order, by the larger of both counts.
    pub used: ByteCount,
    /// Bytes that may still pass.
    pub left: ByteCount,
    /// Spent since the order.
    pub spent: Msat,
    /// The most to spend.
    pub max: Msat,
    /// Own count over the channel.
    pub counted: ByteCount,
    /// The relay's newest claim over the channel.
    pub claimed: ByteCount,
    /// What the own count costs, over the channel.
    pub cost: Msat,
    /// The window that is being bought.
    pub window: ByteCount,
    /// Bytes per second, by the own meter.
    pub rate: ByteCount,
}

/// The persisted part of a buyer. Write it at every checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BuyerRecord {
    /// The channel that the figures are about.
    pub channel: Option<ChannelId>,
    /// Own count, bytes sent.
    pub up: ByteCount,
    /// Own count, bytes received.
    pub down: ByteCount,
    /// Time that service was open.
    pub open: Duration,
    /// What could have passed uncounted at restarts: the rest of the grant at each.
    pub uncounted: ByteCount,
    /// Seconds that service could have been open uncounted at restarts.
    pub unseen: u64,
    /// The newest grant.
    pub granted: ByteCount,
    /// What may be granted at most once the newest payment arrived.
    pub promised: ByteCount,
    /// Earlier figures were lost: the relay's first claim is taken as it is.
    pub forgotten: bool,
    /// That has happened: the first receipt may have any number.
    pub adopted: bool,
    /// Own cost of the stretches before the present one.
    pub closed_cost: Msat,
    /// Stretches that `closed_cost` is made of.
    pub stretches: u32,
    /// What closed stretches may cost more, since they ended at another moment on the other side.
    pub turn_slack: Msat,
    /// Own figures when the present stretch began.
    pub stretch_up: ByteCount,
    /// The same, received.
    pub stretch_down: ByteCount,
    /// The same, open time.
    pub stretch_open: Duration,
    /// Prices of the present stretch.
    pub prices: Option<Prices>,
    /// How far the relay's count was ahead of ours at its last believed claim (loss on the way, restarts).
    pub lag: ByteCount,
    /// How far our count was ahead of the relay's when its gate had dropped something: what we sent and it never
    /// forwarded, which is not used and not billed.
    pub lead: ByteCount,
    /// The sheet of the present stretch, and the one before it.
    pub sheets: [Option<SheetHash>; 2],
    /// The newest receipt that was agreed to.
    pub receipt: Option<Receipt>,
    /// The newest total that the relay acknowledged.
    pub acknowledged: Msat,
}

/// Why an input was refused; nothing was paid because of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum BuyerError {
    /// A reading below an earlier one.
    #[error("the own meter went backwards: someone else touched its counters; nothing was counted from it")]
    WentBack,
    /// A counter above 64 bits.
    #[error("a counter or an amount does not fit 64 bits: nothing was counted from it")]
    Overflow,
    /// An acknowledgement above what was ever signed.
    #[error("the relay acknowledges more than was ever paid: it is faulty, nothing was changed")]
    AckTooHigh,
}
