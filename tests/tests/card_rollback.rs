//! An update that boots and never gets healthy is rolled back by itself; the node says why, and sells. Takes more than five minutes.

use std::path::Path;
use std::time::{Duration, Instant};
use turnpike_tests::emulator::{Board, Depot, Stand, Workshop};
use turnpike_tests::figure::{Figure, add};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
/// MiB.
const SALE: u64 = 2;
/// card.md: so long a trial may be without health.
const TRIAL: Duration = Duration::from_secs(300);
/// In the first program, before it hands over: the root's daemon is one that fails.
const BROKEN: &str = "printf '#!/usr/bin/sh\\nsleep 1\\nexit 1\\n' >/run/broken
chmod 755 /run/broken
new=/root
mount -o bind /run/broken $new/etc/sv/turnpiked
";

in_lab! {
    #[ignore = "needs the card image: make soak"]
    fn an_update_whose_daemon_never_answers_is_rolled_back_and_the_node_says_so_and_sells() {
        let workshop = Workshop::open();
        let init = workshop.init();
        let broken = init.replace("for folder in dev proc sys run", &format!("{BROKEN}for folder in dev proc sys run"));
        assert_ne!(init, broken);
        let bundle = workshop.bundle_with("unhealthy", workshop.initramfs("broken", &broken));
        let depot = Depot::open(&workshop.path(""));
        let mut stand = Stand::with(BOARD, |settings| settings.more(&workshop.settings()));
        stand.client.start();
        stand.fund();
        stand.boot().expect("a first boot");
        let start = Instant::now();
        let (status, said) = stand.update(&depot.address(&bundle)).expect("an update");
        assert_eq!(status, "0", "{said}");
        stand.restart();
        let tried = stand.update_becomes(BOARD.patience(), |status| status["running"] == "b");
        println!("on trial: {}", tried.expect("a trial"));
        let back = stand.update_becomes(TRIAL + BOARD.patience() * 2, |status| {
            status["running"] == "a" && status["update"]["stage"] == "rolled-back"
        });
        let back = back.expect("a rollback");
        stand.first_prices().expect("prices");
        let took = start.elapsed().as_secs_f64();
        println!("{took:.0} s: {back}");
        let reason = back["update"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("not healthy"), "{reason}");
        let problem = stand.explained("slot-rolled-back").expect("a problem");
        println!("{problem}");
        let sold = stand.sale(SALE).expect("a sale");
        println!("sold {sold:?}");
        let note = "from applying an update that never gets healthy to selling again, emulated; 300 s of it are the trial";
        let figure = Figure::alone("rollback_s", took, "s", "report", note);
        let json = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench.json");
        add(&json, &[figure]).expect("target/bench.json");
    }
}
