//! The play chain as a process, asked by curl: a stock client that shares no code with it.
#![cfg(feature = "playchain")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Process {
    child: Child,
    url: String,
    cookie: String,
}

fn start(folder: &Path) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_turnpike-playchain"))
        .args(["--listen", "127.0.0.1:0", "--block-time", "0", "--folder"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start turnpike-playchain");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut line = |word: &str| {
        let line = lines.next().expect("a line").expect("text");
        line.strip_prefix(word).expect(word).trim().to_owned()
    };
    let (url, cookie) = (line("url"), line("cookie"));
    Process {
        child,
        url,
        cookie: std::fs::read_to_string(cookie).expect("cookie"),
    }
}

impl Process {
    /// What curl prints: the status code on the last line, the answer before it.
    fn curl(&self, user: &str, body: &str) -> String {
        let out = Command::new("curl")
            .args([
                "-s",
                "-w",
                "\n%{http_code}",
                "--max-time",
                "10",
                "--user",
                user,
                "--data",
                body,
                &self.url,
            ])
            .output()
            .expect("run curl");
        String::from_utf8(out.stdout).expect("text")
    }

    fn ask(&self, method: &str, params: &str) -> String {
        self.curl(
            &self.cookie,
            &format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#),
        )
    }

    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(&id).status().expect("kill").success());
        assert!(self.child.wait().expect("wait").success());
        let mut words = String::new();
        self.child
            .stderr
            .take()
            .expect("stderr")
            .read_to_string(&mut words)
            .expect("text");
        words
    }
}

#[test]
fn it_serves_curl_says_that_its_money_is_worthless_and_keeps_its_chain() {
    let folder = tempfile::tempdir().expect("folder");
    let process = start(folder.path());
    assert!(process.curl("__cookie__:wrong", "{}").ends_with("\n401"));
    assert!(process.curl(&process.cookie, "not JSON").ends_with("\n400"));
    assert!(process.ask("getblockcount", "[]").contains(r#""result":120"#));
    assert!(process.ask("getnewaddress", "[]").contains("-32601"));

    let address = r#"["bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqvg32hk", 50000]"#;
    assert!(process.ask("faucet", address).contains("txid"));
    let waiting = process.ask("getrawmempool", "[]");
    assert!(waiting.contains(r#""result":[""#), "{waiting}");
    let words = process.end();
    assert!(words.contains("worthless"), "{words}");

    let again = start(folder.path());
    assert_eq!(
        again.ask("getrawmempool", "[]"),
        waiting,
        "what waited waits again"
    );
    let mined = again.ask(
        "generatetoaddress",
        &address.replace(", 50000", "").replace('[', "[3, "),
    );
    assert!(mined.ends_with("\n200"), "{mined}");
    again.end();

    let again = start(folder.path());
    assert!(again.ask("getblockcount", "[]").contains(r#""result":123"#));
    assert!(again.ask("getrawmempool", "[]").contains(r#""result":[]"#));
    again.end();
}

#[test]
fn a_damaged_chain_is_refused_and_the_message_says_what_to_do() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("chain.dat"), b"something else").expect("write");
    let out = Command::new(env!("CARGO_BIN_EXE_turnpike-playchain"))
        .args(["--listen", "127.0.0.1:0", "--folder"])
        .arg(folder.path())
        .output()
        .expect("run");
    assert!(!out.status.success());
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(
        words.contains("chain.dat") && words.contains("delete it to begin anew"),
        "{words}"
    );
}
