//! The end of credit: no unpaid byte passes, and at most one packet of paid ones is stranded. Judged by the kernel
//! counters of the client's and the uplink host's interfaces, never by the gate's own.

use std::time::Duration;
use turnpike_firmware::gate::{Watcher, WatcherEvent};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Lab, Plan, Stream, StreamKind};

/// What is paid after each cut.
const TOP_UP: u64 = 200_000;

/// Longest time without a byte before a flow counts as cut: above TCP's retransmissions after a short cut.
const QUIET: Duration = Duration::from_millis(1_200);

fn every_flow_is_cut_at_its_last_paid_byte(rate_kbit: Option<u32>, offload: bool, first: u64) {
    let lab = Lab::new(Plan {
        rate_kbit,
        offload,
        ..Plan::default()
    });
    // One packet: the MTU, or the largest that segment offload builds (64 KiB less one, with its headers).
    let packet: u64 = if offload { 65_549 } else { 1_500 };
    lab.relay().within(|| {
        let mut gate = lab.open_gate();
        let mut watcher = Watcher::open().unwrap();
        lab.settled(0, QUIET, Duration::from_secs(5));
        for kind in StreamKind::all() {
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            let before = lab.forwarded(0);
            let (near, far) = (lab.client(0).counters(Lab::ETH), lab.uplink().counters(Lab::ETH));
            let mut paid = first;
            gate.grant(lab.slot(0), ByteCount::new(paid)).unwrap();
            let stream = Stream::start(&lab, 0, kind);
            for round in 0..2 {
                // A note comes when the last byte is spent; a TCP flow may need its retransmission timer first.
                let events = watcher.wait(Duration::from_secs(20)).unwrap();
                assert!(
                    events.contains(&WatcherEvent::UsedUp(lab.slot(0))),
                    "{kind:?} round {round}: no note"
                );
                let passed = lab.settled(0, QUIET, Duration::from_secs(20)) - before;
                let figure = format!("{kind:?} round {round}: {passed} passed of {paid} paid");
                println!("{figure}");
                assert!(passed <= paid, "unpaid bytes: {figure}");
                assert!(
                    passed + packet >= paid,
                    "more than a packet is stranded: {figure}"
                );
                let reading = gate.read_one(lab.slot(0)).unwrap();
                assert_eq!(
                    reading.passed().value(),
                    passed,
                    "billed is what was forwarded: {figure}"
                );
                assert!(reading.exhausted, "{figure}");
                paid += TOP_UP;
                watcher.drain().unwrap();
                gate.grant(lab.slot(0), ByteCount::new(paid)).unwrap();
            }
            let arrived = if kind.down {
                lab.client(0).counters(Lab::ETH).since(near)
            } else {
                lab.uplink().counters(Lab::ETH).since(far)
            };
            let large = arrived.rx_layer3() > arrived.rx_packets * 1_500;
            assert_eq!(
                large,
                offload && kind.tcp,
                "{kind:?}: offload is as the test says: {arrived:?}"
            );
            stream.stop();
            gate.detach(lab.slot(0)).unwrap();
            lab.settled(0, Duration::from_millis(300), Duration::from_secs(5));
            watcher.drain().unwrap();
        }
        gate.close().unwrap();
    });
}

in_lab! {
    fn at_one_megabit_per_second_without_offload() {
        every_flow_is_cut_at_its_last_paid_byte(Some(1_000), false, 60_000);
    }

    fn at_one_megabit_per_second_with_offload() {
        every_flow_is_cut_at_its_last_paid_byte(Some(1_000), true, 150_000);
    }

    fn at_full_rate_without_offload() {
        every_flow_is_cut_at_its_last_paid_byte(None, false, 20_000_000);
    }

    fn at_full_rate_with_offload() {
        every_flow_is_cut_at_its_last_paid_byte(None, true, 20_000_000);
    }
}
