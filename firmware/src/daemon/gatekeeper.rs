//! Between the node's attachment numbers and the kernel: finds out whose addresses a session claims, and keeps the
//! gate and the meter.

use super::core::{Ask, CoreHandle};
use crate::gate::{
    Binding, ClientSlot, Gate, GateError, InterfaceName, Mac, Meter, MeterPlan, Survivor, index_of, mac_of,
    neighbours,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;
use turnpike_protocol::base::ByteCount;
use turnpike_protocol::node::GateReading;
use turnpike_protocol::wire::ErrorCode;

/// How often the link is asked for an address that it has not heard of yet, and how long between two questions.
const LOOKUPS: u32 = 20;
const LOOKUP_PAUSE: Duration = Duration::from_millis(50);
/// Discard service: a datagram to it makes the kernel look for the neighbour, whatever becomes of the datagram (RFC 863).
const DISCARD: u16 = 9;

/// A binding whose device was found on the link.
pub struct Resolved {
    /// The attachment.
    pub client: u16,
    /// The device and its addresses, or why not.
    pub binding: Result<Binding, ErrorCode>,
}

/// Where guests are.
#[derive(Clone, Default)]
pub struct GuestLinks {
    /// Interfaces.
    pub interfaces: Vec<InterfaceName>,
    /// Every guest has an IPv6 /64 of its own (RFC 8273).
    pub prefix_each: bool,
}

/// The kernel's side of selling and of buying.
#[derive(Default)]
pub struct Gatekeeper {
    gate: Option<Gate>,
    guests: GuestLinks,
    survivors: BTreeSet<u16>,
    failed: bool,
    meter: Option<Meter>,
    plan: Option<MeterPlan>,
}

impl Gatekeeper {
    /// A relay's, with what survived a crash.
    pub fn relay(&mut self, gate: Gate, guests: GuestLinks, survivors: &[Survivor]) {
        self.gate = Some(gate);
        self.guests = guests;
        self.survivors = survivors.iter().map(|s| s.reading.client.0).collect();
    }

    /// A client's.
    pub fn client(&mut self, plan: MeterPlan) {
        self.plan = Some(plan);
    }

    /// Looks on the guest links for the device behind `remote` and checks that the other addresses are its own. The
    /// answer comes as [`Ask::Resolved`].
    pub fn resolve(
        &self,
        client: u16,
        remote: Option<SocketAddr>,
        more: &[[u8; 16]],
        core: CoreHandle,
    ) -> Result<(), ErrorCode> {
        if self.gate.is_none() {
            return Err(ErrorCode::GateDown);
        }
        let first = remote.ok_or(ErrorCode::BindingRefused)?;
        let more: Vec<IpAddr> = more
            .iter()
            .map(|a| IpAddr::V6(Ipv6Addr::from(*a)).to_canonical())
            .collect();
        let guests = self.guests.clone();
        tokio::spawn(async move {
            let binding = find(&guests, first, &more).await;
            core.ask(Ask::Resolved(Resolved { client, binding }));
        });
        Ok(())
    }

    /// Opens an attachment; nothing passes it yet.
    pub fn attach(&mut self, resolved: Resolved) -> Result<(), ErrorCode> {
        let binding = resolved.binding?;
        let gate = self.gate.as_mut().ok_or(ErrorCode::GateDown)?;
        gate.attach(ClientSlot(resolved.client), binding)
            .map_err(|error| {
                tracing::warn!(%error, client = resolved.client, "a binding was refused");
                if error.is_of_binding() {
                    ErrorCode::BindingRefused
                } else {
                    ErrorCode::GateDown
                }
            })
    }

    /// Sets an attachment's cumulative limit.
    pub fn grant(&mut self, client: u16, limit: ByteCount) -> Result<(), GateError> {
        let Some(gate) = self.gate.as_mut() else {
            return Ok(());
        };
        let granted = gate.grant(ClientSlot(client), limit);
        // The next reading that succeeds tells that the gate works again.
        self.failed |= granted.is_err();
        granted
    }

    /// Reads every attachment.
    pub fn read(&mut self) -> Result<Vec<GateReading>, GateError> {
        let Some(gate) = self.gate.as_mut() else {
            return Ok(Vec::new());
        };
        let readings = gate.read();
        if readings.is_err() {
            self.failed = true;
        }
        Ok(readings?.iter().map(reading).collect())
    }

    /// Whether the gate works again after a failure; says so once.
    pub fn recovered(&mut self) -> bool {
        std::mem::take(&mut self.failed)
    }

    /// Closes an attachment and gives its last reading; none if the kernel knows nothing of it.
    ///
    /// # Errors
    /// It stands, and may let packets pass: its use is not known. To be tried again.
    pub fn detach(&mut self, client: u16) -> Result<Option<GateReading>, GateError> {
        let Some(gate) = self.gate.as_mut() else {
            return Ok(None);
        };
        match gate.detach(ClientSlot(client)) {
            Ok(last) => Ok(Some(reading(&last))),
            Err(GateError::UnknownClient(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an address of this attachment answers from another device than the one that was bound. Silence is no
    /// drift: the kernel forgets who is quiet.
    pub fn has_drifted(&self, client: u16) -> bool {
        let bound = self.gate.iter().flat_map(Gate::clients);
        let binding = bound
            .filter(|(slot, _)| slot.0 == client)
            .find_map(|(_, binding)| binding);
        let Some(binding) = binding else { return false };
        let known = neighbours(&binding.interface).unwrap_or_default();
        let own = |address: IpAddr| {
            binding.ipv4.map(IpAddr::V4) == Some(address)
                || matches!(address, IpAddr::V6(a) if binding.ipv6.contains(&a))
        };
        known.iter().any(|n| own(n.address) && n.mac != binding.mac)
    }

    /// Closes attachments that survived a crash and that the store knows nothing of: their clients have to bind again.
    pub fn drop_strangers(&mut self, known: &[u16]) {
        for client in std::mem::take(&mut self.survivors) {
            if let Some(gate) = self.gate.as_mut().filter(|_| !known.contains(&client)) {
                if let Err(error) = gate.detach(ClientSlot(client)) {
                    tracing::error!(%error, client, "an unknown attachment of the gate could not be closed");
                }
            }
        }
    }

    /// Reads this device's own meter, opening it at the first time.
    pub fn read_meter(&mut self) -> Option<(ByteCount, ByteCount)> {
        if self.meter.is_none() {
            match Meter::open(self.plan.as_ref()?) {
                Ok(meter) => self.meter = Some(meter),
                Err(error) => {
                    tracing::error!(%error, "the own meter cannot be opened, so nothing is bought");
                    return None;
                }
            }
        }
        match self.meter.as_mut()?.read() {
            Ok(r) => Some((r.sent, r.received)),
            Err(error) => {
                tracing::error!(%error, "the own meter cannot be read");
                None
            }
        }
    }

    /// Leaves the gate in force, for the next start to count what could not be counted now. It lets no unpaid packet
    /// pass meanwhile.
    pub fn leave(&mut self) {
        self.gate = None;
    }

    /// Removes everything of ours from the kernel.
    pub fn close(&mut self) {
        if let Some(Err(error)) = self.gate.take().map(Gate::close) {
            tracing::error!(%error, "the gate's table could not be removed");
        }
        if let Some(Err(error)) = self.meter.take().map(Meter::close) {
            tracing::error!(%error, "the meter's table could not be removed");
        }
    }
}

fn reading(r: &crate::gate::Reading) -> GateReading {
    GateReading {
        client: r.client.0,
        up: r.up,
        down: r.down,
        exhausted: r.exhausted,
    }
}

/// The device that has `first` on one of the guest links, with those of `more` that are its own too.
async fn find(guests: &GuestLinks, first: SocketAddr, more: &[IpAddr]) -> Result<Binding, ErrorCode> {
    let scope = scope_of(first);
    let first = first.ip().to_canonical();
    for interface in &guests.interfaces {
        // Devices on two links may have the same link-local address.
        if scope.is_some_and(|scope| index_of(interface).ok() != Some(scope)) {
            continue;
        }
        let Some(mac) = look_up(interface, first).await else {
            continue;
        };
        let mut binding = Binding::new(interface.clone(), mac);
        guests.add(&mut binding, first);
        for address in more {
            // An address of another device is refused, not ignored: the guest should know that it is not served.
            if look_up(interface, *address).await != Some(mac) {
                return Err(ErrorCode::BindingRefused);
            }
            guests.add(&mut binding, *address);
        }
        return Ok(binding);
    }
    Err(ErrorCode::BindingRefused)
}

/// The interface that a link-local address is on, as the kernel numbers them.
fn scope_of(address: SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            Some(v6.scope_id()).filter(|scope| *scope > 0)
        }
        _ => None,
    }
}

impl GuestLinks {
    fn add(&self, binding: &mut Binding, address: IpAddr) {
        match address {
            IpAddr::V4(a) => binding.ipv4 = Some(a),
            // The session may run over it; what is forwarded never comes from there.
            IpAddr::V6(a) if a.is_unicast_link_local() => {}
            IpAddr::V6(a) if binding.ipv6.contains(&a) => {}
            // Its first /64, and all of it. What lies in another one is bound by itself.
            IpAddr::V6(a) if self.prefix_each => match binding.ipv6_prefix {
                None => binding.ipv6_prefix = Some(a),
                Some(own) if own.segments()[..4] == a.segments()[..4] => {}
                Some(_) => binding.ipv6.push(a),
            },
            IpAddr::V6(a) => binding.ipv6.push(a),
        }
    }
}

/// The kernel's neighbour table, after making it ask the link if it does not know.
async fn look_up(interface: &InterfaceName, address: IpAddr) -> Option<Mac> {
    for attempt in 0..LOOKUPS {
        if let Ok(Some(mac)) = mac_of(interface, address) {
            return Some(mac);
        }
        if attempt == 0 {
            let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
                .parse()
                .ok()?;
            let target = match address {
                IpAddr::V6(a) if a.is_unicast_link_local() => {
                    let scope = index_of(interface).ok()?;
                    SocketAddrV6::new(a, DISCARD, 0, scope).into()
                }
                _ => SocketAddr::new(address, DISCARD),
            };
            if let Ok(socket) = tokio::net::UdpSocket::bind(any).await {
                let _ = socket.send_to(&[0], target).await;
            }
        }
        tokio::time::sleep(LOOKUP_PAUSE).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_with_a_64_of_its_own_is_bound_by_it_and_others_by_each_address() {
        let addresses = [
            "fe80::9",
            "10.0.0.2",
            "fd00:1::5",
            "fd00:1::6",
            "fd00:1::6",
            "fd00:2::7",
        ]
        .map(|a| a.parse().unwrap());
        let bound = |prefix_each| {
            let guests = GuestLinks {
                prefix_each,
                ..GuestLinks::default()
            };
            let mut binding = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
            for address in addresses {
                guests.add(&mut binding, address);
            }
            let single: Vec<String> = binding.ipv6.iter().map(Ipv6Addr::to_string).collect();
            (binding.ipv6_prefix, single.join(" "))
        };
        assert_eq!(
            bound(true),
            (Some("fd00:1::5".parse().unwrap()), "fd00:2::7".into())
        );
        assert_eq!(bound(false), (None, "fd00:1::5 fd00:1::6 fd00:2::7".into()));
    }
}
