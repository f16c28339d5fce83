//! How many payments a relay takes in a second, held against nothing but checking as many BIP340 signatures.
//!
//! 1,000 channels of 1,000 clients; frames as they come out of a session; every signature checked, every payment
//! journalled and durable before its acknowledgement, none coalesced. While one commit waits for the disk, the payments
//! of the next are taken, as in the daemon. Both sides run on the one core that this process is bound to. What a power
//! cut can lose: nothing that was acknowledged.

use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, absolute, consensus::encode::serialize, transaction};
use std::sync::Arc;
use std::time::Instant as Clock;
use turnpike_firmware::daemon::{Batch, Commit, Writer};
use turnpike_firmware::store::{Origin, Store};
use turnpike_protocol::base::{
    AccountId, BlockHeight, ByteCount, ConnectionId, FeeRate, GenesisHash, Instant, Msat, NodeId, Outpoint,
    Sat,
};
use turnpike_protocol::crypto::{CoinType, Keys, Role, Seed};
use turnpike_protocol::market::{AccountConfig, BuyerConfig};
use turnpike_protocol::money::chain::{ChainAction, ChainEvent};
use turnpike_protocol::money::channel::PayeePolicy;
use turnpike_protocol::money::channel::tx::{PaymentDigest, Terms, txid};
use turnpike_protocol::node::{self, Action, Input, Node, Rows};
use turnpike_protocol::wire::{
    BindRequest, BindingClass, Ext, Funded, Hello, Message as Wire, OpenRequest, Payment, PriceSheet,
    Signature, read_frame, write_frame,
};
use turnpike_tests::figure::{Figure, median};

const CHANNELS: usize = 1_000;
/// Payments of each channel in a round.
const EACH: usize = 4;
/// Frames that come in together, as many as wait while a commit is written.
const TOGETHER: usize = 500;
const ROUNDS: usize = 9;
const STEP: u64 = 4_000;

struct Relay {
    node: Node,
    store: Arc<Store>,
    writer: Writer,
    batch: Batch,
    todo: Vec<Action>,
    acknowledged: usize,
    sent: Vec<(ConnectionId, Vec<u8>)>,
    watched: Vec<(turnpike_protocol::base::Slot, [u8; 32])>,
    now: Instant,
    limits: std::collections::BTreeMap<u16, u64>,
}

struct Client {
    connection: ConnectionId,
    keys: Keys,
    terms: Terms,
    digest: PaymentDigest,
    short: u16,
    total: u64,
}

fn genesis() -> GenesisHash {
    GenesisHash::from_bytes([7; 32])
}

