//! The node: composes money, market and talk; the only place where they meet.
//!
//! What comes in: frames of authenticated peers, chain events, gate and meter readings, the owner's commands, timers.
//! What goes out: [`Action`]s in the order in which they must be done; a `Persist` is durable before anything that
//! follows it is done. What it never does: read a clock, sign before the persist that covers it, or trust a number
//! that a peer sent.
//!
//! Call order: [`Node::load`] once; then [`Node::handle`] for each input, [`Node::poll_action`] until it is empty, and
//! [`Node::handle`] with [`Input::Tick`] when [`Node::next_timeout`] has come. Inputs that are ready together may be
//! handled together before the actions are drained: the shell then commits once for all of them.
//! Spec page: `protocol/spec/node.md`.

mod account;
mod chain;
mod client;
mod command;
mod detach;
pub mod history;
mod load;
mod opening;
mod peer;
mod purchase;
pub mod record;
mod relay;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod view;

pub use command::{Command, CommandError};
pub use load::Rows;
pub use view::{AccountView, BuyerView, ChannelView, ExposureView, NodeView, Role, SoldView, read_sheet};

use crate::base::{
    AccountId, BlockHeight, ByteCount, ConnectionId, FeeRate, GenesisHash, Instant, Msat, NodeId, Sat, Slot,
    Txid,
};
use crate::crypto::{Keys, Verifier};
use crate::market::{AccountConfig, BuyerConfig, FreeAllowance, Prices};
use crate::money::chain::{ChainAction, ChainEvent};
use crate::money::channel::{Payee, PayeePolicy, Payer, Settler};
use crate::money::headers::MinimumHeight;
use crate::wire::{ErrorCode, Message, PriceSheet, Signature, write_frame};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use bitcoin::ScriptBuf;
use history::HistoryRecord;
use peer::Peer;
use purchase::Buying;
use record::{Meta, PeerRecord, Write};
use service::Client;

/// What a node is told once, at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain that all channels live on.
    pub genesis: GenesisHash,
    /// Script of this node's own wallet: settlements, refunds and remainders go there.
    pub payout: ScriptBuf,
    /// Sell to others.
    pub relay: Option<RelayConfig>,
    /// Bounds of buying.
    pub buyer: BuyerConfig,
    /// A block known to be in the chain, from which headers count (money.md rule 15).
    pub minimum: Option<MinimumHeight>,
}

/// How a relay sells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayConfig {
    /// Which channels are taken.
    pub policy: PayeePolicy,
    /// Prices; version and expiry are set by the node.
    pub sheet: PriceSheet,
    /// Stretches, liveness and reading intervals.
    pub account: AccountConfig,
    /// Free bytes for all keys together, per 24 hours.
    pub free_total: ByteCount,
}

/// A device on the guest link as the shell found it in the kernel's tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateReading {
    /// Which attachment.
    pub client: u16,
    /// Bytes from the client since it was attached, behind the quota.
    pub up: ByteCount,
    /// Bytes to the client since it was attached, behind the quota.
    pub down: ByteCount,
    /// The quota dropped something.
    pub exhausted: bool,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// A session was established; the peer's key is authenticated.
    Connected {
        /// Its number.
        connection: ConnectionId,
        /// Who it is.
        peer: NodeId,
    },
    /// A decrypted frame.
    Frame {
        /// From where.
        connection: ConnectionId,
        /// Version byte, kind, body.
        frame: &'a [u8],
    },
    /// The session is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// News from the chain.
    Chain(ChainEvent),
    /// Answer to [`Action::Attach`].
    Attached {
        /// Which attachment.
        client: u16,
        /// The gate knows it now; otherwise why not.
        result: Result<(), ErrorCode>,
    },
    /// Answer to [`Action::ReadGate`]: every attachment.
    GateReadings {
        /// The readings.
        readings: &'a [GateReading],
    },
    /// Answer to [`Action::Detach`]: it is closed.
    Detached {
        /// Which attachment.
        client: u16,
        /// Its last reading; `None` only if the kernel knows nothing of it any more.
        last: Option<GateReading>,
    },
    /// Answer to [`Action::Detach`]: it could not be closed or read, and may still let packets pass.
    DetachFailed {
        /// Which attachment.
        client: u16,
    },
    /// The gate could not be read or set.
    GateFailed,
    /// The gate works again.
    GateRestored,
    /// Packets with this attachment's addresses come from elsewhere.
    Drift {
        /// Which attachment.
        client: u16,
    },
    /// Answer to [`Action::ReadMeter`]: what went through this client's own link.
    MeterReading {
        /// Bytes sent since the meter was installed.
        up: ByteCount,
        /// Bytes received since the meter was installed.
        down: ByteCount,
    },
    /// The own meter could not be read.
    MeterFailed,
    /// The owner's wish.
    Command(Command),
    /// [`Node::next_timeout`] has come.
    Tick,
}

