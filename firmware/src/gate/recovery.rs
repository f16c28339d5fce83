//! What a crash left: the surviving table, read back through `nft -j`.

use super::binding::{Binding, ClientSlot, InterfaceName, Mac};
use super::ruleset::{Direction, ObjectName, SCHEMA, TABLE};
use super::{GateError, Reading, nft};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use turnpike_protocol::base::ByteCount;

/// A client that kept its packets, credit and counters while no daemon ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survivor {
    /// What it has used.
    pub reading: Reading,
    /// Bytes that it may still pass before it needs a grant. After a drop this can be less than what was paid for;
    /// granting the paid total again makes it exact.
    pub left: ByteCount,
    /// Whose packets; `None` if the crash fell into a detach (then only the figures count) or if the device was
    /// blocked or exempt. Attach it again, or detach it.
    pub binding: Option<Binding>,
}

/// All of a surviving table.
#[derive(Default)]
pub struct Found {
    pub survivors: Vec<Survivor>,
    pub blocked: BTreeSet<Mac>,
    pub exempt: BTreeSet<Mac>,
}

/// Reads the table of our name; an absent one is an empty find.
pub fn read_table() -> Result<Found, GateError> {
    match nft::list(TABLE)? {
        Some(json) => parse(&json),
        None => Ok(Found::default()),
    }
}

#[derive(Default)]
struct Parts {
    counts: [Option<u64>; 3],
    quota: Option<u64>,
    used: u64,
    binding: Option<Binding>,
}

fn parse(json: &[u8]) -> Result<Found, GateError> {
    let unreadable = || GateError::Unreadable("listing the surviving table");
    let document: Value = serde_json::from_slice(json).map_err(|_| unreadable())?;
    let items = document
        .get("nftables")
        .and_then(Value::as_array)
        .ok_or_else(unreadable)?;
    let mut clients: BTreeMap<ClientSlot, Parts> = BTreeMap::new();
    let mut found = Found::default();
    let mut ours = false;
    for (kind, body) in items.iter().filter_map(Value::as_object).flatten() {
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| body.get(key).and_then(Value::as_u64);
        match kind.as_str() {
            "chain" => ours |= name == SCHEMA,
            "counter" => {
                if let Some((client, direction)) = ObjectName::parse(name) {
                    clients.entry(client).or_default().counts[direction as usize] = number("bytes");
                }
            }
            "quota" => {
                if let Some(client) = ObjectName::parse_quota(name) {
                    let parts = clients.entry(client).or_default();
                    parts.quota = number("bytes");
                    parts.used = number("used").unwrap_or(0);
                }
            }
            "set" if name == "blocked" => found.blocked.extend(devices(body)),
            "set" if name == "exempt" => found.exempt.extend(devices(body)),
            "map" => {
                for (key, client) in targets(body) {
                    note(&mut clients.entry(client).or_default().binding, name, key);
                }
            }
            _ => {}
        }
    }
    if !ours {
        return Err(GateError::ForeignTable(TABLE));
    }
    for (client, parts) in clients {
        let (Some(quota), [Some(up), Some(down), Some(dropped)]) = (parts.quota, parts.counts) else {
            return Err(unreadable());
        };
        let left = quota.saturating_sub(parts.used);
        let [up, down, dropped, left] = [up, down, dropped, left].map(ByteCount::new);
        let reading = Reading {
            client,
            up,
            down,
            dropped,
            exhausted: left == ByteCount::ZERO,
        };
        let binding = parts
            .binding
            .filter(|b| b.validate().is_ok())
            .map(Binding::canonical);
        found.survivors.push(Survivor {
            reading,
            left,
            binding,
        });
    }
    Ok(found)
}

fn devices(set: &Value) -> impl Iterator<Item = Mac> {
    let elements = set.get("elem").and_then(Value::as_array).into_iter().flatten();
    elements.filter_map(|e| e.as_str()?.parse().ok())
}

