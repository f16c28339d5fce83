//! The built `turnpike` against a daemon that answers by script: what people and scripts rely on.

use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use turnpike_firmware::control::*;
use turnpike_protocol::base::{BlockHeight, ByteCount, FeeRate, Msat, NodeId, Sat};

const RELAY: &str = "22222222222222222222222222222222222222222222222222222222222222ee";

/// A data folder with a daemon in it.
struct Daemon {
    folder: tempfile::TempDir,
    requests: Receiver<Request>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    fn start(answer: impl Fn(Request, Responder) + Send + 'static) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (ready, wait) = channel();
        let (seen, requests) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (server, mut orders) = ControlServer::bind(&path).unwrap();
                tokio::spawn(server.run());
                ready.send(()).unwrap();
                loop {
                    tokio::select! {
                        order = orders.recv() => {
                            let Order { request, responder } = order.unwrap();
                            let _ = seen.send(request.clone());
                            answer(request, responder);
                        }
                        _ = &mut stopped => break,
                    }
                }
            });
        });
        wait.recv().unwrap();
        Daemon {
            folder,
            requests,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn says(response: Response) -> Daemon {
        Daemon::start(move |_, responder| responder.finish(Ok(response.clone())))
    }

    fn run(&self, words: &[&str]) -> Output {
        turnpike(self.folder.path(), words, "")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

fn command(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command
        .args(words)
        .env_clear()
        .env("HOME", home)
        .current_dir(home);
    command
}

/// Runs it with this data folder and nothing of the machine's own configuration.
fn turnpike(folder: &Path, words: &[&str], input: &str) -> Output {
    let data = folder.to_str().unwrap();
    let config = folder.join("turnpike.toml");
    let all = [words, &["--data-dir", data, "--config", config.to_str().unwrap()]].concat();
    feed(command(folder, &all), input)
}

fn feed(mut command: Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child: Child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What stands on standard error, which must be one line that begins with the program's name.
fn error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("turnpike: ") && text.ends_with('\n'), "{text}");
    text
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn relay() -> Hex<NodeId> {
    RELAY.parse().unwrap()
}

fn prices() -> Prices {
    Prices {
        version: 1,
        valid_until_height: BlockHeight::new(2_000),
        up_msat_per_mib: Msat::new(50),
        down_msat_per_mib: Msat::new(60),
        msat_per_second: Msat::ZERO,
        free_bytes: ByteCount::ZERO,
        free_total_bytes: None,
        window_min_bytes: ByteCount::new(131_072),
        window_max_bytes: ByteCount::new(1 << 26),
        class: BindingClass::Address,
    }
}

fn quote(open_slot: Option<u32>) -> Quote {
    Quote {
        relay: relay(),
        open_slot,
        open_left_msat: Msat::ZERO,
        capacity_sat: Sat::new(50_000),
        lifetime_blocks: 1_008,
        locked_until_height: BlockHeight::new(812_345),
        height: BlockHeight::new(811_337),
        funding_fee_sat: Sat::new(311),
        settle_fee_sat: Sat::new(412),
        refund_fee_sat: Sat::new(276),
        dust_sat: Sat::new(330),
        fee_rate_sat_per_kvb: FeeRate::new(2_000),
        unconfirmed_msat: Msat::new(500_000),
        deep_blocks: 6,
        wallet_sat: Sat::new(90_000),
        prices: prices(),
    }
}

fn purchase(state: PurchaseState, cause: Option<StopCause>) -> Purchase {
    Purchase {
        relay: relay(),
        state,
        cause,
        refusal: None,
        ordered_bytes: Some(ByteCount::new(50 << 20)),
        used_bytes: ByteCount::new(25 << 20),
        left_bytes: ByteCount::new(1 << 20),
        spent_msat: Msat::new(1_500),
        max_msat: Msat::new(20_000),
        counted_bytes: ByteCount::ZERO,
        claimed_bytes: ByteCount::ZERO,
        cost_msat: Msat::ZERO,
        window_bytes: ByteCount::new(4 << 20),
        bytes_per_second: ByteCount::new(1_000_000),
    }
}

fn open_channel() -> Channel {
    Channel {
        slot: 7,
        channel: None,
        role: Role::Payer,
        peer: relay(),
        state: "open".into(),
        outcome: None,
        ended_at_height: None,
        capacity_sat: Sat::new(50_000),
        total_msat: Msat::ZERO,
        expiry_height: BlockHeight::new(812_345),
        settle_by_height: BlockHeight::new(812_237),
        outpoint: None,
        funded_at_height: None,
        spent_by: None,
        funding_fee_sat: Sat::new(311),
        ceiling_msat: Msat::ZERO,
    }
}

#[test]
fn a_daemon_that_does_not_run_is_one_line_that_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["status"][..],
        &["buy", "--max-sat", "5"],
        &["channel", "close", "--all"],
        &["--json", "wallet", "address"],
    ] {
        let output = turnpike(folder.path(), words, "");
        assert_eq!((status(&output), out(&output).as_str()), (1, ""), "{words:?}");
        let line = error(&output);
        assert!(
            line.contains("not running") && line.contains("start it with"),
            "{line}"
        );
    }
}

