//! The core over a disk that loses power: whatever a peer was told is on the medium.

use super::core::{Ask, Core, CoreHandle};
use super::gatekeeper::Gatekeeper;
use super::rows;
use crate::chain::Report;
use crate::config::Config;
use crate::store::fault::Disk;
use crate::store::{Origin, Store};
use crate::transport::{LinkEvent, LinkLimits, Links};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::key::Secp256k1;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};
use tokio::sync::{mpsc, oneshot};
use turnpike_protocol::base::{
    BlockHeight, ByteCount, ConnectionId, GenesisHash, Instant, Msat, NodeId, Outpoint, Sat, Txid,
};
use turnpike_protocol::crypto::{CoinType, Keys, Role, Seed, channel_id};
use turnpike_protocol::market::{AccountConfig, BuyerConfig};
use turnpike_protocol::money::chain::{ChainAction, ChainEvent};
use turnpike_protocol::money::channel::PayeePolicy;
use turnpike_protocol::money::channel::tx::{PaymentDigest, Terms};
use turnpike_protocol::node::{self, Action, Command, Input, Node, RelayConfig};
use turnpike_protocol::wire::{
    BindingClass, Ext, Funded, Hello, Message, OpenRequest, PriceSheet, Resume, Signature, read_frame,
    write_frame,
};

const CAPACITY: Sat = Sat::new(50_000);
const HEIGHT: BlockHeight = BlockHeight::new(1_000);
const EXPIRY: BlockHeight = BlockHeight::new(2_008);
/// What the payer signs, one after the other.
const TOTALS: [Msat; 3] = [Msat::new(20_000), Msat::new(400_000), Msat::new(7_000_000)];
/// Nothing more comes after this long: the core has ended, and loopback is quicker.
const QUIET: Duration = Duration::from_millis(60);
/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn path() -> &'static Path {
    Path::new("store.redb")
}

fn keys(of: u8) -> Keys {
    Keys::new(&Seed::from_entropy(&[of; 32]), CoinType::Test).unwrap()
}

fn genesis() -> GenesisHash {
    GenesisHash::from_bytes([5; 32])
}

fn relay() -> RelayConfig {
    let sheet = PriceSheet {
        version: 0,
        valid_until: BlockHeight::ZERO,
        up: Msat::new(100_000),
        down: Msat::new(100_000),
        per_second: Msat::ZERO,
        free: ByteCount::ZERO,
        window_min: ByteCount::new(128 * 1024),
        window_max: ByteCount::new(64 << 20),
        class: BindingClass::Address,
    };
    RelayConfig {
        policy: PayeePolicy::default(),
        sheet,
        account: AccountConfig::default(),
        free_total: ByteCount::ZERO,
    }
}

fn node(keys_of: u8, relay: Option<RelayConfig>, store: &Store) -> Node {
    let config = node::Config {
        genesis: genesis(),
        payout: ScriptBuf::from_bytes([&[0x51, 0x20][..], &[7; 32]].concat()),
        relay,
        buyer: BuyerConfig::default(),
        minimum: None,
    };
    let stored = rows::load(store).unwrap();
    Node::load(
        Instant::default(),
        config,
        keys(keys_of),
        &stored,
        BlockHeight::ZERO,
    )
    .unwrap()
}

/// The relay as its disk has it.
fn load(store: &Store) -> Node {
    node(1, Some(relay()), store)
}

/// What the relay told its client.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Told {
    accepted: bool,
    /// The largest total that it said it has.
    total: Msat,
    /// How many answers came.
    answers: usize,
}

/// A client that opens a channel and pays, by hand.
struct Payer {
    links: Links,
    connection: ConnectionId,
    events: mpsc::Receiver<LinkEvent>,
    told: Told,
}

impl Payer {
    fn say(&self, message: impl Into<Message>) {
        let mut frame = Vec::new();
        write_frame(&message.into(), &mut frame);
        self.links.send(self.connection, frame);
    }

