//! Opening, closing, crashing: what the gate needs, leaves and finds again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;
use turnpike_firmware::gate::{
    Gate, GateError, GatePlan, Meter, MeterPlan, Prefix, Watcher, mac_of, neighbours,
};
use turnpike_protocol::base::ByteCount;
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Dialogue, Flow, Lab, Plan, Stream, StreamKind, deliver};

const HOLDER: &str = env!("CARGO_BIN_EXE_gate_holder");

in_lab! {
    fn closing_leaves_the_ruleset_as_it_was() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let relay = lab.relay();
            relay.run("nft add table inet owners_own");
            relay.run("nft add chain inet owners_own c { type filter hook forward priority 0 ; }");
            relay.run("nft add rule inet owners_own c counter accept");
            let before = relay.run("nft -s list ruleset");
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(1 << 20)).unwrap();
            assert_ne!(relay.run("nft -s list ruleset"), before);
            gate.close().unwrap();
            assert_eq!(relay.run("nft -s list ruleset"), before);
        });
    }

    fn after_kill_9_credit_goes_on_and_ends_where_it_was_paid_to() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let (mac, ip) = (lab.client_mac(0), lab.client4(0).to_string());
            let mut holder = lab.relay().command(HOLDER);
            holder.args(["hold", Lab::GUEST, Lab::UP, &mac, &ip, "12800"]).stdout(Stdio::piped());
            let mut holder = holder.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            assert_eq!(lab.sent_through(Flow::udp4(0), 30, 100), 30);
            holder.kill().unwrap();
            holder.wait().unwrap();

            assert_eq!(lab.sent_through(Flow::udp4(0), 30, 100), 30, "paid bytes pass without a daemon");
            assert_eq!(lab.sent_through(Flow::udp6(0), 5, 100), 0, "unpaid ones do not");
            let (mut gate, survivors) = Gate::open(lab.gate_plan()).unwrap();
            let [survivor] = &survivors[..] else { panic!("one client survives: {survivors:?}") };
            assert_eq!(survivor.reading.client, lab.slot(0));
            assert_eq!(survivor.reading.up, ByteCount::new(60 * 128));
            assert_eq!(survivor.left, ByteCount::new(40 * 128));
            let binding = survivor.binding.clone().unwrap();
            assert_eq!((binding.mac.to_string(), binding.ipv4), (mac, Some(lab.client4(0))));

            gate.attach(lab.slot(0), binding).expect("the same binding goes on");
            assert_eq!(lab.sent_through(Flow::udp4(0), 60, 100), 40, "to the byte");
            // The used-up quota survives a second crash, and the total that was paid is granted again.
            drop(gate);
            let (mut gate, survivors) = Gate::open(lab.gate_plan()).unwrap();
            assert_eq!(survivors[0].left, ByteCount::ZERO);
            gate.grant(lab.slot(0), ByteCount::new(110 * 128)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 60, 100), 10);
            assert_eq!(gate.detach(lab.slot(0)).unwrap().passed(), ByteCount::new(110 * 128));
            gate.close().unwrap();
            assert!(lab.relay().run("nft list ruleset").is_empty());
        });
    }

    fn a_download_goes_on_after_a_crash_a_new_attachment_and_a_restart() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let open = || Gate::open(lab.gate_plan()).unwrap().0;
            let attach = |gate: &mut Gate, slot: usize| {
                gate.attach(lab.slot(slot), lab.binding(0)).unwrap();
                gate.grant(lab.slot(slot), ByteCount::new(1 << 20)).unwrap();
            };
            let mut gate = open();
            attach(&mut gate, 0);
            let flows = [lab.client4(0).into(), lab.client6(0).into()].map(|source| Dialogue::new(&lab, 0, source));
            assert!(flows.iter().all(Dialogue::asks));
            // From here on the client is silent: what counts is whether it is reached.
            let reached = |when: &str| assert!(flows.iter().all(Dialogue::answers), "{when}");
            reached("at first");
            drop(gate);
            reached("while no daemon runs");
            let mut gate = open();
            reached("in the table that survived");
            gate.detach(lab.slot(0)).unwrap();
            assert!(flows.iter().all(|f| !f.answers()), "detached");
            attach(&mut gate, 1);
            reached("attached again");
            gate.close().unwrap();
            let mut gate = open();
            assert!(flows.iter().all(|f| !f.answers()), "a new gate is shut");
            attach(&mut gate, 0);
            reached("after a restart");
        });
    }

    fn nothing_unpaid_passes_while_a_surviving_table_is_taken_over() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(100_000)).unwrap();
            lab.settled(0, Duration::from_millis(300), Duration::from_secs(5));
            let before = lab.forwarded(0);
            let kind = StreamKind { ipv6: false, tcp: false, down: false };
            let stream = Stream::start(&lab, 0, kind);
            for _ in 0..20 {
                drop(gate);
                (gate, _) = Gate::open(lab.gate_plan()).unwrap();
                gate.refresh().unwrap();
            }
            stream.stop();
            let passed = lab.settled(0, Duration::from_millis(300), Duration::from_secs(5)) - before;
            assert!((98_500..=100_000).contains(&passed), "{passed} passed of 100000");
            assert_eq!(gate.read_one(lab.slot(0)).unwrap().passed().value(), passed);
        });
    }

    fn what_is_missing_is_said_with_its_remedy_before_anything_is_changed() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            Gate::check().expect("the lab's relay has everything");
            let no_such = GatePlan { guests: vec!["nosuch0".parse().unwrap()], ..lab.gate_plan() };
            let refusal = Gate::open(no_such).unwrap_err();
            assert!(refusal.to_string().contains("nosuch0"), "{refusal}");

            for (sysctl, path) in [
                ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
                ("net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"),
            ] {
                std::fs::write(path, "0").unwrap();
                let text = Gate::check().unwrap_err().to_string();
                assert!(text.contains(&format!("sysctl -w {sysctl}=1")), "{text}");
                std::fs::write(path, "1").unwrap();
            }

            // A user namespace of its own has no rights over this network.
            let output = lab.relay().try_run(&format!("unshare --user {HOLDER} check"));
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("CAP_NET_ADMIN") && text.lines().count() == 1, "{text}");
            assert_eq!(output.status.code(), Some(2));

            for nft in ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/bin/nft", "/usr/local/sbin/nft"] {
                if std::path::Path::new(nft).exists() {
                    lab.relay().try_run(&format!("mount --bind /dev/null {nft}"));
                }
            }
            let text = lab.relay().try_run(&format!("env PATH=/usr/bin {HOLDER} check")).stderr;
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains("install the package nftables"), "{text}");
        });
    }

    fn a_reading_that_fails_is_an_error_and_never_zero() {
        let lab = Lab::new(Plan::default());
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            lab.relay().run("nft delete table inet turnpike");
            assert!(matches!(gate.read(), Err(GateError::TableGone)));
            assert!(matches!(gate.read_one(lab.slot(0)), Err(GateError::TableGone)));
            assert!(matches!(gate.grant(lab.slot(0), ByteCount::new(1)), Err(GateError::TableGone)));
            lab.relay().run("nft add table inet turnpike");
            assert!(matches!(Gate::open(lab.gate_plan()), Err(GateError::ForeignTable(_))));
        });
        let lab_relay = lab.relay();
        lab_relay.run("nft delete table inet turnpike");
        lab_relay.within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(1 << 20)).unwrap();
            lab.sent_through(Flow::udp4(0), 3, 100);
            gate.read().unwrap();
            lab_relay.run("nft reset counters table inet turnpike");
            assert!(matches!(gate.read(), Err(GateError::CounterReset(_))));
        });
    }

    fn a_binding_that_nft_cannot_close_stands_and_is_counted_to_the_byte_once_it_can() {
        let lab = Lab::new(Plan::default());
        let programs: Vec<&str> = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/bin/nft", "/usr/local/sbin/nft"]
            .into_iter()
            .filter(|nft| std::path::Path::new(nft).exists())
            .collect();
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(100 * 128)).unwrap();
            assert_eq!(lab.sent_through(Flow::udp4(0), 30, 100), 30);
            programs.iter().for_each(|nft| drop(lab.relay().try_run(&format!("mount --bind /dev/null {nft}"))));
            for _ in 0..3 {
                assert!(gate.detach(lab.slot(0)).is_err());
            }
            // Still paid for, so it passes, and is counted.
            assert_eq!(lab.sent_through(Flow::udp4(0), 10, 100), 10);
            assert_eq!(gate.read_one(lab.slot(0)).unwrap().passed(), ByteCount::new(40 * 128));
            programs.iter().rev().for_each(|nft| drop(lab.relay().try_run(&format!("umount {nft}"))));
            assert_eq!(gate.detach(lab.slot(0)).unwrap().passed(), ByteCount::new(40 * 128));
            assert_eq!(lab.sent_through(Flow::udp4(0), 10, 100), 0);
        });
    }

    fn the_watcher_sleeps_until_credit_is_used_up() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().within(|| {
            let mut gate = lab.open_gate();
            for i in 0..2 {
                gate.attach(lab.slot(i), lab.binding(i)).unwrap();
                gate.grant(lab.slot(i), ByteCount::new(10 * 128)).unwrap();
            }
            let mut watcher = Watcher::open().unwrap();
            lab.sent_through(Flow::udp4(0), 5, 100);
            assert_eq!(watcher.wait(Duration::from_millis(200)).unwrap(), []);
            for _ in 0..2 {
                lab.sent_through(Flow::udp4(1), 11, 100);
                let events = watcher.wait(Duration::from_secs(1)).unwrap();
                assert_eq!(events, [turnpike_firmware::gate::WatcherEvent::UsedUp(lab.slot(1))], "one note per grant");
                let readings = gate.read().unwrap();
                assert!(!readings[0].exhausted && readings[1].exhausted);
                gate.grant(lab.slot(1), ByteCount::new(20 * 128)).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut watcher = Watcher::open().unwrap().into_async().unwrap();
                let quiet = tokio::time::timeout(Duration::from_millis(100), watcher.next()).await;
                assert!(quiet.is_err(), "{quiet:?}");
                lab.sent_through(Flow::udp4(0), 6, 100);
                let told = tokio::time::timeout(Duration::from_secs(1), watcher.next()).await.unwrap().unwrap();
                assert_eq!(told, [turnpike_firmware::gate::WatcherEvent::UsedUp(lab.slot(0))]);
            });
        });
    }

    fn the_clients_meter_counts_what_the_relay_bills() {
        let lab = Lab::new(Plan::default());
        let mut gate = lab.relay().within(|| {
            let mut gate = lab.open_gate();
            gate.attach(lab.slot(0), lab.binding(0)).unwrap();
            gate.grant(lab.slot(0), ByteCount::new(1 << 30)).unwrap();
            gate
        });
        let plan = MeterPlan {
            interface: Lab::ETH.parse().unwrap(),
            relay: vec![Lab::RELAY4.into(), Lab::RELAY6.into(), Lab::RELAY_UP4.into(), Lab::RELAY_UP6.into()],
            on_link: vec![Prefix { address: Lab::RELAY4.into(), length: 24 }],
        };
        let mut meter = lab.client(0).within(|| Meter::open(&plan)).unwrap();
        // To the relay itself, in both families and to all of its addresses: not forwarded, not counted.
        for to in &plan.relay {
            assert_eq!(deliver(lab.client(0), lab.relay(), *to, None, 5, 500), 5, "{to}");
        }
        assert_eq!(meter.read().unwrap(), Default::default());
        for kind in StreamKind::all() {
            let stream = Stream::start(&lab, 0, kind);
            std::thread::sleep(Duration::from_millis(100));
            stream.stop();
        }
        lab.settled(0, Duration::from_millis(300), Duration::from_secs(5));
        let (own, billed) = (meter.read().unwrap(), lab.relay().within(|| gate.read_one(lab.slot(0))).unwrap());
        assert!(own.sent.value() > 1_000_000 && own.received.value() > 1_000_000, "{own:?}");
        assert_eq!((own.sent, own.received), (billed.up, billed.down));
        lab.client(0).within(|| meter.close()).unwrap();
        assert!(lab.client(0).run("nft list ruleset").is_empty());
    }

    fn the_device_behind_an_address_is_found() {
        let lab = Lab::new(Plan { clients: 2, ..Plan::default() });
        lab.relay().run("ip neigh flush nud permanent dev guest0");
        lab.relay().within(|| {
            let guest = Lab::GUEST.parse().unwrap();
            for i in 0..2 {
                assert_eq!(mac_of(&guest, lab.client4(i).into()).unwrap(), None);
                deliver(lab.relay(), lab.client(i), lab.client4(i).into(), None, 1, 10);
                deliver(lab.relay(), lab.client(i), lab.client6(i).into(), None, 1, 10);
                let mac = Some(lab.client_mac(i).parse().unwrap());
                assert_eq!(mac_of(&guest, lab.client4(i).into()).unwrap(), mac);
                assert_eq!(mac_of(&guest, lab.client6(i).into()).unwrap(), mac);
            }
            assert!(neighbours(&Lab::UP.parse().unwrap()).unwrap().iter().all(|n| n.address != lab.client4(0)));
            assert!(matches!(neighbours(&"nosuch0".parse().unwrap()), Err(GateError::NoInterface(_))));
        });
    }
}