#[test]
fn wrong_usage_and_configuration_are_one_line_and_status_2() {
    let folder = tempfile::tempdir().unwrap();
    for (words, says) in [
        (&["buy", "--mib", "5"][..], "--max-sat"),
        (&["buy", "--mib", "5"], "see `turnpike buy --help`"),
        (
            &["buy", "--max-sat", "-5"],
            "'-5' for '--max-sat <SAT>': a whole number of satoshi from 1 is expected, such as 2000: see `turnpike buy --help`",
        ),
        (&["buy", "--max-sat", "lots"], "a whole number of satoshi"),
        (&["buy", "--mib", "-5", "--max-sat", "1"], "a number of MiB"),
        (&["fly"], "fly"),
        (&["fly"], "see `turnpike --help`"),
        (&["channel", "fly"], "see `turnpike channel --help`"),
        (&["channel", "close"], "SLOT"),
        (&["channel", "close", "-1"], "the number of a channel"),
        (&["discover", "--seconds", "0"], "from 1 to 3600"),
        (&["wallet", "send", "x", "1.5"], "1.5"),
        (
            &["buy", "--max-sat", "5", "--relay", "nobody"],
            "IDENTITY@HOST:PORT",
        ),
    ] {
        let output = turnpike(folder.path(), words, "");
        assert_eq!(status(&output), 2, "{words:?}");
        assert!(error(&output).contains(says), "{words:?}: {}", error(&output));
    }
    let config = folder.path().join("turnpike.toml");
    let with_config = |words: &[&str]| {
        feed(
            command(
                folder.path(),
                &[words, &["--config", config.to_str().unwrap()]].concat(),
            ),
            "",
        )
    };
    let missing = with_config(&["status"]);
    assert_eq!(status(&missing), 2);
    assert!(error(&missing).contains("turnpike init"));
    std::fs::write(&config, "[node]\ndata_dir = \"/x\"\ncolour = 1\n").unwrap();
    let unknown = with_config(&["status"]);
    assert_eq!(status(&unknown), 2);
    assert!(error(&unknown).contains("colour"), "{}", error(&unknown));
}

