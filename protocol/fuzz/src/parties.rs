//! Nodes with keys of their own, made once: seeds are stretched slowly on purpose.

use std::sync::LazyLock;
use turnpike_protocol::base::GenesisHash;
use turnpike_protocol::crypto::{CoinType, Keys, Seed, Verifier};
use turnpike_protocol::talk::session::Party;

/// The chain that all of them are on.
pub const GENESIS: GenesisHash = GenesisHash::from_bytes([0x11; 32]);

/// Checks signatures, for everybody.
pub static VERIFIER: LazyLock<Verifier> = LazyLock::new(Verifier::new);

static KEYS: [LazyLock<Keys>; 3] = [
    LazyLock::new(|| keys(1)),
    LazyLock::new(|| keys(2)),
    LazyLock::new(|| keys(3)),
];

/// How many there are.
pub const COUNT: usize = KEYS.len();

/// The keys of one of them, counted round.
pub fn of(who: usize) -> &'static Keys {
    &KEYS[who % COUNT]
}

/// One of them as a session wants it.
pub fn party(who: usize) -> Party<'static> {
    Party {
        keys: of(who),
        verifier: &VERIFIER,
        genesis: GENESIS,
    }
}

/// Keys that a node may own.
pub fn keys(who: u8) -> Keys {
    Keys::new(&Seed::from_entropy(&[who; 32]), CoinType::Test).expect("any entropy gives keys")
}
