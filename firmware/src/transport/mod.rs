//! Connections to other nodes: TCP underneath, sealed sessions on top, and finding relays on the link.
//!
//! What it does: accepts and makes connections, runs the handshake, opens and seals frames, bounds what strangers
//! can cost.
//! What comes in: sockets, plain frames to send. What goes out: [`LinkEvent`]s over one bounded channel, beacons.
//! What it never does: read a frame's contents, hold more than a few frames of a peer, let one peer's flood or
//! silence hold up another's traffic.
//!
//! One task per connection does its own cryptography. A peer that sends too fast is read more slowly, before its bytes are
//! decrypted; a peer that reads too slowly is disconnected. Spec page: `protocol/spec/transport.md`.

mod admission;
mod beacon;
mod bucket;
mod connection;
mod discovery;
mod frame;
mod links;
mod listener;
mod socket;
#[cfg(test)]
mod tests;

pub use admission::Refusal;
pub use beacon::{Beacon, BeaconError};
pub use discovery::{
    DISCOVERY_PORT, Discovery, SignedSheet, answer_discovery, awkwardness, discover, discover_at,
};
pub use frame::Frame;
pub use links::Links;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use turnpike_protocol::base::limits::{MAX_CONNECTIONS, MAX_FRAME};
use turnpike_protocol::base::{ConnectionId, NodeId};
use turnpike_protocol::talk::session::SessionError;

/// What happened on a connection. Per connection: one `Up`, then any number of `Frame`, then one `Down`.
#[derive(PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// The peer has proven who it is.
    Up {
        /// The connection's number, never used again.
        connection: ConnectionId,
        /// Who.
        peer: NodeId,
        /// Its address.
        remote: SocketAddr,
        /// Our address towards it.
        local: SocketAddr,
        /// We connected to it.
        outgoing: bool,
    },
    /// A frame arrived, whole and authenticated; not yet decoded.
    Frame {
        /// From where.
        connection: ConnectionId,
        /// Version byte, kind, body.
        frame: Frame,
    },
    /// The connection is over; nothing more is sent or received.
    Down {
        /// Which.
        connection: ConnectionId,
        /// Why, for the log.
        reason: String,
    },
}

/// Bounds of what others can cost. The defaults suit a Pi Zero 2 W.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkLimits {
    /// Connections in all.
    pub connections: usize,
    /// Of these, kept for connections that this node makes: strangers cannot cut it off.
    pub outgoing: usize,
    /// Connections of one source: an IPv4 address, an IPv6 /64, or a link-local address. A household behind one
    /// address fits.
    pub connections_per_source: usize,
    /// Sessions of one identity: one in use and one that replaces it; a third ends the oldest.
    pub sessions_per_peer: usize,
    /// Incoming connections that have not proven who they are. When they are full, a new one takes the place of the
    /// oldest: a handshake takes milliseconds, so it is not an honest one that is hit.
    pub half_open: usize,
    /// The same for one source, which is refused then.
    pub half_open_per_source: usize,
    /// Handshakes per second of one source, and how many at once after a pause.
    pub handshakes_per_source: Rate,
    /// Handshakes per second of all together: each costs milliseconds of a small processor.
    pub handshakes: Rate,
    /// Connections taken off the system's queue, welcome or not; the others wait in it. Bounds what refusing costs.
    pub accepts: Rate,
    /// Frames per second of one connection. A purchase needs a few; a gigabit of traffic 30.
    pub frames: Rate,
    /// Bytes per second of one connection, charged before they are decrypted. Each read is charged [`Self::READ_COST`]
    /// more, so that single bytes cannot keep a processor awake.
    pub bytes: Rate,
    /// Frames of one connection that may wait for the node: it cannot fill the node's channel.
    pub waiting: usize,
    /// Plain bytes that may wait to be sent on one connection; beyond, its peer is too slow and is disconnected.
    pub queued_bytes: usize,
    /// How long connecting may take, handshake apart.
    pub connect_timeout: Duration,
}

/// So many per second, and so many at once after a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Per second, 1 or more.
    pub per_second: u32,
    /// At once, 1 or more.
    pub burst: u32,
}

impl LinkLimits {
    /// Bytes that a read is charged besides those that it brought: about what waking up costs.
    pub const READ_COST: usize = 256;
}

impl Default for LinkLimits {
    fn default() -> Self {
        LinkLimits {
            connections: MAX_CONNECTIONS,
            outgoing: 32,
            connections_per_source: 32,
            sessions_per_peer: 2,
            half_open: 64,
            half_open_per_source: 8,
            handshakes_per_source: Rate {
                per_second: 2,
                burst: 16,
            },
            handshakes: Rate {
                per_second: 50,
                burst: 100,
            },
            accepts: Rate {
                per_second: 200,
                burst: 200,
            },
            frames: Rate {
                per_second: 200,
                burst: 400,
            },
            bytes: Rate {
                per_second: 256 * 1024,
                burst: 512 * 1024,
            },
            waiting: 8,
            queued_bytes: 32 * MAX_FRAME,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address does not answer.
    #[error("{address} does not answer ({error}): check the address and that its turnpiked runs")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// It answers, but there is no session with it.
    #[error("no session with {address}: {error}")]
    Session {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: SessionError,
    },
    /// It hung up during the handshake.
    #[error(
        "{address} hung up during the handshake ({reason}): it may be busy or on another chain, try again later"
    )]
    HungUp {
        /// Where.
        address: SocketAddr,
        /// What was seen.
        reason: String,
    },
    /// This node's own bounds.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No random numbers to be had.
    #[error("the system has no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
}
