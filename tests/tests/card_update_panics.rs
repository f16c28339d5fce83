//! An update whose kernel panics at each start uses up its attempts; then the firmware before it runs, says why, and sells.

use turnpike_tests::emulator::{Board, Depot, Stand, Workshop};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
/// MiB.
const SALE: u64 = 2;
/// What the kernel says when its first program ends.
const PANIC: &str = "Kernel panic - not syncing: Attempted to kill init!";
/// card.md, "Which slot boots".
const ATTEMPTS: usize = 3;

/// What stood on the console of the running machine.
fn panics(stand: &Stand) -> usize {
    stand.machine.console().matches(PANIC).count()
}

in_lab! {
    #[ignore = "needs the card image: make update-test"]
    fn an_update_that_panics_is_tried_three_times_and_rolled_back_and_the_node_says_so_and_sells() {
        let workshop = Workshop::open();
        let ends = workshop.initramfs("ends", "#!/usr/bin/busybox sh\nexit 1\n");
        let bundle = workshop.bundle_with("panics", ends);
        let depot = Depot::open(&workshop.path(""));
        let mut stand = Stand::with(BOARD, |settings| settings.more(&workshop.settings()));
        stand.client.start();
        stand.fund();
        stand.boot().expect("a first boot");
        let (status, said) = stand.update(&depot.address(&bundle)).expect("an update");
        assert_eq!(status, "0", "{said}");
        stand.restart();
        stand.machine.see_times(PANIC, ATTEMPTS, 3 * BOARD.patience()).expect("three attempts");
        let back = stand.update_becomes(BOARD.patience(), |status| status["update"]["stage"] == "rolled-back");
        let back = back.expect("a rollback");
        println!("{:.0} s after power-on: {back}", stand.machine.on_for().as_secs_f64());
        assert_eq!(panics(&stand), ATTEMPTS, "attempts");
        assert_eq!([&back["running"], &back["next"]], ["a", "a"], "{back}");
        let reason = back["update"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("the kernel panicked"), "{reason}");
        let problem = stand.explained("slot-rolled-back").expect("a problem");
        println!("{problem}");
        stand.first_prices().expect("prices");
        let sold = stand.sale(SALE).expect("a sale");
        println!("sold {sold:?}");
    }
}
