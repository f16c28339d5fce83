//! The open store.

use super::journal::{self, Journal};
use super::moving::CardId;
use super::{FOLD_AT, FORMAT, MAX_JOURNAL, Row, StoreError, Table, Write};
use redb::backends::FileBackend;
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory for cached pages, bytes: the busiest channels' rows stay in it, and an idle relay stays small.
const CACHE: usize = 4 * 1024 * 1024;

pub(super) const STORE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("store");
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");

const FORMAT_KEY: &str = "format";
const GENERATION_KEY: &str = "generation";
pub(super) const RESTORED_KEY: &str = "restored";
pub(super) const CARD_KEY: &str = "card";

/// Where a new store comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A new seed: nothing was ever promised under it.
    New,
    /// A seed or a backup that was in use before (money.md rule 16).
    Restored,
    /// A store that was stopped for it elsewhere: this is the only one that goes on.
    Moved,
}

/// The open store. All methods block on the disk: call them from a thread that may.
///
/// One process has it open at a time. After [`StoreError::Io`] from a commit, drop it and open it again: only then
/// is it known whether that commit happened.
#[derive(Debug)]
pub struct Store {
    db: redb::Database,
    path: PathBuf,
    generation: u64,
    end: Mutex<JournalEnd>,
}

#[derive(Debug)]
struct JournalEnd {
    next: u64,
    bytes: u64,
}

/// All rows, and the journal's values as they stand in the file.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) rows: Vec<(Table, Row)>,
    pub(super) journal: Vec<Vec<u8>>,
}

impl Store {
    /// Makes a new, empty store with file mode 0600. A power cut leaves a whole one or none.
    pub fn create(path: &Path, origin: Origin) -> Result<(), StoreError> {
        build(path, |backend| {
            Store::create_on(backend, path, origin, 0)?;
            Ok(())
        })
    }

