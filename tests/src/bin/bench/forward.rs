//! What metering costs: TCP through client, relay and uplink, with the gate asleep and awake, in the same namespaces
//! and on the same connection.
//!
//! Both sides run with connection tracking and IPv4 masquerade, which a relay of private addresses needs in any case;
//! the rules of the gate are what is measured. The gate holds 200 clients. `nft`'s dormant flag puts the whole table to
//! sleep and wakes it, so nothing else differs. `forward_ratio_bare` is held against a relay without any netfilter.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use turnpike_firmware::gate::{Gate, GatePlan};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::figure::{Figure, median};
use turnpike_tests::lab::{Lab, Plan, StreamKind};

/// Pairs per figure, a quarter of them for each family and direction.
const PAIRS: usize = 20;
/// Turns of each side in a pair. Many short ones, so that what else the machine does falls on both.
const TURNS: usize = 4;
/// One turn.
const TURN: Duration = Duration::from_millis(150);
/// After a change, before counting again.
const SETTLE: Duration = Duration::from_millis(30);
/// Clients in the table; the first one is the one that talks.
const CLIENTS: usize = 200;
/// More than can pass.
const PLENTY: ByteCount = ByteCount::new(1 << 60);

/// `forward_ratio`: segment offload on, packets of up to 64 KiB.
pub fn with_offload() -> Vec<Figure> {
    vec![ratio("forward_ratio", true, Against::Masquerade, "at least 0.98")]
}

/// `forward_ratio_small`: segment offload off, packets of 1,500 bytes.
pub fn without_offload() -> Vec<Figure> {
    vec![ratio(
        "forward_ratio_small",
        false,
        Against::Masquerade,
        "at least 0.95",
    )]
}

