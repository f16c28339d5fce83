//! Two honest nodes, and everything that strangers can do to them, over loopback.

use super::discovery::answer_on;
use super::*;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use turnpike_protocol::base::{self, BlockHeight, ByteCount, GenesisHash, Msat, limits};
use turnpike_protocol::crypto::{CoinType, Keys, Seed, Statement, Verifier};
use turnpike_protocol::talk::session::{Action, Contact, Party, StreamSession};
use turnpike_protocol::wire::{self, BindingClass, PriceSheet, VERSION};

const GENESIS: GenesisHash = GenesisHash::from_bytes([3; 32]);
const SOON: Duration = Duration::from_secs(5);

struct Node {
    keys: Arc<Keys>,
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    address: SocketAddr,
}

impl Node {
    async fn new(seed: u8, limits: LinkLimits) -> Node {
        Node::on(seed, GENESIS, limits).await
    }

    async fn on(seed: u8, genesis: GenesisHash, limits: LinkLimits) -> Node {
        let keys = keys(seed);
        let (sender, events) = mpsc::channel(16);
        let links = Links::new(keys.clone(), genesis, sender, limits);
        let address = links.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Node {
            keys,
            links,
            events,
            address,
        }
    }

    async fn event(&mut self) -> LinkEvent {
        timeout(SOON, self.events.recv())
            .await
            .expect("an event")
            .unwrap()
    }

    async fn up(&mut self) -> ConnectionId {
        match self.event().await {
            LinkEvent::Up { connection, .. } => connection,
            other => panic!("{other:?}"),
        }
    }

    async fn frame(&mut self) -> Vec<u8> {
        match self.event().await {
            LinkEvent::Frame { frame, .. } => frame.into(),
            other => panic!("{other:?}"),
        }
    }

    async fn down(&mut self) -> (ConnectionId, String) {
        match self.event().await {
            LinkEvent::Down { connection, reason } => (connection, reason),
            other => panic!("{other:?}"),
        }
    }

    /// Sends every frame back until the test ends.
    fn echo(mut self) -> (Links, SocketAddr) {
        let (links, address) = (self.links.clone(), self.address);
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let LinkEvent::Frame { connection, frame } = event {
                    self.links.send(connection, frame.into());
                }
            }
        });
        (links, address)
    }
}

fn keys(seed: u8) -> Arc<Keys> {
    Arc::new(Keys::new(&Seed::from_entropy(&[seed; 32]), CoinType::Test).unwrap())
}

fn frame(n: u32) -> Vec<u8> {
    let mut frame = vec![VERSION];
    frame.extend_from_slice(&n.to_be_bytes());
    frame
}

/// A connection from 127.0.0.`host`.
async fn dial(address: SocketAddr, host: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0))
        .unwrap();
    socket.connect(address).await.unwrap()
}

/// True when the other side closes within `limit`.
async fn closes(stream: &mut TcpStream, limit: Duration) -> bool {
    let mut buffer = [0; 4096];
    let end = async { while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {} };
    timeout(limit, end).await.is_ok()
}

/// A peer with a proper session that does as the test likes with the socket.
struct Rogue {
    stream: TcpStream,
    session: StreamSession,
}

impl Rogue {
    async fn connect(address: SocketAddr, host: u8, seed: u8) -> Rogue {
        let (keys, verifier) = (keys(seed), Verifier::new());
        let party = Party {
            keys: &keys,
            verifier: &verifier,
            genesis: GENESIS,
        };
        let mut stream = dial(address, host).await;
        let now = base::Instant::default();
        let mut session = StreamSession::initiate(now, &party, Contact::Any, [seed; 32]).unwrap();
        let mut buffer = [0; 4096];
        loop {
            while let Some(action) = session.poll_action() {
                match action {
                    Action::Send(bytes) => stream.write_all(&bytes).await.unwrap(),
                    Action::Established(_) => return Rogue { stream, session },
                }
            }
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the node hung up during the handshake");
            let mut input = &buffer[..n];
            while !input.is_empty() {
                let taken = session.handle_bytes(now, &party, input).unwrap();
                input = &input[taken..];
            }
        }
    }

    fn sealed(&mut self, frame: &[u8]) -> Vec<u8> {
        sealed(&mut self.session, frame)
    }
}