/// Something to do, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Make this durable before anything that follows is done. If that fails, stop.
    Persist(Write),
    /// Send a frame.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// Plain frame; the session seals it.
        frame: Vec<u8>,
    },
    /// End a session.
    Disconnect {
        /// Which.
        connection: ConnectionId,
        /// Why.
        code: ErrorCode,
    },
    /// For the chain back end.
    Chain(ChainAction),
    /// Bind the device at the far end of this session to an attachment of the gate; nothing passes yet.
    Attach {
        /// Number of the attachment.
        client: u16,
        /// The session, whose far address is bound.
        connection: ConnectionId,
        /// Further addresses that the device claims, to be checked on the link.
        addresses: Vec<[u8; 16]>,
    },
    /// Let this many bytes pass in all since the attachment was made. Saying it again is harmless.
    Grant {
        /// Which attachment.
        client: u16,
        /// Cumulative limit.
        limit: ByteCount,
    },
    /// Read every attachment's counters.
    ReadGate,
    /// Look whether the attachment's addresses are still its device's; if not, say [`Input::Drift`].
    CheckBinding {
        /// Which.
        client: u16,
    },
    /// Close an attachment; nothing passes any more.
    Detach {
        /// Which.
        client: u16,
    },
    /// Read this client's own meter.
    ReadMeter,
    /// Tell the owner.
    Notify(Event),
}

