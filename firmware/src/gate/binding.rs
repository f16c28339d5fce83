//! Whose packets: slots, MAC addresses, interface names and bindings of the *address* class.

use super::GateError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Row number of an attached client. Names the client's kernel objects, so it is free again only after `detach`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientSlot(pub u16);

impl fmt::Display for ClientSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A device's link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let bad = || GateError::BadMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or_else(bad)?, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Mac(bytes))
        }
    }
}

/// The name of a network interface, checked: 1 to 15 bytes (`IFNAMSIZ` less its zero), nothing that rules could
/// mistake for syntax.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as the kernel knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = GateError;

    fn from_str(name: &str) -> Result<Self, GateError> {
        let fits = (1..=15).contains(&name.len())
            && name != "."
            && name != ".."
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            Ok(InterfaceName(name.to_owned()))
        } else {
            Err(GateError::BadInterfaceName(name.to_owned()))
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose packets a client's credit pays for: one device on one interface, and the addresses that are its own.
/// A packet with the right address from another device or interface is nobody's, and is dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The guest interface that the device is on.
    pub interface: InterfaceName,
    /// The device.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its own /64 (RFC 8273); the lower 64 bits are ignored.
    pub ipv6_prefix: Option<Ipv6Addr>,
    /// Single IPv6 addresses, where the /64 is shared with others.
    pub ipv6: Vec<Ipv6Addr>,
    /// Let strangers begin flows to the client, at the client's cost.
    pub inbound: bool,
}

impl Binding {
    /// A binding without addresses yet, for the device `mac` on `interface`.
    pub fn new(interface: InterfaceName, mac: Mac) -> Binding {
        Binding {
            interface,
            mac,
            ipv4: None,
            ipv6_prefix: None,
            ipv6: Vec::new(),
            inbound: false,
        }
    }

    /// Refuses a binding that names nothing, or an address that no guest can have.
    pub(super) fn validate(&self) -> Result<(), GateError> {
        if self.ipv4.is_none() && self.ipv6_prefix.is_none() && self.ipv6.is_empty() {
            return Err(GateError::NoAddress(self.mac));
        }
        if let Some(a) = self.ipv4
            && (a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.is_broadcast()
                || a.is_link_local())
        {
            return Err(GateError::BadAddress(IpAddr::V4(a)));
        }
        for a in self.ipv6_prefix.iter().chain(&self.ipv6) {
            if a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local() {
                return Err(GateError::BadAddress(IpAddr::V6(*a)));
            }
        }
        Ok(())
    }

    /// An address that both bindings claim.
    pub(super) fn shared_address(&self, other: &Binding) -> Option<String> {
        if self.ipv4.is_some() && self.ipv4 == other.ipv4 {
            return self.ipv4.map(|a| a.to_string());
        }
        if self.ipv6_prefix.is_some() && self.ipv6_prefix == other.ipv6_prefix {
            return self.ipv6_prefix.map(|a| format!("{a}/64"));
        }
        let inside = |whole: &Binding, part: &Binding| {
            part.ipv6
                .iter()
                .find(|a| whole.ipv6_prefix == Some(prefix64(**a)))
                .map(|a| a.to_string())
        };
        let single = || {
            self.ipv6
                .iter()
                .find(|a| other.ipv6.contains(a))
                .map(|a| a.to_string())
        };
        inside(self, other)
            .or_else(|| inside(other, self))
            .or_else(single)
    }

    /// Every address of the binding.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> {
        let ipv4 = self.ipv4.map(Address::Ipv4);
        let prefix = self.ipv6_prefix.map(|p| Address::Prefix(prefix64(p)));
        ipv4.into_iter()
            .chain(prefix)
            .chain(self.ipv6.iter().copied().map(Address::Ipv6))
    }

    /// The same binding in the one form that is stored and compared: prefix bits only, addresses sorted.
    pub fn canonical(mut self) -> Binding {
        self.ipv6_prefix = self.ipv6_prefix.map(prefix64);
        self.ipv6.sort_unstable();
        self.ipv6.dedup();
        self
    }
}

/// One address that packets of a binding come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Address {
    Ipv4(Ipv4Addr),
    /// All of a /64, by its first address.
    Prefix(Ipv6Addr),
    Ipv6(Ipv6Addr),
}

impl Address {
    /// The end of the names of the maps that hold it.
    pub(super) fn family(self) -> &'static str {
        match self {
            Address::Ipv4(_) => "4",
            Address::Prefix(_) => "6",
            Address::Ipv6(_) => "6a",
        }
    }

    /// What a rule says to find packets from it.
    pub(super) fn source(self) -> String {
        match self {
            Address::Ipv4(a) => format!("ip saddr {a}"),
            Address::Prefix(a) => format!("ip6 saddr {a}/64"),
            Address::Ipv6(a) => format!("ip6 saddr {a}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ipv4(a) => write!(f, "{a}"),
            Address::Prefix(a) | Address::Ipv6(a) => write!(f, "{a}"),
        }
    }
}

/// The first address of the /64 that `address` is in.
pub(super) fn prefix64(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_rules_are_refused() {
        for bad in ["", "..", "a b", "eth0\"", "x;drop", "sixteen-letters-", "é"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
        assert_eq!(
            "br-guest.10".parse::<InterfaceName>().unwrap().as_str(),
            "br-guest.10"
        );
    }

    #[test]
    fn mac_reads_what_it_writes_and_nothing_else() {
        let mac: Mac = "02:00:5e:10:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:ff:00",
            "2:0:5e:10:0:ff",
            "+2:00:5e:10:00:ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_are_never_forwarded_cannot_be_bound() {
        let base = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
        assert!(matches!(base.validate(), Err(GateError::NoAddress(_))));
        for v4 in [
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 1),
        ] {
            let b = Binding {
                ipv4: Some(v4),
                ..base.clone()
            };
            assert!(matches!(b.validate(), Err(GateError::BadAddress(_))), "{v4}");
        }
        let b = Binding {
            ipv6: vec!["fe80::1".parse().unwrap()],
            ..base
        };
        assert!(matches!(b.validate(), Err(GateError::BadAddress(_))));
    }

    #[test]
    fn a_prefix_is_64_bits() {
        let b = Binding {
            ipv6_prefix: Some("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            ..Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]))
        };
        assert_eq!(b.canonical().ipv6_prefix, Some("2001:db8:1:2::".parse().unwrap()));
    }
}
