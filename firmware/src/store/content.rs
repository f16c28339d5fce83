//! What a store holds, as records: to a file and from it.

use super::backup::Backup;
use super::database::{Origin, Snapshot, Store};
use super::journal::Journal;
use super::sealed::{Opener, Sealer};
use super::{Row, StoreError, Table, Write};
use redb::StorageBackend;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

const RECORD_END: u8 = 0;
const RECORD_GENERATION: u8 = 1;
const RECORD_ROW: u8 = 2;
const RECORD_JOURNAL: u8 = 3;
const RECORD_TRAVELLER: u8 = 4;

/// What goes along with a store that moves, and with no other.
#[derive(Default)]
pub(super) struct Traveller {
    /// The words of the seed.
    pub words: Zeroizing<String>,
    /// Somebody has seen them.
    pub shown: bool,
    /// The store was restored, and its channels are not yet marked as closing.
    pub restored: bool,
}

/// Everything that a file holds.
pub(super) struct Content {
    generation: u64,
    rows: Vec<(Table, Row)>,
    journal: Journal,
    pub traveller: Option<Traveller>,
    pub found: Backup,
}

impl Snapshot {
    /// Writes it as records, the hash last.
    pub(super) fn write<W: std::io::Write>(
        &self,
        generation: u64,
        traveller: Option<&Traveller>,
        out: &mut Sealer<W>,
    ) -> std::io::Result<Backup> {
        let mut found = Backup::default();
        out.byte(RECORD_GENERATION)?;
        out.bytes(&generation.to_le_bytes())?;
        if let Some(traveller) = traveller {
            out.byte(RECORD_TRAVELLER)?;
            out.bytes(&[u8::from(traveller.shown), u8::from(traveller.restored)])?;
            out.field(traveller.words.as_bytes())?;
        }
        for (table, row) in &self.rows {
            out.byte(RECORD_ROW)?;
            out.field(table.name().as_bytes())?;
            out.field(&row.key)?;
            out.field(&row.value)?;
            found.rows += 1;
        }
        let mut journal = Journal::default();
        for blob in &self.journal {
            out.byte(RECORD_JOURNAL)?;
            out.field(blob)?;
            journal
                .push(blob.clone())
                .ok_or_else(|| std::io::Error::other("the journal is damaged"))?;
        }
        found.entries = journal.entries().count() as u64;
        out.byte(RECORD_END)?;
        found.hash = out.hash.clone_hash();
        out.bytes(&found.hash)?;
        Ok(found)
    }
}

impl Content {
    /// All records up to the end of the file, if their hash is right.
    pub(super) fn read<R: Read>(records: &mut Opener<'_, R>) -> Result<Content, StoreError> {
        let mut content = Content {
            generation: 0,
            rows: Vec::new(),
            journal: Journal::default(),
            traveller: None,
            found: Backup::default(),
        };
        loop {
            match records.array::<1>()?[0] {
                RECORD_END => break,
                RECORD_GENERATION => content.generation = u64::from_le_bytes(records.array()?),
                RECORD_TRAVELLER => {
                    let [shown, restored] = records.array()?;
                    let words = Zeroizing::new(records.field()?);
                    let words = std::str::from_utf8(&words).map(|words| Zeroizing::new(words.to_owned()));
                    content.traveller = Some(Traveller {
                        words: words.map_err(|_| records.damaged("its seed is no text"))?,
                        shown: shown != 0,
                        restored: restored != 0,
                    });
                }
                RECORD_ROW => {
                    let name = records.field()?;
                    let table = Table::ALL
                        .into_iter()
                        .find(|table| table.name().as_bytes() == name)
                        .ok_or_else(|| records.damaged("it has a table that this version does not know"))?;
                    let (key, value) = (records.field()?, records.field()?);
                    content.rows.push((table, Row { key, value }));
                }
                RECORD_JOURNAL => {
                    let blob = records.field()?;
                    let pushed = content.journal.push(blob);
                    pushed.ok_or_else(|| records.damaged("its journal's lengths do not add up"))?;
                }
                _ => return Err(records.damaged("it has a record that this version does not know")),
            }
        }
        let hash = records.hash.clone_hash();
        if records.array::<32>()? != hash {
            return Err(records.damaged("its hash does not match"));
        }
        records.expect_end()?;
        content.found = Backup {
            rows: content.rows.len() as u64,
            entries: content.journal.entries().count() as u64,
            hash,
        };
        Ok(content)
    }

    /// Values of a table, by rising key.
    pub(super) fn values(&self, table: Table) -> Vec<Vec<u8>> {
        let rows = self.rows.iter().filter(|(of, _)| *of == table);
        rows.map(|(_, row)| row.value.clone()).collect()
    }

    /// A store of it on a storage that is empty. `path` is for messages only.
    pub(super) fn store_on(
        &self,
        backend: impl StorageBackend,
        path: &Path,
        origin: Origin,
    ) -> Result<(), StoreError> {
        let rows = self.rows.iter().map(|(table, row)| Write::Put {
            table: *table,
            key: &row.key,
            value: &row.value,
        });
        let mut writes: Vec<_> = rows.collect();
        writes.extend(self.journal.entries().map(Write::Journal));
        Store::create_on(backend, path, origin, self.generation)?.commit(&writes)
    }
}