fn seed(number: usize) -> Seed {
    let mut entropy = [0x5a; 32];
    entropy[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Seed::from_entropy(&entropy)
}

impl Relay {
    fn new(folder: &std::path::Path) -> Relay {
        let path = folder.join("store.redb");
        Store::create(&path, Origin::New).expect("a store");
        let store = Arc::new(Store::open(&path).expect("a store"));
        let sheet = PriceSheet {
            version: 0,
            valid_until: BlockHeight::ZERO,
            up: Msat::new(1_000),
            down: Msat::new(1_000),
            per_second: Msat::ZERO,
            free: ByteCount::ZERO,
            window_min: ByteCount::new(128 << 10),
            window_max: ByteCount::new(1 << 30),
            class: BindingClass::Address,
        };
        let policy = PayeePolicy::default();
        let relay = node::RelayConfig {
            policy,
            sheet,
            account: AccountConfig::default(),
            free_total: ByteCount::ZERO,
        };
        let config = node::Config {
            genesis: genesis(),
            payout: ScriptBuf::from_bytes([&[0x51, 0x20][..], &[9; 32]].concat()),
            relay: Some(relay),
            buyer: BuyerConfig::default(),
            minimum: None,
        };
        let keys = Keys::new(&seed(usize::MAX), CoinType::Test).expect("keys");
        let now = Instant::from_micros(1);
        let node = Node::load(now, config, keys, &Rows::default(), BlockHeight::new(1_000)).expect("a node");
        let mut relay = Relay {
            node,
            writer: Writer::start(store.clone()).expect("a thread"),
            store,
            batch: Batch::default(),
            todo: Vec::new(),
            acknowledged: 0,
            sent: Vec::new(),
            watched: Vec::new(),
            now,
            limits: Default::default(),
        };
        relay.give(Input::Chain(ChainEvent::FeeRate {
            rate: FeeRate::MIN_RELAY,
        }));
        relay.give(Input::Chain(ChainEvent::Tip {
            height: BlockHeight::new(1_000),
        }));
        relay.settle();
        relay
    }

    fn give(&mut self, input: Input<'_>) {
        self.node.handle(self.now, input).expect("no commands here");
    }

    fn frame(&mut self, connection: ConnectionId, message: impl Into<Wire>) {
        let mut frame = Vec::new();
        write_frame(&message.into(), &mut frame);
        self.give(Input::Frame {
            connection,
            frame: &frame,
        });
        self.settle();
    }

    /// One commit for everything that was handled, then the actions: the daemon's own order. While the disk is waited
    /// for, the next frames may be given.
    fn advance(&mut self) {
        loop {
            self.writer.wait().expect("a commit");
            for action in std::mem::take(&mut self.todo) {
                self.act(action);
            }
            while let Some(action) = self.node.poll_action() {
                match action {
                    Action::Persist(write) => self.batch.push(write),
                    other => self.todo.push(other),
                }
            }
            if self.store.should_fold() {
                for write in self.node.fold() {
                    self.batch.push(write);
                }
                return self.writer.begin(std::mem::take(&mut self.batch), Commit::Fold);
            }
            if !self.batch.is_empty() {
                return self.writer.begin(std::mem::take(&mut self.batch), Commit::Append);
            }
            if self.todo.is_empty() {
                return;
            }
        }
    }

    /// The same, to the very end.
    fn settle(&mut self) {
        self.advance();
        while self.writer.is_busy() {
            self.advance();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { connection, frame } => {
                // Kind 12: an acknowledgement.
                if frame.get(1) == Some(&12) {
                    self.acknowledged += 1;
                } else {
                    self.sent.push((connection, frame));
                }
            }
            Action::Attach { client, .. } => self.give(Input::Attached {
                client,
                result: Ok(()),
            }),
            Action::Grant { client, limit } => drop(self.limits.insert(client, limit.value())),
            Action::Chain(ChainAction::Watch { slot, output_key, .. }) => {
                self.watched.push((slot, output_key))
            }
            Action::ReadGate => {
                let reading = |client: &u16| node::GateReading {
                    client: *client,
                    up: ByteCount::ZERO,
                    down: ByteCount::ZERO,
                    exhausted: false,
                };
                let readings: Vec<_> = self.limits.keys().map(reading).collect();
                self.give(Input::GateReadings { readings: &readings });
            }
            Action::Disconnect { code, .. } => panic!("the relay hung up: {}", code.text()),
            _ => {}
        }
    }

    fn answer(&mut self) -> Wire {
        let (_, frame) = self.sent.pop().expect("an answer");
        read_frame(&frame).expect("a message")
    }

    fn client(&mut self, number: usize) -> Client {
        let keys = Keys::new(&seed(number), CoinType::Test).expect("keys");
        let connection = ConnectionId(number as u64);
        self.give(Input::Connected {
            connection,
            peer: keys.node(),
        });
        let height = BlockHeight::new(1_000);
        self.frame(
            connection,
            Hello {
                genesis: genesis(),
                height,
                generation: 1,
                seen_generation: 0,
                ext: Ext::default(),
            },
        );
        let own = keys.channel(Role::Payer, 0).expect("keys").funding;
        let payer_key = NodeId::from_bytes(own.x_only_public_key().0.serialize());
        let (capacity, expiry) = (Sat::new(1_000_000 - 1), BlockHeight::new(2_008));
        self.frame(
            connection,
            OpenRequest {
                payer_key,
                capacity,
                expiry,
                ext: Ext::default(),
            },
        );
        let Wire::OpenAccept(accept) = self.answer() else {
            panic!("the channel was refused")
        };
        let terms = Terms {
            payer_key: *payer_key.as_bytes(),
            payee_key: *accept.payee_key.as_bytes(),
            capacity,
            expiry,
        };
        let secp = Secp256k1::verification_only();
        let script = terms.funding_output(&secp).expect("terms").to_script_buf();
        let output = TxOut {
            value: Amount::from_sat(capacity.value()),
            script_pubkey: script,
        };
        let tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: Vec::new(),
            output: vec![output],
        };
        let outpoint = Outpoint {
            txid: txid(&tx),
            vout: 0,
        };
        let _ = serialize(&tx);
        self.frame(
            connection,
            Funded {
                payer_key,
                outpoint,
                tx: Default::default(),
                ext: Ext::default(),
            },
        );
        let Wire::ChannelReady(ready) = self.answer() else {
            panic!("the channel is not ready")
        };
        let slot = self.watched.last().expect("a watch").0;
        let height = Some(BlockHeight::new(990));
        self.give(Input::Chain(ChainEvent::Funded {
            slot,
            outpoint,
            value: capacity,
            height,
        }));
        self.frame(
            connection,
            BindRequest {
                account: AccountId(0),
                channel: ready.short,
                class: BindingClass::Address,
                addresses: Default::default(),
                ext: Ext::default(),
            },
        );
        self.sent.clear();
        let digest = PaymentDigest::new(&secp, &terms, outpoint).expect("terms");
        Client {
            connection,
            keys,
            terms,
            digest,
            short: ready.short,
            total: 0,
        }
    }
}

