//! Everything around one card: a machine, a chain, a web server, and a client that buys.

use super::{Board, Card, Machine, Settings, Shell, Wires};
use crate::judge;
use crate::playchain::PlayChain;
use crate::sale::PRICE;
use crate::servers::web;
use crate::site::{Node, wait_for};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the machine's port 22 is, in the lab's own network.
const SSH: u16 = 2_222;
pub(super) const HTTP: u16 = 8_080;
/// What the client begins with, satoshi.
const COINS: u64 = 500_000;

/// What an owner looks at when something is wrong; the kernel's own log is on the console.
const LOGS: &str = "for it in /run/log/*/current; do case $it in */klog/*) ;; *) echo \"== $it\"; tail -n 20 $it ;; esac; done; \
    cat /run/turnpike/problems/*; ip addr; df -k /data; true";

/// A card in a machine, and the world around it. Inside the lab's user namespace only.
pub struct Stand {
    /// The machine.
    pub machine: Machine,
    /// Its owner's way in.
    pub shell: Shell,
    /// The chain, which the machine and the client reach by ways of their own.
    pub chain: PlayChain,
    /// The client's node; not started yet.
    pub client: Node,
    pub(super) wires: Wires,
    pub(super) folder: TempDir,
}

impl Stand {
    /// Flashes a card with the settings of a node that sells, and puts it into a machine, which is off.
    pub fn new(board: Board) -> Stand {
        Stand::with(board, |settings| settings)
    }

    /// The same with other settings.
    pub fn with(board: Board, change: impl FnOnce(Settings) -> Settings) -> Stand {
        // First, so that a missing image is the one thing that is said.
        let card = Card::flash();
        let folder = tempfile::Builder::new().prefix("turnpike-stand-").tempdir();
        let folder = folder.expect("temporary directory");
        let wires = Wires::lay();
        let chain = PlayChain::start_on(Ipv4Addr::UNSPECIFIED);
        web(TcpListener::bind((Ipv4Addr::LOCALHOST, HTTP)).expect("a port"));
        let shell = Shell::new(folder.path(), SSH);
        let client = Node::new(wires.client().clone(), folder.path().join("client"));
        client.write_config(
            &format!(
                "[chain]\nbackend = \"play\"\nnetwork = \"regtest\"\nurl = \"http://{}:{}\"\ncookie = \"{}\"\npoll = \"250 ms\"\n",
                Wires::SIDE,
                chain.port(),
                chain.cookie().display()
            ),
            &format!(
                "[client]\nrelay = \"{}:7473\"\ninterface = \"{}\"\n",
                Wires::RELAY,
                Wires::ETH
            ),
        );
        client.ask(&["init"]);
        let stand = Stand {
            machine: Machine::new(board, card, SSH).with_guests(),
            shell,
            chain,
            client,
            wires,
            folder,
        };
        let settings = change(stand.settings());
        let mut stand = stand;
        stand
            .machine
            .card()
            .write("turnpike.toml", settings.text().as_bytes());
        stand
    }

    /// Settings of a node that sells here.
    pub fn settings(&self) -> Settings {
        let cookie = std::fs::read_to_string(self.chain.cookie()).expect("the chain's cookie");
        let url = format!("http://{}:{}", Wires::WORLD, self.chain.port());
        let board = self.machine.board();
        Settings::reachable(&self.shell.public_key())
            .chain(&url, cookie.trim())
            .sell(board.guest(), board.uplink(), PRICE)
    }

    /// The network around the machine.
    pub fn wires(&self) -> &Wires {
        &self.wires
    }