fn sealed(session: &mut StreamSession, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    session.seal(frame, &mut out).unwrap();
    out
}

#[tokio::test]
async fn frames_go_both_ways_and_what_is_queued_arrives_before_the_end() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let mut client = Node::new(2, LinkLimits::default()).await;
    let there = client
        .links
        .connect(relay.address, Some(relay.keys.node()))
        .await
        .unwrap();
    let (here, remote) = match relay.event().await {
        LinkEvent::Up {
            connection,
            peer,
            remote,
            local,
            outgoing,
        } => {
            assert_eq!(peer, client.keys.node());
            assert_eq!(local, relay.address);
            assert!(!outgoing);
            (connection, remote)
        }
        other => panic!("{other:?}"),
    };
    let wanted = LinkEvent::Up {
        connection: there,
        peer: relay.keys.node(),
        remote: relay.address,
        local: remote,
        outgoing: true,
    };
    assert_eq!(client.event().await, wanted, "Up comes before connect returns");

    client.links.send(there, frame(1));
    assert_eq!(relay.frame().await, frame(1));
    let longest = vec![VERSION; MAX_FRAME];
    for n in 0..20 {
        relay.links.send(here, frame(n));
        relay.links.send(here, longest.clone());
    }
    relay.links.disconnect(here);
    relay.links.send(here, frame(99));
    for n in 0..20 {
        assert_eq!(client.frame().await, frame(n));
        assert_eq!(client.frame().await, longest);
    }
    assert_eq!(
        client.down().await,
        (there, "the peer closed the connection".to_owned())
    );
    assert_eq!(relay.down().await, (here, "closed by this node".to_owned()));
    assert_eq!((relay.links.count(), client.links.count()), (0, 0));
}

#[tokio::test]
async fn a_wrong_identity_or_chain_is_no_connection() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let mut client = Node::new(2, LinkLimits::default()).await;
    let wrong = keys(9).node();
    let error = client
        .links
        .connect(relay.address, Some(wrong))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Session {
                error: SessionError::WrongPeer { .. },
                ..
            }
        ),
        "{error}"
    );
    let stranger = Node::on(3, GenesisHash::from_bytes([4; 32]), LinkLimits::default()).await;
    let error = stranger.links.connect(relay.address, None).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::HungUp { .. } | ConnectError::Session { .. }),
        "{error}"
    );
    let nobody = "127.0.0.1:1".parse().unwrap();
    let error = client.links.connect(nobody, None).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().starts_with("127.0.0.1:1 does not answer ("),
        "{error}"
    );
    let error = relay.links.connect(relay.address, None).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Session {
                error: SessionError::Ourselves,
                ..
            }
        ),
        "{error}"
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(relay.events.try_recv().is_err() && client.events.try_recv().is_err());
    assert_eq!((relay.links.count(), client.links.count()), (0, 0));
}

#[tokio::test]
async fn half_open_connections_are_few_and_end_after_ten_seconds() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let limits = LinkLimits::default();
    let mut held = Vec::new();
    for _ in 0..limits.half_open_per_source {
        held.push(dial(relay.address, 2).await);
    }
    let mut surplus = dial(relay.address, 2).await;
    assert!(closes(&mut surplus, Duration::from_secs(1)).await);
    let began = Instant::now();
    // Half of them say half a hello.
    for stream in held.iter_mut().step_by(2) {
        stream.write_all(&[0, 33, 1, 1, 1]).await.unwrap();
    }
    let client = Node::new(2, LinkLimits::default()).await;
    client.links.connect(relay.address, None).await.unwrap();
    relay.up().await;
    assert_eq!(relay.links.count(), 1 + held.len());
    for mut stream in held {
        assert!(closes(&mut stream, Duration::from_secs(12)).await);
        let after = began.elapsed();
        assert!(after > Duration::from_secs(9), "closed after {after:?}");
        assert!(after < Duration::from_secs(14), "closed after {after:?}");
    }
    assert_eq!(relay.links.count(), 1);
}

