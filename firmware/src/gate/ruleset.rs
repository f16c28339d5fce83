//! The rules as text: pure functions from plan and bindings to nft scripts, each one transaction.
//!
//! One table, `inet turnpike`. Names carry the slot: quota `q7`, counters `u7`, `d7` (passed up and down, behind
//! the quota) and `x7` (dropped).
//!
//! What a packet costs decides the shape. A hash lookup of four bytes costs a third of one of more, so the fast maps
//! are keyed by one 32-bit word: the IPv4 address, or the second word of the IPv6 address, which tells the /64s of one
//! site apart. The word leads to a chain of the client, and that compares the rest: interface, MAC and protocol, first
//! word of the prefix. Whatever fits no fast chain (a word that two clients share, single addresses of a shared /64,
//! exempt devices) goes on to the slow chains, whose maps have the whole key and decide alone.

use super::binding::{Binding, ClientSlot, Mac, prefix64};
use super::state::GatePlan;
use std::fmt::{Display, Write};
use std::net::Ipv6Addr;

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

/// The maps that bindings fill.
const MAPS: [&str; 11] = [
    "fast_up",
    "fast_down4",
    "fast_down6",
    "up4",
    "up6",
    "up6a",
    "down6",
    "down6a",
    "open4",
    "open6",
    "open6a",
];
/// Ethernet protocol numbers, compared together with the source MAC in one step.
const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;

/// The letters of a client's counters and chains.
const COUNTERS: [char; 3] = ['u', 'd', 'x'];
const CHAINS: [char; 5] = ['u', 'd', 'a', 'b', 'e'];

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

/// One place in a fast map: its key and the letter of the client's chain that it leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FastKey {
    map: &'static str,
    word: u32,
    chain: char,
}

impl FastKey {
    /// What makes two places the same: a map has one element per key.
    pub fn place(self) -> (&'static str, u32) {
        (self.map, self.word)
    }
}

/// The places in the fast maps that a binding would like to have.
pub fn fast_keys(binding: &Binding) -> Vec<FastKey> {
    let mut keys = Vec::new();
    if let Some(address) = binding.ipv4 {
        keys.push(FastKey {
            map: "fast_up",
            word: address.to_bits(),
            chain: 'a',
        });
        keys.push(FastKey {
            map: "fast_down4",
            word: address.to_bits(),
            chain: 'd',
        });
    }
    if let Some(prefix) = binding.ipv6_prefix {
        let (_, word) = words(prefix);
        keys.push(FastKey {
            map: "fast_up",
            word,
            chain: 'b',
        });
        keys.push(FastKey {
            map: "fast_down6",
            word,
            chain: 'e',
        });
    }
    // Flows that strangers may begin are told apart in the slow chain.
    keys.retain(|k| !binding.inbound || k.map == "fast_up");
    keys
}

