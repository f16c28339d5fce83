//! The relay's service account of one client key: credit, use, and how far the gate is open.
//!
//! What comes in: [`AccountInput`]. What goes out: [`AccountAction`]. What it never does: grant a byte or a second
//! that was neither paid for nor given away, read a failed reading as zero use, or forget use that was checkpointed.

mod free;
mod lease;
mod reading;
mod record;
mod state;
#[cfg(test)]
mod tests;

use crate::base::limits::DEFAULT_WINDOW;
use crate::base::{ByteCount, ChannelId, Duration, Msat, SheetHash};
use crate::market::Prices;
pub use free::{FREE_PERIOD, FreeAllowance, FreeRecord, FreeUse};
pub use record::{AccountRecord, ChannelBase, EarlierChannel, GateMark, ReceiptMark, Standing};
pub use state::Account;
use thiserror::Error;

/// Settings of an account. The defaults are the project's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountConfig {
    /// A receipt is due after this many bytes or `receipt_windows` windows, whichever is more.
    pub receipt_bytes: ByteCount,
    /// See `receipt_bytes`.
    pub receipt_windows: u64,
    /// A receipt is due after this much time with use in it.
    pub receipt_every: Duration,
    /// Service pauses after this long without a sign of life (class address only).
    pub liveness: Duration,
    /// Shortest time between two readings of the gate.
    pub read_min: Duration,
    /// Longest time between two readings while there is use.
    pub read_max: Duration,
    /// After this long without use the gate is read only at a sign of life.
    pub idle_after: Duration,
    /// How long a reading may take before it counts as failed.
    pub read_timeout: Duration,
    /// Failed readings in a row after which service pauses.
    pub read_failures: u8,
    /// Free bytes asked for at once.
    pub free_lease: ByteCount,
    /// Most seconds of service set aside at once, where seconds have a price.
    pub lease_seconds: u64,
}

impl Default for AccountConfig {
    fn default() -> Self {
        AccountConfig {
            receipt_bytes: ByteCount::new(64 << 20),
            receipt_windows: 16,
            receipt_every: Duration::from_secs(60),
            liveness: Duration::from_secs(30),
            read_min: Duration::from_millis(20),
            read_max: Duration::from_secs(5),
            idle_after: Duration::from_secs(60),
            read_timeout: Duration::from_secs(2),
            read_failures: 3,
            free_lease: ByteCount::new(DEFAULT_WINDOW),
            lease_seconds: 10,
        }
    }
}

/// What an account is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccountInput {
    /// The newest total of the present channel that counts as credit. Lower than before when a funding was
    /// double-spent or reorganised away: what was used in the meantime is debt, and nothing passes until it is paid.
    Paid {
        /// Cumulative over the channel.
        total: Msat,
    },
    /// From now on this channel pays; its total starts at zero, what the one before paid stays credited.
    Channel {
        /// The channel.
        channel: ChannelId,
    },
    /// The newest total that counts of a channel that paid before the present one, or that is over. Lower than before
    /// when its money was lost: debt, as for the present one.
    Earlier {
        /// The channel.
        channel: ChannelId,
        /// Cumulative over that channel.
        total: Msat,
        /// It is over: the total stands for ever.
        over: bool,
    },
    /// Money that had counted as paid is lost for good. What that leaves of it as paid is said by the totals.
    Lost {
        /// How much.
        amount: Msat,
        /// It was too little to be collected, and still counts.
        given_up: bool,
    },
    /// A gate was made for this client: closed, counters at zero.
    Attach {
        /// Its number, from 1, never used twice for one account, not even after a restart.
        attachment: u32,
    },
    /// The binding ends (the client stopped, left or moved).
    Detach,
    /// The gate was read.
    Reading {
        /// Which gate.
        attachment: u32,
        /// The number of the read action that this answers; 0 for a reading that nobody asked for.
        read: u32,
        /// Bytes from the client that passed since the gate was attached.
        up: ByteCount,
        /// Bytes to the client that passed since the gate was attached.
        down: ByteCount,
        /// It dropped a packet for want of credit since the newest grant.
        exhausted: bool,
    },
    /// The gate could not be read. That says nothing about use. As the answer to [`AccountAction::Detach`]: it is gone,
    /// and its last reading will never be had.
    ReadFailed {
        /// Which gate.
        attachment: u32,
        /// The number of the read action that this answers.
        read: u32,
    },
    /// A sign of life over the bound address: liveness or any other message of the client.
    Liveness,
    /// A timeout has passed.
    Timer,
    /// Another price sheet is in force. What was used so far is billed at the old one.
    Sheet {
        /// The new sheet.
        sheet: SheetHash,
        /// Its prices.
        prices: Prices,
    },
    /// The owner blocks, exempts or readmits this key.
    Standing(Standing),
    /// Answer to [`AccountAction::LeaseFree`]: all that this key has leased in this period.
    FreeLease {
        /// The period.
        period: u32,
        /// Cumulative in it; unchanged when there is no more.
        leased: ByteCount,
    },
    /// A new period of the free allowance began.
    FreePeriod {
        /// Its number.
        period: u32,
    },
    /// The client wants to know what was counted: read, then [`AccountAction::Warn`].
    UsageAsked,
    /// The client wants a receipt now. It gets none where it has used nothing since the one before.
    ReceiptAsked,
    /// The client signed the receipt with this number.
    ReceiptAnswered {
        /// The receipt's number.
        sequence: u32,
    },
}

