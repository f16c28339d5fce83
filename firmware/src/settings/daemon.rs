//! The daemon's configuration out of the card's settings.

use super::entry::{Entry, Value, quoted};
use super::finding::{Finding, Weight};
use super::wiring::Wiring;
use crate::config::Config;
use crate::gate::InterfaceName;
use std::fmt::Write as _;
use std::path::Path;

/// Sections that the daemon reads.
pub(super) const SECTIONS: [&str; 7] = ["node", "chain", "relay", "price", "channel", "client", "log"];
/// More wrong values than one file of 64 KiB can hold in keys that the daemon knows.
const MAX_WRONG: usize = 128;

/// The text of a configuration that the daemon takes, and what had to be left out of it. `path` is where it will be.
pub(super) fn write(
    entries: &[Entry],
    wiring: &Wiring,
    data_dir: &Path,
    path: &Path,
) -> (String, Vec<Finding>) {
    let mut findings = Vec::new();
    let daemons = |entry: &&Entry| SECTIONS.contains(&entry.section.as_str()) && !entry.is_header();
    let mut kept: Vec<Entry> = entries.iter().filter(daemons).cloned().collect();
    kept.retain(|entry| {
        let own = entry.is("node", "data_dir");
        if own {
            let remedy = "remove this line: on a card it is always the data partition";
            findings.push(entry.finding(Weight::Note, "not used", remedy));
        }
        !own
    });
    let selling = Selling::new(&kept, wiring);
    findings.extend(selling.finding());
    findings.extend(authentication(&kept));
    for _ in 0..MAX_WRONG {
        let text = selling.text(&kept, wiring, data_dir);
        match Config::parse_known(path, &text) {
            Ok((_, unknown)) if unknown.is_empty() => return (text, findings),
            Ok((_, unknown)) => kept.retain(|entry| {
                let line = unknown.iter().find(|line| line.key() == name(entry));
                findings.extend(line.map(|line| entry.blame(Weight::Odd, line.clone())));
                line.is_none()
            }),
            Err(error) => {
                let count = kept.len();
                kept.retain(|entry| {
                    let wrong = error.key() == name(entry);
                    if wrong {
                        findings.push(entry.blame(Weight::Wrong, error.clone()));
                    }
                    !wrong
                });
                // Only what the file says can be wrong, unless a key is missing beside another one of its section.
                if kept.len() == count {
                    let section = error.key().split('.').next().unwrap_or_default().to_owned();
                    let Some(entry) = kept.iter().find(|entry| entry.section == section) else {
                        break;
                    };
                    findings.push(entry.missing(error));
                    kept.retain(|entry| entry.section != section);
                }
            }
        }
    }
    (Selling::No.text(&[], wiring, data_dir), findings)
}

fn name(entry: &Entry) -> String {
    format!("{}.{}", entry.section, entry.key)
}

/// Whether this node can sell.
enum Selling {
    /// It is to, and everything for it is there.
    Yes,
    /// It is not to.
    No,
    /// It is to, and something is missing.
    Not(&'static str, &'static str),
}

impl Selling {
    fn new(kept: &[Entry], wiring: &Wiring) -> Selling {
        let says = |key: &str, value: &Value| {
            kept.iter()
                .any(|entry| entry.is("relay", key) && entry.value == *value)
        };
        if !says("enabled", &Value::Flag(true)) {
            return Selling::No;
        }
        if !kept.iter().any(|entry| entry.section == "chain") {
            let remedy = "add [chain] with url, user and password of a bitcoind";
            return Selling::Not("nothing is sold, since there is no chain to be paid on", remedy);
        }
        let missing = |key: &str, found: &[InterfaceName]| {
            let named = kept.iter().find(|entry| entry.is("relay", key));
            let wanted = named.and_then(Entry::texts).map_or(1, |texts| texts.len());
            found.len() < wanted
        };
        if missing("guest_interface", &wiring.guest) {
            let remedy = "name one that is there as guest_interface under [relay], or add an [access_point]";
            return Selling::Not(
                "nothing is sold, since an interface for guests is missing",
                remedy,
            );
        }
        if missing("uplink_interface", &wiring.uplink) {
            let remedy = "name one that is there as uplink_interface under [relay], or plug in a cable";
            return Selling::Not(
                "nothing is sold, since the interface towards the world is missing",
                remedy,
            );
        }
        Selling::Yes
    }

    fn finding(&self) -> Option<Finding> {
        match self {
            Selling::Not(what, remedy) => Some(Finding::outcome(Weight::Odd, "relay.enabled", what, remedy)),
            _ => None,
        }
    }

    fn text(&self, kept: &[Entry], wiring: &Wiring, data_dir: &Path) -> String {
        let mut text =
            String::from("# Made at every boot out of the card's settings: changes here are lost.\n");
        for section in SECTIONS {
            let _ = writeln!(text, "\n[{section}]");
            let absent = |key: &str| !kept.iter().any(|entry| entry.is(section, key));
            match section {
                "node" => {
                    let _ = writeln!(text, "data_dir = {}", quoted(&data_dir.to_string_lossy()));
                }
                "chain" if absent("backend") => {
                    text.push_str("backend = \"bitcoind\"\n");
                    // There is nobody to ask, so it is asked seldom.
                    if !kept.iter().any(|entry| entry.section == section) {
                        text.push_str("poll = \"10 min\"\n");
                    }
                }
                "relay" if matches!(self, Selling::Yes) => {
                    for (key, names) in [
                        ("guest_interface", &wiring.guest),
                        ("uplink_interface", &wiring.uplink),
                    ] {
                        if absent(key) {
                            let names: Vec<_> = names.iter().map(|name| quoted(name.as_str())).collect();
                            let _ = writeln!(text, "{key} = [{}]", names.join(", "));
                        }
                    }
                }
                _ => {}
            }
            for entry in kept.iter().filter(|entry| entry.section == section) {
                let off = entry.is("relay", "enabled") && matches!(self, Selling::Not(..));
                let value = if off {
                    "false".to_owned()
                } else {
                    entry.value.toml()
                };
                let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                let key = match entry.key.chars().all(bare) {
                    true => entry.key.clone(),
                    false => quoted(&entry.key),
                };
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

/// A card has no bitcoind whose cookie could be read.
fn authentication(kept: &[Entry]) -> Option<Finding> {
    let chain = kept.iter().find(|entry| entry.section == "chain")?;
    let named = ["cookie", "user", "password"]
        .iter()
        .any(|key| kept.iter().any(|entry| entry.is("chain", key)));
    let what = "how this node proves itself to the bitcoind is missing";
    let remedy = "add user and password under [chain], as in a line of its rpcauth";
    (!named).then(|| chain.finding(Weight::Odd, what, remedy))
}
