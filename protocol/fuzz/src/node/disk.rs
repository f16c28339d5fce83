//! What one node has on its disk.

use std::collections::BTreeMap;
use turnpike_protocol::base::{Msat, Slot};
use turnpike_protocol::money::channel::{PayeeRecord, PayerRecord};
use turnpike_protocol::node::Rows;
use turnpike_protocol::node::record::{JournalEntry, Table, Write, key_slot, read};
use turnpike_protocol::wire;

#[derive(Default)]
pub(super) struct Disk {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    journal: Vec<Vec<u8>>,
    opened: u64,
    /// The highest total that ever was on it, by the payee's row.
    pub paid: BTreeMap<Slot, Msat>,
    /// The newest total on it, by the payer's row.
    pub owed: BTreeMap<Slot, Msat>,
}

impl Disk {
    pub fn write(&mut self, write: Write) {
        match write {
            Write::Put { table, key, value } => {
                self.note(table, &key, &value);
                self.rows.insert((table, key), value);
            }
            Write::Delete { table, key } => drop(self.rows.remove(&(table, key))),
            Write::DeleteAll { table, prefix } => {
                self.rows
                    .retain(|(t, key), _| *t != table || !key.starts_with(&prefix));
            }
            Write::Journal { entry } => {
                let line: JournalEntry = wire::decode(&entry).expect("a line that was written can be read");
                self.hold(line.slot, line.total);
                self.journal.push(entry);
            }
        }
    }

    /// Rows that hold what the journal holds, and an empty journal, at once.
    pub fn fold(&mut self, writes: Vec<Write>) {
        writes.into_iter().for_each(|w| self.write(w));
        self.journal.clear();
    }

    pub fn open(&mut self) -> Rows {
        self.opened += 1;
        let rows = self
            .rows
            .iter()
            .map(|((table, key), value)| (*table, key.clone(), value.clone()));
        Rows {
            rows: rows.collect(),
            journal: self.journal.clone(),
            generation: self.opened,
            restored: false,
        }
    }

    fn note(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let Some(slot) = key_slot(key) else { return };
        match table {
            Table::Payee => {
                let record: PayeeRecord = read(table, value).expect("a row that was written can be read");
                self.hold(slot, record.total);
            }
            Table::Payer => {
                let record: PayerRecord = read(table, value).expect("a row that was written can be read");
                let before = self.owed.insert(slot, record.total);
                assert!(
                    before.is_none_or(|b| b <= record.total),
                    "a payer's total fell on its disk"
                );
            }
            _ => {}
        }
    }

    fn hold(&mut self, slot: Slot, total: Msat) {
        let most = self.paid.entry(slot).or_default();
        *most = total.max(*most);
    }
}
