//! A play chain in a thread of this process, one per test, gone when it is dropped.

use crate::bitcoind::{call, free_port};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tempfile::TempDir;
use turnpike_firmware::playchain::{PlayServer, ServerConfig};

/// A running play chain with its own folder, port and cookie; blocks come only when asked for.
pub struct PlayChain {
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
    listen: SocketAddr,
}

impl PlayChain {
    /// Starts a play chain with its first 120 blocks.
    pub fn start() -> Self {
        PlayChain::start_on(Ipv4Addr::LOCALHOST)
    }

    /// The same on this address of the machine, or on all of them.
    pub fn start_on(address: Ipv4Addr) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("turnpike-playchain-")
            .tempdir()
            .expect("temporary directory");
        let mut chain = PlayChain {
            thread: None,
            folder,
            listen: SocketAddr::from((address, free_port())),
        };
        chain.launch();
        chain
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.listen.port()
    }

    /// The cookie file.
    pub fn cookie(&self) -> PathBuf {
        self.folder.path().join(".cookie")
    }

    /// Starts it again after [`PlayChain::stop`], on the same port, with the same chain and a new cookie.
    pub fn launch(&mut self) {
        assert!(self.thread.is_none(), "the play chain runs already");
        let config = ServerConfig {
            listen: self.listen,
            folder: self.folder.path().to_owned(),
            keep: true,
            block_time: None,
        };
        let (ready, is_ready) = mpsc::channel();
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(async {
                let server = PlayServer::bind(config).await.expect("start the play chain");
                ready.send(()).expect("the test waits");
                server
                    .run(std::future::pending())
                    .await
                    .expect("run the play chain");
            });
        }));
        is_ready.recv().expect("the play chain starts");
    }

    /// Ends it in an orderly way; the folder and the port stay for [`PlayChain::launch`].
    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.call("stop", json!([])).expect("stop");
            thread.join().expect("the play chain ends");
        }
    }

    /// Calls an RPC method; the error is the chain's own words.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let cookie = std::fs::read_to_string(self.cookie()).map_err(|e| format!("cookie: {e}"))?;
        call(self.port(), &cookie, method, &params)
    }
}

impl Drop for PlayChain {
    fn drop(&mut self) {
        if self.thread.is_some() && self.call("stop", json!([])).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}
