//! The play chain's front door: JSON-RPC over HTTP/1.1 on one port, with a cookie file as bitcoind writes it.

use super::node::PlayNode;
use super::rpc;
use bitcoin::base64::Engine;
use bitcoin::base64::engine::general_purpose::STANDARD;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Longest head of a request, bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Longest body, bytes: a block's worth of transaction in hex.
const MAX_BODY: usize = 10 * 1024 * 1024;
/// Connections at once; more wait.
const MAX_CONNECTIONS: usize = 64;
/// A client has this long to send its request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to serve, and how fast the chain grows.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder for the cookie and the chain. It must exist.
    pub folder: PathBuf,
    /// Whether to keep the chain in the folder over a restart.
    pub keep: bool,
    /// Time between blocks; `None` makes them only when asked to.
    pub block_time: Option<Duration>,
}

/// Why the play chain does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The port is taken or not allowed.
    #[error("cannot listen on {address}: {why}; choose another --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        why: io::Error,
    },
    /// The chain or the cookie cannot be read or written.
    #[error("cannot use {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: io::Error,
    },
}

/// A play chain that serves.
///
/// Call order: [`PlayServer::bind`], then [`PlayServer::run`] until its `stop` future ends or a client asks for it.
pub struct PlayServer {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    node: Arc<Mutex<PlayNode>>,
    config: ServerConfig,
}

impl PlayServer {
    /// Opens the chain, listens, and writes the cookie (readable by this user only).
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let chain = config.keep.then(|| config.folder.join("chain.dat"));
        let node = PlayNode::open(chain.clone()).map_err(|why| ServeError::File {
            path: chain.unwrap_or_else(|| config.folder.clone()),
            why,
        })?;
        let listen = |why| ServeError::Listen {
            address: config.listen,
            why,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let path = config.folder.join(".cookie");
        let cookie = write_cookie(&path).map_err(|why| ServeError::File { path, why })?;
        let token = STANDARD.encode(cookie);
        Ok(PlayServer {
            listener,
            address,
            token,
            node: Arc::new(Mutex::new(node)),
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cookie file.
    pub fn cookie(&self) -> PathBuf {
        self.config.folder.join(".cookie")
    }

    /// Serves and makes blocks until `stop` ends or a client calls `stop`; then keeps what waits in the mempool.
    ///
    /// # Errors
    /// [`ServeError::File`] if the chain cannot be written down.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let (stopper, mut stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut ticks = self.config.block_time.map(|time| {
            let mut ticks = interval(time);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let file = |why| ServeError::File {
            path: self.config.folder.clone(),
            why,
        };
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = stopped.changed() => break,
                () = next_tick(&mut ticks) => {
                    self.node.lock().unwrap_or_else(PoisonError::into_inner).mine_for_faucet().map_err(file)?;
                }
                accepted = self.listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let Ok(place) = places.clone().acquire_owned().await else { break };
                    let (node, token, stopper) = (self.node.clone(), self.token.clone(), stopper.clone());
                    tokio::spawn(async move {
                        // A client that breaks off harms only itself.
                        if let Ok(true) = serve(stream, &node, &token).await {
                            let _ = stopper.send(true);
                        }
                        drop(place);
                    });
                }
            }
        }
        let _ = std::fs::remove_file(self.cookie());
        self.node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .close()
            .map_err(file)
    }
}

async fn next_tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Answers one request; the result says whether the process is to end.
async fn serve(mut stream: TcpStream, node: &Mutex<PlayNode>, token: &str) -> io::Result<bool> {
    let request = timeout(PATIENCE, read_request(&mut stream)).await??;
    let (status, body, stop) = match request {
        Request::Bad(status) => (status, String::new(), false),
        Request::Good { authorization, .. } if authorization.as_deref() != Some(token) => {
            ("401 Unauthorized", String::new(), false)
        }
        Request::Good { body, .. } => match serde_json::from_slice(&body) {
            Ok(question) => {
                let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
                let (answer, stop) = rpc::answer(&mut node, &question);
                let failed = answer["error"].is_object();
                (
                    if failed {
                        "500 Internal Server Error"
                    } else {
                        "200 OK"
                    },
                    answer.to_string(),
                    stop,
                )
            }
            Err(_) => ("400 Bad Request", String::new(), false),
        },
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    timeout(PATIENCE, async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    })
    .await??;
    Ok(stop)
}

enum Request {
    Bad(&'static str),
    Good {
        authorization: Option<String>,
        body: Vec<u8>,
    },
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    let body_at = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MAX_HEAD {
            return Ok(Request::Bad("431 Request Header Fields Too Large"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(body_at);
    let head = String::from_utf8_lossy(&bytes);
    if !head.starts_with("POST ") {
        return Ok(Request::Bad("405 Method Not Allowed"));
    }
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let length = match field("content-length").and_then(|l| l.parse::<usize>().ok()) {
        Some(length) if length <= MAX_BODY => length,
        Some(_) => return Ok(Request::Bad("413 Content Too Large")),
        None => return Ok(Request::Bad("411 Length Required")),
    };
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(length);
    let authorization = field("authorization").and_then(|a| a.strip_prefix("Basic ").map(str::to_owned));
    Ok(Request::Good { authorization, body })
}

fn write_cookie(path: &PathBuf) -> io::Result<String> {
    let mut secret = [0u8; 32];
    getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
    let secret: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let cookie = format!("__cookie__:{secret}");
    // The old file may have other permissions.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(cookie.as_bytes())?;
    Ok(cookie)
}
