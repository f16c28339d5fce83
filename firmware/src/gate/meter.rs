//! The client's own count: what it sent and received through a relay, so that it need not believe the relay's.

use super::binding::InterfaceName;
use super::objects::Objects;
use super::{GateError, nft, ruleset};
use std::net::IpAddr;
use turnpike_protocol::base::ByteCount;

/// The table of the meter; it counts and never drops.
pub(super) const TABLE: &str = "turnpike_meter";

/// An address range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Any address in it.
    pub address: IpAddr,
    /// Leading bits that count: up to 32 for IPv4, 128 for IPv6.
    pub length: u8,
}

/// What to count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterPlan {
    /// The interface towards the relay.
    pub interface: InterfaceName,
    /// All addresses of the relay itself: traffic to it is not forwarded, so not billed.
    pub relay: Vec<IpAddr>,
    /// Ranges that are reached on the link without the relay.
    pub on_link: Vec<Prefix>,
}

/// Layer-3 bytes since the meter was opened, both families.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterReading {
    /// Sent through the relay. More than the relay billed where packets were lost or dropped on the way to it.
    pub sent: ByteCount,
    /// Received through the relay.
    pub received: ByteCount,
}

/// The open meter. It counts before any of the client's own filters on the way in, and after them on the way out.
#[derive(Debug)]
pub struct Meter {
    objects: Objects,
}

impl Meter {
    /// Starts to count from zero.
    ///
    /// # Errors
    /// No nft, no permission, no such interface. Nothing was changed.
    pub fn open(plan: &MeterPlan) -> Result<Meter, GateError> {
        super::neighbour::index_of(&plan.interface)?;
        nft::apply(&script(plan))?;
        Ok(Meter {
            objects: Objects::open(TABLE)?,
        })
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// A reading that failed; never zero instead.
    pub fn read(&mut self) -> Result<MeterReading, GateError> {
        Ok(MeterReading {
            sent: ByteCount::new(self.objects.counter("sent")?),
            received: ByteCount::new(self.objects.counter("received")?),
        })
    }

    /// Removes the table.
    pub fn close(self) -> Result<(), GateError> {
        nft::apply(&ruleset::close(TABLE))
    }
}

/// One table, made anew in one transaction. Multicast, broadcast and link-local traffic is never forwarded.
fn script(plan: &MeterPlan) -> String {
    let mut local4 = vec![
        "224.0.0.0/4".to_owned(),
        "255.255.255.255".to_owned(),
        "169.254.0.0/16".to_owned(),
    ];
    let mut local6 = vec!["ff00::/8".to_owned(), "fe80::/10".to_owned()];
    let whole = |address: &IpAddr| Prefix {
        address: *address,
        length: if address.is_ipv4() { 32 } else { 128 },
    };
    for Prefix { address, length } in plan.relay.iter().map(whole).chain(plan.on_link.iter().copied()) {
        match address {
            IpAddr::V4(a) => local4.push(format!("{a}/{}", length.min(32))),
            IpAddr::V6(a) => local6.push(format!("{a}/{}", length.min(128))),
        }
    }
    let (local4, local6, on) = (local4.join(", "), local6.join(", "), &plan.interface);
    format!(
        "table inet {TABLE} {{
}}
delete table inet {TABLE}
table inet {TABLE} {{
 counter sent {{
  packets 0 bytes 0
 }}
 counter received {{
  packets 0 bytes 0
 }}
 set local4 {{
  type ipv4_addr
  flags interval
  auto-merge
  elements = {{ {local4} }}
 }}
 set local6 {{
  type ipv6_addr
  flags interval
  auto-merge
  elements = {{ {local6} }}
 }}
 chain out {{
  type filter hook postrouting priority srcnat + 50; policy accept;
  oifname \"{on}\" ip daddr != @local4 counter name \"sent\"
  oifname \"{on}\" ip6 daddr != @local6 counter name \"sent\"
 }}
 chain in {{
  type filter hook prerouting priority raw; policy accept;
  iifname \"{on}\" meta pkttype host ip saddr != @local4 counter name \"received\"
  iifname \"{on}\" meta pkttype host ip6 saddr != @local6 counter name \"received\"
 }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_and_the_link_are_not_counted() {
        let plan = MeterPlan {
            interface: "wlan0".parse().unwrap(),
            relay: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            on_link: vec![Prefix {
                address: "10.0.0.0".parse().unwrap(),
                length: 24,
            }],
        };
        let text = script(&plan);
        for range in [
            "10.0.0.1/32",
            "10.0.0.0/24",
            "fd00::1/128",
            "fe80::/10",
            "224.0.0.0/4",
        ] {
            assert!(text.contains(range), "{range}");
        }
    }
}
