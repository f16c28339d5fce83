//! Whom the gate lets through, and whom not; judged by what arrives.

use std::net::IpAddr;
use turnpike_firmware::gate::{Binding, Gate, GateError, Mac};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Dialogue, Flow, Lab, Plan, deliver};

const MIB: u64 = 1 << 20;

/// A gate in which every client of the lab is attached and has paid for plenty.
fn paid_gate(lab: &Lab) -> Gate {
    let mut gate = lab.open_gate();
    for i in 0..lab.clients() {
        gate.attach(lab.slot(i), lab.binding(i)).unwrap();
        gate.grant(lab.slot(i), ByteCount::new(100 * MIB)).unwrap();
    }
    gate
}

fn passed(gate: &mut Gate) -> u64 {
    gate.read().unwrap().iter().map(|r| r.passed().value()).sum()
}

in_lab! {
    fn an_unpaid_client_passes_nothing_and_a_paid_one_both_families() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            let flows = [Flow::udp4(0), Flow::udp6(0)];
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 0, "{flow:?} unknown");
            }
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 0, "{flow:?} before payment");
            }
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 20, "{flow:?} after payment");
            }
            let reading = gate.detach(lab.slot(0)).unwrap();
            assert_eq!(reading.up, ByteCount::new(20 * 1_028 + 20 * 1_048), "layer-3 bytes of what passed");
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 20, 1_000), 0, "{flow:?} after detach");
            }
            assert!(matches!(gate.read_one(lab.slot(0)), Err(GateError::UnknownClient(_))));
            gate.close().unwrap();
        });
    }

    fn ipv6_is_not_a_hole_for_a_client_bound_by_ipv4_alone() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), Binding { ipv6_prefix: None, ..lab.binding(0) }).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 5, 100), 5);
            assert_eq!(lab.sent_through(Flow::udp6(0), 5, 100), 0);
            // A single address of a shared /64 passes, its neighbours in the /64 do not.
            let single = vec![lab.client6(0)];
            gate.rebind(lab.slot(0), Binding { ipv6_prefix: None, ipv6: single, ..lab.binding(0) }).unwrap();
            assert_eq!(lab.sent_through(Flow::udp6(0), 5, 100), 5);
            lab.client(0).run("ip addr add fd77:0:0:10::9/64 dev eth0 nodad");
            let other: IpAddr = "fd77:0:0:10::9".parse().unwrap();
            let to = Lab::UPLINK6.into();
            assert_eq!(deliver(lab.client(0), lab.uplink(), to, Some(other), 5, 100), 0);
            assert_eq!(gate.read_one(lab.slot(0)).unwrap().up.value(), 5 * 128 + 5 * 148);
        });
    }

    fn a_spoofed_mac_or_address_passes_nothing_and_costs_the_victim_nothing() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            let (thief, victim) = (lab.client(1), lab.client(0));
            // The victim's addresses on the thief's device.
            thief.run(&format!("ip addr add {}/24 dev eth0", lab.client4(0)));
            thief.run(&format!("ip addr add {}/64 dev eth0 nodad", lab.client6(0)));
            let targets: [(IpAddr, IpAddr); 2] = [
                (lab.client4(0).into(), Lab::UPLINK4.into()),
                (lab.client6(0).into(), Lab::UPLINK6.into()),
            ];
            for (source, to) in targets {
                assert_eq!(deliver(thief, lab.uplink(), to, Some(source), 10, 500), 0, "address {source}");
            }
            // The victim's device address with other addresses.
            victim.run("ip link set eth0 down");
            thief.run(&format!("ip addr del {}/24 dev eth0", lab.client4(0)));
            thief.run(&format!("ip addr del {}/64 dev eth0", lab.client6(0)));
            thief.run(&format!("ip link set eth0 address {}", lab.client_mac(0)));
            for flow in [Flow::udp4(1), Flow::udp6(1)] {
                assert_eq!(lab.sent_through(flow, 10, 500), 0, "{flow:?} with a stolen MAC");
            }
            assert_eq!(passed(&mut gate), 0);
        });
    }

    fn a_flow_that_began_under_another_binding_is_looked_at_again() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            let mine = lab.binding(0);
            gate.attach(lab.slot(0), mine.clone()).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            for source in [IpAddr::from(lab.client4(0)), lab.client6(0).into()] {
                let flow = Dialogue::new(&lab, 0, source);
                assert_eq!([flow.asks(), flow.answers()], [true, true], "{source}");
                // Its credit moves to another address: the old flow is nobody's.
                let moved = Binding {
                    ipv4: Some([10, 77, 0, 99].into()),
                    ipv6_prefix: Some("fd99::".parse().unwrap()),
                    ..mine.clone()
                };
                gate.rebind(lab.slot(0), moved).unwrap();
                let before = passed(&mut gate);
                assert_eq!([flow.asks(), flow.answers()], [false, false], "{source}, moved away");
                // The address goes to another client, the slot with it: the first one's flow costs it nothing.
                gate.detach(lab.slot(0)).unwrap();
                let heir = Binding { mac: lab.binding(1).mac, ..mine.clone() };
                gate.attach(lab.slot(0), heir).unwrap();
                gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
                assert_eq!([flow.answers(), flow.asks(), flow.answers()], [false; 3], "{source}, inherited");
                assert_eq!(passed(&mut gate), 0, "{before} before");
                // Back where it was, it goes on, whoever speaks first.
                gate.rebind(lab.slot(0), mine.clone()).unwrap();
                assert_eq!([flow.answers(), flow.asks(), flow.answers()], [true; 3], "{source}, back again");
                gate.block(mine.mac).unwrap();
                assert_eq!([flow.asks(), flow.answers()], [false, false], "{source}, blocked");
                gate.charge(mine.mac).unwrap();
                assert_eq!([flow.asks(), flow.answers()], [true, true], "{source}, charged again");
            }
        });
    }

    fn nobody_inherits_a_flow_together_with_an_address_and_who_comes_back_has_it_again() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let sources = [IpAddr::from(lab.client4(0)), lab.client6(0).into()];
            let answered = |flows: &[Dialogue]| flows.iter().map(Dialogue::answers).collect::<Vec<_>>();
            // The owner's own rules have connections tracked. One pair of flows began before there was a gate, one
            // belongs to a client that left.
            lab.relay().run("nft add table inet owners_own");
            lab.relay().run("nft add chain inet owners_own c { type filter hook forward priority 0 ; }");
            lab.relay().run("nft add rule inet owners_own c ct state established counter");
            let unmarked = sources.map(|s| Dialogue::new(&lab, 0, s));
            assert!(unmarked.iter().all(|f| f.asks() && f.answers()), "the kernel forwards them");
            let mut gate = lab.open_gate();
            let mine = lab.binding(0);
            gate.attach(lab.slot(0), mine.clone()).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(MIB)).unwrap();
            let flows = sources.map(|s| Dialogue::new(&lab, 0, s));
            assert!(flows.iter().all(|f| f.asks() && f.answers()));
            gate.detach(lab.slot(0)).unwrap();
            // The heir has the addresses, its own device, a slot of its own, and even lets strangers in.
            for inbound in [false, true] {
                let heir = Binding { mac: lab.binding(1).mac, inbound, ..mine.clone() };
                gate.attach(lab.slot(1), heir).unwrap();
                gate.grant(lab.slot(1), ByteCount::new(MIB)).unwrap();
                assert_eq!(answered(&flows), [false; 2], "inbound: {inbound}");
                assert_eq!(answered(&unmarked), [false; 2], "began before the gate, inbound: {inbound}");
                assert_eq!(gate.detach(lab.slot(1)).unwrap().passed(), ByteCount::ZERO, "the heir pays nothing");
            }
            // Whoever left and comes back gets on with its downloads, in another slot, with an address more.
            let more = Binding { ipv6: vec!["fd99::9".parse().unwrap()], ..mine };
            gate.attach(lab.slot(1), more).unwrap();
            assert_eq!(answered(&flows), [false; 2], "nothing is granted yet");
            gate.grant(lab.slot(1), ByteCount::new(MIB)).unwrap();
            assert_eq!(answered(&flows), [true; 2], "back again");
            assert_eq!(gate.read_one(lab.slot(1)).unwrap().down.value(), 34 + 54);
            // What began before the gate waits for the client's next packet.
            assert_eq!(answered(&unmarked), [false; 2]);
            assert!(unmarked.iter().all(|f| f.asks() && f.answers()));
        });
    }

    fn nobody_from_outside_can_drain_a_clients_credit() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = paid_gate(&lab);
            let targets: [IpAddr; 2] = [lab.client4(0).into(), lab.client6(0).into()];
            for to in targets {
                assert_eq!(deliver(lab.uplink(), lab.client(0), to, None, 10, 500), 0, "unsolicited to {to}");
            }
            assert_eq!(passed(&mut gate), 0);
            let answers = lab.answered(0);
            assert_eq!(answers, [1, 1], "answers to what the client began arrive in both families");
            let before = passed(&mut gate);
            gate.rebind(lab.slot(0), Binding { inbound: true, ..lab.binding(0) }).unwrap();
            for to in targets {
                assert_eq!(deliver(lab.uplink(), lab.client(0), to, None, 10, 500), 10, "asked for: {to}");
            }
            assert_eq!(passed(&mut gate) - before, 10 * 528 + 10 * 548);
        });
    }

    fn guests_do_not_reach_each_other_through_the_relay() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            // The ports are isolated, so only the relay could carry it: send it there.
            lab.client(0).run("ip route add 10.77.0.11/32 via 10.77.0.1");
            let reached = || {
                [IpAddr::from(lab.client4(1)), IpAddr::from(lab.client6(1))]
                    .map(|to| deliver(lab.client(0), lab.client(1), to, None, 5, 100))
            };
            assert_eq!(reached(), [5, 5], "the kernel would forward it");
            let _gate = paid_gate(&lab);
            assert_eq!(reached(), [0, 0]);
        });
    }

    fn the_relays_own_traffic_is_neither_stopped_nor_billed() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            let pairs: [(IpAddr, IpAddr, IpAddr); 2] = [
                (Lab::UPLINK4.into(), Lab::RELAY4.into(), lab.client4(0).into()),
                (Lab::UPLINK6.into(), Lab::RELAY6.into(), lab.client6(0).into()),
            ];
            for (uplink, relay, client) in pairs {
                assert_eq!(deliver(lab.relay(), lab.uplink(), uplink, None, 5, 100), 5, "relay to {uplink}");
                assert_eq!(deliver(lab.client(0), lab.relay(), relay, None, 5, 100), 5, "client to {relay}");
                assert_eq!(deliver(lab.relay(), lab.client(0), client, None, 5, 100), 5, "relay to {client}");
            }
            assert_eq!(passed(&mut gate), 0);
        });
    }

    fn a_blocked_device_reaches_nothing_and_an_exempt_one_pays_nothing() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = paid_gate(&lab);
            let mac: Mac = lab.client_mac(0).parse().unwrap();
            let flows = [Flow::udp4(0), Flow::udp6(0)];
            gate.block(mac).unwrap();
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 5, 100), 0, "{flow:?} blocked");
            }
            assert_eq!(deliver(lab.client(0), lab.relay(), Lab::RELAY4.into(), None, 5, 100), 0, "relay when blocked");
            assert_eq!(deliver(lab.client(1), lab.relay(), Lab::RELAY4.into(), None, 5, 100), 5, "the other guest");
            gate.exempt(mac).unwrap();
            for flow in flows {
                assert_eq!(lab.sent_through(flow, 5, 100), 5, "{flow:?} exempt");
            }
            assert_eq!(lab.answered(0), [1, 1], "answers to an exempt device");
            assert_eq!(passed(&mut gate), 0, "exempt and blocked traffic is not billed");
            gate.charge(mac).unwrap();
            assert_eq!(lab.sent_through(flows[0], 5, 100), 5);
            assert_eq!(passed(&mut gate), 5 * 128);
        });
    }

    fn a_paused_client_passes_nothing_and_resumes_with_all_its_credit() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(10 * 128)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 4, 100), 4);
            gate.pause(lab.slot(0)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 9, 100), 0);
            gate.resume(lab.slot(0)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 9, 100), 6, "what was left of ten");
            // Many more were dropped than were ever paid for: a top-up still passes to the byte.
            assert_eq!(lab.sent_through(Flow::udp4(0), 50, 1_400), 0);
            gate.grant(lab.slot(0), ByteCount::new(12 * 128)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 9, 100), 2);
            gate.grant(lab.slot(0), ByteCount::new(12 * 128)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 9, 100), 0, "granting again gives nothing twice");
            // Moving the credit to another address keeps counters and limit.
            gate.grant(lab.slot(0), ByteCount::new(15 * 128)).unwrap();
            lab.client(0).run("ip addr replace 10.77.0.99/24 dev eth0");
            gate.rebind(lab.slot(0), Binding { ipv4: Some([10, 77, 0, 99].into()), ..lab.binding(0) }).unwrap();
            let moved = Some(IpAddr::from([10, 77, 0, 99]));
            assert_eq!(lab.sent_through(Flow::udp4(0), 9, 100), 0, "the old address");
            assert_eq!(deliver(lab.client(0), lab.uplink(), Lab::UPLINK4.into(), moved, 9, 100), 3);
            assert_eq!(passed(&mut gate), 15 * 128);
        });
    }

    fn slots_and_addresses_belong_to_one_client() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.attach(lab.slot(0), lab.binding(0)).expect("the same again changes nothing");
            assert!(matches!(gate.attach(lab.slot(0), lab.binding(1)), Err(GateError::SlotTaken(_))));
            let thief = Binding { ipv4: Some(lab.client4(0)), ..lab.binding(1) };
            assert!(matches!(gate.attach(lab.slot(1), thief), Err(GateError::AddressTaken { .. })));
            let inside = Binding { ipv6_prefix: None, ipv6: vec![lab.client6(0)], ..lab.binding(1) };
            assert!(matches!(gate.attach(lab.slot(1), inside), Err(GateError::AddressTaken { .. })));
            let elsewhere = Binding { interface: "up0".parse().unwrap(), ..lab.binding(1) };
            assert!(matches!(gate.attach(lab.slot(1), elsewhere), Err(GateError::NoInterface(_))));
            assert!(matches!(gate.grant(lab.slot(1), ByteCount::ZERO), Err(GateError::UnknownClient(_))));
        });
    }

    fn clients_whose_addresses_are_alike_are_told_apart() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            // Client 1 also has a /64 whose second word is that of client 0's, and one that spells client 0's IPv4.
            let twins: [&str; 2] = ["2001:db8:0:10::7", "2001:db8:a4d:a::7"];
            for twin in twins {
                lab.client(1).run(&format!("ip addr add {twin}/64 dev eth0 nodad"));
                lab.relay().run(&format!("ip -6 route add {twin}/128 dev guest0"));
                lab.relay().run(&format!("ip neigh replace {twin} lladdr {} dev guest0 nud permanent", lab.client_mac(1)));
                lab.uplink().run(&format!("ip -6 route add {twin}/128 via {}", Lab::RELAY_UP6));
            }
            let mut gate = lab.open_gate();
            for order in [[0, 1], [1, 0]] {
                for twin in twins {
                    let twin: std::net::Ipv6Addr = twin.parse().unwrap();
                    let bindings = [lab.binding(0), Binding { ipv6_prefix: Some(twin), ..lab.binding(1) }];
                    for i in order {
                        gate.attach(lab.slot(i), bindings[i].clone()).unwrap();
                        gate.grant(lab.slot(i), ByteCount::new(MIB)).unwrap();
                    }
                    let used = |gate: &mut Gate, i: usize| gate.read_one(lab.slot(i)).unwrap().passed().value();
                    for (i, source) in [(0, lab.client6(0)), (1, twin)] {
                        let before = [used(&mut gate, 0), used(&mut gate, 1)];
                        let (here, there) = (lab.client(i), lab.uplink());
                        assert_eq!(deliver(here, there, Lab::UPLINK6.into(), Some(source.into()), 5, 100), 5, "{source}");
                        let answers = lab.answered_at(i, source.into(), Lab::UPLINK6.into());
                        assert_eq!(answers, 1, "answer to {source}");
                        assert!(used(&mut gate, i) > before[i] + 5 * 148, "{source} is billed to its client");
                        assert_eq!(used(&mut gate, 1 - i), before[1 - i], "{source} costs nobody else");
                    }
                    assert_eq!(lab.sent_through(Flow::udp4(0), 5, 100), 5);
                    for i in order {
                        gate.detach(lab.slot(i)).unwrap();
                    }
                    assert_eq!(lab.sent_through(Flow::udp4(0), 5, 100), 0);
                }
            }
        });
    }

    fn an_interface_that_was_created_again_is_shut_until_the_gate_is_refreshed() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = paid_gate(&lab);
            assert_eq!(lab.sent_through(Flow::udp4(0), 5, 100), 5);
            let flows = [IpAddr::from(lab.client4(0)), lab.client6(0).into()].map(|s| Dialogue::new(&lab, 0, s));
            assert!(flows.iter().all(|f| f.asks() && f.answers()));
            lab.rebuild_guest_link();
            assert_eq!(lab.sent_through(Flow::udp4(0), 5, 100), 0, "a new interface under the old name");
            assert!(flows.iter().all(|f| !f.answers()), "towards a new interface under the old name");
            gate.refresh().unwrap();
            assert!(flows.iter().all(Dialogue::answers), "towards it after the refresh");
            for (flow, size) in [(Flow::udp4(0), 128), (Flow::udp6(0), 148)] {
                let before = passed(&mut gate);
                assert_eq!(lab.sent_through(flow, 5, 100), 5, "{flow:?} after the refresh");
                assert_eq!(passed(&mut gate) - before, 5 * size);
            }
        });
    }

    fn two_hundred_clients_are_told_apart_and_survive_a_crash() {
        let lab = Lab::new(Plan { clients: 1, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            for i in (0..200).rev() {
                gate.attach(lab.slot(i), lab.binding(i)).unwrap();
                gate.grant(lab.slot(i), ByteCount::new(MIB)).unwrap();
            }
            for flow in [Flow::udp4(0), Flow::udp6(0)] {
                assert_eq!(lab.sent_through(flow, 5, 100), 5);
            }
            drop(gate);
            let (mut gate, survivors) = Gate::open(lab.gate_plan()).unwrap();
            assert_eq!(survivors.len(), 200);
            for (i, survivor) in survivors.iter().enumerate() {
                assert_eq!(survivor.binding.as_ref(), Some(&lab.binding(i).canonical()), "client {i}");
            }
            for flow in [Flow::udp4(0), Flow::udp6(0)] {
                assert_eq!(lab.sent_through(flow, 5, 100), 5);
            }
            let readings = gate.read().unwrap();
            assert_eq!(readings[0].up.value(), 10 * 128 + 10 * 148);
            assert!(readings[1..].iter().all(|r| r.passed() == ByteCount::ZERO));
            gate.close().unwrap();
        });
    }
}
