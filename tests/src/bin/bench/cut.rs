//! What passes at the end of credit: 100 cut-offs at the machine's full rate, both families, TCP and UDP, both ways,
//! each after a top-up. Judged by the kernel counters of the client's and the uplink host's interfaces.

use std::time::Duration;
use turnpike_firmware::gate::{Gate, Watcher, WatcherEvent};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::figure::Figure;
use turnpike_tests::lab::{Lab, Plan, Stream, StreamKind};

const CUTS: usize = 100;
/// Paid before each cut: long enough for TCP to be at its full rate again.
const TOP_UP: u64 = 8_000_000;
/// Longest time without a byte before a flow counts as cut. Above TCP's retransmissions after a short cut, so that
/// what it still sends in smaller segments is not called stranded.
const QUIET_TCP: Duration = Duration::from_millis(1_200);
const QUIET_UDP: Duration = Duration::from_millis(250);
/// A flow that was not cut by then has stopped by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Segment offload off: packets of 1,500 bytes.
pub fn without_offload() -> Vec<Figure> {
    let worst = cut_offs(false);
    vec![
        unpaid("unpaid_bytes", &worst),
        stranded("stranded_bytes", &worst, 1_514.0, "<= 1514"),
    ]
}

/// Segment offload on: packets of up to 64 KiB.
pub fn with_offload() -> Vec<Figure> {
    let worst = cut_offs(true);
    vec![
        unpaid("unpaid_bytes_offload", &worst),
        stranded("stranded_bytes_offload", &worst, 65_549.0, "<= 65549"),
    ]
}

#[derive(Default)]
struct Worst {
    unpaid: u64,
    stranded: u64,
    cuts: usize,
    passed: u64,
}

fn unpaid(name: &str, worst: &Worst) -> Figure {
    let note = format!(
        "worst of {} cut-offs, {} MB passed",
        worst.cuts,
        worst.passed / 1_000_000
    );
    Figure::new(name, worst.unpaid as f64, "bytes", "limit", 0.0, "0", note)
}

fn stranded(name: &str, worst: &Worst, limit: f64, goal: &str) -> Figure {
    let note = format!(
        "worst of {} cut-offs: TCP and UDP, IPv4 and IPv6, both ways, full rate",
        worst.cuts
    );
    Figure::new(name, worst.stranded as f64, "bytes", "limit", limit, goal, note)
}

fn cut_offs(offload: bool) -> Worst {
    let lab = Lab::new(Plan {
        offload,
        ..Plan::default()
    });
    lab.relay().within(|| {
        let mut gate = lab.open_gate();
        let mut watcher = Watcher::open().expect("the kernel's notes");
        lab.settled(0, QUIET_TCP, PATIENCE);
        let (mut worst, kinds) = (Worst::default(), StreamKind::all().count());
        for (i, kind) in StreamKind::all().enumerate() {
            // 100 over eight kinds of flow: the first four get one more.
            let cuts = CUTS / kinds + usize::from(i < CUTS % kinds);
            flow(&lab, &mut gate, &mut watcher, kind, cuts, &mut worst);
        }
        gate.close().expect("the gate closes");
        worst
    })
}

fn flow(lab: &Lab, gate: &mut Gate, watcher: &mut Watcher, kind: StreamKind, cuts: usize, worst: &mut Worst) {
    let slot = lab.slot(0);
    let quiet = if kind.tcp { QUIET_TCP } else { QUIET_UDP };
    gate.attach(slot, lab.binding(0)).expect("a client is attached");
    let before = lab.forwarded(0);
    let mut paid = TOP_UP;
    gate.grant(slot, ByteCount::new(paid))
        .expect("a client is granted");
    let stream = Stream::start(lab, 0, kind);
    for cut in 0..cuts {
        let notes = watcher.wait(PATIENCE).expect("the kernel's notes");
        assert!(
            notes.contains(&WatcherEvent::UsedUp(slot)),
            "{kind:?}, cut {cut}: the credit was not used up"
        );
        let passed = lab.settled(0, quiet, PATIENCE) - before;
        worst.unpaid = worst.unpaid.max(passed.saturating_sub(paid));
        worst.stranded = worst.stranded.max(paid.saturating_sub(passed));
        worst.cuts += 1;
        paid += TOP_UP;
        watcher.drain().expect("the kernel's notes");
        if cut + 1 < cuts {
            gate.grant(slot, ByteCount::new(paid))
                .expect("a client is granted");
        }
    }
    worst.passed += lab.forwarded(0) - before;
    stream.stop();
    gate.detach(slot).expect("a client is detached");
    lab.settled(0, QUIET_UDP, PATIENCE);
    watcher.drain().expect("the kernel's notes");
}
