//! Start and end of the daemon.

use super::chronicle;
use super::core::{Ask, Core, CoreError, CoreHandle, FOLLOWER_KEY};
use super::gatekeeper::{Gatekeeper, GuestLinks};
use super::requests::Desk;
use super::rows;
use crate::chain::{Bitcoind, ChainName, ChainTask, DEFAULT_PATIENCE, FollowerConfig};
use crate::config::{ChainBackend, Config, ConfigError};
use crate::control::ControlServer;
use crate::gate::{Gate, GatePlan, Survivor, Watcher};
use crate::store::{Store, Table, Write, finish_arrival};
use crate::transport::{Discovery, LinkLimits, Links, SignedSheet, answer_discovery};
use crate::wallet::{Wallet, WalletKeys, chain_of};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use std::sync::Arc;
use std::time::Instant as Clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use turnpike_protocol::base::{BlockHeight, GenesisHash, Instant, Msat};
use turnpike_protocol::crypto::{CoinType, Keys, Seed};
use turnpike_protocol::market::{AccountConfig, BuyerConfig, Prices};
use turnpike_protocol::money::channel::PayeePolicy;
use turnpike_protocol::node::{self, Node};
use turnpike_protocol::wire::{BindingClass, PriceSheet};

/// Session events that wait for the core.
const MAX_WAITING: usize = 1_024;

/// Why the daemon did not start or did not end well. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration, or what it asks of the system. Exit status 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Seed, store, wallet or another file of the node.
    #[error("{0}")]
    Files(String),
    /// It ran, and the disk failed.
    #[error(transparent)]
    Core(#[from] CoreError),
}

fn files(error: impl ToString) -> StartError {
    StartError::Files(error.to_string())
}

/// Runs the node until a signal or a fault ends it.
///
/// # Errors
/// [`StartError`]; before the first session nothing was changed on the system.
pub async fn run(config: Config) -> Result<(), StartError> {
    let started = Clock::now();
    config.preflight()?;
    let config = Arc::new(config);
    let network = config.chain.network;
    let play = config.chain.backend == ChainBackend::Play;
    finish_arrival(&config.seed(), &config.store()).map_err(files)?;
    let keys = read_keys(&config)?;
    let genesis = config.chain.name().genesis();

    let store = Store::open(&config.store()).map_err(files)?;
    let restored = store.restored().map_err(files)?;
    let journal: Vec<Vec<u8>> = store
        .load(Table::Wallet)
        .map_err(files)?
        .into_iter()
        .map(|row| row.value)
        .collect();
    if let Some(of) = store_of_another_chain(&config, &journal) {
        return Err(StartError::Files(of));
    }
    let account = keys.account();
    let wallet_keys = WalletKeys {
        external: &account.external,
        internal: &account.internal,
        network,
        genesis,
        recovery: keys.recovery().as_bytes(),
    };
    let mut wallet = Wallet::open(&wallet_keys, &journal).map_err(files)?;
    let payout = wallet.change_address().script_pubkey();
    let mut wallet_rows = journal.len() as u64;
    if let Some(changes) = wallet.take_changes().map_err(files)? {
        let key = wallet_rows.to_be_bytes();
        store
            .commit(&[Write::Put {
                table: Table::Wallet,
                key: &key,
                value: &changes,
            }])
            .map_err(files)?;
        wallet_rows += 1;
    }
    let state = store.read(Table::Chain, FOLLOWER_KEY).map_err(files)?;
    let (chain_task, chain, reports) = ChainTask::new(
        backend(&config)?,
        follower(&config, genesis, restored),
        state.as_deref(),
        Some(wallet),
    )
    .map_err(files)?;

    let node = load(&config, &keys, genesis, payout, &store)?;
    let (gatekeeper, watcher) = open_gate(&config)?;
    let keys = Arc::new(keys);
    let (frame_sender, frames) = mpsc::channel(MAX_WAITING);
    let genesis_hash = GenesisHash::from_bytes(genesis.to_byte_array());
    let links = Links::new(keys.clone(), genesis_hash, frame_sender, LinkLimits::default());
    let (control, orders) = ControlServer::bind(&config.control_socket()).map_err(files)?;
    let (chain_actions, mut chain_queue) = mpsc::unbounded_channel();
    let (core, handle) = Core::new(
        node,
        store,
        gatekeeper,
        links.clone(),
        chain_actions,
        config.clone(),
        started,
        wallet_rows,
    )
    .map_err(files)?;

    if config.relay.enabled {
        let at = links.listen(config.relay.listen).await.map_err(|error| {
            config.blame(
                "relay.listen",
                error,
                "choose another address or port, or end the program that has it",
            )
        })?;
        tracing::info!(address = %at, "selling");
    }
    tokio::spawn(chain_task.run());
    let forward = chain.clone();
    // A queue of its own, so that core and chain task never wait for each other.
    tokio::spawn(async move {
        while let Some(action) = chain_queue.recv().await {
            if forward.act(action).await.is_err() {
                return;
            }
        }
    });
    if let Some(watcher) = watcher {
        let handle = handle.clone();
        let mut watcher = watcher.into_async().map_err(files)?;
        tokio::spawn(async move {
            while watcher.next().await.is_ok() {
                handle.ask(Ask::GateNote);
            }
        });
    }
    if config.relay.enabled && config.relay.discoverable {
        answer_who_looks(&config, keys, genesis_hash, handle.clone());
    }
    if !config.relay.enabled && !config.client.auto {
        tracing::info!(
            "this node sells nothing, and buys only when `turnpike buy` says so: to sell, set enabled = true under [relay] in {}",
            config.path().display()
        );
    }
    tokio::spawn(chronicle::keep(handle.clone(), started));
    tokio::spawn(control.run());
    tokio::spawn(Desk::new(handle.clone(), chain, links, config.clone(), started).serve(orders));
    let stop = handle.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(files)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(files)?;
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("going down");
        // `run` notices the end of the core, not this answer.
        stop.ask(Ask::Shutdown(oneshot::channel().0));
    });
    tracing::info!(socket = %config.control_socket().display(), play_money = play, "ready");
    // Told to systemd where systemd started us; anywhere else there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    core.run(frames, reports).await?;
    Ok(())
}

