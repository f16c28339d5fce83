//! Answers.

use super::{Hex, Purchase, Standing};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use turnpike_protocol::base::{
    BlockHeight, ByteCount, ChannelId, FeeRate, GenesisHash, Msat, NodeId, Outpoint, Sat, SheetHash, Txid,
};

/// The answer to a request. Names of variants and fields are stable; fields may be added.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To `status`.
    Status(Box<Status>),
    /// To `discover`.
    Relays {
        /// Everything found.
        relays: Vec<Discovered>,
    },
    /// To `connect`.
    Connected {
        /// Who answered.
        peer: Hex<NodeId>,
        /// Number of the session.
        connection: u64,
    },
    /// To `price_show` and `price_set`.
    Prices(Prices),
    /// To `quote`.
    Quote(Quote),
    /// To `open`.
    Opened(Channel),
    /// To `buy`: how it ended.
    Bought(Purchase),
    /// To `stop_buying`.
    Stopped {
        /// From these relays something was being bought.
        relays: Vec<Hex<NodeId>>,
    },
    /// To `channel_list` and `channel_close`.
    Channels {
        /// Oldest first.
        channels: Vec<Channel>,
    },
    /// To `channel_raise_fee`.
    Raised {
        /// The channel.
        slot: u32,
        /// The new settlement.
        txid: Hex<Txid>,
        /// Its fee.
        fee_sat: Sat,
    },
    /// To `wallet_address`.
    Address {
        /// As senders write it.
        address: String,
    },
    /// To `wallet_balance`.
    Balance(Balance),
    /// To `wallet_send`.
    Sent {
        /// The transaction, broadcast.
        txid: Hex<Txid>,
        /// Sent, fee not included.
        amount_sat: Sat,
    },
    /// To `receipt_list`.
    Receipts {
        /// So many are kept.
        total: u32,
        /// Those asked for.
        receipts: Vec<ReceiptCopy>,
    },
    /// To `exposure`.
    Exposure(Exposure),
    /// To `client_list`.
    Clients {
        /// By key.
        clients: Vec<Client>,
    },
    /// To `client_stand`.
    Standing {
        /// The client.
        client: Hex<NodeId>,
        /// How it is treated now.
        standing: Standing,
    },
    /// To `sales`.
    Sales {
        /// Newest day first.
        rows: Vec<SalesRow>,
    },
    /// To `refund_export`.
    Refunds {
        /// One for each channel that is still to be refunded.
        refunds: Vec<Refund>,
    },
    /// To `backup`.
    BackedUp {
        /// The file.
        path: PathBuf,
        /// Rows in it.
        rows: u64,
        /// Payments of the journal in it.
        entries: u64,
        /// SHA-256 of the snapshot.
        hash: Hex<[u8; 32]>,
        /// Channels in it that are not over.
        #[serde(default)]
        channels: u64,
        /// Receipts in it.
        #[serde(default)]
        receipts: u64,
    },
    /// To `doctor`.
    Checks {
        /// In the order in which they were made.
        checks: Vec<Check>,
    },
}

/// The node as a whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon's program.
    pub program_version: String,
    /// Identity.
    pub node: Hex<NodeId>,
    /// Name of the chain: `bitcoin`, `testnet4`, `signet`, `regtest`.
    pub network: String,
    /// Block 0 of the chain.
    pub genesis: Hex<GenesisHash>,
    /// The coins are worth nothing.
    pub play_money: bool,
    /// The lowest height that the chain can have.
    pub height: BlockHeight,
    /// The chain back end speaks.
    pub lit: bool,
    /// Present estimate.
    pub fee_rate_sat_per_kvb: FeeRate,
    /// How often the store was opened.
    pub generation: u64,
    /// Id of the store, which `turnpike backup --move-to` names.
    pub card: String,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// Coins that can be spent now; none without a wallet.
    pub wallet_sat: Option<Sat>,
    /// Coins that wait for a block, change too; none without a wallet.
    #[serde(default)]
    pub wallet_unconfirmed_sat: Option<Sat>,
    /// Selling, if it sells.
    pub relay: Option<RelayStatus>,
    /// Live sessions.
    pub sessions: Vec<SessionStatus>,
    /// Channels that are not over.
    pub channels: u32,
    /// Purchases under way.
    pub purchases: Vec<Purchase>,
    /// What the owner should know, one line each.
    pub warnings: Vec<String>,
}

/// How selling goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Address that clients connect to.
    pub listen: String,
    /// The gate can be read and set.
    pub gate_works: bool,
    /// Clients whose packets pass now.
    pub serving: u32,
    /// Clients that were ever served.
    pub clients: u32,
    /// Prices in force.
    pub prices: Prices,
}

/// A live session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number.
    pub connection: u64,
    /// Who.
    pub peer: Hex<NodeId>,
    /// Where, host and port; of a peer that called us the port that it calls from. `null` only in the moment in which it
    /// goes.
    pub address: Option<String>,
}