#[test]
fn help_and_version_are_no_errors() {
    let folder = tempfile::tempdir().unwrap();
    for words in [&["--help"][..], &["--version"], &["buy", "--help"]] {
        let output = feed(command(folder.path(), words), "");
        assert_eq!(status(&output), 0);
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
    assert_eq!(status(&feed(command(folder.path(), &[]), "")), 2);
}

#[test]
fn what_the_daemon_refuses_is_one_line_with_the_remedy() {
    for (failed, expected) in [
        (Failed::refused("the wallet is empty", "send coins to it"), 1),
        (Failed::usage("no such address", "copy it again"), 2),
        (Failed::daemon("the disk is full", "make room\nand restart"), 1),
    ] {
        let said = failed.to_string();
        let daemon = Daemon::start(move |_, responder| responder.finish(Err(failed.clone())));
        let output = daemon.run(&["wallet", "send", "bcrt1q", "5"]);
        assert_eq!(status(&output), expected);
        assert_eq!(error(&output), format!("turnpike: {said}\n"));
    }
}

#[test]
fn json_is_the_answer_alone_and_text_is_for_people() {
    let daemon = Daemon::says(Response::Balance(Balance {
        confirmed_sat: Sat::new(1_234_567),
        unconfirmed_sat: Sat::new(5),
        reserved_sat: Sat::ZERO,
    }));
    let output = daemon.run(&["--json", "wallet", "balance"]);
    assert_eq!(
        document(&output),
        json!({"confirmed_sat": 1_234_567, "unconfirmed_sat": 5, "reserved_sat": 0})
    );
    assert_eq!(out(&output).lines().count(), 1);
    assert!(output.stderr.is_empty());
    let text = out(&daemon.run(&["wallet", "balance"]));
    assert!(text.contains("1,234,567 sat"), "{text}");
}

#[test]
fn each_command_asks_for_what_its_words_say() {
    let refuse = |_: Request, responder: Responder| responder.finish(Err(Failed::refused("no", "never")));
    let daemon = Daemon::start(refuse);
    let id = || RELAY.parse().unwrap();
    for (words, request) in [
        (&["status"][..], Request::Status),
        (&["discover", "--seconds", "1"], Request::Discover { seconds: 1 }),
        (
            &["connect", &format!("{RELAY}@10.0.0.1:7473")],
            Request::Connect {
                address: "10.0.0.1:7473".into(),
                relay: Some(relay()),
            },
        ),
        (&["price", "show"], Request::PriceShow),
        (&["price", "reload"], Request::PriceReload),
        (&["stop"], Request::StopBuying { relay: None }),
        (
            &["stop", "--relay", RELAY],
            Request::StopBuying { relay: Some(relay()) },
        ),
        (&["channel", "list"], Request::ChannelList),
        (
            &["channel", "close", "3"],
            Request::ChannelClose {
                which: Which::Slot(3),
                wait_seconds: 10,
            },
        ),
        (
            &["channel", "close", "--all", "--wait", "0"],
            Request::ChannelClose {
                which: Which::All,
                wait_seconds: 0,
            },
        ),
        (
            &["channel", "raise", "3", "2.5"],
            Request::ChannelRaiseFee {
                slot: 3,
                sat_per_kvb: FeeRate::new(2_500),
            },
        ),
        (&["wallet", "address"], Request::WalletAddress),
        (
            &["wallet", "send", "bcrt1q", "5", "--rate", "3"],
            Request::WalletSend {
                address: "bcrt1q".into(),
                amount_sat: Sat::new(5),
                sat_per_kvb: Some(FeeRate::new(3_000)),
            },
        ),
        (
            &["receipts"],
            Request::ReceiptList {
                skip: 0,
                limit: MAX_RECEIPTS,
            },
        ),
        (
            &["receipts", "verify", "4"],
            Request::ReceiptList { skip: 3, limit: 1 },
        ),
        (&["exposure"], Request::Exposure),
        (&["clients"], Request::ClientList),
        (
            &["clients", "sales", "--days", "2"],
            Request::Sales { days: Some(2) },
        ),
        (
            &["clients", "block", RELAY],
            Request::ClientStand {
                client: id(),
                standing: Standing::Blocked,
            },
        ),
        (
            &["clients", "unblock", RELAY],
            Request::ClientStand {
                client: id(),
                standing: Standing::Normal,
            },
        ),
        (
            &["clients", "exempt", RELAY],
            Request::ClientStand {
                client: id(),
                standing: Standing::Exempt,
            },
        ),
        (&["refund", "export"], Request::RefundExport),
        (
            &["backup", "b"],
            Request::Backup {
                path: daemon.folder.path().canonicalize().unwrap().join("b"),
            },
        ),
        (&["events"], Request::Events),
    ] {
        assert_eq!(status(&daemon.run(words)), 1, "{words:?}");
        assert_eq!(daemon.requests.recv().unwrap(), request, "{words:?}");
    }
}

fn seller(open_slot: Option<u32>) -> Daemon {
    Daemon::start(move |request, responder| match request {
        Request::Quote { .. } => responder.finish(Ok(Response::Quote(quote(open_slot)))),
        Request::Open { .. } => responder.finish(Ok(Response::Opened(open_channel()))),
        Request::Buy { .. } => {
            let _ = responder.progress(Progress::Purchase(purchase(PurchaseState::Buying, None)));
            responder.finish(Ok(Response::Bought(purchase(PurchaseState::Done, None))));
        }
        _ => responder.finish(Err(Failed::refused("not in the script", ""))),
    })
}

#[test]
fn no_channel_is_opened_before_everything_about_it_was_shown_and_agreed_to() {
    for answer in ["", "n\n", "\n", "yesterday\n"] {
        let daemon = seller(None);
        let output = turnpike(daemon.folder.path(), &["channel", "open"], answer);
        assert_eq!(status(&output), 1, "{answer:?}");
        let shown = String::from_utf8(output.stderr).unwrap();
        for fact in [
            RELAY,
            "50,000 sat",
            "until height 812,345 at worst",
            "1,008 blocks, about 7 d",
            "311 sat fee, at 2 sat/vB",
            "412 sat fee",
            "276 sat fee, only if the relay falls silent",
            "below 330 sat is lost",
            "500 sat until 6 confirmations",
            "[y/N]",
            "no channel was opened",
        ] {
            assert!(shown.contains(fact), "{fact} is missing: {shown}");
        }
        let asked: Vec<Request> = daemon.requests.try_iter().collect();
        assert!(matches!(asked[..], [Request::Quote { .. }]), "{asked:?}");
    }
    for (words, answer) in [
        (&["channel", "open"][..], "y\n"),
        (&["channel", "open", "--yes"], ""),
    ] {
        let daemon = seller(None);
        let output = turnpike(daemon.folder.path(), words, answer);
        assert_eq!(status(&output), 0, "{output:?}");
        assert!(out(&output).contains("channel 7 is open"));
        let asked: Vec<Request> = daemon.requests.try_iter().collect();
        // Exactly what was shown.
        let agreed = Request::Open {
            relay: None,
            capacity_sat: Some(Sat::new(50_000)),
            lifetime_blocks: Some(1_008),
        };
        assert_eq!(asked[1..], [agreed]);
        assert!(
            String::from_utf8(output.stderr).unwrap().contains("812,345"),
            "shown with --yes as well"
        );
    }
}

#[test]
fn buying_opens_a_channel_only_where_none_is_open() {
    let words = ["buy", "--mib", "50", "--max-sat", "20", "--yes"];
    let buys = |daemon: &Daemon| {
        let output = daemon.run(&words);
        assert_eq!(status(&output), 0, "{output:?}");
        let asked: Vec<Request> = daemon.requests.try_iter().collect();
        let Some(Request::Buy {
            bytes, max_sat, auto, ..
        }) = asked.last()
        else {
            panic!("{asked:?}")
        };
        assert_eq!(
            (*bytes, *max_sat, *auto),
            (Some(ByteCount::new(50 << 20)), Sat::new(20), false)
        );
        asked
            .iter()
            .any(|request| matches!(request, Request::Open { .. }))
    };
    assert!(buys(&seller(None)));
    assert!(!buys(&seller(Some(7))));
}

#[test]
fn buying_in_json_is_lines_as_on_the_socket_and_without_a_terminal_there_is_no_bar() {
    let daemon = seller(Some(7));
    let output = daemon.run(&["buy", "--mib", "50", "--max-sat", "20", "--json"]);
    let lines: Vec<Value> = out(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["progress"]["purchase"]["used_bytes"], json!(25 << 20));
    assert_eq!(lines[1]["done"]["bought"]["state"], json!("done"));
    assert!(output.stderr.is_empty(), "{output:?}");
    let plain = daemon.run(&["buy", "--mib", "50", "--max-sat", "20"]);
    assert_eq!(
        String::from_utf8(plain.stderr.clone()).unwrap(),
        "order: 50.0 MiB cost 3 sat at most\n"
    );
    assert_eq!(
        out(&plain),
        "done: 25.0 MiB of 50.0 MiB used, 1.5 sat of 20 sat spent, 1.0 MiB credit kept\n"
    );
}

#[test]
fn a_purchase_that_ended_early_is_a_failure_with_its_reason() {
    for (state, cause, expected, says) in [
        (PurchaseState::Done, None, 0, ""),
        (PurchaseState::Stopped, Some(StopCause::User), 0, ""),
        (PurchaseState::Stopped, Some(StopCause::MaxSpent), 1, "--max-sat"),
        (
            PurchaseState::Stopped,
            Some(StopCause::OverClaim),
            1,
            "claims more",
        ),
        (PurchaseState::ChannelUsedUp, None, 1, "used up"),
        (PurchaseState::Ceiling, None, 1, "confirmed"),
    ] {
        let daemon = Daemon::start(move |request, responder| match request {
            Request::Quote { .. } => responder.finish(Ok(Response::Quote(quote(Some(7))))),
            _ => responder.finish(Ok(Response::Bought(purchase(state, cause)))),
        });
        let output = daemon.run(&["buy", "--mib", "50", "--max-sat", "20"]);
        assert_eq!(status(&output), expected, "{state:?} {cause:?}");
        if expected == 1 {
            let noted = String::from_utf8(output.stderr).unwrap();
            let last = noted.lines().last().unwrap();
            assert!(last.starts_with("turnpike: ") && last.contains(says), "{noted}");
        }
    }
}

#[test]
fn ctrl_c_while_buying_stops_the_purchase_and_shows_its_figures() {
    let (told, begun) = channel();
    let stop = std::sync::Arc::new(tokio::sync::Notify::new());
    let daemon = Daemon::start(move |request, responder| {
        let told = told.clone();
        let stop = stop.clone();
        match request {
            Request::Quote { .. } => responder.finish(Ok(Response::Quote(quote(Some(7))))),
            Request::StopBuying { relay } => {
                assert_eq!(relay, Some(self::relay()), "purchases from others go on");
                stop.notify_one();
                let relays = vec![self::relay()];
                responder.finish(Ok(Response::Stopped { relays }));
            }
            _ => drop(tokio::spawn(async move {
                let _ = responder.progress(Progress::Purchase(purchase(PurchaseState::Buying, None)));
                told.send("begun").unwrap();
                stop.notified().await;
                let stopped = purchase(PurchaseState::Stopped, Some(StopCause::User));
                responder.finish(Ok(Response::Bought(stopped)));
            })),
        }
    });
    let folder = daemon.folder.path().to_str().unwrap();
    let mut buying = command(
        daemon.folder.path(),
        &["buy", "--max-sat", "20", "--data-dir", folder],
    );
    let child = buying
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let wait = std::time::Duration::from_secs(20);
    assert_eq!(begun.recv_timeout(wait), Ok("begun"));
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 0, "{output:?}");
    assert_eq!(
        out(&output),
        "stopped (user): 25.0 MiB of 50.0 MiB used, 1.5 sat of 20 sat spent, 1.0 MiB credit kept\n"
    );
    let noted = String::from_utf8(output.stderr).unwrap();
    assert!(
        noted.contains(&format!("stopped buying from {RELAY}; credit is kept")),
        "{noted}"
    );
}

