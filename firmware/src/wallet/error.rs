//! What the wallet refuses, and why.

use turnpike_protocol::base::Sat;

/// Why the wallet did not do what it was asked. Nothing was signed, reserved or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The descriptors cannot be used. Our mistake: they come from the seed.
    #[error("the wallet's descriptors are not usable ({0}); they must hold secret keys of this network")]
    Descriptor(String),
    /// The journal is damaged, or of other keys or another chain.
    #[error(
        "the wallet's journal does not fit ({0}); restore the backup, or delete it and scan the chain anew"
    )]
    Journal(String),
    /// The confirmed and unreserved coins do not suffice.
    #[error(
        "{available} confirmed and not reserved, {needed} needed with the fee; add coins or wait for blocks"
    )]
    Insufficient {
        /// Confirmed coins that are not reserved.
        available: Sat,
        /// The amount with the fee, as far as it could be computed.
        needed: Sat,
    },
    /// An output below the dust limit: no node relays it.
    #[error("the amount is below the dust limit of its address type; send more")]
    Dust,
    /// It would take more inputs than a transaction of the allowed size holds.
    #[error(
        "the coins are too small: the transaction would have {bytes} bytes, {limit} is the most; join them first"
    )]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
        /// The most, bytes.
        limit: usize,
    },
    /// No input of the transaction belongs to this wallet, or one could not be signed.
    #[error("the transaction could not be signed: {0}")]
    Signing(String),
    /// A block does not continue the chain that the wallet knows. Our mistake: blocks must come in order.
    #[error(
        "block {height} does not continue the wallet's chain; restart so that it scans from its last block"
    )]
    Disconnected {
        /// Height of the block.
        height: u32,
    },
    /// Anything else that the wallet library refuses.
    #[error("the transaction could not be built: {0}")]
    Build(String),
}
