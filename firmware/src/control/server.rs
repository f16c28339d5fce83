//! The daemon's end: accepts, reads one request per connection, and hands it over with a way to answer.

use super::{
    Envelope, Failed, LINE_TIMEOUT, MAX_ANSWER, MAX_CONNECTIONS, MAX_REQUEST, MAX_WAITING, Message, Progress,
    Request, Response, VERSION,
};
use rustix::fs::FlockOperation;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Owns the socket file. Call order: [`ControlServer::bind`], then [`ControlServer::run`] in a task of its own. The
/// file goes away with it.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    orders: mpsc::Sender<Order>,
    /// Held while the socket is ours; the kernel lets go of it when the process dies, however that happens.
    _lock: File,
}

/// A request, and how to answer it.
#[derive(Debug)]
pub struct Order {
    /// What is wanted.
    pub request: Request,
    /// Takes the answer.
    pub responder: Responder,
}

/// Answers one request. None of its calls waits. Dropped without [`Responder::finish`] it answers that the daemon
/// ended.
#[derive(Debug)]
pub struct Responder {
    lines: mpsc::Sender<Message>,
    /// The room for the last line is kept free from the start.
    last: mpsc::OwnedPermit<Message>,
    missed: Arc<AtomicU64>,
}

/// Nobody reads the answer any more: the user went away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the user went away")]
pub struct Gone;

