//! The play chain as a process, asked by curl: a stock client that shares no code with it.
#![cfg(feature = "playchain")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Process {
    child: Child,
    url: String,
    cookie: String,
    /// What it printed about itself after the first two lines.
    advice: String,
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
    let mut advice = String::new();
    for line in lines.map(|l| l.expect("text")) {
        advice.push_str(&line);
        advice.push('\n');
        if line.starts_with("Blocks:") {
            break;
        }
    }
    Process {
        child,
        url,
        cookie: std::fs::read_to_string(cookie).expect("cookie"),
        advice,
    }
}

/// The command of a line of advice, carried out by this build's program, with other words at its end.
fn command(advice: &str, start: &str, end: &[&str]) -> std::process::Output {
    let line = advice.lines().find(|l| l.starts_with(start)).expect(start);
    let words = line.split_whitespace().skip(2);
    Command::new(env!("CARGO_BIN_EXE_turnpike-playchain"))
        .args(words.take(4))
        .args(end)
        .output()
        .expect("run turnpike-playchain")
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
fn what_it_prints_is_a_section_that_a_node_takes_and_commands_that_give_coins_and_blocks() {
    let folder = tempfile::tempdir().expect("folder");
    let process = start(folder.path());
    let section: String = process
        .advice
        .lines()
        .skip_while(|l| *l != "[chain]")
        .take_while(|l| !l.is_empty())
        .map(|l| format!("{l}\n"))
        .collect();
    let file = folder.path().join("turnpike.toml");
    std::fs::write(&file, format!("[node]\ndata_dir = \"data\"\n{section}")).expect("write");
    let chain = turnpike_firmware::config::Config::read(&file)
        .expect("a configuration")
        .chain;
    assert_eq!(chain.url, process.url);
    let turnpike_firmware::chain::Auth::Cookie(cookie) = chain.auth else {
        panic!("no cookie");
    };
    assert_eq!(std::fs::read_to_string(cookie).expect("cookie"), process.cookie);

    let address = "bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqvg32hk";
    let out = command(&process.advice, "Coins:", &["faucet", address, "50000"]);
    let words = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && words.contains("50000 sat"), "{words}");
    let txid = words.trim().rsplit(' ').next().expect("a word");
    assert!(process.ask("getrawmempool", "[]").contains(txid));
    let out = command(&process.advice, "Blocks:", &["mine", "3"]);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "height 123\n");
    assert!(process.ask("getrawmempool", "[]").contains(r#""result":[]"#));
    assert!(
        process
            .ask("gettxout", &format!(r#"["{txid}", 0]"#))
            .contains(r#""value":0.0005"#)
    );

    // What is wrong is said, and the status tells.
    let out = command(&process.advice, "Coins:", &["faucet", address, "329"]);
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && words.contains("330 sat to 10 coins"),
        "{words}"
    );
    let advice = process.advice.clone();
    process.end();
    let out = command(&advice, "Blocks:", &["mine", "1"]);
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && words.contains("start `turnpike-playchain`"),
        "{words}"
    );
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
