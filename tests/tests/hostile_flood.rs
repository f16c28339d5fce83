//! Floods at the payment port: another client keeps its throughput, and the relay its time.

use rustix::net;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use turnpike_protocol::base::{Msat, Sat};
use turnpike_protocol::wire::{ErrorCode, Ext, Message, Resume, Signature};
use turnpike_tests::hostile::{Heard, Identity, Line, PORT, Payer};
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Host, Lab, Plan};
use turnpike_tests::site::{ChainKind, PATIENCE, Site, wait_for};

const PRICE: u64 = 10_000;
const HTTP: u16 = 8_080;
/// The links' rate: what is measured is the relay, not how busy the machine is.
const RATE: u32 = 8_000;
/// One download, bytes: three seconds.
const DOWNLOAD: usize = 3_000_000;
/// Pairs of downloads, one of each in peace and one under attack, in turn.
const PAIRS: usize = 3;
/// Most connections or messages that one attack makes in one download.
const MOST: u64 = 40_000;
/// Clients that pay at once where every payment is written down.
const PAYERS: usize = 8;
/// Service pauses after this long without a sign of life (market.md).
const LIVENESS: Duration = Duration::from_secs(30);
/// The share of its throughput that the other client keeps.
const KEPT: f64 = 0.9;

/// Real daemons on relay and client 0, which has paid; client 1 is hostile.
struct Scene {
    buy: Child,
    site: Site,
}