#[test]
fn ctrl_c_ends_the_program_where_the_daemon_does_not_answer() {
    let (told, gone) = channel();
    let daemon = Daemon::start(move |request, responder| {
        let told = told.clone();
        match request {
            Request::Quote { .. } => responder.finish(Ok(Response::Quote(quote(Some(7))))),
            Request::StopBuying { .. } => {
                let relays = Vec::new();
                responder.finish(Ok(Response::Stopped { relays }));
            }
            // Still looking for the relay: nothing is being bought.
            _ => drop(tokio::spawn(async move {
                let text = "looking for the relay".to_owned();
                let _ = responder.progress(Progress::Step { text });
                told.send("begun").unwrap();
                responder.gone().await;
                told.send("gone").unwrap();
            })),
        }
    });
    let folder = daemon.folder.path().to_str().unwrap();
    let words = ["buy", "--max-sat", "20", "--data-dir", folder];
    let child = command(daemon.folder.path(), &words)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let wait = std::time::Duration::from_secs(20);
    assert_eq!(gone.recv_timeout(wait), Ok("begun"));
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(
        gone.recv_timeout(wait),
        Ok("gone"),
        "the daemon notices that nobody waits"
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 130);
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("before anything was bought")
    );
}

#[test]
fn events_are_one_line_each() {
    let events = |_: Request, responder: Responder| {
        let _ = responder.progress(Progress::Event(Event::Funding { slot: 3 }));
        for _ in 0..2 {
            let _ = responder.progress(Progress::Event(Event::ChannelReady {
                slot: 3,
                ceiling_msat: Msat::new(1_500),
            }));
        }
        let text = "two\nlines".to_owned();
        let _ = responder.progress(Progress::Event(Event::Note { text }));
        responder.finish(Err(Failed::daemon("the daemon is going down", "start it again")));
    };
    let daemon = Daemon::start(events);
    assert_eq!(
        out(&daemon.run(&["events"])),
        "channel 3 was accepted and is being funded\n\
         the relay takes payments in channel 3, up to 1.5 sat for now\n\
         two lines\n",
        "sentences, and nothing twice"
    );
    let output = daemon.run(&["events", "--json"]);
    assert_eq!(
        out(&output),
        "{\"funding\":{\"slot\":3}}\n\
         {\"channel_ready\":{\"slot\":3,\"ceiling_msat\":1500}}\n\
         {\"channel_ready\":{\"slot\":3,\"ceiling_msat\":1500}}\n\
         {\"note\":{\"text\":\"two\\nlines\"}}\n"
    );
    assert_eq!(status(&output), 1);
    error(&output);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    let daemon = Daemon::says(Response::Address {
        address: "x".repeat(100_000),
    });
    let folder = daemon.folder.path();
    let mut child = command(
        folder,
        &["wallet", "address", "--data-dir", folder.to_str().unwrap()],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(output.stderr.is_empty());
}

#[test]
fn completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&feed(command(folder.path(), &["completions", shell]), ""));
        for word in ["init", "buy", "channel", "max-sat", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn init_makes_a_node_once_and_shows_its_words_once() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("deep/data");
    let config = home.path().join("etc/turnpike.toml");
    let words = [
        "init",
        "--data-dir",
        folder.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let output = feed(command(home.path(), &words), "");
    assert_eq!(status(&output), 0, "{output:?}");
    let seed = std::fs::read_to_string(folder.join("seed")).unwrap();
    let seed: Vec<&str> = seed.split_whitespace().collect();
    assert_eq!(seed.len(), 24);
    let shown = out(&output);
    for (n, word) in seed.iter().enumerate() {
        let found = shown
            .split_whitespace()
            .collect::<Vec<_>>()
            .windows(2)
            .any(|w| w == [&(n + 1).to_string(), *word]);
        assert!(found, "word {} is not shown", n + 1);
    }
    assert!(shown.contains("on paper"));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("seed")), 0o600);
    assert_eq!(mode(&folder.join("store.redb")), 0o600);
    let read = turnpike_firmware::config::Config::read(&config).unwrap();
    assert_eq!(read.node.data_dir, folder);
    assert!(
        !turnpike_firmware::store::Store::open(&read.store())
            .unwrap()
            .restored()
            .unwrap()
    );

    let before = snapshot(home.path());
    let again = feed(command(home.path(), &words), "");
    assert_eq!(status(&again), 1);
    assert!(error(&again).contains("never overwritten"));
    assert!(again.stdout.is_empty());
    assert_eq!(snapshot(home.path()), before);
}

