//! Every key with its bounds and its default.

use super::document::{Document, Section};
use super::quantity::{AMOUNT, BLOCKS, PRICE_PER_MIB, PRICE_PER_SECOND, SIZE, TIME};
use super::{
    ChainBackend, ChainConfig, ChannelConfig, ClientConfig, Config, ConfigError, DEFAULT_PORT, NodeConfig,
    PriceConfig, RelayConfig,
};
use crate::chain::{Auth, Bitcoind, DEFAULT_PATIENCE};
use crate::control::Target;
use crate::gate::InterfaceName;
use bitcoin::Network;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use turnpike_protocol::base::limits::{
    DEFAULT_CAPACITY_SAT, DEFAULT_LIFETIME, DEFAULT_WINDOW, MAX_CAPACITY_SAT, MAX_FREE, MAX_LIFETIME,
    MAX_PRICE_MSAT, MAX_WINDOW, MIN_CAPACITY_SAT, MIN_LIFETIME, MIN_WINDOW,
};
use turnpike_protocol::base::{BlockHeight, ByteCount, Msat, NodeId, Sat};
use turnpike_protocol::market::Prices;
use turnpike_protocol::money::channel::PayeePolicy;
use turnpike_protocol::wire::{BindingClass, PriceSheet};

/// Port of `turnpike-playchain`, and its cookie where it was started in the folder of the configuration file.
const PLAY_PORT: u16 = 18555;
const PLAY_COOKIE: &str = "playchain/.cookie";
/// Default price, msat per MiB: about 50 sat per GB, a few cents.
const DEFAULT_PRICE: u64 = 50;
/// Default largest window, bytes: what a client may have prepaid and lose if the relay vanishes.
const DEFAULT_WINDOW_MAX: u64 = 64 * 1024 * 1024;
/// Default of the free allowance of all clients together and day, bytes.
const DEFAULT_FREE_TOTAL: u64 = 1024 * 1024 * 1024;
/// Most loss that can be tolerated, parts per million: half. Beyond, the relay's count would mean nothing.
const MAX_LOSS: u32 = 500_000;
/// Default tolerance, parts per million: 2 %, what a poor but working radio link loses after the relay counted.
const DEFAULT_LOSS: u32 = 20_000;
/// Default constant tolerance: what a few offloaded segments of 64 KiB come to.
const DEFAULT_ALLOWANCE: u64 = 256 * 1024;
/// All bitcoin there will ever be, satoshi.
const ALL_SAT: u64 = 21_000_000 * 100_000_000;
/// Longest name of a node.
const MAX_NAME: usize = 32;

/// The configuration, and the keys that are none: an error if `strict`.
pub(super) fn config(
    path: &Path,
    text: &str,
    strict: bool,
) -> Result<(Config, Vec<ConfigError>), ConfigError> {
    let mut document = Document::parse(path, text, strict)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let node = document.section("node", |s| node(s, folder))?;
    let chain = document.section("chain", |s| chain(s, folder))?;
    let relay = document.section("relay", relay)?;
    let price = document.section("price", price)?;
    let channel = document.section("channel", channel)?;
    let client = document.section("client", client)?;
    let log_level = document.section("log", log)?;
    let lines = std::mem::take(&mut document.lines);
    let unknown = document.unknown()?;
    let config = Config {
        node,
        chain,
        relay,
        price,
        channel,
        client,
        log_level,
        path: path.to_owned(),
        lines,
    };
    Ok((config, unknown))
}

fn node(section: &Section<'_, '_>, folder: &Path) -> Result<NodeConfig, ConfigError> {
    let data_dir = section.required("data_dir", "\"data\"")?;
    let name = match section.entry("name") {
        Some(entry) => {
            let name = entry.text()?;
            if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(entry.wrong(
                    "this name is too long or not one line",
                    "use at most 32 characters",
                ));
            }
            name.to_owned()
        }
        None => "turnpike".to_owned(),
    };
    Ok(NodeConfig {
        data_dir: folder.join(data_dir.text()?),
        name,
    })
}