/// A relay on the link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Discovered {
    /// Its identity, proved by its signature over the prices.
    pub node: Hex<NodeId>,
    /// Host and port.
    pub address: String,
    /// What it calls itself; proved by nothing.
    pub name: String,
    /// What it sells.
    pub prices: Prices,
}

/// What bytes are bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindingClass {
    /// MAC, addresses and port.
    Address,
    /// One association of a protected link.
    Link,
    /// A tunnel's key.
    Tunnel,
}

/// A price sheet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prices {
    /// Rises with every change.
    pub version: u32,
    /// Last height at which it holds.
    pub valid_until_height: BlockHeight,
    /// Millisatoshi per MiB from the client.
    pub up_msat_per_mib: Msat,
    /// Millisatoshi per MiB to the client.
    pub down_msat_per_mib: Msat,
    /// Millisatoshi per second of open service.
    pub msat_per_second: Msat,
    /// Free bytes per client key and 24 hours.
    pub free_bytes: ByteCount,
    /// Free bytes for all keys together and 24 hours; none where it is another node's sheet.
    pub free_total_bytes: Option<ByteCount>,
    /// Smallest window.
    pub window_min_bytes: ByteCount,
    /// Largest window.
    pub window_max_bytes: ByteCount,
    /// What bytes are bound to.
    pub class: BindingClass,
}

impl From<&turnpike_protocol::wire::PriceSheet> for Prices {
    fn from(sheet: &turnpike_protocol::wire::PriceSheet) -> Self {
        use turnpike_protocol::wire::BindingClass as Class;
        Prices {
            version: sheet.version,
            valid_until_height: sheet.valid_until,
            up_msat_per_mib: sheet.up,
            down_msat_per_mib: sheet.down,
            msat_per_second: sheet.per_second,
            free_bytes: sheet.free,
            free_total_bytes: None,
            window_min_bytes: sheet.window_min,
            window_max_bytes: sheet.window_max,
            class: match sheet.class {
                Class::Address => BindingClass::Address,
                Class::Link => BindingClass::Link,
                Class::Tunnel => BindingClass::Tunnel,
            },
        }
    }
}

/// What a channel would cost and lock at worst (money.md rule 4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quote {
    /// At this relay.
    pub relay: Hex<NodeId>,
    /// An open channel to it in which something is left: no new one is needed.
    pub open_slot: Option<u32>,
    /// What is left in that channel.
    pub open_left_msat: Msat,
    /// Locked by a new channel.
    pub capacity_sat: Sat,
    /// Until its expiry.
    pub lifetime_blocks: u32,
    /// The expiry: a relay that falls silent keeps the capacity locked until this height.
    pub locked_until_height: BlockHeight,
    /// The height now.
    pub height: BlockHeight,
    /// Fee of the funding, estimated.
    pub funding_fee_sat: Sat,
    /// What settling costs the relay now; it comes out of what it is paid.
    pub settle_fee_sat: Sat,
    /// Fee of the refund, only if the relay falls silent.
    pub refund_fee_sat: Sat,
    /// A remainder below this is lost to fees.
    pub dust_sat: Sat,
    /// Rate that the estimates use.
    pub fee_rate_sat_per_kvb: FeeRate,
    /// What the relay takes before the funding is deep.
    pub unconfirmed_msat: Msat,
    /// Confirmations until it takes everything.
    pub deep_blocks: u32,
    /// Coins that can be spent now.
    pub wallet_sat: Sat,
    /// What the relay sells.
    pub prices: Prices,
}

/// Which side of a channel the node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It pays.
    Payer,
    /// It is paid.
    Payee,
}

/// One channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// Its number in this store.
    pub slot: u32,
    /// Its name, once funded.
    pub channel: Option<Hex<ChannelId>>,
    /// Which side the node is.
    pub role: Role,
    /// The other side.
    pub peer: Hex<NodeId>,
    /// One word: `accepted`, `unconfirmed`, `open`, `restored`, `closing`, `settled`, `refunded`, `over`.
    pub state: String,
    /// How it ended, once it is over: `never funded`, `settled`, `refunded`, `given up`, `lost`, `unknown`.
    pub outcome: Option<String>,
    /// The height when it was over.
    pub ended_at_height: Option<BlockHeight>,
    /// Locked in it.
    pub capacity_sat: Sat,
    /// Paid so far.
    pub total_msat: Msat,
    /// From here on the payer can take everything back.
    pub expiry_height: BlockHeight,
    /// The payee settles by here.
    pub settle_by_height: BlockHeight,
    /// The funding's output.
    pub outpoint: Option<Hex<Outpoint>>,
    /// The funding's block.
    pub funded_at_height: Option<BlockHeight>,
    /// The transaction that spent it.
    pub spent_by: Option<Hex<Txid>>,
    /// What the funding cost, as payer.
    pub funding_fee_sat: Sat,
    /// Totals above this are refused now, as payee.
    pub ceiling_msat: Msat,
}