#[test]
fn init_in_json_prints_no_words_unless_asked() {
    let home = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        let folder = home.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        turnpike(&folder, &[&["init", "--json"], more].concat(), "")
    };
    let quiet = run("a", &[]);
    assert_eq!(status(&quiet), 0, "{quiet:?}");
    let document_a = document(&quiet);
    assert!(document_a.get("words").is_none());
    let seed = std::fs::read_to_string(home.path().join("a/seed")).unwrap();
    let first = seed.split_whitespace().next().unwrap();
    assert!(
        !out(&quiet)
            .split(|c: char| !c.is_alphabetic())
            .any(|w| w == first)
    );
    assert_eq!(document_a["node"].as_str().unwrap().len(), 64);
    let loud = document(&run("b", &["--show-words"]));
    let seed = std::fs::read_to_string(home.path().join("b/seed")).unwrap();
    assert_eq!(loud["words"].as_str().unwrap(), seed.trim());
    assert_ne!(document_a["node"], loud["node"]);
}

/// The seed of the BIP39 test vectors that has 24 words of zero entropy.
fn known_words() -> String {
    format!("{}art", "abandon ".repeat(23))
}

#[test]
fn init_restores_a_seed_from_standard_input_and_marks_the_store() {
    let node = |input: &str| {
        let home = tempfile::tempdir().unwrap();
        let output = turnpike(home.path(), &["init", "--restore", "--json"], input);
        assert_eq!(status(&output), 0, "{output:?}");
        let store = turnpike_firmware::store::Store::open(&home.path().join("store.redb")).unwrap();
        assert!(store.restored().unwrap());
        assert!(!out(&output).contains("abandon"));
        document(&output)["node"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        node(&known_words()),
        node(&format!(
            "  {}\n",
            known_words().to_uppercase().replace(' ', "\n")
        ))
    );

    let home = tempfile::tempdir().unwrap();
    for wrong in [
        "",
        "abandon",
        &known_words().replace("art", "arm"),
        &known_words().replace("art", "zzz"),
    ] {
        let output = turnpike(home.path(), &["init", "--restore"], wrong);
        assert_eq!(status(&output), 2, "{wrong}");
        error(&output);
        assert_eq!(
            std::fs::read_dir(home.path()).unwrap().count(),
            0,
            "nothing is made of wrong words"
        );
    }
}

#[test]
fn a_failed_init_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    // The configuration is written last; its folder is a file here.
    std::fs::write(home.path().join("etc"), "").unwrap();
    let config = home.path().join("etc/turnpike.toml");
    let words = [
        "init",
        "--data-dir",
        folder.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let output = feed(command(home.path(), &words), "");
    assert_ne!(status(&output), 0);
    error(&output);
    assert!(
        output.stdout.is_empty(),
        "words of a seed that is gone again must not be shown"
    );
    assert!(!folder.exists());
}

#[test]
fn a_backup_comes_back_with_the_seed_words_and_never_over_a_store() {
    use turnpike_firmware::store::{Store, Table, Write};
    let old = tempfile::tempdir().unwrap();
    let made = document(&turnpike(
        old.path(),
        &["init", "--restore", "--json"],
        &known_words(),
    ));
    let seed = turnpike_protocol::crypto::Seed::from_words(&known_words()).unwrap();
    let keys =
        turnpike_protocol::crypto::Keys::new(&seed, turnpike_protocol::crypto::CoinType::Bitcoin).unwrap();
    let backup = old.path().join("backup");
    let store = Store::open(&old.path().join("store.redb")).unwrap();
    store
        .commit(&[Write::Put {
            table: Table::Peer,
            key: b"k",
            value: b"v",
        }])
        .unwrap();
    store.export(&backup, keys.recovery().as_bytes()).unwrap();
    drop(store);
    let file = backup.to_str().unwrap();

    let new = tempfile::tempdir().unwrap();
    let wrong = turnpike(
        new.path(),
        &["restore", file],
        &format!("{}about", "abandon ".repeat(11)),
    );
    assert_eq!(status(&wrong), 1, "{wrong:?}");
    assert!(error(&wrong).contains("another seed"));
    assert_eq!(std::fs::read_dir(new.path()).unwrap().count(), 0);

    // A node of a test chain is not brought back under a configuration for the main chain.
    let other = tempfile::tempdir().unwrap();
    let config = other.path().join("turnpike.toml");
    let test = "[node]\ndata_dir = \".\"\n[chain]\nbackend = \"bitcoind\"\nnetwork = \"regtest\"\n";
    std::fs::write(&config, test).unwrap();
    let output = turnpike(other.path(), &["restore", file], &known_words());
    assert_eq!(status(&output), 2, "{output:?}");
    assert!(error(&output).contains("chain.network"));
    assert_eq!(
        std::fs::read_dir(other.path()).unwrap().count(),
        1,
        "only the configuration"
    );

    let output = turnpike(new.path(), &["restore", file, "--json"], &known_words());
    assert_eq!(status(&output), 0, "{output:?}");
    let restored = document(&output);
    assert_eq!((&restored["node"], &restored["rows"]), (&made["node"], &json!(1)));
    let store = Store::open(&new.path().join("store.redb")).unwrap();
    assert_eq!(store.read(Table::Peer, b"k").unwrap().unwrap(), b"v");
    assert!(store.restored().unwrap());
    drop(store);

    let before = snapshot(new.path());
    let again = turnpike(new.path(), &["restore", file], "");
    assert_eq!(status(&again), 1);
    error(&again);
    assert_eq!(snapshot(new.path()), before);
}

#[test]
fn prices_are_set_in_the_file_and_taken_back_when_the_daemon_refuses() {
    let accept = Daemon::says(Response::Prices(prices()));
    let config = accept.folder.path().join("turnpike.toml");
    let text = turnpike_firmware::config::example(accept.folder.path());
    let set = |daemon: &Daemon, words: &[&str]| daemon.run(&[&["price", "set"], words].concat());
    std::fs::write(&config, &text).unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o640)).unwrap();
    let output = set(&accept, &["--up", "7 msat/MiB", "--down", "0"]);
    assert_eq!(status(&output), 0, "{output:?}");
    let read = turnpike_firmware::config::Config::read(&config).unwrap();
    assert_eq!((read.price.up, read.price.down), (Msat::new(7), Msat::ZERO));
    assert_eq!(config.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(
        accept
            .requests
            .try_iter()
            .any(|request| request == Request::PriceReload)
    );

    let kept = std::fs::read_to_string(&config).unwrap();
    for wrong in [
        &["--up", "7"][..],
        &["--up", "7 apples"],
        &["--up", "999999999999999999 sat/MiB"],
        &[],
    ] {
        let output = set(&accept, wrong);
        assert_eq!(status(&output), 2, "{wrong:?}");
        error(&output);
        assert_eq!(std::fs::read_to_string(&config).unwrap(), kept);
    }
    let output = set(&accept, &["--up", "9 msat/MiB", "--temporary"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), kept);
    let change = PriceChange {
        up_msat_per_mib: Some(Msat::new(9)),
        ..Default::default()
    };
    assert_eq!(accept.requests.try_iter().last(), Some(Request::PriceSet(change)));

    let refuse = Daemon::start(|_, responder| responder.finish(Err(Failed::refused("not now", "later"))));
    let config = refuse.folder.path().join("turnpike.toml");
    std::fs::write(&config, &kept).unwrap();
    assert_eq!(status(&set(&refuse, &["--up", "8 msat/MiB"])), 1);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), kept);
}