fn chain(section: &Section<'_, '_>, folder: &Path) -> Result<ChainConfig, ConfigError> {
    let backends = [("bitcoind", ChainBackend::Bitcoind), ("play", ChainBackend::Play)];
    let backend = section.required("backend", "\"bitcoind\"")?.choice(&backends)?;
    let networks = [
        ("mainnet", Network::Bitcoin),
        ("testnet4", Network::Testnet4),
        ("signet", Network::Signet),
        ("regtest", Network::Regtest),
    ];
    let network = match section.entry("network") {
        Some(entry) => entry.choice(&networks)?,
        None if backend == ChainBackend::Play => Network::Regtest,
        None => Network::Bitcoin,
    };
    if backend == ChainBackend::Play && network != Network::Regtest {
        return Err(section.error(
            "network",
            "the play chain has no real money",
            "remove this line, or set backend = \"bitcoind\"",
        ));
    }
    let url = match section.entry("url") {
        Some(entry) => {
            let url = entry.text()?;
            if url.contains('@') {
                // Not repeated: there is a password in it.
                let what = "user and password do not belong into the address";
                return Err(entry.wrong(what, "write them as user and password"));
            }
            let url = url.trim_end_matches('/');
            if Bitcoind::new(url, Auth::Cookie(PathBuf::new()), DEFAULT_PATIENCE).is_err() {
                let what = format!("\"{url}\" is no address of a chain back end");
                return Err(entry.wrong(what, "write it such as \"http://127.0.0.1:8332\""));
            }
            url.to_owned()
        }
        None if backend == ChainBackend::Play => format!("http://127.0.0.1:{PLAY_PORT}"),
        None => format!("http://127.0.0.1:{}", rpc_port(network)),
    };
    let auth = match (section.entry("user"), section.entry("password")) {
        (None, None) => Auth::Cookie(match section.entry("cookie") {
            Some(entry) => folder.join(entry.text()?),
            None if backend == ChainBackend::Play => folder.join(PLAY_COOKIE),
            None => default_cookie(network),
        }),
        (user, password) => {
            if let Some(cookie) = section.entry("cookie") {
                let what = "user and password are there, too";
                return Err(cookie.wrong(what, "remove the cookie, or user and password"));
            }
            let missing = |key, other: &str| {
                let remedy = format!("write both, as in bitcoind's rpcauth, or remove {other}");
                section.error(key, format!("{other} is there, and this key is missing"), remedy)
            };
            let user = user.ok_or_else(|| missing("user", "password"))?;
            let password = password.ok_or_else(|| missing("password", "user"))?;
            let name = user.text()?;
            if name.contains(':') || name.chars().any(char::is_control) {
                return Err(user.wrong(
                    "a user has no colon and is one line",
                    "copy it from bitcoind's rpcauth",
                ));
            }
            Auth::Password {
                user: name.to_owned(),
                password: password.text()?.to_owned(),
            }
        }
    };
    let poll = section.quantity("poll", &TIME, 100..=600_000, 10_000)?;
    Ok(ChainConfig {
        backend,
        url,
        auth,
        network,
        poll: Duration::from_millis(poll),
    })
}

fn relay(section: &Section<'_, '_>) -> Result<RelayConfig, ConfigError> {
    let enabled = section.boolean("enabled", false)?;
    let listen = match section.entry("listen") {
        Some(entry) => {
            entry.parsed("write an address and a port, such as \"[::]:7473\" or \"0.0.0.0:7473\"")?
        }
        None => SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)),
    };
    let guest_interface = interfaces(section, "guest_interface")?;
    let uplink_interface = interfaces(section, "uplink_interface")?;
    for (key, names) in [
        ("guest_interface", &guest_interface),
        ("uplink_interface", &uplink_interface),
    ] {
        if enabled && names.is_empty() {
            return Err(section.error(
                key,
                "a relay needs this key",
                format!("add {key} = \"NAME\" under [relay] (`ip link` lists names), or set enabled = false"),
            ));
        }
    }
    if let Some(both) = guest_interface
        .iter()
        .find(|name| uplink_interface.contains(name))
    {
        let what = format!("{} is also a guest interface", both.as_str());
        return Err(section.error("uplink_interface", what, "name two different interfaces"));
    }
    Ok(RelayConfig {
        enabled,
        listen,
        guest_interface,
        uplink_interface,
        masquerade: section.boolean("masquerade", true)?,
        prefix_per_guest: section.boolean("prefix_per_guest", false)?,
        discoverable: section.boolean("discoverable", true)?,
    })
}

