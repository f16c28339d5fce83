//! What a payee keeps on disk of one simplex.

use super::payee_input::TakenBack;
use super::tx::Terms;
use crate::base::{BlockHeight, Msat, NodeId, Outpoint, Txid};
use crate::wire::Signature;
use serde::{Deserialize, Serialize};

/// Where a simplex stands for its payee.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PayeeState {
    /// The acceptance was signed; payments count as soon as the funding is known.
    Open,
    /// After a restore: takes the payer's newest signature once more, credits it, and is settled (money.md rule 16).
    Restored,
    /// Our signature may have left us: nothing is accepted any more (money.md rule 7).
    Closing,
    /// Spent on chain by this transaction, at this height if confirmed.
    Spent {
        /// The spending transaction.
        txid: Txid,
        /// Its block's height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// Spent deep, refunded, or never funded: over.
    Over,
    /// The payer's refund is in a block, which is not deep yet.
    Refunded {
        /// The refund.
        txid: Txid,
        /// Its block's height.
        height: BlockHeight,
        /// What becomes of the use that was paid with it.
        back: TakenBack,
    },
    /// Its funding did not come in time, or another one did. Nothing of it counts as paid and nothing more is taken, but
    /// the payer's signature is kept: a funding that comes yet is settled, until the expiry.
    Missing,
}

/// What a payee keeps on disk. Payments are journalled apart as (slot, total, signature).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayeeRecord {
    /// The payer's identity.
    pub peer: NodeId,
    /// What both sides build scripts from.
    pub terms: Terms,
    /// Index of our hardened keys of this channel.
    pub key_index: u32,
    /// Height when we accepted.
    pub accepted_at: BlockHeight,
    /// Last height at which the funding may confirm.
    pub accept_until: BlockHeight,
    /// The funding output, once the payer has named it or it confirmed.
    pub outpoint: Option<Outpoint>,
    /// Height of the funding's block.
    pub funded_at: Option<BlockHeight>,
    /// Newest cumulative total.
    pub total: Msat,
    /// The payer's signature for it; all zero at total zero.
    pub signature: Signature,
    /// Where it stands.
    pub state: PayeeState,
}