#[test]
fn the_doctor_says_what_is_wrong_before_there_is_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let output = turnpike(folder.path(), &["doctor", "--json"], "");
    assert_eq!(status(&output), 1);
    error(&output);
    let checks = document(&output)["checks"].clone();
    let state = |name: &str| {
        checks
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["name"] == name)
            .map(|c| c["state"].as_str().unwrap().to_owned())
    };
    for name in ["configuration", "seed", "store", "daemon"] {
        assert_eq!(state(name).as_deref(), Some("bad"), "{name}: {checks}");
    }
    assert!(
        checks
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["state"] == "good" || c["remedy"] != "")
    );

    let inside = Check {
        name: "clock".into(),
        state: CheckState::Poor,
        found: "it stands at 1970".into(),
        remedy: "set it".into(),
    };
    let daemon = Daemon::says(Response::Checks { checks: vec![inside] });
    assert_eq!(
        status(&turnpike(daemon.folder.path(), &["init", "--json"], "")),
        0
    );
    let output = daemon.run(&["doctor"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(
        out(&output).contains("poor  clock: it stands at 1970\n      set it\n"),
        "{}",
        out(&output)
    );
    let seed = daemon.folder.path().join("seed");
    std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(out(&daemon.run(&["doctor"])).contains("chmod 600"));
}

#[test]
fn receipts_are_verified_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, expected) in [
        ("empty.json", "", 2),
        ("other.json", "{\"a\": 1}", 2),
        ("none.json", "{\"receipts\": []}", 1),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let output = turnpike(folder.path(), &["receipts", "verify", path.to_str().unwrap()], "");
        assert_eq!(status(&output), expected, "{name}");
        error(&output);
    }
    let missing = turnpike(folder.path(), &["receipts", "verify", "nowhere.json"], "");
    assert_eq!(status(&missing), 2);
    error(&missing);
    let good = receipt().to_string();
    let mut claim = receipt();
    claim["client_signature"] = Value::Null;
    let claim = claim.to_string();
    // A claim of the relay alone is genuine, and yet no agreement; with a forged one beside it the forged one counts.
    for (input, expected) in [
        (claim.clone(), 3),
        (format!("[{good},{claim}]"), 3),
        (claim.replace("\"cost_msat\":10", "\"cost_msat\":1"), 1),
        (
            format!(
                "[{claim},{}]",
                good.replace("\"cost_msat\":10", "\"cost_msat\":1")
            ),
            1,
        ),
    ] {
        let output = turnpike(folder.path(), &["--json", "receipts", "verify", "-"], &input);
        assert_eq!(status(&output), expected, "{output:?}");
        let genuine = error(&output).contains("genuine, but only the relay signed it");
        assert_eq!(genuine, expected == 3, "{output:?}");
        assert_eq!(out(&output).contains("\"claims\":1"), expected == 3, "{output:?}");
    }
    for (input, expected) in [
        (good.clone(), 0),
        (format!("[{good},{good}]"), 0),
        (format!("{{\"receipts\":[{good}]}}"), 0),
        (good.replace("\"cost_msat\":10", "\"cost_msat\":1"), 1),
        (good.replace("\"genesis\":\"0c", "\"genesis\":\"0d"), 1),
    ] {
        let output = turnpike(folder.path(), &["receipts", "verify", "-"], &input);
        assert_eq!(status(&output), expected, "{output:?}");
    }
}

