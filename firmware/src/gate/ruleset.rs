//! The rules as text: pure functions from plan and bindings to nft scripts, each one transaction.
//!
//! One table, `inet turnpike`. Names carry the slot: quota `q7`, counters `u7`, `d7` (passed up and down, behind
//! the quota) and `x7` (dropped).
//!
//! What a packet costs decides the shape. Whose a flow is, is decided once: its first packet from the client goes to a
//! slow chain, whose maps compare interface, MAC and address, and that writes the *flow mark* of that address into the
//! connection. From then on one lookup of 32 bits leads either way. A flow that began under another binding has a mark
//! that leads nowhere: nothing of it comes down, until a packet up has gone through the slow chain.

use super::binding::{Binding, ClientSlot, Mac};
use super::mark::{EXEMPT_MARK, Marked};
use super::state::GatePlan;
use std::fmt::{Display, Write};

/// The table of the gate.
pub const TABLE: &str = "turnpike";
/// An empty chain of this name says which version made the table.
pub const SCHEMA: &str = "schema_2";
/// Most clients that are attached at once.
pub const MAX_CLIENTS: usize = 1_024;
/// Most single IPv6 addresses of one binding.
pub const MAX_ADDRESSES: usize = 8;

/// The maps that bindings fill.
const MAPS: [&str; 8] = [
    "marked_up",
    "marked_down",
    "up4",
    "up6",
    "up6a",
    "open4",
    "open6",
    "open6a",
];

/// The letters of a client's counters and chains.
const COUNTERS: [char; 3] = ['u', 'd', 'x'];
const CHAINS: [char; 3] = ['u', 'd', 'a'];

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

