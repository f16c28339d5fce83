//! A lab with a chain and daemons in it: separate processes with stores and seeds of their own, used as their owner
//! would use them, by the command line.
//!
//! ```text
//! client0 ── eth0 │ guest0 ─ relay ─ up0 │ eth0 ── uplink
//!    └──── chain0 ─── side network 10.99.0.0/24 ─── chain0 ────┘ (each daemon's own way to the chain's RPC)
//! ```

use crate::bitcoind::{Bitcoind, call, free_port};
use crate::lab::{Host, Lab, Plan};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything that a loaded two-core machine does.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The side network's own address of the chain.
const CHAIN4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The relay's TCP port.
const PORT: u16 = 7473;

/// Which chain the site stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainKind {
    /// The play-money chain, a process of its own.
    Play,
    /// A regtest bitcoind.
    Bitcoind,
}

enum Chain {
    Play {
        child: Option<Child>,
        port: u16,
        folder: PathBuf,
    },
    Bitcoind(Box<Bitcoind>),
}

/// A daemon and its folder.
pub struct Node {
    host: Host,
    folder: PathBuf,
    child: Option<Child>,
    preload: Option<PathBuf>,
    wrapper: Vec<String>,
}

/// The whole site. Dropping it ends every process that it started.
pub struct Site {
    /// The network.
    pub lab: Lab,
    chain: Chain,
    /// The relay's daemon.
    pub relay: Node,
    /// One daemon a client.
    pub clients: Vec<Node>,
    folder: TempDir,
}

