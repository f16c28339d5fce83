//! The payee's signed promise to serve a channel with these terms (money.md rule 1).

use super::tx::Terms;
use crate::base::{BlockHeight, GenesisHash, NodeId, Sat};
use crate::crypto::{Digest, Statement};
use crate::wire;

/// What a payee accepted. Signed with tag `turnpike/accept/v1`, signer the payee, peer the payer's identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acceptance {
    /// The terms.
    pub terms: Terms,
    /// Last height at which the funding may confirm.
    pub accept_until: BlockHeight,
}

impl Acceptance {
    /// What the payee's identity key signs for this payer.
    pub fn digest(&self, genesis: GenesisHash, payee: NodeId, payer: NodeId) -> Digest {
        let Terms {
            payer_key,
            payee_key,
            capacity,
            expiry,
        } = self.terms;
        let fields: ([u8; 32], [u8; 32], Sat, BlockHeight, BlockHeight) =
            (payer_key, payee_key, capacity, expiry, self.accept_until);
        let body = wire::encode(&fields);
        Statement {
            kind: "accept",
            genesis,
            signer: payee,
            peer: *payer.as_bytes(),
            instance: [0; 32],
            body: &body,
        }
        .digest()
    }
}