/// Coins of the wallet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// Can be spent now.
    pub confirmed_sat: Sat,
    /// Waits for a block.
    pub unconfirmed_sat: Sat,
    /// Set aside for channels that are being funded or closed.
    pub reserved_sat: Sat,
}

/// A receipt with everything that is needed to verify it without this node. It is also the format of a receipt file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReceiptCopy {
    /// Block 0 of the chain: part of what is signed.
    pub genesis: Hex<GenesisHash>,
    /// The bytes that both signed.
    pub receipt: Hex<Vec<u8>>,
    /// The relay's signature.
    pub relay_signature: Hex<[u8; 64]>,
    /// The client's; none where it did not agree.
    pub client_signature: Option<Hex<[u8; 64]>>,
    /// Who sold. This and what follows is read from `receipt`.
    pub relay: Hex<NodeId>,
    /// Who bought.
    pub client: Hex<NodeId>,
    /// The channel that paid.
    pub channel: Hex<ChannelId>,
    /// Number of the receipt in the channel.
    pub sequence: u32,
    /// The price sheet.
    pub sheet: Hex<SheetHash>,
    /// The relay's height.
    pub height: BlockHeight,
    /// Bytes from the client since the channel opened.
    pub up_bytes: ByteCount,
    /// Bytes to the client since the channel opened.
    pub down_bytes: ByteCount,
    /// Seconds of open service since the channel opened.
    pub seconds: u64,
    /// What all of that cost.
    pub cost_msat: Msat,
    /// What was paid for it.
    pub paid_msat: Msat,
}

/// What this node would lose if the others vanished now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exposure {
    /// All rows together.
    pub total_msat: Msat,
    /// Credit given on channels whose funding is not deep.
    pub unconfirmed_msat: Msat,
    /// Its bound.
    pub unconfirmed_bound_msat: Msat,
    /// By peer.
    pub rows: Vec<ExposureRow>,
}

/// What this node would lose if one peer vanished now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExposureRow {
    /// The peer.
    pub peer: Hex<NodeId>,
    /// The channel.
    pub slot: Option<u32>,
    /// As payer: paid and not yet used; as payee: served and not yet paid for, or credited on money that may not come.
    pub role: Role,
    /// In money.
    pub msat: Msat,
    /// In bytes at the present price.
    pub bytes: ByteCount,
    /// In time at the present rate; none while nothing flows.
    pub milliseconds: Option<u64>,
    /// Locked until the expiry if the peer falls silent.
    pub locked_sat: Sat,
}

/// One client of a relay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Client {
    /// Its key.
    pub client: Hex<NodeId>,
    /// How the owner treats it.
    pub standing: Standing,
    /// The channel that pays.
    pub slot: Option<u32>,
    /// Its packets pass now.
    pub serving: bool,
    /// Where it is, while it is connected.
    pub address: Option<String>,
    /// Bytes from it over the channel.
    pub up_bytes: ByteCount,
    /// Bytes to it over the channel.
    pub down_bytes: ByteCount,
    /// Seconds of open service over the channel.
    pub seconds: u64,
    /// What that cost.
    pub cost_msat: Msat,
    /// What it paid.
    pub paid_msat: Msat,
    /// Bytes that may pass in all over the channel.
    pub granted_bytes: ByteCount,
    /// The gate dropped a packet for want of credit.
    pub cut: bool,
    /// Used and not paid, over all its channels: money that had counted never came. Nothing passes until it is paid.
    pub debt_msat: Msat,
}

/// One client's use on one day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SalesRow {
    /// `2026-03-01`, UTC; without a clock `height 123400`, the first block of 144.
    pub day: String,
    /// The client.
    pub client: Hex<NodeId>,
    /// Bytes from it.
    pub up_bytes: ByteCount,
    /// Bytes to it.
    pub down_bytes: ByteCount,
    /// What that cost.
    pub cost_msat: Msat,
    /// What it paid.
    pub paid_msat: Msat,
    /// What it had paid, on this day or before, and turned out lost.
    pub lost_msat: Msat,
}

/// A signed refund.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// The channel.
    pub slot: u32,
    /// What it spends.
    pub outpoint: Hex<Outpoint>,
    /// Locked there.
    pub capacity_sat: Sat,
    /// Its fee.
    pub fee_sat: Sat,
    /// The first block that takes it is the one after this height.
    pub expiry_height: BlockHeight,
    /// Its id.
    pub txid: Hex<Txid>,
    /// As `sendrawtransaction` takes it.
    pub transaction: Hex<Vec<u8>>,
}

/// One thing that the doctor looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// What the doctor thinks of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Good.
    Good,
    /// It works, but not as it should.
    Poor,
    /// It does not work.
    Bad,
}
