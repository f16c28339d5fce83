use super::*;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use tokio::sync::mpsc;
use turnpike_protocol::base::{ByteCount, FeeRate, Msat, NodeId, Outpoint, Sat, Txid};

const NODE: &str = "11111111111111111111111111111111111111111111111111111111111111ff";

fn node() -> Hex<NodeId> {
    NODE.parse().unwrap()
}

/// A daemon of one thread on a socket of its own, which does with each order what `answer` says.
struct Daemon {
    folder: tempfile::TempDir,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Daemon {
    fn start(mut answer: impl FnMut(Order) + Send + 'static) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (server, mut orders) = ControlServer::bind(&path).unwrap();
                let server = tokio::spawn(server.run());
                ready.send(()).unwrap();
                loop {
                    tokio::select! {
                        order = orders.recv() => answer(order.unwrap()),
                        _ = &mut stopped => break,
                    }
                }
                drop(orders);
                server.await.unwrap();
            });
        });
        wait.recv().unwrap();
        Daemon {
            folder,
            thread: Some(thread),
            stop: Some(stop),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    fn ask(&self, request: Request) -> Vec<Message> {
        let client = ControlClient::connect(&self.path()).unwrap();
        client.request(request).unwrap().map(Result::unwrap).collect()
    }

    /// What comes back for raw bytes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.path()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().unwrap().join());
    }
}

fn echo(order: Order) {
    order.responder.finish(Ok(Response::Address {
        address: format!("{:?}", order.request),
    }));
}

#[test]
fn every_request_has_a_stable_name_and_comes_back_the_same() {
    let target = Some(Target {
        node: Some(node()),
        address: Some("10.0.0.1:9735".into()),
    });
    let requests = [
        (Request::Status, json!("status")),
        (
            Request::Discover { seconds: 3 },
            json!({"discover": {"seconds": 3}}),
        ),
        (
            Request::Connect {
                address: "relay:7337".into(),
                relay: Some(node()),
            },
            json!({"connect": {"address": "relay:7337", "relay": NODE}}),
        ),
        (Request::PriceShow, json!("price_show")),
        (
            Request::PriceSet(PriceChange {
                up_msat_per_mib: Some(Msat::new(7)),
                ..Default::default()
            }),
            json!({"price_set": {
                "up_msat_per_mib": 7, "down_msat_per_mib": null, "msat_per_second": null, "free_bytes": null,
                "free_total_bytes": null, "window_min_bytes": null, "window_max_bytes": null,
            }}),
        ),
        (
            Request::Quote {
                relay: None,
                capacity_sat: Some(Sat::new(50_000)),
                lifetime_blocks: None,
            },
            json!({"quote": {"relay": null, "capacity_sat": 50_000, "lifetime_blocks": null}}),
        ),
        (
            Request::Open {
                relay: target.clone(),
                capacity_sat: None,
                lifetime_blocks: Some(1_008),
            },
            json!({"open": {
                "relay": {"node": NODE, "address": "10.0.0.1:9735"}, "capacity_sat": null, "lifetime_blocks": 1_008,
            }}),
        ),
        (
            Request::Buy {
                relay: target,
                bytes: Some(ByteCount::new(1 << 20)),
                max_sat: Sat::new(20),
                auto: true,
                capacity_sat: None,
                lifetime_blocks: None,
            },
            json!({"buy": {
                "relay": {"node": NODE, "address": "10.0.0.1:9735"}, "bytes": 1_048_576, "max_sat": 20, "auto": true,
                "capacity_sat": null, "lifetime_blocks": null,
            }}),
        ),
        (
            Request::StopBuying { relay: None },
            json!({"stop_buying": {"relay": null}}),
        ),
        (Request::ChannelList, json!("channel_list")),
        (
            Request::ChannelClose {
                which: Which::Slot(4),
                wait_seconds: 0,
            },
            json!({"channel_close": {"which": {"slot": 4}, "wait_seconds": 0}}),
        ),
        (
            Request::ChannelClose {
                which: Which::All,
                wait_seconds: 9,
            },
            json!({"channel_close": {"which": "all", "wait_seconds": 9}}),
        ),
        (
            Request::ChannelRaiseFee {
                slot: 4,
                sat_per_kvb: FeeRate::new(3_000),
            },
            json!({"channel_raise_fee": {"slot": 4, "sat_per_kvb": 3_000}}),
        ),
        (Request::WalletAddress, json!("wallet_address")),
        (Request::WalletBalance, json!("wallet_balance")),
        (
            Request::WalletSend {
                address: "bcrt1q".into(),
                amount_sat: Sat::new(5),
                sat_per_kvb: None,
            },
            json!({"wallet_send": {"address": "bcrt1q", "amount_sat": 5, "sat_per_kvb": null}}),
        ),
        (
            Request::ReceiptList { skip: 0, limit: 10 },
            json!({"receipt_list": {"skip": 0, "limit": 10}}),
        ),
        (Request::Exposure, json!("exposure")),
        (Request::ClientList, json!("client_list")),
        (
            Request::ClientStand {
                client: node(),
                standing: Standing::Exempt,
            },
            json!({"client_stand": {"client": NODE, "standing": "exempt"}}),
        ),
        (Request::Sales { days: Some(2) }, json!({"sales": {"days": 2}})),
        (Request::RefundExport, json!("refund_export")),
        (
            Request::Backup {
                path: "/media/b".into(),
            },
            json!({"backup": {"path": "/media/b"}}),
        ),
        (Request::Doctor, json!("doctor")),
        (Request::Events, json!("events")),
    ];
    for (request, expected) in requests {
        assert_eq!(serde_json::to_value(&request).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Request>(expected).unwrap(), request);
    }
}