/// Tells who looks for relays on the guest links what is sold here.
fn answer_who_looks(config: &Config, keys: Arc<Keys>, genesis: GenesisHash, core: CoreHandle) {
    let (sheets, sheet) = watch::channel(None);
    let what = Discovery {
        keys,
        genesis,
        name: config.node.name.clone(),
        port: config.relay.listen.port(),
        sheet,
    };
    let interfaces: Vec<String> = config
        .relay
        .guest_interface
        .iter()
        .map(ToString::to_string)
        .collect();
    tokio::spawn(async move {
        if let Err(error) = answer_discovery(what, &interfaces).await {
            tracing::warn!(%error, "relays that are looked for on the link will not find this one; name its address");
        }
    });
    tokio::spawn(async move {
        let mut events = core.events();
        loop {
            let signed = |n: &Node| {
                n.signed_sheet().map(|(sheet, signature)| SignedSheet {
                    sheet: sheet.to_vec(),
                    signature: signature.0,
                })
            };
            let Ok(now) = core.look(signed).await else { return };
            sheets.send_if_modified(|kept| {
                *kept != now && {
                    *kept = now;
                    true
                }
            });
            // A new sheet comes with other news; a node without news has its old one.
            if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
                return;
            }
        }
    });
}

/// What is wrong where the store belongs to another chain than the configuration, and how to go on; `None` if nothing is.
pub fn store_of_another_chain(config: &Config, journal: &[Vec<u8>]) -> Option<String> {
    let wanted = config.chain.name();
    let of = chain_of(journal).ok().flatten()?;
    if of == wanted.genesis() {
        return None;
    }
    let of = ChainName::of(of).map_or("another chain", ChainName::word);
    let (wanted, store) = (wanted.word(), config.store());
    let (store, file) = (store.display(), config.path().display());
    let aside = of.replace(' ', "-");
    Some(format!(
        "{store} belongs to {of}, and {file} says {wanted}: set [chain] back to {of}, or keep that store aside (its \
         channels wait in it) and make one for {wanted} beside the same seed: `mv -n {store} {store}.{aside} && \
         turnpike --config {file} init`"
    ))
}

fn read_keys(config: &Config) -> Result<Keys, StartError> {
    let path = config.seed();
    let words = std::fs::read_to_string(&path).map_err(|e| {
        files(format!(
            "{}: {e}; make a seed with `turnpike init`",
            path.display()
        ))
    })?;
    let words = zeroize::Zeroizing::new(words);
    let seed = Seed::from_words(words.trim()).map_err(|e| {
        files(format!(
            "{}: {e}; restore it with `turnpike init --restore`",
            path.display()
        ))
    })?;
    let coin = if config.chain.network == bitcoin::Network::Bitcoin {
        CoinType::Bitcoin
    } else {
        CoinType::Test
    };
    Keys::new(&seed, coin).map_err(files)
}

