//! What a node keeps on disk: rows of a few tables, and a journal of payments.
//!
//! Every value starts with a format byte, then canonical postcard. A payment is appended to the journal and is in
//! force from then on; folding writes the rows anew and empties the journal in one transaction.

use crate::base::{ChannelId, Msat, NodeId, Slot};
use crate::market::{AccountRecord, ReceiptError};
use crate::wire::{self, Receipt, Signature};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u8 = 1;

/// What a row is about. The shell keeps each in a table of its store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// [`Meta`], and the free allowance.
    Meta,
    /// [`crate::money::channel::PayeeRecord`] by slot.
    Payee,
    /// [`crate::money::channel::PayerRecord`] by slot.
    Payer,
    /// [`ClientRecord`] by client key.
    Client,
    /// [`PeerRecord`] by key.
    Peer,
    /// [`ReceiptRecord`] by relay key, client key, channel and sequence.
    Receipt,
    /// [`crate::market::BuyerRecord`] by relay key.
    Buyer,
    /// [`super::history::HistoryRecord`] by slot.
    History,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 8] = [
        Table::Meta,
        Table::Payee,
        Table::Payer,
        Table::Client,
        Table::Peer,
        Table::Receipt,
        Table::Buyer,
        Table::History,
    ];

    /// The error for a row of this table that cannot be read.
    pub const fn corrupt(self) -> LoadError {
        let about = match self {
            Table::Meta => "the node",
            Table::Payee | Table::Payer | Table::History => "a channel",
            Table::Client => "a client",
            Table::Peer => "a peer",
            Table::Receipt => "a receipt",
            Table::Buyer => "a purchase",
        };
        LoadError::Corrupt { about }
    }
}

/// Counters that never go back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    /// The next free row number.
    pub next_slot: u32,
    /// The next unused key index as payer.
    pub next_payer_key: u32,
    /// The next unused key index as payee.
    pub next_payee_key: u32,
    /// Version of the newest price sheet signed.
    pub sheet_version: u32,
}

/// What a relay knows of one client key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Use, cost and credit.
    pub account: AccountRecord,
    /// The channel that pays now.
    pub paying: Option<Slot>,
    /// The attachment of the gate that carried its packets last: after a crash the kernel's table still counts it.
    pub gate: Option<u16>,
    /// How many attachments it ever had.
    pub attachments: u32,
}

/// What a node knows of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Highest store generation that it showed.
    pub generation: u64,
    /// The highest generation of ours that it said it had seen, and that was acted on.
    pub echoed: u64,
}

/// A receipt that is kept, by relay and client alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The receipt as signed.
    pub receipt: Vec<u8>,
    /// The relay's signature.
    pub relay: Signature,
    /// The client's, if it agreed.
    pub client: Option<Signature>,
}

/// One line of the journal: a payment that was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The payee's row.
    pub slot: Slot,
    /// Cumulative total.
    pub total: Msat,
    /// The payer's signature.
    pub signature: Signature,
}

/// One write; the shell commits a run of them as one transaction before it does anything that follows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Puts a row.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
        /// Format byte and postcard.
        value: Vec<u8>,
    },
    /// Removes a row.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
    /// Removes every row whose key begins so.
    DeleteAll {
        /// Where.
        table: Table,
        /// The beginning of their keys.
        prefix: Vec<u8>,
    },
    /// Appends to the journal.
    Journal {
        /// Postcard of a [`JournalEntry`].
        entry: Vec<u8>,
    },
}

/// Why a store cannot be used. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Written by a newer build.
    #[error("the store was written in format {0}, this build reads up to {FORMAT}: update the firmware")]
    Newer(u8),
    /// A row does not decode.
    #[error("a row about {about} in the store cannot be read: restore the store from a backup")]
    Corrupt {
        /// What the row is about.
        about: &'static str,
    },
    /// A channel's terms are impossible.
    #[error("channel {slot} in the store has impossible terms: restore the store from a backup")]
    Terms {
        /// The channel's row.
        slot: u32,
    },
}

/// A row ready to be written.
pub fn put<T: Serialize>(table: Table, key: &[u8], value: &T) -> Write {
    let mut bytes = alloc::vec![FORMAT];
    wire::encode_into(value, &mut bytes);
    Write::Put {
        table,
        key: key.to_vec(),
        value: bytes,
    }
}

/// A journal line ready to be appended.
pub fn journal(entry: &JournalEntry) -> Write {
    Write::Journal {
        entry: wire::encode(entry),
    }
}

/// Reads a row's value.
pub fn read<T: Serialize + DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, LoadError> {
    let corrupt = table.corrupt();
    match value.split_first() {
        Some((&FORMAT, body)) => wire::decode(body).map_err(|_| corrupt),
        Some((format, _)) if *format > FORMAT => Err(LoadError::Newer(*format)),
        _ => Err(corrupt),
    }
}

/// Key of a channel row: its slot, big-endian, so that rows sort by age.
pub fn slot_key(slot: Slot) -> [u8; 4] {
    slot.0.to_be_bytes()
}

/// Slot of a channel row's key.
pub fn key_slot(key: &[u8]) -> Option<Slot> {
    key.try_into().ok().map(|k| Slot(u32::from_be_bytes(k)))
}

/// Key of a receipt row.
pub fn receipt_key(receipt: &Receipt) -> Vec<u8> {
    let mut key = receipts_of(&receipt.relay, &receipt.client, &receipt.channel);
    key.extend_from_slice(&receipt.sequence.to_be_bytes());
    key
}

/// What the keys of all receipts of a channel begin with.
pub fn receipts_of(relay: &NodeId, client: &NodeId, channel: &ChannelId) -> Vec<u8> {
    let mut key = relay.as_bytes().to_vec();
    key.extend_from_slice(client.as_bytes());
    key.extend_from_slice(channel.as_bytes());
    key
}

/// Key of a receipt that its client refused for this reason: one of each kind for a channel, since a relay could send
/// any number. Numbers of signed ones never come so far. `None` where it proves nothing that a court would look at.
pub fn claim_key(receipt: &Receipt, reason: ReceiptError) -> Option<Vec<u8>> {
    let sequence = match reason {
        ReceiptError::OverClaim | ReceiptError::OverPriced => u32::MAX,
        ReceiptError::Figures | ReceiptError::Paid => u32::MAX - 1,
        _ => return None,
    };
    let place = Receipt { sequence, ..*receipt };
    Some(receipt_key(&place))
}

/// Key of a row by node.
pub fn node_key(node: &[u8]) -> Option<NodeId> {
    node.try_into().ok().map(NodeId::from_bytes)
}
