//! A real Bitcoin node on a private regtest chain, one per test, gone when it is dropped.
//!
//! The client here is deliberately not the firmware's: the judge shares no code with the judged.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, BlockHash, OutPoint, Transaction, Txid};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for the node to start or to stop; a loaded two-core machine needs about three seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `bitcoind -regtest` with its own data directory, port, cookie and funded wallet.
pub struct Bitcoind {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    extra: Vec<String>,
}

impl Bitcoind {
    /// Starts a node with its default policy and 101 blocks, so that its wallet has 50 BTC to give.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more command line options, such as `-corepolicy`.
    pub fn start_with(extra: &[&str]) -> Self {
        let node = Self::start_empty(extra);
        node.call("createwallet", json!(["miner"])).expect("createwallet");
        node.mine(101);
        node
    }

    /// A node at height 0 without a wallet.
    pub fn start_empty(extra: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("turnpike-bitcoind-")
            .tempdir()
            .expect("temporary directory");
        let extra = extra.iter().map(|s| s.to_string()).collect();
        let mut node = Bitcoind {
            child: None,
            dir,
            port: free_port(),
            extra,
        };
        node.launch();
        node
    }

    /// `http://127.0.0.1:<port>`, as the firmware's configuration wants it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The loopback port that the RPC server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that holds the RPC user and password; a new one at every start.
    pub fn cookie(&self) -> PathBuf {
        self.dir.path().join("regtest/.cookie")
    }