/// The elements of a verdict map: key and the client whose chain it leads to. The chains are named as the counters.
fn targets(map: &Value) -> impl Iterator<Item = (&Value, ClientSlot)> {
    map.get("elem")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|element| {
            let target = element.get(1)?.get("goto")?.get("target")?.as_str()?;
            match ObjectName::parse(target)? {
                (_, Direction::Dropped) => None,
                (client, _) => Some((element.get(0)?, client)),
            }
        })
}

/// Adds what one element says to the binding. An interface that no longer exists shows as a number and is left out.
fn note(binding: &mut Option<Binding>, map: &str, key: &Value) -> Option<()> {
    if map.starts_with("open") {
        binding.as_mut()?.inbound = true;
        return Some(());
    }
    let parts = key.get("concat")?.as_array()?;
    let part = |at: usize| parts.get(at).and_then(Value::as_str);
    let interface: InterfaceName = part(0)?.parse().ok().filter(|_| map.starts_with("up"))?;
    let mac: Mac = part(1)?.parse().ok()?;
    let address = part(2)?;
    let binding = binding.get_or_insert_with(|| Binding::new(interface, mac));
    match map {
        "up4" => binding.ipv4 = Some(address.parse().ok()?),
        "up6" => binding.ipv6_prefix = Some(address.parse().ok()?),
        _ => binding.ipv6.push(address.parse().ok()?),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "turnpike", "handle": 1}},
        {"chain": {"family": "inet", "table": "turnpike", "name": "schema_2", "handle": 1}},
        {"quota": {"family": "inet", "name": "q3", "table": "turnpike", "handle": 5, "bytes": 1000, "used": 400}},
        {"counter": {"family": "inet", "name": "u3", "table": "turnpike", "handle": 6, "packets": 1, "bytes": 100}},
        {"counter": {"family": "inet", "name": "d3", "table": "turnpike", "handle": 7, "packets": 1, "bytes": 300}},
        {"counter": {"family": "inet", "name": "x3", "table": "turnpike", "handle": 8, "packets": 0, "bytes": 0}},
        {"set": {"family": "inet", "name": "blocked", "table": "turnpike", "type": "ether_addr", "handle": 9,
          "elem": ["02:00:00:00:00:09"]}},
        {"map": {"family": "inet", "name": "up4", "table": "turnpike", "handle": 4, "map": "verdict",
          "elem": [[{"concat": ["g0", "02:00:00:00:00:01", "10.0.0.2"]}, {"goto": {"target": "u3"}}]]}},
        {"map": {"family": "inet", "name": "up6", "table": "turnpike", "handle": 4, "map": "verdict",
          "elem": [[{"concat": ["g0", "02:00:00:00:00:01", "fd00:0:0:1::"]}, {"goto": {"target": "u3"}}]]}}]}"#;

    #[test]
    fn a_surviving_table_tells_credit_counters_and_bindings() {
        let found = parse(LISTING.as_bytes()).unwrap();
        let [survivor] = &found.survivors[..] else {
            panic!("one survivor")
        };
        assert_eq!(survivor.reading.passed(), ByteCount::new(400));
        assert_eq!(survivor.left, ByteCount::new(600));
        let binding = survivor.binding.as_ref().unwrap();
        assert_eq!(binding.ipv4, Some([10, 0, 0, 2].into()));
        assert_eq!(binding.ipv6_prefix, Some("fd00:0:0:1::".parse().unwrap()));
        assert!(found.blocked.contains(&Mac([2, 0, 0, 0, 0, 9])));
    }

    #[test]
    fn a_missing_counter_is_an_error_not_zero() {
        let torn = LISTING.replace("\"d3\"", "\"d4\"");
        assert!(matches!(parse(torn.as_bytes()), Err(GateError::Unreadable(_))));
    }

    #[test]
    fn a_table_of_another_maker_is_left_alone() {
        let foreign = LISTING.replace("schema_2", "schema_9");
        assert!(matches!(
            parse(foreign.as_bytes()),
            Err(GateError::ForeignTable(_))
        ));
    }
}
