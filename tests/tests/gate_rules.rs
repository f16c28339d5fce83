//! Whom the gate lets through, and whom not; judged by what arrives.

use turnpike_firmware::gate::{Gate, GateError};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Flow, Lab, Plan};

const MIB: u64 = 1 << 20;

in_lab! {
    fn an_unpaid_client_passes_nothing_and_a_paid_one_both_families() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            Gate::check().expect("everything that a gate needs is there");
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            for flow in [Flow::udp4(0), Flow::udp6(0)] {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 0, "{flow:?} before payment");
            }
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            for flow in [Flow::udp4(0), Flow::udp6(0)] {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 20, "{flow:?} after payment");
            }
            let reading = gate.detach(lab.slot(0)).unwrap();
            assert_eq!(reading.up, ByteCount::new(20 * 1_028 + 20 * 1_048));
            for flow in [Flow::udp4(0), Flow::udp6(0)] {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 0, "{flow:?} after detach");
            }
            assert!(matches!(gate.read_one(lab.slot(0)), Err(GateError::UnknownClient(_))));
        });
    }
}
