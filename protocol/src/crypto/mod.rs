//! Keys, tagged hashes and signatures.
//!
//! What it does: turns one BIP39 seed into every key of a node, hashes and signs statements.
//! What comes in: seed words or 32 bytes of entropy, digests, keys of others.
//! What goes out: key pairs, digests, signatures, yes or no.
//! What it never does: draw randomness, keep a passphrase, print a secret.
//!
//! Spec page: `protocol/spec/keys.md`.

mod descriptor;
mod keys;
mod seed;
mod sign;
mod tagged;

pub use descriptor::checksum as descriptor_checksum;
pub use keys::{Account, ChannelKeys, CoinType, KeyError, Keys, RecoveryKey, Role, SessionStatic};
pub use seed::{Seed, SeedError};
pub use sign::{Signature, Signer, Verifier, VerifyError};
pub use tagged::{Digest, Statement, channel_id, tagged_hash};

#[cfg(test)]
mod tests;