/// A receipt whose two signatures were made with libsecp256k1 by keys of this test.
fn receipt() -> Value {
    use bitcoin::hashes::{Hash, HashEngine, sha256};
    use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey};
    use turnpike_protocol::base::{ChannelId, SheetHash};
    let secp = Secp256k1::new();
    let key = |n: u8| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).unwrap());
    let (relay, client) = (key(1), key(2));
    let x = |key: &Keypair| key.x_only_public_key().0.serialize();
    let signed = turnpike_protocol::wire::Receipt {
        relay: NodeId::from_bytes(x(&relay)),
        client: NodeId::from_bytes(x(&client)),
        channel: ChannelId::from_bytes([3; 32]),
        sequence: 4,
        sheet: SheetHash::from_bytes([5; 32]),
        height: BlockHeight::new(6),
        up: ByteCount::new(7),
        down: ByteCount::new(8),
        seconds: 9,
        cost: Msat::new(10),
        paid: Msat::new(11),
    };
    let body = turnpike_protocol::wire::encode(&signed);
    let genesis = [12; 32];
    // BIP340's tagged hash, written out.
    let sign = |key: &Keypair, peer: &Keypair| {
        let tag = sha256::Hash::hash(b"turnpike/receipt/v1");
        let mut engine = sha256::HashEngine::default();
        for part in [
            &tag.to_byte_array(),
            &tag.to_byte_array(),
            &genesis,
            &x(key),
            &x(peer),
            &[3; 32],
        ] {
            engine.input(part);
        }
        engine.input(&body);
        let digest = sha256::Hash::from_engine(engine).to_byte_array();
        Hex(secp
            .sign_schnorr_no_aux_rand(&Message::from_digest(digest), key)
            .serialize())
        .to_string()
    };
    json!({
        "genesis": Hex(genesis).to_string(),
        "receipt": Hex(body.clone()).to_string(),
        "relay_signature": sign(&relay, &client),
        "client_signature": sign(&client, &relay),
        "relay": Hex(x(&relay)).to_string(),
        "client": Hex(x(&client)).to_string(),
        "channel": "03".repeat(32),
        "sequence": 4,
        "sheet": "05".repeat(32),
        "height": 6,
        "up_bytes": 7,
        "down_bytes": 8,
        "seconds": 9,
        "cost_msat": 10,
        "paid_msat": 11,
    })
}

/// Every file below a folder, with its bytes.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(snapshot(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn the_daemon_and_the_command_line_look_for_the_configuration_in_the_same_places() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("turnpike");
    std::fs::create_dir(&own).unwrap();
    let named = folder.path().join("named.toml");
    std::fs::write(&named, "[node]\n").unwrap();
    let told = |program: &str, words: &[&str], variable: Option<&Path>| {
        let mut command = Command::new(program);
        command.args(words).env("XDG_CONFIG_HOME", folder.path());
        match variable {
            Some(path) => command.env("TURNPIKE_CONFIG", path),
            None => command.env_remove("TURNPIKE_CONFIG"),
        };
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        let (_, told) = text.split_once(": ").unwrap();
        told.to_owned()
    };
    let (daemon, owner) = (env!("CARGO_BIN_EXE_turnpiked"), env!("CARGO_BIN_EXE_turnpike"));
    for there in [false, true] {
        if there {
            std::fs::write(own.join("turnpike.toml"), "[node]\n").unwrap();
        }
        assert_eq!(told(daemon, &[], None), told(owner, &["status"], None));
        assert_eq!(
            told(daemon, &[], Some(&named)),
            told(owner, &["status"], Some(&named))
        );
        assert!(told(daemon, &[], Some(&named)).contains("named.toml"));
        if there && !Path::new("/etc/turnpike/turnpike.toml").exists() {
            assert!(told(daemon, &[], None).contains(&*own.to_string_lossy()));
        }
    }
}

/// What a daemon on this chain leaves in its store: a wallet's journal.
fn begin_wallet(data: &Path, chain: turnpike_firmware::chain::ChainName) {
    use turnpike_firmware::store::{Store, Table, Write};
    use turnpike_firmware::wallet::{Wallet, WalletKeys};
    use turnpike_protocol::crypto::{CoinType, Keys, Seed};
    let words = std::fs::read_to_string(data.join("seed")).unwrap();
    let coin = match chain {
        turnpike_firmware::chain::ChainName::Bitcoin => CoinType::Bitcoin,
        _ => CoinType::Test,
    };
    let keys = Keys::new(&Seed::from_words(words.trim()).unwrap(), coin).unwrap();
    let account = keys.account();
    let of = WalletKeys {
        external: &account.external,
        internal: &account.internal,
        network: chain.network(),
        genesis: chain.genesis(),
        recovery: keys.recovery().as_bytes(),
    };
    let changes = Wallet::open(&of, &[] as &[Vec<u8>])
        .unwrap()
        .take_changes()
        .unwrap()
        .unwrap();
    let store = Store::open(&data.join("store.redb")).unwrap();
    let put = Write::Put {
        table: Table::Wallet,
        key: &0_u64.to_be_bytes(),
        value: &changes,
    };
    store.commit(&[put]).unwrap();
}

#[test]
fn another_chain_after_the_first_start_is_named_with_the_commands_that_help() {
    use turnpike_firmware::chain::ChainName;
    let home = tempfile::tempdir().unwrap();
    let output = turnpike(home.path(), &["init", "--network", "regtest"], "");
    assert_eq!(status(&output), 0, "{output:?}");
    begin_wallet(home.path(), ChainName::Regtest);
    let config = home.path().join("turnpike.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // The same address format and another block 0.
    let play = text
        .replace("backend = \"bitcoind\"", "backend = \"play\"")
        .replace("network = \"regtest\"", "");
    std::fs::write(&config, play).unwrap();
    let seed = std::fs::read(home.path().join("seed")).unwrap();

    let store = home.path().join("store.redb");
    let doctor = document(&turnpike(home.path(), &["doctor", "--json"], ""));
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["name"] == "store's chain").unwrap();
    assert_eq!(check["state"], "bad");
    for fact in ["belongs to regtest", "says play", store.to_str().unwrap()] {
        assert!(check["found"].as_str().unwrap().contains(fact), "{check}");
    }
    // Exactly what it says is done, except that the programs are where the tests have them.
    let remedy = check["remedy"].as_str().unwrap();
    let line = remedy.split('`').nth(1).unwrap();
    let line = line.replace(
        "turnpike --config",
        &format!("{} --config", env!("CARGO_BIN_EXE_turnpike")),
    );
    let ran = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(ran.status.success(), "{line}: {ran:?}");
    let said = out(&ran);
    assert!(
        said.contains("chain   play") && said.contains("is kept"),
        "{said}"
    );
    assert!(!said.contains("on paper"), "no words of a seed that was there");
    assert_eq!(std::fs::read(home.path().join("seed")).unwrap(), seed);
    let made = turnpike_firmware::store::Store::open(&store).unwrap();
    assert!(
        made.restored().unwrap(),
        "the seed may own something on this chain"
    );
    drop(made);
    begin_wallet(home.path(), ChainName::Play);
    let doctor = document(&turnpike(home.path(), &["doctor", "--json"], ""));
    let checks = doctor["checks"].as_array().unwrap();
    assert!(checks.iter().all(|c| c["name"] != "store's chain"), "{doctor}");
}