/// What the shell (or the node) is to do, in order; it stops at the first that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccountAction {
    /// Persist [`Account::record`] before the actions behind this one.
    Checkpoint,
    /// Ask the [`FreeAllowance`] for up to `want` more bytes for this key.
    LeaseFree {
        /// Bytes wanted.
        want: ByteCount,
    },
    /// Let `limit` bytes pass in all since the gate was attached, and drop the packet that would cross it. Comes again
    /// with the same limit when the gate dropped a packet too large for what is left: set the limit anew then.
    Grant {
        /// Which gate.
        attachment: u32,
        /// Bytes both ways since it was attached; `ByteCount::MAX` for no limit. Falls only for debt, a pause, a
        /// dearer sheet, or to turn money for bytes into money for seconds.
        limit: ByteCount,
    },
    /// Close the gate, read it for the last time, answer with the reading, then remove it. As long as that fails, try
    /// again; nothing is attached anew meanwhile.
    Detach {
        /// Which gate.
        attachment: u32,
        /// Number for the answer.
        read: u32,
    },
    /// Read the gate, after the grants before this action.
    ReadGate {
        /// Which gate.
        attachment: u32,
        /// Number for the answer.
        read: u32,
    },
    /// Tell the client that service stopped, and why. The gate is closed already.
    Pause(PauseReason),
    /// Tell the client that service goes on.
    Resume,
    /// Tell the client what was counted ([`Account::usage`]): it asked, or its credit runs low.
    Warn,
    /// Sign [`Account::receipt`] and offer it. With `again`, offer the stored bytes of this number once more.
    ReceiptDue {
        /// The receipt's number.
        sequence: u32,
        /// It was offered before and is not answered.
        again: bool,
    },
    /// Tell the owner: the gate went away unread, with up to this many bytes that nobody counted.
    Unread {
        /// Bytes at most.
        bytes: ByteCount,
    },
}

/// Why nothing passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PauseReason {
    /// Credit and free allowance are used up.
    NoCredit,
    /// More was used than is paid now, since money that had counted is gone.
    Debt,
    /// No sign of life; credit is kept.
    NoLiveness,
    /// The gate cannot be read.
    GateDown,
    /// The owner blocked the key.
    Blocked,
}

/// Why an input was refused. All are our own shell's faults, except that a counter may have been reset from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AccountError {
    /// A reading below an earlier one of the same gate.
    #[error(
        "the gate's counter went backwards: someone else touched the firewall table; nothing was billed from it"
    )]
    WentBack,
    /// A counter above 64 bits.
    #[error("a counter or an amount does not fit 64 bits: nothing was billed from this reading")]
    Overflow,
    /// An attachment number that was used before, or 0.
    #[error("an attachment number was used twice: number gates anew, their counters start at zero")]
    Attachment,
    /// Too many earlier channels whose money may still be lost.
    #[error(
        "too many earlier channels of this client are not settled: wait until a block has their settlements"
    )]
    Full,
}

/// The figures of a `Usage` message, counted over the present channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageFigures {
    /// Bytes from the client.
    pub up: ByteCount,
    /// Bytes to the client.
    pub down: ByteCount,
    /// Begun seconds of open, paid service.
    pub seconds: u64,
    /// What this channel has to pay for that.
    pub cost: Msat,
    /// What it paid.
    pub paid: Msat,
    /// Bytes that may pass in all, on top of what the account used before the channel.
    pub granted: ByteCount,
    /// The gate has dropped a packet for want of credit.
    pub exhausted: bool,
}