/// One payment, ready to be received.
struct Ready {
    connection: ConnectionId,
    frame: Vec<u8>,
    digest: [u8; 32],
    signature: [u8; 64],
    key: XOnlyPublicKey,
}

impl Client {
    fn pay(&mut self) -> Ready {
        self.total += STEP;
        let total = Msat::new(self.total);
        let funding = self.keys.channel(Role::Payer, 0).expect("keys").funding;
        let signature = self
            .digest
            .sign_payment(self.keys.signer().context(), &funding, total.to_sat_ceil())
            .expect("a signature");
        let payment = Payment {
            channel: self.short,
            account: AccountId(0),
            sheet: 0,
            total,
            signature: Signature(signature),
        };
        let mut frame = Vec::new();
        write_frame(&payment.into(), &mut frame);
        let (_, digest) = self.digest.digest(total.to_sat_ceil()).expect("in the capacity");
        let key = XOnlyPublicKey::from_slice(&self.terms.payer_key).expect("a key");
        Ready {
            connection: self.connection,
            frame,
            digest,
            signature,
            key,
        }
    }
}

/// Payments a second, and bare signature checks a second, in turn.
pub fn payments_ratio() -> Vec<Figure> {
    let cpu = bind_to_one_core();
    let folder = tempfile::tempdir().expect("a folder");
    let mut relay = Relay::new(folder.path());
    let mut clients: Vec<Client> = (0..CHANNELS).map(|i| relay.client(i)).collect();
    let secp = Secp256k1::verification_only();
    let (mut paid, mut bare, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // One payment of each channel after the other, so that no channel's payments stand together.
        let payments: Vec<Ready> = (0..EACH)
            .flat_map(|_| clients.iter_mut().map(Client::pay).collect::<Vec<_>>())
            .collect();
        let count = payments.len();

        let start = Spent::so_far();
        for p in &payments {
            let signature = schnorr::Signature::from_slice(&p.signature).expect("a signature");
            secp.verify_schnorr(&signature, &Message::from_digest(p.digest), &p.key)
                .expect("it verifies");
        }
        let checked = start.since();
        bare.push(count as f64 / checked.wall);

        relay.acknowledged = 0;
        let start = Spent::so_far();
        for together in payments.chunks(TOGETHER) {
            for p in together {
                relay.give(Input::Frame {
                    connection: p.connection,
                    frame: &p.frame,
                });
            }
            relay.advance();
        }
        relay.settle();
        let taken = start.since();
        paid.push(count as f64 / taken.wall);
        busy.push(checked.busy / taken.busy);
        assert_eq!(relay.acknowledged, count, "every payment is acknowledged");
    }
    let ratios: Vec<f64> = paid.iter().zip(&bare).map(|(a, b)| a / b).collect();
    let (low, high) = (
        ratios.iter().copied().fold(f64::MAX, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    let note = format!(
        "{CHANNELS} channels, {TOGETHER} payments a commit, {ROUNDS} rounds on core {cpu}, ratio {low:.3} to {high:.3}, by processor \
         time alone {:.3}; a power cut loses nothing acknowledged",
        median(&busy)
    );
    let mut figure = Figure::new(
        "payments_ratio",
        median(&paid),
        "payments/s",
        "bare BIP340 verification",
        median(&bare),
        ">= 0.80",
        note,
    );
    figure.ratio = Some(median(&ratios));
    vec![figure]
}

/// Time that went by, and that this process kept a processor busy, in seconds.
struct Spent {
    start: Clock,
    wall: f64,
    busy: f64,
}

impl Spent {
    fn so_far() -> Spent {
        let mut busy = 0;
        for task in std::fs::read_dir("/proc/self/task")
            .expect("own threads")
            .flatten()
        {
            // Nanoseconds on a processor, then nanoseconds in its queue.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            busy += text
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0u64);
        }
        Spent {
            start: Clock::now(),
            wall: 0.0,
            busy: busy as f64 * 1e-9,
        }
    }

    fn since(&self) -> Spent {
        let now = Spent::so_far();
        Spent {
            start: self.start,
            wall: self.start.elapsed().as_secs_f64(),
            busy: now.busy - self.busy,
        }
    }
}

/// Binds this process to one core, so that neither side can use two.
fn bind_to_one_core() -> usize {
    let mut set = rustix::thread::CpuSet::new();
    set.set(0);
    rustix::thread::sched_setaffinity(None, &set).expect("a core");
    0
}
