//! What the daemon may do on the system, and that it needs no more: as the systemd unit grants it.

use std::os::unix::net::UnixDatagram;
use turnpike_tests::in_lab;
use turnpike_tests::lab::Plan;
use turnpike_tests::servers::Servers;
use turnpike_tests::site::{ChainKind, Node, PATIENCE, Site, wait_for};

/// Capabilities and privileges as in `firmware/systemd/turnpiked.service`.
const UNIT: [&str; 5] = [
    "setpriv",
    "--bounding-set=-all,+net_admin",
    "--inh-caps=-all,+net_admin",
    "--ambient-caps=-all,+net_admin",
    "--no-new-privs",
];
const MIB: u64 = 1 << 20;

/// The capabilities that a daemon has, as the kernel's bit set.
fn capabilities(node: &Node) -> u64 {
    let process = node.process().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .expect("CapEff");
    u64::from_str_radix(line.trim(), 16).expect("a number")
}

in_lab! {
    fn relay_and_client_need_no_capability_but_net_admin() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, 1_000, "");
        let socket = site.folder().join("notify");
        let systemd = UnixDatagram::bind(&socket).expect("a socket");
        let notify = format!("NOTIFY_SOCKET={}", socket.display());
        site.relay.wrap(&[&["env", &notify], &UNIT[..]].concat());
        site.clients[0].wrap(&UNIT);
        site.start();
        // Type=notify: systemd is told when the node is ready.
        let mut told = [0; 64];
        systemd.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let length = systemd.recv(&mut told).expect("word from the daemon");
        assert_eq!(told[..length].trim_ascii_end(), b"READY=1");
        // CAP_NET_ADMIN is number 12.
        assert_eq!([capabilities(&site.relay), capabilities(&site.clients[0])], [1 << 12; 2]);
        let server = Servers::start(&site);
        site.fund(0, 100_000);
        let mut buy = site.clients[0].command(&["buy", "--mib", "8", "--max-sat", "10", "--yes"]);
        let mut buy = buy.stdout(std::process::Stdio::null()).spawn().expect("turnpike");
        wait_for("the first window", || {
            site.clients[0].ask(&["status"])["purchases"][0]["spent_msat"].as_u64() > Some(0)
        });
        for v6 in [false, true] {
            server.curl(&site, v6, 2 * MIB).expect("a download");
        }
        let relays = site.clients[0].ask(&["discover", "--seconds", "2"]);
        assert!(!relays["relays"].as_array().expect("a list").is_empty(), "{relays}");
        site.clients[0].ask(&["stop"]);
        assert!(buy.wait().expect("wait").success());
        let clients = site.relay.ask(&["clients", "list"]);
        let paid = clients["clients"][0]["paid_msat"].as_u64();
        assert!(paid >= Some(4_000), "{clients}");
        // And without it, a relay says what is missing.
        site.relay.stop();
        let without: Vec<String> = UNIT.iter().map(|word| word.replace(",+net_admin", "")).collect();
        site.relay.wrap(&without.iter().map(String::as_str).collect::<Vec<_>>());
        let output = site.relay.daemon().output().expect("turnpiked");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    }
}
