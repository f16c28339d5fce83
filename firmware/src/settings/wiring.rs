//! Which interface does what on this machine.

use super::card::Card;
use super::entry::{Entry, Value};
use super::finding::{Finding, Weight};
use crate::gate::InterfaceName;

/// The interfaces that are there, in the order in which they are taken.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Interfaces(Vec<InterfaceName>);

/// What each of them is for.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Wiring {
    pub uplink: Vec<InterfaceName>,
    pub guest: Vec<InterfaceName>,
    /// A network is joined on it.
    pub station: Option<InterfaceName>,
    /// A network is offered on it.
    pub access_point: Option<InterfaceName>,
}

impl Interfaces {
    /// Those of a list of names; what is no name of an interface is left out, and the loopback.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Interfaces {
        let mut list: Vec<InterfaceName> = Vec::new();
        for name in names.into_iter().filter(|name| *name != "lo") {
            if let Ok(name) = name.parse::<InterfaceName>() {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
        Interfaces(list)
    }

    fn has(&self, name: &InterfaceName) -> bool {
        self.0.contains(name)
    }

    fn wired(&self) -> impl Iterator<Item = &InterfaceName> {
        let wired = |name: &&InterfaceName| {
            ["eth", "en", "usb"]
                .iter()
                .any(|start| name.as_str().starts_with(start))
        };
        self.0.iter().filter(wired)
    }

    fn wireless(&self) -> impl Iterator<Item = &InterfaceName> {
        self.0.iter().filter(|name| name.as_str().starts_with("wl"))
    }

    fn list(&self) -> String {
        let names: Vec<_> = self.0.iter().map(InterfaceName::as_str).collect();
        if names.is_empty() {
            "this machine has none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    }
}

impl Wiring {
    /// What the settings come to here, and what cannot be.
    pub(super) fn new(card: &Card, entries: &[Entry], interfaces: &Interfaces) -> (Wiring, Vec<Finding>) {
        let mut findings = Vec::new();
        let sells = entries
            .iter()
            .any(|entry| entry.is("relay", "enabled") && entry.value == Value::Flag(true));
        let named_guest = named(entries, "guest_interface");
        let named_uplink = named(entries, "uplink_interface");
        let offers = card.access_point.is_some() || sells && named_guest.is_none();
        let wanted = card.access_point.as_ref().and_then(|it| it.interface.as_ref());
        let joined = card.wifi.as_ref().and_then(|it| it.interface.as_ref());
        for (key, name) in [("access_point.interface", wanted), ("wifi.interface", joined)] {
            if let Some(name) = name.filter(|name| !interfaces.has(name)) {
                let what = format!("there is no interface {name} on this machine");
                findings.push(Finding::outcome(Weight::Odd, key, what, interfaces.list()));
            }
        }
        let first = || {
            let free = || interfaces.wireless().filter(|name| Some(*name) != joined);
            let wlan0 = free().find(|name| name.as_str() == "wlan0");
            wlan0
                .or_else(|| free().next())
                .or_else(|| interfaces.wireless().next())
        };
        let mut access_point = match wanted {
            _ if !offers => None,
            Some(name) => Some(name).filter(|name| interfaces.has(name)),
            None => first(),
        };
        let station = card.wifi.as_ref().and_then(|_| match joined {
            Some(name) => Some(name).filter(|name| interfaces.has(name)),
            None => {
                let free = interfaces.wireless().find(|name| Some(*name) != access_point);
                free.or_else(|| interfaces.wireless().next())
            }
        });
        if card.wifi.is_some() && station.is_none() && joined.is_none() {
            let what = "this machine has no wireless interface to join a network with";
            findings.push(Finding::outcome(Weight::Odd, "wifi", what, interfaces.list()));
        }
        if let (Some(name), true) = (access_point, access_point == station) {
            // Joining comes first: through it the owner reaches the node.
            let what = format!("{name} joins the network of [wifi], so it cannot offer one, too");
            let remedy = "remove [wifi] and use a cable, or add a second radio and name it as interface";
            findings.push(Finding::outcome(Weight::Odd, "access_point", what, remedy));
            access_point = None;
        } else if card.access_point.is_some() && access_point.is_none() && wanted.is_none() {
            let what = "this machine has no wireless interface to offer a network on";
            findings.push(Finding::outcome(
                Weight::Odd,
                "access_point",
                what,
                interfaces.list(),
            ));
        }
        let guest: Vec<_> = match named_guest {
            Some(names) => present(names, "guest_interface", interfaces, &mut findings),
            None => access_point.cloned().into_iter().collect(),
        };
        let mut uplink = present(
            named_uplink.unwrap_or_default(),
            "uplink_interface",
            interfaces,
            &mut findings,
        );
        if uplink.is_empty() {
            let free = |name: &&InterfaceName| !guest.contains(name);
            uplink.extend(interfaces.wired().find(free).cloned());
            uplink.extend(station.filter(free).cloned());
        }
        let wiring = Wiring {
            uplink,
            guest,
            station: station.cloned(),
            access_point: access_point.cloned(),
        };
        (wiring, findings)
    }

    /// Lines `ROLE=INTERFACE`.
    pub(super) fn lines(&self) -> String {
        let uplink = self.uplink.iter().map(|name| ("uplink", name));
        let guest = self.guest.iter().map(|name| ("guest", name));
        let station = self.station.iter().map(|name| ("station", name));
        let access_point = self.access_point.iter().map(|name| ("access_point", name));
        uplink
            .chain(guest)
            .chain(station)
            .chain(access_point)
            .map(|(role, name)| format!("{role}={name}\n"))
            .collect()
    }
}

/// The interfaces that a key of `[relay]` names; what is no name is complained of by the reader of `[relay]`.
fn named(entries: &[Entry], key: &str) -> Option<Vec<InterfaceName>> {
    let entry = entries.iter().find(|entry| entry.is("relay", key))?;
    let texts = entry.texts().unwrap_or_default();
    let names: Vec<_> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    (!names.is_empty()).then_some(names)
}

/// Those of the named ones that are there.
fn present(
    named: Vec<InterfaceName>,
    key: &str,
    interfaces: &Interfaces,
    findings: &mut Vec<Finding>,
) -> Vec<InterfaceName> {
    let (here, missing): (Vec<_>, Vec<_>) = named.into_iter().partition(|name| interfaces.has(name));
    for name in missing {
        let what = format!("there is no interface {name} on this machine");
        let key = format!("relay.{key}");
        findings.push(Finding::outcome(Weight::Odd, &key, what, interfaces.list()));
    }
    here
}