/// The frame: sets, maps, base chains, all maps empty. Says the same on an empty kernel and over a surviving table,
/// whose clients keep their quotas and counters.
pub fn frame(plan: &GatePlan) -> String {
    let addresses = MAX_CLIENTS * MAX_ADDRESSES;
    // Beside the single addresses there are one IPv4 address and one /64.
    let marks = MAX_CLIENTS * (MAX_ADDRESSES + 2);
    let mut s = format!("table inet {TABLE} {{\n chain {SCHEMA} {{\n }}\n");
    for (set, kind) in [
        ("guests", "ifname"),
        ("uplinks", "ifname"),
        ("blocked", "ether_addr"),
        ("exempt", "ether_addr"),
    ] {
        let _ = writeln!(s, " set {set} {{\n  type {kind}\n }}");
    }
    // A fixed size lets the kernel choose a plain hash table, which costs less per packet than a growing one.
    for (map, kind, size) in [
        ("marked_up", "type mark", marks),
        ("marked_down", "type mark", marks),
        ("up4", "typeof meta iif . ether saddr . ip saddr", MAX_CLIENTS),
        ("up6", "typeof meta iif . ether saddr . ip6 saddr", MAX_CLIENTS),
        ("up6a", "typeof meta iif . ether saddr . ip6 saddr", addresses),
        ("open4", "type ipv4_addr", MAX_CLIENTS),
        ("open6", "type ipv6_addr", MAX_CLIENTS),
        ("open6a", "type ipv6_addr", addresses),
    ] {
        let _ = writeln!(s, " map {map} {{\n  {kind} : verdict\n  size {size}\n }}");
    }
    let _ = write!(
        s,
        " chain up {{
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
    for map in MAPS {
        let _ = writeln!(s, "flush map inet {TABLE} {map}");
    }
    for (set, names) in [("guests", &plan.guests), ("uplinks", &plan.uplinks)] {
        for name in names {
            let _ = writeln!(s, "add element inet {TABLE} {set} {{ \"{name}\" }}");
        }
    }
    let _ = writeln!(s, "table inet {TABLE} {{\n chain forward {{");
    for guest in &plan.guests {
        let _ = writeln!(s, "  oif \"{guest}\" ct mark vmap @marked_down");
    }
    for uplink in &plan.uplinks {
        let _ = writeln!(s, "  oif \"{uplink}\" ct mark vmap @marked_up");
    }
    for (interfaces, chain) in [(&plan.guests, "down"), (&plan.uplinks, "up")] {
        for interface in interfaces {
            let _ = writeln!(s, "  oif \"{interface}\" goto {chain}");
        }
    }
    // By name, so that an interface that was created again is shut until the gate is refreshed.
    let _ = write!(
        s,
        "  iifname @guests drop
  oifname @guests drop
 }}
 chain up {{
  meta iif . ether saddr . ip saddr vmap @up4
  meta iif . ether saddr . ip6 saddr & ffff:ffff:ffff:ffff:: vmap @up6
  meta iif . ether saddr . ip6 saddr vmap @up6a
  iifname @guests ether saddr @exempt ct mark set {EXEMPT_MARK:#x} accept
  iifname @guests drop
 }}
 chain down {{
  iifname @guests drop
  ct direction reply ct mark {EXEMPT_MARK:#x} accept
  ct direction reply drop
  ip daddr vmap @open4
  ip6 daddr & ffff:ffff:ffff:ffff:: vmap @open6
  ip6 daddr vmap @open6a
  drop
 }}
 chain input {{
  iifname @guests ether saddr @blocked drop
 }}
 chain postrouting {{
"
    );
    for (on, family) in [(plan.masquerade_ipv4, "ipv4"), (plan.masquerade_ipv6, "ipv6")] {
        if on {
            let _ = writeln!(
                s,
                "  meta nfproto {family} iifname @guests oifname @uplinks masquerade"
            );
        }
    }
    s.push_str(" }\n}\n");
    s
}

/// Quota of zero, counters and empty chains of a client that is new.
pub fn create(client: ClientSlot) -> String {
    let mut s = format!("create quota inet {TABLE} q{client} until 0 bytes\n");
    for counter in COUNTERS {
        let _ = writeln!(s, "create counter inet {TABLE} {counter}{client}");
    }
    for chain in CHAINS {
        let _ = writeln!(s, "create chain inet {TABLE} {chain}{client}");
    }
    s
}

/// Takes away what [`create`] made; the client's elements must be gone.
pub fn delete(client: ClientSlot) -> String {
    let mut s = String::new();
    for chain in CHAINS {
        let _ = writeln!(
            s,
            "flush chain inet {TABLE} {chain}{client}\ndelete chain inet {TABLE} {chain}{client}"
        );
    }
    for counter in COUNTERS {
        let _ = writeln!(s, "delete counter inet {TABLE} {counter}{client}");
    }
    let _ = writeln!(s, "delete quota inet {TABLE} q{client}");
    s
}

/// Fills a client's chains, in place of what they held.
///
/// All pass and bill, or drop and count: `a` and `d` what is sent and received in marked flows, `d` also what strangers
/// began, `u` what is sent without a mark. That has shown interface, MAC and address, so if the client began the flow,
/// `u` marks it.
pub fn chains(client: ClientSlot, marks: &[Marked]) -> String {
    let mut s = String::new();
    for (chain, counter) in [('u', 'u'), ('a', 'u'), ('d', 'd')] {
        let rule = format!("add rule inet {TABLE} {chain}{client}");
        let _ = writeln!(s, "flush chain inet {TABLE} {chain}{client}");
        for Marked { address, mark } in marks.iter().filter(|_| chain == 'u') {
            let source = address.source();
            let _ = writeln!(
                s,
                "{rule} ct direction original {source} ct mark set {:#x}",
                mark.0
            );
        }
        let _ = writeln!(
            s,
            "{rule} quota name \"q{client}\" counter name \"{counter}{client}\" accept\n\
             {rule} counter name \"x{client}\" drop"
        );
    }
    s
}

/// `create` or `delete`: the elements that lead a binding's packets to the client's chains.
pub fn elements(verb: &str, client: ClientSlot, binding: &Binding, marks: &[Marked]) -> String {
    let Binding {
        interface,
        mac,
        inbound,
        ..
    } = binding;
    let mut s = String::new();
    let mut element = |map: &str, key: &dyn Display, chain: char| {
        let _ = writeln!(
            s,
            "{verb} element inet {TABLE} {map} {{ {key} : goto {chain}{client} }}"
        );
    };
    for Marked { address, mark } in marks {
        let family = address.family();
        let key = format_args!("\"{interface}\" . {mac} . {address}").to_string();
        element(&format!("up{family}"), &key, 'u');
        if *inbound {
            element(&format!("open{family}"), address, 'd');
        }
        element("marked_up", &format_args!("{:#x}", mark.0), 'a');
        element("marked_down", &format_args!("{:#x}", mark.0), 'd');
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
    use super::super::mark::FlowMark;
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

    fn binding() -> Binding {
        let mut binding = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
        binding.ipv4 = Some([10, 0, 0, 2].into());
        binding.ipv6_prefix = Some("fd00:1:2:3::".parse().unwrap());
        binding.ipv6 = vec!["fd00:2::7".parse().unwrap()];
        binding
    }

    fn marks() -> Vec<Marked> {
        let give = (0x77..).map(FlowMark);
        let marked = |(address, mark)| Marked { address, mark };
        binding().addresses().zip(give).map(marked).collect()
    }

    #[test]
    fn every_address_leads_to_chains_of_its_client_and_every_mark_both_ways() {
        let script = elements("create", ClientSlot(4), &binding(), &marks());
        for element in [
            "up4 { \"g0\" . 02:00:00:00:00:01 . 10.0.0.2 : goto u4 }",
            "up6 { \"g0\" . 02:00:00:00:00:01 . fd00:1:2:3:: : goto u4 }",
            "up6a { \"g0\" . 02:00:00:00:00:01 . fd00:2::7 : goto u4 }",
            "marked_up { 0x77 : goto a4 }",
            "marked_down { 0x77 : goto d4 }",
            "marked_up { 0x79 : goto a4 }",
            "marked_down { 0x79 : goto d4 }",
        ] {
            assert!(script.contains(element), "{element} in\n{script}");
        }
    }

    #[test]
    fn an_address_alone_leads_to_nobody_unless_strangers_may_begin() {
        let inbound = |inbound| {
            let binding = Binding { inbound, ..binding() };
            elements("create", ClientSlot(4), &binding, &marks())
        };
        assert!(inbound(true).contains("open4 { 10.0.0.2 : goto d4 }"));
        assert!(!inbound(false).contains("{ 10.0.0.2"), "{}", inbound(false));
    }

    #[test]
    fn only_a_flow_that_the_client_began_is_marked_and_each_with_the_mark_of_its_address() {
        let script = chains(ClientSlot(4), &marks());
        assert_eq!(script.matches("mark").count(), 3);
        for rule in [
            "u4 ct direction original ip saddr 10.0.0.2 ct mark set 0x77",
            "u4 ct direction original ip6 saddr fd00:1:2:3::/64 ct mark set 0x78",
            "u4 ct direction original ip6 saddr fd00:2::7 ct mark set 0x79",
        ] {
            assert!(script.contains(rule), "{rule} in\n{script}");
        }
    }
}
