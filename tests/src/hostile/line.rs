//! One session, driven by hand.

use super::{genesis, height};
use crate::lab::Host;
use crate::site::{PATIENCE, Site};
use bitcoin::secp256k1::rand;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};
use turnpike_protocol::base::{BlockHeight, GenesisHash, Instant, NodeId};
use turnpike_protocol::crypto::{CoinType, Digest, Keys, Seed, Verifier};
use turnpike_protocol::talk::session::{Action, Contact, Party, StreamSession};
use turnpike_protocol::wire::{Ext, Hello, Message, Signature, read_frame, write_frame};

/// How long a handshake may take on a machine under load.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A node's keys without a node.
pub struct Identity {
    /// The keys.
    pub keys: Keys,
    verifier: Verifier,
    /// Its chain.
    pub genesis: GenesisHash,
    /// The height that it tells.
    pub height: BlockHeight,
}

impl Identity {
    /// Fresh keys on the site's chain.
    pub fn fresh(site: &Site) -> Arc<Identity> {
        let keys = Keys::new(&Seed::from_entropy(&rand::random()), CoinType::Test).expect("keys");
        Arc::new(Identity {
            keys,
            verifier: Verifier::new(),
            genesis: genesis(site),
            height: height(site),
        })
    }

    /// Its name.
    pub fn node(&self) -> NodeId {
        self.keys.node()
    }

    /// The identity's signature.
    pub fn sign(&self, digest: &Digest) -> Signature {
        Signature(self.keys.sign(digest).serialize())
    }

    fn party(&self) -> Party<'_> {
        Party {
            keys: &self.keys,
            verifier: &self.verifier,
            genesis: self.genesis,
        }
    }
}

/// What came next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // lives for one call
pub enum Heard {
    /// A message.
    Message(Message),
    /// The peer hung up.
    Closed,
    /// Nothing within the time.
    Silence,
}

/// A live session.
pub struct Line {
    /// Who speaks.
    pub identity: Arc<Identity>,
    stream: TcpStream,
    session: StreamSession,
    start: Clock,
    inbox: VecDeque<Message>,
    closed: bool,
}

impl Line {
    /// Connects from `host`, shakes hands and greets.
    ///
    /// # Errors
    /// The peer does not answer, or hangs up before its session is proven.
    pub fn call(identity: &Arc<Identity>, host: &Host, to: SocketAddr) -> io::Result<Line> {
        let stream = host.within(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
        Line::over(identity, stream)
    }

    /// The same over a connection that is there already.
    ///
    /// # Errors
    /// As [`Line::call`].
    pub fn over(identity: &Arc<Identity>, stream: TcpStream) -> io::Result<Line> {
        let session = StreamSession::initiate(
            Instant::default(),
            &identity.party(),
            Contact::Any,
            rand::random(),
        );
        Line::open(identity, stream, session.expect("our own keys"))
    }

    /// Answers a call.
    ///
    /// # Errors
    /// As [`Line::call`].
    pub fn answer(identity: &Arc<Identity>, stream: TcpStream) -> io::Result<Line> {
        Line::open(
            identity,
            stream,
            StreamSession::accept(Instant::default(), None, rand::random()),
        )
    }

    fn open(identity: &Arc<Identity>, stream: TcpStream, session: StreamSession) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let (start, inbox) = (Clock::now(), VecDeque::new());
        let mut line = Line {
            identity: identity.clone(),
            stream,
            session,
            start,
            inbox,
            closed: false,
        };
        line.actions()?;
        while line.session.peer().is_none() {
            line.pump()?;
            if line.closed || line.start.elapsed() > HANDSHAKE {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        let (genesis, height) = (identity.genesis, identity.height);
        line.try_say(Hello {
            genesis,
            height,
            generation: 1,
            seen_generation: 0,
            ext: Ext::default(),
        })?;
        Ok(line)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.session.peer().expect("an open session").node
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The peer hung up.
    pub fn try_say(&mut self, message: impl Into<Message>) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(&message.into(), &mut frame);
        self.say_frame(&frame)
    }

    /// Sends a message to a peer that listens.
    pub fn say(&mut self, message: impl Into<Message>) {
        self.try_say(message).expect("the peer listens");
    }

    /// Sends any bytes, sealed as a frame.
    ///
    /// # Errors
    /// The peer hung up.
    pub fn say_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut sealed = Vec::new();
        self.session.seal(frame, &mut sealed).map_err(io::Error::other)?;
        self.stream.write_all(&sealed)
    }

    /// What comes next within `patience`.
    pub fn hear(&mut self, patience: Duration) -> Heard {
        let end = Clock::now() + patience;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Heard::Message(message);
            }
            if self.closed {
                return Heard::Closed;
            }
            if Clock::now() >= end {
                return Heard::Silence;
            }
            self.closed |= self.pump().is_err();
        }
    }

    /// Skips messages until one that is wanted, which must come.
    pub fn await_one<T>(&mut self, what: &str, mut wanted: impl FnMut(&Message) -> Option<T>) -> T {
        let mut passed = Vec::new();
        let end = Clock::now() + PATIENCE;
        while Clock::now() < end {
            match self.hear(Duration::from_secs(1)) {
                Heard::Message(message) => match wanted(&message) {
                    Some(found) => return found,
                    None => passed.push(message),
                },
                Heard::Closed => panic!("{what} did not come, the peer hung up after {passed:?}"),
                Heard::Silence => {}
            }
        }
        panic!("{what} did not come, but {passed:?}");
    }

    /// Whether the peer hangs up, whatever it says before.
    pub fn hangs_up(&mut self) -> bool {
        let end = Clock::now() + PATIENCE;
        while Clock::now() < end {
            if self.hear(Duration::from_secs(1)) == Heard::Closed {
                return true;
            }
        }
        false
    }

    fn pump(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        let taken = match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.closed = true;
                return Ok(());
            }
            Ok(n) => n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut input = &buffer[..taken];
        while !input.is_empty() {
            let now = Instant::from_micros(micros);
            let n = self
                .session
                .handle_bytes(now, &self.identity.party(), input)
                .map_err(io::Error::other)?;
            input = &input[n..];
            self.actions()?;
            if let Some(frame) = self.session.poll_frame() {
                self.inbox
                    .push_back(read_frame(frame).expect("a real daemon sends real frames"));
            }
        }
        Ok(())
    }

    fn actions(&mut self) -> io::Result<()> {
        while let Some(action) = self.session.poll_action() {
            if let Action::Send(bytes) = action {
                self.stream.write_all(&bytes)?;
            }
        }
        Ok(())
    }
}
