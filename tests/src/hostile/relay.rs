//! A relay without a daemon that claims more than it forwarded. It sells on real terms and forwards by the kernel.

use super::{Identity, Line, PORT};
use crate::lab::{Host, Lab};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use turnpike_protocol::base::{AccountId, ByteCount, ChannelId, Msat, NodeId, Outpoint, Sat, limits};
use turnpike_protocol::crypto::{Role, Statement, channel_id, tagged_hash};
use turnpike_protocol::market::{MIB, receipt_digest};
use turnpike_protocol::money::channel::Acceptance;
use turnpike_protocol::money::channel::tx::Terms;
use turnpike_protocol::wire::{
    self, BindingClass, Bound, ChannelReady, Ext, Message, Offer, OpenAccept, PaymentAck, PriceSheet,
    Receipt, ReceiptOffer, Signature, Usage,
};

const ACCESS: AccountId = AccountId(0);
/// How often it says what it counted.
const TELL: Duration = Duration::from_millis(100);

/// What the relay says of what it counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// The truth, with a receipt after a MiB: the judge's own test.
    None,
    /// So many percent of the truth, in usage and receipts.
    Always(u64),
    /// The truth in usage, and in a receipt after a MiB so many percent of it.
    Receipt(u64),
}

/// What the relay saw.
#[derive(Clone, Copy, Default, Debug)]
pub struct Log {
    /// The newest total that the client signed, millisatoshi.
    pub paid_msat: u64,
    /// Bytes that it really forwarded, when the client asked for the receipt of the last stretch or refused one.
    pub truth_at_stop: Option<u64>,
    /// What it had claimed in its last usage then.
    pub claimed_at_stop: u64,
    /// What it was paid then, millisatoshi.
    pub paid_at_stop: u64,
    /// Receipts that the client signed too.
    pub agreed: u32,
    /// Receipts that the client refused.
    pub refused: u32,
    /// Service was stopped by the client.
    pub stopped: bool,
}

/// The relay, running.
pub struct FalseRelay {
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FalseRelay {
    /// Listens on the relay's host for one client. `price` is in millisatoshi per MiB.
    pub fn start(identity: &Arc<Identity>, host: &Host, price: u64, lie: Lie) -> FalseRelay {
        let listener = host.within(|| TcpListener::bind((Lab::RELAY4, PORT)).expect("the relay's port"));
        let log = Arc::new(Mutex::new(Log::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (identity, host, shared, halt) = (identity.clone(), host.clone(), log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            listener.set_nonblocking(true).expect("a socket option");
            let mut seller = Seller::new(identity, host, price, lie, shared);
            while !halt.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                stream.set_nonblocking(false).expect("a socket option");
                if let Ok(line) = Line::answer(&seller.identity, stream) {
                    seller.serve(line, &halt);
                }
            }
        });
        FalseRelay {
            log,
            stop,
            thread: Some(thread),
        }
    }

    /// What it saw so far.
    pub fn log(&self) -> Log {
        *self.log.lock().expect("the log")
    }
}

impl Drop for FalseRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Seller {
    identity: Arc<Identity>,
    host: Host,
    price: u64,
    lie: Lie,
    log: Arc<Mutex<Log>>,
    sheet: PriceSheet,
    client: NodeId,
    acceptance: Option<Acceptance>,
    outpoint: Option<Outpoint>,
    paid: Msat,
    signature: Signature,
    base: (u64, u64),
    bound: Option<Instant>,
    sequence: u32,
    last_claim: u64,
}

impl Seller {
    fn new(identity: Arc<Identity>, host: Host, price: u64, lie: Lie, log: Arc<Mutex<Log>>) -> Seller {
        let sheet = PriceSheet {
            version: 1,
            valid_until: identity.height.plus(limits::MAX_SHEET_BLOCKS / 2),
            up: Msat::new(price),
            down: Msat::new(price),
            per_second: Msat::ZERO,
            free: ByteCount::ZERO,
            window_min: ByteCount::new(limits::MIN_WINDOW),
            window_max: ByteCount::new(limits::MIN_WINDOW),
            class: BindingClass::Address,
        };
        let client = identity.node();
        Seller {
            identity,
            host,
            price,
            lie,
            log,
            sheet,
            client,
            acceptance: None,
            outpoint: None,
            paid: Msat::ZERO,
            signature: Signature([0; 64]),
            base: (0, 0),
            bound: None,
            sequence: 0,
            last_claim: 0,
        }
    }

