//! The page on plain folders, over sockets.

use super::{Ended, Setup};
use crate::card::{Places, ProblemCode, Problems};
use crate::settings::{Interfaces, MOVED};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

const SECRET: &str = "correct horse";

struct Site {
    folder: tempfile::TempDir,
    address: SocketAddr,
    running: JoinHandle<Ended>,
}

impl Site {
    fn start(settings: &str, seconds: u64) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::under(folder.path());
        for folder in [&places.boot, &places.data, &places.settings(), &places.run] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(places.boot.join("turnpike.toml"), settings).unwrap();
        fs::write(places.run.join("REPORT.txt"), "the <report>\r\n").unwrap();
        Problems::of(&places)
            .report(ProblemCode::SetupMode, "somebody & the file")
            .unwrap();
        // As a card has it, and as nothing here may show it.
        fs::create_dir(places.data.join("turnpike")).unwrap();
        fs::write(places.data.join("turnpike/seed"), "abandon abandon about").unwrap();
        let setup = Setup::bind(
            places,
            Interfaces::new(["eth0", "wlan0"]),
            "pole-7".to_owned(),
            "127.0.0.1:0".parse().unwrap(),
            Duration::from_secs(seconds),
        )
        .unwrap();
        Site {
            folder,
            address: setup.address().unwrap(),
            running: std::thread::spawn(|| setup.run()),
        }
    }

    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn page(&self) -> String {
        self.say(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }

    fn token(&self) -> String {
        let page = self.page();
        let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    fn post(&self, path: &str, token: &str, text: &str) -> String {
        let text: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = format!("text={text}&token={token}");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {1}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.say(request.as_bytes())
    }

    fn file(&self) -> String {
        fs::read_to_string(self.folder.path().join("boot/turnpike.toml")).unwrap()
    }
}

fn owner() -> String {
    format!("[wifi]\nssid = \"home\"\npassword = \"{SECRET}\"\n")
}

#[test]
fn the_page_shows_what_is_wrong_and_no_secret() {
    let site = Site::start(&owner(), 60);
    let page = site.page();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for there in [
        "setup-mode: somebody &amp; the file",
        "the &lt;report&gt;",
        "ssid = &quot;home&quot;",
        "moved off this partition",
        "form-action 'self'",
    ] {
        assert!(page.contains(there), "{there}: {page}");
    }
    for never in [SECRET, "abandon", "<script", "http://", "src="] {
        assert!(!page.contains(never), "{never}: {page}");
    }
}

#[test]
fn settings_are_stored_only_if_a_start_would_take_them_and_passwords_stay() {
    let site = Site::start(&owner(), 60);
    let token = site.token();
    let refused = site.post(
        "/settings",
        &token,
        "[wifi]\nssid = \"home\"\npassword = \"short\"\n",
    );
    assert!(refused.starts_with("HTTP/1.1 422"), "{refused}");
    assert!(refused.contains("turnpike.toml:3: wifi.password"), "{refused}");
    assert!(
        refused.contains("&quot;short&quot;"),
        "what was typed is there to be corrected"
    );
    for garbage in ["", "[wifi", "\u{0}", &"#".repeat(65_537)] {
        assert!(
            site.post("/settings", &token, garbage)
                .starts_with("HTTP/1.1 422")
        );
    }
    assert_eq!(site.file(), owner(), "nothing changed");

    let typed = format!("[wifi]\r\nssid = \"barn\"\r\npassword = \"{MOVED}\"\r\n");
    let stored = site.post("/settings", &token, &typed);
    assert!(
        stored.contains("<b>Stored.</b>") && !stored.contains(SECRET),
        "{stored}"
    );
    assert_eq!(site.file(), owner().replace("home", "barn"));
    // A key that nobody knows is said, and does no harm.
    let odd = site.post("/settings", &token, "[system]\nhostnam = \"x\"\n");
    assert!(
        odd.contains("<b>Stored.</b>") && odd.contains("turnpike.toml:2"),
        "{odd}"
    );
    // A password that is nowhere is not kept.
    let lost = site.post("/settings", &token, &typed);
    assert!(lost.starts_with("HTTP/1.1 422"), "{lost}");
    fs::remove_file(site.folder.path().join("boot/turnpike.toml")).unwrap();
    let anew = site.post("/settings", &token, "[system]\nhostname = \"x\"\n");
    assert!(anew.contains("<b>Stored.</b>"), "{anew}");
    assert_eq!(site.file(), "[system]\nhostname = \"x\"\n");
    let left: Vec<_> = fs::read_dir(site.folder.path().join("boot")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_form_without_the_pages_token_does_nothing() {
    let site = Site::start(&owner(), 60);
    for token in ["", "0", &"0".repeat(32), &"é".repeat(16)] {
        for path in ["/settings", "/restart"] {
            let answer = site.post(path, token, "[system]\nhostname = \"x\"\n");
            assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        }
    }
    assert_eq!(site.file(), owner());
    assert!(!site.running.is_finished());
    assert!(
        site.say(b"GET /etc/passwd HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        site.say(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            .starts_with("HTTP/1.1 421")
    );
}

#[test]
fn it_ends_when_it_is_told_or_when_its_time_is_over() {
    let site = Site::start(&owner(), 60);
    let answer = site.post("/restart", &site.token(), "");
    assert!(answer.contains("starting again"), "{answer}");
    assert_eq!(site.running.join().unwrap(), Ended::Asked);
    let late = Site::start(&owner(), 1);
    assert_eq!(late.running.join().unwrap(), Ended::Late);
}

#[test]
fn who_holds_connections_open_does_not_keep_others_out_for_long_nor_the_node() {
    let site = Site::start(&owner(), 4);
    let held: Vec<_> = (0..40).map(|_| TcpStream::connect(site.address)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let mut one = TcpStream::connect(site.address).unwrap();
    let _ = one.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", site.address).as_bytes());
    let mut answer = String::new();
    let _ = one.read_to_string(&mut answer);
    assert_eq!(answer, "", "four of one address are enough");
    drop(held);
    std::thread::sleep(Duration::from_millis(500));
    assert!(site.page().contains("setup mode"));
    let _held = TcpStream::connect(site.address).unwrap();
    assert_eq!(site.running.join().unwrap(), Ended::Late);
}
