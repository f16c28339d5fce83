//! The rules as text: pure functions from plan and bindings to nft scripts, each one transaction.
//!
//! One table, `inet turnpike`. Names carry the slot: quota `q7`, counters `u7`, `d7` (passed up and down, behind
//! the quota) and `x7` (dropped), chains `u7` and `d7`. Maps lead from a packet's addresses to its chain.

use super::binding::{Binding, ClientSlot, Mac, prefix64};
use super::state::GatePlan;
use std::fmt::Write;

/// The table of the gate.
pub const TABLE: &str = "turnpike";
/// An empty chain of this name says which version made the table.
pub const SCHEMA: &str = "schema_1";
/// Connection mark of flows that an exempt device began ("TPKE").
const EXEMPT_MARK: u32 = 0x5450_4b45;
/// Most clients that are attached at once.
pub const MAX_CLIENTS: usize = 1_024;
/// Most single IPv6 addresses of one binding.
pub const MAX_ADDRESSES: usize = 8;

/// The maps that bindings fill, in the order in which scripts flush them.
const MAPS: [&str; 9] = [
    "up4", "up6", "up6a", "down4", "down6", "down6a", "open4", "open6", "open6a",
];

/// What a client's counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Up,
    Down,
    Dropped,
}

/// Name of a counter of a client.
#[derive(Clone, Copy)]
pub struct ObjectName;

impl ObjectName {
    pub fn counter(client: ClientSlot, direction: Direction) -> String {
        let letter = match direction {
            Direction::Up => 'u',
            Direction::Down => 'd',
            Direction::Dropped => 'x',
        };
        format!("{letter}{client}")
    }

    pub fn quota(client: ClientSlot) -> String {
        format!("q{client}")
    }

    pub fn parse(name: &str) -> Option<(ClientSlot, Direction)> {
        let direction = match name.bytes().next()? {
            b'u' => Direction::Up,
            b'd' => Direction::Down,
            b'x' => Direction::Dropped,
            _ => return None,
        };
        Some((ClientSlot(name.get(1..)?.parse().ok()?), direction))
    }

    pub fn parse_quota(name: &str) -> Option<ClientSlot> {
        Some(ClientSlot(name.strip_prefix('q')?.parse().ok()?))
    }
}