#[tokio::test]
async fn strangers_from_everywhere_cannot_keep_an_honest_one_out() {
    let limits = LinkLimits {
        half_open: 16,
        handshakes: Rate {
            per_second: 1_000,
            burst: 1_000,
        },
        ..LinkLimits::default()
    };
    let mut relay = Node::new(1, limits).await;
    let mut held = Vec::new();
    for host in 2..=60 {
        held.push(dial(relay.address, host).await);
    }
    let client = Node::new(2, LinkLimits::default()).await;
    client.links.connect(relay.address, None).await.unwrap();
    relay.up().await;
    assert!(relay.links.count() <= 17);
    // The oldest made room.
    assert!(closes(&mut held[0], Duration::from_secs(1)).await);
}

#[tokio::test]
async fn garbage_and_oversized_messages_end_their_own_connection_only() {
    let relay = Node::new(1, LinkLimits::default()).await;
    let (links, address) = relay.echo();
    let mut client = Node::new(2, LinkLimits::default()).await;
    let id = client.links.connect(address, None).await.unwrap();
    client.up().await;

    let mut noise = [0u8; 600];
    noise
        .iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b = (i * 131 + 7) as u8);
    let starts: [&[u8]; 5] = [
        &[0xff; 64],
        &[0, 0],
        &noise,
        b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
        // The length of a hello, and then nothing that is one.
        &[&[0, 33, 1][..], &[0x55; 400]].concat(),
    ];
    for start in starts {
        let mut stream = dial(address, 3).await;
        stream.write_all(start).await.unwrap();
        assert!(
            closes(&mut stream, Duration::from_secs(2)).await,
            "{:?}",
            &start[..2]
        );
    }
    // A proper session, then: a length that is too long, a changed frame, a frame twice, an empty one.
    for kind in 0..4 {
        let mut rogue = Rogue::connect(address, 4, 10 + kind).await;
        let mut sealed = rogue.sealed(&frame(1));
        match kind {
            0 => sealed = vec![0xff, 0xff, 1, 2, 3],
            1 => sealed[4] ^= 1,
            2 => sealed.extend_from_within(..),
            _ => sealed = vec![0, 16],
        }
        rogue.stream.write_all(&sealed).await.unwrap();
        assert!(
            closes(&mut rogue.stream, Duration::from_secs(2)).await,
            "kind {kind}"
        );
    }
    client.links.send(id, frame(5));
    assert_eq!(client.frame().await, frame(5));
    assert_eq!(links.count(), 1);
}

