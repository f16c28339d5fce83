//! The market: what bytes cost, what was used, who may pass, and what either side would lose.
//!
//! What comes in: checked price sheets, cumulative totals that the money side vouches for, readings of the gate and
//! of the own meter, the other side's claims, the user's commands. What goes out: grants to the gate, payments to
//! make, what must be persisted, warnings, receipts to sign. What it never does: sign, send, touch the gate or the
//! store, or look at a channel; those are actions, answered later.
//!
//! The relay runs one [`Account`] per client key, the client one [`Buyer`] per relay. Both are prepaid by the window:
//! no byte passes that was not paid for or given away, and neither side has more at stake than a window.
//!
//! Spec page: `protocol/spec/market.md`.

mod account;
mod buyer;
mod exposure;
mod price;
mod receipt;

pub use account::{
    Account, AccountAction, AccountConfig, AccountError, AccountInput, AccountRecord, ChannelBase,
    FREE_PERIOD, FreeAllowance, FreeRecord, FreeUse, GateMark, PauseReason, ReceiptMark, Standing,
    UsageFigures,
};
pub use buyer::{
    Buyer, BuyerAction, BuyerConfig, BuyerError, BuyerInput, BuyerRecord, BuyerState, BuyerView, Claim,
    StopReason,
};
pub use exposure::{Exposure, WindowView};
pub use price::{MIB, Overhead, Prices, Quantity, SheetError, UNLIMITED, overhead_ppm, rate_of, time_for};
pub use receipt::{Expected, ReceiptError, SignedReceipt, receipt_digest};

#[cfg(test)]
mod tests;
