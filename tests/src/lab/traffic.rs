//! Traffic and gates for the lab's tests: datagrams that are counted where they arrive.

use super::{Host, Lab, setup};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use turnpike_firmware::gate::{Binding, ClientSlot, Gate, GatePlan};

/// Long enough for a packet on one machine, also when others compile on it.
const SETTLE: Duration = Duration::from_millis(300);

/// Datagrams from a client to the uplink host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    client: usize,
    ipv6: bool,
}

impl Flow {
    /// IPv4 from client `client`.
    pub fn udp4(client: usize) -> Flow {
        Flow { client, ipv6: false }
    }

    /// IPv6 from client `client`.
    pub fn udp6(client: usize) -> Flow {
        Flow { client, ipv6: true }
    }
}

impl Lab {
    /// The slot that tests give client `i`.
    pub fn slot(&self, i: usize) -> ClientSlot {
        ClientSlot(i as u16 + 1)
    }

    /// What client `i` really is: its device, its IPv4 address, its /64.
    pub fn binding(&self, i: usize) -> Binding {
        let interface = Lab::GUEST.parse().expect("a constant name");
        let mut binding = Binding::new(interface, self.client_mac(i).parse().expect("a lab address"));
        binding.ipv4 = Some(self.client4(i));
        binding.ipv6_prefix = Some(self.client6(i));
        binding
    }

    /// The plan of a gate between guests and uplink, with IPv4 masquerade as on most relays.
    pub fn gate_plan(&self) -> GatePlan {
        GatePlan {
            guests: vec![Lab::GUEST.parse().expect("a constant name")],
            uplinks: vec![Lab::UP.parse().expect("a constant name")],
            masquerade_ipv4: true,
            masquerade_ipv6: false,
        }
    }

    /// Sends one datagram in each family from client `i` to the uplink host and says how many of its answers came back,
    /// IPv4 first.
    pub fn answered(&self, i: usize) -> [usize; 2] {
        let pairs: [(IpAddr, IpAddr); 2] = [
            (setup::client4(i).into(), Lab::UPLINK4.into()),
            (setup::client6(i).into(), Lab::UPLINK6.into()),
        ];
        pairs.map(|(source, to)| self.answered_at(i, source, to))
    }

    /// The same from one of the client's addresses: how many of one answers came back.
    pub fn answered_at(&self, i: usize, source: IpAddr, to: IpAddr) -> usize {
        let far = self
            .uplink
            .within(|| UdpSocket::bind(SocketAddr::new(to, 0)).expect("a port"));
        let near = self.clients[i].within(|| UdpSocket::bind(SocketAddr::new(source, 0)).expect("a port"));
        near.send_to(b"question", far.local_addr().expect("an address"))
            .expect("a route");
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(SETTLE)).expect("a timeout");
        }
        let Ok((_, asker)) = far.recv_from(&mut [0; 16]) else {
            return 0;
        };
        far.send_to(b"answer", asker).expect("a route");
        usize::from(near.recv_from(&mut [0; 16]).is_ok())
    }

    /// Layer-3 bytes that arrived at client `i` and at the uplink host, both together: what was really forwarded, if
    /// only that client and the uplink host talk.
    pub fn forwarded(&self, i: usize) -> u64 {
        self.clients[i].counters(Lab::ETH).rx_layer3() + self.uplink.counters(Lab::ETH).rx_layer3()
    }

    /// Waits until nothing has been forwarded for `quiet`, at most `limit`, and says what [`Lab::forwarded`] says then.
    pub fn settled(&self, i: usize, quiet: Duration, limit: Duration) -> u64 {
        let start = Instant::now();
        let (mut last, mut since) = (self.forwarded(i), Instant::now());
        while since.elapsed() < quiet && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.forwarded(i);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// Opens a gate; call it inside the relay.
    pub fn open_gate(&self) -> Gate {
        let (gate, survivors) = Gate::open(self.gate_plan()).expect("the gate opens");
        assert!(survivors.is_empty(), "a fresh lab has no table");
        gate
    }

    /// Sends `count` datagrams of `size` payload bytes and says how many arrived.
    pub fn sent_through(&self, flow: Flow, count: usize, size: usize) -> usize {
        let to: IpAddr = if flow.ipv6 {
            Lab::UPLINK6.into()
        } else {
            Lab::UPLINK4.into()
        };
        deliver(&self.clients[flow.client], &self.uplink, to, None, count, size)
    }
}

/// A flow between a client and the uplink host that is kept: the same addresses and ports throughout.
#[derive(Debug)]
pub struct Dialogue {
    near: UdpSocket,
    far: UdpSocket,
    /// How the uplink host sees the client.
    asker: std::cell::Cell<Option<SocketAddr>>,
}

