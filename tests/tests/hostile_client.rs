//! Clients that cheat a real relay: it loses nothing, says why it refuses, and credits nothing that was not paid.

use std::sync::Arc;
use turnpike_protocol::base::{AccountId, ByteCount, Msat, Sat};
use turnpike_protocol::market::receipt_digest;
use turnpike_protocol::wire::{
    self, ErrorCode, Ext, Kind, Message, Payment, Problem, Receipt, ReceiptAnswer, ReceiptRequest, Resume,
    Signature,
};
use turnpike_tests::hostile::{Blast, Identity, Line, Payer};
use turnpike_tests::in_lab;
use turnpike_tests::lab::Plan;
use turnpike_tests::site::{ChainKind, Site};

const PRICE: u64 = 100_000;
const CAPACITY: Sat = Sat::new(50_000);
/// Two honest payments: a quarter and half a MiB in all.
const FIRST: Msat = Msat::new(25_000);
const SECOND: Msat = Msat::new(50_000);
const PAID_BYTES: u64 = 512 * 1_024;
/// The relay may lose one packet at most, and strand one.
const PACKET: u64 = 1_514;
const ACCESS: AccountId = AccountId(0);

/// A relay, an honest daemon on client 0 that owns the chain's blocks, and a hostile client 1 that has paid twice.
struct Scene {
    blast: Blast,
    payer: Payer,
    line: Line,
    site: Site,
}

impl Scene {
    fn new() -> Scene {
        let mut site = Site::new(
            Plan {
                clients: 3,
                ..Plan::default()
            },
            ChainKind::Play,
            PRICE,
            "",
        );
        site.relay.start();
        site.clients[0].start();
        let blast = Blast::between(&site, 1);
        let identity = Identity::fresh(&site);
        let mut line = Payer::call(&identity, &site, 1).expect("a session");
        let payer = Payer::open(&site, &mut line, 0, CAPACITY);
        assert_eq!(
            payer.bind(&mut line),
            ByteCount::ZERO,
            "nothing is paid, nothing is granted"
        );
        assert_eq!(payer.pay(&mut line, FIRST).value(), PAID_BYTES / 2);
        assert_eq!(payer.pay(&mut line, SECOND).value(), PAID_BYTES);
        Scene {
            blast,
            payer,
            line,
            site,
        }
    }

    fn identity(&self) -> Arc<Identity> {
        self.payer.identity.clone()
    }

    /// Says something that must be refused with this reason, and nothing be credited for it.
    fn refused(&mut self, message: impl Into<Message>, code: ErrorCode) -> Problem {
        let message = message.into();
        let about = message.kind();
        self.line.say(message);
        let problem = self.line.await_one("the reason of the refusal", |m| match m {
            Message::Problem(p) => Some(p.clone()),
            Message::PaymentAck(a) => panic!("{about:?} was acknowledged: {a:?}"),
            _ => None,
        });
        assert_eq!(
            (problem.code, problem.about),
            (code, about.number()),
            "{problem:?}"
        );
        self.credited(SECOND);
        problem
    }

    /// What the relay's books say that this client paid.
    fn credited(&self, total: Msat) {
        let clients = self.site.relay.ask(&["clients"]);
        let id = self.payer.identity.node().to_string();
        let client = clients["clients"]
            .as_array()
            .and_then(|c| c.iter().find(|c| c["client"] == id.as_str()));
        let client = client.unwrap_or_else(|| panic!("{id} is not in {clients}"));
        assert_eq!(client["paid_msat"], total.value(), "{client}");
    }

    /// Comes back as an honest client would.
    fn again(&mut self, total: Msat) -> ByteCount {
        self.line = Payer::call(&self.identity(), &self.site, 1).expect("a session");
        assert_eq!(
            self.payer.resume(&mut self.line, total),
            SECOND,
            "the relay knows what was paid"
        );
        self.payer.bind(&mut self.line)
    }