    /// Waits until the machine's daemon answers its owner over SSH, and gives its status.
    ///
    /// # Errors
    /// The last words of SSH or of the daemon, and the end of the console.
    pub fn status(&mut self) -> Result<Value, String> {
        let end = Instant::now() + self.machine.board().patience();
        loop {
            let words = match self.shell.turnpike("status") {
                Ok(status) => return Ok(status),
                Err(words) => words,
            };
            self.machine.alive()?;
            if Instant::now() > end {
                return Err(format!(
                    "no status from the machine: {words}\n{}\n{}",
                    self.machine.console_end(),
                    self.shell.run(LOGS).unwrap_or_else(|e| e)
                ));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Puts a freshly flashed card with this stand's settings into the machine, which is off.
    pub fn flash(&mut self) {
        let card = Card::flash();
        card.write("turnpike.toml", self.settings().text().as_bytes());
        self.machine.insert(card);
        self.shell.forget_host();
    }

    /// Switches the machine on and waits for its status; cuts the power if it does not come.
    ///
    /// # Errors
    /// See [`Stand::status`].
    pub fn boot(&mut self) -> Result<Value, String> {
        self.machine.start();
        self.status()
    }

    /// Waits until this start has lasted long enough not to count as one of those that ask for setup mode (card.md, `short`).
    pub fn lasted(&self) {
        wait_for("a start that lasts", || {
            let uptime = self.shell.run("cut -d. -f1 /proc/uptime").unwrap_or_default();
            uptime.trim().parse::<u32>().is_ok_and(|seconds| seconds >= 23)
        });
    }

    /// Waits until `turnpike status` on the machine lists this problem, whether the daemon runs or not, and gives its text.
    ///
    /// # Errors
    /// It does not in time; with what it lists.
    pub fn explained(&mut self, code: &str) -> Result<String, String> {
        let end = Instant::now() + self.machine.board().patience();
        loop {
            let line = "turnpike --config /run/turnpike/turnpike.toml --json status; true";
            let words = match self.shell.run(line) {
                Ok(text) => {
                    let document: Value = serde_json::from_str(&text).unwrap_or_default();
                    let problems = document["problems"].as_array().cloned().unwrap_or_default();
                    if let Some(problem) = problems.iter().find(|problem| problem["code"] == code) {
                        return Ok(problem["text"].as_str().unwrap_or_default().to_owned());
                    }
                    text
                }
                Err(words) => words,
            };
            self.not_yet(end, &words)?;
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// The texts in the machine's folder of problems, one per line, `CODE: TEXT`.
    pub fn problems(&self) -> String {
        self.shell
            .must("cd /run/turnpike/problems && for it in *; do [ ! -e \"$it\" ] || echo \"$it: $(cat \"$it\")\"; done")
    }

    /// Waits for an address on the guest link and then for the first answer to a question for prices; gives the times of both
    /// since power-on. The client's daemon has to run.
    ///
    /// # Errors
    /// Neither came in time.
    pub fn first_prices(&mut self) -> Result<(Duration, Duration), String> {
        let end = Instant::now() + self.machine.board().patience();
        let leased = loop {
            match self.wires.lease(self.folder.path()) {
                Ok(_) => break self.machine.on_for(),
                Err(words) => self.not_yet(end, &words)?,
            }
        };
        loop {
            let words = match self.client.try_ask(&["discover", "--seconds", "1"]) {
                Ok(found) if found["relays"].as_array().is_some_and(|all| !all.is_empty()) => {
                    return Ok((leased, self.machine.on_for()));
                }
                Ok(found) => found.to_string(),
                Err(words) => words,
            };
            self.not_yet(end, &words)?;
        }
    }

    pub(super) fn not_yet(&mut self, end: Instant, words: &str) -> Result<(), String> {
        self.machine.alive()?;
        if Instant::now() < end {
            return Ok(());
        }
        let log = self.shell.run(LOGS).unwrap_or_else(|e| e);
        Err(format!("{words}\n{}\n{log}", self.machine.console_end()))
    }

    /// Gives the client coins.
    pub fn fund(&self) {
        let address = self.client.address();
        self.chain
            .call("faucet", json!([address, COINS]))
            .expect("faucet");
        judge::Blocks::mine(&self.chain, 1);
        wait_for("the client's coins", || {
            self.client.ask(&["wallet", "balance"])["confirmed_sat"]
                .as_u64()
                .is_some_and(|sat| sat >= COINS)
        });
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() && self.machine.alive().is_ok() {
            let words = self.shell.run(LOGS).unwrap_or_else(|e| e);
            eprintln!("--- the machine's logs ---\n{words}");
        }
    }
}