/// News for the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer said hello on our chain.
    PeerReady {
        /// Its session.
        connection: ConnectionId,
        /// Who.
        peer: NodeId,
    },
    /// A session ended.
    PeerGone {
        /// Its session.
        connection: ConnectionId,
        /// Who.
        peer: NodeId,
    },
    /// A peer refused something.
    PeerProblem {
        /// Its session.
        connection: ConnectionId,
        /// Why.
        code: ErrorCode,
        /// Number of the kind of message that it refused; 0 for none in particular.
        about: u16,
        /// A number that belongs to the code.
        detail: u64,
    },
    /// A relay's signed offer.
    Offer {
        /// Its session.
        connection: ConnectionId,
        /// What it sells.
        offer: Offer,
    },
    /// This relay signed a new price sheet.
    SheetSigned {
        /// Its version.
        version: u32,
    },
    /// A channel was accepted and is being funded.
    Funding {
        /// Its row.
        slot: Slot,
    },
    /// The funding is signed and broadcast.
    Funded {
        /// Its row.
        slot: Slot,
        /// The funding transaction.
        txid: Txid,
        /// Its fee.
        fee: Sat,
    },
    /// The wallet cannot pay for a channel.
    FundingFailed {
        /// Its row.
        slot: Slot,
        /// Confirmed coins in the wallet.
        available: Sat,
        /// Needed, fee included.
        needed: Sat,
    },
    /// The peer knows the channel.
    ChannelReady {
        /// Its row.
        slot: Slot,
        /// The peer takes totals up to this now.
        ceiling: Msat,
    },
    /// A purchase went on: what was bought so far, used so far, and whether it is over.
    Progress {
        /// The relay.
        relay: NodeId,
        /// The state of the purchase.
        view: BuyerView,
    },
    /// The channel that pays is used up.
    NeedChannel {
        /// The relay.
        relay: NodeId,
        /// What is left to buy would cost this.
        amount: Msat,
    },
    /// A relay claims more than we counted, beyond the tolerance.
    OverClaim {
        /// The relay.
        peer: NodeId,
        /// Bytes that it claims.
        claimed: ByteCount,
        /// Bytes that we counted.
        counted: ByteCount,
    },
    /// Money credited on a channel will never come.
    Lost {
        /// Its row.
        slot: Slot,
        /// How much.
        amount: Msat,
    },
    /// A settlement was broadcast.
    Settling {
        /// What it settles.
        slots: Vec<Slot>,
        /// Its id.
        txid: Txid,
        /// Its fee.
        fee: Sat,
    },
    /// A simplex costs more to settle than it brings.
    LeftOut {
        /// Its row.
        slot: Slot,
        /// What it would bring.
        paid: Sat,
        /// It is being given up unless fees fall at once.
        last_call: bool,
    },
    /// The chain shows a channel spent.
    Spent {
        /// Its row.
        slot: Slot,
        /// By this transaction.
        txid: Txid,
        /// In this block, if any.
        height: Option<BlockHeight>,
    },
    /// A back end refused a transaction; it is sent again with the next block.
    BroadcastRefused {
        /// On whose behalf it was sent.
        slot: Slot,
        /// The transaction.
        txid: Txid,
    },
    /// A peer knows a newer state of this store: this card is a copy. Channels are being settled.
    CopiedStore {
        /// Who says so.
        peer: NodeId,
    },
    /// A receipt was signed by both sides.
    Receipt {
        /// The other side.
        peer: NodeId,
        /// Its number.
        sequence: u32,
    },
}

/// A relay's offer, its signature checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Short name of the sheet in this session.
    pub sheet_id: u8,
    /// Prices.
    pub sheet: PriceSheet,
    /// Smallest capacity taken.
    pub capacity_min: Sat,
    /// Largest capacity taken.
    pub capacity_max: Sat,
    /// Shortest lifetime taken, blocks.
    pub lifetime_min: u32,
    /// Longest lifetime taken, blocks.
    pub lifetime_max: u32,
    /// Credit before the funding is deep.
    pub unconfirmed: Msat,
    /// What settling costs the relay now.
    pub settle_cost: Sat,
}

/// A price sheet that this relay signed.
struct Selling {
    config: RelayConfig,
    prices: Prices,
    sheet_id: u8,
    bytes: Vec<u8>,
    hash: crate::base::SheetHash,
    signature: Signature,
}

/// One node.
pub struct Node {
    config: Config,
    keys: Keys,
    verifier: Verifier,
    meta: Meta,
    /// What peers are told of how often this store was opened.
    generation: u64,
    height: BlockHeight,
    /// Our own chain back end speaks.
    lit: bool,
    rate: FeeRate,
    selling: Option<Selling>,
    free: FreeAllowance,
    gate_down: bool,
    /// Attachments that the gate could not close.
    detaching: BTreeMap<u16, detach::Detaching>,
    payees: BTreeMap<Slot, Payee>,
    payers: BTreeMap<Slot, Payer>,
    /// Channels that are over.
    history: BTreeMap<Slot, HistoryRecord>,
    /// Payees whose newest payments are in the journal only.
    journalled: BTreeSet<Slot>,
    settler: Settler,
    minimum: Option<MinimumHeight>,
    addresses: Vec<[u8; 16]>,
    settle_queue: Vec<Slot>,
    connections: BTreeMap<ConnectionId, Peer>,
    peers: BTreeMap<NodeId, PeerRecord>,
    clients: BTreeMap<NodeId, Client>,
    buyers: BTreeMap<NodeId, Buying>,
    /// Which client key holds an attachment of the gate.
    attachments: BTreeMap<u16, NodeId>,
    /// How many channels each key has asked for since the moment beside it.
    asks: BTreeMap<NodeId, (Instant, u8)>,
    /// Key indexes of acceptances that were dropped before anything was named or seen for them: the next ones use them.
    unused_keys: Vec<u32>,
    actions: VecDeque<Action>,
}

