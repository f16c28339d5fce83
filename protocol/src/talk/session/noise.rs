//! The Noise handshake, by `snow`, with randomness that the caller passed in.

use super::{Party, SessionError, Side};
use crate::crypto::SessionStatic;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an X25519 key.
pub(super) const KEY: usize = 32;
const TAG: usize = super::cipher::TAG;

/// Which handshake; the number is its first byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pattern {
    /// Neither knows the other's static key: three messages.
    Xx = 1,
    /// The initiator knows the responder's: two messages.
    Ik = 2,
}

/// What carries the session. It is part of the prologue, so nothing moves from one bearer to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bearer {
    /// Ordered bytes.
    Stream = 1,
    /// Packets that may be lost, repeated and reordered.
    Datagram = 2,
}

/// What both sides know when the Noise messages are through.
pub(super) struct Outcome {
    /// Seals what the initiator sends.
    pub initiator_key: Zeroizing<[u8; 32]>,
    /// Seals what the responder sends.
    pub responder_key: Zeroizing<[u8; 32]>,
    /// Facts that the proofs of identity sign.
    pub facts: Facts,
}

/// The public outcome of a handshake, as seen from one side.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    /// The handshake hash.
    pub hash: [u8; 32],
    /// Our Noise static key.
    pub own: [u8; KEY],
    /// The peer's.
    pub remote: [u8; KEY],
}

/// One handshake in progress.
pub(super) struct Handshake {
    state: Box<HandshakeState>,
    own: [u8; KEY],
}

/// The X25519 public key of a session static, as others will see it in [`Peer::noise_static`](super::Peer).
pub fn noise_public(secret: &SessionStatic) -> [u8; 32] {
    let mut public = [0; KEY];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
        dh.set(secret.secret());
        public.copy_from_slice(dh.pubkey());
    }
    public
}

impl Pattern {
    pub(super) fn from_byte(byte: u8) -> Result<Pattern, SessionError> {
        match byte {
            1 => Ok(Pattern::Xx),
            2 => Ok(Pattern::Ik),
            other => Err(SessionError::Pattern(other)),
        }
    }

    /// Length of the initiator's first message with `payload` bytes in it.
    pub(super) const fn first(self, payload: usize) -> usize {
        match self {
            Pattern::Xx => KEY + payload,
            Pattern::Ik => KEY + (KEY + TAG) + payload + TAG,
        }
    }

    /// Length of the responder's answer with `payload` bytes in it.
    pub(super) const fn second(self, payload: usize) -> usize {
        match self {
            Pattern::Xx => KEY + (KEY + TAG) + payload + TAG,
            Pattern::Ik => KEY + payload + TAG,
        }
    }

    /// Length of the initiator's last message, which only XX has.
    pub(super) const fn third() -> usize {
        (KEY + TAG) + TAG
    }

    const fn name(self) -> &'static str {
        match self {
            Pattern::Xx => "Noise_XX_25519_ChaChaPoly_BLAKE2s",
            Pattern::Ik => "Noise_IK_25519_ChaChaPoly_BLAKE2s",
        }
    }
}

impl Handshake {
    /// Starts one end. `remote` is the responder's static key, which an initiator of IK must give. `entropy` must be
    /// fresh: the same 32 bytes twice would give two sessions the same ephemeral key.
    pub(super) fn new(
        party: &Party<'_>,
        bearer: Bearer,
        pattern: Pattern,
        side: Side,
        remote: Option<&[u8; KEY]>,
        entropy: &[u8; 32],
    ) -> Result<Handshake, SessionError> {
        let setup = |_| SessionError::Setup;
        let mut prologue = Vec::with_capacity(PROLOGUE.len() + 1 + 32);
        prologue.extend_from_slice(PROLOGUE);
        prologue.push(bearer as u8);
        prologue.extend_from_slice(party.genesis.as_bytes());
        let secret = party.keys.session_static();
        let params = pattern.name().parse().map_err(setup)?;
        let mut builder = Builder::with_resolver(params, Box::new(Seeded(Zeroizing::new(*entropy))))
            .local_private_key(secret.secret())
            .and_then(|b| b.prologue(&prologue))
            .map_err(setup)?;
        if let (Some(remote), Side::Initiator) = (remote, side) {
            builder = builder.remote_public_key(remote).map_err(setup)?;
        }
        let state = match side {
            Side::Initiator => builder.build_initiator(),
            Side::Responder => builder.build_responder(),
        };
        Ok(Handshake {
            state: Box::new(state.map_err(setup)?),
            own: noise_public(secret),
        })
    }

    /// Appends the next message to `out`.
    pub(super) fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        let mut message = vec![0; KEY + KEY + TAG + payload.len() + TAG];
        let length = self
            .state
            .write_message(payload, &mut message)
            .map_err(|_| SessionError::Setup)?;
        message.truncate(length);
        out.append(&mut message);
        Ok(())
    }

    /// Reads the peer's next message and returns its payload. The caller has checked the length.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut payload = vec![0; message.len()];
        let length = self
            .state
            .read_message(message, &mut payload)
            .map_err(|_| SessionError::Handshake)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// Whether the next message is ours.
    pub(super) fn must_write(&self) -> bool {
        !self.state.is_handshake_finished() && self.state.is_my_turn()
    }

    /// Takes the keys out once all messages are through.
    pub(super) fn finish(mut self) -> Result<Outcome, SessionError> {
        if !self.state.is_handshake_finished() {
            return Err(SessionError::Setup);
        }
        let (mut initiator, mut responder) = self.state.dangerously_get_raw_split();
        let hash = self
            .state
            .get_handshake_hash()
            .try_into()
            .map_err(|_| SessionError::Setup)?;
        let remote = self.state.get_remote_static().and_then(|s| s.try_into().ok());
        let outcome = Outcome {
            initiator_key: Zeroizing::new(initiator),
            responder_key: Zeroizing::new(responder),
            facts: Facts {
                hash,
                own: self.own,
                remote: remote.ok_or(SessionError::Setup)?,
            },
        };
        initiator.zeroize();
        responder.zeroize();
        Ok(outcome)
    }
}

impl Outcome {
    /// The keys as (what `side` sends with, what it receives with).
    pub(super) fn keys(&self, side: Side) -> (super::cipher::Key, super::cipher::Key) {
        let initiator = super::cipher::Key::new(&self.initiator_key);
        let responder = super::cipher::Key::new(&self.responder_key);
        match side {
            Side::Initiator => (initiator, responder),
            Side::Responder => (responder, initiator),
        }
    }
}

/// Name and version of the protocol: nodes that differ in it cannot shake hands.
const PROLOGUE: &[u8] = b"turnpike/session/v1";

/// `snow`'s own primitives, and a random source that is a ChaCha20 stream under the caller's 32 bytes.
struct Seeded(Zeroizing<[u8; 32]>);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Stream(ChaCha20::new(
            (&*self.0).into(),
            &[0; 12].into(),
        ))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Stream(ChaCha20);

impl Random for Stream {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        dest.fill(0);
        self.0.try_apply_keystream(dest).map_err(|_| snow::Error::Rng)
    }
}
