//! Sessions over packets that may be lost, repeated, reordered and forged: UDP.

use super::cipher::{Ordered, TAG};
use super::noise::{Bearer, Facts, Handshake, Outcome, Pattern};
use super::packet::{DATA_HEADER, ID, Ignored, Packet, Received};
use super::proof;
use super::window::Unordered;
use super::{Action, Contact, Party, Peer, SessionError, Side};
use crate::base::limits::{HANDSHAKE_RETRY, HANDSHAKE_TIMEOUT, MAX_FRAME};
use crate::base::{Duration, Instant, NodeId};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::{fmt, mem};
use zeroize::Zeroizing;

/// One session over datagrams.
///
/// Call order as for streams: [`initiate`](Self::initiate) or [`accept`](Self::accept); then
/// [`handle_datagram`](Self::handle_datagram) for what [`route`](super::route) sends here and
/// [`handle_timeout`](Self::handle_timeout) at [`next_timeout`](Self::next_timeout), and after each of them
/// [`poll_action`](Self::poll_action) until it is empty. The initiator repeats what was lost; frames are not repeated:
/// that is for whoever sends them, and every frame must be harmless twice.
pub struct DatagramSession {
    side: Side,
    pinned: Option<NodeId>,
    id: u32,
    stage: Stage,
    deadline: Instant,
    repeat: Option<Repeat>,
    actions: VecDeque<Action>,
}

enum Stage {
    /// A responder waits for the hello.
    Hello(Zeroizing<[u8; 32]>),
    /// The initiator waits for the reply.
    Reply(Pattern, Handshake),
    /// The responder of XX waits for the finish.
    Finish(Half),
    /// All Noise messages are through; the peer's proof is missing.
    Proof {
        pipes: Pipes,
        facts: Facts,
        answered: Answered,
    },
    Open {
        pipes: Pipes,
        peer: Peer,
        proof: [u8; TAG],
    },
    Dead(SessionError),
}

/// A responder's half-done handshake, with what it takes to begin it anew: `snow` may lose its key on a message whose
/// first part is good and whose rest is not, and a forger must not be able to spoil the honest message that follows.
struct Half {
    noise: Handshake,
    entropy: Zeroizing<[u8; 32]>,
    remote: u32,
    answered: Answered,
}

/// What a responder answered to which packet: the same packet again gets the same answers again.
struct Answered {
    packet: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

struct Pipes {
    remote: u32,
    send: Ordered,
    receive: Unordered,
}

/// What an initiator sends again until it is answered.
struct Repeat {
    packet: Vec<u8>,
    at: Instant,
    pause: Duration,
}

impl DatagramSession {
    /// Begins a session as the side that calls. `id` is a number that this node gives to no other living session;
    /// `entropy` is 32 fresh random bytes, never used twice.
    ///
    /// # Errors
    /// [`SessionError::Setup`], our fault.
    pub fn initiate(
        now: Instant,
        party: &Party<'_>,
        contact: Contact,
        id: u32,
        entropy: [u8; 32],
    ) -> Result<DatagramSession, SessionError> {
        let entropy = Zeroizing::new(entropy);
        let (pattern, remote) = match &contact {
            Contact::Known { noise_static, .. } => (Pattern::Ik, Some(noise_static)),
            Contact::Any | Contact::Pinned(_) => (Pattern::Xx, None),
        };
        let mut noise = Handshake::new(
            party,
            Bearer::Datagram,
            pattern,
            Side::Initiator,
            remote,
            &entropy,
        )?;
        let mut hello = Packet::hello(pattern);
        noise.write(&Packet::hello_payload(pattern, id), &mut hello)?;
        let stage = Stage::Reply(pattern, noise);
        let mut session = DatagramSession::new(now, Side::Initiator, contact.pinned(), id, stage);
        session.send_until_answered(now, hello);
        Ok(session)
    }

    /// Begins a session for a hello. `pinned` admits one node only; `id` and `entropy` as in
    /// [`initiate`](Self::initiate).
    pub fn accept(now: Instant, pinned: Option<NodeId>, id: u32, entropy: [u8; 32]) -> DatagramSession {
        DatagramSession::new(
            now,
            Side::Responder,
            pinned,
            id,
            Stage::Hello(Zeroizing::new(entropy)),
        )
    }

