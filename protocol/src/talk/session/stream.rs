//! Sessions over ordered bytes: TCP, Bluetooth L2CAP, serial lines.

use super::cipher::{Ordered, TAG};
use super::noise::{Bearer, Facts, Handshake, Outcome, Pattern};
use super::proof::{self, PROOF};
use super::{Action, Contact, Party, Peer, SessionError, Side};
use crate::base::limits::{HANDSHAKE_TIMEOUT, MAX_FRAME};
use crate::base::{Instant, NodeId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::{fmt, mem};
use zeroize::Zeroizing;

/// One session over a stream. Everything on the wire is a 2-byte big-endian length and that many bytes.
///
/// Call order: [`initiate`](Self::initiate) or [`accept`](Self::accept); then, whenever something happened,
/// [`handle_bytes`](Self::handle_bytes) or [`handle_timeout`](Self::handle_timeout), and after each of them
/// [`poll_action`](Self::poll_action) and [`poll_frame`](Self::poll_frame) until both are empty.
///
/// ```text
/// while !input.is_empty() {
///     let taken = session.handle_bytes(now, &party, input)?;
///     input = &input[taken..];
///     while let Some(action) = session.poll_action() { … }
///     if let Some(frame) = session.poll_frame() { … }
/// }
/// ```
pub struct StreamSession {
    side: Side,
    pinned: Option<NodeId>,
    stage: Stage,
    deadline: Instant,
    /// What has arrived of one message, its length prefix included.
    message: Vec<u8>,
    inbox: Inbox,
    actions: VecDeque<Action>,
}

enum Stage {
    /// A responder waits for the first message.
    Hello(Zeroizing<[u8; 32]>),
    /// The initiator waits for the second message, the responder of XX for the third.
    Noise(Pattern, Handshake),
    /// All Noise messages are through; the peer's proof is missing.
    Proof(Pipes, Facts),
    Open(Pipes, Peer),
    Dead(SessionError),
}

struct Pipes {
    send: Ordered,
    receive: Ordered,
}

/// Whether `message` is still filling, holds a frame for the caller, or holds one that the caller has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inbox {
    Filling,
    Ready(usize),
    Taken,
}

impl StreamSession {
    /// Begins a session as the side that connected. `entropy` is 32 fresh random bytes, never used twice.
    ///
    /// # Errors
    /// [`SessionError::Setup`], our fault.
    pub fn initiate(
        now: Instant,
        party: &Party<'_>,
        contact: Contact,
        entropy: [u8; 32],
    ) -> Result<StreamSession, SessionError> {
        let entropy = Zeroizing::new(entropy);
        let (pattern, remote) = match &contact {
            Contact::Known { noise_static, .. } => (Pattern::Ik, Some(noise_static)),
            Contact::Any | Contact::Pinned(_) => (Pattern::Xx, None),
        };
        let mut noise = Handshake::new(party, Bearer::Stream, pattern, Side::Initiator, remote, &entropy)?;
        let mut hello = Vec::new();
        hello.push(pattern as u8);
        noise.write(&[], &mut hello)?;
        let mut session = StreamSession::new(
            now,
            Side::Initiator,
            contact.pinned(),
            Stage::Noise(pattern, noise),
        );
        let mut out = Vec::new();
        prefix(&hello, &mut out)?;
        session.actions.push_back(Action::Send(out));
        Ok(session)
    }

    /// Begins a session as the side that was connected to. `pinned` admits one node only; `entropy` as in
    /// [`initiate`](Self::initiate).
    pub fn accept(now: Instant, pinned: Option<NodeId>, entropy: [u8; 32]) -> StreamSession {
        StreamSession::new(
            now,
            Side::Responder,
            pinned,
            Stage::Hello(Zeroizing::new(entropy)),
        )
    }