/// The one service account of a session: access. Others have their place in the types.
const ACCESS: AccountId = AccountId(0);

impl Node {
    /// This node's identity.
    pub fn id(&self) -> NodeId {
        self.keys.node()
    }

    /// Feeds one input. Afterwards, or after all inputs that are ready, drain [`Node::poll_action`].
    ///
    /// # Errors
    /// Only commands fail, and then nothing was changed. What peers do wrong is answered to them.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), CommandError> {
        let result = match input {
            Input::Connected { connection, peer } => {
                self.connected(connection, peer);
                Ok(())
            }
            Input::Frame { connection, frame } => {
                self.frame(now, connection, frame);
                Ok(())
            }
            Input::Disconnected { connection } => {
                self.disconnected(now, connection);
                Ok(())
            }
            Input::Chain(event) => {
                self.chain_event(now, event);
                Ok(())
            }
            Input::Attached { client, result } => {
                self.attached(now, client, result);
                Ok(())
            }
            Input::GateReadings { readings } => {
                self.gate_readings(now, readings);
                Ok(())
            }
            Input::Detached { client, last } => {
                self.detached(now, client, last);
                Ok(())
            }
            Input::DetachFailed { client } => {
                self.detach_failed(now, client);
                Ok(())
            }
            Input::GateFailed => {
                self.gate_failed(now);
                Ok(())
            }
            Input::GateRestored => {
                self.gate_down = false;
                Ok(())
            }
            Input::Drift { client } => {
                self.drift(now, client);
                Ok(())
            }
            Input::MeterReading { up, down } => {
                self.meter(now, Some((up, down)));
                Ok(())
            }
            Input::MeterFailed => {
                self.meter(now, None);
                Ok(())
            }
            Input::Command(command) => self.command(now, command),
            Input::Tick => {
                self.tick(now);
                Ok(())
            }
        };
        self.flush_settlements();
        result
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest; `None` while nothing waits.
    pub fn next_timeout(&self) -> Option<Instant> {
        let relay = self.clients.values().filter_map(|c| c.account.next_timeout());
        let buyer = self.buyers.values().filter_map(|b| b.buyer.next_timeout());
        let waiting = self.next_rebind().into_iter().chain(self.next_detach());
        relay.chain(buyer).chain(waiting).min()
    }

    fn tick(&mut self, now: Instant) {
        self.tick_clients(now);
        self.tick_detaches(now);
        self.tick_buyers(now);
        self.tick_bindings(now);
    }

    fn persist(&mut self, write: Write) {
        self.actions.push_back(Action::Persist(write));
    }

    fn notify(&mut self, event: Event) {
        self.actions.push_back(Action::Notify(event));
    }

    fn chain(&mut self, action: ChainAction) {
        self.actions.push_back(Action::Chain(action));
    }

    fn send(&mut self, connection: ConnectionId, message: impl Into<Message>) {
        let mut frame = Vec::with_capacity(128);
        write_frame(&message.into(), &mut frame);
        self.actions.push_back(Action::Send { connection, frame });
    }

    fn connection_of(&self, peer: &NodeId) -> Option<ConnectionId> {
        // The newest session counts: an older one to the same key is dying.
        self.connections
            .iter()
            .rev()
            .find(|(_, p)| p.id == *peer && p.greeted)
            .map(|(c, _)| *c)
    }
}