impl Dialogue {
    /// Nothing is sent yet.
    pub fn new(lab: &Lab, client: usize, source: IpAddr) -> Dialogue {
        let to: IpAddr = if source.is_ipv6() {
            Lab::UPLINK6.into()
        } else {
            Lab::UPLINK4.into()
        };
        let far = lab
            .uplink
            .within(|| UdpSocket::bind(SocketAddr::new(to, 0)).expect("a port"));
        let near =
            lab.clients[client].within(|| UdpSocket::bind(SocketAddr::new(source, 0)).expect("a port"));
        near.connect(far.local_addr().expect("an address"))
            .expect("a route");
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(SETTLE)).expect("a timeout");
        }
        Dialogue {
            near,
            far,
            asker: std::cell::Cell::new(None),
        }
    }

    /// Whether a datagram of the client arrives.
    pub fn asks(&self) -> bool {
        // An error here is an ICMP answer to an earlier datagram; it is the arrival that counts.
        let _ = self
            .near
            .send(b"question")
            .or_else(|_| self.near.send(b"question"));
        match self.far.recv_from(&mut [0; 16]) {
            Ok((_, asker)) => {
                self.asker.set(Some(asker));
                true
            }
            Err(_) => false,
        }
    }

    /// Whether a datagram to whoever asked last arrives.
    pub fn answers(&self) -> bool {
        let Some(asker) = self.asker.get() else {
            return false;
        };
        let _ = self.far.send_to(b"answer", asker);
        self.near.recv(&mut [0; 16]).is_ok()
    }
}

/// A flow that goes on at the sender's full speed until it is dropped.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// What a [`Stream`] is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamKind {
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// From the uplink host to the client (the client begins it) instead of from the client.
    pub down: bool,
}

impl StreamKind {
    /// All eight.
    pub fn all() -> impl Iterator<Item = StreamKind> {
        (0..8u8).map(|n| StreamKind {
            ipv6: n & 1 != 0,
            tcp: n & 2 != 0,
            down: n & 4 != 0,
        })
    }
}

impl Stream {
    /// Starts a flow between a client and the uplink host; the client must be paid for already.
    pub fn start(lab: &Lab, client: usize, kind: StreamKind) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let to: IpAddr = if kind.ipv6 {
            Lab::UPLINK6.into()
        } else {
            Lab::UPLINK4.into()
        };
        let (near, far) = (lab.clients[client].clone(), lab.uplink.clone());
        let any: IpAddr = if kind.ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let any = SocketAddr::new(any, 0);
        // The largest datagram that is not fragmented at an MTU of 1,500.
        let size = if kind.ipv6 { 1_452 } else { 1_472 };
        let mut threads = Vec::new();
        if kind.tcp {
            let listener = far.within(|| TcpListener::bind(any).expect("a port"));
            let port = listener.local_addr().expect("an address").port();
            let halt = stop.clone();
            threads.push(std::thread::spawn(move || {
                if let Ok((peer, _)) = listener.accept() {
                    if kind.down {
                        push(peer, &halt)
                    } else {
                        pull(peer, &halt)
                    }
                }
            }));
            let stream =
                near.within(|| TcpStream::connect(SocketAddr::new(to, port)).expect("a paid connection"));
            let halt = stop.clone();
            threads.push(std::thread::spawn(move || {
                if kind.down {
                    pull(stream, &halt)
                } else {
                    push(stream, &halt)
                }
            }));
        } else {
            let server = far.within(|| UdpSocket::bind(any).expect("a port"));
            let port = server.local_addr().expect("an address").port();
            let socket = near.within(|| UdpSocket::bind(any).expect("a port"));
            socket.connect(SocketAddr::new(to, port)).expect("a route");
            socket.send(&[0]).expect("a first datagram");
            let (_, client) = server.recv_from(&mut [0]).expect("a paid datagram");
            server.connect(client).expect("a route");
            let (sender, idle) = if kind.down {
                (server, socket)
            } else {
                (socket, server)
            };
            let halt = stop.clone();
            threads.push(std::thread::spawn(move || {
                let _idle = idle; // stays open, so that no ICMP answers fall into the count
                while !halt.load(Ordering::Relaxed) {
                    let _ = sender.send(&[0x55; 1_472][..size]);
                }
            }));
        }
        Stream { stop, threads }
    }

    /// Ends the flow.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the flow's thread ends in order");
        }
    }
}

fn push(mut stream: TcpStream, stop: &AtomicBool) {
    stream
        .set_write_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    while !stop.load(Ordering::Relaxed) {
        let _ = stream.write(&[0x55; 65_536]);
    }
}

fn pull(mut stream: TcpStream, stop: &AtomicBool) {
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let _ = stream.read(&mut buffer);
    }
}

/// Sends `count` datagrams from `from` (its socket bound to `source`, if given) to `to` on host `at`, and says how
/// many of them arrived there.
pub fn deliver(
    from: &Host,
    at: &Host,
    to: IpAddr,
    source: Option<IpAddr>,
    count: usize,
    size: usize,
) -> usize {
    let any: IpAddr = if to.is_ipv6() {
        "::".parse().expect("any")
    } else {
        "0.0.0.0".parse().expect("any")
    };
    let receiver = at.within(|| UdpSocket::bind(SocketAddr::new(any, 0)).expect("a port"));
    let target = SocketAddr::new(to, receiver.local_addr().expect("an address").port());
    receiver.set_read_timeout(Some(SETTLE)).expect("a timeout");
    from.within(|| {
        let sender = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0)).expect("a port");
        for _ in 0..count {
            // An error here is an ICMP answer to an earlier datagram; it is the arrivals that count.
            let _ = sender.send_to(&vec![0x55; size], target);
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let mut buffer = vec![0; 65_536];
    let mut arrived = 0;
    while receiver.recv_from(&mut buffer).is_ok() {
        arrived += 1;
    }
    arrived
}
