//! What selling costs on the wire: everything that the session between client and relay sends while bytes are sold at
//! 50 Mbit/s, with IP and TCP headers and bare TCP acknowledgements, per million bytes sold. Counted by the kernels of
//! both ends.

use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};
use turnpike_tests::figure::Figure;
use turnpike_tests::lab::{Host, Plan, Stream, StreamKind};
use turnpike_tests::site::{ChainKind, Site, wait_for};

const RATE_KBIT: u32 = 50_000;
/// Sold before counting starts, so that the window follows the rate.
const BEFORE: u64 = 24_000_000;
/// Sold while counting: several receipts fall into it.
const SOLD: u64 = 320_000_000;
const PATIENCE: Duration = Duration::from_secs(180);

const TABLE: &str = "table inet judge {
  counter session { }
  counter sold { }
  chain in { type filter hook input priority -400; policy accept;
    tcp sport 7473 counter name session
    tcp dport 7473 counter name session
  }
  chain out { type filter hook output priority 400; policy accept;
    tcp sport 7473 counter name session
    tcp dport 7473 counter name session
  }
  chain through { type filter hook postrouting priority 400; policy accept;
    iifname guest0 oifname up0 counter name sold
    iifname up0 oifname guest0 counter name sold
  }
}
";

/// Session bytes per million bytes sold.
pub fn overhead_ppm() -> Vec<Figure> {
    let mut site = Site::new(
        Plan {
            rate_kbit: Some(RATE_KBIT),
            ..Plan::default()
        },
        ChainKind::Play,
        1_000,
        "",
    );
    let path = site.folder().join("judge.nft");
    std::fs::write(&path, TABLE).expect("the judge's rules");
    let (client, relay) = (site.lab.client(0).clone(), site.lab.relay().clone());
    for host in [&client, &relay] {
        host.run(&format!("nft -f {}", path.display()));
    }
    site.start();
    site.fund(0, 200_000);
    let mib = ((BEFORE + 2 * SOLD) >> 20).to_string();
    let mut buy = site.clients[0]
        .command(&["buy", "--mib", &mib, "--max-sat", "20000", "--yes"])
        .stdout(Stdio::null())
        .spawn()
        .expect("turnpike");
    wait_for("the first window", || {
        site.clients[0].ask(&["status"])["purchases"][0]["spent_msat"].as_u64() > Some(0)
    });
    // Confirmations lift the limit on credit.
    site.mine(7);
    let stream = Stream::start(
        &site.lab,
        0,
        StreamKind {
            ipv6: false,
            tcp: true,
            down: true,
        },
    );
    until_sold(&relay, BEFORE);
    let (first, start) = (Counted::at(&client, &relay), Instant::now());
    until_sold(&relay, first.sold + SOLD);
    let (last, time) = (Counted::at(&client, &relay), start.elapsed());
    let window = site.clients[0].ask(&["status"])["purchases"][0]["window_bytes"]
        .as_u64()
        .expect("a purchase is going on");
    stream.stop();
    let _ = buy.kill();
    let _ = buy.wait();
    let sold = (last.sold - first.sold) as f64;
    let (near, far) = (
        (last.client - first.client) as f64,
        (last.relay - first.relay) as f64,
    );
    let rate = sold / time.as_secs_f64();
    let note = format!(
        "window {window} bytes, {:.0} ms at {:.1} Mbit/s; {near} bytes of the session at the client, {far} at the relay, while {:.0} MB were sold",
        window as f64 / rate * 1e3,
        rate * 8e-6,
        sold / 1e6,
    );
    vec![Figure::new(
        "overhead_ppm",
        near.max(far) / sold * 1e6,
        "ppm",
        "limit",
        100.0,
        "<= 100",
        note,
    )]
}

/// Bytes on the session's port at both ends, and bytes forwarded behind the gate.
struct Counted {
    client: u64,
    relay: u64,
    sold: u64,
}

impl Counted {
    fn at(client: &Host, relay: &Host) -> Counted {
        Counted {
            client: counter(client, "session"),
            relay: counter(relay, "session"),
            sold: counter(relay, "sold"),
        }
    }
}

fn counter(host: &Host, name: &str) -> u64 {
    let text = host.run(&format!("nft -j list counter inet judge {name}"));
    let value: Value = serde_json::from_str(&text).expect("nft speaks JSON");
    let objects = value["nftables"].as_array().cloned().unwrap_or_default();
    objects
        .iter()
        .find_map(|o| o["counter"]["bytes"].as_u64())
        .expect("the judge's counter")
}

fn until_sold(relay: &Host, bytes: u64) {
    let end = Instant::now() + PATIENCE;
    while counter(relay, "sold") < bytes {
        assert!(Instant::now() < end, "the sale stands still");
        std::thread::sleep(Duration::from_millis(200));
    }
}