fn interfaces(section: &Section<'_, '_>, key: &'static str) -> Result<Vec<InterfaceName>, ConfigError> {
    let Some(entry) = section.entry(key) else {
        return Ok(Vec::new());
    };
    let texts = entry.texts()?;
    let names = texts.into_iter().map(|text| text.parse::<InterfaceName>());
    names
        .map(|name| name.map_err(|error| entry.wrong("not the name of an interface", error)))
        .collect()
}

fn price(section: &Section<'_, '_>) -> Result<PriceConfig, ConfigError> {
    let prices = 0..=MAX_PRICE_MSAT;
    let windows = MIN_WINDOW..=MAX_WINDOW;
    let config = PriceConfig {
        up: Msat::new(section.quantity("up", &PRICE_PER_MIB, prices.clone(), DEFAULT_PRICE)?),
        down: Msat::new(section.quantity("down", &PRICE_PER_MIB, prices.clone(), DEFAULT_PRICE)?),
        per_second: Msat::new(section.quantity("per_second", &PRICE_PER_SECOND, prices, 0)?),
        free: ByteCount::new(section.quantity("free", &SIZE, 0..=MAX_FREE, 0)?),
        free_total: ByteCount::new(section.quantity(
            "free_total",
            &SIZE,
            0..=MAX_FREE * 1_024,
            DEFAULT_FREE_TOTAL,
        )?),
        window_min: ByteCount::new(section.quantity("window_min", &SIZE, windows.clone(), MIN_WINDOW)?),
        window_max: ByteCount::new(section.quantity("window_max", &SIZE, windows, DEFAULT_WINDOW_MAX)?),
    };
    ordered(
        section,
        ["window_min", "window_max"],
        [config.window_min, config.window_max],
        |size| SIZE.show(size.value()),
    )?;
    let sheet = PriceSheet {
        version: 1,
        valid_until: BlockHeight::new(1),
        up: config.up,
        down: config.down,
        per_second: config.per_second,
        free: config.free,
        window_min: config.window_min,
        window_max: config.window_max,
        class: BindingClass::Address,
    };
    if Prices::check(&sheet, BlockHeight::new(1)).is_err() {
        // The bounds of single keys are checked above: what is left is their product.
        let dearest = [
            ("up", config.up),
            ("down", config.down),
            ("per_second", config.per_second),
        ];
        let key = dearest
            .into_iter()
            .max_by_key(|(_, price)| *price)
            .map_or("up", |(key, _)| key);
        let max = AMOUNT.show(MAX_CAPACITY_SAT);
        return Err(section.error(
            key,
            format!(
                "this price overflows: the smallest window costs more than the {max} that a channel can hold"
            ),
            "lower the price or window_min",
        ));
    }
    Ok(config)
}

fn channel(section: &Section<'_, '_>) -> Result<ChannelConfig, ConfigError> {
    let defaults = PayeePolicy::default();
    let sat = |key, bounds, default| section.quantity(key, &AMOUNT, bounds, default).map(Sat::new);
    let lifetime = |key, default| -> Result<u32, ConfigError> {
        let bounds = u64::from(MIN_LIFETIME)..=u64::from(MAX_LIFETIME);
        Ok(section.quantity(key, &BLOCKS, bounds, default)? as u32)
    };
    let capacity = MIN_CAPACITY_SAT..=MAX_CAPACITY_SAT;
    let config = ChannelConfig {
        capacity_min: sat("capacity_min", capacity.clone(), MIN_CAPACITY_SAT)?,
        capacity_max: sat("capacity_max", capacity, MAX_CAPACITY_SAT)?,
        lifetime_min: lifetime("lifetime_min", u64::from(MIN_LIFETIME))?,
        lifetime_max: lifetime("lifetime_max", u64::from(MAX_LIFETIME))?,
        unconfirmed: sat(
            "unconfirmed",
            0..=MAX_CAPACITY_SAT,
            defaults.unconfirmed.to_sat_floor().value(),
        )?,
        unconfirmed_total: sat(
            "unconfirmed_total",
            0..=ALL_SAT,
            defaults.unconfirmed_total.to_sat_floor().value(),
        )?,
        dark: sat("dark", 0..=MAX_CAPACITY_SAT, defaults.dark.to_sat_floor().value())?,
    };
    let show = |sat: Sat| sat.to_string();
    ordered(
        section,
        ["capacity_min", "capacity_max"],
        [config.capacity_min, config.capacity_max],
        show,
    )?;
    ordered(
        section,
        ["lifetime_min", "lifetime_max"],
        [config.lifetime_min, config.lifetime_max],
        |n| BLOCKS.show(n.into()),
    )?;
    ordered(
        section,
        ["unconfirmed", "unconfirmed_total"],
        [config.unconfirmed, config.unconfirmed_total],
        show,
    )?;
    Ok(config)
}