#[test]
fn a_request_may_leave_out_what_has_a_default_but_name_nothing_unknown() {
    let short = json!({"buy": {"max_sat": 20}});
    let Request::Buy {
        relay: None,
        bytes: None,
        auto: false,
        max_sat,
        ..
    } = serde_json::from_value(short).unwrap()
    else {
        panic!("no purchase");
    };
    assert_eq!(max_sat, Sat::new(20));
    assert!(serde_json::from_value::<Request>(json!({"buy": {"max_sat": 20, "max_msat": 1}})).is_err());
    assert!(serde_json::from_value::<Request>(json!({"buy": {"max_sat": -1}})).is_err());
    assert!(serde_json::from_value::<Request>(json!({"buy": {"max_sat": 1.5}})).is_err());
    let cleared = json!({"price_set": {"up_msat_per_mib": 3}});
    assert!(matches!(
        serde_json::from_value(cleared).unwrap(),
        Request::PriceSet(PriceChange {
            up_msat_per_mib: Some(_),
            down_msat_per_mib: None,
            ..
        })
    ));
}

#[test]
fn transaction_ids_stand_as_explorers_print_them() {
    let mut inner = [0; 32];
    inner[0] = 0xab;
    let text = "00000000000000000000000000000000000000000000000000000000000000ab";
    let txid = Txid::from_bytes(inner);
    assert_eq!(Hex(txid).to_string(), text);
    assert_eq!(text.parse::<Hex<Txid>>().unwrap().0, txid);
    let outpoint: Hex<Outpoint> = format!("{text}:3").parse().unwrap();
    assert_eq!(outpoint.0, Outpoint { txid, vout: 3 });
    for wrong in [
        "",
        "ab",
        &text[1..],
        &format!("{text}0"),
        "zz",
        &text.replace('a', "é"),
    ] {
        assert!(wrong.parse::<Hex<Txid>>().is_err(), "{wrong}");
    }
}

#[test]
fn a_relay_is_named_by_identity_address_or_both() {
    let both: Target = format!("{NODE}@[fe80::1%3]:7337").parse().unwrap();
    assert_eq!(
        both,
        Target {
            node: Some(node()),
            address: Some("[fe80::1%3]:7337".into())
        }
    );
    assert_eq!(both.to_string().parse::<Target>().unwrap(), both);
    assert_eq!(
        NODE.parse::<Target>().unwrap(),
        Target {
            node: Some(node()),
            address: None
        }
    );
    assert_eq!(
        "relay:1".parse::<Target>().unwrap(),
        Target {
            node: None,
            address: Some("relay:1".into())
        }
    );
    for wrong in [
        "",
        "relay",
        "relay:",
        ":1",
        "relay:70000",
        "relay:0",
        &format!("{NODE}@relay"),
        "ab@relay:1",
    ] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}

#[test]
fn an_answer_follows_its_progress_and_the_connection_ends() {
    let daemon = Daemon::start(|order| {
        assert_eq!(order.request, Request::Discover { seconds: 2 });
        for n in 0..3 {
            order
                .responder
                .progress(Progress::Step { text: n.to_string() })
                .unwrap();
        }
        order.responder.finish(Ok(Response::Relays { relays: vec![] }));
    });
    let step = |n: &str| Message::Progress(Progress::Step { text: n.into() });
    let expected = vec![
        step("0"),
        step("1"),
        step("2"),
        Message::Done(Response::Relays { relays: vec![] }),
    ];
    assert_eq!(daemon.ask(Request::Discover { seconds: 2 }), expected);
}

