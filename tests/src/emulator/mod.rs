//! The card in an emulator, judged from outside.
//!
//! What it does: flashes the built image onto a file, puts the owner's settings on it, starts QEMU with it, cuts its power, and
//! talks to the machine as its owner (SSH) and its customers (a client node on the guest link) do.
//! What comes in: the image that `make image` built ([`image`]). What goes out: a machine's console, answers over SSH, bytes of the
//! card, kernel counters on the client's side.
//! What it never does: look into the machine by other ways than an owner has, or touch the machine's network outside its
//! namespaces.
//! Spec page: `protocol/spec/card.md`.
//!
//! ```text
//! namespace of the test                                    the emulated card             namespace client0
//!   127.0.0.1: play chain, web server ── slirp 10.0.2.2 ── eth0 (uplink)
//!                                                          eth1 (guests) ── tap0 ─ link0 ─── eth0
//!   10.99.0.1: play chain ────────────────────────────────────────────────────────────────── chain0
//! ```

mod bundle;
mod card;
mod depot;
mod disk;
mod machine;
mod sale;
mod settings;
mod shell;
mod stand;
mod update;
mod wires;

pub use bundle::{Wish, Workshop};
pub use card::{Card, Region, image};
pub use depot::Depot;
pub use disk::Disk;
pub use machine::{Board, Machine};
pub use sale::Sold;
pub use settings::Settings;
pub use shell::Shell;
pub use stand::Stand;
pub use wires::Wires;
