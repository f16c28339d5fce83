//! Where the node's records live in the store.

use crate::store::{Store, StoreError, Table as Place, Write as StoreWrite};
use turnpike_protocol::node::Rows;
use turnpike_protocol::node::record::{self, ReceiptRecord, Table, Write};

/// The store's table for a kind of record.
const fn place(table: Table) -> Place {
    match table {
        Table::Meta => Place::Meta,
        Table::Payee => Place::Payee,
        Table::Payer => Place::Payer,
        Table::Client => Place::Client,
        Table::Peer => Place::Peer,
        Table::Receipt => Place::Receipt,
        Table::Buyer => Place::Buyer,
        Table::History => Place::History,
    }
}

/// Receipts read at once while looking for those that were not answered.
const PAGE: usize = 256;

/// Reads everything that the node loads. Receipts that both sides signed stay on disk: they are only ever listed.
pub fn load(store: &Store) -> Result<Rows, StoreError> {
    let mut rows = Vec::new();
    for table in Table::ALL.into_iter().filter(|t| *t != Table::Receipt) {
        rows.extend(
            store
                .load(place(table))?
                .into_iter()
                .map(|row| (table, row.key, row.value)),
        );
    }
    let mut from = Vec::new();
    loop {
        let page = store.load_from(Place::Receipt, &from, PAGE)?;
        let more = page.len() == PAGE;
        if let Some(last) = page.last() {
            from = [last.key.as_slice(), &[0]].concat();
        }
        // One that cannot be read is passed on: the node says so.
        let open = |value: &[u8]| {
            record::read::<ReceiptRecord>(Table::Receipt, value).map_or(true, |r| r.client.is_none())
        };
        rows.extend(
            page.into_iter()
                .filter(|row| open(&row.value))
                .map(|row| (Table::Receipt, row.key, row.value)),
        );
        if !more {
            break;
        }
    }
    Ok(Rows {
        rows,
        journal: store.journal()?.entries().map(<[u8]>::to_vec).collect(),
        generation: store.generation(),
        restored: store.restored()?,
    })
}

/// Writes of the node and of the shell, made durable in one transaction.
#[derive(Default)]
pub struct Batch {
    writes: Vec<Owned>,
}

enum Owned {
    Put(Place, Vec<u8>, Vec<u8>),
    Delete(Place, Vec<u8>),
    DeleteAll(Place, Vec<u8>),
    Journal(Vec<u8>),
    ClearRestored,
}

impl Batch {
    /// Adds a write of the node.
    pub fn push(&mut self, write: Write) {
        self.writes.push(match write {
            Write::Put { table, key, value } => Owned::Put(place(table), key, value),
            Write::Delete { table, key } => Owned::Delete(place(table), key),
            Write::DeleteAll { table, prefix } => Owned::DeleteAll(place(table), prefix),
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
                Owned::Put(table, key, value) => StoreWrite::Put {
                    table: *table,
                    key,
                    value,
                },
                Owned::Delete(table, key) => StoreWrite::Delete { table: *table, key },
                Owned::DeleteAll(table, prefix) => StoreWrite::DeleteAll {
                    table: *table,
                    prefix,
                },
                Owned::Journal(entry) => StoreWrite::Journal(entry),
                Owned::ClearRestored => StoreWrite::ClearRestored,
            })
            .collect()
    }
}
