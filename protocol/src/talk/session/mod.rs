//! Sessions: Noise XX (or IK towards a known peer), then proofs of identity, then frames.
//!
//! What it does: encrypts and authenticates frames between two nodes, over a stream ([`StreamSession`]) or over
//! datagrams ([`DatagramSession`]); rekeys both directions at fixed points; refuses replays.
//! What comes in: bytes from the bearer, frames to seal, the time, 32 fresh random bytes per session.
//! What goes out: bytes for the bearer, whole frames, one [`Peer`] when its identity is proven.
//! What it never does: deliver or accept a frame before both sides have proven who they are; read a frame's contents;
//! draw randomness; hold more than one frame of a peer.
//!
//! Both machines have the one shape: `handle_*`, `poll_*`, `next_timeout`. Order of calls:
//! 1. `initiate` or `accept`;
//! 2. send what `poll_action` yields, pass in what arrives, wake up at `next_timeout`;
//! 3. after [`Action::Established`], `seal` and `poll_frame`.
//!
//! Spec page: `protocol/spec/session.md`.

mod cipher;
mod datagram;
mod error;
mod noise;
mod packet;
mod proof;
mod stream;
mod window;

pub use datagram::DatagramSession;
pub use error::{Fault, SessionError};
pub use noise::noise_public;
pub use packet::{Ignored, Received, Route, route};
pub use stream::StreamSession;

use crate::base::{GenesisHash, NodeId};
use crate::crypto::{Keys, Verifier};
use alloc::vec::Vec;

/// Bytes that sealing adds to a frame on a stream: 2 of length, 16 of authentication tag.
pub const STREAM_OVERHEAD: usize = 2 + cipher::TAG;
/// Bytes that sealing adds to a frame in a datagram: 1 of kind, 4 of session id, 8 of counter, 16 of tag.
pub const DATAGRAM_OVERHEAD: usize = 13 + cipher::TAG;

/// What a session needs of this node: shared by reference, since keys and contexts are made once.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// This node's keys.
    pub keys: &'a Keys,
    /// Checks the peer's proof.
    pub verifier: &'a Verifier,
    /// The chain that both must be on: nodes of different chains cannot even shake hands.
    pub genesis: GenesisHash,
}

/// Whom an initiator means to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contact {
    /// Whoever answers; the identity is learnt.
    Any,
    /// This node and no other.
    Pinned(NodeId),
    /// This node, whose Noise static key is known from before: one round trip less.
    Known {
        /// The identity that must be proven.
        node: NodeId,
        /// From [`Peer::noise_static`] of an earlier session.
        noise_static: [u8; 32],
    },
}

/// Who the peer has proven to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its identity key.
    pub node: NodeId,
    /// Its Noise static key: remember it for [`Contact::Known`].
    pub noise_static: [u8; 32],
    /// The Noise handshake hash: the same on both sides, different in every session. Names the session in statements.
    pub session: [u8; 32],
}

/// What the shell does for a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Hand these bytes to the bearer (one datagram each on a datagram bearer).
    Send(Vec<u8>),
    /// The peer is proven; frames may flow.
    Established(Peer),
}

/// Which end of the handshake a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Sends the first message.
    Initiator,
    /// Answers it.
    Responder,
}

impl Side {
    /// The opposite end.
    pub const fn other(self) -> Side {
        match self {
            Side::Initiator => Side::Responder,
            Side::Responder => Side::Initiator,
        }
    }
}

impl Contact {
    /// The identity that must be proven, if any.
    const fn pinned(&self) -> Option<NodeId> {
        match self {
            Contact::Any => None,
            Contact::Pinned(node) | Contact::Known { node, .. } => Some(*node),
        }
    }
}

#[cfg(test)]
mod tests;
