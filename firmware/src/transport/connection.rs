//! One connection: its task.

use super::bucket::Bucket;
use super::links::Shared;
use super::{ConnectError, Frame, LinkEvent, LinkLimits};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::sleep_until;
use turnpike_protocol::base::{ConnectionId, NodeId, limits};
use turnpike_protocol::talk::session::{Action, SessionError, StreamSession};

/// Sealed bytes that wait for the socket before no more frames are taken from the queue.
const OUT: usize = 16 * 1024;
/// Bytes read at once.
const READ: usize = 4 * 1024;
/// How long the last frames may take to leave after this side closed.
const LINGER: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, the peer may go on sending after this side has finished.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 1024 * 1024;

/// Everything that the task of a connection owns.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) remote: SocketAddr,
    pub(super) stream: TcpStream,
    pub(super) session: StreamSession,
    pub(super) shared: Arc<Shared>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    pub(super) queue: mpsc::UnboundedReceiver<Vec<u8>>,
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) kill: Arc<Notify>,
    /// Present on connections that this side made.
    pub(super) dialled: Option<oneshot::Sender<Result<ConnectionId, ConnectError>>>,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    Session(SessionError),
    Io(io::Error),
    PeerClosed,
    /// [`super::Links::disconnect`].
    Closed,
    /// Too slow a reader, or pushed out by a newer connection.
    Killed,
    /// The node is gone.
    Stopping,
}

struct State {
    out: Vec<u8>,
    frames: Bucket,
    bytes: Bucket,
    /// Its share of the node's channel.
    places: Arc<Semaphore>,
    peer: Option<NodeId>,
    /// The node was told of the session.
    up: bool,
    /// Set once this side has closed: when to give up on what is left to send.
    closing: Option<Instant>,
}

impl Connection {
    /// Runs the connection to its end.
    pub(super) async fn run(mut self) {
        let now = Instant::now();
        let limits = self.shared.limits;
        let mut state = State {
            out: Vec::new(),
            frames: Bucket::full(limits.frames, now),
            bytes: Bucket::full(limits.bytes, now),
            places: Arc::new(Semaphore::new(limits.waiting.max(1))),
            peer: None,
            up: false,
            closing: None,
        };
        let incoming = self.dialled.is_none();
        let end = match self.drive(&mut state).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.shared.forget(self.id, incoming, state.peer);
        let reason = end.reason();
        if let Some(dialled) = self.dialled.take() {
            let address = self.remote;
            drop(dialled.send(Err(match end {
                End::Session(error) => ConnectError::Session { address, error },
                End::Stopping => ConnectError::Stopping,
                _ => ConnectError::HungUp { address, reason },
            })));
        } else if state.up {
            let connection = self.id;
            drop(self.events.send(LinkEvent::Down { connection, reason }).await);
        } else {
            tracing::debug!("{}: {reason}", self.remote);
        }
    }