impl Scene {
    fn new() -> Scene {
        let plan = Plan {
            clients: 2,
            rate_kbit: Some(RATE),
            ..Plan::default()
        };
        let mut site = Site::new(plan, ChainKind::Play, PRICE, "");
        site.relay.start();
        site.clients[0].start();
        site.fund(0, 200_000);
        let words = ["buy", "--mib", "60", "--max-sat", "20000", "--yes"];
        let mut command = site.clients[0].command(&words);
        let buy = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnpike");
        let spent = || {
            site.clients[0].ask(&["status"])["purchases"][0]["spent_msat"]
                .as_u64()
                .unwrap_or(0)
        };
        wait_for("the first window", || spent() > 0);
        site.mine(7);
        let listener = site
            .lab
            .uplink()
            .within(|| TcpListener::bind((Lab::UPLINK4, HTTP)).expect("a port"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || stream.write_all(&vec![0x55; DOWNLOAD]));
            }
        });
        Scene { buy, site }
    }

    /// Seconds that client 0's download takes.
    fn download(&self) -> f64 {
        let start = Instant::now();
        let mut stream = self
            .site
            .lab
            .client(0)
            .within(|| TcpStream::connect((Lab::UPLINK4, HTTP)).expect("a connection"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (mut left, mut buffer) = (DOWNLOAD, vec![0; 65_536]);
        while left > 0 {
            let n = stream.read(&mut buffer).expect("client 0 is served");
            assert!(n > 0, "the download ended {left} bytes early");
            left -= n;
        }
        start.elapsed().as_secs_f64()
    }

    /// Downloads in peace and under attack in turn, and holds the medians against each other.
    fn keeps_its_throughput(&self, attack: impl Fn() -> Attack) {
        let (mut peace, mut war, mut shots) = (Vec::new(), Vec::new(), 0);
        for _ in 0..PAIRS {
            peace.push(self.download());
            let attack = attack();
            war.push(self.download());
            shots += attack.end();
        }
        let ratio = median(&mut peace) / median(&mut war);
        let rate = shots as f64 / war.iter().sum::<f64>();
        println!(
            "kept {ratio:.3} of its throughput at {rate:.0} attacks per second; in peace {peace:.2?} s, under attack {war:.2?} s"
        );
        assert!(shots > 0, "nothing attacked");
        assert!(
            ratio >= KEPT,
            "the other client kept {ratio:.3} of its throughput"
        );
        // And it is still served and can still pay: the relay answers, the purchase goes on.
        let purchase = &self.site.clients[0].ask(&["status"])["purchases"][0];
        assert!(
            ["buying", "paid"].contains(&purchase["state"].as_str().unwrap_or_default()),
            "{purchase}"
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.buy.kill();
        let _ = self.buy.wait();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Threads that go on until they are ended, or have shot often enough.
struct Attack {
    stop: Arc<AtomicBool>,
    shots: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    fn new() -> Attack {
        Attack {
            stop: Arc::default(),
            shots: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// One more thread that does the same thing again and again on `host`.
    fn with(mut self, host: &Host, mut shot: impl FnMut() + Send + 'static) -> Attack {
        let (stop, shots, host) = (self.stop.clone(), self.shots.clone(), host.clone());
        self.threads.push(std::thread::spawn(move || {
            host.within(|| {
                let end = Instant::now() + PATIENCE;
                while !stop.load(Ordering::Relaxed)
                    && Instant::now() < end
                    && shots.load(Ordering::Relaxed) < MOST
                {
                    shot();
                    shots.fetch_add(1, Ordering::Relaxed);
                }
            });
        }));
        self
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the attacker lives");
        }
        self.shots.load(Ordering::Relaxed)
    }
}

fn connect() -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Lab::RELAY4, PORT)), Duration::from_millis(200)).ok()
}

in_lab! {
    fn garbage_and_half_open_connections_at_the_payment_port_leave_another_client_its_throughput() {
        let scene = Scene::new();
        let villain = scene.site.lab.client(1).clone();
        scene.keeps_its_throughput(|| {
            let mut held = VecDeque::new();
            let garbage = || {
                if let Some(mut stream) = connect() {
                    let _ = stream.write_all(&[0xa5; 1_200]);
                }
            };
            let (mut knocks, mut n) = (VecDeque::new(), 0u32);
            let knock = move || {
                // The first packet of a connection, thousands a second, and no look at the answer.
                knocks.extend(knock());
                if knocks.len() > 400 {
                    knocks.pop_front();
                }
                n += 1;
                if n % 16 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            };
            Attack::new().with(&villain, knock).with(&villain, garbage).with(&villain, garbage).with(&villain, move || {
                // Half of a handshake's first message, and then nothing, two hundred at a time.
                if let Some(mut stream) = connect() {
                    let _ = stream.write_all(&[0, 33, 1, 7, 7, 7]);
                    held.push_back(stream);
                }
                if held.len() > 200 {
                    held.pop_front();
                }
            })
        });
    }

    fn handshakes_and_badly_signed_payments_from_many_addresses_leave_another_client_its_throughput() {
        let scene = Scene::new();
        let villain = scene.site.lab.client(1).clone();
        for last in 100..120 {
            villain.run(&format!("ip addr add 10.77.0.{last}/24 dev {}", Lab::ETH));
        }
        let identity = Identity::fresh(&scene.site);
        let mut line = Payer::call(&identity, &scene.site, 1).expect("a session");
        let payer = Arc::new(Payer::open(&scene.site, &mut line, 0, Sat::new(50_000)));
        drop(line);
        let refused = Arc::new(AtomicU64::new(0));
        scene.keeps_its_throughput(|| {
            (0..4u8).fold(Attack::new(), |attack, thread| {
                let (identity, payer, refused, mut n) = (identity.clone(), payer.clone(), refused.clone(), thread);
                attack.with(&villain, move || {
                    n = (n + 4) % 20;
                    let Some(stream) = from(Ipv4Addr::new(10, 77, 0, 100 + n)) else { return };
                    let Ok(mut line) = Line::over(&identity, stream) else { return };
                    // A payment costs the relay a curve operation where it comes with the state of a channel.
                    let (total, signature) = (Msat::new(77_000), Signature([9; 64]));
                    let bad = Resume { channel: payer.channel(), total, signature, ext: Ext::default() };
                    let _ = line.try_say(bad);
                    while let Heard::Message(message) = line.hear(Duration::from_millis(300)) {
                        if let Message::Problem(p) = message {
                            assert_eq!(p.code, ErrorCode::BadSignature);
                            refused.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                })
            })
        });
        let refused = refused.load(Ordering::Relaxed);
        println!("{refused} payments were refused with a reason");
        assert!(refused > 0);
        let clients = scene.site.relay.ask(&["clients"]);
        let paid = clients["clients"].as_array().expect("clients").iter().find(|c| c["client"] == identity.node().to_string());
        assert!(paid.is_none_or(|c| c["paid_msat"] == 0), "{clients}");
    }

    fn worthless_payments_as_fast_as_a_session_takes_them_leave_another_client_its_throughput() {
        let scene = Scene::new();
        let villain = scene.site.lab.client(1).clone();
        let identity = Identity::fresh(&scene.site);
        let mut line = Payer::call(&identity, &scene.site, 1).expect("a session");
        let mut payer = Payer::open(&scene.site, &mut line, 0, Sat::new(50_000));
        payer.bind(&mut line);
        let total = Msat::new(50_000);
        payer.pay(&mut line, total);
        drop(line);
        let (payer, site) = (&mut payer, &scene.site);
        let fresh = std::cell::RefCell::new(|| {
            let mut line = Payer::call(&identity, site, 1).expect("a session");
            payer.resume(&mut line, total);
            payer.bind(&mut line);
            (line, payer.payment(total), payer.payment(Msat::new(20_000)))
        });
        scene.keeps_its_throughput(|| {
            let (mut line, again, low) = (fresh.borrow_mut())();
            let mut n = 0u32;
            Attack::new().with(&villain, move || {
                n += 1;
                // Replays of the newest payment, and lower totals; what the relay answers is read, so that it has no
                // reason to hang up.
                let message = if n % 2 == 0 { again.clone() } else { low.clone() };
                if line.try_say(message).is_err() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                while n % 64 == 0 && matches!(line.hear(Duration::from_millis(1)), Heard::Message(_)) {}
            })
        });
        let clients = scene.site.relay.ask(&["clients"]);
        let paid = clients["clients"].as_array().expect("clients").iter().find(|c| c["client"] == identity.node().to_string());
        assert_eq!(paid.expect("the client")["paid_msat"], total.value(), "{clients}");
    }

    fn payments_that_are_written_down_without_a_pause_delay_no_timer() {
        let mut site = Site::new(Plan { clients: 3, ..Plan::default() }, ChainKind::Play, PRICE, "");
        site.relay.start();
        site.clients[0].start();
        let capacity = Sat::new(50_000);
        let open = |host| {
            let mut line = Payer::call(&Identity::fresh(&site), &site, host).expect("a session");
            let payer = Payer::open(&site, &mut line, 0, capacity);
            (line, payer)
        };
        let payers: Vec<_> = (0..PAYERS).map(|_| open(2)).collect();
        let (mut line, silent) = open(1);
        silent.bind(&mut line);
        // Taken before its last sign of life, so that no time is missing.
        let since = Instant::now();
        silent.pay(&mut line, Msat::new(100_000));
        let villain = site.lab.client(2).clone();
        let written = Arc::new(AtomicU64::new(0));
        let attack = payers.into_iter().fold(Attack::new(), |attack, (mut line, payer)| {
            let (written, mut total, mut signature) = (written.clone(), Msat::ZERO, Signature([0; 64]));
            attack.with(&villain, move || {
                // A millisatoshi more each time: every one is a payment that must be durable before it is answered.
                if total.value() % 1_000 == 0 {
                    signature = payer.sign(total.saturating_add(Msat::new(1)));
                }
                total = total.saturating_add(Msat::new(1));
                line.say(Resume { channel: payer.channel(), total, signature, ext: Ext::default() });
                // What the relay answers is read, so that it has no reason to hang up.
                while total.value() % 16 == 0 {
                    let Heard::Message(message) = line.hear(Duration::from_millis(1)) else { break };
                    written.fetch_add(u64::from(matches!(message, Message::ChannelReady(_))), Ordering::Relaxed);
                }
            })
        });
        let code = line.await_one("the pause", |m| match m {
            Message::Problem(p) => Some(p.code),
            _ => None,
        });
        let told = since.elapsed();
        attack.end();
        let written = written.load(Ordering::Relaxed) / told.as_secs();
        println!("paused after {told:.2?}, while {written} payments were written a second");
        assert_eq!(code, ErrorCode::NoLiveness);
        assert!(written > 50, "{written} payments a second are no flood");
        assert!(told >= LIVENESS && told < LIVENESS + Duration::from_secs(2), "paused after {told:.2?}");
    }
}

/// Begins a connection and does not wait for it.
fn knock() -> Option<OwnedFd> {
    let flags = net::SocketFlags::NONBLOCK;
    let socket = net::socket_with(net::AddressFamily::INET, net::SocketType::STREAM, flags, None).ok()?;
    let _ = net::connect(&socket, &SocketAddrV4::new(Lab::RELAY4, PORT));
    Some(socket)
}

/// A connection from this address of client 1.
fn from(address: Ipv4Addr) -> Option<TcpStream> {
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).ok()?;
    net::bind(&socket, &SocketAddrV4::new(address, 0)).ok()?;
    net::connect(&socket, &SocketAddrV4::new(Lab::RELAY4, PORT)).ok()?;
    Some(socket.into())
}
