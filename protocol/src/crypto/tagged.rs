//! BIP340 tagged hashes, and the one form in which this protocol signs anything.

use crate::base::{ChannelId, GenesisHash, NodeId, Outpoint};
use bitcoin::hashes::{Hash, HashEngine, sha256};

/// 32 bytes that are ready to be signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps a digest that was made elsewhere, such as a Bitcoin signature hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What is signed, and in whose and which context. A signature over one context is worthless in every other.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// Short lower-case name of the kind; the tag is `turnpike/<kind>/v1`.
    pub kind: &'static str,
    /// The chain that the statement is about.
    pub genesis: GenesisHash,
    /// Who signs.
    pub signer: NodeId,
    /// Whom it is for: a node's identity; 32 zero bytes where it is for everyone.
    pub peer: [u8; 32],
    /// Which channel, ledger or session; 32 zero bytes where there is none.
    pub instance: [u8; 32],
    /// The statement itself, as the bytes received.
    pub body: &'a [u8],
}

impl Statement<'_> {
    /// SHA-256 over both halves of the tag, then genesis, signer, peer and instance (32 bytes each), then the body.
    /// The fixed lengths come first, so no two statements share their bytes.
    pub fn digest(&self) -> Digest {
        Digest(tagged(
            &[b"turnpike/", self.kind.as_bytes(), b"/v1"],
            &[
                self.genesis.as_bytes(),
                self.signer.as_bytes(),
                &self.peer,
                &self.instance,
                self.body,
            ],
        ))
    }
}

/// BIP340's tagged hash: SHA-256 of SHA-256(tag), SHA-256(tag) and the parts one after the other.
///
/// The parts are not separated: all but the last must have a fixed length.
pub fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    tagged(&[tag.as_bytes()], parts)
}

/// The channel's name: tag `turnpike/channel-id/v1` over the funding txid (32 bytes, internal order) and the
/// output's index (4 bytes, little-endian), as they stand in a transaction input.
pub fn channel_id(funding: &Outpoint) -> ChannelId {
    ChannelId::from_bytes(tagged_hash(
        "turnpike/channel-id/v1",
        &[funding.txid.as_bytes(), &funding.vout.to_le_bytes()],
    ))
}

fn tagged(tag: &[&[u8]], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    tag.iter().for_each(|part| engine.input(part));
    let tag = sha256::Hash::from_engine(engine).to_byte_array();
    let mut engine = sha256::Hash::engine();
    engine.input(&tag);
    engine.input(&tag);
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}
