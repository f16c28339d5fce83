//! Relays that over-claim, against the real client daemon: it stops within its tolerance and keeps the proof.

use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use turnpike_protocol::base::limits::MIN_WINDOW;
use turnpike_protocol::market::{BuyerConfig, MIB};
use turnpike_tests::hostile::{FalseRelay, Identity, Lie, Log};
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Lab, Plan};
use turnpike_tests::site::{ChainKind, PATIENCE, Site, wait_for};

const PRICE: u64 = 100_000;
const HTTP: u16 = 8_080;
/// The link's rate, so slow that the relay tells its count often within the tolerance: 500 kB a second.
const RATE: u32 = 4_000;
/// What the relay forwards between two of its claims, and what may be under way, bytes.
const STEP: u64 = 128 * 1_024;

/// A real client daemon that buys from a relay that lies, and downloads meanwhile.
struct Scene {
    relay: FalseRelay,
    buy: Child,
    identity: String,
    site: Site,
}

/// How a purchase ended.
struct Outcome {
    good: bool,
    /// What was said on standard error.
    text: String,
    /// The purchase, as the last line of standard output has it.
    purchase: Value,
}

impl Scene {
    fn new(lie: Lie, mib: &str) -> Scene {
        let plan = Plan {
            rate_kbit: Some(RATE),
            ..Plan::default()
        };
        let mut site = Site::new(plan, ChainKind::Play, PRICE, "");
        site.clients[0].start();
        site.fund(0, 200_000);
        let identity = Identity::fresh(&site);
        let relay = FalseRelay::start(&identity, site.lab.relay(), PRICE, lie);
        let identity = identity.node().to_string();
        let lines = File::create(site.folder().join("buy")).expect("a file");
        let words = ["buy", "--mib", mib, "--max-sat", "20000", "--yes"];
        let buy = site.clients[0]
            .command(&words)
            .stdout(lines)
            .stderr(Stdio::piped())
            .spawn()
            .expect("turnpike");
        wait_for("the first payment", || relay.log().paid_msat > 0);
        serve(&site);
        Scene {
            relay,
            buy,
            identity,
            site,
        }
    }

