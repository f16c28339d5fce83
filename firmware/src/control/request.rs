//! What the owner can ask for.

use super::Hex;
use crate::config::DEFAULT_PORT;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use turnpike_protocol::base::{ByteCount, FeeRate, Msat, NodeId, Sat};

/// A request. Names of variants and fields are stable; fields may be added with a default.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The node as a whole: [`super::Response::Status`].
    Status,
    /// Looks for relays on the link: each as [`super::Progress::Relay`], all as [`super::Response::Relays`].
    Discover {
        /// For how long.
        seconds: u32,
    },
    /// Makes a session: [`super::Response::Connected`].
    Connect {
        /// Host and port.
        address: String,
        /// Nobody else may answer there.
        #[serde(default)]
        relay: Option<Hex<NodeId>>,
    },
    /// The prices in force: [`super::Response::Prices`].
    PriceShow,
    /// Changes prices until the configuration is read again: [`super::Response::Prices`], those in force then.
    PriceSet(PriceChange),
    /// Reads the prices of the configuration file again: [`super::Response::Prices`].
    PriceReload,
    /// What a channel would cost and lock at worst; nothing is opened: [`super::Response::Quote`].
    Quote {
        /// At this relay; without one, at the one that is connected.
        #[serde(default)]
        relay: Option<Target>,
        /// Satoshi to lock; without it, as `open` would.
        #[serde(default)]
        capacity_sat: Option<Sat>,
        /// Blocks until the expiry; without it, a week.
        #[serde(default)]
        lifetime_blocks: Option<u32>,
    },
    /// Opens a channel: [`super::Progress::Channel`] at each step, [`super::Response::Opened`] once the relay takes
    /// payments in it.
    Open {
        /// At this relay; without one, at the one that is connected.
        #[serde(default)]
        relay: Option<Target>,
        /// Satoshi to lock.
        #[serde(default)]
        capacity_sat: Option<Sat>,
        /// Blocks until the expiry; without it, a week.
        #[serde(default)]
        lifetime_blocks: Option<u32>,
    },
    /// Buys until everything is used or the money is spent: [`super::Progress::Purchase`], then
    /// [`super::Response::Bought`]. Closing the connection stops the purchase; credit is kept.
    Buy {
        /// At this relay; without one, at the one that is connected, or with `auto` the cheapest that is found.
        #[serde(default)]
        relay: Option<Target>,
        /// How many bytes; without it, as many as `max_sat` pays.
        #[serde(default)]
        bytes: Option<ByteCount>,
        /// The most to spend on it, fees of channels not counted.
        max_sat: Sat,
        /// Finds a relay and opens channels where needed, without asking.
        #[serde(default)]
        auto: bool,
        /// Capacity of channels that are opened.
        #[serde(default)]
        capacity_sat: Option<Sat>,
        /// Lifetime of channels that are opened.
        #[serde(default)]
        lifetime_blocks: Option<u32>,
    },
    /// Stops buying from a relay, or from all: [`super::Response::Stopped`].
    StopBuying {
        /// From this one only.
        #[serde(default)]
        relay: Option<Hex<NodeId>>,
    },
    /// Every channel: [`super::Response::Channels`].
    ChannelList,
    /// Closes channels: [`super::Response::Channels`], how they stand then.
    ChannelClose {
        /// Which.
        which: Which,
        /// Waits this long at most until their settlements are broadcast, with [`super::Progress::Event`] meanwhile.
        #[serde(default)]
        wait_seconds: u32,
    },
    /// Raises the fee of the settlement that holds this channel: [`super::Response::Raised`].
    ChannelRaiseFee {
        /// The channel.
        slot: u32,
        /// The rate wanted.
        sat_per_kvb: FeeRate,
    },
    /// An address of the wallet that was not used before: [`super::Response::Address`].
    WalletAddress,
    /// The wallet's coins: [`super::Response::Balance`].
    WalletBalance,
    /// Sends coins: [`super::Response::Sent`].
    WalletSend {
        /// To here, an address of the daemon's chain.
        address: String,
        /// How much.
        amount_sat: Sat,
        /// At this rate; without it, at the present estimate.
        #[serde(default)]
        sat_per_kvb: Option<FeeRate>,
    },
    /// Receipts in the order of their names: [`super::Response::Receipts`], at most [`super::MAX_RECEIPTS`].
    ReceiptList {
        /// Leaves out the first ones.
        #[serde(default)]
        skip: u32,
        /// At most so many.
        limit: u32,
    },
    /// What would be lost if the others vanished now: [`super::Response::Exposure`].
    Exposure,
    /// Every client that was ever served: [`super::Response::Clients`].
    ClientList,
    /// How a client is to be treated: [`super::Response::Standing`].
    ClientStand {
        /// The client.
        client: Hex<NodeId>,
        /// How.
        standing: Standing,
    },
    /// Sales per day and client, newest day first: [`super::Response::Sales`].
    Sales {
        /// So many days at most.
        #[serde(default)]
        days: Option<u32>,
    },
    /// The refund of every channel in which this node pays, signed, for any node to broadcast at the expiry height:
    /// [`super::Response::Refunds`].
    RefundExport,
    /// Writes an encrypted backup: [`super::Response::BackedUp`].
    Backup {
        /// A new file, named from the root. The daemon writes it.
        path: PathBuf,
    },
    /// What the daemon finds wrong: [`super::Response::Checks`].
    Doctor,
    /// Everything that happens from now on, as [`super::Progress::Event`], until the connection is closed.
    Events,
}

