//! What is told while a request goes on.

use super::{Channel, Discovered, Event, Hex};
use serde::{Deserialize, Serialize};
use turnpike_protocol::base::{ByteCount, Msat, NodeId};
use turnpike_protocol::market::{BuyerState, BuyerView, StopReason};

/// One step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// What is being done now, for people.
    Step {
        /// Without a full stop.
        text: String,
    },
    /// A relay was found.
    Relay(Discovered),
    /// A channel changed.
    Channel(Channel),
    /// A purchase went on.
    Purchase(Purchase),
    /// Something happened.
    Event(Event),
    /// So many lines were left out, since this reader was too slow.
    Missed {
        /// How many.
        lines: u64,
    },
}

/// A purchase at one relay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purchase {
    /// The relay.
    pub relay: Hex<NodeId>,
    /// How it stands.
    pub state: PurchaseState,
    /// Why it ended, with state `stopped`.
    pub cause: Option<StopCause>,
    /// The relay's reason, with cause `refused`.
    pub refusal: Option<String>,
    /// Bytes ordered; none for as many as the money buys.
    pub ordered_bytes: Option<ByteCount>,
    /// Bytes used since the order, by the own meter.
    pub used_bytes: ByteCount,
    /// Bytes that may still pass.
    pub left_bytes: ByteCount,
    /// Spent since the order.
    pub spent_msat: Msat,
    /// The most to spend.
    pub max_msat: Msat,
    /// Own count over the channel.
    pub counted_bytes: ByteCount,
    /// The relay's newest claim over the channel.
    pub claimed_bytes: ByteCount,
    /// What the own count costs, over the channel.
    pub cost_msat: Msat,
    /// The window that is being bought.
    pub window_bytes: ByteCount,
    /// By the own meter.
    pub bytes_per_second: ByteCount,
}

/// How a purchase stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseState {
    /// Nothing is being bought.
    Idle,
    /// Waits for offer, channel and binding.
    Preparing,
    /// Pays window by window.
    Buying,
    /// All of it is paid, not all of it used.
    Paid,
    /// Everything bought was used.
    Done,
    /// The relay takes no more in this channel for now.
    Ceiling,
    /// The channel is used up.
    ChannelUsedUp,
    /// Over before its end.
    Stopped,
}

/// Why a purchase ended before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// The owner said so.
    User,
    /// All that the owner allowed is spent.
    MaxSpent,
    /// The relay claims more than was counted, beyond the tolerance.
    OverClaim,
    /// The relay grants less than was paid for.
    UnderGrant,
    /// The own meter cannot be read.
    MeterDown,
    /// The payment could not be made.
    PayFailed,
    /// The relay refused.
    Refused,
    /// A reason that this program does not know.
    Other,
}
impl Purchase {
    /// A buyer's view, as it is shown.
    pub fn new(relay: NodeId, view: &BuyerView) -> Purchase {
        let (state, cause, refusal) = match view.state {
            BuyerState::Idle => (PurchaseState::Idle, None, None),
            BuyerState::Preparing => (PurchaseState::Preparing, None, None),
            BuyerState::Buying => (PurchaseState::Buying, None, None),
            BuyerState::Paid => (PurchaseState::Paid, None, None),
            BuyerState::Done => (PurchaseState::Done, None, None),
            BuyerState::Ceiling => (PurchaseState::Ceiling, None, None),
            BuyerState::ChannelUsedUp => (PurchaseState::ChannelUsedUp, None, None),
            BuyerState::Stopped(reason) => {
                let (cause, refusal) = match reason {
                    StopReason::User => (StopCause::User, None),
                    StopReason::MaxSpent => (StopCause::MaxSpent, None),
                    StopReason::OverClaim => (StopCause::OverClaim, None),
                    StopReason::UnderGrant => (StopCause::UnderGrant, None),
                    StopReason::MeterDown => (StopCause::MeterDown, None),
                    StopReason::PayFailed => (StopCause::PayFailed, None),
                    StopReason::Refused(code) => (StopCause::Refused, Some(code.text().to_owned())),
                    _ => (StopCause::Other, None),
                };
                (PurchaseState::Stopped, Some(cause), refusal)
            }
            _ => (PurchaseState::Preparing, None, None),
        };
        Purchase {
            relay: Hex(relay),
            state,
            cause,
            refusal,
            ordered_bytes: view.ordered,
            used_bytes: view.used,
            left_bytes: view.left,
            spent_msat: view.spent,
            max_msat: view.max,
            counted_bytes: view.counted,
            claimed_bytes: view.claimed,
            cost_msat: view.cost,
            window_bytes: view.window,
            bytes_per_second: view.rate,
        }
    }
}