    /// Opens the store, checks every page's checksum, and raises its generation durably.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_on(open_file(path)?, path)
    }

    /// [`Store::open`] also of a store that goes on elsewhere: to say so, or to write the file for that again. Nothing
    /// else may be done with one.
    pub fn open_moved(path: &Path) -> Result<Store, StoreError> {
        Store::open_whether(open_file(path)?, path)
    }

    /// Every row of a table of a store that nobody has open, by rising key; the file stays as it is, its generation too.
    /// `None` if it was not closed well: only opening it repairs it.
    pub fn peek(path: &Path, table: Table) -> Result<Option<Vec<Row>>, StoreError> {
        // As in `open_on`: some damage is answered with a panic.
        let rows = || match redb::ReadOnlyDatabase::open(path) {
            Ok(db) => (|| Ok(Some(rows(&db.begin_read()?, table, &[], usize::MAX)?)))()
                .map_err(|error: redb::Error| StoreError::database(path, error)),
            Err(redb::DatabaseError::RepairAborted) => Ok(None),
            Err(error) => Err(StoreError::database(path, error)),
        };
        catch_unwind(AssertUnwindSafe(rows))
            .unwrap_or_else(|_| Err(StoreError::unreadable(path, "its pages make no sense")))
    }

    /// Opens a store on any storage: the place where tests cut the power. `path` is for messages only.
    pub fn open_on(backend: impl StorageBackend, path: &Path) -> Result<Store, StoreError> {
        let store = Store::open_whether(backend, path)?;
        match store.moved()? {
            Some(moved) => Err(StoreError::moved(path, &moved)),
            None => Ok(store),
        }
    }

    /// Whether it has moved or not.
    pub(super) fn open_whether(backend: impl StorageBackend, path: &Path) -> Result<Store, StoreError> {
        // redb makes a database out of nothing; a store whose bytes are gone is damaged, not new.
        if backend.len().map_err(|error| StoreError::io(path, error))? == 0 {
            return Err(StoreError::unreadable(path, "the file is empty"));
        }
        // redb answers most damage with an error, but some of it with a panic.
        let db = catch_unwind(AssertUnwindSafe(|| inspect(backend, path)))
            .unwrap_or_else(|_| Err(StoreError::unreadable(path, "its page allocator makes no sense")))?;
        let mut store = Store {
            db,
            path: path.to_owned(),
            generation: 0,
            end: Mutex::new(JournalEnd { next: 0, bytes: 0 }),
        };
        store.generation = store.raise_generation()?;
        store.name_card()?;
        store.end = Mutex::new(store.read_end()?);
        Ok(store)
    }

    /// Makes an empty store on any storage that is empty. `path` is for messages only.
    pub fn create_on(
        backend: impl StorageBackend,
        path: &Path,
        origin: Origin,
        generation: u64,
    ) -> Result<Store, StoreError> {
        if backend.len().map_err(|error| StoreError::io(path, error))? != 0 {
            return Err(StoreError::Exists {
                path: path.to_owned(),
            });
        }
        let card = CardId::random().map_err(|error| StoreError::io(path, error))?;
        let store = Store {
            db: database(backend, path)?,
            path: path.to_owned(),
            generation,
            end: Mutex::new(JournalEnd { next: 0, bytes: 0 }),
        };
        store.transact(|txn| {
            let mut meta = txn.open_table(STORE)?;
            meta.insert(FORMAT_KEY, FORMAT.to_le_bytes().as_slice())?;
            meta.insert(GENERATION_KEY, generation.to_le_bytes().as_slice())?;
            meta.insert(CARD_KEY, card.as_bytes())?;
            if origin == Origin::Restored {
                meta.insert(RESTORED_KEY, [1].as_slice())?;
            }
            txn.open_table(JOURNAL)?;
            for table in Table::ALL {
                txn.open_table(definition(table))?;
            }
            Ok(())
        })?;
        Ok(store)
    }

    /// Rises by chance, 1 to 2^32, each time the store is opened: of two copies of one card, that with the lower number
    /// learns of it from peers of both.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The store came from a backup or from seed words, and [`Write::ClearRestored`] was not committed since.
    pub fn restored(&self) -> Result<bool, StoreError> {
        self.look(|txn| Ok(txn.open_table(STORE)?.get(RESTORED_KEY)?.is_some()))
    }

    /// Makes all writes durable in one transaction. When it returns `Ok`, a power cut takes nothing of it; until
    /// then a cut leaves all of it or nothing.
    pub fn commit(&self, writes: &[Write<'_>]) -> Result<(), StoreError> {
        let blob = journal::pack(writes)?;
        let mut end = self.end();
        let bytes = end.bytes + blob.len() as u64;
        if !blob.is_empty() && bytes > MAX_JOURNAL {
            return Err(StoreError::JournalFull);
        }
        let next = end.next;
        self.transact(|txn| {
            apply(txn, writes)?;
            if !blob.is_empty() {
                txn.open_table(JOURNAL)?.insert(next, blob.as_slice())?;
            }
            Ok(())
        })?;
        if !blob.is_empty() {
            *end = JournalEnd {
                next: next + 1,
                bytes,
            };
        }
        Ok(())
    }

    /// Writes what the journal comes to and clears the journal, in one transaction. Journal entries among
    /// `writes` begin the new journal.
    pub fn commit_folded(&self, writes: &[Write<'_>]) -> Result<(), StoreError> {
        let blob = journal::pack(writes)?;
        let mut end = self.end();
        let mut next = end.next;
        self.transact(|txn| {
            apply(txn, writes)?;
            let mut journal = txn.open_table(JOURNAL)?;
            journal.retain(|_, _| false)?;
            if !blob.is_empty() {
                journal.insert(next, blob.as_slice())?;
            }
            Ok(())
        })?;
        next += u64::from(!blob.is_empty());
        *end = JournalEnd {
            next,
            bytes: blob.len() as u64,
        };
        Ok(())
    }

    /// Every row of a table, by rising key.
    pub fn load(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        self.load_from(table, &[], usize::MAX)
    }

    /// At most `limit` rows of a table from key `first` on, by rising key: for tables that grow for years.
    pub fn load_from(&self, table: Table, first: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.look(|txn| rows(txn, table, first, limit))
    }

    /// One row's value.
    pub fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(|txn| match txn.open_table(definition(table)) {
            Ok(opened) => Ok(opened.get(key)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    /// The journal since the last fold.
    pub fn journal(&self) -> Result<Journal, StoreError> {
        let blobs = self.look(|txn| {
            let mut blobs = Vec::new();
            for row in txn.open_table(JOURNAL)?.iter()? {
                blobs.push(row?.1.value().to_vec());
            }
            Ok(blobs)
        })?;
        let mut journal = Journal::default();
        for blob in blobs {
            journal
                .push(blob)
                .ok_or_else(|| StoreError::unreadable(&self.path, "the journal's lengths do not add up"))?;
        }
        Ok(journal)
    }

    /// Folding the journal pays now.
    pub fn should_fold(&self) -> bool {
        self.end().bytes >= FOLD_AT
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything, as of one moment.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.look(|txn| {
            let mut snapshot = Snapshot::default();
            for table in Table::ALL {
                let opened = match txn.open_table(definition(table)) {
                    Ok(opened) => opened,
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    Err(error) => return Err(error.into()),
                };
                for row in opened.iter()? {
                    let (key, value) = row?;
                    let row = Row {
                        key: key.value().to_vec(),
                        value: value.value().to_vec(),
                    };
                    snapshot.rows.push((table, row));
                }
            }
            for row in txn.open_table(JOURNAL)?.iter()? {
                snapshot.journal.push(row?.1.value().to_vec());
            }
            Ok(snapshot)
        })
    }

    /// What the store notes about itself.
    pub(super) fn value(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(|txn| {
            Ok(txn
                .open_table(STORE)?
                .get(key)?
                .map(|value| value.value().to_vec()))
        })
    }

    fn raise_generation(&self) -> Result<u64, StoreError> {
        let generation = self
            .value(GENERATION_KEY)?
            .and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
            .ok_or_else(|| StoreError::unreadable(&self.path, "it has no generation"))?;
        // By chance: two copies of one card that were started equally often show two numbers all the same.
        let mut step = [0; 4];
        getrandom::fill(&mut step).map_err(|error| StoreError::io(&self.path, io::Error::other(error)))?;
        let generation = generation.saturating_add(1 + u64::from(u32::from_le_bytes(step)));
        self.transact(|txn| {
            let bytes = generation.to_le_bytes();
            txn.open_table(STORE)?.insert(GENERATION_KEY, bytes.as_slice())?;
            Ok(())
        })?;
        Ok(generation)
    }

    fn read_end(&self) -> Result<JournalEnd, StoreError> {
        self.look(|txn| {
            let journal = txn.open_table(JOURNAL)?;
            let mut end = JournalEnd { next: 0, bytes: 0 };
            for row in journal.iter()? {
                let (key, value) = row?;
                end.next = key.value() + 1;
                end.bytes += value.value().len() as u64;
            }
            Ok(end)
        })
    }

    fn end(&self) -> MutexGuard<'_, JournalEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One durable transaction; nothing of it stays when `work` fails.
    pub(super) fn transact(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let txn = self.db.begin_write()?;
            work(&txn)?;
            txn.commit()?;
            Ok(())
        };
        run().map_err(|error| StoreError::database(&self.path, error))
    }

    fn look<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let run = || work(&self.db.begin_read()?);
        run().map_err(|error| StoreError::database(&self.path, error))
    }
}

/// Makes a store file beside `path`, lets `fill` write it, and only then gives it its name.
pub(super) fn build(
    path: &Path,
    fill: impl FnOnce(FileBackend) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok() {
        return Err(StoreError::Exists {
            path: path.to_owned(),
        });
    }
    let unfinished = path.with_extension("unfinished");
    let work = || {
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(path, error)),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|error| StoreError::io(path, error))?;
        fill(file_backend(file, path)?)?;
        // redb has synced the file; the name needs the folder's sync.
        fs::rename(&unfinished, path).map_err(|error| StoreError::io(path, error))?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| StoreError::io(folder, error))
    };
    work().inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

