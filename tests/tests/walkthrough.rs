//! The walkthrough of a sale by hand does what it says: its commands are run as they stand on the page.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use turnpike_tests::in_lab;
use turnpike_tests::site::program;

/// What the page says about a network of one's own; the lab has made it already.
const SHELL: &str =
    "unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc bash\n```";

/// The commands after the shell was started, in their order.
fn commands(page: &str) -> String {
    let (_, inside) = page
        .split_once(SHELL)
        .expect("the page starts a shell of its own");
    let mut text = String::new();
    for block in inside.split("```sh\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block has an end");
        text.push_str(block);
    }
    text
}

in_lab! {
    fn the_commands_of_the_walkthrough_make_a_sale() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = fs::read_to_string(root.join("firmware/walkthrough.md")).expect("the page");
        let programs = program("turnpike-playchain");
        let programs = programs.parent().expect("a folder");
        let folder = tempfile::tempdir().expect("a folder");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
        let script = folder.path().join("walkthrough.sh");
        fs::write(&script, commands(&page)).expect("write");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        // Nobody waits for ever at a page that became untrue. What it leaves running ends with the lab.
        let status = Command::new("timeout")
            .args(["300", "bash", "-eux"])
            .arg(&script)
            .env("PATH", path)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .status()
            .expect("bash");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let log = read("log");
        let told = format!("{log}\n== relay\n{}\n== client\n{}", read("relay/log"), read("client/log"));
        assert!(status.success(), "{status}\n{told}");
        assert!(log.trim_end().ends_with(" both"), "the last line is a receipt that both signed\n{told}");
        // The relay's own words about its money, at the end: what the client says that it paid, less the fee of settling.
        let balances: Vec<u64> = log.lines().filter_map(confirmed).collect();
        let [funded, earned, home] = balances[..] else {
            panic!("three balances are shown, not {balances:?}\n{told}");
        };
        assert_eq!(funded, 100_000, "{told}");
        let paid = told.lines().find_map(settled).expect("the client tells what it paid");
        assert!(paid >= 500, "the client paid {paid} sat\n{told}");
        let fee = paid.checked_sub(earned).expect("no more than was paid");
        // A settlement of one channel has about 205 vB; the play chain is asked for 1 or 2 sat/vB.
        assert!((192..=450).contains(&fee), "of {paid} sat the relay has {earned} sat\n{told}");
        // The client paid for at most 20 MiB at 100 sat, and for three transactions at 1 sat/vB.
        assert!((97_000..99_000).contains(&home), "the client has {home} sat\n{told}");
    }
}

/// The satoshi of a line of `wallet balance`.
fn confirmed(line: &str) -> Option<u64> {
    let (number, _) = line.strip_prefix("can be spent")?.trim().split_once(" sat")?;
    number.replace(',', "").parse().ok()
}

/// The satoshi of the client's line about its settled channel.
fn settled(line: &str) -> Option<u64> {
    let (_, told) = line.split_once("is settled: ")?;
    let (msat, _) = told.split_once(" msat paid")?;
    Some(msat.parse::<u64>().ok()? / 1000)
}
