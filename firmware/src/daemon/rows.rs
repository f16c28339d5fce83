//! Where the node's records live in the store.

use crate::store::{Store, StoreError, Table as Place, Write as StoreWrite};
use turnpike_protocol::node::Rows;
use turnpike_protocol::node::record::{Table, Write};

/// First byte of a channel row's key: which side of the channel we are.
const PAYEE: u8 = b'e';
const PAYER: u8 = b'y';

/// The store's table and key for a record of the node.
fn place(table: Table, key: &[u8]) -> (Place, Vec<u8>) {
    let side = |side: u8| [&[side], key].concat();
    match table {
        Table::Meta => (Place::Node, key.to_vec()),
        Table::Payee => (Place::Channel, side(PAYEE)),
        Table::Payer => (Place::Channel, side(PAYER)),
        Table::Client => (Place::Account, key.to_vec()),
        Table::Peer => (Place::Peer, key.to_vec()),
        Table::Receipt => (Place::Receipt, key.to_vec()),
        Table::Buyer => (Place::Client, key.to_vec()),
    }
}

/// Reads everything that the node loads. Receipts stay on disk: they are only ever listed.
pub fn load(store: &Store) -> Result<Rows, StoreError> {
    let mut rows = Rows {
        generation: store.generation(),
        restored: store.restored()?,
        journal: store.journal()?.entries().map(<[u8]>::to_vec).collect(),
        rows: Vec::new(),
    };
    for (table, from) in [(Table::Meta, Place::Node), (Table::Client, Place::Account), (Table::Peer, Place::Peer), (Table::Buyer, Place::Client)] {
        rows.rows.extend(store.load(from)?.into_iter().map(|(key, value)| (table, key, value)));
    }
    for (key, value) in store.load(Place::Channel)? {
        let (table, key) = match key.split_first() {
            Some((&PAYEE, slot)) => (Table::Payee, slot.to_vec()),
            // Any other key fails to load as a payer's, with the error that a damaged store gives.
            Some((_, slot)) => (Table::Payer, slot.to_vec()),
            None => (Table::Payer, Vec::new()),
        };
        rows.rows.push((table, key, value));
    }
    Ok(rows)
}

/// Writes of the node and of the shell, made durable in one transaction.
#[derive(Default)]
pub struct Batch {
    writes: Vec<Owned>,
}

enum Owned {
    Put(Place, Vec<u8>, Vec<u8>),
    Delete(Place, Vec<u8>),
    Journal(Vec<u8>),
    ClearRestored,
}

impl Batch {
    /// Adds a write of the node.
    pub fn push(&mut self, write: Write) {
        self.writes.push(match write {
            Write::Put { table, key, value } => {
                let (place, key) = place(table, &key);
                Owned::Put(place, key, value)
            }
            Write::Delete { table, key } => {
                let (place, key) = place(table, &key);
                Owned::Delete(place, key)
            }
            Write::Journal { entry } => Owned::Journal(entry),
        });
    }

    /// Adds a row of the shell's own.
    pub fn put(&mut self, place: Place, key: &[u8], value: Vec<u8>) {
        self.writes.push(Owned::Put(place, key.to_vec(), value));
    }

    /// Notes that the restored store's channels are being settled.
    pub fn clear_restored(&mut self) {
        self.writes.push(Owned::ClearRestored);
    }

    /// Whether there is anything to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Makes all of it durable; empties the batch.
    pub fn commit(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.writes.is_empty() {
            return Ok(());
        }
        store.commit(&self.borrowed())?;
        self.writes.clear();
        Ok(())
    }

    /// Makes all of it durable and empties the journal with it.
    pub fn commit_folded(&mut self, store: &Store) -> Result<(), StoreError> {
        store.commit_folded(&self.borrowed())?;
        self.writes.clear();
        Ok(())
    }

    fn borrowed(&self) -> Vec<StoreWrite<'_>> {
        self.writes
            .iter()
            .map(|write| match write {
                Owned::Put(table, key, value) => StoreWrite::Put { table: *table, key, value },
                Owned::Delete(table, key) => StoreWrite::Delete { table: *table, key },
                Owned::Journal(entry) => StoreWrite::Journal(entry),
                Owned::ClearRestored => StoreWrite::ClearRestored,
            })
            .collect()
    }
}