/// One purchase goes on at its pace while five others send as fast as they can.
#[tokio::test]
async fn a_flood_is_slowed_and_another_connection_keeps_working() {
    const FRAMES: usize = 6_000;
    let limits = LinkLimits {
        frames: Rate {
            per_second: 200,
            burst: 400,
        },
        ..LinkLimits::default()
    };
    let relay = Node::new(1, limits).await;
    let (_links, address) = relay.echo();
    let done = Arc::new(AtomicBool::new(false));
    let (enough, began) = (done.clone(), Arc::new(Barrier::new(2)));
    let start = began.clone();
    // On a thread of their own, as strangers' processors are not ours.
    let floods = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut rogues = Vec::new();
            for n in 0..5 {
                let mut rogue = Rogue::connect(address, 10 + n, 20 + n).await;
                let flood: Vec<u8> = (0..FRAMES as u32).flat_map(|n| rogue.sealed(&frame(n))).collect();
                rogues.push((rogue, flood));
            }
            start.wait();
            let started = Instant::now();
            let flood = |(mut rogue, flood): (Rogue, Vec<u8>)| {
                let enough = enough.clone();
                async move {
                    let (mut reader, mut writer) = rogue.stream.split();
                    let (mut rest, mut echoed, mut buffer) = (flood.as_slice(), 0, [0; 4096]);
                    while !enough.load(Ordering::Relaxed) {
                        tokio::select! {
                            biased;
                            n = reader.read(&mut buffer) => echoed += n.unwrap(),
                            n = writer.write(rest), if !rest.is_empty() => rest = &rest[n.unwrap()..],
                            () = tokio::time::sleep(Duration::from_millis(50)) => {}
                        }
                    }
                    echoed / (5 + 18)
                }
            };
            let tasks: Vec<_> = rogues
                .into_iter()
                .map(|rogue| tokio::spawn(flood(rogue)))
                .collect();
            let mut echoed = Vec::new();
            for task in tasks {
                echoed.push(task.await.unwrap());
            }
            (echoed, started.elapsed())
        })
    });
    let mut client = Node::new(2, LinkLimits::default()).await;
    let id = client.links.connect(address, None).await.unwrap();
    client.up().await;
    // The relay serves the floods' handshakes meanwhile.
    tokio::task::spawn_blocking(move || began.wait()).await.unwrap();
    let mut trips = Vec::new();
    for n in 0..150 {
        let sent = Instant::now();
        client.links.send(id, frame(n));
        assert_eq!(client.frame().await, frame(n));
        trips.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::Relaxed);
    let (echoed, took) = floods.join().unwrap();
    trips.sort();
    println!(
        "round trips: median {:?}, slowest {:?}; echoed {echoed:?} in {took:?}",
        trips[75], trips[149]
    );
    assert!(trips[75] < Duration::from_millis(200), "{:?}", trips[75]);
    for echoed in echoed {
        // What the rate allows, and what one read brought too many.
        let allowed = 400 + 200 * (took.as_secs() as usize + 1) + 200;
        assert!(
            echoed <= allowed,
            "{echoed} frames of a flood came through in {took:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected_and_sending_never_blocks() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let rogue = Rogue::connect(relay.address, 2, 5).await;
    let id = relay.up().await;
    let longest = vec![VERSION; MAX_FRAME];
    let began = Instant::now();
    let mut sent = 0;
    let (ended, reason) = loop {
        let start = Instant::now();
        relay.links.send(id, longest.clone());
        assert!(start.elapsed() < Duration::from_millis(100));
        sent += 1;
        tokio::task::yield_now().await;
        match relay.events.try_recv() {
            Ok(LinkEvent::Down { connection, reason }) => break (connection, reason),
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(began.elapsed() < SOON, "still connected after {sent} frames"),
        }
    };
    assert_eq!(ended, id);
    assert!(reason.starts_with("the peer reads too slowly"), "{reason}");
    // The system's buffers and the queue, no more.
    assert!(sent * MAX_FRAME < 16 << 20, "{sent} frames were taken");
    drop(rogue);
}

#[tokio::test]
async fn a_third_session_of_one_identity_ends_the_first() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let mut sessions = Vec::new();
    for host in 2..5 {
        sessions.push(Rogue::connect(relay.address, host, 7).await);
        relay.up().await;
    }
    let (ended, _) = relay.down().await;
    assert_eq!(ended, ConnectionId(1));
    assert!(closes(&mut sessions[0].stream, Duration::from_secs(1)).await);
    assert_eq!(relay.links.count(), 2);
}

#[tokio::test]
async fn a_source_that_hurries_is_refused_until_it_has_waited() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = dial(relay.address, 2).await;
        // Ends it, so that half-open connections are not what is counted.
        if stream.write_all(&[0, 0]).await.is_err() || !closes(&mut stream, SOON).await {
            refused += 1;
        }
    }
    let client = Node::new(2, LinkLimits::default()).await;
    // The same source as far as the relay can tell is refused; another one is not.
    let hurried = timeout(SOON, async { Rogue::connect(relay.address, 3, 3).await }).await;
    assert!(hurried.is_ok(), "{refused}");
    relay.up().await;
    client.links.connect(relay.address, None).await.unwrap();
}

#[tokio::test]
async fn stopping_ends_everything_and_accepts_nothing_more() {
    let mut relay = Node::new(1, LinkLimits::default()).await;
    let mut client = Node::new(2, LinkLimits::default()).await;
    client.links.connect(relay.address, None).await.unwrap();
    client.up().await;
    let here = relay.up().await;
    let mut half = dial(relay.address, 2).await;
    relay.links.send(here, frame(1));
    relay.links.stop();
    assert_eq!(client.frame().await, frame(1));
    client.down().await;
    relay.down().await;
    assert!(closes(&mut half, Duration::from_secs(2)).await);
    assert!(client.links.connect(relay.address, None).await.is_err());
    assert!(matches!(
        relay.links.connect(client.address, None).await,
        Err(ConnectError::Stopping)
    ));
}

