//! Power cuts while an update is on its way over a slow line: the node that ran runs, and the update goes on where it was.
//! TURNPIKE_CUTS says how many; the moments follow from their numbers.

use std::fs;
use std::time::Duration;
use turnpike_tests::emulator::{Board, Depot, Stand, Wish, Workshop};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
/// MiB.
const SALE: u64 = 2;
/// Bytes in a second: as slow as a shared line.
const LINE: u64 = 4 << 20;
/// What an update fetches again at most for one cut: the chunks that were not durable yet, and those that were on their way.
const AGAIN: u64 = 20 << 20;

fn cuts() -> u64 {
    let wanted = std::env::var("TURNPIKE_CUTS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// The same numbers each time (splitmix64), 0 to 1.
fn roll(seed: u64) -> f64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

in_lab! {
    #[ignore = "needs the card image: make update-test"]
    fn an_update_that_power_cuts_interrupt_goes_on_where_it_was() {
        let workshop = Workshop::open();
        let bundle = workshop.bundle("slow", Wish::default());
        let length = fs::metadata(&bundle).expect("a bundle").len();
        let depot = Depot::open(&workshop.path(""));
        let address = depot.address(&bundle);
        let mut stand = Stand::with(BOARD, |settings| settings.more(&workshop.settings()));
        stand.client.start();
        stand.fund();
        depot.slow(LINE);
        let mut most_kept = 0;
        for number in 1..=cuts() {
            if number > 1 && number % 3 == 1 {
                stand.flash();
                let settings = stand.settings().more(&workshop.settings());
                stand.machine.card().write("turnpike.toml", settings.text().as_bytes());
                most_kept = 0;
            }
            stand.boot().unwrap_or_else(|e| panic!("before cut {number}: {e}"));
            let begun = depot.served();
            // In the part of what is left that belongs to this cut; three cuts to a card.
            let part = ((number - 1) % 3) as f64 / 3.0;
            let moment = ((part + roll(number) / 3.0) * (length - most_kept) as f64) as u64;
            stand.begin_update(&address);
            while depot.served() - begun < moment && stand.shell.run("cat /run/applied").is_err() {
                std::thread::sleep(Duration::from_millis(200));
            }
            stand.machine.cut();
            let served = depot.served() - begun;
            println!("cut {number}: after {served} of {length} bytes");
            most_kept = (most_kept + served).min(length);
        }
        stand.boot().expect("the node that ran");
        let update = stand.update_status().expect("a status");
        assert_eq!(update["running"], "a", "{update}");
        let begun = depot.served();
        depot.slow(0);
        let (status, said) = stand.update(&address).expect("an update");
        assert_eq!(status, "0", "{said}");
        let fetched = depot.served() - begun;
        println!("{fetched} of {length} bytes came at last: {said}");
        assert!(fetched < length, "{fetched} of {length} bytes came again");
        assert!(depot.served() < length + cuts() * AGAIN, "{} bytes in all", depot.served());
        stand.restart();
        let tried = stand.update_becomes(BOARD.patience(), |status| status["running"] == "b");
        tried.expect("a trial");
        stand.first_prices().expect("prices");
        let sold = stand.sale(SALE).expect("a sale");
        println!("sold {sold:?}");
    }
}