/// The frame: sets, maps, base chains, all maps empty. Says the same on an empty kernel and over a surviving table,
/// whose clients keep their quotas and counters.
pub fn frame(plan: &GatePlan) -> String {
    let addresses = MAX_CLIENTS * MAX_ADDRESSES;
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
        ("fast_up", "typeof @nh,96,32", 2 * MAX_CLIENTS),
        ("fast_down4", "typeof @nh,128,32", MAX_CLIENTS),
        ("fast_down6", "typeof @nh,224,32", MAX_CLIENTS),
        ("up4", "typeof meta iif . ether saddr . ip saddr", MAX_CLIENTS),
        ("up6", "typeof meta iif . ether saddr . ip6 saddr", MAX_CLIENTS),
        ("up6a", "typeof meta iif . ether saddr . ip6 saddr", addresses),
        ("down6", "type ipv6_addr", MAX_CLIENTS),
        ("down6a", "type ipv6_addr", addresses),
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
 chain answers {{
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
    for chain in ["up", "down", "answers", "forward", "input", "postrouting"] {
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
        let _ = writeln!(s, "  oif \"{guest}\" ct direction reply goto answers");
    }
    for uplink in &plan.uplinks {
        let _ = writeln!(s, "  oif \"{uplink}\" @nh,96,32 vmap @fast_up");
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
 chain answers {{
  meta nfproto ipv4 @nh,128,32 vmap @fast_down4
  meta nfproto ipv6 @nh,224,32 vmap @fast_down6
  goto down
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

/// Fills a client's chains for its binding, in place of what they held.
///
/// `u` and `d` pass and bill, or drop and count. `a` (IPv4 up), `b` (IPv6 up) and `e` (IPv6 down) first compare what
/// the fast map's key did not hold; what does not match goes on to the slow chain.
pub fn chains(client: ClientSlot, binding: &Binding) -> String {
    let Binding { interface, mac, .. } = binding;
    let device = |protocol: u16| {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&mac.0);
        bytes[6..].copy_from_slice(&protocol.to_be_bytes());
        format!("iif \"{interface}\" @ll,48,64 {:#x} ", u64::from_be_bytes(bytes))
    };
    let (first, _) = words(binding.ipv6_prefix.unwrap_or(Ipv6Addr::UNSPECIFIED));
    let mut s = String::new();
    for (chain, counter, matches, otherwise) in [
        ('u', 'u', String::new(), ""),
        ('d', 'd', String::new(), ""),
        ('a', 'u', device(ETHER_IPV4), "up"),
        (
            'b',
            'u',
            format!("{}@nh,64,32 {first:#x} ", device(ETHER_IPV6)),
            "up",
        ),
        ('e', 'd', format!("@nh,192,32 {first:#x} "), "down"),
    ] {
        let rule = format!("add rule inet {TABLE} {chain}{client} {matches}");
        let _ = writeln!(s, "flush chain inet {TABLE} {chain}{client}");
        let _ = writeln!(
            s,
            "{rule}quota name \"q{client}\" counter name \"{counter}{client}\" accept"
        );
        let _ = writeln!(s, "{rule}counter name \"x{client}\" drop");
        if !otherwise.is_empty() {
            let _ = writeln!(s, "add rule inet {TABLE} {chain}{client} goto {otherwise}");
        }
    }
    s
}

/// `create` or `delete`: the elements that lead a binding's packets to the client's chains. `fast` are the places in
/// the fast maps that are this client's.
pub fn elements(verb: &str, client: ClientSlot, binding: &Binding, fast: &[FastKey]) -> String {
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
    let mut addresses: Vec<(&str, String)> = Vec::new();
    addresses.extend(binding.ipv4.map(|a| ("4", a.to_string())));
    addresses.extend(binding.ipv6_prefix.map(|p| ("6", prefix64(p).to_string())));
    addresses.extend(binding.ipv6.iter().map(|a| ("6a", a.to_string())));
    for (family, address) in &addresses {
        element(
            &format!("up{family}"),
            &format_args!("\"{interface}\" . {mac} . {address}"),
            'u',
        );
        match (inbound, *family) {
            (true, _) => element(&format!("open{family}"), address, 'd'),
            (false, "4") => {} // two clients never share an IPv4 address, so the fast map is the only one
            (false, _) => element(&format!("down{family}"), address, 'd'),
        }
    }
    for key in fast {
        element(key.map, &format_args!("{:#x}", key.word), key.chain);
    }
    s
}

/// The first two 32-bit words of an address.
fn words(address: Ipv6Addr) -> (u32, u32) {
    let bits = address.to_bits();
    ((bits >> 96) as u32, (bits >> 64) as u32)
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

    fn binding() -> Binding {
        let mut binding = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
        binding.ipv4 = Some([10, 0, 0, 2].into());
        binding.ipv6_prefix = Some("fd00:1:2:3::".parse().unwrap());
        binding.ipv6 = vec!["fd00:2::7".parse().unwrap()];
        binding
    }

    #[test]
    fn every_address_leads_to_chains_of_its_client_both_ways() {
        let binding = binding();
        let fast = fast_keys(&binding);
        let script = elements("create", ClientSlot(4), &binding, &fast);
        for element in [
            "up4 { \"g0\" . 02:00:00:00:00:01 . 10.0.0.2 : goto u4 }",
            "up6 { \"g0\" . 02:00:00:00:00:01 . fd00:1:2:3:: : goto u4 }",
            "up6a { \"g0\" . 02:00:00:00:00:01 . fd00:2::7 : goto u4 }",
            "down6 { fd00:1:2:3:: : goto d4 }",
            "down6a { fd00:2::7 : goto d4 }",
            "fast_up { 0xa000002 : goto a4 }",
            "fast_up { 0x20003 : goto b4 }",
            "fast_down4 { 0xa000002 : goto d4 }",
            "fast_down6 { 0x20003 : goto e4 }",
        ] {
            assert!(script.contains(element), "{element} in\n{script}");
        }
    }

    #[test]
    fn inbound_flows_never_take_the_way_that_asks_who_began() {
        let binding = Binding {
            inbound: true,
            ..binding()
        };
        let fast = fast_keys(&binding);
        let script = elements("create", ClientSlot(4), &binding, &fast);
        assert!(script.contains("open4 { 10.0.0.2 : goto d4 }"));
        assert!(!script.contains("down"), "{script}");
    }

    #[test]
    fn the_fast_chains_compare_what_the_key_left_out() {
        let script = chains(ClientSlot(4), &binding());
        assert!(
            script.contains("a4 iif \"g0\" @ll,48,64 0x200000000010800 quota"),
            "{script}"
        );
        assert!(
            script.contains("b4 iif \"g0\" @ll,48,64 0x2000000000186dd @nh,64,32 0xfd000001 quota"),
            "{script}"
        );
        assert!(script.contains("e4 @nh,192,32 0xfd000001 quota"), "{script}");
    }
}