    /// Takes bytes off the bearer and returns how many it took: all of them, unless a frame is complete. Then poll
    /// that frame and pass in the rest. Takes nothing while a frame waits to be polled.
    ///
    /// # Errors
    /// Any fault of the peer; the session is dead then and the bearer should be closed.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        party: &Party<'_>,
        input: &[u8],
    ) -> Result<usize, SessionError> {
        self.handle_timeout(now)?;
        let mut rest = input;
        loop {
            match self.inbox {
                Inbox::Ready(_) => return Ok(input.len().saturating_sub(rest.len())),
                Inbox::Taken => {
                    self.message.clear();
                    self.inbox = Inbox::Filling;
                }
                Inbox::Filling => {}
            }
            if rest.is_empty() {
                return Ok(input.len());
            }
            let missing = self.missing()?;
            let (taken, left) = rest
                .split_at_checked(missing.min(rest.len()))
                .unwrap_or((rest, &[]));
            self.message.extend_from_slice(taken);
            rest = left;
            let whole = self.missing().and_then(|missing| match missing {
                0 => self.complete(party),
                _ => Ok(()),
            });
            whole.map_err(|error| self.die(error))?;
        }
    }

    /// Ends the session if its handshake has taken too long; harmless at any other time.
    ///
    /// # Errors
    /// [`SessionError::Timeout`], or what the session died of before.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        match self.stage {
            Stage::Dead(error) => Err(error),
            Stage::Open(..) => Ok(()),
            _ if now >= self.deadline => Err(self.die(SessionError::Timeout)),
            _ => Ok(()),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called: the end of an unfinished handshake.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Open(..) | Stage::Dead(_) => None,
            _ => Some(self.deadline),
        }
    }

    /// The next thing to do for this session.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The frame that just arrived, whole and authenticated. It stays readable until the next call with bytes.
    pub fn poll_frame(&mut self) -> Option<&[u8]> {
        let Inbox::Ready(length) = self.inbox else {
            return None;
        };
        self.inbox = Inbox::Taken;
        self.message.get(PREFIX..PREFIX.saturating_add(length))
    }

    /// Appends `frame`, sealed, to `out`: [`STREAM_OVERHEAD`](super::STREAM_OVERHEAD) bytes more. Send sealed frames in
    /// the order in which they were sealed.
    ///
    /// # Errors
    /// Our fault only: too early, empty or too long. Nothing is appended then.
    pub fn seal(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        match &mut self.stage {
            Stage::Open(..) if frame.is_empty() || frame.len() > MAX_FRAME => {
                Err(SessionError::FrameLength(frame.len()))
            }
            Stage::Open(pipes, _) => pipes.seal(frame, out),
            Stage::Dead(error) => Err(*error),
            _ => Err(SessionError::NotEstablished),
        }
    }

    /// The proven peer, once there is one.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Open(_, peer) => Some(peer),
            _ => None,
        }
    }

    /// Goes on to these counters, see [`Ordered::skip_to`].
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, send: u64, receive: u64) {
        let Stage::Open(pipes, _) = &mut self.stage else {
            return;
        };
        pipes.send.skip_to(send);
        pipes.receive.skip_to(receive);
    }

    fn new(now: Instant, side: Side, pinned: Option<NodeId>, stage: Stage) -> StreamSession {
        StreamSession {
            side,
            pinned,
            stage,
            deadline: now + HANDSHAKE_TIMEOUT,
            message: Vec::new(),
            inbox: Inbox::Filling,
            actions: VecDeque::new(),
        }
    }

    fn die(&mut self, error: SessionError) -> SessionError {
        self.stage = Stage::Dead(error);
        self.message = Vec::new();
        self.inbox = Inbox::Filling;
        error
    }

    /// How many bytes the message in progress still lacks, as far as is known; its length is judged as soon as it
    /// is there, before a byte of the body is kept.
    fn missing(&self) -> Result<usize, SessionError> {
        let Some((prefix, body)) = self.message.split_first_chunk::<PREFIX>() else {
            return Ok(PREFIX.saturating_sub(self.message.len()));
        };
        let got = usize::from(u16::from_be_bytes(*prefix));
        let (least, most) = self.lengths();
        if got < least || got > most {
            return Err(SessionError::Length { got, least, most });
        }
        Ok(got.saturating_sub(body.len()))
    }

    /// The lengths that the next message may have.
    fn lengths(&self) -> (usize, usize) {
        let exactly = |n| (n, n);
        match (&self.stage, self.side) {
            (Stage::Hello(_), _) => (1 + Pattern::Xx.first(0), 1 + Pattern::Ik.first(0)),
            (Stage::Noise(pattern, _), Side::Initiator) => exactly(pattern.second(0)),
            (Stage::Noise(..), Side::Responder) => exactly(Pattern::third()),
            (Stage::Proof(..), _) => exactly(PROOF + TAG),
            (Stage::Open(..), _) => (1 + TAG, MAX_FRAME + TAG),
            (Stage::Dead(_), _) => exactly(0),
        }
    }

    /// One whole message is in `self.message`.
    fn complete(&mut self, party: &Party<'_>) -> Result<(), SessionError> {
        if let Stage::Open(pipes, _) = &mut self.stage {
            let sealed = self.message.get_mut(PREFIX..).unwrap_or_default();
            let length = pipes.receive.open(sealed).ok_or(SessionError::Frame)?;
            self.inbox = Inbox::Ready(length);
            return Ok(());
        }
        // Only handshakes get here: a few messages in a session's life.
        let mut message = mem::take(&mut self.message);
        let body = message.get_mut(PREFIX..).unwrap_or_default();
        let stage = mem::replace(&mut self.stage, Stage::Dead(SessionError::Handshake));
        self.stage = match stage {
            Stage::Hello(entropy) => self.answer(party, &entropy, body)?,
            Stage::Noise(_, mut noise) => {
                noise.read(body)?;
                self.end_noise(party, noise)?
            }
            Stage::Proof(mut pipes, facts) => {
                let length = pipes.receive.open(body).ok_or(SessionError::Frame)?;
                let proof = body.get(..length).unwrap_or_default();
                let peer = proof::check(party, self.side.other(), &facts, self.pinned, proof)?;
                if self.side == Side::Initiator {
                    // The responder went first, so that a caller shows itself only to whom it meant to call.
                    self.send_proof(party, &mut pipes, &facts)?;
                }
                self.actions.push_back(Action::Established(peer));
                Stage::Open(pipes, peer)
            }
            other => other,
        };
        Ok(())
    }

    /// The responder's part of the first two messages.
    fn answer(&mut self, party: &Party<'_>, entropy: &[u8; 32], hello: &[u8]) -> Result<Stage, SessionError> {
        let (first, message) = hello.split_first().ok_or(SessionError::Handshake)?;
        let pattern = Pattern::from_byte(*first)?;
        let expected = pattern.first(0);
        if message.len() != expected {
            return Err(SessionError::Length {
                got: hello.len(),
                least: 1 + expected,
                most: 1 + expected,
            });
        }
        let mut noise = Handshake::new(party, Bearer::Stream, pattern, Side::Responder, None, entropy)?;
        noise.read(message)?;
        let mut reply = Vec::new();
        noise.write(&[], &mut reply)?;
        let mut out = Vec::new();
        prefix(&reply, &mut out)?;
        self.actions.push_back(Action::Send(out));
        match pattern {
            Pattern::Xx => Ok(Stage::Noise(pattern, noise)),
            Pattern::Ik => self.open_pipes(party, noise.finish()?),
        }
    }

    /// After the message that this side was waiting for: the initiator of XX still has one to send.
    fn end_noise(&mut self, party: &Party<'_>, mut noise: Handshake) -> Result<Stage, SessionError> {
        if noise.must_write() {
            let mut last = Vec::new();
            noise.write(&[], &mut last)?;
            let mut out = Vec::new();
            prefix(&last, &mut out)?;
            self.actions.push_back(Action::Send(out));
        }
        self.open_pipes(party, noise.finish()?)
    }

    fn open_pipes(&mut self, party: &Party<'_>, outcome: Outcome) -> Result<Stage, SessionError> {
        let (send, receive) = outcome.keys(self.side);
        let mut pipes = Pipes {
            send: Ordered::new(send),
            receive: Ordered::new(receive),
        };
        if self.side == Side::Responder {
            self.send_proof(party, &mut pipes, &outcome.facts)?;
        }
        Ok(Stage::Proof(pipes, outcome.facts))
    }

    fn send_proof(
        &mut self,
        party: &Party<'_>,
        pipes: &mut Pipes,
        facts: &Facts,
    ) -> Result<(), SessionError> {
        let mut out = Vec::new();
        pipes.seal(&proof::prove(party, self.side, facts), &mut out)?;
        self.actions.push_back(Action::Send(out));
        Ok(())
    }
}

impl Pipes {
    fn seal(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        let start = out.len();
        let length = u16::try_from(text.len().saturating_add(TAG))
            .map_err(|_| SessionError::FrameLength(text.len()))?;
        out.reserve(text.len().saturating_add(super::STREAM_OVERHEAD));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(text);
        let sealed = out.get_mut(start.saturating_add(PREFIX)..).unwrap_or_default();
        match self.send.seal(sealed) {
            Some(tag) => out.extend_from_slice(&tag),
            None => {
                out.truncate(start);
                return Err(SessionError::Exhausted);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StreamSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Hello(_) => "waiting for hello",
            Stage::Noise(..) => "in the handshake",
            Stage::Proof(..) => "waiting for the proof",
            Stage::Open(..) => "open",
            Stage::Dead(_) => "dead",
        };
        f.debug_struct("StreamSession")
            .field("side", &self.side)
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

/// Bytes of the length prefix.
const PREFIX: usize = 2;

/// Appends a handshake message with its length.
fn prefix(message: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
    let length = u16::try_from(message.len()).map_err(|_| SessionError::Setup)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    Ok(())
}