    /// The next message within `patience`; keeps what it says.
    async fn hear(&mut self, patience: Duration) -> Option<Message> {
        let frame = match tokio::time::timeout(patience, self.events.recv()).await {
            Ok(Some(LinkEvent::Frame { frame, .. })) => frame,
            _ => return None,
        };
        let message = read_frame(&frame).unwrap();
        match &message {
            Message::OpenAccept(_) => self.told.accepted = true,
            Message::ChannelReady(ready) => self.told.total = self.told.total.max(ready.total),
            _ => return Some(message),
        }
        self.told.answers += 1;
        Some(message)
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let message = self.hear(PATIENCE).await.expect("an answer");
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// Opens a channel, has it funded and pays.
    async fn buys(
        &mut self,
        chain: &mut mpsc::UnboundedReceiver<ChainAction>,
        reports: &mpsc::Sender<Report>,
    ) {
        let funding = keys(2).channel(Role::Payer, 0).unwrap().funding;
        let payer_key = funding.x_only_public_key().0.serialize();
        self.say(OpenRequest {
            payer_key: NodeId::from_bytes(payer_key),
            capacity: CAPACITY,
            expiry: EXPIRY,
            ext: Ext::default(),
        });
        let payee_key = self
            .until(|m| match m {
                Message::OpenAccept(a) => Some(*a.payee_key.as_bytes()),
                _ => None,
            })
            .await;
        let slot = loop {
            match chain.recv().await.expect("the core lives") {
                ChainAction::Watch { slot, .. } => break slot,
                _ => continue,
            }
        };
        let outpoint = Outpoint {
            txid: Txid::from_bytes([3; 32]),
            vout: 0,
        };
        let (value, height) = (CAPACITY, Some(HEIGHT.plus(1)));
        let funded = ChainEvent::Funded {
            slot,
            outpoint,
            value,
            height,
        };
        reports
            .send(report([funded, tip(HEIGHT.plus(20))]))
            .await
            .unwrap();
        self.say(Funded {
            payer_key: NodeId::from_bytes(payer_key),
            outpoint,
            tx: Default::default(),
            ext: Ext::default(),
        });
        let whole = CAPACITY.to_msat().unwrap();
        self.until(|m| matches!(m, Message::ChannelReady(r) if r.ceiling >= whole).then_some(()))
            .await;
        let terms = Terms {
            payer_key,
            payee_key,
            capacity: CAPACITY,
            expiry: EXPIRY,
        };
        let digest = PaymentDigest::new(&Secp256k1::verification_only(), &terms, outpoint).unwrap();
        for total in TOTALS {
            let signed = digest.sign_payment(&Secp256k1::signing_only(), &funding, total.to_sat_ceil());
            self.say(Resume {
                channel: channel_id(&outpoint),
                total,
                signature: Signature(signed.unwrap()),
                ext: Ext::default(),
            });
            self.until(|m| matches!(m, Message::ChannelReady(r) if r.total == total).then_some(()))
                .await;
        }
    }
}

fn tip(height: BlockHeight) -> ChainEvent {
    ChainEvent::Tip { height }
}

fn report<const N: usize>(events: [ChainEvent; N]) -> Report {
    Report {
        events: events.into(),
        state: Some(vec![1, 2, 3]),
        wallet: None,
    }
}

/// The core without a gate.
fn core(
    node: Node,
    store: Store,
    links: Links,
    chain: mpsc::UnboundedSender<ChainAction>,
    started: Clock,
) -> (Core, CoreHandle) {
    let config = "[node]\ndata_dir = \"data\"\n[chain]\nbackend = \"play\"\n";
    let config = Arc::new(Config::parse(Path::new("turnpike.toml"), config).unwrap());
    let gatekeeper = Gatekeeper::default();
    Core::new(node, store, gatekeeper, links, chain, config, started, 0).unwrap()
}

/// A relay from its start to its end, by the owner or by the disk, and what its client was told meanwhile.
async fn live(disk: Disk) -> Told {
    let Ok(store) = Store::open_on(disk, path()) else {
        return Told::default();
    };
    let (frame_sender, frames) = mpsc::channel(64);
    let links = Links::new(Arc::new(keys(1)), genesis(), frame_sender, LinkLimits::default());
    let at = links.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (chain_actions, mut chain) = mpsc::unbounded_channel();
    let (reports, news) = mpsc::channel(8);
    let (core, handle) = core(load(&store), store, links.clone(), chain_actions, Clock::now());
    reports.send(report([tip(HEIGHT)])).await.unwrap();

    let (sender, events) = mpsc::channel(64);
    let own = Links::new(Arc::new(keys(2)), genesis(), sender, LinkLimits::default());
    let connection = own.connect(at, Some(keys(1).node())).await.unwrap();
    let mut payer = Payer {
        links: own,
        connection,
        events,
        told: Told::default(),
    };
    assert!(matches!(payer.events.recv().await, Some(LinkEvent::Up { .. })));
    payer.say(Hello {
        genesis: genesis(),
        height: HEIGHT,
        generation: 1,
        seen_generation: 0,
        ext: Ext::default(),
    });
    let script = async {
        payer
            .until(|m| matches!(m, Message::Hello(_)).then_some(()))
            .await;
        payer.buys(&mut chain, &reports).await;
        handle.ask(Ask::Shutdown(oneshot::channel().0));
        std::future::pending::<()>().await
    };
    tokio::select! {
        _ = core.run(frames, news) => {}
        () = script => {}
    }
    // What was handed to the session before the end still arrives.
    while payer.hear(QUIET).await.is_some() {}
    payer.told
}

#[tokio::test]
async fn whatever_a_peer_was_told_is_on_the_medium_wherever_the_power_is_cut() {
    let empty = Disk::default();
    drop(Store::create_on(empty.clone(), path(), Origin::New, 0).unwrap());
    let (mut cuts, mut images, mut stages) = (0, 0, Vec::new());
    loop {
        let disk = Disk::holding(empty.image()).cut_at(cuts);
        let told = live(disk.clone()).await;
        if !disk.is_cut() {
            assert_eq!((told.accepted, told.total), (true, TOTALS[2]));
            break;
        }
        cuts += 1;
        disk.images(4, |found| {
            images += 1;
            let store = Store::open_on(Disk::holding(found), path()).unwrap();
            let node = load(&store);
            let channel = node.channels().into_iter().find(|c| c.peer == keys(2).node());
            assert!(
                channel.is_some() || !told.accepted,
                "cut at {cuts}: {told:?} and forgot the channel"
            );
            let total = channel.map_or(Msat::ZERO, |c| c.total);
            assert!(
                total >= told.total,
                "cut at {cuts}: {told:?} and remembers {total:?}"
            );
            assert!(
                total <= TOTALS[2],
                "cut at {cuts}: it counts more than was signed"
            );
        });
        if stages.last() != Some(&told) {
            stages.push(told);
        }
    }
    println!("{cuts} cut points, {images} different media, {stages:#?}");
    // The cuts fell before, between and after all of its answers.
    for total in TOTALS {
        assert!(stages.iter().any(|told| told.total == total), "{stages:?}");
    }
    assert!(stages.iter().any(|told| !told.accepted));
}

/// A disk whose every sync takes a while.
#[derive(Debug)]
struct Slow(Disk);

const SYNC: Duration = Duration::from_millis(20);

impl redb::StorageBackend for Slow {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        std::thread::sleep(SYNC);
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

/// A transaction that funds a channel.
fn funding(output_key: &[u8; 32]) -> Transaction {
    let output = TxOut {
        value: Amount::from_sat(CAPACITY.value()),
        script_pubkey: ScriptBuf::from_bytes([&[0x51, 0x20][..], output_key].concat()),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: Vec::new(),
        output: vec![output],
    }
}

/// A client that has asked for a binding, and asks again every ten seconds: its timer is the last thing that it waits for.
fn waiting(store: &Store) -> Node {
    let link = ConnectionId(1);
    let mut nodes = [node(2, None, store), load(store)];
    let ids = [nodes[0].id(), nodes[1].id()];
    let mut watched = [None; 2];
    let mut outpoint = Outpoint {
        txid: Txid::from_bytes([0; 32]),
        vout: 0,
    };
    let mut feed = |inputs: [Option<Input<'_>>; 2]| {
        for (node, input) in nodes.iter_mut().zip(inputs) {
            input
                .map_or(Ok(()), |i| node.handle(Instant::default(), i))
                .unwrap();
        }
        while let Some((who, action)) =
            (0..2).find_map(|who| nodes[who].poll_action().map(|action| (who, action)))
        {
            let (to, input) = match &action {
                Action::Send { frame, .. } => (
                    1 - who,
                    Input::Frame {
                        connection: link,
                        frame,
                    },
                ),
                Action::Chain(ChainAction::Fund { slot, output_key, .. }) => {
                    let tx = funding(output_key);
                    outpoint = OutPoint::new(tx.compute_txid(), 0).into();
                    let (slot, fee, tx) = (*slot, Sat::new(150), serialize(&tx));
                    let built = ChainEvent::FundingBuilt {
                        slot,
                        outpoint,
                        fee,
                        tx,
                    };
                    (who, Input::Chain(built))
                }
                Action::Chain(ChainAction::Watch { slot, .. }) => {
                    watched[who] = Some(*slot);
                    continue;
                }
                _ => continue,
            };
            let _ = nodes[to].handle(Instant::default(), input);
        }
        (watched, outpoint)
    };
    let command = |command| [Some(Input::Command(command)), None];
    let both = |event: ChainEvent| [Some(Input::Chain(event.clone())), Some(Input::Chain(event))];
    feed(both(tip(HEIGHT)));
    feed([1, 0].map(|other: usize| {
        Some(Input::Connected {
            connection: link,
            peer: ids[other],
        })
    }));
    feed(command(Command::AskOffer { connection: link }));
    let (watched, outpoint) = feed(command(Command::Open {
        connection: link,
        capacity: CAPACITY,
        lifetime: None,
    }));
    feed(watched.map(|slot| {
        Some(Input::Chain(ChainEvent::Funded {
            slot: slot.expect("a channel"),
            outpoint,
            value: CAPACITY,
            height: Some(HEIGHT.plus(1)),
        }))
    }));
    feed(both(tip(HEIGHT.plus(20))));
    feed(command(Command::Buy {
        connection: link,
        bytes: Some(ByteCount::new(1 << 20)),
        max: Msat::new(1_000_000),
    }));
    let [client, _] = nodes;
    client
}

#[tokio::test]
async fn commits_that_follow_each_other_delay_no_timer() {
    let disk = Disk::default();
    drop(Store::create_on(disk.clone(), path(), Origin::New, 0).unwrap());
    let store = Store::open_on(Slow(disk), path()).unwrap();
    let node = waiting(&store);
    let due = node.next_timeout().expect("a timer");
    let in_a_second = Duration::from_micros(due.as_micros()) - Duration::from_secs(1);
    let started = Clock::now()
        .checked_sub(in_a_second)
        .expect("a machine that is up");
    let (sender, _events) = mpsc::channel(1);
    let links = Links::new(Arc::new(keys(2)), genesis(), sender, LinkLimits::default());
    let (chain, _chain) = mpsc::unbounded_channel();
    let (core, handle) = core(node, store, links, chain, started);
    let (_frames, frames) = mpsc::channel(1);
    let (reports, news) = mpsc::channel(8);
    // News that must be durable, always more of it than the disk has taken.
    let flood = async {
        loop {
            reports.send(report([])).await.unwrap();
        }
    };
    let watch = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let next = handle.look(Node::next_timeout).await.unwrap();
        assert!(
            next.expect("it goes on asking") > due,
            "what was due a second ago still waits"
        );
    };
    tokio::select! {
        ended = core.run(frames, news) => panic!("{ended:?}"),
        () = flood => {}
        () = watch => {}
    }
}