fn backend(config: &Config) -> Result<Bitcoind, StartError> {
    Bitcoind::new(&config.chain.url, config.chain.auth.clone(), DEFAULT_PATIENCE).map_err(|e| {
        config
            .blame("chain.url", e, "write it as http://HOST:PORT")
            .into()
    })
}

fn follower(config: &Config, genesis: BlockHash, restored: bool) -> FollowerConfig {
    let quick = config.chain.network == bitcoin::Network::Regtest;
    FollowerConfig {
        poll: config.chain.poll,
        // Seed words alone find everything that they ever owned; a new seed owns nothing yet.
        first_block: restored.then_some(0),
        ..FollowerConfig::new(genesis, quick)
    }
}

fn load(
    config: &Config,
    keys: &Keys,
    genesis: BlockHash,
    payout: bitcoin::ScriptBuf,
    store: &Store,
) -> Result<Node, StartError> {
    let c = &config.channel;
    let msat = |sat: turnpike_protocol::base::Sat| sat.to_msat().unwrap_or(Msat::MAX);
    let policy = PayeePolicy {
        capacity_min: c.capacity_min,
        capacity_max: c.capacity_max,
        lifetime_min: c.lifetime_min,
        lifetime_max: c.lifetime_max,
        unconfirmed: msat(c.unconfirmed),
        unconfirmed_total: msat(c.unconfirmed_total),
        dark: msat(c.dark),
        ..PayeePolicy::default()
    };
    policy
        .check()
        .map_err(|e| config.blame("channel", e, "see `turnpike init` for an example"))?;
    let p = &config.price;
    let sheet = PriceSheet {
        version: 0,
        valid_until: BlockHeight::ZERO,
        up: p.up,
        down: p.down,
        per_second: p.per_second,
        free: p.free,
        window_min: p.window_min,
        window_max: p.window_max,
        class: BindingClass::Address,
    };
    Prices::check(&sheet, BlockHeight::ZERO)
        .map_err(|e| config.blame("price", e, "see `turnpike init` for an example"))?;
    let relay = node::RelayConfig {
        policy,
        sheet,
        account: AccountConfig::default(),
        free_total: p.free_total,
    };
    let buyer = BuyerConfig {
        loss_ppm: config.client.loss_tolerance_ppm,
        slack: config.client.loss_allowance,
        ..BuyerConfig::default()
    };
    let settings = node::Config {
        genesis: GenesisHash::from_bytes(genesis.to_byte_array()),
        payout,
        relay: config.relay.enabled.then_some(relay),
        buyer,
        minimum: None,
    };
    let stored = rows::load(store).map_err(files)?;
    // The node has its own handle on the keys: they are derived once more, which takes a millisecond at start.
    let own = read_keys(config)?;
    debug_assert_eq!(own.node(), keys.node());
    Node::load(Instant::default(), settings, own, &stored, BlockHeight::ZERO).map_err(files)
}

/// Opens the gate where this node sells. What a crash left in force goes on counting until the core has billed it.
fn open_gate(config: &Config) -> Result<(Gatekeeper, Option<Watcher>), StartError> {
    let mut gatekeeper = Gatekeeper::default();
    if !config.relay.enabled {
        return Ok((gatekeeper, None));
    }
    let plan = GatePlan {
        guests: config.relay.guest_interface.clone(),
        uplinks: config.relay.uplink_interface.clone(),
        masquerade_ipv4: config.relay.masquerade,
        masquerade_ipv6: config.relay.masquerade,
    };
    let blame = |e: crate::gate::GateError| config.blame("relay.guest_interface", e, "run `turnpike doctor`");
    let watcher = Watcher::open().map_err(blame)?;
    let (gate, survivors): (Gate, Vec<Survivor>) = Gate::open(plan).map_err(blame)?;
    let guests = GuestLinks {
        interfaces: config.relay.guest_interface.clone(),
        prefix_each: config.relay.prefix_per_guest,
    };
    gatekeeper.relay(gate, guests, &survivors);
    Ok((gatekeeper, Some(watcher)))
}
