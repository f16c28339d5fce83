//! What this device is called on the link towards a relay: interface, further addresses, ranges reached without it.

use crate::gate::{InterfaceName, MeterPlan, Prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// This device on one link.
pub struct OwnLink {
    /// What the meter counts.
    pub meter: MeterPlan,
    /// Addresses beside the session's own, as the wire has them: IPv6, or IPv4 mapped into IPv6.
    pub addresses: Vec<[u8; 16]>,
}

/// Finds the interface that has the session's own address, and what else it has.
///
/// # Errors
/// The system's error, or "no interface has this address" where the session runs over something else.
pub fn own_link(
    local: SocketAddr,
    relay: SocketAddr,
    interface: Option<&InterfaceName>,
) -> std::io::Result<OwnLink> {
    let own = local.ip().to_canonical();
    let all = if_addrs::get_if_addrs()?;
    // Every interface has link-local addresses, and two may have the same one: the scope says which is meant.
    let scope = match local {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
        _ => 0,
    };
    let has_it = |i: &&if_addrs::Interface| i.ip() == own && (scope == 0 || i.index == Some(scope));
    let name = match interface {
        Some(name) => name.to_string(),
        None => all
            .iter()
            .find(has_it)
            .map(|i| i.name.clone())
            .ok_or_else(|| std::io::Error::other(format!("no interface has the address {own}")))?,
    };
    let on_it: Vec<_> = all.iter().filter(|i| i.name == name).collect();
    let on_link = on_it.iter().map(|i| prefix(&i.addr)).collect();
    let routable = |ip: &IpAddr| match ip {
        IpAddr::V4(a) => !a.is_link_local(),
        IpAddr::V6(a) => !a.is_unicast_link_local(),
    };
    let addresses = on_it
        .iter()
        .map(|i| i.ip())
        .filter(|ip| *ip != own && routable(ip))
        .map(wire_form)
        .take(4)
        .collect();
    let interface = name.parse().map_err(|e| std::io::Error::other(format!("{e}")))?;
    Ok(OwnLink {
        meter: MeterPlan {
            interface,
            relay: vec![relay.ip().to_canonical()],
            on_link,
        },
        addresses,
    })
}

fn wire_form(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

fn prefix(address: &if_addrs::IfAddr) -> Prefix {
    let ones = |bytes: &[u8]| bytes.iter().map(|b| b.leading_ones()).sum::<u32>();
    let (address, length) = match address {
        if_addrs::IfAddr::V4(a) => (IpAddr::V4(a.ip), ones(&Ipv4Addr::octets(&a.netmask))),
        if_addrs::IfAddr::V6(a) => (IpAddr::V6(a.ip), ones(&Ipv6Addr::octets(&a.netmask))),
    };
    Prefix {
        address,
        length: u8::try_from(length).unwrap_or(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_link_is_found_by_its_address() {
        let local = "127.0.0.1:1".parse().unwrap();
        let link = own_link(local, "127.0.0.2:7473".parse().unwrap(), None).unwrap();
        assert_eq!(link.meter.interface.as_str(), "lo");
        assert!(link.meter.on_link.contains(&Prefix {
            address: [127, 0, 0, 1].into(),
            length: 8
        }));
        assert!(own_link("192.0.2.77:1".parse().unwrap(), local, None).is_err());
    }

    /// In a network namespace of its own, where two interfaces have the same link-local address.
    #[test]
    fn a_link_local_session_is_found_on_the_interface_of_its_scope() {
        const INSIDE: &str = "TURNPIKE_TEST_SCOPE";
        if std::env::var_os(INSIDE).is_none() {
            let script = r#"
                set -e
                PATH=$PATH:/usr/sbin:/sbin
                ip link add one type veth peer name two
                for end in one two; do
                    ip link set $end addrgenmode none
                    ip link set $end up
                    ip address add fe80::7/64 dev $end nodad
                done
                ip address add 10.9.8.1/24 dev two
                exec "$0" --exact daemon::link::tests::a_link_local_session_is_found_on_the_interface_of_its_scope
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
        let all = if_addrs::get_if_addrs().unwrap();
        for name in ["one", "two"] {
            let index = all.iter().find(|i| i.name == name).unwrap().index.unwrap();
            let at =
                |ip: &str| SocketAddr::from(std::net::SocketAddrV6::new(ip.parse().unwrap(), 1, 0, index));
            let link = own_link(at("fe80::7"), at("fe80::9"), None).unwrap();
            assert_eq!(link.meter.interface.as_str(), name);
            // What is used is bound by the addresses that packets can leave the link with.
            let mapped = wire_form("10.9.8.1".parse().unwrap());
            let expected = if name == "two" { vec![mapped] } else { Vec::new() };
            assert_eq!(link.addresses, expected);
        }
    }
}
