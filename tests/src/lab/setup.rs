//! Lays the wires: namespaces, interfaces, addresses, routes.

use super::{Host, Lab};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// What the network is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How many clients, 1 to 200.
    pub clients: usize,
    /// Segment offload on every interface: packets of up to 64 KiB, as between namespaces, or at most the link's MTU,
    /// as on a radio.
    pub offload: bool,
    /// Rate in kilobits per second that each client and the uplink host send at, by a token bucket (tbf); `None` is
    /// full speed. The relay itself never queues, so nothing is lost behind a gate.
    pub rate_kbit: Option<u32>,
}

impl Default for Plan {
    /// One client, offload off, full speed.
    fn default() -> Plan {
        Plan {
            clients: 1,
            offload: false,
            rate_kbit: None,
        }
    }
}

const GUEST_MAC: &str = "02:00:00:00:00:01";
const UP_MAC: &str = "02:00:00:00:00:02";
const UPLINK_MAC: &str = "02:00:00:00:00:03";

pub(super) fn client4(i: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + i as u8)
}

pub(super) fn client6(i: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0x10 + i as u16, 0, 0, 0, 2)
}

pub(super) fn client_mac(i: usize) -> String {
    format!("02:00:00:00:01:{:02x}", 10 + i)
}

/// Builds everything; panics with the failed step.
pub(super) fn build(plan: &Plan) -> (Vec<Host>, Host, Host) {
    assert!((1..=200).contains(&plan.clients), "a lab has 1 to 200 clients");
    if !std::path::Path::new("/run/netns").exists() || !run_is_ours() {
        sh("mount -t tmpfs lab /run");
        sh("mkdir -p /run/netns");
    }
    let relay = host("relay");
    let uplink = host("uplink");
    for setting in [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv6.conf.default.forwarding",
    ] {
        relay.within(|| set(setting, "1"));
    }
    sh(&format!(
        "ip link add {} netns relay type veth peer name {} netns uplink",
        Lab::UP,
        Lab::ETH
    ));
    let clients: Vec<Host> = (0..plan.clients).map(|i| host(&format!("client{i}"))).collect();
    if clients.len() == 1 {
        sh(&format!(
            "ip link add {} netns relay type veth peer name {} netns client0",
            Lab::GUEST,
            Lab::ETH
        ));
    } else {
        relay.run(&format!("ip link add {} type bridge", Lab::GUEST));
        for i in 0..clients.len() {
            sh(&format!(
                "ip link add port{i} netns relay type veth peer name {} netns client{i}",
                Lab::ETH
            ));
            relay.run(&format!("ip link set port{i} master {}", Lab::GUEST));
            relay.run(&format!("ip link set port{i} type bridge_slave isolated on"));
            finish(&relay, &format!("port{i}"), plan);
        }
    }
    relay.run(&format!("ip link set {} address {GUEST_MAC}", Lab::GUEST));
    relay.run(&format!("ip link set {} address {UP_MAC}", Lab::UP));
    uplink.run(&format!("ip link set {} address {UPLINK_MAC}", Lab::ETH));

    finish(&relay, Lab::GUEST, plan);
    finish(&relay, Lab::UP, plan);
    relay.run(&format!("ip addr add {}/24 dev {}", Lab::RELAY4, Lab::GUEST));
    relay.run(&format!(
        "ip addr add {}/64 dev {} nodad",
        Lab::RELAY6_LINK,
        Lab::GUEST
    ));
    relay.run(&format!(
        "ip addr add {}/64 dev {} nodad",
        Lab::RELAY6,
        Lab::GUEST
    ));
    relay.run(&format!("ip addr add {}/24 dev {}", Lab::RELAY_UP4, Lab::UP));
    relay.run(&format!(
        "ip addr add {}/64 dev {} nodad",
        Lab::RELAY_UP6,
        Lab::UP
    ));

    finish(&uplink, Lab::ETH, plan);
    uplink.run(&format!("ip addr add {}/24 dev {}", Lab::UPLINK4, Lab::ETH));
    uplink.run(&format!("ip addr add {}/64 dev {} nodad", Lab::UPLINK6, Lab::ETH));
    uplink.run(&format!("ip route add 10.77.0.0/24 via {}", Lab::RELAY_UP4));
    uplink.run(&format!("ip -6 route add fd77::/48 via {}", Lab::RELAY_UP6));

    for (i, client) in clients.iter().enumerate() {
        client.run(&format!("ip link set {} address {}", Lab::ETH, client_mac(i)));
        finish(client, Lab::ETH, plan);
        client.run(&format!("ip addr add {}/24 dev {}", client4(i), Lab::ETH));
        client.run(&format!("ip addr add {}/64 dev {} nodad", client6(i), Lab::ETH));
        client.run(&format!("ip route add default via {}", Lab::RELAY4));
        client.run(&format!(
            "ip -6 route add default via {} dev {}",
            Lab::RELAY6_LINK,
            Lab::ETH
        ));
        relay
            .run(&format!("ip -6 route add {}/64 dev {}", client6(i), Lab::GUEST).replace("::2/64", "::/64"));
    }
    introduce(&clients, &relay, &uplink);
    if let Some(rate) = plan.rate_kbit {
        // 10 ms of burst, but at least the largest packet, which tbf would cut up otherwise; a queue of ten bursts.
        let burst = (rate / 800 * 1_000).max(if plan.offload { 70_000 } else { 3_000 });
        let shape = format!("root tbf rate {rate}kbit burst {burst} limit {}", burst * 10);
        for sender in clients.iter().chain([&uplink]) {
            sender.run(&format!("tc qdisc add dev {} {shape}", Lab::ETH));
        }
    }
    (clients, relay, uplink)
}