    /// Sends far more than was paid for: what was paid passes, and no byte more.
    fn nothing_unpaid_passes(&self) {
        let passed = self.blast.send(2 * PAID_BYTES);
        println!("{passed} of {PAID_BYTES} paid bytes passed");
        assert!(
            passed <= PAID_BYTES,
            "{} unpaid bytes passed",
            passed - PAID_BYTES
        );
        assert!(
            passed + PACKET >= PAID_BYTES,
            "{} paid bytes did not pass",
            PAID_BYTES - passed
        );
    }
}

in_lab! {
    fn a_client_that_stops_paying_gets_no_byte_beyond_what_it_paid_and_none_by_coming_back() {
        let mut scene = Scene::new();
        scene.nothing_unpaid_passes();
        let (exhausted, paid) = scene.line.await_one("word that the credit is used up", |m| match m {
            Message::Usage(u) if u.exhausted => Some((u.exhausted, u.paid)),
            _ => None,
        });
        assert!(exhausted);
        assert_eq!(paid, SECOND);
        let before = scene.blast.counted();
        for _ in 0..2 {
            assert_eq!(scene.again(SECOND).value(), PAID_BYTES, "credit does not come back with the client");
            let after = scene.blast.send(100_000);
            assert!(after <= PAID_BYTES, "{} bytes passed after the end of credit", after - before);
        }
        scene.credited(SECOND);
    }

    fn a_client_that_lies_about_its_count_is_told_and_is_billed_by_the_relays_count() {
        let mut scene = Scene::new();
        let passed = scene.blast.send(150_000);
        assert!(passed > 100_000, "{passed}");
        scene.line.say(ReceiptRequest { account: ACCESS });
        let offer = scene.line.await_one("the receipt", |m| match m {
            Message::ReceiptOffer(o) => Some(o.clone()),
            _ => None,
        });
        let receipt: Receipt = wire::decode(&offer.receipt).expect("a receipt");
        assert_eq!(receipt.up.value() + receipt.down.value(), passed, "the relay's receipt is what the kernel counted");
        // It signs a tenth of what it used, as the answer to the receipt.
        let less = Receipt { up: ByteCount::new(receipt.up.value() / 10), down: ByteCount::ZERO, ..receipt };
        let identity = scene.identity();
        let digest = receipt_digest(identity.genesis, identity.node(), receipt.relay, receipt.channel, &wire::encode(&less));
        let lie = ReceiptAnswer { account: ACCESS, sequence: receipt.sequence, signature: identity.sign(&digest) };
        scene.refused(lie, ErrorCode::BadSignature);
        assert!(scene.line.hangs_up());
        // It says that the receipt is wrong: that changes nothing either.
        scene.again(SECOND);
        let about = Kind::ReceiptOffer.number();
        scene.line.say(Problem { code: ErrorCode::ReceiptRefused, about, detail: 1, ext: Ext::default() });
        scene.nothing_unpaid_passes();
        scene.credited(SECOND);
        let receipts = scene.site.relay.ask(&["receipts"]);
        let signed = receipts["receipts"].as_array().expect("receipts");
        assert!(signed.iter().all(|r| r["client_signature"].is_null()), "{receipts}");
    }

    fn a_client_that_replays_an_old_payment_is_told_and_gets_nothing_for_it() {
        let mut scene = Scene::new();
        let old = scene.payer.payment(FIRST);
        let problem = scene.refused(old.clone(), ErrorCode::TotalTooLow);
        assert_eq!(problem.detail, SECOND.value(), "the relay says what it has");
        // The newest one again is a retry: acknowledged, and credited once.
        assert_eq!(scene.payer.pay(&mut scene.line, SECOND).value(), PAID_BYTES);
        // In a session of its own, and as the state of the channel.
        assert_eq!(scene.again(FIRST).value(), PAID_BYTES);
        scene.refused(old, ErrorCode::TotalTooLow);
        scene.nothing_unpaid_passes();
    }

    fn a_payment_with_a_bad_signature_is_told_and_credits_nothing() {
        let mut scene = Scene::new();
        let mut wrong = scene.payer.payment(Msat::new(75_000));
        wrong.signature.0[40] ^= 1;
        scene.refused(wrong, ErrorCode::BadSignature);
        assert!(scene.line.hangs_up());
        assert_eq!(scene.again(SECOND).value(), PAID_BYTES);
        // A good signature, for a smaller total than the message says.
        let total = Msat::new(1_000_000);
        let bold = Payment { total, ..scene.payer.payment(Msat::new(75_000)) };
        scene.refused(bold, ErrorCode::BadSignature);
        assert!(scene.line.hangs_up());
        // The same as the state of the channel on coming back.
        scene.line = Payer::call(&scene.identity(), &scene.site, 1).expect("a session");
        let channel = scene.payer.channel();
        let resume = Resume { channel, total, signature: Signature([7; 64]), ext: Ext::default() };
        scene.refused(resume, ErrorCode::BadSignature);
        assert!(scene.line.hangs_up());
        assert_eq!(scene.again(SECOND).value(), PAID_BYTES);
        scene.nothing_unpaid_passes();
    }

    fn a_payment_with_a_lower_or_too_high_total_is_told_and_credits_nothing() {
        let mut scene = Scene::new();
        let problem = scene.refused(scene.payer.payment(Msat::new(40_000)), ErrorCode::TotalTooLow);
        assert_eq!(problem.detail, SECOND.value());
        scene.refused(scene.payer.payment(Msat::ZERO), ErrorCode::TotalTooLow);
        let above = CAPACITY.to_msat().expect("a capacity").checked_add(Msat::new(1)).expect("an amount");
        let above = Payment { total: above, ..scene.payer.payment(SECOND) };
        scene.refused(above, ErrorCode::TotalTooHigh);
        scene.nothing_unpaid_passes();
    }

    fn a_payment_for_another_channel_is_told_and_credits_nothing() {
        let mut scene = Scene::new();
        let stranger = Payment { channel: 9, ..scene.payer.payment(Msat::new(75_000)) };
        scene.refused(stranger, ErrorCode::UnknownChannel);
        let account = Payment { account: AccountId(3), ..scene.payer.payment(Msat::new(75_000)) };
        scene.refused(account, ErrorCode::UnknownAccount);
        // A second channel of its own, just as real: its money does not pay twice.
        let second = Payer::open(&scene.site, &mut scene.line, 1, CAPACITY);
        assert_ne!(second.short, scene.payer.short);
        let total = Msat::new(75_000);
        scene.refused(second.payment(total), ErrorCode::UnknownAccount);
        let crossed = Payment { channel: scene.payer.short, ..second.payment(total) };
        scene.refused(crossed, ErrorCode::BadSignature);
        assert!(scene.line.hangs_up());
        // Another client's session cannot come back to it.
        let other = Identity::fresh(&scene.site);
        let mut line = Payer::call(&other, &scene.site, 1).expect("a session");
        let channel = scene.payer.channel();
        line.say(Resume { channel, total: SECOND, signature: scene.payer.sign(SECOND), ext: Ext::default() });
        let code = line.await_one("the reason", |m| match m {
            Message::Problem(p) => Some(p.code),
            _ => None,
        });
        assert_eq!(code, ErrorCode::UnknownChannel);
        assert_eq!(scene.again(SECOND).value(), PAID_BYTES);
        scene.nothing_unpaid_passes();
    }

    fn a_channel_that_names_anothers_money_as_its_funding_gets_no_credit() {
        let scene = Scene::new();
        let thief = Identity::fresh(&scene.site);
        let mut line = Payer::call(&thief, &scene.site, 2).expect("a session");
        let mut theirs = Payer::accepted(&scene.site, &mut line, 0, CAPACITY);
        theirs.name(scene.payer.outpoint);
        line.say(theirs.funded());
        assert_eq!(refusal(&mut line), ErrorCode::FundingMismatch, "one output funds one channel");
        line.say(Payment { channel: 0, ..theirs.payment(FIRST) });
        assert_eq!(refusal(&mut line), ErrorCode::UnknownChannel);
        scene.credited(SECOND);
    }
}

/// Why the relay refused what was said last; it must not serve it.
fn refusal(line: &mut Line) -> ErrorCode {
    line.await_one("the reason", |m| match m {
        Message::Problem(p) => Some(p.code),
        Message::PaymentAck(_) | Message::Bound(_) => panic!("served: {m:?}"),
        _ => None,
    })
}