    /// Downloads until `bytes` came or the time is up.
    fn download(&self, bytes: usize) {
        let mut stream = self
            .site
            .lab
            .client(0)
            .within(|| TcpStream::connect((Lab::UPLINK4, HTTP)).expect("a connection"));
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("a timeout");
        let (mut left, end) = (bytes, Instant::now() + PATIENCE);
        let mut buffer = vec![0; 65_536];
        while left > 0 && Instant::now() < end {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => left = left.saturating_sub(n),
            }
        }
    }

    /// Waits for the end of the purchase.
    fn ended(&mut self) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while self.buy.try_wait().expect("wait").is_none() {
            assert!(
                Instant::now() < end,
                "turnpike buy goes on: {}",
                self.site.clients[0].ask(&["status"])
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut text = String::new();
        let _ = self.buy.stderr.take().expect("a pipe").read_to_string(&mut text);
        let lines = std::fs::read_to_string(self.site.folder().join("buy")).expect("a file");
        let last: Value = lines
            .lines()
            .last()
            .and_then(|l| serde_json::from_str(l).ok())
            .unwrap_or_default();
        let purchase = last["done"]["bought"].clone();
        Outcome {
            good: self.buy.wait().expect("wait").success(),
            text,
            purchase,
        }
    }

    /// The client stopped for over-claiming, paid for what it counted and its tolerance only, and nothing afterwards.
    fn stopped_within_tolerance(&mut self) -> Log {
        self.download(4 * MIB as usize);
        wait_for("the client's stop", || self.relay.log().truth_at_stop.is_some());
        let Outcome { good, text, purchase } = self.ended();
        assert!(!good && text.contains("claims more"), "{text} {purchase}");
        assert_eq!(
            (&purchase["state"], &purchase["cause"]),
            (&"stopped".into(), &"over_claim".into()),
            "{purchase}"
        );
        let log = self.relay.log();
        let truth = log.truth_at_stop.expect("a stop");
        let config = BuyerConfig::default();
        let tolerated = truth + truth * u64::from(config.loss_ppm) / 1_000_000 + config.slack.value();
        let paid = log.paid_at_stop * MIB / PRICE;
        println!(
            "{truth} bytes forwarded, {} claimed, {paid} paid for, {tolerated} tolerated",
            log.claimed_at_stop
        );
        // One window is prepaid at any time.
        assert!(
            paid <= tolerated + MIN_WINDOW + STEP,
            "{paid} bytes paid for, {tolerated} tolerated"
        );
        // More traffic does not make it pay again.
        self.download(MIB as usize);
        assert_eq!(
            self.relay.log().paid_msat,
            log.paid_at_stop,
            "the client went on paying"
        );
        log
    }

    /// The client keeps one receipt that the relay alone has signed, and anybody can check that signature.
    fn proof_is_kept(&self) {
        let client = &self.site.clients[0];
        let receipts = client.ask(&["receipts"]);
        let kept = receipts["receipts"].as_array().expect("receipts");
        let (place, proof) = kept
            .iter()
            .enumerate()
            .find(|(_, r)| r["client_signature"].is_null())
            .expect("a proof");
        assert_eq!(proof["relay"], self.identity.as_str());
        println!(
            "the proof claims {} + {} bytes",
            proof["up_bytes"], proof["down_bytes"]
        );
        let number = (place + 1).to_string();
        let why = client
            .try_ask(&["receipts", "verify", &number])
            .expect_err("a claim is no agreement");
        assert!(why.contains("only the relay signed it"), "{why}");
        // One changed figure, and it proves nothing any more.
        let mut forged = proof.clone();
        forged["down_bytes"] = 1.into();
        assert!(!self.verify(&forged).contains("only the relay signed it"));
        let mut forged = proof.clone();
        let bytes = forged["receipt"].as_str().expect("bytes").to_owned();
        let last = if bytes.ends_with('0') { "1" } else { "0" };
        forged["receipt"] = format!("{}{last}", &bytes[..bytes.len() - 1]).into();
        assert!(!self.verify(&forged).contains("only the relay signed it"));
        assert!(
            self.verify(proof).contains("only the relay signed it"),
            "the proof is good outside of the daemon too"
        );
    }

    fn verify(&self, receipt: &Value) -> String {
        let path = self.site.folder().join("receipt.json");
        std::fs::write(&path, receipt.to_string()).expect("a file");
        let path = path.display().to_string();
        self.site.clients[0]
            .try_ask(&["receipts", "verify", &path])
            .expect_err("it is no agreement")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.buy.kill();
        let _ = self.buy.wait();
    }
}

/// Sends to whoever connects, until they hang up.
fn serve(site: &Site) {
    let listener = site
        .lab
        .uplink()
        .within(|| TcpListener::bind((Lab::UPLINK4, HTTP)).expect("a port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || while stream.write_all(&[0x55; 16_384]).is_ok() {});
        }
    });
}

in_lab! {
    fn a_relay_of_the_tests_that_tells_the_truth_is_paid_in_full_and_gets_its_receipt_signed() {
        let mut scene = Scene::new(Lie::None, "2");
        scene.download(4 * MIB as usize);
        let Outcome { good, text, purchase } = scene.ended();
        assert!(good, "{text}");
        let log = scene.relay.log();
        assert!(log.paid_msat >= 2 * PRICE, "{log:?}");
        assert_eq!((log.agreed, log.refused), (1, 0), "{log:?}");
        assert_eq!(scene.site.clients[0].ask(&["receipts", "verify", "1"])["verified"], 1);
        assert_eq!(purchase["state"], "done", "{purchase}");
    }

    fn a_relay_that_claims_half_as_much_again_is_stopped_within_the_tolerance_and_its_claim_is_kept() {
        let mut scene = Scene::new(Lie::Always(150), "16");
        let log = scene.stopped_within_tolerance();
        assert_eq!(log.agreed, 0, "{log:?}");
        scene.proof_is_kept();
    }

    fn a_relay_that_claims_a_tenth_more_is_stopped_within_the_tolerance_and_its_claim_is_kept() {
        let mut scene = Scene::new(Lie::Always(110), "16");
        let log = scene.stopped_within_tolerance();
        assert_eq!(log.agreed, 0, "{log:?}");
        scene.proof_is_kept();
    }

    fn a_relay_that_lies_in_its_receipt_only_is_stopped_and_its_receipt_is_kept_unsigned() {
        let mut scene = Scene::new(Lie::Receipt(300), "16");
        let log = scene.stopped_within_tolerance();
        assert_eq!(log.agreed, 0, "{log:?}");
        assert!(scene.relay.log().refused >= 1);
        scene.proof_is_kept();
    }
}
