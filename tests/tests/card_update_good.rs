//! A good update over HTTP: it is tried, kept once the node is healthy and a customer came, and still runs after the next start.

use std::time::Duration;
use turnpike_tests::emulator::{Board, Depot, Stand, Wish, Workshop};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
/// MiB.
const SALE: u64 = 2;
/// Less than the ten minutes after which a node commits without having seen a peer.
const COMMIT: Duration = Duration::from_secs(300);

in_lab! {
    #[ignore = "needs the card image: make update-test"]
    fn a_signed_update_is_tried_kept_once_the_node_is_healthy_and_outlives_a_power_cut() {
        let workshop = Workshop::open();
        let bundle = workshop.bundle("good", Wish::default());
        let depot = Depot::open(&workshop.path(""));
        let mut stand = Stand::with(BOARD, |settings| settings.more(&workshop.settings()));
        stand.client.start();
        stand.fund();
        stand.boot().expect("a first boot");
        let identity = stand.status().expect("a status")["node"].clone();
        let (status, said) = stand.update(&depot.address(&bundle)).expect("an update");
        assert_eq!(status, "0", "{said}");
        let update = stand.update_status().expect("a status");
        assert_eq!(update["update"]["stage"], "trial", "{update}");
        assert_eq!([&update["running"], &update["next"]], ["a", "b"], "{update}");
        stand.restart();
        let tried = stand.update_becomes(BOARD.patience(), |status| status["running"] == "b");
        let tried = tried.expect("a trial");
        println!("on trial: {tried}");
        assert_eq!(tried["slots"][1]["version"], workshop.version() + 1, "{tried}");
        stand.first_prices().expect("prices");
        let sold = stand.sale(SALE).expect("a sale on trial");
        println!("sold {sold:?}");
        let kept = stand.update_becomes(COMMIT, |status| status["update"]["stage"] == "committed");
        let kept = kept.expect("a commit");
        println!("kept after {:.0} s: {kept}", stand.machine.on_for().as_secs_f64());
        stand.machine.cut();
        stand.boot().expect("a boot of what was kept");
        let update = stand.update_status().expect("a status");
        assert_eq!([&update["running"], &update["next"]], ["b", "b"], "{update}");
        assert_eq!(update["trial_left"], serde_json::Value::Null, "{update}");
        assert_eq!(update["update"]["stage"], "committed", "{update}");
        assert_eq!(stand.status().expect("a status")["node"], identity);
        assert_eq!(stand.problems(), "");
        stand.first_prices().expect("prices after the power cut");
    }
}