#[test]
fn lines_on_the_wire_are_as_the_page_says() {
    let daemon = Daemon::start(|order| match order.request {
        Request::Status => order.responder.finish(Err(Failed::refused("no\nmoney", "wait"))),
        _ => order
            .responder
            .finish(Ok(Response::Address { address: "a".into() })),
    });
    assert_eq!(
        daemon.raw(b"{\"version\":1,\"request\":\"status\"}\n"),
        "{\"failed\":{\"reason\":\"refused\",\"error\":\"no money\",\"remedy\":\"wait\"}}\n"
    );
    assert_eq!(
        daemon.raw(b"{\"version\":1,\"request\":\"wallet_address\"}\n"),
        "{\"done\":{\"address\":{\"address\":\"a\"}}}\n"
    );
}

#[test]
fn garbage_and_strangers_are_told_what_is_wrong_and_others_are_served_on() {
    let daemon = Daemon::start(echo);
    for (bytes, says) in [
        (&b"hello\n"[..], "cannot be read"),
        (b"\n", "cannot be read"),
        (b"\xff\xfe\n", "cannot be read"),
        (b"{\"version\":1,\"request\":\"fly\"}\n", "fly"),
        (b"{\"version\":2,\"request\":{\"fly\":1}}\n", "version 1"),
        (b"{\"request\":\"status\"}\n", "version"),
    ] {
        let answer = daemon.raw(bytes);
        let message: Message = serde_json::from_str(&answer).unwrap();
        let Message::Failed(failed) = message else {
            panic!("{answer}")
        };
        assert_eq!(failed.reason, Reason::Usage);
        assert!(failed.to_string().contains(says), "{failed}");
        assert!(!failed.remedy.is_empty());
    }
    assert_eq!(daemon.ask(Request::Status).len(), 1);
}

#[test]
fn an_oversized_request_is_refused_before_it_is_read_to_its_end() {
    let daemon = Daemon::start(echo);
    let mut stream = UnixStream::connect(daemon.path()).unwrap();
    stream.write_all(&vec![b'['; MAX_REQUEST]).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("longer than 16384 bytes"), "{answer}");
    // The longest that is taken.
    let mut longest = b"{\"version\":1,\"request\":\"status\"".to_vec();
    longest.resize(MAX_REQUEST - 2, b' ');
    longest.extend_from_slice(b"}\n");
    assert!(daemon.raw(&longest).contains("Status"));
}

#[test]
fn the_daemon_notices_that_its_user_went_away() {
    let (told, gone) = std::sync::mpsc::channel();
    let daemon = Daemon::start(move |order| {
        let told = told.clone();
        tokio::spawn(async move {
            order
                .responder
                .progress(Progress::Step { text: "begun".into() })
                .unwrap();
            order.responder.gone().await;
            assert!(order.responder.is_gone());
            assert_eq!(
                order.responder.progress(Progress::Step { text: "on".into() }),
                Err(Gone)
            );
            told.send(()).unwrap();
        });
    });
    let client = ControlClient::connect(&daemon.path()).unwrap();
    let mut messages = client.request(Request::Events).unwrap();
    assert!(matches!(messages.next(), Some(Ok(Message::Progress(_)))));
    drop(messages);
    gone.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
}

#[test]
fn a_reader_who_does_not_read_holds_nothing_up_and_learns_what_it_missed() {
    let sent = 20_000u64;
    let (told, held) = std::sync::mpsc::channel();
    let daemon = Daemon::start(move |order| {
        for _ in 0..sent {
            order
                .responder
                .progress(Progress::Step {
                    text: "x".repeat(100),
                })
                .unwrap();
        }
        order.responder.finish(Ok(Response::Checks { checks: vec![] }));
        told.send(()).unwrap();
    });
    let client = ControlClient::connect(&daemon.path()).unwrap();
    let messages = client.request(Request::Doctor).unwrap();
    held.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
    let (mut steps, mut missed, mut done) = (0, 0, 0);
    for message in messages {
        match message.unwrap() {
            Message::Progress(Progress::Missed { lines }) => missed += lines,
            Message::Progress(_) => steps += 1,
            Message::Done(_) => done += 1,
            Message::Failed(failed) => panic!("{failed}"),
        }
    }
    assert!(missed > 0);
    assert_eq!((steps + missed, done), (sent, 1));
}