    /// Ends the node in an orderly way. The port, the chain and the wallet stay for [`Bitcoind::launch`].
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = self.call("stop", json!([]));
        let end = Instant::now() + PATIENCE;
        while child.try_wait().expect("wait for bitcoind").is_none() {
            assert!(
                Instant::now() < end,
                "bitcoind did not stop:\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts the node again after [`Bitcoind::stop`].
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "bitcoind runs already");
        let log = File::create(self.dir.path().join("stdout")).expect("log file");
        let child = Command::new(bitcoind_path())
            .arg("-regtest")
            .arg(format!("-datadir={}", self.dir.path().display()))
            .arg(format!("-rpcport={}", self.port))
            .args([
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                "-server",
                "-listen=0",
                "-connect=0",
            ])
            .args(["-fallbackfee=0.00002", "-dbcache=16", "-par=1", "-rpcthreads=4"])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("start bitcoind");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while let Err(e) = self.call("getblockcount", json!([])) {
            let gone = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            assert!(
                gone.is_none() && Instant::now() < end,
                "bitcoind did not start: {e}\n{}",
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // Absent on the first launch.
        let _ = self.call("loadwallet", json!(["miner"]));
    }

    /// Calls an RPC method; the error is the node's own words.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let cookie = std::fs::read_to_string(self.cookie()).map_err(|e| format!("cookie: {e}"))?;
        call(self.port, &cookie, method, &params)
    }

    /// Mines `blocks` blocks to the node's wallet, with everything in the mempool.
    pub fn mine(&self, blocks: u32) -> Vec<BlockHash> {
        let address = self.call("getnewaddress", json!([])).expect("getnewaddress");
        self.hashes("generatetoaddress", json!([blocks, address]))
    }

    /// Mines `blocks` blocks to an address of the test's own.
    pub fn mine_to(&self, blocks: u32, address: &Address) -> Vec<BlockHash> {
        self.hashes("generatetoaddress", json!([blocks, address.to_string()]))
    }

    /// Pays `amount` to `address` from the node's wallet, unconfirmed.
    pub fn pay(&self, address: &Address, amount: Amount) -> OutPoint {
        let sent = self
            .call("sendtoaddress", json!([address.to_string(), amount.to_btc()]))
            .expect("sendtoaddress");
        let txid: Txid = sent.as_str().expect("txid").parse().expect("txid");
        let tx = self.transaction(txid);
        let script = address.script_pubkey();
        let vout = tx
            .output
            .iter()
            .position(|o| o.script_pubkey == script)
            .expect("the output just paid");
        OutPoint::new(txid, vout as u32)
    }

    /// Pays `amount` to `address` and confirms it in one block.
    pub fn fund(&self, address: &Address, amount: Amount) -> OutPoint {
        let outpoint = self.pay(address, amount);
        self.mine(1);
        outpoint
    }

    /// A transaction of the mempool or of the wallet.
    pub fn transaction(&self, txid: Txid) -> Transaction {
        let raw = self
            .call("getrawtransaction", json!([txid.to_string()]))
            .or_else(|_| {
                self.call("gettransaction", json!([txid.to_string()]))
                    .map(|v| v["hex"].clone())
            })
            .expect("transaction known to the node");
        deserialize_hex(raw.as_str().expect("hex")).expect("transaction")
    }

    /// Offers a transaction to the mempool; the error is the reason that the node gives.
    pub fn send(&self, tx: &Transaction) -> Result<Txid, String> {
        let sent = self.call("sendrawtransaction", json!([serialize_hex(tx), 0]))?;
        Ok(sent.as_str().expect("txid").parse().expect("txid"))
    }

    /// Whether the mempool would take the transaction: `Err` holds the node's `reject-reason`.
    pub fn judge(&self, tx: &Transaction) -> Result<(), String> {
        let verdict = self.call("testmempoolaccept", json!([[serialize_hex(tx)], 0]))?;
        match verdict[0]["allowed"].as_bool() {
            Some(true) => Ok(()),
            _ => Err(verdict[0]["reject-reason"]
                .as_str()
                .unwrap_or("no reason given")
                .to_owned()),
        }
    }

    /// Height of the best block.
    pub fn height(&self) -> u32 {
        let height = self.call("getblockcount", json!([])).expect("getblockcount");
        height.as_u64().expect("height") as u32
    }

    fn hashes(&self, method: &str, params: Value) -> Vec<BlockHash> {
        let mined = self.call(method, params).expect(method);
        let mined = mined.as_array().expect("block hashes");
        mined
            .iter()
            .map(|h| h.as_str().expect("hash").parse().expect("hash"))
            .collect()
    }

    fn log_tail(&self) -> String {
        let read = |p: &Path| std::fs::read_to_string(p).unwrap_or_default();
        let log = read(&self.dir.path().join("stdout")) + &read(&self.dir.path().join("regtest/debug.log"));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The node to run: `$TURNPIKE_BITCOIND`, PATH, or what `scripts/bitcoind.sh` unpacked.
///
/// # Panics
/// Where there is none: a judge that is missing is a failed test, never a skipped one.
pub fn bitcoind_path() -> PathBuf {
    if let Some(path) = std::env::var_os("TURNPIKE_BITCOIND") {
        return path.into();
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    std::env::split_paths(&on_path)
        .map(|dir| dir.join("bitcoind"))
        .chain([target.join("tools/bitcoin/bitcoind")])
        .find(|p| p.is_file())
        .expect("no bitcoind: run scripts/bitcoind.sh once, or set TURNPIKE_BITCOIND to one")
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("its address").port()
}

/// One JSON-RPC call over one connection.
pub(crate) fn call(port: u16, cookie: &str, method: &str, params: &Value) -> Result<Value, String> {
    let body = json!({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        base64(cookie.trim().as_bytes()),
        body.len()
    );
    let exchange = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        String::from_utf8(answer).map_err(|_| std::io::Error::from(ErrorKind::InvalidData))
    };
    let answer = exchange().map_err(|e| format!("{method}: {e}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(format!("{method}: no HTTP answer"))?;
    let mut answer: Value = serde_json::from_str(body.trim())
        .map_err(|_| format!("{method}: {}", head.lines().next().unwrap_or_default()))?;
    match answer["error"].take() {
        Value::Null => Ok(answer["result"].take()),
        error => Err(error["message"]
            .as_str()
            .unwrap_or("error without a message")
            .to_owned()),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(n >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