    fn serve(&mut self, mut line: Line, halt: &AtomicBool) {
        self.client = line.peer();
        let mut told = Instant::now();
        while !halt.load(Ordering::Relaxed) {
            match line.hear(Duration::from_millis(20)) {
                super::Heard::Closed => return,
                super::Heard::Silence => {}
                super::Heard::Message(message) => {
                    for answer in self.answer(&message) {
                        if line.try_say(answer).is_err() {
                            return;
                        }
                    }
                }
            }
            if self.bound.is_some() && told.elapsed() >= TELL {
                told = Instant::now();
                let usage = self.usage();
                self.last_claim = usage.up.value() + usage.down.value();
                if line.try_say(usage).is_err() {
                    return;
                }
                if let (Lie::None | Lie::Receipt(_), 0, true) = (self.lie, self.sequence, self.truth() > MIB)
                {
                    if line.try_say(self.receipt()).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&mut self, message: &Message) -> Vec<Message> {
        match message {
            Message::OfferRequest(_) => vec![self.offer().into()],
            Message::OpenRequest(ask) => {
                let keys = self.identity.keys.channel(Role::Payee, 0).expect("channel keys");
                let payee_key = keys.funding.x_only_public_key().0.serialize();
                let terms = Terms {
                    payer_key: *ask.payer_key.as_bytes(),
                    payee_key,
                    capacity: ask.capacity,
                    expiry: ask.expiry,
                };
                let acceptance = Acceptance {
                    terms,
                    accept_until: self.identity.height.plus(limits::ACCEPT_BLOCKS),
                };
                self.acceptance = Some(acceptance);
                let digest = acceptance.digest(self.identity.genesis, self.identity.node(), self.client);
                let accept = OpenAccept {
                    payer_key: ask.payer_key,
                    payee_key: NodeId::from_bytes(payee_key),
                    capacity: ask.capacity,
                    expiry: ask.expiry,
                    accept_until: acceptance.accept_until,
                    signature: self.identity.sign(&digest),
                    ext: Ext::default(),
                };
                vec![accept.into()]
            }
            Message::Funded(funded) => {
                self.outpoint = Some(funded.outpoint);
                vec![self.ready().into()]
            }
            Message::Resume(_) if self.outpoint.is_some() => vec![self.ready().into()],
            Message::BindRequest(_) => {
                self.base = self.forwarded();
                self.bound = Some(Instant::now());
                vec![
                    Bound {
                        account: ACCESS,
                        granted: self.granted(),
                        liveness_ms: 10_000,
                        ext: Ext::default(),
                    }
                    .into(),
                ]
            }
            Message::Payment(payment) => {
                self.paid = payment.total;
                self.signature = payment.signature;
                self.log.lock().expect("the log").paid_msat = payment.total.value();
                let granted = self.granted();
                vec![
                    PaymentAck {
                        channel: 0,
                        account: ACCESS,
                        total: payment.total,
                        granted,
                    }
                    .into(),
                ]
            }
            Message::ReceiptRequest(_) => {
                // Whoever asks for the receipt has stopped. What passed after that would make the claim true at last.
                self.forward(false);
                self.stopped();
                vec![self.receipt().into()]
            }
            Message::ReceiptAnswer(_) => {
                self.forward(true);
                self.log.lock().expect("the log").agreed += 1;
                Vec::new()
            }
            Message::Stop(_) => {
                self.bound = None;
                self.log.lock().expect("the log").stopped = true;
                Vec::new()
            }
            Message::Problem(problem) => {
                if problem.code == wire::ErrorCode::ReceiptRefused {
                    self.forward(true);
                    self.stopped();
                    self.log.lock().expect("the log").refused += 1;
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn stopped(&mut self) {
        let (truth, claim, paid) = (self.truth(), self.last_claim, self.paid.value());
        let mut log = self.log.lock().expect("the log");
        if log.truth_at_stop.is_none() {
            log.truth_at_stop = Some(truth);
            log.claimed_at_stop = claim;
            log.paid_at_stop = paid;
        }
    }

    fn offer(&self) -> Offer {
        let bytes = wire::encode(&self.sheet);
        let statement = Statement {
            kind: "sheet",
            genesis: self.identity.genesis,
            signer: self.identity.node(),
            peer: [0; 32],
            instance: [0; 32],
            body: &bytes,
        };
        Offer {
            sheet_id: 0,
            sheet: bytes.iter().copied().collect(),
            signature: self.identity.sign(&statement.digest()),
            capacity_min: Sat::new(limits::MIN_CAPACITY_SAT),
            capacity_max: Sat::new(limits::MAX_CAPACITY_SAT),
            lifetime_min: limits::MIN_LIFETIME,
            lifetime_max: limits::MAX_LIFETIME,
            unconfirmed: Msat::new(50_000_000),
            settle_cost: Sat::new(205),
            ext: Ext::default(),
        }
    }

    fn channel(&self) -> ChannelId {
        channel_id(&self.outpoint.expect("a funded channel"))
    }

    fn ready(&self) -> ChannelReady {
        let capacity = self.acceptance.map_or(Sat::ZERO, |a| a.terms.capacity);
        ChannelReady {
            channel: self.channel(),
            short: 0,
            total: self.paid,
            signature: self.signature,
            ceiling: capacity.to_msat().unwrap_or(Msat::ZERO),
            open: true,
            ext: Ext::default(),
        }
    }

    /// What was paid for, as bytes.
    fn granted(&self) -> ByteCount {
        ByteCount::new(self.paid.value() * MIB / self.price)
    }

    /// Layer-3 bytes up and down on the uplink since the beginning.
    fn forwarded(&self) -> (u64, u64) {
        let counters = self.host.counters(Lab::UP);
        (counters.tx_layer3(), counters.rx_layer3())
    }

    fn truth(&self) -> u64 {
        let (up, down) = self.forwarded();
        up - self.base.0 + down - self.base.1
    }

    fn usage(&self) -> Usage {
        let percent = if let Lie::Always(percent) = self.lie {
            percent
        } else {
            100
        };
        self.claim(percent)
    }

    /// Lets packets pass, or none.
    fn forward(&self, on: bool) {
        let rules: &[&str] = if on {
            &["delete table inet halt"]
        } else {
            &[
                "add table inet halt",
                "add chain inet halt c { type filter hook forward priority 0 ; policy drop ; }",
            ]
        };
        for rule in rules {
            let _ = self.host.try_run(&format!("nft {rule}"));
        }
    }

    /// Never more than was paid for, as a relay that hopes to be believed.
    fn claim(&self, percent: u64) -> Usage {
        self.claim_up_to(percent, self.granted())
    }

    fn claim_up_to(&self, percent: u64, granted: ByteCount) -> Usage {
        let (up, down) = self.forwarded();
        let up = ((up - self.base.0) * percent / 100).min(granted.value());
        let down = ((down - self.base.1) * percent / 100).min(granted.value() - up);
        let cost = ((up + down) * self.price).div_ceil(MIB).min(self.paid.value());
        Usage {
            account: ACCESS,
            up: ByteCount::new(up),
            down: ByteCount::new(down),
            seconds: self.bound.map_or(0, |b| b.elapsed().as_secs()),
            cost: Msat::new(cost),
            paid: self.paid,
            granted,
            exhausted: up + down >= granted.value(),
        }
    }

    fn receipt(&mut self) -> ReceiptOffer {
        let claim = match self.lie {
            Lie::None => self.claim(100),
            Lie::Always(percent) | Lie::Receipt(percent) => self.claim_up_to(percent, ByteCount::MAX),
        };
        self.sequence += 1;
        let (relay, client, channel) = (self.identity.node(), self.client, self.channel());
        let sheet = tagged_hash("turnpike/sheet-hash/v1", &[&wire::encode(&self.sheet)]);
        let receipt = Receipt {
            relay,
            client,
            channel,
            sequence: self.sequence,
            sheet: turnpike_protocol::base::SheetHash::from_bytes(sheet),
            height: self.identity.height,
            up: claim.up,
            down: claim.down,
            seconds: claim.seconds,
            cost: claim.cost,
            paid: claim.paid,
        };
        let bytes = wire::encode(&receipt);
        let digest = receipt_digest(self.identity.genesis, relay, client, channel, &bytes);
        let signature = self.identity.sign(&digest);
        ReceiptOffer {
            account: ACCESS,
            receipt: bytes.iter().copied().collect(),
            signature,
            ext: Ext::default(),
        }
    }
}
