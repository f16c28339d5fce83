//! Lays the wires: namespaces, interfaces, addresses, routes.

use super::{Host, Lab};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

const GUEST: &str = Lab::GUEST;
const UP: &str = Lab::UP;
const ETH: &str = Lab::ETH;
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
    own_run();
    let (relay, uplink) = (host("relay"), host("uplink"));
    let clients: Vec<Host> = (0..plan.clients).map(|i| host(&format!("client{i}"))).collect();
    for setting in [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv6.conf.default.forwarding",
    ] {
        relay.within(|| set(setting, "1"));
    }
    uplink_side(&relay, &uplink, plan);
    guest_side(&clients, &relay, plan);
    if let Some(rate) = plan.rate_kbit {
        // 10 ms of burst, but at least the largest packet, which tbf would cut up otherwise; a queue of ten bursts.
        let burst = (rate / 800 * 1_000).max(if plan.offload { 70_000 } else { 3_000 });
        let shape = format!("root tbf rate {rate}kbit burst {burst} limit {}", burst * 10);
        for sender in clients.iter().chain([&uplink]) {
            sender.run(&format!("tc qdisc add dev {ETH} {shape}"));
        }
    }
    (clients, relay, uplink)
}

/// Names of namespaces are files in a `/run` of our own.
pub(super) fn own_run() {
    if !std::path::Path::new("/run/netns").exists() || !run_is_ours() {
        sh("mount -t tmpfs lab /run");
        sh("mkdir -p /run/netns");
    }
}

fn uplink_side(relay: &Host, uplink: &Host, plan: &Plan) {
    sh(&format!(
        "ip link add {UP} netns relay type veth peer name {ETH} netns uplink"
    ));
    relay.run(&format!("ip link set {UP} address {UP_MAC}"));
    uplink.run(&format!("ip link set {ETH} address {UPLINK_MAC}"));
    finish(relay, UP, plan);
    finish(uplink, ETH, plan);
    relay.run(&format!("ip addr add {}/24 dev {UP}", Lab::RELAY_UP4));
    relay.run(&format!("ip addr add {}/64 dev {UP} nodad", Lab::RELAY_UP6));
    uplink.run(&format!("ip addr add {}/24 dev {ETH}", Lab::UPLINK4));
    uplink.run(&format!("ip addr add {}/64 dev {ETH} nodad", Lab::UPLINK6));
    uplink.run(&format!("ip route add 10.77.0.0/24 via {}", Lab::RELAY_UP4));
    uplink.run(&format!("ip -6 route add fd77::/48 via {}", Lab::RELAY_UP6));
    knows(relay, UP, Lab::UPLINK4.into(), UPLINK_MAC);
    knows(relay, UP, Lab::UPLINK6.into(), UPLINK_MAC);
    knows(uplink, ETH, Lab::RELAY_UP4.into(), UP_MAC);
    knows(uplink, ETH, Lab::RELAY_UP6.into(), UP_MAC);
}

/// Everything towards the clients; `ip link del guest0` on the relay takes it away again where there is one client.
pub(super) fn guest_side(clients: &[Host], relay: &Host, plan: &Plan) {
    if clients.len() == 1 {
        sh(&format!(
            "ip link add {GUEST} netns relay type veth peer name {ETH} netns client0"
        ));
    } else {
        relay.run(&format!("ip link add {GUEST} type bridge"));
        for i in 0..clients.len() {
            sh(&format!(
                "ip link add port{i} netns relay type veth peer name {ETH} netns client{i}"
            ));
            relay.run(&format!("ip link set port{i} master {GUEST}"));
            relay.run(&format!("ip link set port{i} type bridge_slave isolated on"));
            finish(relay, &format!("port{i}"), plan);
        }
    }
    relay.run(&format!("ip link set {GUEST} address {GUEST_MAC}"));
    finish(relay, GUEST, plan);
    relay.run(&format!("ip addr add {}/24 dev {GUEST}", Lab::RELAY4));
    relay.run(&format!("ip addr add {}/64 dev {GUEST} nodad", Lab::RELAY6_LINK));
    relay.run(&format!("ip addr add {}/64 dev {GUEST} nodad", Lab::RELAY6));
    for (i, client) in clients.iter().enumerate() {
        let (address, mac) = (client6(i), client_mac(i));
        client.run(&format!("ip link set {ETH} address {mac}"));
        finish(client, ETH, plan);
        client.run(&format!("ip addr add {}/24 dev {ETH}", client4(i)));
        client.run(&format!("ip addr add {address}/64 dev {ETH} nodad"));
        client.run(&format!("ip route add default via {}", Lab::RELAY4));
        client.run(&format!(
            "ip -6 route add default via {} dev {ETH}",
            Lab::RELAY6_LINK
        ));
        relay.run(&format!("ip -6 route add {}/64 dev {GUEST}", network(address)));
        knows(client, ETH, Lab::RELAY4.into(), GUEST_MAC);
        knows(client, ETH, Lab::RELAY6_LINK.into(), GUEST_MAC);
        knows(relay, GUEST, client4(i).into(), &mac);
        knows(relay, GUEST, address.into(), &mac);
    }
}

/// A permanent neighbour, so that no ARP or neighbour discovery falls into a measurement.
fn knows(host: &Host, device: &str, address: IpAddr, mac: &str) {
    host.run(&format!(
        "ip neigh replace {address} lladdr {mac} dev {device} nud permanent"
    ));
}

/// The first address of the /64 around `address`.
fn network(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)
}

/// A fresh namespace with its loopback up, and without the delays of duplicate address detection.
pub(super) fn host(name: &str) -> Host {
    sh(&format!("ip netns add {name}"));
    let host = Host::named(name);
    host.within(|| {
        // BBR, where it is the default, paces by timers, which costs more than forwarding and hides what is measured.
        set("net.ipv4.tcp_congestion_control", "reno");
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