#[test]
fn init_says_which_chain_and_what_is_at_stake() {
    for (words, says, network) in [
        (&["init"][..], "chain   mainnet: REAL MONEY", "bitcoin"),
        (
            &["init", "--network", "play"],
            "chain   play: its coins are worth nothing",
            "play",
        ),
        (
            &["init", "--network", "signet"],
            "chain   signet: a test chain",
            "signet",
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        let output = turnpike(home.path(), words, "");
        assert!(out(&output).contains(says), "{output:?}");
        let config = turnpike_firmware::config::Config::read(&home.path().join("turnpike.toml")).unwrap();
        assert_eq!(config.chain.name().to_string(), network);
        // The chain of a configuration that is there is not changed behind its owner's back.
        std::fs::remove_file(home.path().join("seed")).unwrap();
        let other = turnpike(home.path(), &["init", "--network", "testnet4"], "");
        assert_eq!(status(&other), 2);
        assert!(error(&other).contains("[chain]"));
    }
    let home = tempfile::tempdir().unwrap();
    assert_eq!(
        status(&turnpike(home.path(), &["init", "--network", "fantasy"], "")),
        2
    );
}

#[test]
fn a_configuration_that_is_named_has_its_data_beside_it_and_is_not_contradicted() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("node/turnpike.toml");
    let file = config.to_str().unwrap();
    let made = document(&feed(
        command(home.path(), &["--config", file, "--json", "init"]),
        "",
    ));
    let data = home.path().join("node/data");
    assert_eq!(
        made["seed"].as_str().unwrap(),
        data.join("seed").to_str().unwrap()
    );
    assert!(data.join("seed").exists());
    let elsewhere = home.path().join("elsewhere");
    let words = [
        "--config",
        file,
        "--data-dir",
        elsewhere.to_str().unwrap(),
        "init",
    ];
    let output = feed(command(home.path(), &words), "");
    assert_eq!(status(&output), 2, "{output:?}");
    assert!(error(&output).contains("node.data_dir"));
    assert!(!elsewhere.exists());
}

#[test]
fn seed_words_are_read_as_init_prints_them() {
    let home = tempfile::tempdir().unwrap();
    let printed = out(&turnpike(home.path(), &["init"], ""));
    let block = printed.split("\n\n").find(|part| part.contains("   1 ")).unwrap();
    assert!(block.lines().count() > 1);
    let again = tempfile::tempdir().unwrap();
    let dotted = block.replace(" 2 ", " 2. ").replace(" 3 ", " 3) ");
    let output = turnpike(again.path(), &["init", "--restore"], &dotted);
    assert_eq!(status(&output), 0, "{output:?}");
    let seed = |folder: &Path| std::fs::read(folder.join("seed")).unwrap();
    assert_eq!(seed(home.path()), seed(again.path()));
}

#[test]
fn a_wallet_that_cannot_fund_the_channel_is_said_before_anything_is_asked() {
    let daemon = Daemon::start(|request, responder| match request {
        Request::Quote { .. } => responder.finish(Ok(Response::Quote(Quote {
            wallet_sat: Sat::new(50_310),
            ..quote(None)
        }))),
        _ => responder.finish(Err(Failed::refused("not in the script", ""))),
    });
    for words in [&["channel", "open", "--yes"][..], &["buy", "--max-sat", "5"]] {
        let output = daemon.run(words);
        assert_eq!(status(&output), 1);
        let line = error(&output);
        for fact in [
            "50,311 sat with its fee",
            "send 1 sat or more",
            "turnpike wallet address",
        ] {
            assert!(line.contains(fact), "{line}");
        }
        let asked: Vec<Request> = daemon.requests.try_iter().collect();
        assert!(matches!(asked[..], [Request::Quote { .. }]), "{asked:?}");
    }
}

#[test]
fn a_status_names_each_peer_once_and_what_waits_for_a_block() {
    let session = |connection| SessionStatus {
        connection,
        peer: relay(),
        address: Some(format!("10.0.0.1:{connection}")),
    };
    let status = Status {
        program_version: "0".into(),
        node: relay(),
        network: "regtest".into(),
        genesis: "00".repeat(32).parse().unwrap(),
        play_money: true,
        height: BlockHeight::new(9),
        lit: true,
        fee_rate_sat_per_kvb: FeeRate::new(2_500),
        generation: 1,
        card: "0123-4567-89AB-CDEF".to_owned(),
        uptime_seconds: 1,
        wallet_sat: Some(Sat::new(10_000)),
        wallet_unconfirmed_sat: Some(Sat::new(49_500)),
        relay: None,
        sessions: vec![session(3), session(4)],
        channels: 0,
        purchases: Vec::new(),
        warnings: Vec::new(),
    };
    let daemon = Daemon::says(Response::Status(Box::new(status)));
    let text = out(&daemon.run(&["status"]));
    assert!(
        text.contains("10,000 sat, and 49,500 sat wait for a block"),
        "{text}"
    );
    assert!(
        text.contains("10.0.0.1:4") && !text.contains("10.0.0.1:3"),
        "{text}"
    );
    let sessions = document(&daemon.run(&["status", "--json"]))["sessions"].clone();
    assert_eq!(sessions.as_array().unwrap().len(), 2, "programs see both");
}
