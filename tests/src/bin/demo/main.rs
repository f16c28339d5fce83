//! `make demo`: one whole sale on this machine, judged by the kernel and the chain.
//!
//! Three hosts in network namespaces: a client, a relay that sells bandwidth, an uplink. Separate daemons with stores and
//! seeds of their own. The figures at the end come from kernel counters at client and uplink and from the chain's
//! blocks; the daemons' own figures are held against them.

use std::io::Write;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use turnpike_tests::judge::{self, Kernel};
use turnpike_tests::lab::{self, Plan};
use turnpike_tests::servers::Servers;
use turnpike_tests::site::{ChainKind, Node, Site, wait_for};

/// Price, millisatoshi per MiB: 100 sat, so that a few MiB are worth a settlement.
const PRICE: u64 = 100_000;
/// First purchase and top-up, MiB.
const FIRST: u64 = 40;
const TOP_UP: u64 = 8;
const MIB: u64 = 1 << 20;
/// Largest packet that may be stranded, bytes: an Ethernet frame's worth (offload is off on the guest link).
const PACKET: u64 = 1_514;

fn main() -> ExitCode {
    let kind = match std::env::args().nth(1).as_deref() {
        None | Some("" | "play") => ChainKind::Play,
        Some("bitcoind") => ChainKind::Bitcoind,
        Some(other) => {
            eprintln!("demo: CHAIN={other} is not known; use CHAIN=play or CHAIN=bitcoind");
            return ExitCode::from(2);
        }
    };
    lab::enter();
    match sale(kind) {
        Ok(line) => {
            println!("demo: ok {line}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("demo: failed: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}

fn sale(kind: ChainKind) -> Result<String, String> {
    match kind {
        ChainKind::Play => say(
            "the chain is PLAY MONEY: a process of its own behind bitcoind's RPC (CHAIN=bitcoind uses a real regtest node)",
        ),
        ChainKind::Bitcoind => say("the chain is a real bitcoind on regtest"),
    }
    let mut site = Site::new(Plan::default(), kind, PRICE, "");
    let kernel = Kernel::watch(&site);
    site.start();
    let server = Servers::start(&site);
    site.fund(0, 200_000);

    say(&format!(
        "turnpike buy --mib {FIRST}: opens a channel, then pays window by window"
    ));
    let mut buy = Purchase::start(&site.clients[0], FIRST);
    wait_for("the first window", || spent(&site.clients[0]) > 0);
    // Confirmations lift the limit on credit.
    site.mine(7);
    let funding = channel(&site.clients[0])?["outpoint"]
        .as_str()
        .unwrap_or("none")
        .to_owned();
    let table = Table::start(&site, &kernel);

    say("traffic: curl, iperf3 both ways, UDP, IPv6");
    server.curl(&site, false, 8 * MIB)?;
    server.iperf(&site, &["-n", "8M"])?;
    server.iperf(&site, &["-n", "8M", "-R"])?;
    server.iperf(&site, &["-u", "-n", "1M", "-b", "20M"])?;
    server.curl(&site, true, 8 * MIB)?;

    say("a download that is larger than what is left: the client is cut at the end of its credit");
    let first_cut = server.until_cut(&site, &kernel)?;
    buy.end()?;
    let (unpaid, stranded) = judge::at_cut(first_cut, bought(&site)?);

    say(&format!("turnpike buy --mib {TOP_UP}: tops up and goes on"));
    let mut buy = Purchase::start(&site.clients[0], TOP_UP);
    let second_cut = server.until_cut(&site, &kernel)?;
    buy.end()?;
    table.stop();
    let paid = (FIRST + TOP_UP) * MIB;
    let (unpaid_again, stranded_again) = judge::at_cut(second_cut, bought(&site)?);
    let (unpaid, stranded) = (unpaid.max(unpaid_again), stranded.max(stranded_again));

    say("turnpike channel close: the relay settles on chain");
    let slot = channel(&site.clients[0])?["slot"].to_string();
    site.clients[0].ask(&["channel", "close", &slot]);
    let settlement = judge::settled(&site, &funding)?;
    let (sale, forwarded) = judge::billed_and_forwarded(&site, &kernel)?;

    // Each of the two purchases may round up by a millisatoshi; the satoshi that holds the last one is the payer's.
    let msat = paid / MIB * PRICE;
    let sat = sale.paid_msat.div_ceil(1_000);
    let faults = [
        (sale.billed != forwarded)
            .then(|| format!("billed {} bytes, the kernel forwarded {forwarded}", sale.billed)),
        (!(msat..=msat + 2).contains(&sale.paid_msat))
            .then(|| format!("paid {} msat, ordered {msat}", sale.paid_msat)),
        (unpaid > 0).then(|| format!("{unpaid} unpaid bytes passed")),
        (stranded > PACKET).then(|| format!("{stranded} paid bytes did not pass")),
        (settlement.payee + settlement.fee != sat).then(|| {
            format!(
                "the settlement gives the relay {} sat and {} sat of fee for {sat} sat paid",
                settlement.payee, settlement.fee
            )
        }),
        (settlement.remainder != settlement.capacity - sat)
            .then(|| format!("the settlement leaves the client {} sat", settlement.remainder)),
    ];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    for node in [&mut site.relay, &mut site.clients[0]] {
        node.stop();
    }
    let figures = [
        ("bytes_forwarded", forwarded.to_string()),
        ("bytes_billed", sale.billed.to_string()),
        ("msat_paid", sale.paid_msat.to_string()),
        ("unpaid_bytes", unpaid.to_string()),
        ("stranded_bytes", stranded.to_string()),
        ("funding", funding),
        ("close", settlement.txid.to_string()),
    ];
    say("the figures, by the kernel's counters and the chain's blocks");
    for (name, value) in &figures {
        println!("{name:>16}  {value}");
    }
    println!();
    let line = figures.map(|(name, value)| format!("{name}={value}")).join(" ");
    if faults.is_empty() {
        Ok(line)
    } else {
        Err(format!("{}; {line}", faults.join("; ")))
    }
}

/// A `turnpike buy` that runs beside the traffic.
struct Purchase(Child);

impl Purchase {
    fn start(client: &Node, mib: u64) -> Purchase {
        let mib = mib.to_string();
        let words = ["buy", "--mib", &mib, "--max-sat", "20000", "--yes"];
        Purchase(
            client
                .command(&words)
                .stdout(Stdio::null())
                .spawn()
                .expect("turnpike"),
        )
    }

    /// Waits for it: everything it bought is used by now.
    fn end(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Ok(Some(status)) = self.0.try_wait() {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("turnpike buy ended with {status}"))
                };
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("turnpike buy did not end although everything was used".to_owned())
    }
}

impl Drop for Purchase {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spent(client: &Node) -> u64 {
    client.ask(&["status"])["purchases"][0]["spent_msat"]
        .as_u64()
        .unwrap_or(0)
}

fn channel(client: &Node) -> Result<serde_json::Value, String> {
    let channels = client.ask(&["channel", "list"]);
    channels["channels"]
        .as_array()
        .and_then(|c| c.last())
        .cloned()
        .ok_or_else(|| "no channel".to_owned())
}

/// Bytes that everything paid so far buys. A purchase may round up by a millisatoshi, which buys a few bytes, too; that
/// no more than that was paid is judged at the end.
fn bought(site: &Site) -> Result<u64, String> {
    Ok(judge::sold(site)?.paid_msat * MIB / PRICE)
}

/// A line every second: what the kernel counts against what was paid.
struct Table {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Table {
    fn start(site: &Site, kernel: &Kernel) -> Table {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, kernel) = (stop.clone(), kernel.clone());
        let mut status = site.clients[0].command(&["status"]);
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            println!(
                "{:>6} {:>16} {:>14} {:>14}  state",
                "s", "forwarded MiB", "paid msat", "left KiB"
            );
            while !flag.load(Ordering::Relaxed) {
                let answer = status
                    .output()
                    .ok()
                    .and_then(|o| serde_json::from_slice::<serde_json::Value>(&o.stdout).ok());
                if let Some(p) = answer
                    .as_ref()
                    .map(|a| &a["purchases"][0])
                    .filter(|p| p.is_object())
                {
                    println!(
                        "{:>6} {:>16.2} {:>14} {:>14}  {}",
                        start.elapsed().as_secs(),
                        kernel.counted() as f64 / MIB as f64,
                        p["spent_msat"],
                        p["left_bytes"].as_u64().unwrap_or(0) / 1024,
                        p["state"].as_str().unwrap_or("")
                    );
                    let _ = std::io::stdout().flush();
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Table { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}
