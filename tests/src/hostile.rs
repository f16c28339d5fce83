//! Peers that misbehave. They speak the real protocol over real sessions, with keys of their own, and say what no honest
//! node would say.
//!
//! What comes in: a [`Site`] whose other daemons are real. What goes out: any message at all, and what was answered. What
//! it never does: reach beyond the lab, or sign with another node's key.

mod line;
mod payer;
mod relay;

pub use line::{Heard, Identity, Line};
pub use payer::{Blast, Payer};
pub use relay::{FalseRelay, Lie, Log};

use crate::site::Site;
use serde_json::json;
use turnpike_protocol::base::{BlockHeight, GenesisHash};

/// The relay's TCP port.
pub const PORT: u16 = 7473;

fn genesis(site: &Site) -> GenesisHash {
    let text = site.rpc("getblockhash", json!([0])).expect("getblockhash");
    // Printed in reverse, as explorers do.
    let mut bytes: [u8; 32] = bytes(text.as_str().expect("a hash"));
    bytes.reverse();
    GenesisHash::from_bytes(bytes)
}

fn height(site: &Site) -> BlockHeight {
    BlockHeight::new(u32::try_from(site.height()).expect("a height"))
}

fn bytes(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    assert_eq!(hex.len(), 64, "{hex} is no hash");
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        *byte = u8::from_str_radix(pair, 16).expect("hexadecimal digits");
    }
    bytes
}