    /// Takes one datagram off the bearer; a frame in it is decrypted in place.
    ///
    /// # Errors
    /// The session is dead: the peer that completed the Noise handshake failed to prove itself, the handshake took too
    /// long, or a new session's hello was worthless. Forged datagrams are no errors but [`Received::Ignored`].
    pub fn handle_datagram<'d>(
        &mut self,
        now: Instant,
        party: &Party<'_>,
        datagram: &'d mut [u8],
    ) -> Result<Received<'d>, SessionError> {
        self.expire(now)?;
        match self.receive(now, party, datagram) {
            Ok(Taken::Frame(length)) => {
                let end = DATA_HEADER.saturating_add(length);
                Ok(Received::Frame(
                    datagram.get(DATA_HEADER..end).unwrap_or_default(),
                ))
            }
            Ok(Taken::Progress) => Ok(Received::Progress),
            Ok(Taken::Ignored(why)) => Ok(Received::Ignored(why)),
            Err(error) => Err(self.die(error)),
        }
    }

    /// Repeats what was not answered; ends a handshake that has taken too long.
    ///
    /// # Errors
    /// [`SessionError::Timeout`], or what the session died of before.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        self.expire(now)?;
        if let Some(repeat) = &mut self.repeat {
            if now >= repeat.at {
                repeat.pause = repeat.pause + repeat.pause;
                repeat.at = now + repeat.pause;
                self.actions.push_back(Action::Send(repeat.packet.clone()));
            }
        }
        Ok(())
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let repeat = self.repeat.as_ref().map(|repeat| repeat.at.min(self.deadline));
        match self.stage {
            Stage::Dead(_) => None,
            Stage::Open { .. } => repeat,
            _ => Some(repeat.unwrap_or(self.deadline)),
        }
    }

    /// The next thing to do for this session.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Appends one datagram with `frame` sealed to `out`: [`DATAGRAM_OVERHEAD`](super::DATAGRAM_OVERHEAD) bytes more.
    ///
    /// # Errors
    /// Our fault only: too early, empty or too long. Nothing is appended then.
    pub fn seal(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        match &mut self.stage {
            Stage::Open { .. } if frame.is_empty() || frame.len() > MAX_FRAME => {
                Err(SessionError::FrameLength(frame.len()))
            }
            Stage::Open { pipes, .. } => pipes.seal(frame, out),
            Stage::Dead(error) => Err(*error),
            _ => Err(SessionError::NotEstablished),
        }
    }

    /// The proven peer, once there is one.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Open { peer, .. } => Some(peer),
            _ => None,
        }
    }

    /// This node's number for the session, which packets to it carry.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Goes on to this counter, see [`Ordered::skip_to`].
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, send: u64) {
        let Stage::Open { pipes, .. } = &mut self.stage else {
            return;
        };
        pipes.send.skip_to(send);
    }

    fn new(now: Instant, side: Side, pinned: Option<NodeId>, id: u32, stage: Stage) -> DatagramSession {
        let deadline = now + HANDSHAKE_TIMEOUT;
        DatagramSession {
            side,
            pinned,
            id,
            stage,
            deadline,
            repeat: None,
            actions: VecDeque::new(),
        }
    }

    fn die(&mut self, error: SessionError) -> SessionError {
        self.stage = Stage::Dead(error);
        self.repeat = None;
        error
    }

    fn expire(&mut self, now: Instant) -> Result<(), SessionError> {
        let waiting = match &self.stage {
            Stage::Dead(error) => return Err(*error),
            // An initiator is through when its proof has been confirmed, too.
            Stage::Open { .. } => self.repeat.is_some(),
            _ => true,
        };
        if waiting && now >= self.deadline {
            Err(self.die(SessionError::Timeout))
        } else {
            Ok(())
        }
    }

    fn send(&mut self, packet: Vec<u8>) {
        self.actions.push_back(Action::Send(packet));
    }

    fn send_until_answered(&mut self, now: Instant, packet: Vec<u8>) {
        self.send(packet.clone());
        self.repeat = Some(Repeat {
            packet,
            at: now + HANDSHAKE_RETRY,
            pause: HANDSHAKE_RETRY,
        });
    }

    fn receive(
        &mut self,
        now: Instant,
        party: &Party<'_>,
        datagram: &mut [u8],
    ) -> Result<Taken, SessionError> {
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(why) => return Ok(Taken::Ignored(why)),
        };
        match packet {
            Packet::Reply(id, _) | Packet::Finish(id, _) | Packet::Data(id, _) if id != self.id => {
                Ok(Taken::Ignored(Ignored::Foreign))
            }
            Packet::Hello(body) if matches!(self.stage, Stage::Hello(_)) => {
                self.answer_hello(party, body, datagram)
            }
            Packet::Reply(_, message) => self.take_reply(now, party, message),
            Packet::Hello(_) | Packet::Finish(..) if self.answer_again(datagram) => Ok(Taken::Progress),
            Packet::Finish(_, message) => self.take_finish(party, message, datagram),
            Packet::Hello(_) => Ok(Taken::Ignored(Ignored::Stage)),
            Packet::Data(_, counter) => match self.stage {
                Stage::Proof { .. } => self.take_proof(now, party, counter, datagram),
                Stage::Open { .. } => self.take_frame(counter, datagram),
                _ => Ok(Taken::Ignored(Ignored::Stage)),
            },
        }
    }

    /// Responder: the first packet. Nothing is owed to anybody yet, so what is wrong with it ends the session.
    fn answer_hello(&mut self, party: &Party<'_>, body: &[u8], packet: &[u8]) -> Result<Taken, SessionError> {
        let Stage::Hello(entropy) = &self.stage else {
            return Ok(Taken::Ignored(Ignored::Stage));
        };
        let entropy = entropy.clone();
        let (pattern, noise, remote, reply) = respond(party, self.id, body, &entropy)?;
        self.send(reply.clone());
        let answered = Answered {
            packet: packet.to_vec(),
            answers: vec![reply],
        };
        self.stage = match pattern {
            Pattern::Xx => Stage::Finish(Half {
                noise,
                entropy,
                remote,
                answered,
            }),
            Pattern::Ik => self.open_pipes(party, remote, noise.finish()?, answered)?,
        };
        Ok(Taken::Progress)
    }

    /// Responder: the packet that was answered last may have lost its answer.
    fn answer_again(&mut self, packet: &[u8]) -> bool {
        let (Stage::Finish(Half { answered, .. }) | Stage::Proof { answered, .. }) = &self.stage else {
            return false;
        };
        if self.side == Side::Initiator || answered.packet != packet {
            return false;
        }
        self.actions
            .extend(answered.answers.iter().cloned().map(Action::Send));
        true
    }

    /// Initiator: the reply.
    fn take_reply(&mut self, now: Instant, party: &Party<'_>, message: &[u8]) -> Result<Taken, SessionError> {
        let Stage::Reply(pattern, noise) = &mut self.stage else {
            return Ok(Taken::Ignored(Ignored::Stage));
        };
        let pattern = *pattern;
        if message.len() != pattern.second(ID) {
            return Ok(Taken::Ignored(Ignored::Shape));
        }
        let Ok(payload) = noise.read(message) else {
            return Ok(Taken::Ignored(Ignored::Forged));
        };
        let remote = u32::from_be_bytes(payload.try_into().map_err(|_| SessionError::Handshake)?);
        let Stage::Reply(_, mut noise) = mem::replace(&mut self.stage, Stage::Dead(SessionError::Setup))
        else {
            return Err(SessionError::Setup);
        };
        if pattern == Pattern::Xx {
            let mut finish = Packet::finish(remote);
            noise.write(&[], &mut finish)?;
            self.send_until_answered(now, finish);
        }
        // With IK the hello goes on being repeated, until the proof that followed the reply is here.
        let nothing = Answered {
            packet: Vec::new(),
            answers: Vec::new(),
        };
        self.stage = self.open_pipes(party, remote, noise.finish()?, nothing)?;
        Ok(Taken::Progress)
    }

    /// Responder of XX: the third message.
    fn take_finish(
        &mut self,
        party: &Party<'_>,
        message: &[u8],
        packet: &[u8],
    ) -> Result<Taken, SessionError> {
        let Stage::Finish(half) = &mut self.stage else {
            return Ok(Taken::Ignored(Ignored::Stage));
        };
        if half.noise.read(message).is_err() {
            let hello = half.answered.packet.get(1..).unwrap_or_default();
            half.noise = respond(party, self.id, hello, &half.entropy)?.1;
            return Ok(Taken::Ignored(Ignored::Forged));
        }
        let Stage::Finish(half) = mem::replace(&mut self.stage, Stage::Dead(SessionError::Setup)) else {
            return Err(SessionError::Setup);
        };
        let answered = Answered {
            packet: packet.to_vec(),
            answers: Vec::new(),
        };
        self.stage = self.open_pipes(party, half.remote, half.noise.finish()?, answered)?;
        Ok(Taken::Progress)
    }

    /// All Noise messages are through: the responder proves itself first.
    fn open_pipes(
        &mut self,
        party: &Party<'_>,
        remote: u32,
        outcome: Outcome,
        mut answered: Answered,
    ) -> Result<Stage, SessionError> {
        let (send, receive) = outcome.keys(self.side);
        let mut pipes = Pipes {
            remote,
            send: Ordered::new(send),
            receive: Unordered::new(receive),
        };
        if self.side == Side::Responder {
            let mut packet = Vec::new();
            pipes.seal(&proof::prove(party, self.side, &outcome.facts), &mut packet)?;
            answered.answers.push(packet.clone());
            self.send(packet);
        }
        Ok(Stage::Proof {
            pipes,
            facts: outcome.facts,
            answered,
        })
    }

    /// The peer's first sealed packet. Whoever could seal it completed the handshake, so a bad proof is the peer's own.
    fn take_proof(
        &mut self,
        now: Instant,
        party: &Party<'_>,
        counter: u64,
        datagram: &mut [u8],
    ) -> Result<Taken, SessionError> {
        let Stage::Proof { pipes, facts, .. } = &mut self.stage else {
            return Ok(Taken::Ignored(Ignored::Stage));
        };
        if counter != 0 || !Packet::is_proof_length(datagram) {
            return Ok(Taken::Ignored(Ignored::Stage));
        }
        let tag = tag_of(datagram);
        let sealed = datagram.get_mut(DATA_HEADER..).unwrap_or_default();
        let length = match pipes.receive.open(counter, sealed) {
            Ok(length) => length,
            Err(why) => return Ok(Taken::Ignored(why)),
        };
        let shown = sealed.get(..length).unwrap_or_default();
        let peer = proof::check(party, self.side.other(), facts, self.pinned, shown)?;
        let mut packet = Vec::new();
        match self.side {
            Side::Initiator => pipes.seal(&proof::prove(party, self.side, facts), &mut packet)?,
            // An empty packet tells the initiator that it need not repeat its proof.
            Side::Responder => pipes.seal(&[], &mut packet)?,
        }
        let Stage::Proof { pipes, .. } = mem::replace(&mut self.stage, Stage::Dead(SessionError::Setup))
        else {
            return Err(SessionError::Setup);
        };
        self.stage = Stage::Open {
            pipes,
            peer,
            proof: tag,
        };
        match self.side {
            Side::Initiator => self.send_until_answered(now, packet),
            Side::Responder => self.send(packet),
        }
        self.actions.push_back(Action::Established(peer));
        Ok(Taken::Progress)
    }

    fn take_frame(&mut self, counter: u64, datagram: &mut [u8]) -> Result<Taken, SessionError> {
        let Stage::Open { pipes, proof, .. } = &mut self.stage else {
            return Ok(Taken::Ignored(Ignored::Stage));
        };
        let repeated = counter == 0 && self.side == Side::Responder && tag_of(datagram) == *proof;
        let sealed = datagram.get_mut(DATA_HEADER..).unwrap_or_default();
        match pipes.receive.open(counter, sealed) {
            Ok(length) => {
                self.repeat = None;
                Ok(if length == 0 {
                    Taken::Progress
                } else {
                    Taken::Frame(length)
                })
            }
            Err(Ignored::Replayed) if repeated => {
                // The confirmation was lost.
                let mut packet = Vec::new();
                pipes.seal(&[], &mut packet)?;
                self.send(packet);
                Ok(Taken::Progress)
            }
            Err(why) => Ok(Taken::Ignored(why)),
        }
    }
}