fn client(section: &Section<'_, '_>) -> Result<ClientConfig, ConfigError> {
    // As `turnpike buy --relay` takes it, where an address is in it.
    let (relay, named) = match section.entry("relay") {
        Some(entry) => {
            let text = entry.text()?;
            match text.parse::<Target>() {
                Ok(Target {
                    node,
                    address: Some(address),
                }) => (Some(address), node.map(|n| n.0)),
                _ => {
                    let what = format!("\"{text}\" is no address");
                    return Err(entry.wrong(what, format!("write {}", Target::EXPECTED_ADDRESS)));
                }
            }
        }
        None => (None, None),
    };
    let identity = match section.entry("identity") {
        Some(entry) => {
            let text = entry.text()?;
            Some(node_id(text).ok_or_else(|| {
                entry.wrong(
                    "this is no identity",
                    "copy the 64 hexadecimal digits that `turnpike discover` shows",
                )
            })?)
        }
        None => named,
    };
    if named.is_some_and(|named| identity != Some(named)) {
        return Err(section.error(
            "identity",
            "relay names another identity",
            "remove one of the two",
        ));
    }
    let interface = match section.entry("interface") {
        Some(entry) => Some(
            entry
                .text()?
                .parse::<InterfaceName>()
                .map_err(|error| entry.wrong("not the name of an interface", error))?,
        ),
        None => None,
    };
    let auto = section.boolean("auto", false)?;
    if auto && identity.is_none() {
        return Err(section.error(
            "auto",
            "buying without being asked needs to know from whom",
            "add identity = \"…\" under [client] (`turnpike discover` shows it), or set auto = false",
        ));
    }
    let max = section.quantity("max", &AMOUNT, 1..=ALL_SAT, 10_000)?;
    let capacity = section.quantity(
        "capacity",
        &AMOUNT,
        MIN_CAPACITY_SAT..=MAX_CAPACITY_SAT,
        DEFAULT_CAPACITY_SAT,
    )?;
    let lifetimes = u64::from(MIN_LIFETIME)..=u64::from(MAX_LIFETIME);
    let lifetime = section.quantity("lifetime", &BLOCKS, lifetimes, u64::from(DEFAULT_LIFETIME))?;
    let loss = match section.entry("loss_tolerance") {
        Some(entry) => entry.percent(MAX_LOSS)?,
        None => DEFAULT_LOSS,
    };
    let allowance = section.quantity("loss_allowance", &SIZE, 0..=DEFAULT_WINDOW, DEFAULT_ALLOWANCE)?;
    Ok(ClientConfig {
        relay,
        identity,
        interface,
        auto,
        max: Sat::new(max),
        capacity: Sat::new(capacity),
        lifetime: lifetime as u32,
        loss_tolerance_ppm: loss,
        loss_allowance: ByteCount::new(allowance),
    })
}

fn log(section: &Section<'_, '_>) -> Result<tracing::Level, ConfigError> {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    match section.entry("level") {
        Some(entry) => entry.choice(&levels),
        None => Ok(Level::INFO),
    }
}

/// The smaller bound must not be above the larger one.
fn ordered<T: PartialOrd + Copy>(
    section: &Section<'_, '_>,
    keys: [&'static str; 2],
    [low, high]: [T; 2],
    show: impl Fn(T) -> String,
) -> Result<(), ConfigError> {
    let [low_key, high_key] = keys;
    if low <= high {
        return Ok(());
    }
    let what = format!("{} is above {high_key}, which is {}", show(low), show(high));
    Err(section.error(low_key, what, format!("raise {high_key} or lower {low_key}")))
}

/// 64 hexadecimal digits.
pub(crate) fn node_id(text: &str) -> Option<NodeId> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| !pair.starts_with('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(NodeId::from_bytes(bytes))
}

/// bitcoind's default RPC ports.
fn rpc_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
        _ => 18332,
    }
}

/// Where bitcoind leaves its cookie when run by the same user.
fn default_cookie(network: Network) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folder = match network {
        Network::Bitcoin => "",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
        _ => "testnet3",
    };
    home.join(".bitcoin").join(folder).join(".cookie")
}
