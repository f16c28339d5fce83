//! The proof of identity: each side's first sealed message.
//!
//! The handshake hash is final on both sides only when the last Noise message is through, so the proof cannot be a
//! payload of the handshake itself. It signs that hash, the signer's role and both static keys.

use super::noise::Facts;
use super::{Party, Peer, SessionError, Side};
use crate::base::{GenesisHash, NodeId};
use crate::crypto::{Digest, Signature, Statement};

/// Bytes of a proof: identity key 32, BIP340 signature 64.
pub(super) const PROOF: usize = 32 + 64;

/// This node's proof for the session with these facts.
pub(super) fn prove(party: &Party<'_>, side: Side, facts: &Facts) -> [u8; PROOF] {
    let node = party.keys.node();
    let signature = party.keys.sign(&digest(
        party.genesis,
        node,
        side,
        &facts.hash,
        &facts.own,
        &facts.remote,
    ));
    let mut proof = [0; PROOF];
    let (name, rest) = proof.split_at_mut(32);
    name.copy_from_slice(node.as_bytes());
    rest.copy_from_slice(&signature.serialize());
    proof
}

/// Checks the proof of the peer, which is at the end `side`, and that it is the one that was pinned.
pub(super) fn check(
    party: &Party<'_>,
    side: Side,
    facts: &Facts,
    pinned: Option<NodeId>,
    proof: &[u8],
) -> Result<Peer, SessionError> {
    let (name, signature) = proof.split_at_checked(32).ok_or(SessionError::Proof)?;
    let node = NodeId::from_bytes(name.try_into().map_err(|_| SessionError::Proof)?);
    let signature = Signature::from_slice(signature).map_err(|_| SessionError::Proof)?;
    let digest = digest(party.genesis, node, side, &facts.hash, &facts.remote, &facts.own);
    party
        .verifier
        .verify(&node, &digest, &signature)
        .map_err(|_| SessionError::Proof)?;
    if node == party.keys.node() {
        return Err(SessionError::Ourselves);
    }
    match pinned {
        Some(expected) if expected != node => Err(SessionError::WrongPeer { expected, got: node }),
        _ => Ok(Peer {
            node,
            noise_static: facts.remote,
            session: facts.hash,
        }),
    }
}

/// Kind `session`; the peer is named by its static key, since the responder signs before it knows who calls; the
/// instance is the handshake hash; the body is the signer's role (1 initiator, 2 responder) and its static key.
pub(super) fn digest(
    genesis: GenesisHash,
    signer: NodeId,
    side: Side,
    hash: &[u8; 32],
    signer_static: &[u8; 32],
    peer_static: &[u8; 32],
) -> Digest {
    let mut body = [0; 33];
    let (role, key) = body.split_at_mut(1);
    role.fill(match side {
        Side::Initiator => 1,
        Side::Responder => 2,
    });
    key.copy_from_slice(signer_static);
    Statement {
        kind: "session",
        genesis,
        signer,
        peer: *peer_static,
        instance: *hash,
        body: &body,
    }
    .digest()
}