/// `forward_ratio_bare`, `forward_ratio_small_bare`: connection tracking on the metered side only.
pub fn against_bare() -> Vec<Figure> {
    vec![
        ratio("forward_ratio_bare", true, Against::Bare, "report"),
        ratio("forward_ratio_small_bare", false, Against::Bare, "report"),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Masquerade,
    Bare,
}

fn ratio(name: &'static str, offload: bool, against: Against, goal: &'static str) -> Figure {
    let lab = Lab::new(Plan {
        offload,
        ..Plan::default()
    });
    let (mut ratios, mut metered, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    lab.relay().within(|| {
        let mut side = Side::new(&lab, against);
        for kind in StreamKind::all().filter(|k| k.tcp) {
            for pair in 0..PAIRS / 4 {
                let mut sums = [0.0, 0.0];
                side.set(&lab, true);
                let mut pump = Pump::start(&lab, 0, kind);
                for turn in 0..2 * TURNS {
                    // Which side comes first changes from pair to pair and within each.
                    let on = (turn + turn / 2 + pair) % 2 == 0;
                    side.set(&lab, on);
                    if against == Against::Bare {
                        // Connection tracking cannot judge the windows of a flow that it did not see begin.
                        pump.stop();
                        pump = Pump::start(&lab, 0, kind);
                    }
                    std::thread::sleep(SETTLE);
                    sums[usize::from(on)] += pump.rate(TURN);
                }
                pump.stop();
                ratios.push(sums[1] / sums[0]);
                metered.push(sums[1] / TURNS as f64);
                plain.push(sums[0] / TURNS as f64);
            }
        }
    });
    ratios.sort_by(f64::total_cmp);
    let (low, high) = (ratios[PAIRS / 4], ratios[PAIRS - 1 - PAIRS / 4]);
    let middle = median(&ratios);
    let against = match against {
        Against::Masquerade => "plain forwarding with masquerade, Mbit/s",
        Against::Bare => "plain forwarding without connection tracking, Mbit/s",
    };
    let note = format!(
        "ratio {middle:.3} is the median of {PAIRS} pairs, half of them {low:.3} to {high:.3}, all {:.3} to {:.3}; \
         medians of each side beside it",
        ratios[0],
        ratios[PAIRS - 1]
    );
    let mut figure = Figure::new(
        name,
        median(&metered) * 8e-6,
        "Mbit/s",
        against,
        median(&plain) * 8e-6,
        goal,
        note,
    );
    figure.ratio = Some(middle);
    figure
}

/// The relay's two states.
struct Side {
    gate: Option<Gate>,
    against: Against,
}

impl Side {
    fn new(lab: &Lab, against: Against) -> Side {
        let mut side = Side { gate: None, against };
        if against == Against::Masquerade {
            // The owner's own masquerade stays on both sides, so the gate brings none.
            for rule in [
                "table inet owners_nat",
                "chain inet owners_nat c { type nat hook postrouting priority srcnat ; }",
                "rule inet owners_nat c oifname up0 meta nfproto ipv4 masquerade",
            ] {
                lab.relay().run(&format!("nft add {rule}"));
            }
            side.gate = Some(gate(lab, CLIENTS));
        }
        side
    }

    fn set(&mut self, lab: &Lab, on: bool) {
        match (self.against, on) {
            (Against::Masquerade, true) => drop(lab.relay().run("nft add table inet turnpike")),
            (Against::Masquerade, false) => {
                drop(lab.relay().run("nft add table inet turnpike { flags dormant ; }"));
            }
            (Against::Bare, true) => drop(self.gate.get_or_insert_with(|| gate(lab, 1))),
            (Against::Bare, false) => self
                .gate
                .take()
                .into_iter()
                .for_each(|g| g.close().expect("the gate closes")),
        }
    }
}

fn gate(lab: &Lab, clients: usize) -> Gate {
    let plan = GatePlan {
        masquerade_ipv4: false,
        ..lab.gate_plan()
    };
    let (mut gate, _) = Gate::open(plan).expect("the gate opens");
    for i in (0..clients).rev() {
        gate.attach(lab.slot(i), lab.binding(i))
            .expect("a client is attached");
        gate.grant(lab.slot(i), PLENTY).expect("a client is granted");
    }
    gate
}

/// A TCP flow at full speed, each end bound to a core of its own where there are two.
struct Pump {
    arrived: Arc<AtomicU64>,
    ends: Vec<(TcpStream, JoinHandle<()>)>,
}

impl Pump {
    fn start(lab: &Lab, client: usize, kind: StreamKind) -> Pump {
        let to: IpAddr = if kind.ipv6 {
            Lab::UPLINK6.into()
        } else {
            Lab::UPLINK4.into()
        };
        let listener = lab
            .uplink()
            .within(|| TcpListener::bind(SocketAddr::new(to, 0)).expect("a port"));
        let target = listener.local_addr().expect("an address");
        let near = lab
            .client(client)
            .within(|| TcpStream::connect(target).expect("a paid connection"));
        let (far, _) = listener.accept().expect("the connection");
        let (source, sink) = if kind.down { (far, near) } else { (near, far) };
        let arrived = Arc::new(AtomicU64::new(0));
        let count = arrived.clone();
        let (mut writer, mut reader) = (
            source.try_clone().expect("a handle"),
            sink.try_clone().expect("a handle"),
        );
        let write = std::thread::spawn(move || {
            bind_to_core(0);
            while writer.write_all(&[0x55; 131_072]).is_ok() {}
        });
        let read = std::thread::spawn(move || {
            bind_to_core(1);
            let mut buffer = vec![0; 131_072];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                count.fetch_add(n as u64, Ordering::Relaxed);
            }
        });
        Pump {
            arrived,
            ends: vec![(source, write), (sink, read)],
        }
    }

    /// Bytes per second that arrive during `time`.
    fn rate(&self, time: Duration) -> f64 {
        let (before, start) = (self.arrived.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(time);
        (self.arrived.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
    }

    fn stop(self) {
        for (socket, _) in &self.ends {
            let _ = socket.shutdown(Shutdown::Both);
        }
        for (_, thread) in self.ends {
            thread.join().expect("an end of the flow ends in order");
        }
    }
}

/// Best effort: on a machine with fewer cores the scheduler decides.
fn bind_to_core(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