#[test]
fn an_order_that_nobody_answers_is_an_error_and_not_silence() {
    let daemon = Daemon::start(drop);
    let [Message::Failed(failed)] = &daemon.ask(Request::Status)[..] else {
        panic!("no failure")
    };
    assert_eq!(failed.reason, Reason::Daemon);
}

#[test]
fn too_many_connections_are_refused_with_a_reason_and_places_come_free() {
    let daemon = Daemon::start(echo);
    let idle: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| UnixStream::connect(daemon.path()).unwrap())
        .collect();
    let refused = daemon.ask(Request::Status);
    assert!(
        matches!(&refused[..], [Message::Failed(f)] if f.to_string().contains("32 programs")),
        "{refused:?}"
    );
    drop(idle);
    for _ in 0..100 {
        if matches!(daemon.ask(Request::Status)[..], [Message::Done(_)]) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("places never came free");
}

#[test]
fn the_socket_is_for_its_owner_alone_and_goes_away_with_the_daemon() {
    let daemon = Daemon::start(echo);
    let path = daemon.path();
    assert_eq!(
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let mut lock = path.clone().into_os_string();
    lock.push(".lock");
    assert_eq!(
        PathBuf::from(lock).metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let folder = daemon.folder.path().to_owned();
    assert!(folder.join(SOCKET).exists());
    let mut daemon = daemon;
    drop(daemon.stop.take());
    daemon.thread.take().unwrap().join().unwrap();
    assert!(!folder.join(SOCKET).exists());
    assert!(matches!(
        ControlClient::connect(&path),
        Err(ClientError::NotRunning { .. })
    ));
    // For Drop.
    daemon.thread = Some(std::thread::spawn(|| {}));
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start(echo);
    let error = runtime().block_on(async { ControlServer::bind(&daemon.path()).unwrap_err() });
    assert!(matches!(error, BindError::Running { .. }));
    assert!(error.to_string().contains("already running"), "{error}");
    assert_eq!(daemon.ask(Request::Status).len(), 1);
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced_but_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SOCKET);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a listener of std leaves its file behind, as a killed daemon does"
    );
    assert!(matches!(
        ControlClient::connect(&path),
        Err(ClientError::NotRunning { .. })
    ));
    runtime().block_on(async {
        let (server, _orders) = ControlServer::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(server);
    });
    std::fs::write(&path, "a file").unwrap();
    let error = runtime().block_on(async { ControlServer::bind(&path).unwrap_err() });
    assert!(matches!(error, BindError::Occupied { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    let long = folder.path().join("x".repeat(120));
    let error = runtime().block_on(async { ControlServer::bind(&long).unwrap_err() });
    assert!(matches!(error, BindError::TooLong { .. }), "{error}");
    let nowhere = folder.path().join("no/such/folder");
    let error = runtime().block_on(async { ControlServer::bind(&nowhere).unwrap_err() });
    assert!(matches!(error, BindError::Io { .. }), "{error}");
}

#[test]
fn errors_of_the_project_split_into_what_happened_and_what_to_do() {
    let failed = Failed::from_error("no open channel to this relay: open one first");
    assert_eq!(
        (failed.error.as_str(), failed.remedy.as_str()),
        ("no open channel to this relay", "open one first")
    );
    assert_eq!(
        failed.to_string(),
        "no open channel to this relay: open one first"
    );
    assert_eq!(Failed::from_error("just so").to_string(), "just so");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The receiver must be kept for the server to run.
#[test]
fn the_server_ends_when_nobody_takes_orders() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (server, orders): (ControlServer, mpsc::Receiver<Order>) =
            ControlServer::bind(&folder.path().join(SOCKET)).unwrap();
        drop(orders);
        tokio::time::timeout(std::time::Duration::from_secs(5), server.run())
            .await
            .unwrap();
        assert!(!folder.path().join(SOCKET).exists());
    });
}

/// One line for each answer, step, event and reason there is.
#[test]
fn every_answer_has_stable_names() {
    let golden = include_str!("golden.jsonl");
    assert_eq!(golden.lines().count(), 21 + 4 + 7 + 8 + 20 + 3);
    for line in golden.lines() {
        let message: Message = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(serde_json::to_string(&message).unwrap(), line);
    }
}
