//! Setup mode on the shipped card (card.md): what begins it, what its page takes, and that the next start is an ordinary one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use turnpike_tests::emulator::{Board, Stand};
use turnpike_tests::in_lab;

/// The page, from the machine's own loopback address; the wires to its port 80 are the emulator's.
const PAGE: &str = "wget -q -O - http://127.0.0.1/";

fn page(stand: &Stand) -> String {
    let patience = stand.machine.board().patience();
    stand
        .shell
        .wait(PAGE, patience)
        .unwrap_or_else(|words| panic!("{words}"))
}

fn token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a token");
    rest.split_once('"').expect("its end").0.to_owned()
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The newest record of the boot ledger (card.md), also while the machine runs.
fn ledger(path: &Path) -> String {
    let card = File::open(path).expect("the card");
    let record = |region: u64| {
        let mut bytes = [0; 512];
        card.read_exact_at(&mut bytes, region << 20).expect("a record");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let generation = |text: &String| -> u64 {
        let number = text
            .split_once("\ngeneration=")
            .and_then(|(_, rest)| rest.lines().next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    [record(260), record(262)]
        .into_iter()
        .max_by_key(generation)
        .unwrap_or_default()
}

/// Sends a form; the page that comes back, of whatever status.
fn post(stand: &Stand, path: &str, token: &str, text: &str) -> String {
    let body = format!("token={token}&text={}", escaped(text));
    let answer = stand.shell.run(&format!(
        "wget -q -O - --post-data '{body}' http://127.0.0.1{path}"
    ));
    answer.unwrap_or_else(|words| words)
}

in_lab! {
    #[ignore = "boots the built card in an emulator: make card-test"]
    fn a_file_on_the_card_gives_a_page_whose_form_gives_an_ordinary_next_start() {
        let mut stand = Stand::new(Board::Virt { memory: 512 });
        stand.machine.card().write("recover", b"");
        stand.machine.start();
        let shown = page(&stand);
        assert!(shown.contains("setup mode") && shown.contains("the file &quot;recover&quot;"), "{shown}");
        assert!(shown.contains("chain"), "the owner's settings are in the form");
        assert!(stand.shell.run("pidof turnpiked").is_err(), "nothing is sold");
        let forwarding = stand.shell.must("cat /proc/sys/net/ipv4/ip_forward");
        assert_eq!(forwarding.trim(), "0");
        let token = token(&shown);
        post(&stand, "/settings", &token, "[system]\nhostname = 7\n");
        assert!(stand.shell.must("cat /boot/turnpike.toml").contains("card-test"), "it stays as it was");
        let renamed = stand.settings().text().replace("card-test", "renamed");
        let stored = post(&stand, "/settings", &token, &renamed);
        assert!(stored.contains("Stored."), "{stored}");
        post(&stand, "/restart", &token, "");
        // The same power-on: the machine starts again by itself.
        let patience = stand.machine.board().patience();
        stand.machine.see_times("turnpike: ready", 1, patience).unwrap();
        stand.status().unwrap();
        assert_eq!(stand.shell.must("hostname").trim(), "renamed");
        assert!(!stand.problems().contains("setup-mode"));
        stand.machine.cut();
        assert!(stand.machine.card().read("recover").is_none());
    }

    #[ignore = "boots the built card in an emulator: make card-test"]
    fn three_starts_that_do_not_last_give_the_page_and_one_that_lasts_ends_it() {
        let mut stand = Stand::new(Board::Virt { memory: 512 });
        let patience = stand.machine.board().patience();
        // The first start makes the data partition, and lasts.
        stand.machine.start();
        stand.machine.see("turnpike: ready", patience).unwrap();
        stand.shell.wait("[ $(cut -d. -f1 /proc/uptime) -ge 30 ]", patience).unwrap();
        stand.machine.cut();
        let path = stand.machine.card().path();
        for count in 1..=2 {
            stand.machine.start();
            let counted = || ledger(&path).contains(&format!("\nshort={count}\n"));
            let end = Instant::now() + patience;
            while !counted() {
                assert!(Instant::now() < end, "start {count} was not counted: {}", ledger(&path));
                std::thread::sleep(Duration::from_millis(100));
            }
            stand.machine.cut();
        }
        stand.machine.start();
        let shown = page(&stand);
        assert!(shown.contains("three times for less than 20 s"), "{shown}");
        stand.shell.wait("[ $(cut -d. -f1 /proc/uptime) -ge 30 ]", patience).unwrap();
        stand.machine.cut();
        stand.boot().unwrap();
        assert!(!stand.problems().contains("setup-mode"));
    }
}