/// A store's file, for its owner alone.
fn open_file(path: &Path) -> Result<FileBackend, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StoreError::io(path, error))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(|error| StoreError::io(path, error))?;
    file_backend(file, path)
}

fn file_backend(file: File, path: &Path) -> Result<FileBackend, StoreError> {
    FileBackend::new(file).map_err(|error| StoreError::database(path, error))
}

fn database(backend: impl StorageBackend, path: &Path) -> Result<redb::Database, StoreError> {
    redb::Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(backend)
        .map_err(|error| StoreError::database(path, error))
}

/// Opens the file, and refuses it unless it is a store of a known format whose every page is what was written.
fn inspect(backend: impl StorageBackend, path: &Path) -> Result<redb::Database, StoreError> {
    let mut db = database(backend, path)?;
    let format = read_format(&db, path)?;
    if format > FORMAT {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    if !db
        .check_integrity()
        .map_err(|error| StoreError::database(path, error))?
    {
        tracing::warn!(
            "{}: the newest commit was not whole and was rolled back to the one before",
            path.display()
        );
    }
    Ok(db)
}

/// A database on a storage whose bytes nobody wants to keep: whatever redb repairs, it repairs there.
pub(super) fn unopened(backend: impl StorageBackend, path: &Path) -> Result<redb::Database, StoreError> {
    if backend.len().map_err(|error| StoreError::io(path, error))? == 0 {
        return Err(StoreError::unreadable(path, "the file is empty"));
    }
    catch_unwind(AssertUnwindSafe(|| database(backend, path)))
        .unwrap_or_else(|_| Err(StoreError::unreadable(path, "its page allocator makes no sense")))
}

pub(super) fn read_format(db: &redb::Database, path: &Path) -> Result<u32, StoreError> {
    let read = || -> Result<Option<u32>, redb::Error> {
        let bytes = match db.begin_read()?.open_table(STORE) {
            Ok(meta) => meta.get(FORMAT_KEY)?.map(|v| v.value().to_vec()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(bytes.and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?))))
    };
    read()
        .map_err(|error| StoreError::database(path, error))?
        .ok_or_else(|| StoreError::unreadable(path, "it is not a turnpike store"))
}

