//! The handle to all connections.

use super::admission::{Admission, Source};
use super::connection::{Connection, canonical, weight};
use super::{ConnectError, LinkEvent, LinkLimits, listener, socket};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use turnpike_protocol::base::{self, ConnectionId, GenesisHash, NodeId};
use turnpike_protocol::crypto::{Keys, Verifier};
use turnpike_protocol::talk::session::{Contact, Party, StreamSession};

/// All connections of a node. Clones share them. Everything runs on the tokio runtime that called.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
    events: mpsc::Sender<LinkEvent>,
}

/// What the tasks of connections share. Knows no sender of events, so that the node's channel closes with its tasks.
pub(super) struct Shared {
    keys: Arc<Keys>,
    verifier: Verifier,
    genesis: GenesisHash,
    pub(super) limits: LinkLimits,
    origin: Instant,
    next: AtomicU64,
    books: Mutex<Books>,
}

struct Books {
    admission: Admission,
    connections: HashMap<ConnectionId, Entry>,
    listeners: Vec<AbortHandle>,
    stopping: bool,
}

struct Entry {
    queue: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// Plain bytes in the queue: what bounds it.
    queued: Arc<AtomicUsize>,
    kill: Arc<Notify>,
}

impl Links {
    /// No connection yet. Everything that happens on connections goes to `events`, whose capacity bounds what waits
    /// for the node.
    pub fn new(
        keys: Arc<Keys>,
        genesis: GenesisHash,
        events: mpsc::Sender<LinkEvent>,
        limits: LinkLimits,
    ) -> Links {
        let now = Instant::now();
        let books = Books {
            admission: Admission::new(limits, now),
            connections: HashMap::new(),
            listeners: Vec::new(),
            stopping: false,
        };
        let shared = Shared {
            keys,
            verifier: Verifier::new(),
            genesis,
            limits,
            origin: now,
            next: AtomicU64::new(1),
            books: Mutex::new(books),
        };
        Links {
            shared: Arc::new(shared),
            events,
        }
    }

    /// Accepts connections at an address from now on, and says which it is (port 0 asks for a free one).
    ///
    /// # Errors
    /// Of the system: the port is taken, or not allowed.
    pub async fn listen(&self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let task = tokio::spawn(listener::run(self.clone(), listener));
        self.shared.books().listeners.push(task.abort_handle());
        Ok(bound)
    }

