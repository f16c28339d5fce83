//! A sale through the emulated card, judged by the client's kernel and by the chain.

use super::stand::HTTP;
use super::{Board, Stand, Wires};
use crate::judge::{self, Blocks, Settled};
use crate::sale::{self, MIB, PRICE};
use crate::site::wait_for;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long nothing may move before the client counts as cut: the emulated machine is slow.
const QUIET: Duration = Duration::from_secs(4);
/// How long an emulated machine may take for a download.
const DOWNLOAD: Duration = Duration::from_secs(300);
/// IPv4 and TCP without options, as the emulator's user network speaks them: what a packet has besides what it carries.
const HEADERS: u64 = 40;
/// What the client may send in all that belongs to no connection any more, and so passes no gate.
const STRAYS: u64 = 8 * HEADERS;
/// Largest packet that the gate may see where the card's kernel puts received packets together.
const MERGED: u64 = 65_536;

const JUDGE: &str = "table inet judge {
  counter down { }
  counter up { }
  chain in {
    type filter hook prerouting priority -400; policy accept;
    iifname \"eth0\" ip saddr 10.0.2.2 counter name down
  }
  chain out {
    type filter hook postrouting priority 400; policy accept;
    oifname \"eth0\" ip daddr 10.0.2.2 counter name up
  }
}";

/// What a sale came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sold {
    /// Bytes that the relay billed, of which the client's kernel saw each one.
    pub billed: u64,
    /// Millisatoshi that were paid.
    pub msat: u64,
    /// What the relay got on chain, and its fee, satoshi.
    pub settled_sat: u64,
    /// How fast the download came, bytes per second.
    pub rate: u64,
}

/// Layer-3 bytes and packets at the client's interface, one way.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Count {
    bytes: u64,
    packets: u64,
}

/// Both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    up: Count,
    down: Count,
}

impl Count {
    /// What a gate may have counted for it at the least: where the card's kernel puts packets of a flow together before they are
    /// forwarded, the gate sees one header for all of them (gate.md).
    fn least(self, board: Board) -> u64 {
        match board {
            Board::Virt { .. } => self.bytes.saturating_sub(HEADERS * self.packets),
            Board::Raspi3b => self.bytes,
        }
    }
}

/// A `turnpike buy` that ends with this at the latest.
struct Purchase(Child);

impl Drop for Purchase {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stand {
    /// The client buys so many MiB, at least 2, downloads all but one of them at once and then more than is left, asks for the end
    /// of its channel, and the chain shows it. The client's daemon has to run and to have an address and coins.
    ///
    /// # Errors
    /// What is not as it has to be: bytes by the kernel's counters on the client's interface, money by the chain's blocks.
    pub fn sale(&self, mib: u64) -> Result<Sold, String> {
        if self.download(1_000, Duration::from_secs(3)).is_ok() {
            return Err("the machine forwards what nobody paid for".to_owned());
        }
        let earlier = self.clients().unwrap_or_default();
        let rules = self.folder.path().join("judge.nft");
        std::fs::write(&rules, JUDGE).expect("the judge's rules");
        let client = self.wires.client();
        client.try_run("nft delete table inet judge");
        client.run(&format!("nft -f {}", rules.display()));
        let before = sale::channel(&self.client).map(|c| c["outpoint"].clone());
        let mut buy = Purchase(sale::purchase(&self.client, mib));
        wait_for("a channel", || {
            sale::channel(&self.client)
                .is_some_and(|c| c["outpoint"].is_string() && Some(&c["outpoint"]) != before.as_ref())
        });
        let funding = sale::channel(&self.client).unwrap_or_default()["outpoint"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        wait_for("a payment", || sale::total(&self.client) > 0);
        // Confirmations lift the limit on credit.
        self.chain.mine(7);
        let bytes = (mib - 1) * MIB;
        let start = Instant::now();
        self.download(bytes, DOWNLOAD)?;
        let rate = (bytes as f64 / start.elapsed().as_secs_f64()) as u64;
        let (then, seen_then) = self.settled()?;
        let then = then.since(earlier);
        // More than is left: cut at the end of its credit.
        let _ = self.download(mib * MIB, QUIET * 4);
        sale::end(&mut buy.0)?;
        let (now, seen) = self.settled()?;
        let now = now.since(earlier);
        let slot = sale::channel(&self.client).unwrap_or_default()["slot"].to_string();
        self.client.ask(&["channel", "close", &slot]);
        let settled = judge::settled(&self.chain, &funding)?;
        let sold = Sold {
            billed: now.up + now.down,
            msat: now.msat,
            settled_sat: settled.payee + settled.fee,
            rate,
        };
        let mut faults = self.faults_of_bytes((then, seen_then), (now, seen));
        faults.extend(faults_of_money(mib, &sold, &settled));
        if faults.is_empty() {
            Ok(sold)
        } else {
            Err(faults.join("; "))
        }
    }

    /// The relay's figures in the middle of the sale, when nothing had been dropped yet, and after the cut, each with what the
    /// client's kernel had counted.
    fn faults_of_bytes(&self, middle: (Billed, Seen), end: (Billed, Seen)) -> Vec<String> {
        let board = self.machine.board();
        let mut faults = Vec::new();
        let mut fault = |wrong: bool, words: String| wrong.then(|| faults.push(words));
        for (billed, seen) in [middle, end] {
            let down = seen.down;
            fault(
                billed.down > down.bytes || billed.down < down.least(board),
                format!(
                    "the relay billed {} bytes down, {} arrived in {} packets",
                    billed.down, down.bytes, down.packets
                ),
            );
            fault(
                billed.up > seen.up.bytes,
                format!(
                    "the relay billed {} bytes up, {} were sent",
                    billed.up, seen.up.bytes
                ),
            );
        }
        let (billed, seen) = middle;
        fault(
            billed.up + STRAYS < seen.up.least(board),
            format!(
                "the relay billed {} bytes up, {} were sent",
                billed.up, seen.up.bytes
            ),
        );
        let (billed, _) = end;
        let (paid, used) = (billed.msat * MIB / PRICE, billed.up + billed.down);
        fault(
            used > paid,
            format!("the relay forwarded {used} bytes, {paid} were paid for"),
        );
        let packet = match board {
            Board::Virt { .. } => MERGED,
            Board::Raspi3b => sale::PACKET,
        };
        fault(
            paid.saturating_sub(used) > packet,
            format!("{} of {paid} paid bytes did not pass", paid.saturating_sub(used)),
        );
        faults
    }

    /// Downloads through the machine by curl.
    ///
    /// # Errors
    /// Fewer bytes came in time.
    pub fn download(&self, bytes: u64, patience: Duration) -> Result<(), String> {
        let output = self
            .wires
            .client()
            .command("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{size_download}", "--max-time"])
            .arg(patience.as_secs().to_string())
            .arg(format!("http://{}:{HTTP}/{bytes}", Wires::WORLD))
            .output()
            .expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.trim().parse::<u64>() {
            Ok(got) if got == bytes => Ok(()),
            _ => Err(format!("curl got {text} of {bytes} bytes")),
        }
    }