/// The frame: sets, maps, base chains. Says the same on an empty kernel and over a surviving table, whose clients
/// keep their quotas and counters; their elements are laid anew from `clients`.
pub fn open(
    plan: &GatePlan,
    blocked: &mut dyn Iterator<Item = Mac>,
    exempt: &mut dyn Iterator<Item = Mac>,
    clients: &mut dyn Iterator<Item = (ClientSlot, &Binding)>,
) -> String {
    let guests = plan
        .guests
        .iter()
        .map(|g| format!("\"{g}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let uplinks = plan
        .uplinks
        .iter()
        .map(|u| format!("\"{u}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let addresses = MAX_CLIENTS * MAX_ADDRESSES;
    // A fixed size lets the kernel choose a plain hash table, which costs less per packet than a growing one.
    let mut s = format!(
        "table inet {TABLE} {{
 set guests {{
  type ifname
 }}
 set uplinks {{
  type ifname
 }}
 set blocked {{
  type ether_addr
 }}
 set exempt {{
  type ether_addr
 }}
 map paths {{
  typeof meta iif . meta oif : verdict
  size 256
 }}
 map up4 {{
  typeof meta iif . ether saddr . ip saddr : verdict
  size {MAX_CLIENTS}
 }}
 map up6 {{
  typeof meta iif . ether saddr . ip6 saddr : verdict
  size {MAX_CLIENTS}
 }}
 map up6a {{
  typeof meta iif . ether saddr . ip6 saddr : verdict
  size {addresses}
 }}
"
    );
    for (map, kind, size) in [
        ("down4", "ipv4_addr", MAX_CLIENTS),
        ("down6", "ipv6_addr", MAX_CLIENTS),
        ("down6a", "ipv6_addr", addresses),
        ("open4", "ipv4_addr", MAX_CLIENTS),
        ("open6", "ipv6_addr", MAX_CLIENTS),
        ("open6a", "ipv6_addr", addresses),
    ] {
        let _ = writeln!(s, " map {map} {{\n  type {kind} : verdict\n  size {size}\n }}");
    }
    let _ = write!(
        s,
        " chain {SCHEMA} {{
 }}
 chain up {{
 }}
 chain down {{
 }}
 chain forward {{
  type filter hook forward priority filter + 10; policy accept;
 }}
 chain input {{
  type filter hook input priority filter - 10; policy accept;
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
 }}
}}
"
    );
    for chain in ["up", "down", "forward", "input", "postrouting"] {
        let _ = writeln!(s, "flush chain inet {TABLE} {chain}");
    }
    for set in ["guests", "uplinks", "blocked", "exempt"] {
        let _ = writeln!(s, "flush set inet {TABLE} {set}");
    }
    for map in ["paths"].iter().chain(&MAPS) {
        let _ = writeln!(s, "flush map inet {TABLE} {map}");
    }
    let _ = writeln!(s, "add element inet {TABLE} guests {{ {guests} }}");
    let _ = writeln!(s, "add element inet {TABLE} uplinks {{ {uplinks} }}");
    for guest in &plan.guests {
        for uplink in &plan.uplinks {
            let _ = writeln!(
                s,
                "add element inet {TABLE} paths {{ \"{guest}\" . \"{uplink}\" : goto up }}"
            );
            let _ = writeln!(
                s,
                "add element inet {TABLE} paths {{ \"{uplink}\" . \"{guest}\" : goto down }}"
            );
        }
    }
    let _ = write!(
        s,
        "table inet {TABLE} {{
 chain forward {{
  meta iif . meta oif vmap @paths
  iifname @guests drop
  oifname @guests drop
 }}
 chain up {{
  meta iif . ether saddr . ip saddr vmap @up4
  meta iif . ether saddr . ip6 saddr & ffff:ffff:ffff:ffff:: vmap @up6
  meta iif . ether saddr . ip6 saddr vmap @up6a
  ether saddr @exempt ct mark set {EXEMPT_MARK:#x} accept
  drop
 }}
 chain down {{
  ct direction reply ip daddr vmap @down4
  ct direction reply ip6 daddr & ffff:ffff:ffff:ffff:: vmap @down6
  ct direction reply ip6 daddr vmap @down6a
  ip daddr vmap @open4
  ip6 daddr & ffff:ffff:ffff:ffff:: vmap @open6
  ip6 daddr vmap @open6a
  ct direction reply ct mark {EXEMPT_MARK:#x} accept
  drop
 }}
 chain input {{
  iifname @guests ether saddr @blocked drop
 }}
"
    );
    let _ = writeln!(s, " chain postrouting {{");
    for (on, family) in [(plan.masquerade_ipv4, "ipv4"), (plan.masquerade_ipv6, "ipv6")] {
        if on {
            let _ = writeln!(
                s,
                "  meta nfproto {family} iifname @guests oifname @uplinks masquerade"
            );
        }
    }
    s.push_str(" }\n}\n");
    for mac in blocked {
        let _ = writeln!(s, "add element inet {TABLE} blocked {{ {mac} }}");
    }
    for mac in exempt {
        let _ = writeln!(s, "add element inet {TABLE} exempt {{ {mac} }}");
    }
    for (client, binding) in clients {
        s.push_str(&elements("create", client, binding));
    }
    s
}

/// Quota of zero, counters and chains of a client that is new.
pub fn create(client: ClientSlot) -> String {
    let t = TABLE;
    format!(
        "create quota inet {t} q{client} over 0 bytes
create counter inet {t} u{client}
create counter inet {t} d{client}
create counter inet {t} x{client}
create chain inet {t} u{client}
create chain inet {t} d{client}
add rule inet {t} u{client} quota name \"q{client}\" counter name \"x{client}\" drop
add rule inet {t} u{client} counter name \"u{client}\" accept
add rule inet {t} d{client} quota name \"q{client}\" counter name \"x{client}\" drop
add rule inet {t} d{client} counter name \"d{client}\" accept
"
    )
}

/// Takes away what [`create`] made; the client's elements must be gone.
pub fn delete(client: ClientSlot) -> String {
    let t = TABLE;
    format!(
        "flush chain inet {t} u{client}
flush chain inet {t} d{client}
delete chain inet {t} u{client}
delete chain inet {t} d{client}
delete quota inet {t} q{client}
delete counter inet {t} u{client}
delete counter inet {t} d{client}
delete counter inet {t} x{client}
"
    )
}

/// `create` or `delete`: the elements that lead a binding's packets to the client's chains.
pub fn elements(verb: &str, client: ClientSlot, binding: &Binding) -> String {
    let Binding { interface, mac, .. } = binding;
    let down = if binding.inbound { "open" } else { "down" };
    let mut s = String::new();
    let mut pair = |family: &str, address: String| {
        let _ = writeln!(
            s,
            "{verb} element inet {TABLE} up{family} {{ \"{interface}\" . {mac} . {address} : goto u{client} }}\n\
             {verb} element inet {TABLE} {down}{family} {{ {address} : goto d{client} }}"
        );
    };
    if let Some(address) = binding.ipv4 {
        pair("4", address.to_string());
    }
    if let Some(prefix) = binding.ipv6_prefix {
        pair("6", prefix64(prefix).to_string());
    }
    for address in &binding.ipv6 {
        pair("6a", address.to_string());
    }
    s
}

/// Adds a device to `blocked` or `exempt`, or takes it out.
pub fn device(verb: &str, set: &str, mac: Mac) -> String {
    format!("{verb} element inet {TABLE} {set} {{ {mac} }}\n")
}

/// Removes everything.
pub fn close(table: &str) -> String {
    format!("delete table inet {table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_client() {
        for direction in [Direction::Up, Direction::Down, Direction::Dropped] {
            let name = ObjectName::counter(ClientSlot(65_535), direction);
            assert_eq!(ObjectName::parse(&name), Some((ClientSlot(65_535), direction)));
        }
        assert_eq!(
            ObjectName::parse_quota(&ObjectName::quota(ClientSlot(3))),
            Some(ClientSlot(3))
        );
        for other in ["", "u", "u65536", "up", "d-1", "y1"] {
            assert_eq!(ObjectName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn every_address_leads_to_the_chains_of_its_client_both_ways() {
        let mut binding = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
        binding.ipv4 = Some([10, 0, 0, 2].into());
        binding.ipv6_prefix = Some("fd00:1::".parse().unwrap());
        binding.ipv6 = vec!["fd00:2::7".parse().unwrap()];
        let script = elements("create", ClientSlot(4), &binding);
        assert_eq!(script.matches(": goto u4").count(), 3);
        assert_eq!(script.matches(": goto d4").count(), 3);
        assert!(script.contains("up6 { \"g0\" . 02:00:00:00:00:01 . fd00:1:: : goto u4 }"));
        binding.inbound = true;
        assert!(elements("create", ClientSlot(4), &binding).contains("open4 { 10.0.0.2 : goto d4 }"));
    }
}
