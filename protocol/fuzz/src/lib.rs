//! Coverage-guided fuzzing of `turnpike-protocol`.
//!
//! What it does: feeds hostile bytes and lists of operations to the protocol, and panics where a promise is broken.
//! What comes in: the bytes that libFuzzer makes, and seeds made from the golden vectors.
//! What goes out: a panic, whose message names the broken promise. What it never does: touch a file, but for the
//! folder of seeds that the caller names; read a clock; draw randomness.
//! How to run it, and how to take a finding apart: `protocol/fuzz/README.md`.

pub mod channel;
pub mod decode;
pub mod node;
mod parties;
pub mod seeds;
pub mod session;
mod tape;