    /// Connects and shakes hands; `pinned` admits one identity only. When this returns, [`LinkEvent::Up`] was sent.
    ///
    /// # Errors
    /// [`ConnectError`]; no event is sent then.
    pub async fn connect(
        &self,
        address: SocketAddr,
        pinned: Option<NodeId>,
    ) -> Result<ConnectionId, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable { address, error };
        let connecting =
            tokio::time::timeout(self.shared.limits.connect_timeout, TcpStream::connect(address));
        let stream = match connecting.await {
            Ok(stream) => stream.map_err(unreachable)?,
            Err(_) => return Err(unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        socket::prepare(&stream).map_err(unreachable)?;
        let contact = pinned.map_or(Contact::Any, Contact::Pinned);
        let session = StreamSession::initiate(self.shared.now(), &self.shared.party(), contact, entropy()?)
            .map_err(|error| ConnectError::Session { address, error })?;
        let id = self.shared.next_id();
        let (dialled, answer) = oneshot::channel();
        let connection = {
            let mut books = self.shared.books();
            if books.stopping {
                return Err(ConnectError::Stopping);
            }
            books.admission.outgoing(id, Source::of(address.ip()))?;
            self.enter(&mut books, id, address, stream, session, Some(dialled))
        };
        tokio::spawn(connection.run());
        answer.await.unwrap_or(Err(ConnectError::Stopping))
    }

    /// Queues a plain frame. Never blocks: a peer whose queue is full is disconnected. A connection that is gone
    /// takes nothing, and its `Down` is on the way.
    pub fn send(&self, connection: ConnectionId, frame: Vec<u8>) {
        let mut books = self.shared.books();
        let Some(entry) = books.connections.get_mut(&connection) else {
            return;
        };
        let Some(queue) = &entry.queue else {
            return;
        };
        let weight = weight(&frame);
        let waiting = entry.queued.fetch_add(weight, Ordering::Relaxed) + weight;
        if waiting > self.shared.limits.queued_bytes || queue.send(frame).is_err() {
            entry.queue = None;
            entry.kill.notify_one();
        }
    }

    /// Ends a connection after what is queued was sent. Its `Down` follows.
    pub fn disconnect(&self, connection: ConnectionId) {
        if let Some(entry) = self.shared.books().connections.get_mut(&connection) {
            entry.queue = None;
        }
    }

    /// Accepts nothing more and ends all connections as [`Links::disconnect`] does.
    pub fn stop(&self) {
        let mut books = self.shared.books();
        books.stopping = true;
        for listener in books.listeners.drain(..) {
            listener.abort();
        }
        for entry in books.connections.values_mut() {
            entry.queue = None;
        }
    }

    /// How many connections there are, half-open ones included.
    pub fn count(&self) -> usize {
        self.shared.books().connections.len()
    }

    pub(super) fn limits(&self) -> &LinkLimits {
        &self.shared.limits
    }

    /// Admits a connection that somebody made, or drops it.
    pub(super) fn accepted(&self, stream: TcpStream, remote: SocketAddr) {
        let remote = canonical(remote);
        let id = self.shared.next_id();
        let connection = {
            let mut books = self.shared.books();
            if books.stopping {
                return;
            }
            match books
                .admission
                .incoming(Instant::now(), id, Source::of(remote.ip()))
            {
                Ok(None) => {}
                Ok(Some(oldest)) => {
                    if let Some(entry) = books.connections.get(&oldest) {
                        entry.kill.notify_one();
                    }
                }
                Err(refusal) => {
                    // Dropping the stream is the cheapest answer.
                    tracing::debug!("{remote}: {refusal}");
                    return;
                }
            }
            let Ok(entropy) = entropy() else {
                books.admission.gone(id, true, None);
                return;
            };
            let session = StreamSession::accept(self.shared.now(), None, entropy);
            self.enter(&mut books, id, remote, stream, session, None)
        };
        if socket::prepare(&connection.stream).is_err() {
            self.shared.forget(id, true, None);
            return;
        }
        tokio::spawn(connection.run());
    }

    fn enter(
        &self,
        books: &mut Books,
        id: ConnectionId,
        remote: SocketAddr,
        stream: TcpStream,
        session: StreamSession,
        dialled: Option<oneshot::Sender<Result<ConnectionId, ConnectError>>>,
    ) -> Connection {
        let (sender, queue) = mpsc::unbounded_channel();
        let entry = Entry {
            queue: Some(sender),
            queued: Arc::default(),
            kill: Arc::default(),
        };
        let connection = Connection {
            id,
            remote,
            stream,
            session,
            shared: self.shared.clone(),
            events: self.events.clone(),
            queue,
            queued: entry.queued.clone(),
            kill: entry.kill.clone(),
            dialled,
        };
        books.connections.insert(id, entry);
        connection
    }
}

impl Shared {
    pub(super) fn party(&self) -> Party<'_> {
        Party {
            keys: &self.keys,
            verifier: &self.verifier,
            genesis: self.genesis,
        }
    }

    /// The sessions' clock.
    pub(super) fn now(&self) -> base::Instant {
        let micros = self.origin.elapsed().as_micros();
        base::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// A session's point in time on this machine's clock.
    pub(super) fn instant(&self, at: base::Instant) -> Instant {
        self.origin + Duration::from_micros(at.as_micros())
    }

    pub(super) fn established(&self, connection: ConnectionId, peer: NodeId) {
        let mut books = self.books();
        if let Some(oldest) = books.admission.established(connection, peer) {
            if let Some(entry) = books.connections.get(&oldest) {
                entry.kill.notify_one();
            }
        }
    }

    pub(super) fn forget(&self, connection: ConnectionId, incoming: bool, peer: Option<NodeId>) {
        let mut books = self.books();
        books.connections.remove(&connection);
        books.admission.gone(connection, incoming, peer);
    }

    fn next_id(&self) -> ConnectionId {
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("connections", &self.count())
            .finish_non_exhaustive()
    }
}

fn entropy() -> Result<[u8; 32], getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