fn sheet(version: u8) -> Vec<u8> {
    wire::encode(&PriceSheet {
        version: version.into(),
        valid_until: BlockHeight::new(1_000),
        up: Msat::new(2_000),
        down: Msat::new(2_000),
        per_second: Msat::new(0),
        free: ByteCount::new(0),
        window_min: ByteCount::new(limits::MIN_WINDOW),
        window_max: ByteCount::new(limits::DEFAULT_WINDOW),
        class: BindingClass::Address,
    })
}

fn discovery(seed: u8, name: &str) -> (Discovery, watch::Sender<Option<SignedSheet>>) {
    let keys = keys(seed);
    let sheet = sheet(seed);
    let digest = Statement {
        kind: "sheet",
        genesis: GENESIS,
        signer: keys.node(),
        peer: [0; 32],
        instance: [0; 32],
        body: &sheet,
    }
    .digest();
    let signature = keys.sign(&digest).serialize();
    let (sender, receiver) = watch::channel(Some(SignedSheet { sheet, signature }));
    let what = Discovery {
        keys,
        genesis: GENESIS,
        name: name.to_owned(),
        port: 7473,
        sheet: receiver,
    };
    (what, sender)
}

#[tokio::test]
async fn relays_are_found_with_identity_port_and_signed_sheet() {
    let mut targets = Vec::new();
    let mut sheets = Vec::new();
    for (seed, name) in [(1, "café"), (2, "x".repeat(500).as_str())] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        targets.push(socket.local_addr().unwrap());
        let (what, sheet) = discovery(seed, name);
        sheets.push(sheet);
        tokio::spawn(answer_on(what, vec![socket]));
    }
    let wait = Duration::from_millis(600);
    let found = discover_at(&targets, GENESIS, wait).await.unwrap();
    assert_eq!(found.len(), 2, "each once, though asked three times: {found:?}");
    let first = found.iter().find(|beacon| beacon.node == keys(1).node()).unwrap();
    assert_eq!(first.name, "café");
    assert_eq!(first.address, "127.0.0.1:7473".parse().unwrap());
    assert_eq!(first.sheet, sheet(1));
    assert!(found.iter().any(|beacon| beacon.name.len() == 128));
    let other = GenesisHash::from_bytes([8; 32]);
    assert!(discover_at(&targets, other, wait).await.unwrap().is_empty());
    // Nothing to sell, nothing to say.
    sheets.iter().for_each(|sheet| drop(sheet.send(None)));
    assert!(discover_at(&targets, GENESIS, wait).await.unwrap().is_empty());
}

#[tokio::test]
async fn discovery_cannot_amplify_and_answers_a_source_slowly() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = socket.local_addr().unwrap();
    let (what, _sheet) = discovery(1, &"n".repeat(128));
    tokio::spawn(answer_on(what, vec![socket]));
    let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = beacon::query(GENESIS, beacon::Nonce([5; 16]));
    for length in [0, 1, 53, 511] {
        asker.send_to(&query[..length], target).await.unwrap();
    }
    let mut dirty = query;
    dirty[511] = 1;
    asker.send_to(&dirty, target).await.unwrap();
    let mut buffer = [0; 2048];
    let quiet = timeout(Duration::from_millis(200), asker.recv_from(&mut buffer)).await;
    assert!(quiet.is_err(), "only whole, clean queries are answered");
    for _ in 0..100 {
        asker.send_to(&query, target).await.unwrap();
    }
    let mut answers = 0;
    while let Ok(received) = timeout(Duration::from_millis(300), asker.recv_from(&mut buffer)).await {
        let (length, _) = received.unwrap();
        assert!(length <= query.len(), "{length}");
        answers += 1;
    }
    assert!((1..=8).contains(&answers), "{answers} answers to 100 queries");
}