    async fn drive(&mut self, state: &mut State) -> Result<std::convert::Infallible, End> {
        self.actions(state).await?;
        loop {
            self.fill(state)?;
            if state.closing.is_some() && state.out.is_empty() {
                self.hang_up().await;
                return Err(End::Closed);
            }
            let wait = [state.bytes.ready_at(), state.frames.ready_at()]
                .into_iter()
                .flatten()
                .max();
            let handshake = self.session.next_timeout().map(|at| self.shared.instant(at));
            // Whichever comes first; far away when nothing is due, so that an idle connection sleeps.
            let due = [wait, handshake, state.closing].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = self.kill.notified() => return Err(End::Killed),
                ready = self.stream.writable(), if !state.out.is_empty() => {
                    ready.map_err(End::Io)?;
                    self.write(state)?;
                }
                frame = self.queue.recv(), if state.closing.is_none() && state.out.len() < OUT => {
                    match frame {
                        Some(frame) => self.seal(state, &frame)?,
                        None => state.closing = Some(Instant::now() + LINGER),
                    }
                }
                () = at(due), if due.is_some() => self.timeout(state)?,
                ready = self.stream.readable(), if wait.is_none() => {
                    ready.map_err(End::Io)?;
                    self.read(state).await?;
                }
            }
        }
    }

    /// Seals what waits, so that many small frames share a packet.
    fn fill(&mut self, state: &mut State) -> Result<(), End> {
        while state.out.len() < OUT {
            let Ok(frame) = self.queue.try_recv() else {
                break;
            };
            self.seal(state, &frame)?;
        }
        Ok(())
    }

    fn seal(&mut self, state: &mut State, frame: &[u8]) -> Result<(), End> {
        self.queued.fetch_sub(weight(frame), Ordering::Relaxed);
        self.session.seal(frame, &mut state.out).map_err(End::Session)
    }

    fn write(&mut self, state: &mut State) -> Result<(), End> {
        match self.stream.try_write(&state.out) {
            Ok(0) => Err(End::PeerClosed),
            Ok(n) => {
                state.out.drain(..n);
                if state.out.is_empty() && state.out.capacity() > OUT {
                    state.out = Vec::new();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(End::Io(error)),
        }
    }

    async fn read(&mut self, state: &mut State) -> Result<(), End> {
        let mut buffer = [0; READ];
        let taken = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(End::PeerClosed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(End::Io(error)),
        };
        // Charged before anything is decrypted.
        state
            .bytes
            .charge(taken.saturating_add(LinkLimits::READ_COST), Instant::now());
        let mut input = &buffer[..taken];
        while !input.is_empty() {
            let now = self.shared.now();
            let shared = self.shared.clone();
            let n = self
                .session
                .handle_bytes(now, &shared.party(), input)
                .map_err(End::Session)?;
            input = input.get(n..).unwrap_or_default();
            self.actions(state).await?;
            if let Some(frame) = self.session.poll_frame() {
                let frame = frame.to_vec();
                state.frames.charge(1, Instant::now());
                self.deliver(state, frame).await?;
            }
        }
        Ok(())
    }

    async fn actions(&mut self, state: &mut State) -> Result<(), End> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(bytes) => state.out.extend_from_slice(&bytes),
                Action::Established(peer) => {
                    // The last handshake message goes out before the owner hears of the session.
                    let local = self.stream.local_addr().map_err(End::Io)?;
                    state.peer = Some(peer.node);
                    self.shared.established(self.id, peer.node);
                    let up = LinkEvent::Up {
                        connection: self.id,
                        peer: peer.node,
                        remote: self.remote,
                        local: canonical(local),
                        outgoing: self.dialled.is_some(),
                    };
                    self.emit(up).await?;
                    state.up = true;
                    if let Some(dialled) = self.dialled.take() {
                        drop(dialled.send(Ok(self.id)));
                    }
                }
            }
        }
        Ok(())
    }

    fn timeout(&mut self, state: &mut State) -> Result<(), End> {
        if state.closing.is_some_and(|by| Instant::now() >= by) {
            return Err(End::Closed);
        }
        let now = Instant::now();
        state.bytes.charge(0, now);
        state.frames.charge(0, now);
        let now = self.shared.now();
        self.session.handle_timeout(now).map_err(End::Session)
    }

    /// Lets the last frames arrive: closing with unread bytes would reset the connection and lose them.
    async fn hang_up(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let (mut buffer, mut left) = ([0; READ], FAREWELL_BYTES);
        let drain = async {
            while left > 0 && self.stream.readable().await.is_ok() {
                match self.stream.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => left = left.saturating_sub(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        drop(tokio::time::timeout(FAREWELL, drain).await);
    }

    /// Waits until the node has handled enough of this connection's earlier frames.
    async fn deliver(&mut self, state: &State, frame: Vec<u8>) -> Result<(), End> {
        let place = tokio::select! {
            biased;
            () = self.kill.notified() => return Err(End::Killed),
            place = state.places.clone().acquire_owned() => place.map_err(|_| End::Stopping)?,
        };
        let connection = self.id;
        let frame = Frame::holding(frame, place);
        self.emit(LinkEvent::Frame { connection, frame }).await
    }

    /// Waits for room in the node's channel. Others wait there too, each for one event at a time, and are served in
    /// turn.
    async fn emit(&mut self, event: LinkEvent) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.kill.notified() => Err(End::Killed),
            sent = self.events.send(event) => sent.map_err(|_| End::Stopping),
        }
    }
}

impl End {
    fn reason(&self) -> String {
        match self {
            End::Session(error) => error.to_string(),
            End::Io(error) => error.to_string(),
            End::PeerClosed => "the peer closed the connection".to_owned(),
            End::Closed => "closed by this node".to_owned(),
            End::Killed => "the peer reads too slowly, or a newer connection took its place".to_owned(),
            End::Stopping => "this node is stopping".to_owned(),
        }
    }
}

/// What a queued frame is charged: its bytes, and what holding it costs.
pub(super) fn weight(frame: &[u8]) -> usize {
    frame.len() + 64
}

/// IPv4 addresses as such, not mapped into IPv6; link-local ones keep their interface.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The longest frame fits into what is sealed at once, with room for a burst of small ones.
const _: () = assert!(OUT > 2 * limits::MAX_FRAME && READ <= OUT);