    /// What the relay says, and what the client's kernel counted, from a moment in which nothing moves.
    fn settled(&self) -> Result<(Billed, Seen), String> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut last = self.counted();
        let mut since = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let seen = self.counted();
            if seen != last {
                (last, since) = (seen, Instant::now());
            }
            if since.elapsed() < QUIET && Instant::now() < end {
                continue;
            }
            let billed = self.clients()?;
            if self.counted() == seen || Instant::now() > end {
                return Ok((billed, seen));
            }
        }
    }

    /// What the relay billed its clients and was paid by them, in all.
    fn clients(&self) -> Result<Billed, String> {
        let answer = self.shell.turnpike("clients")?;
        let all = answer["clients"]
            .as_array()
            .ok_or_else(|| format!("no clients in {answer}"))?;
        let sum = |name: &str| all.iter().filter_map(|client| client[name].as_u64()).sum::<u64>();
        Ok(Billed {
            up: sum("up_bytes"),
            down: sum("down_bytes"),
            msat: sum("paid_msat"),
        })
    }

    /// What went between client and web server.
    fn counted(&self) -> Seen {
        Seen {
            up: self.count("up"),
            down: self.count("down"),
        }
    }

    fn count(&self, name: &str) -> Count {
        let figure = |unit| judge::counter(self.wires.client(), name, unit);
        Count {
            bytes: figure("bytes"),
            packets: figure("packets"),
        }
    }
}

/// What the relay says.
#[derive(Clone, Copy, Default)]
struct Billed {
    up: u64,
    down: u64,
    msat: u64,
}

impl Billed {
    fn since(self, earlier: Billed) -> Billed {
        Billed {
            up: self.up - earlier.up,
            down: self.down - earlier.down,
            msat: self.msat - earlier.msat,
        }
    }
}

fn faults_of_money(mib: u64, sold: &Sold, settled: &Settled) -> Vec<String> {
    let sat = sold.msat.div_ceil(1_000);
    let faults = [
        (!(mib * PRICE..=mib * PRICE + 16).contains(&sold.msat))
            .then(|| format!("{} msat were paid for {mib} MiB", sold.msat)),
        (sold.settled_sat != sat)
            .then(|| format!("the settlement pays {} sat for {sat} sat paid", sold.settled_sat)),
        (settled.remainder != settled.capacity - sat)
            .then(|| format!("the settlement leaves the client {} sat", settled.remainder)),
    ];
    faults.into_iter().flatten().collect()
}
