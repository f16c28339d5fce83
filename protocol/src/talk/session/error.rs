//! Why a session ended, and whose fault it is.

use crate::base::NodeId;
use thiserror::Error;

/// Whose fault an error is, and so what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Our own mistake: fix the call or the settings; the peer did nothing wrong.
    Ours,
    /// The peer, or somebody on the way, sent what no honest node sends: disconnect.
    Peer,
}

/// Why a session refused a call. After a fault of the peer on a stream the session is dead, and every further call
/// returns the same error. No money moves in a session that is not established.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A length that the protocol does not allow at this point; refused before anything is buffered.
    #[error(
        "the peer announced {got} bytes where {least} to {most} are allowed: not a node of this protocol, disconnect"
    )]
    Length {
        /// Bytes announced or received.
        got: usize,
        /// Fewest allowed here.
        least: usize,
        /// Most allowed here.
        most: usize,
    },
    /// The first byte names no handshake that we know.
    #[error(
        "the peer asks for handshake {0}, which this version does not know: disconnect; one side needs an update"
    )]
    Pattern(u8),
    /// A handshake message does not authenticate.
    #[error(
        "the handshake failed: the peer is on another chain or protocol version, has another static key than the \
         known one, or somebody changed bytes on the way; disconnect"
    )]
    Handshake,
    /// The peer did not prove its identity.
    #[error("the peer's proof of identity does not hold: somebody may sit in between, disconnect")]
    Proof,
    /// The peer proved an identity, but not the one that was asked for.
    #[error("the peer is {got}, not {expected} as pinned: wrong address or an impostor, disconnect")]
    WrongPeer {
        /// The pinned identity.
        expected: NodeId,
        /// The proven one.
        got: NodeId,
    },
    /// The peer has our own identity key.
    #[error(
        "the peer has this node's own identity: it called itself, or another card runs with the same seed words"
    )]
    Ourselves,
    /// A sealed frame does not authenticate: changed, reordered, replayed or cut.
    #[error("a frame does not authenticate: bytes were changed, lost or repeated on the way; disconnect")]
    Frame,
    /// The peer let the handshake wait too long.
    #[error("the handshake took longer than it may: disconnect, try again later")]
    Timeout,
    /// A frame to be sealed is empty or longer than `limits::MAX_FRAME`.
    #[error("a frame of {0} bytes cannot be sealed: send 1 to MAX_FRAME bytes")]
    FrameLength(usize),
    /// Frames cannot be sealed before the peer is proven.
    #[error("the session is not established yet: wait for its Established action")]
    NotEstablished,
    /// 2^64 − 1 frames went one way.
    #[error("this session's counter is used up: open a new session")]
    Exhausted,
    /// The Noise library refused its parameters.
    #[error("the handshake could not be set up: a fault in this program, report it")]
    Setup,
}

impl SessionError {
    /// Whose fault it is.
    pub const fn fault(&self) -> Fault {
        match self {
            SessionError::Ourselves
            | SessionError::FrameLength(_)
            | SessionError::NotEstablished
            | SessionError::Exhausted
            | SessionError::Setup => Fault::Ours,
            _ => Fault::Peer,
        }
    }
}
