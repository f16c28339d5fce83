//! Setup mode on the shipped card (card.md): what begins it, what its page takes, and that the next start is an ordinary one.

use std::time::Duration;
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
        for _ in 0..2 {
            stand.machine.start();
            stand.machine.see("Starting kernel", patience).unwrap();
            // Its initramfs has counted it soon after; a slow machine is not given 20 s of its own time by that.
            std::thread::sleep(Duration::from_secs(8));
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
