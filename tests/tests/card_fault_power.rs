//! Power cuts of the emulated machine: whatever it was doing, the next boot finds a node whose money opens, and nothing that
//! needs hands. TURNPIKE_CUTS says how many; the moments follow from their numbers.
//!
//! The card is worse than the emulator's: of what was not flushed, some sectors keep their old content.

use std::time::{Duration, Instant};
use turnpike_tests::emulator::{Board, Disk, Stand};
use turnpike_tests::in_lab;
use turnpike_tests::sale::purchase;

const BOARD: Board = Board::Virt { memory: 512 };
/// What the console says when the daemon answers.
const READY: &str = "turnpike: ready";

fn cuts() -> u64 {
    let wanted = std::env::var("TURNPIKE_CUTS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// The same numbers each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A moment in the part of a time that belongs to this cut: cut 1 of 3 is in the first third.
    fn moment(&mut self, number: u64, time: Duration) -> Duration {
        let within = (self.roll() >> 11) as f64 / (1_u64 << 53) as f64;
        time.mul_f64((number as f64 - 1.0 + within) / cuts() as f64)
    }
}

/// Cuts the power and gives the card what a bad one keeps.
fn cut(stand: &mut Stand, disk: &Disk, dice: &mut Dice) {
    stand.machine.cut();
    let (unflushed, lost) = disk.lose(|| dice.roll() % 2 == 0);
    println!("  {unflushed} sectors were not flushed, {lost} of them are lost");
}

/// Nothing on the card needs hands, seen from another computer.
fn assert_whole(stand: &mut Stand, what: &str) {
    let card = stand.machine.card();
    assert_eq!(card.data_faults(), None, "the data partition after {what}");
    assert_eq!(card.boot_faults(), None, "the boot partition after {what}");
}

fn identity(status: &serde_json::Value) -> String {
    let identity = status["node"].as_str();
    identity
        .unwrap_or_else(|| panic!("no identity in {status}"))
        .to_owned()
}

in_lab! {
    #[ignore = "needs the card image: make card-test"]
    fn a_power_cut_at_any_moment_of_the_first_boot_leaves_a_card_that_boots() {
        let mut stand = Stand::new(BOARD);
        stand.machine.start();
        // Before this nothing is written.
        let kernel = stand.machine.see("Starting kernel", BOARD.patience()).expect("a kernel");
        let ready = stand.machine.see(READY, BOARD.patience()).expect("a first boot");
        stand.machine.cut();
        for number in 1..=cuts() {
            let mut dice = Dice(number);
            stand.flash();
            let disk = Disk::serve(&stand.machine.card().path());
            stand.machine.through(Some(disk.name()));
            let moment = kernel + dice.moment(number, ready - kernel + Duration::from_secs(5));
            println!("cut {number}: {:.1} s after power-on", moment.as_secs_f64());
            stand.machine.start();
            std::thread::sleep(moment);
            cut(&mut stand, &disk, &mut dice);
            let what = format!("cut {number}, {:.1} s after power-on", moment.as_secs_f64());
            let status = stand.boot().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(stand.problems(), "", "problems after {what}");
            identity(&status);
            stand.machine.cut();
            disk.lose(|| true);
            assert_whole(&mut stand, &what);
            stand.machine.through(None);
        }
    }

    #[ignore = "needs the card image: make card-test"]
    fn a_power_cut_while_it_sells_costs_the_node_neither_its_identity_nor_its_money() {
        let mut stand = Stand::new(BOARD);
        let disk = Disk::serve(&stand.machine.card().path());
        stand.machine.through(Some(disk.name()));
        stand.client.start();
        stand.fund();
        let before = identity(&stand.boot().expect("a first boot"));
        stand.first_prices().expect("prices");
        for number in 1..=cuts() {
            let mut dice = Dice(1_000 + number);
            stand.lasted();
            let mut buy = purchase(&stand.client, 50);
            // From the first words between the nodes to the middle of the download.
            let moment = dice.moment(number, Duration::from_secs(15));
            println!("cut {number}: {:.1} s after the customer came", moment.as_secs_f64());
            let start = Instant::now();
            while start.elapsed() < moment {
                let left = moment.saturating_sub(start.elapsed()).max(Duration::from_secs(1));
                let _ = stand.download(1 << 20, left);
            }
            let claimed = turnpike_tests::sale::total(&stand.client);
            println!("  {claimed} msat were paid by then");
            cut(&mut stand, &disk, &mut dice);
            let what = format!("cut {number}, {:.1} s after the customer came", moment.as_secs_f64());
            assert_whole(&mut stand, &what);
            let status = stand.boot().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(identity(&status), before, "the identity after {what}");
            assert_eq!(stand.problems(), "", "problems after {what}");
            // The customer comes back by itself, and with it whatever payment the relay had forgotten.
            let end = Instant::now() + Duration::from_secs(90);
            let known = |stand: &Stand| -> u64 {
                let list = stand.shell.turnpike("channel list").unwrap_or_default();
                let all = list["channels"].as_array().cloned().unwrap_or_default();
                all.iter().filter_map(|c| c["total_msat"].as_u64()).max().unwrap_or(0)
            };
            while known(&stand) < claimed && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(500));
            }
            assert!(known(&stand) >= claimed, "{what}: {claimed} msat were paid, the relay knows of {}", known(&stand));
            let _ = buy.kill();
            let _ = buy.wait();
        }
    }
}