/// New prices; what is left out stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceChange {
    /// Millisatoshi per MiB from the client.
    pub up_msat_per_mib: Option<Msat>,
    /// Millisatoshi per MiB to the client.
    pub down_msat_per_mib: Option<Msat>,
    /// Millisatoshi per second of open service.
    pub msat_per_second: Option<Msat>,
    /// Free bytes per client key and 24 hours.
    pub free_bytes: Option<ByteCount>,
    /// Free bytes for all keys together and 24 hours.
    pub free_total_bytes: Option<ByteCount>,
    /// Smallest window.
    pub window_min_bytes: Option<ByteCount>,
    /// Largest window.
    pub window_max_bytes: Option<ByteCount>,
}

/// A relay by its identity, by where it is, or by both. At least one of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its identity: nobody else will do.
    #[serde(default)]
    pub node: Option<Hex<NodeId>>,
    /// Host and port.
    #[serde(default)]
    pub address: Option<String>,
}

/// Channels to close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The one with this number.
    Slot(u32),
    /// Every one; those in which this node is paid are settled together.
    All,
}

/// How the owner treats a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Pays.
    Normal,
    /// Is served for nothing.
    Exempt,
    /// Is not served.
    Blocked,
}

impl From<turnpike_protocol::market::Standing> for Standing {
    fn from(standing: turnpike_protocol::market::Standing) -> Self {
        use turnpike_protocol::market::Standing as S;
        match standing {
            S::Normal => Standing::Normal,
            S::Exempt => Standing::Exempt,
            S::Blocked => Standing::Blocked,
        }
    }
}

impl From<Standing> for turnpike_protocol::market::Standing {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Normal => Self::Normal,
            Standing::Exempt => Self::Exempt,
            Standing::Blocked => Self::Blocked,
        }
    }
}

impl Target {
    /// What [`Target::from_str`] takes, for people.
    pub const EXPECTED: &'static str = "IDENTITY@HOST:PORT, IDENTITY, or HOST:PORT";

    /// The same for places where an address has to be in it. A host without dots takes its port with it, so that it is
    /// no mistyped identity.
    pub const EXPECTED_ADDRESS: &'static str =
        "HOST:PORT, such as \"192.0.2.1:7473\" or \"[2001:db8::1]:7473\", or IDENTITY@HOST:PORT";
}

impl FromStr for Target {
    type Err = super::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = super::HexError {
            expected: Target::EXPECTED,
        };
        let (node, address) = match text.split_once('@') {
            Some((node, address)) => (Some(node), Some(address)),
            None if text.contains([':', '.']) => (None, Some(text)),
            None => (Some(text), None),
        };
        let node = node.map(str::parse).transpose().map_err(|_| wrong)?;
        let address = address.map(|a| with_port(a).ok_or(wrong)).transpose()?;
        Ok(Target { node, address })
    }
}

/// `HOST` or `HOST:PORT` with the port filled in. An IPv6 address has brackets when a port follows, and a host without
/// dots has a port.
fn with_port(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DEFAULT_PORT).to_string());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| address.to_string());
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)?),
        None if text.contains('.') => (text, DEFAULT_PORT),
        None => return None,
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!host.is_empty() && host.len() < 254 && host.chars().all(good)).then(|| format!("{host}:{port}"))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, &self.address) {
            (Some(node), Some(address)) => write!(f, "{node}@{address}"),
            (Some(node), None) => write!(f, "{node}"),
            (None, address) => f.write_str(address.as_deref().unwrap_or_default()),
        }
    }
}
