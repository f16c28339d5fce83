//! The owner's requests: what comes over the control socket is carried out here.
//!
//! What it does: one task per request; turns it into commands of the node, orders to the wallet and questions to the
//! store, waits for what follows from them, and answers in plain figures.
//! What comes in: [`Order`]s. What goes out: progress and one answer each, whose failures say what to do.
//! What it never does: wait without a deadline, keep the core waiting, or spend more than a request allows.
//! Spec page: `protocol/spec/control.md`.

mod backup;
mod buy;
mod channel;
mod client;
mod course;
mod doctor;
mod exposure;
mod figures;
mod news;
mod open;
mod price;
mod receipt;
mod refusal;
mod relay;
mod status;
mod wallet;

use super::core::CoreHandle;
use super::sales;
use crate::chain::{ChainHandle, play_genesis};
use crate::config::{ChainBackend, Config};
use crate::control::{Failed, Order, Request, Responder, Response};
use crate::transport::Links;
use bitcoin::hashes::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant as Clock;
use tokio::sync::{Semaphore, mpsc};
use turnpike_protocol::base::{ConnectionId, GenesisHash, Instant, NodeId};

/// Requests carried out at once. Twice what the socket serves: purchases go on after their user went away.
const MAX_REQUESTS: usize = 2 * crate::control::MAX_CONNECTIONS;

/// Serves the owner's requests. Call order: [`Desk::new`], then [`Desk::serve`] in a task of its own.
pub struct Desk {
    core: CoreHandle,
    chain: ChainHandle,
    links: Links,
    config: Arc<Config>,
    genesis: GenesisHash,
    /// The core counts its time from here too.
    started: Clock,
    /// One channel is opened at a time: the wallet's coins and the answers then belong to one request.
    opening: tokio::sync::Mutex<()>,
    /// Relays from which a request buys now.
    followed: Mutex<BTreeSet<NodeId>>,
    /// Where sessions go that were made from here.
    called: Mutex<BTreeMap<ConnectionId, SocketAddr>>,
}

impl Desk {
    /// Joins the parts. `started` is the origin of the core's clock.
    pub fn new(
        core: CoreHandle,
        chain: ChainHandle,
        links: Links,
        config: Arc<Config>,
        started: Clock,
    ) -> Desk {
        let genesis = match config.chain.backend {
            ChainBackend::Play => play_genesis().block_hash(),
            ChainBackend::Bitcoind => bitcoin::constants::genesis_block(config.chain.network).block_hash(),
        };
        Desk {
            core,
            chain,
            links,
            config,
            genesis: GenesisHash::from_bytes(genesis.to_byte_array()),
            started,
            opening: tokio::sync::Mutex::new(()),
            followed: Mutex::new(BTreeSet::new()),
            called: Mutex::new(BTreeMap::new()),
        }
    }

    /// Carries out requests, each in a task of its own, until nobody can send any more.
    pub async fn serve(self, mut orders: mpsc::Receiver<Order>) {
        let desk = Arc::new(self);
        if desk.config.relay.enabled {
            tokio::spawn(sales::keep(desk.core.clone()));
        }
        let places = Arc::new(Semaphore::new(MAX_REQUESTS));
        while let Some(Order { request, responder }) = orders.recv().await {
            let Ok(place) = places.clone().try_acquire_owned() else {
                let error = format!("{MAX_REQUESTS} requests are being carried out already");
                responder.finish(Err(Failed::refused(
                    error,
                    "stop a purchase, or wait for one to end",
                )));
                continue;
            };
            let desk = desk.clone();
            tokio::spawn(async move {
                desk.carry_out(request, responder).await;
                drop(place);
            });
        }
    }

    async fn carry_out(&self, request: Request, responder: Responder) {
        let answer = match request {
            // These go on while their user watches, or longer.
            Request::Events => self.events(&responder).await,
            Request::Buy {
                relay,
                bytes,
                max_sat,
                auto,
                capacity_sat,
                lifetime_blocks,
            } => {
                let wish = buy::Wish {
                    relay,
                    bytes,
                    max: max_sat,
                    auto,
                    capacity_sat,
                    lifetime_blocks,
                };
                self.buy(wish, &responder).await
            }
            // These are given up when their user goes away.
            other => tokio::select! {
                answer = self.answer(other, &responder) => answer,
                () = responder.gone() => return,
            },
        };
        responder.finish(answer);
    }

    async fn answer(&self, request: Request, responder: &Responder) -> Result<Response, Failed> {
        match request {
            Request::Status => self.status().await,
            Request::Discover { seconds } => self.discover(seconds, responder).await,
            Request::Connect { address, relay } => self.connect(&address, relay.map(|r| r.0)).await,
            Request::PriceShow => self.price_show().await,
            Request::PriceSet(change) => self.price_set(change).await,
            Request::PriceReload => self.price_reload().await,
            Request::Quote {
                relay,
                capacity_sat,
                lifetime_blocks,
            } => self.quote(relay, capacity_sat, lifetime_blocks).await,
            Request::Open {
                relay,
                capacity_sat,
                lifetime_blocks,
            } => self.open(relay, capacity_sat, lifetime_blocks, responder).await,
            Request::StopBuying { relay } => self.stop_buying(relay.map(|r| r.0)).await,
            Request::ChannelList => self.channel_list().await,
            Request::ChannelClose { which, wait_seconds } => {
                self.channel_close(which, wait_seconds, responder).await
            }
            Request::ChannelRaiseFee { slot, sat_per_kvb } => self.channel_raise_fee(slot, sat_per_kvb).await,
            Request::WalletAddress => self.wallet_address().await,
            Request::WalletBalance => self.wallet_balance().await,
            Request::WalletSend {
                address,
                amount_sat,
                sat_per_kvb,
            } => self.wallet_send(&address, amount_sat, sat_per_kvb).await,
            Request::ReceiptList { skip, limit } => self.receipt_list(skip, limit).await,
            Request::Exposure => self.exposure().await,
            Request::ClientList => self.client_list().await,
            Request::ClientStand { client, standing } => self.client_stand(client, standing).await,
            Request::Sales { days } => self.sales(days).await,
            Request::RefundExport => self.refund_export().await,
            Request::Backup { path } => self.backup(path).await,
            Request::Doctor => self.doctor().await,
            // Carried out before these.
            Request::Events | Request::Buy { .. } => {
                Err(Failed::daemon("a request went astray", "report this"))
            }
        }
    }

    /// Now, on the core's clock.
    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
