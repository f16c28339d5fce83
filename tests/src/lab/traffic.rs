//! Traffic and gates for the lab's tests: datagrams that are counted where they arrive.

use super::{Host, Lab};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
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
