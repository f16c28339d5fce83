//! What channels and the chain tell each other. The shell carries these between the node and a chain back end.

use crate::base::{BlockHeight, FeeRate, Outpoint, Sat, Slot, Txid};
use alloc::vec::Vec;

/// What the chain back end reports. Reports are repeated after a restart or a reconnect and must be idempotent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChainEvent {
    /// The best chain's tip. Sent after all sightings of that block.
    Tip {
        /// Height of the tip.
        height: BlockHeight,
    },
    /// Blocks above `height` left the best chain: every sighting above it is void until reported again.
    Reorg {
        /// The last height that both chains share.
        height: BlockHeight,
    },
    /// The back end cannot be reached: heights are a minimum from now on, until the next [`ChainEvent::Tip`].
    Dark,
    /// What a transaction costs now, for confirmation within about six blocks.
    FeeRate {
        /// The estimate.
        rate: FeeRate,
    },
    /// An output that pays a watched script was seen.
    Funded {
        /// The watching channel.
        slot: Slot,
        /// The output.
        outpoint: Outpoint,
        /// Its value.
        value: Sat,
        /// Height of its block, or `None` while it is in the mempool only.
        height: Option<BlockHeight>,
    },
    /// An unconfirmed funding left the mempool without entering a block (replaced, expired or reorganised away).
    Unfunded {
        /// The watching channel.
        slot: Slot,
        /// The output that is gone.
        outpoint: Outpoint,
    },
    /// A watched output was spent.
    Spent {
        /// The watching channel.
        slot: Slot,
        /// The watched output.
        outpoint: Outpoint,
        /// The spending transaction.
        txid: Txid,
        /// The spending transaction, raw: the payer finds its remainder in it.
        tx: Vec<u8>,
        /// Height of its block, or `None` while it is in the mempool only.
        height: Option<BlockHeight>,
    },
    /// A block's transaction carries what may be recovery data of this seed (money.md rule 3).
    Recovery {
        /// The transaction, raw.
        tx: Vec<u8>,
        /// Height of its block.
        height: BlockHeight,
    },
    /// Answer to [`ChainAction::Fund`]: a signed transaction, not yet broadcast, its coins reserved.
    FundingBuilt {
        /// The channel to be funded.
        slot: Slot,
        /// The channel's output in it.
        outpoint: Outpoint,
        /// The fee it pays.
        fee: Sat,
        /// The raw transaction.
        tx: Vec<u8>,
    },
    /// Answer to [`ChainAction::Fund`] when the wallet cannot pay: nothing was reserved.
    FundingFailed {
        /// The channel that stays unfunded.
        slot: Slot,
        /// Confirmed coins that the wallet has.
        available: Sat,
        /// Coins that would have been needed, fee included.
        needed: Sat,
    },
    /// Answer to [`ChainAction::Broadcast`].
    Broadcast {
        /// The channel on whose behalf it was sent.
        slot: Slot,
        /// The transaction.
        txid: Txid,
        /// Whether the back end has it in its mempool or chain now.
        accepted: bool,
    },
}

/// What channels ask of the chain back end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChainAction {
    /// Report outputs paying this taproot output key, and their spends, from block `from` on.
    Watch {
        /// The watching channel.
        slot: Slot,
        /// BIP341 output key (x-only) of the channel's funding output.
        output_key: [u8; 32],
        /// First block that can hold the funding.
        from: BlockHeight,
    },
    /// The channel is over: forget its script.
    Unwatch {
        /// The channel.
        slot: Slot,
    },
    /// Build and sign, but do not broadcast, a funding transaction from wallet coins.
    Fund {
        /// The channel.
        slot: Slot,
        /// BIP341 output key (x-only) to pay.
        output_key: [u8; 32],
        /// Capacity.
        value: Sat,
        /// Fee rate to pay.
        rate: FeeRate,
        /// Recovery data in the clear: payee key 32, expiry height 4 (LE), key index 4 (LE). The wallet seals it
        /// under the seed with the first input's outpoint and puts it into the OP_RETURN (money.md rule 3).
        recovery: [u8; 40],
    },
    /// Send a transaction; sending it again is harmless.
    Broadcast {
        /// The channel on whose behalf it is sent.
        slot: Slot,
        /// The raw transaction.
        tx: Vec<u8>,
    },
}
