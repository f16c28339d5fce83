//! How nodes talk: encrypted sessions between two nodes.
//!
//! What comes in: bytes of a bearer, the time, 32 random bytes per session.
//! What goes out: sealed bytes, whole frames, the peer's proven identity.
//! What it never does: look into frames, open sockets, draw randomness.
//! Spec page: `protocol/spec/session.md`.

pub mod session;
