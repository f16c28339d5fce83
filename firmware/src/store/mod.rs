//! The store: everything that must outlive a power cut, in one redb file.
//!
//! What it does: makes a list of writes durable in one transaction, keeps the journal of payments beside the
//! tables in the same file, writes and reads encrypted backups, lets a store go on elsewhere and no longer here.
//! What comes in: bytes under a [`Table`] and a key, journal entries. What goes out: the same bytes, in order.
//! What it never does: read meaning into a value (values carry their own version byte), take a damaged file for
//! an empty one, go on after a failed write.
//! Spec page: `protocol/spec/store.md`.

mod arrival;
mod backup;
mod content;
mod database;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod fault;
mod format;
mod journal;
mod moving;
#[cfg(test)]
mod moving_tests;
mod sealed;
mod spoken;
#[cfg(test)]
mod tests;

pub use arrival::{finish_arrival, take_over};
pub use backup::{Backup, import};
pub use database::{Origin, Store};
pub use error::StoreError;
pub use format::format_of;
pub use journal::Journal;
pub use moving::{Arrival, CardId, Departure, MoveCode, Moved, destination, read_move, sum};

/// Version of the file: its tables and the framing of the journal. A file of a newer version is refused.
pub const FORMAT: u32 = 1;
/// The oldest version of the file that this build reads.
pub const OLDEST_FORMAT: u32 = 1;
/// Longest journal entry, bytes: its length is stored in two bytes. A payment needs about 90.
pub const MAX_ENTRY: usize = u16::MAX as usize;
/// Most bytes of journal before [`StoreError::JournalFull`]: about 180,000 payments, read back in well under a
/// second, so that a restart stays quick. Fold long before: see [`FOLD_AT`].
pub const MAX_JOURNAL: u64 = 16 * 1024 * 1024;
/// Bytes of journal at which folding pays: writing 4,096 channels anew costs about as much as this many entries.
pub const FOLD_AT: u64 = 1024 * 1024;

/// What a row is about. Names are frozen; new tables are added at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Table {
    /// The node's own counters: one row.
    Meta,
    /// Channels in which we are paid, by slot.
    Payee,
    /// Channels in which we pay, by slot.
    Payer,
    /// What a relay knows of a client, by client key.
    Client,
    /// What is remembered of a peer, by its key.
    Peer,
    /// Receipts, by relay, client and number.
    Receipt,
    /// The on-chain wallet's journal, by rising number.
    Wallet,
    /// What the chain watcher must know again after a restart.
    Chain,
    /// Sales by client and day.
    Sale,
    /// Purchases, by relay key.
    Buyer,
    /// Channels that are over, by slot.
    History,
}

impl Table {
    /// Every table, in frozen order.
    pub const ALL: [Table; 11] = [
        Table::Meta,
        Table::Payee,
        Table::Payer,
        Table::Client,
        Table::Peer,
        Table::Receipt,
        Table::Wallet,
        Table::Chain,
        Table::Sale,
        Table::Buyer,
        Table::History,
    ];

    /// The frozen name, as it stands in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Payee => "payee",
            Table::Payer => "payer",
            Table::Client => "client",
            Table::Peer => "peer",
            Table::Receipt => "receipt",
            Table::Wallet => "wallet",
            Table::Chain => "chain",
            Table::Sale => "sale",
            Table::Buyer => "buyer",
            Table::History => "history",
        }
    }
}

/// One change. All changes of one commit become durable together or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write<'a> {
    /// Sets a row.
    Put {
        /// The table.
        table: Table,
        /// The row's key.
        key: &'a [u8],
        /// The row's value, whose first byte is its version.
        value: &'a [u8],
    },
    /// Removes a row; nothing happens where there is none.
    Delete {
        /// The table.
        table: Table,
        /// The row's key.
        key: &'a [u8],
    },
    /// Removes every row whose key begins so.
    DeleteAll {
        /// The table.
        table: Table,
        /// The beginning of the rows' keys.
        prefix: &'a [u8],
    },
    /// Appends an entry to the journal.
    Journal(&'a [u8]),
    /// The caller has acted on [`Store::restored`] and does not need to be told again.
    ClearRestored,
}

/// One row of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The key.
    pub key: Vec<u8>,
    /// The value, whose first byte is its version.
    pub value: Vec<u8>,
}