/// A program of this project, beside the one that runs.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let folder = own.parent().expect("a folder");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("a folder")
    } else {
        folder
    };
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace` first",
        path.display()
    );
    path
}

fn sh(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().expect("a word"))
        .args(words)
        .output()
        .expect("ip from iproute2");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Site {
    /// Builds the network and starts the chain; no daemon runs yet, every node has a seed and a configuration.
    /// `price` is in millisatoshi per MiB, both ways; `more` is appended to the relay's configuration file.
    pub fn new(plan: Plan, kind: ChainKind, price: u64, more: &str) -> Site {
        Site::polling(plan, kind, price, more, "250 ms")
    }

    /// The same, where the daemons look at the chain every `poll`.
    pub fn polling(plan: Plan, kind: ChainKind, price: u64, more: &str, poll: &str) -> Site {
        let lab = Lab::new(plan);
        let folder = tempfile::Builder::new()
            .prefix("turnpike-site-")
            .tempdir()
            .expect("temporary directory");
        side_network(&lab);
        let chain = Chain::start(kind, folder.path());
        let clients = (0..lab.clients())
            .map(|i| Node::new(lab.client(i).clone(), folder.path().join(format!("client{i}"))))
            .collect();
        let relay = Node::new(lab.relay().clone(), folder.path().join("relay"));
        let site = Site {
            lab,
            chain,
            relay,
            clients,
            folder,
        };
        site.relay
            .write_config(&site.chain.section(poll), &relay_section(price, more));
        for client in &site.clients {
            let section = format!(
                "[client]\nrelay = \"{}:{PORT}\"\ninterface = \"{}\"\n",
                Lab::RELAY4,
                Lab::ETH
            );
            client.write_config(&site.chain.section(poll), &section);
        }
        for node in site.nodes() {
            node.ask(&["init"]);
        }
        site
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.clients.iter().chain([&self.relay])
    }

    /// Where the relay is called.
    pub fn relay_address(&self) -> SocketAddr {
        SocketAddr::from((Lab::RELAY4, PORT))
    }

    /// Starts the relay and every client.
    pub fn start(&mut self) {
        self.relay.start();
        for client in &mut self.clients {
            client.start();
        }
    }

    /// A temporary folder of this site.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Mines blocks.
    pub fn mine(&self, blocks: u32) {
        let address = match &self.chain {
            Chain::Play { .. } => self.rpc("getnewaddress", json!([])),
            Chain::Bitcoind(node) => {
                node.mine(blocks);
                return;
            }
        };
        // The play chain has no wallet: its blocks go to a node's own address.
        let address = address.unwrap_or_else(|_| Value::String(self.clients[0].address()));
        self.rpc("generatetoaddress", json!([blocks, address]))
            .expect("generatetoaddress");
    }

    /// Asks the chain.
    pub fn rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        match &self.chain {
            Chain::Play { port, folder, .. } => {
                let cookie =
                    fs::read_to_string(folder.join(".cookie")).map_err(|e| format!("cookie: {e}"))?;
                call(*port, &cookie, method, &params)
            }
            Chain::Bitcoind(node) => node.call(method, params),
        }
    }

    /// Ends the chain's process.
    pub fn chain_down(&mut self) {
        self.chain.down();
    }

    /// Starts it again, with a new cookie.
    pub fn chain_up(&mut self) {
        self.chain.up();
    }

    /// Transactions in the chain's mempool.
    pub fn mempool(&self) -> Vec<Value> {
        self.rpc("getrawmempool", json!([]))
            .expect("getrawmempool")
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Where the chain is, as the nodes are told: `HOST:PORT`.
    pub fn chain_address(&self) -> String {
        let port = match &self.chain {
            Chain::Play { port, .. } => *port,
            Chain::Bitcoind(node) => node.port(),
        };
        format!("{CHAIN4}:{port}")
    }

    /// The chain's height.
    pub fn height(&self) -> u64 {
        self.rpc("getblockcount", json!([]))
            .expect("getblockcount")
            .as_u64()
            .expect("a height")
    }

    /// Gives client `i` this many spendable satoshi.
    pub fn fund(&self, i: usize, sat: u64) {
        let address = self.clients[i].address();
        match &self.chain {
            Chain::Play { .. } => {
                self.rpc("faucet", json!([address, sat])).expect("faucet");
                self.mine(1);
            }
            Chain::Bitcoind(node) => {
                let bitcoin = sat as f64 / 1e8;
                node.call("sendtoaddress", json!([address, format!("{bitcoin:.8}")]))
                    .expect("sendtoaddress");
                node.mine(1);
            }
        }
        wait_for("the client's coins", || {
            self.clients[i].ask(&["wallet", "balance"])["confirmed_sat"]
                .as_u64()
                .is_some_and(|s| s >= sat)
        });
    }
}

fn relay_section(price: u64, more: &str) -> String {
    format!(
        "[relay]\nenabled = true\nlisten = \"{}:{PORT}\"\nguest_interface = \"{}\"\nuplink_interface = \"{}\"\nmasquerade = true\n\
         [price]\nup = \"{price} msat/MiB\"\ndown = \"{price} msat/MiB\"\n{more}",
        Lab::RELAY4,
        Lab::GUEST,
        Lab::UP,
    )
}

/// A way to the chain for every daemon, apart from the links that are sold.
fn side_network(lab: &Lab) {
    sh("ip link set lo up");
    sh("ip link add chain0 type bridge");
    sh(&format!("ip addr add {CHAIN4}/24 dev chain0"));
    sh("ip link set chain0 up");
    let hosts: Vec<&Host> = (0..lab.clients())
        .map(|i| lab.client(i))
        .chain([lab.relay()])
        .collect();
    for (i, host) in hosts.iter().enumerate() {
        sh(&format!(
            "ip link add side{i} type veth peer name chain0 netns {}",
            host.name()
        ));
        sh(&format!("ip link set side{i} master chain0 up"));
        host.run(&format!("ip addr add 10.99.0.{}/24 dev chain0", 10 + i));
        host.run("ip link set chain0 up");
    }
}

impl Chain {
    fn start(kind: ChainKind, folder: &Path) -> Chain {
        match kind {
            ChainKind::Bitcoind => {
                let bind = format!("-rpcbind={CHAIN4}");
                Chain::Bitcoind(Box::new(Bitcoind::start_with(&[
                    &bind,
                    "-rpcallowip=10.99.0.0/24",
                ])))
            }
            ChainKind::Play => {
                let (port, folder) = (free_port(), folder.join("playchain"));
                let mut chain = Chain::Play {
                    child: None,
                    port,
                    folder,
                };
                chain.up();
                chain
            }
        }
    }

    fn up(&mut self) {
        match self {
            Chain::Bitcoind(node) => node.launch(),
            Chain::Play { child, port, folder } => {
                let _ = fs::remove_file(folder.join(".cookie"));
                let process = Command::new(program("turnpike-playchain"))
                    .args([
                        "--listen",
                        &format!("0.0.0.0:{port}"),
                        "--block-time",
                        "0",
                        "--folder",
                    ])
                    .arg(&*folder)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("turnpike-playchain");
                *child = Some(process);
                wait_for("the play chain", || folder.join(".cookie").exists());
            }
        }
    }

    fn down(&mut self) {
        match self {
            Chain::Bitcoind(node) => node.stop(),
            Chain::Play { child, .. } => {
                if let Some(mut child) = child.take() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        }
    }

    fn section(&self, poll: &str) -> String {
        let (backend, port, cookie) = match self {
            Chain::Play { port, folder, .. } => ("play", *port, folder.join(".cookie")),
            Chain::Bitcoind(node) => ("bitcoind", node.port(), node.cookie()),
        };
        format!(
            "[chain]\nbackend = \"{backend}\"\nnetwork = \"regtest\"\nurl = \"http://{CHAIN4}:{port}\"\ncookie = \"{}\"\npoll = \"{poll}\"\n",
            cookie.display()
        )
    }
}

impl Node {
    pub(crate) fn new(host: Host, folder: PathBuf) -> Node {
        fs::create_dir_all(&folder).expect("a folder");
        Node {
            host,
            folder,
            child: None,
            preload: None,
            wrapper: Vec::new(),
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("turnpike.toml")
    }

    pub(crate) fn write_config(&self, chain: &str, rest: &str) {
        let data = self.folder.join("data");
        let node = format!(
            "[node]\nname = \"{}\"\ndata_dir = \"{}\"\n",
            self.host.name(),
            data.display()
        );
        fs::write(self.config(), format!("{node}{chain}{rest}")).expect("the configuration");
    }

    /// The configuration file's text.
    pub fn read_config(&self) -> String {
        fs::read_to_string(self.config()).expect("the configuration")
    }

    /// Replaces the configuration file's text.
    pub fn replace_config(&self, text: &str) {
        fs::write(self.config(), text).expect("the configuration");
    }

    /// The folder of seed, store and socket.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The daemon's command line, not started.
    pub fn daemon(&self) -> Command {
        let daemon = program("turnpiked");
        let mut words = self.wrapper.iter().map(OsStr::new).chain([daemon.as_os_str()]);
        let mut command = self.host.command(words.next().expect("a program"));
        command
            .args(words)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts the daemon through these words from its next start on.
    pub fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(ToString::to_string).collect();
    }

    /// Preloads this library into the daemon from its next start on.
    pub fn preload(&mut self, library: &Path) {
        self.preload = Some(library.to_owned());
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a log");
        let mut command = self.daemon();
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        self.child = Some(command.stderr(log).spawn().expect("turnpiked"));
        let end = Instant::now() + PATIENCE;
        while self.try_ask(&["status"]).is_err() {
            let ended = self
                .child
                .as_mut()
                .is_some_and(|c| c.try_wait().expect("wait").is_some());
            assert!(
                !ended && Instant::now() < end,
                "turnpiked on {} did not start:\n{}",
                self.host.name(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the daemon as a power cut would, but for the kernel.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Asks the daemon to go down and waits for it.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let end = Instant::now() + PATIENCE;
        while child.try_wait().expect("wait").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                panic!(
                    "turnpiked on {} did not go down:\n{}",
                    self.host.name(),
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the daemon logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The daemon's process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The command line, as the owner of this node would type it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(program("turnpike"));
        command
            .arg("--config")
            .arg(self.config())
            .arg("--json")
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Asks and gives the answer's JSON, or what stood on standard error.
    pub fn try_ask(&self, words: &[&str]) -> Result<Value, String> {
        let output = self.command(words).output().expect("turnpike");
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        // Streams end with the answer: the last line counts.
        let last = text.trim().lines().last().unwrap_or("null");
        serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(last))
            .map_err(|e| format!("{e}: {text}"))
    }

    /// Asks what must be answered.
    pub fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|e| {
            panic!(
                "{}: turnpike {}: {e}\n{}",
                self.host.name(),
                words.join(" "),
                self.log()
            )
        })
    }

    /// A receiving address of its wallet.
    pub fn address(&self) -> String {
        self.ask(&["wallet", "address"])["address"]
            .as_str()
            .expect("an address")
            .to_owned()
    }
}

/// Waits for something that must come.
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !there() {
        assert!(
            Instant::now() < end,
            "{what} did not come within {} s",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.host.name(), self.log());
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Chain::Play { .. } = self {
            self.down();
        }
    }
}