#[test]
fn a_changed_answer_is_refused_whatever_byte_it_is() {
    let (what, _sheet) = discovery(1, "relay");
    let nonce = beacon::Nonce([5; 16]);
    let signed = what.sheet.borrow().clone().unwrap();
    let bytes = beacon::answer(
        &what.keys,
        GENESIS,
        nonce,
        7473,
        "relay",
        &signed.sheet,
        &signed.signature,
    );
    let bytes = bytes.unwrap();
    let from = "10.0.0.1:9".parse().unwrap();
    let verifier = Verifier::new();
    let read = |bytes: &[u8]| beacon::read_answer(bytes, from, &verifier, GENESIS, nonce);
    assert_eq!(read(&bytes).unwrap().node, what.keys.node());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed).is_err(), "byte {at}");
        assert!(read(&bytes[..at]).is_err(), "cut at {at}");
    }
    for name in ["two\nlines", "\u{1b}[2J", "turned\u{202e}around"] {
        let bytes = beacon::answer(
            &what.keys,
            GENESIS,
            nonce,
            7473,
            name,
            &signed.sheet,
            &signed.signature,
        );
        assert_eq!(read(&bytes.unwrap()), Err(BeaconError::Malformed), "{name:?}");
    }
    let again = beacon::read_answer(&bytes, from, &verifier, GENESIS, beacon::Nonce([6; 16]));
    assert_eq!(again, Err(BeaconError::Other), "an old answer to a new query");
}

/// Broadcast and multicast over a real link: two network namespaces of this test's own, joined by a veth pair.
#[test]
fn a_relay_on_the_link_is_found_by_broadcast_and_by_multicast() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match std::env::var("TURNPIKE_TEST_ROLE").as_deref() {
        Ok("relay") => {
            let (what, _sheet) = discovery(1, "on the link");
            let link = ["g0".to_owned()];
            let answering = answer_discovery(what, &link);
            runtime.block_on(async {
                match timeout(Duration::from_secs(20), answering).await {
                    Err(_) => {}
                    Ok(ended) => panic!("{ended:?}"),
                }
            });
        }
        Ok("client") => runtime.block_on(async {
            let wait = Duration::from_millis(1_500);
            let found = discover(Some("c0"), GENESIS, wait).await.unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].node, keys(1).node());
            let all = discover(None, GENESIS, wait).await.unwrap();
            assert_eq!(all.len(), 1, "{all:?}");
            let wanted = std::env::var("TURNPIKE_TEST_WANTED").unwrap();
            assert!(found[0].address.to_string().starts_with(&wanted), "{found:?}");
            let missing = discover(Some("nosuch0"), GENESIS, wait).await.unwrap_err();
            assert_eq!(missing.to_string(), "there is no network interface nosuch0");
        }),
        _ => {
            for (addresses, wanted) in [("4", "10.9.0.1:7473"), ("6", "[fe80::")] {
                let script = r#"
                    set -e
                    PATH=$PATH:/usr/sbin:/sbin
                    unshare --net sleep 60 & far=$!
                    trap 'kill $far $relay 2>/dev/null' EXIT
                    for i in 1 2 3 4 5 6 7 8 9; do
                        [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break
                        sleep 0.1
                    done
                    there() { nsenter --target $far --net "$@"; }
                    set_dad() { "$@" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'; }
                    set_dad; set_dad there
                    ip link add g0 type veth peer name c0 netns $far
                    ip link set g0 up
                    there ip link set c0 up
                    if [ "$1" = 4 ]; then
                        echo 1 >/proc/sys/net/ipv6/conf/g0/disable_ipv6
                        ip address add 10.9.0.1/24 dev g0
                        there ip address add 10.9.0.2/24 dev c0
                    fi
                    TURNPIKE_TEST_ROLE=relay "$2" --exact "$3" & relay=$!
                    sleep 0.5
                    TURNPIKE_TEST_WANTED=$4 TURNPIKE_TEST_ROLE=client there "$2" --exact "$3" --nocapture
                "#;
                let own = "transport::tests::a_relay_on_the_link_is_found_by_broadcast_and_by_multicast";
                let ran = Command::new("unshare")
                    .args([
                        "--user",
                        "--map-root-user",
                        "--net",
                        "sh",
                        "-c",
                        script,
                        "sh",
                        addresses,
                    ])
                    .arg(std::env::current_exe().unwrap())
                    .args([own, wanted])
                    .output()
                    .unwrap();
                assert!(
                    ran.status.success(),
                    "{addresses}: {}{}",
                    String::from_utf8_lossy(&ran.stdout),
                    String::from_utf8_lossy(&ran.stderr)
                );
            }
        }
    }
}
