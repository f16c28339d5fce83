//! News, as the owner sees them.

use super::Hex;
use serde::{Deserialize, Serialize};
use turnpike_protocol::base::{BlockHeight, ByteCount, Msat, NodeId, Sat, Txid};

/// Something that happened. A program that does not know a name leaves the line out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A peer said hello on our chain.
    PeerReady {
        /// Number of the session.
        connection: u64,
        /// Who.
        peer: Hex<NodeId>,
    },
    /// A session ended.
    PeerGone {
        /// Number of the session.
        connection: u64,
        /// Who.
        peer: Hex<NodeId>,
    },
    /// A peer refused something.
    PeerProblem {
        /// Number of the session.
        connection: u64,
        /// Number of the reason on the wire.
        code: u16,
        /// The reason and what to do.
        text: String,
        /// A number that belongs to the reason.
        detail: u64,
    },
    /// A relay told what it sells.
    Offer {
        /// The relay.
        relay: Hex<NodeId>,
        /// Version of its price sheet.
        version: u32,
    },
    /// A channel was accepted and is being funded.
    Funding {
        /// The channel.
        slot: u32,
    },
    /// The funding is broadcast.
    Funded {
        /// The channel.
        slot: u32,
        /// The funding transaction.
        txid: Hex<Txid>,
        /// Its fee.
        fee_sat: Sat,
    },
    /// The wallet cannot pay for a channel.
    FundingFailed {
        /// The channel.
        slot: u32,
        /// Coins that could be spent.
        available_sat: Sat,
        /// Needed, fee included.
        needed_sat: Sat,
    },
    /// The relay takes payments in a channel.
    ChannelReady {
        /// The channel.
        slot: u32,
        /// Up to this total for now.
        ceiling_msat: Msat,
    },
    /// The channel that pays is used up.
    NeedChannel {
        /// The relay.
        relay: Hex<NodeId>,
        /// What is left to buy would cost this.
        amount_msat: Msat,
    },
    /// A relay claims more than was counted here, beyond the tolerance.
    OverClaim {
        /// The relay.
        relay: Hex<NodeId>,
        /// It claims.
        claimed_bytes: ByteCount,
        /// We counted.
        counted_bytes: ByteCount,
    },
    /// Money credited in a channel will never come.
    Lost {
        /// The channel.
        slot: u32,
        /// How much.
        amount_msat: Msat,
    },
    /// A settlement was broadcast.
    Settling {
        /// The channels that it settles.
        slots: Vec<u32>,
        /// The transaction.
        txid: Hex<Txid>,
        /// Its fee.
        fee_sat: Sat,
    },
    /// A channel costs more to settle than it brings.
    LeftOut {
        /// The channel.
        slot: u32,
        /// It would bring.
        paid_sat: Sat,
        /// It is being given up unless fees fall at once.
        last_call: bool,
    },
    /// The chain shows a channel spent.
    Spent {
        /// The channel.
        slot: u32,
        /// By this transaction.
        txid: Hex<Txid>,
        /// In this block; none while it waits for one.
        height: Option<BlockHeight>,
    },
    /// A back end refused a transaction; it is sent again with the next block.
    BroadcastRefused {
        /// The channel.
        slot: u32,
        /// The transaction.
        txid: Hex<Txid>,
        /// The back end's words, where they are known.
        text: Option<String>,
    },
    /// A peer knows a newer state of this store: it is a copy. Channels are being settled.
    CopiedStore {
        /// Who says so.
        peer: Hex<NodeId>,
    },
    /// Both sides signed a receipt.
    Receipt {
        /// The other side.
        peer: Hex<NodeId>,
        /// Its number in the channel.
        sequence: u32,
    },
    /// The chain back end speaks, or no longer.
    Chain {
        /// It speaks.
        lit: bool,
        /// The height.
        height: BlockHeight,
    },
    /// The gate can be read and set, or no longer.
    Gate {
        /// It works.
        works: bool,
    },
    /// Anything else, for people.
    Note {
        /// One line.
        text: String,
    },
}