impl Pipes {
    fn seal(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        let start = out.len();
        out.reserve(text.len().saturating_add(super::DATAGRAM_OVERHEAD));
        Packet::data(self.remote, self.send.counter(), out);
        out.extend_from_slice(text);
        let sealed = out
            .get_mut(start.saturating_add(DATA_HEADER)..)
            .unwrap_or_default();
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

impl fmt::Debug for DatagramSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Hello(_) => "waiting for hello",
            Stage::Reply(..) => "waiting for reply",
            Stage::Finish(_) => "waiting for finish",
            Stage::Proof { .. } => "waiting for the proof",
            Stage::Open { .. } => "open",
            Stage::Dead(_) => "dead",
        };
        f.debug_struct("DatagramSession")
            .field("side", &self.side)
            .field("id", &self.id)
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

/// [`Received`] before the frame is borrowed from the datagram.
enum Taken {
    Frame(usize),
    Progress,
    Ignored(Ignored),
}

/// Reads a hello and writes the reply: the same for the same entropy.
fn respond(
    party: &Party<'_>,
    id: u32,
    body: &[u8],
    entropy: &[u8; 32],
) -> Result<(Pattern, Handshake, u32, Vec<u8>), SessionError> {
    let (first, message) = body.split_first().ok_or(SessionError::Handshake)?;
    let pattern = Pattern::from_byte(*first)?;
    let mut noise = Handshake::new(party, Bearer::Datagram, pattern, Side::Responder, None, entropy)?;
    let payload = noise.read(message)?;
    let remote = Packet::hello_sender(&payload).ok_or(SessionError::Handshake)?;
    let mut reply = Packet::reply(remote);
    noise.write(&id.to_be_bytes(), &mut reply)?;
    Ok((pattern, noise, remote, reply))
}

fn tag_of(datagram: &[u8]) -> [u8; TAG] {
    datagram.last_chunk().copied().unwrap_or([0; TAG])
}
