//! Finding relays on the link: one query by IPv4 broadcast and IPv6 multicast, answers by unicast.
//!
//! Datagrams stay on the link: multicast to all nodes is link-local, the broadcast address is not routed, and both are
//! sent with a hop limit of one. Answers go to link-local addresses (IPv6), or to where the kernel needs no gateway
//! (IPv4), whatever address a question claims to come from. Spec page: `protocol/spec/transport.md`.

use super::Rate;
use super::admission::Source;
use super::beacon::{self, Beacon, MAX_NAME, Nonce, QUERY};
use super::bucket::Bucket;
use super::connection::canonical;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use turnpike_protocol::base::GenesisHash;
use turnpike_protocol::crypto::{Keys, Verifier};

/// UDP port that relays answer on.
pub const DISCOVERY_PORT: u16 = 7474;

/// All nodes on the link (RFC 4291): every socket hears it without joining, and no bridge filters it.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How often a query is sent within the time to wait: datagrams get lost.
const TRIES: u32 = 3;
/// Most relays that one query collects.
const MAX_BEACONS: usize = 64;
/// Answers of a relay to all, and to one source: a signature each.
const ANSWERS: Rate = Rate {
    per_second: 20,
    burst: 40,
};
const ANSWERS_PER_SOURCE: Rate = Rate {
    per_second: 1,
    burst: 6,
};
/// Datagrams that one socket reads, whatever they are: more wait in the kernel's queue until it drops them, so that a
/// flood costs a few thousandths of a core.
const READS: Rate = Rate {
    per_second: 500,
    burst: 500,
};
/// Pause after the system failed to receive, such as while the interface is down.
const PAUSE: Duration = Duration::from_secs(1);
/// Sources that a relay remembers for their rate.
const MAX_SOURCES: usize = 1_024;

/// A price sheet and the relay's signature over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedSheet {
    /// The bytes that were signed.
    pub sheet: Vec<u8>,
    /// The signature.
    pub signature: [u8; 64],
}

/// What a relay answers with.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Its keys.
    pub keys: Arc<Keys>,
    /// Its chain; queries of other chains are not answered.
    pub genesis: GenesisHash,
    /// What its owner calls it; cut to 128 bytes.
    pub name: String,
    /// The port that it accepts sessions on.
    pub port: u16,
    /// What it sells now; nothing is answered while there is nothing.
    pub sheet: watch::Receiver<Option<SignedSheet>>,
}

/// Asks who sells on the link, and waits for answers. `interface` is the one to ask on, or all that are up. Relays
/// come in the order in which they answered, each once: at the address that everything works over, if it answered from
/// more than one.
///
/// # Errors
/// Of the system, if no interface could be asked on.
pub async fn discover(
    interface: Option<&str>,
    genesis: GenesisHash,
    wait: Duration,
) -> io::Result<Vec<Beacon>> {
    let names = match interface {
        Some(name) => vec![name.to_owned()],
        None => interfaces()?,
    };
    let mut sockets = Vec::new();
    let mut last = None;
    for name in &names {
        for (socket, target) in [asking_v4(name), asking_v6(name)]
            .into_iter()
            .filter_map(|made| made.map_err(|error| last = Some(error)).ok())
        {
            sockets.push((socket, vec![target]));
        }
    }
    match (sockets.is_empty(), last) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there is no network interface",
        )),
        _ => ask(sockets, genesis, wait).await,
    }
}

/// The same, asking these addresses only.
///
/// # Errors
/// Of the system, if no socket could be had.
pub async fn discover_at(
    targets: &[SocketAddr],
    genesis: GenesisHash,
    wait: Duration,
) -> io::Result<Vec<Beacon>> {
    let mut sockets = Vec::new();
    for v6 in [false, true] {
        let targets: Vec<_> = targets.iter().copied().filter(|t| t.is_ipv6() == v6).collect();
        if !targets.is_empty() {
            sockets.push((into_tokio(udp(v6)?, unspecified(v6, 0))?, targets));
        }
    }
    ask(sockets, genesis, wait).await
}

/// Answers queries that arrive on these interfaces, for as long as it is polled.
///
/// # Errors
/// Of the system, if port 7474 cannot be had.
pub async fn answer_discovery(what: Discovery, interfaces: &[String]) -> io::Result<()> {
    let mut sockets = Vec::new();
    for name in interfaces {
        for v6 in [false, true] {
            let socket = udp(v6)?;
            socket.set_reuse_address(true)?;
            // Says which interface is missing.
            index(&socket, name)?;
            socket.bind_device(Some(name.as_bytes()))?;
            sockets.push(into_tokio(socket, unspecified(v6, DISCOVERY_PORT))?);
        }
    }
    answer_on(what, sockets).await
}