/// Why the socket could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another daemon has this data folder.
    #[error(
        "{path}: turnpiked is already running with this data folder: stop it first, or name another folder"
    )]
    Running {
        /// The socket.
        path: PathBuf,
    },
    /// There is something else at its place.
    #[error("{path} is no socket and is never overwritten: move it away")]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// Unix sockets have short names.
    #[error("{path}: the path of a socket has at most 107 bytes: choose a data folder with a shorter path")]
    TooLong {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {error}: check that the folder exists and belongs to this user")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl ControlServer {
    /// Makes the socket, mode 0600. The file of a dead daemon is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`]; nothing was changed then.
    pub fn bind(path: &Path) -> Result<(ControlServer, mpsc::Receiver<Order>), BindError> {
        let io = |error: io::Error| BindError::Io {
            path: path.to_owned(),
            error,
        };
        let address = SocketAddrUnix::new(path).map_err(|_| BindError::TooLong {
            path: path.to_owned(),
        })?;
        let lock = lock(path)?;
        // With the lock in hand, whatever socket is there was left behind.
        match path.symlink_metadata() {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(io)?,
            Ok(_) => {
                return Err(BindError::Occupied {
                    path: path.to_owned(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        // Nobody can connect before `listen`, and by then only this user may.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .and_then(|socket| rustix::net::bind(&socket, &address).map(|()| socket))
            .map_err(|error| io(error.into()))?;
        let listener = std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .and_then(|()| rustix::net::listen(&made, 16).map_err(io::Error::from))
            .and_then(|()| UnixListener::from_std(made.into()));
        let listener = listener.map_err(|error| {
            drop(std::fs::remove_file(path));
            io(error)
        })?;
        let (orders, receiver) = mpsc::channel(MAX_CONNECTIONS);
        Ok((
            ControlServer {
                listener,
                path: path.to_owned(),
                orders,
                _lock: lock,
            },
            receiver,
        ))
    }

    /// Serves until the receiver of the orders is dropped.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.orders.closed() => return,
            };
            let mut stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    // Out of file descriptors: what is open now has to end first.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                let error = format!("{MAX_CONNECTIONS} programs speak to the daemon already");
                let line = line(&Message::Failed(Failed::refused(error, "end some of them")));
                // One short line fits the empty buffer of a new socket: this never waits.
                drop(stream.try_write(&line));
                drop(stream.shutdown().await);
                continue;
            };
            let orders = self.orders.clone();
            tokio::spawn(async move {
                serve(stream, orders).await;
                drop(place);
            });
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl Responder {
    /// Tells how it goes. A reader who is too slow misses lines and is told how many.
    ///
    /// # Errors
    /// [`Gone`] once nobody listens.
    pub fn progress(&self, progress: Progress) -> Result<(), Gone> {
        match self.lines.try_send(Message::Progress(progress)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// The answer.
    pub fn finish(self, result: Result<Response, Failed>) {
        self.last.send(match result {
            Ok(response) => Message::Done(response),
            Err(failed) => Message::Failed(failed),
        });
    }

    /// Whether nobody listens any more.
    pub fn is_gone(&self) -> bool {
        self.lines.is_closed()
    }

    /// Ends when nobody listens any more.
    pub async fn gone(&self) {
        self.lines.closed().await;
    }
}

fn lock(path: &Path) -> Result<File, BindError> {
    let io = |error: io::Error| BindError::Io {
        path: path.to_owned(),
        error,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(name)
        .map_err(io)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BindError::Running {
            path: path.to_owned(),
        }),
        Err(error) => Err(io(error.into())),
    }
}

/// One connection, from its request to its last line.
async fn serve(stream: UnixStream, orders: mpsc::Sender<Order>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match tokio::time::timeout(LINE_TIMEOUT, request(&mut reader)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(failed)) => {
            drop(send(&mut writer, &Message::Failed(failed)).await);
            return;
        }
    };
    let (lines, mut waiting) = mpsc::channel(MAX_WAITING);
    let Ok(last) = lines.clone().try_reserve_owned() else {
        return;
    };
    let missed = Arc::new(AtomicU64::new(0));
    let responder = Responder {
        lines,
        last,
        missed: missed.clone(),
    };
    if orders.send(Order { request, responder }).await.is_err() {
        let ended = Failed::daemon("the daemon is shutting down", "wait, and start it again");
        drop(send(&mut writer, &Message::Failed(ended)).await);
        return;
    }
    loop {
        let message = tokio::select! {
            message = waiting.recv() => message,
            () = gone(&mut reader) => return,
        };
        let left_out = missed.swap(0, Ordering::Relaxed);
        let over = !matches!(message, Some(Message::Progress(_)));
        let unanswered = || {
            Message::Failed(Failed::daemon(
                "the daemon ended before it answered",
                "read its log, and start it again",
            ))
        };
        let message = message.unwrap_or_else(unanswered);
        let missed = (left_out > 0).then_some(Message::Progress(Progress::Missed { lines: left_out }));
        for message in missed.iter().chain([&message]) {
            let sent = tokio::select! {
                sent = send(&mut writer, message) => sent,
                () = gone(&mut reader) => return,
            };
            if sent.is_err() {
                return;
            }
        }
        if over {
            return;
        }
    }
}

/// Reads the request; `None` where the connection ended before it did.
async fn request(reader: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Option<Request>, Failed> {
    let mut line = Vec::new();
    let read = reader.take(MAX_REQUEST as u64).read_until(b'\n', &mut line).await;
    match read {
        Ok(_) if line.ends_with(b"\n") => {}
        Ok(MAX_REQUEST..) => {
            let error = format!("the request is longer than {MAX_REQUEST} bytes");
            return Err(Failed::usage(error, "it was not acted on; send one line of JSON"));
        }
        _ => return Ok(None),
    }
    let unreadable = |error: serde_json::Error| {
        Failed::usage(
            format!("the request cannot be read ({error})"),
            format!("send one line of JSON as the page on the control socket, version {VERSION}, has it"),
        )
    };
    // The version first: a newer client may well send what this one cannot read.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&line).map_err(unreadable)?;
    if version != VERSION {
        let error =
            format!("the daemon speaks version {VERSION} of the control protocol, the program {version}");
        return Err(Failed::usage(
            error,
            "install turnpike and turnpiked of the same release, and restart turnpiked",
        ));
    }
    serde_json::from_slice(&line)
        .map(|envelope: Envelope| Some(envelope.request))
        .map_err(unreadable)
}

/// Ends when the other side closed, or says more than its one request.
async fn gone(reader: &mut (impl AsyncReadExt + Unpin)) {
    drop(reader.read(&mut [0]).await);
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), message: &Message) -> io::Result<()> {
    let sending = async {
        writer.write_all(&line(message)).await?;
        writer.flush().await
    };
    tokio::time::timeout(LINE_TIMEOUT, sending)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

fn line(message: &Message) -> Vec<u8> {
    let mut line = match serde_json::to_vec(message) {
        Ok(line) if line.len() < MAX_ANSWER => line,
        _ => {
            let failed = Failed::daemon("the answer is too long for one line", "ask for less at once");
            serde_json::to_vec(&Message::Failed(failed)).unwrap_or_default()
        }
    };
    line.push(b'\n');
    line
}
