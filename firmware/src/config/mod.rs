//! The configuration: one file, `turnpike.toml`.
//!
//! What it does: reads the file into typed values, fills in defaults, checks bounds and what the system must offer.
//! What comes in: the path of the file. What goes out: a [`Config`], or a [`ConfigError`] that is one line and names
//! file, line, key and remedy.
//! What it never does: change anything on the system, guess a unit, ignore a key that it does not know.
//! Spec page: `protocol/spec/config.md`.

mod document;
mod error;
mod example;
mod place;
mod preflight;
mod quantity;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use document::{line_of, suggestion};
pub use error::ConfigError;
pub use example::{example, example_on};
pub use place::{SYSTEM, config_file, is_root, user_folder};

use crate::chain::{Auth, ChainName};
use crate::gate::InterfaceName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use turnpike_protocol::base::{ByteCount, Msat, NodeId, Sat};

/// TCP port that relays listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7473;

/// Everything that an owner can set, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[node]`.
    pub node: NodeConfig,
    /// `[chain]`.
    pub chain: ChainConfig,
    /// `[relay]`.
    pub relay: RelayConfig,
    /// `[price]`.
    pub price: PriceConfig,
    /// `[channel]`.
    pub channel: ChannelConfig,
    /// `[client]`.
    pub client: ClientConfig,
    /// `[log]`: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: tracing::Level,
    path: PathBuf,
    lines: BTreeMap<String, usize>,
}

/// `[node]`.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeConfig {
    /// Folder of seed, store and control socket. A relative path is relative to the file.
    pub data_dir: PathBuf,
    /// What the owner calls this node; at most 32 characters.
    pub name: String,
}

/// Where the chain comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainBackend {
    /// A bitcoind by JSON-RPC.
    Bitcoind,
    /// The play-money chain of the demo.
    Play,
}

/// `[chain]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ChainConfig {
    /// Which kind.
    pub backend: ChainBackend,
    /// `http://HOST:PORT` of its RPC.
    pub url: String,
    /// How it is proved that one may ask: the cookie file, where a relative path is relative to this file, or user and
    /// password.
    pub auth: Auth,
    /// Which network.
    pub network: bitcoin::Network,
    /// How often it is asked for news.
    pub poll: Duration,
}

/// `[relay]`.
#[derive(Clone, PartialEq, Debug)]
pub struct RelayConfig {
    /// Sell bandwidth.
    pub enabled: bool,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Interfaces that guests are on.
    pub guest_interface: Vec<InterfaceName>,
    /// Interfaces that paid traffic leaves through.
    pub uplink_interface: Vec<InterfaceName>,
    /// Give guests the uplink's addresses, IPv4 and IPv6.
    pub masquerade: bool,
    /// Every guest has an IPv6 /64 of its own (RFC 8273), so a binding takes all of it.
    pub prefix_per_guest: bool,
    /// Answer who looks for relays on the guest link.
    pub discoverable: bool,
}

/// `[price]`.
#[derive(Clone, PartialEq, Debug)]
pub struct PriceConfig {
    /// Per MiB from the client.
    pub up: Msat,
    /// Per MiB to the client.
    pub down: Msat,
    /// Per second of open service.
    pub per_second: Msat,
    /// Free bytes per client and day.
    pub free: ByteCount,
    /// Free bytes for all clients together and day.
    pub free_total: ByteCount,
    /// Smallest window.
    pub window_min: ByteCount,
    /// Largest window.
    pub window_max: ByteCount,
}

/// `[channel]`: which channels a relay takes, and what it risks.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelConfig {
    /// Smallest capacity.
    pub capacity_min: Sat,
    /// Largest capacity.
    pub capacity_max: Sat,
    /// Shortest lifetime, blocks.
    pub lifetime_min: u32,
    /// Longest lifetime, blocks.
    pub lifetime_max: u32,
    /// Credit per client before its funding is deep.
    pub unconfirmed: Sat,
    /// The same for all clients together.
    pub unconfirmed_total: Sat,
    /// Credit per channel while the chain cannot be seen.
    pub dark: Sat,
}

/// `[client]`: how this node buys.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientConfig {
    /// The relay's address, `HOST:PORT` or `HOST`; `None`: the first one found on the link.
    pub relay: Option<String>,
    /// The relay must be this one.
    pub identity: Option<NodeId>,
    /// The interface towards relays; `None`: the one that the relay is reached through.
    pub interface: Option<InterfaceName>,
    /// Buy without being asked whenever a relay is there.
    pub auto: bool,
    /// The most that is spent without a new order.
    pub max: Sat,
    /// Capacity of a channel that `auto` opens.
    pub capacity: Sat,
    /// Lifetime of a channel that `auto` opens, blocks.
    pub lifetime: u32,
    /// By how much a relay's count may exceed ours, parts per million.
    pub loss_tolerance_ppm: u32,
    /// And by this many bytes more.
    pub loss_allowance: ByteCount,
}

impl ChainConfig {
    /// Which chain it is, with the play chain apart from other private ones.
    pub fn name(&self) -> ChainName {
        match (self.backend, self.network) {
            (ChainBackend::Play, _) => ChainName::Play,
            (_, bitcoin::Network::Testnet4) => ChainName::Testnet4,
            (_, bitcoin::Network::Signet) => ChainName::Signet,
            (_, bitcoin::Network::Regtest) => ChainName::Regtest,
            _ => ChainName::Bitcoin,
        }
    }
}

impl Config {
    /// Reads and checks the file; looks at nothing else.
    ///
    /// # Errors
    /// One line: file, line, key, what is wrong, what to do. Exit status 2 is due.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Config::parse(path, &text)
    }

    /// Reads and checks the text of a file at `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        read::config(path, text, true).map(|(config, _)| config)
    }

    /// The same, with what stands there and is no key of a daemon set aside.
    ///
    /// # Errors
    /// As [`Config::read`], apart from unknown sections and keys.
    pub(crate) fn parse_known(path: &Path, text: &str) -> Result<(Config, Vec<ConfigError>), ConfigError> {
        read::config(path, text, false)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about a key of this file, such as `relay.listen`, found while the program ran.
    pub fn blame(&self, key: &str, what: impl ToString, remedy: impl ToString) -> ConfigError {
        ConfigError::new(&self.path, self.lines.get(key).copied(), key, what, remedy)
    }

    /// `control.sock` in the data folder.
    pub fn control_socket(&self) -> PathBuf {
        self.node.data_dir.join("control.sock")
    }

    /// `store.redb` in the data folder.
    pub fn store(&self) -> PathBuf {
        self.node.data_dir.join("store.redb")
    }

    /// `seed` in the data folder.
    pub fn seed(&self) -> PathBuf {
        self.node.data_dir.join("seed")
    }
}
