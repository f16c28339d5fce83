//! How long a payment takes: sent by a client over a real session to a real daemon, until its acknowledgement is read.
//! In between: the signature check, the commit, the kernel's quota raised. All on one machine, so the network adds
//! nothing but the two ends' TCP.

use std::time::{Duration, Instant};
use turnpike_firmware::store::{Origin, Store, Write};
use turnpike_protocol::base::{Msat, Sat};
use turnpike_protocol::wire::Message;
use turnpike_tests::figure::{Figure, median, quantile};
use turnpike_tests::hostile::{Identity, Payer};
use turnpike_tests::lab::Plan;
use turnpike_tests::site::{ChainKind, Site};

const PAYMENTS: u64 = 1_000;
const STEP: u64 = 4_000;
/// Between two payments: below the rate of frames that a relay takes of one client.
const PAUSE: Duration = Duration::from_millis(10);
/// About what a payment takes in the journal.
const ENTRY: [u8; 80] = [0x5a; 80];

/// Median and 99th percentile, each beside that of a bare commit of the same store on the same disk, in turn.
pub fn payment_rtt() -> Vec<Figure> {
    let mut site = Site::new(Plan::default(), ChainKind::Play, 1_000, "");
    site.start();
    let path = site.folder().join("bare.redb");
    Store::create(&path, Origin::New).expect("a store");
    let store = Store::open(&path).expect("a store");
    let identity = Identity::fresh(&site);
    let mut line = Payer::call(&identity, &site, 0).expect("a session");
    let payer = Payer::open(&site, &mut line, 0, Sat::new(999_999));
    payer.bind(&mut line);
    let (mut trips, mut commits) = (Vec::new(), Vec::new());
    for n in 1..=PAYMENTS {
        let total = Msat::new(n * STEP);
        let payment = payer.payment(total);
        let start = Instant::now();
        line.say(payment);
        line.await_one("the acknowledgement", |m| match m {
            Message::PaymentAck(a) if a.total == total => Some(()),
            Message::Problem(p) => panic!("refused: {p:?}"),
            _ => None,
        });
        trips.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        store.commit(&[Write::Journal(&ENTRY)]).expect("a commit");
        commits.push(start.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(PAUSE);
    }
    let note = format!("{PAYMENTS} payments one after the other, acknowledged after their commit");
    let against = "a bare commit of the store on the same disk";
    vec![
        Figure::new(
            "payment_rtt_us",
            median(&trips),
            "us",
            against,
            median(&commits),
            "report",
            note,
        ),
        Figure::new(
            "payment_rtt_p99_us",
            quantile(&trips, 0.99),
            "us",
            against,
            quantile(&commits, 0.99),
            "report",
            "",
        ),
    ]
}