fn rows(
    txn: &redb::ReadTransaction,
    table: Table,
    first: &[u8],
    limit: usize,
) -> Result<Vec<Row>, redb::Error> {
    let opened = match txn.open_table(definition(table)) {
        Ok(opened) => opened,
        // A table that a newer version added and this file does not have yet.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    opened
        .range(first..)?
        .take(limit)
        .map(|row| {
            let (key, value) = row?;
            Ok(Row {
                key: key.value().to_vec(),
                value: value.value().to_vec(),
            })
        })
        .collect()
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn apply(txn: &redb::WriteTransaction, writes: &[Write<'_>]) -> Result<(), redb::Error> {
    // Each table is opened once, however many rows of it change.
    for table in Table::ALL {
        let mut opened = None;
        for write in writes {
            let here = match *write {
                Write::Put { table, .. } | Write::Delete { table, .. } | Write::DeleteAll { table, .. } => {
                    Some(table)
                }
                Write::Journal(_) | Write::ClearRestored => None,
            };
            if here != Some(table) {
                continue;
            }
            let rows = match &mut opened {
                Some(rows) => rows,
                None => opened.insert(txn.open_table(definition(table))?),
            };
            match *write {
                Write::Put { key, value, .. } => drop(rows.insert(key, value)?),
                Write::Delete { key, .. } => drop(rows.remove(key)?),
                Write::DeleteAll { prefix, .. } => {
                    let end = after_all(prefix);
                    match end.as_deref() {
                        Some(end) => rows.retain_in(prefix..end, |_, _| false)?,
                        None => rows.retain_in(prefix.., |_, _| false)?,
                    }
                }
                Write::Journal(_) | Write::ClearRestored => {}
            }
        }
    }
    if writes.contains(&Write::ClearRestored) {
        txn.open_table(STORE)?.remove(RESTORED_KEY)?;
    }
    Ok(())
}

/// The first key after all that begin with `prefix`; `None` where there is none.
fn after_all(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}