/// Answers queries that arrive on these sockets.
pub(super) async fn answer_on(what: Discovery, sockets: Vec<UdpSocket>) -> io::Result<()> {
    let pace = Arc::new(std::sync::Mutex::new(Pace::new(Instant::now())));
    let mut tasks: tokio::task::JoinSet<Infallible> = tokio::task::JoinSet::new();
    for socket in sockets {
        let (what, pace) = (what.clone(), pace.clone());
        tasks.spawn(async move {
            let mut buffer = [0; QUERY + 1];
            let mut reads = Bucket::full(READS, Instant::now());
            loop {
                reads.charge(1, Instant::now());
                if let Some(at) = reads.ready_at() {
                    tokio::time::sleep_until(at.into()).await;
                }
                let (length, from) = match socket.recv_from(&mut buffer).await {
                    Ok(received) => received,
                    // An answer that came back as unreachable: the next query may be fine.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                    Err(error) => {
                        tracing::debug!("questions for relays cannot be received: {error}");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                if !is_neighbour(from) {
                    continue;
                }
                let Some(nonce) = beacon::read_query(&buffer[..length], what.genesis) else {
                    continue;
                };
                let allowed = pace
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .allows(Source::of(from.ip()), Instant::now());
                if !allowed {
                    continue;
                }
                if let Some(bytes) = what.answer(nonce) {
                    // Dropped where it cannot be sent: the asker asks again.
                    drop(reply(&socket, &bytes, from));
                }
            }
        });
    }
    match tasks.join_next().await {
        Some(Ok(never)) => match never {},
        Some(Err(panic)) => Err(io::Error::other(panic)),
        None => std::future::pending().await,
    }
}

/// Sends without a gateway, and without waiting.
fn reply(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
    let flags = SendFlags::DONTROUTE | SendFlags::DONTWAIT;
    socket.try_io(Interest::WRITABLE, || {
        Ok(rustix::net::sendto(socket, bytes, flags, &to)?)
    })
}

/// Whether an address can belong to this link at all; for IPv4, the kernel knows when it sends.
fn is_neighbour(from: SocketAddr) -> bool {
    match from.ip() {
        IpAddr::V4(v4) => !(v4.is_broadcast() || v4.is_multicast() || v4.is_unspecified()),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

impl Discovery {
    fn answer(&self, nonce: Nonce) -> Option<Vec<u8>> {
        let signed = self.sheet.borrow().clone()?;
        let mut end = self.name.len().min(MAX_NAME);
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        let name = self.name.get(..end).unwrap_or_default();
        beacon::answer(
            &self.keys,
            self.genesis,
            nonce,
            self.port,
            name,
            &signed.sheet,
            &signed.signature,
        )
    }
}

/// Bounds answers in all and per source.
struct Pace {
    all: Bucket,
    sources: HashMap<Source, Bucket>,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace {
            all: Bucket::full(ANSWERS, now),
            sources: HashMap::new(),
        }
    }

    fn allows(&mut self, source: Source, now: Instant) -> bool {
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
        // Addresses can be forged: when the memory for them is full, what is there for all still bounds it.
        if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&source) {
            let bucket = self
                .sources
                .entry(source)
                .or_insert_with(|| Bucket::full(ANSWERS_PER_SOURCE, now));
            if !bucket.take(now) {
                return false;
            }
        }
        self.all.take(now)
    }
}

async fn ask(
    sockets: Vec<(UdpSocket, Vec<SocketAddr>)>,
    genesis: GenesisHash,
    wait: Duration,
) -> io::Result<Vec<Beacon>> {
    let mut nonce = Nonce([0; 16]);
    getrandom::fill(&mut nonce.0).map_err(io::Error::other)?;
    let query = beacon::query(genesis, nonce);
    let (sender, mut answers) = tokio::sync::mpsc::channel(MAX_BEACONS);
    let mut tasks = tokio::task::JoinSet::new();
    for (socket, targets) in sockets {
        let sender = sender.clone();
        tasks.spawn(async move {
            let mut next = tokio::time::interval(wait / TRIES);
            let mut buffer = [0; QUERY + 1];
            loop {
                tokio::select! {
                    _ = next.tick() => {
                        for target in &targets {
                            // An interface that is down, or without an address of this family, finds nobody.
                            drop(socket.send_to(&query, target).await);
                        }
                    }
                    received = socket.recv_from(&mut buffer) => {
                        // Errors are answers that came back as unreachable: others may follow.
                        let Ok((length, from)) = received else { continue };
                        if length <= QUERY && sender.send((buffer[..length].to_vec(), from)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
    }
    drop(sender);
    let verifier = Verifier::new();
    let mut found: Vec<Beacon> = Vec::new();
    let end = tokio::time::sleep(wait);
    tokio::pin!(end);
    while found.len() < MAX_BEACONS {
        tokio::select! {
            () = &mut end => break,
            answer = answers.recv() => {
                let Some((bytes, from)) = answer else { break };
                match beacon::read_answer(&bytes, canonical(from), &verifier, genesis, nonce) {
                    Ok(beacon) => keep(&mut found, beacon),
                    Err(error) => tracing::debug!("{from}: {error}"),
                }
            }
        }
    }
    Ok(found)
}

/// One row for each relay, at its best address.
fn keep(found: &mut Vec<Beacon>, beacon: Beacon) {
    match found.iter_mut().find(|known| known.node == beacon.node) {
        None => found.push(beacon),
        Some(known) if awkwardness(known.address) > awkwardness(beacon.address) => *known = beacon,
        Some(_) => {}
    }
}

/// How much can go wrong with an address: one of the link alone is good only together with an interface, and packets to
/// other places do not leave from it.
pub fn awkwardness(address: SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(v4) if v4.is_link_local() => 1,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 2,
        _ => 0,
    }
}

fn asking_v4(interface: &str) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = udp(false)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_ttl_v4(1)?;
    let target = SocketAddr::from((Ipv4Addr::BROADCAST, DISCOVERY_PORT));
    Ok((into_tokio(socket, unspecified(false, 0))?, target))
}

fn asking_v6(interface: &str) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = udp(true)?;
    let index = index(&socket, interface)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(1)?;
    let target = SocketAddrV6::new(GROUP, DISCOVERY_PORT, 0, index);
    Ok((into_tokio(socket, unspecified(true, 0))?, target.into()))
}

fn udp(v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn into_tokio(socket: Socket, bind: SocketAddr) -> io::Result<UdpSocket> {
    socket.bind(&bind.into())?;
    UdpSocket::from_std(socket.into())
}

fn unspecified(v6: bool, port: u16) -> SocketAddr {
    match v6 {
        false => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        true => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}

fn index(socket: &Socket, interface: &str) -> io::Result<u32> {
    rustix::net::netdevice::name_to_index(socket, interface).map_err(|error| {
        let text = format!("there is no network interface {interface}");
        match error {
            rustix::io::Errno::NODEV => io::Error::new(io::ErrorKind::NotFound, text),
            other => other.into(),
        }
    })
}

/// Interfaces of this network namespace, the loopback one left out.
fn interfaces() -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/self/net/dev")?;
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name != "lo")
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_from_beyond_the_link_are_not_neighbours() {
        let neighbour = |text: &str| is_neighbour(SocketAddr::new(text.parse().unwrap(), 9));
        for here in ["fe80::1", "::1", "10.0.0.7", "169.254.3.4"] {
            assert!(neighbour(here), "{here}");
        }
        for beyond in [
            "2001:db8::1",
            "fd00::1",
            "ff02::1",
            "::",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            assert!(!neighbour(beyond), "{beyond}");
        }
    }

    #[test]
    fn a_relay_is_listed_once_and_not_by_its_link_local_address() {
        let beacon = |node: u8, address: &str| Beacon {
            node: turnpike_protocol::base::NodeId::from_bytes([node; 32]),
            address: address.parse().unwrap(),
            name: String::new(),
            sheet: Vec::new(),
            signature: [0; 64],
        };
        let mut found = Vec::new();
        for address in [
            "[fe80::1%2]:7473",
            "169.254.0.1:7473",
            "10.0.0.1:7473",
            "[fd00::1]:7473",
            "[fe80::1%2]:7473",
        ] {
            keep(&mut found, beacon(1, address));
        }
        keep(&mut found, beacon(2, "[fe80::2%2]:7473"));
        let listed: Vec<String> = found.iter().map(|b| b.address.to_string()).collect();
        assert_eq!(listed, ["10.0.0.1:7473", "[fe80::2%2]:7473"]);
    }

    /// In a network namespace of its own, which has a gateway for everything.
    #[tokio::test]
    async fn an_answer_never_takes_a_gateway() {
        const INSIDE: &str = "TURNPIKE_TEST_GATEWAY";
        if std::env::var_os(INSIDE).is_none() {
            let script = r#"
                set -e
                PATH=$PATH:/usr/sbin:/sbin
                ip link set lo up
                ip address add 10.9.9.1/24 dev lo
                ip route add default via 10.9.9.2 dev lo
                exec "$0" --exact transport::discovery::tests::an_answer_never_takes_a_gateway
            "#;
            let ran = std::process::Command::new("unshare")
                .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
                .arg(std::env::current_exe().unwrap())
                .env(INSIDE, "1")
                .output()
                .unwrap();
            let said = [ran.stdout, ran.stderr].concat();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&said));
            return;
        }
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.writable().await.unwrap();
        let beyond = SocketAddr::from(([192, 0, 2, 1], 9));
        assert_eq!(
            socket.send_to(&[0], beyond).await.unwrap(),
            1,
            "there is a way beyond"
        );
        let refused = reply(&socket, &[0], beyond).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NetworkUnreachable);
        let asker = UdpSocket::bind("10.9.9.1:0").await.unwrap();
        reply(&socket, &[7], asker.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 2];
        assert_eq!(asker.recv(&mut buffer).await.unwrap(), 1);
    }
}
