//! What a payee's simplex is told, and what it wants done.

use crate::base::{BlockHeight, Msat, Outpoint, Sat, Txid};
use crate::wire::{ErrorCode, Signature};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What happens to a payee's simplex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayeeInput {
    /// The payer says which output it signed.
    Declared {
        /// The output.
        outpoint: Outpoint,
    },
    /// The chain shows an output paying the script.
    Funded {
        /// The output.
        outpoint: Outpoint,
        /// Its value.
        value: Sat,
        /// Its block's height; `None` while unconfirmed.
        height: Option<BlockHeight>,
    },
    /// The unconfirmed funding is gone.
    Unfunded {
        /// The output.
        outpoint: Outpoint,
    },
    /// The funding output was spent.
    Spent {
        /// By this transaction.
        txid: Txid,
        /// In a block of this height; `None` while unconfirmed.
        height: Option<BlockHeight>,
        /// By whom, if not by a settlement of ours.
        back: Option<TakenBack>,
    },
    /// Blocks above this height are void.
    Reorg {
        /// The last height that holds.
        height: BlockHeight,
    },
    /// The chain's height (from our own back end), or the lowest that it can have.
    Height {
        /// The height.
        height: BlockHeight,
    },
    /// Our own chain back end went silent.
    Dark,
    /// ... and speaks again.
    Lit,
    /// A payment.
    Payment {
        /// Cumulative total.
        total: Msat,
        /// The payer's signature for it.
        signature: Signature,
        /// Unconfirmed credit that the owner has left for this channel now.
        room: Msat,
    },
    /// The payer's newest payment after a reconnect; the same as a payment, and the only one that a restored
    /// simplex takes.
    Resume {
        /// Cumulative total.
        total: Msat,
        /// The payer's signature for it.
        signature: Signature,
        /// Unconfirmed credit that the owner has left for this channel now.
        room: Msat,
    },
    /// Settle: the payer asks, or the owner.
    Close,
}

/// What a payee's simplex wants done, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayeeAction {
    /// Write the whole record.
    Persist,
    /// Append (slot, total, signature) to the journal.
    PersistPayment,
    /// The client's account has paid up to this total.
    Credited {
        /// Cumulative total of this channel.
        total: Msat,
    },
    /// Settle this simplex on chain.
    Settle,
    /// Money credited on this channel will never come: its funding is gone for good, or its payer has it back.
    Lost {
        /// How much.
        amount: Msat,
        /// Whether it counts as paid all the same.
        back: TakenBack,
    },
    /// Nothing more to watch.
    Forget,
}

/// Why an input was refused. Nothing was credited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PayeeError {
    /// The peer's fault or wish that cannot be met: tell it this.
    #[error("{}", .0.text())]
    Refused(ErrorCode),
}

/// What becomes of the use that was paid with money which its payer has back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TakenBack {
    /// It is owed: from the refund's block on nothing of it counts as paid.
    Owed,
    /// It was too little to be settled, and is given up (money.md rule 8): it counts as paid.
    GivenUp,
}
