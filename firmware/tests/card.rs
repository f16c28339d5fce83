//! The built programs on folders that stand for a card, as an ordinary user.

use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJf5Df4u5bIJjCUtxZxW8bJuvQhUeuK2I4yJX0kXl1eH me";

struct Card(tempfile::TempDir);

impl Card {
    fn new() -> Card {
        // Not in /tmp, which may be in RAM: nothing is moved there.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
        for name in ["boot", "data"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        Card(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("write");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.0.path())
            .env("TURNPIKE_CARD", self.0.path())
            .env("TURNPIKE_CONFIG", self.at("run/turnpike.toml"));
        command
    }

    fn turnpike(&self, words: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_turnpike"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("turnpike")
    }

    fn settings(&self) -> String {
        let folder = |name| self.at(name).display().to_string();
        let (boot, data, run) = (folder("boot"), folder("data"), folder("run"));
        let words = [
            "card", "settings", "--boot", &boot, "--data", &data, "--run", &run,
        ];
        let output = self.turnpike(&[&words[..], &["--interfaces", "eth0 wlan0"]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("file").permissions().mode() & 0o777
}

/// What Python's reader of TOML makes of a file, as JSON; `None` without one.
fn tomllib(path: &Path) -> Option<Value> {
    let program = "import sys,json,tomllib;print(json.dumps(tomllib.load(open(sys.argv[1],'rb'))))";
    let output = Command::new("python3")
        .args(["-c", program])
        .arg(path)
        .output()
        .ok()?;
    let missing = String::from_utf8_lossy(&output.stderr).contains("No module named");
    if missing {
        return None;
    }
    assert!(output.status.success(), "{}: {output:?}", path.display());
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn settings_become_files_and_their_secrets_leave_the_open_partition() {
    let card = Card::new();
    card.write(
        "boot/turnpike.toml",
        &format!(
            "# Mine.\n[system]\nhostname = \"roof\"\ncolour = \"red\"\nssh_keys = [\"{KEY}\"]\n[access_point]\nssid = \"Caf\\u00e9\"\n\
             password = 'secret \"#\" one' # do not tell\n[chain]\nurl = \"http://10.0.0.1:18443\"\nnetwork = \"regtest\"\nuser = \"u\"\n\
             password = \"secret two\"\n[relay]\nenabled = true\n"
        ),
    );
    let said = card.settings();
    assert!(
        said.contains("turnpike.toml:4: system.colour: there is no such key"),
        "{said}"
    );
    assert!(
        card.text("run/problems/settings")
            .starts_with("turnpike.toml:4: system.colour")
    );
    assert_eq!(card.text("run/REPORT.txt").replace("\r\n", "\n"), said);
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(card.text("run/settings/hostname"), "roof\n");
    assert_eq!(card.text("run/settings/authorized_keys"), format!("{KEY}\n"));
    assert_eq!(
        card.text("run/settings/network"),
        "uplink=eth0\nguest=wlan0\naccess_point=wlan0\n"
    );
    assert!(
        card.text("run/settings/wifi/hostapd.conf")
            .contains("\nwpa_passphrase=secret \"#\" one\n")
    );
    for (name, bits) in [
        ("run/turnpike.toml", 0o600),
        ("run/settings/wifi/hostapd.conf", 0o600),
        ("data/settings", 0o700),
        ("data/settings/turnpike.toml", 0o600),
    ] {
        assert_eq!(mode(&card.at(name)), bits, "{name}");
    }
    let boot = card.text("boot/turnpike.toml");
    assert!(
        !boot.contains("secret") && boot.contains("# do not tell"),
        "{boot}"
    );
    assert!(
        card.text("data/settings/turnpike.toml")
            .contains("'secret \"#\" one' # do not tell")
    );
    match (
        tomllib(&card.at("boot/turnpike.toml")),
        tomllib(&card.at("run/turnpike.toml")),
    ) {
        (Some(boot), Some(run)) => {
            assert_eq!(boot["access_point"]["ssid"], "Café");
            assert_eq!(boot["access_point"]["password"], boot["chain"]["password"]);
            assert_eq!(run["chain"]["password"], "secret two");
            assert_eq!(run["relay"]["guest_interface"][0], "wlan0");
        }
        _ => println!("skipped: no Python with tomllib, so the files were not judged by it"),
    }
    // The same again, out of what was kept.
    assert_eq!(card.settings(), said);
    assert_eq!(card.text("boot/turnpike.toml"), boot);

    let file = card.at("boot/turnpike.toml").display().to_string();
    let check = card.turnpike(&["card", "settings", "--check", &file]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&check.stdout).contains("4: system.colour: there is no such key"));
    card.write("boot/turnpike.toml", &boot.replace("colour = \"red\"\n", ""));
    let check = card.turnpike(&["card", "settings", "--check", &file]);
    assert!(check.status.success(), "{check:?}");
}

/// A daemon that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_card_without_settings_has_a_node_that_answers() {
    let card = Card::new();
    card.settings();
    for again in [false, true] {
        let made = card.turnpike(&["card", "init"]);
        assert!(made.status.success(), "{made:?}");
        let said = String::from_utf8(made.stdout).expect("text");
        assert_eq!(said.contains("a seed was made"), !again, "{said}");
        let words = card.text("data/turnpike/seed");
        assert_eq!(words.split_whitespace().count(), 24);
        let errors = String::from_utf8_lossy(&made.stderr);
        let three: Vec<_> = words.split_whitespace().take(3).collect();
        assert!(!format!("{said}{errors}").contains(&three.join(" ")));
    }
    assert_eq!(mode(&card.at("data/turnpike/seed")), 0o600);
    assert_eq!(mode(&card.at("data/turnpike")), 0o700);
    fs::create_dir_all(card.at("run/problems")).expect("folder");
    card.write("run/problems/data-full", "It is full.\n");

    // Nobody answers yet: what the card knows is said all the same.
    let silent = card.turnpike(&["status"]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&silent.stdout).contains("problem   data-full: It is full."));

    let daemon = card
        .command(env!("CARGO_BIN_EXE_turnpiked"))
        .stderr(Stdio::null())
        .spawn()
        .expect("turnpiked");
    let _daemon = Daemon(daemon);
    let until = Instant::now() + Duration::from_secs(20);
    let status = loop {
        let status = card.turnpike(&["--json", "status"]);
        if status.status.success() {
            break status;
        }
        assert!(Instant::now() < until, "{status:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let document: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(document["seed_shown"], false);
    assert_eq!(document["problems"][0]["code"], "data-full");
    assert!(
        document["node"].is_string() && document["relay"].is_null(),
        "{document}"
    );
    let text = card.turnpike(&["status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("turnpike seed show"));
}

#[test]
fn the_seed_is_shown_on_a_terminal_to_who_says_yes() {
    let card = Card::new();
    card.settings();
    assert!(card.turnpike(&["card", "init"]).status.success());
    let words = card.text("data/turnpike/seed");
    let first = words.split_whitespace().next().expect("word");
    let refused = card.turnpike(&["seed", "show"]);
    assert_eq!(
        (refused.status.code(), refused.stdout.as_slice()),
        (Some(2), &b""[..])
    );
    assert!(!String::from_utf8_lossy(&refused.stderr).contains(first));

    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: no script (util-linux), so there was no terminal to show words on");
        return;
    }
    let note = card.at("data/turnpike/seed.unseen");
    for (answers, shown, noted) in [
        ("no\n", false, true),
        ("yes\nno\n", true, true),
        ("yes\nyes\n", true, false),
    ] {
        let line = format!("{} seed show", env!("CARGO_BIN_EXE_turnpike"));
        let mut child = card
            .command("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        let mut stdin = child.stdin.take().expect("stdin");
        stdin.write_all(answers.as_bytes()).expect("write");
        let mut said = String::new();
        child
            .stdout
            .take()
            .expect("stdout")
            .read_to_string(&mut said)
            .expect("read");
        drop(stdin);
        child.wait().expect("end");
        assert_eq!(
            words.split_whitespace().all(|word| said.contains(word)),
            shown,
            "{answers}: {said}"
        );
        assert_eq!(note.exists(), noted, "{answers}: {said}");
    }
    let status = card.turnpike(&["--json", "status"]);
    assert!(
        status.stdout.is_empty(),
        "nothing is wrong with this card: {status:?}"
    );
}