/// Permanent neighbours, so that no ARP or neighbour discovery falls into a measurement.
fn introduce(clients: &[Host], relay: &Host, uplink: &Host) {
    let knows = |host: &Host, device: &str, address: String, mac: &str| {
        host.run(&format!(
            "ip neigh replace {address} lladdr {mac} dev {device} nud permanent"
        ));
    };
    knows(relay, Lab::UP, Lab::UPLINK4.to_string(), UPLINK_MAC);
    knows(relay, Lab::UP, Lab::UPLINK6.to_string(), UPLINK_MAC);
    knows(uplink, Lab::ETH, Lab::RELAY_UP4.to_string(), UP_MAC);
    knows(uplink, Lab::ETH, Lab::RELAY_UP6.to_string(), UP_MAC);
    for (i, client) in clients.iter().enumerate() {
        knows(client, Lab::ETH, Lab::RELAY4.to_string(), GUEST_MAC);
        knows(client, Lab::ETH, Lab::RELAY6_LINK.to_string(), GUEST_MAC);
        knows(relay, Lab::GUEST, client4(i).to_string(), &client_mac(i));
        knows(relay, Lab::GUEST, client6(i).to_string(), &client_mac(i));
    }
}

/// A fresh namespace with its loopback up, and without the delays of duplicate address detection.
fn host(name: &str) -> Host {
    sh(&format!("ip netns add {name}"));
    let host = Host::named(name);
    host.within(|| {
        for scope in ["all", "default"] {
            set(&format!("net.ipv6.conf.{scope}.accept_dad"), "0");
            set(&format!("net.ipv6.conf.{scope}.accept_ra"), "0");
            set(&format!("net.ipv6.conf.{scope}.router_solicitations"), "0");
            set(
                &format!("net.ipv6.conf.{scope}.mldv2_unsolicited_report_interval"),
                "10",
            );
        }
    });
    host.run("ip link set lo up");
    host
}

/// Brings an interface up, with or without segment offload.
fn finish(host: &Host, device: &str, plan: &Plan) {
    if !plan.offload {
        // The sizes bound what may be built on this interface; together with ethtool's switches, which are not
        // installed everywhere, they are what turns offload off.
        host.run(&format!(
            "ip link set {device} gso_max_segs 1 gso_max_size 1500 gro_max_size 1500"
        ));
    }
    host.run(&format!("ip link set {device} up"));
}

fn set(name: &str, value: &str) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::write(&path, value).unwrap_or_else(|e| panic!("setting {name}={value}: {e}"));
}

fn run_is_ours() -> bool {
    std::fs::read_to_string("/proc/mounts").is_ok_and(|m| m.lines().any(|l| l.starts_with("lab /run ")))
}

/// A command line on the lab's own root: split at blanks, must succeed.
fn sh(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output();
    let output = output.unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
