//! Encrypted backups: a consistent snapshot that only the seed's owner can read or change.
//!
//! File: magic (16 bytes), format (1), salt (32), then sealed chunks (`sealed.rs`) under the key
//! `turnpike/backup/v1`. The plain bytes are records and end in their SHA-256.

use super::StoreError;
use super::content::Content;
use super::database::{self, Origin, Store};
use super::sealed::{Opener, SALT, Sealer, cipher};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAGIC: &[u8; 16] = b"turnpike backup\n";
const BACKUP_FORMAT: u8 = 1;
const HEADER: usize = 16 + 1 + SALT;
const TAG: &[u8] = b"turnpike/backup/v1";

/// What a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backup {
    /// Rows of all tables.
    pub rows: u64,
    /// Journal entries.
    pub entries: u64,
    /// SHA-256 over the records: the same snapshot has the same hash, whatever its salt.
    pub hash: [u8; 32],
}

impl Store {
    /// Writes a backup to a new file with mode 0600, sealed under `key`. Commits may go on meanwhile.
    pub fn export(&self, path: &Path, key: &[u8; 32]) -> Result<Backup, StoreError> {
        let snapshot = self.snapshot()?;
        write_new(path, |file| {
            let mut salt = [0; SALT];
            getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
            let mut header = Vec::with_capacity(HEADER);
            header.extend_from_slice(MAGIC);
            header.push(BACKUP_FORMAT);
            header.extend_from_slice(&salt);
            let mut out = Sealer::begin(BufWriter::new(file), header, cipher(TAG, key, &salt))?;
            let found = snapshot.write(self.generation(), None, &mut out)?;
            out.finish()?.flush()?;
            Ok(found)
        })
    }
}

/// Makes a new store at `store` out of the backup at `path`. The new store says [`Store::restored`]. An existing
/// store is never touched; when anything is wrong with the backup, no store is made.
pub fn import(path: &Path, key: &[u8; 32], store: &Path) -> Result<Backup, StoreError> {
    if store.symlink_metadata().is_ok() {
        return Err(StoreError::Exists {
            path: store.to_owned(),
        });
    }
    let file = File::open(path).map_err(|error| StoreError::backup(path, error))?;
    let mut file = BufReader::new(file);
    let header = read_header(&mut file, path, MAGIC, BACKUP_FORMAT, HEADER)?;
    let salt = header.last_chunk::<SALT>().copied().unwrap_or_default();
    let mut records = Opener::begin(file, path, header, cipher(TAG, key, &salt));
    let content = Content::read(&mut records)?;
    if content.traveller.is_some() {
        return Err(records.damaged("it holds a seed, which no backup does"));
    }
    database::build(store, |backend| {
        content.store_on(backend, store, Origin::Restored)
    })?;
    Ok(content.found)
}

/// A new file for its owner alone, durable with its name, or none.
pub(super) fn write_new<T>(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<T>,
) -> Result<T, StoreError> {
    let io = |error| StoreError::backup(path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let work = || {
        let found = write(&mut file)?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(found)
    };
    work().map_err(|error| {
        drop(std::fs::remove_file(path));
        io(error)
    })
}

/// The header of a file of this kind.
pub(super) fn read_header(
    input: &mut impl Read,
    path: &Path,
    magic: &[u8; 16],
    known: u8,
    length: usize,
) -> Result<Vec<u8>, StoreError> {
    let damaged = |reason| StoreError::BackupDamaged {
        path: path.to_owned(),
        reason,
    };
    let mut header = vec![0; length];
    input
        .read_exact(&mut header)
        .map_err(|_| damaged("it is too short"))?;
    if !header.starts_with(magic) {
        return Err(damaged("it is no turnpike backup"));
    }
    match header.get(magic.len()) {
        Some(found) if *found != known => Err(StoreError::BackupNewer {
            path: path.to_owned(),
            found: *found,
            known,
        }),
        _ => Ok(header),
    }
}
