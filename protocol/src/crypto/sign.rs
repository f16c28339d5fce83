//! BIP340 signatures over digests.
//!
//! A context costs more than a signature, so both types here are made once and shared by reference.

use super::tagged::Digest;
use crate::base::NodeId;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SignOnly, VerifyOnly, XOnlyPublicKey};
use core::fmt;
use thiserror::Error;

pub use bitcoin::secp256k1::schnorr::Signature;

/// Signs with any key pair. Its context is blinded once, when it is made, not at every signature: that is three
/// times as fast, and nonces are BIP340's own, derived from key and digest.
#[cfg_attr(feature = "vectors", derive(Clone))]
pub struct Signer {
    context: Secp256k1<SignOnly>,
}

impl Signer {
    /// A signer whose context is blinded with these 32 secret bytes (they never show in a signature).
    pub fn new(blinding: &[u8; 32]) -> Signer {
        let mut context = Secp256k1::signing_only();
        context.seeded_randomize(blinding);
        Signer { context }
    }

    /// Signs without auxiliary randomness (the same as 32 zero bytes of it): deterministic.
    pub fn sign(&self, key: &Keypair, digest: &Digest) -> Signature {
        self.context
            .sign_schnorr_no_aux_rand(&Message::from_digest(*digest.as_bytes()), key)
    }

    /// Signs with 32 fresh random bytes, which makes fault and power attacks on the nonce harder.
    pub fn sign_with_aux(&self, key: &Keypair, digest: &Digest, aux: &[u8; 32]) -> Signature {
        self.context
            .sign_schnorr_with_aux_rand(&Message::from_digest(*digest.as_bytes()), key, aux)
    }

    /// The context, for callers that derive public keys or sign Bitcoin transactions.
    pub fn context(&self) -> &Secp256k1<SignOnly> {
        &self.context
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Why a signature does not count. Always the peer's fault: refuse what it signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The 32 bytes are no x coordinate of a point on the curve.
    #[error("the peer's key is no point on the curve: what it signs counts for nothing, refuse it")]
    Key,
    /// The key is good, the signature is not.
    #[error("the signature does not fit key and statement: nothing was agreed, refuse it")]
    Signature,
}

/// Checks signatures. Make one and share it.
pub struct Verifier {
    context: Secp256k1<VerifyOnly>,
}

impl Verifier {
    /// A verifier with a context of its own.
    pub fn new() -> Verifier {
        Verifier {
            context: Secp256k1::verification_only(),
        }
    }

    /// Checks `signature` over `digest` by the node or x-only key `signer`.
    ///
    /// # Errors
    /// [`VerifyError`], the peer's fault.
    pub fn verify(&self, signer: &NodeId, digest: &Digest, signature: &Signature) -> Result<(), VerifyError> {
        let key = XOnlyPublicKey::from_slice(signer.as_bytes()).map_err(|_| VerifyError::Key)?;
        self.verify_key(&key, digest, signature)
    }

    /// The same with a key that is already a point: it saves a square root for each signature of one peer.
    ///
    /// # Errors
    /// [`VerifyError::Signature`], the peer's fault.
    pub fn verify_key(
        &self,
        key: &XOnlyPublicKey,
        digest: &Digest,
        signature: &Signature,
    ) -> Result<(), VerifyError> {
        self.context
            .verify_schnorr(signature, &Message::from_digest(*digest.as_bytes()), key)
            .map_err(|_| VerifyError::Signature)
    }

    /// The context, for callers that tweak public keys.
    pub fn context(&self) -> &Secp256k1<VerifyOnly> {
        &self.context
    }
}

impl Default for Verifier {
    fn default() -> Self {
        Verifier::new()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}
