//! Encrypted backups: a consistent snapshot that only the seed's owner can read or change.
//!
//! File: magic (16 bytes), format (1), salt (32), then chunks: length of the sealed chunk (4, little endian) and
//! the chunk. A chunk is ChaCha20-Poly1305 over at most 64 KiB under the tagged hash `turnpike/backup/v1` of key and
//! salt; its nonce is its number (8, little endian) and 1 if it is the last (4); the header is authenticated with it.
//! So chunks can be neither changed, moved, dropped nor cut off. The plain bytes are records and end in their SHA-256.

use super::database::{self, Origin, Store};
use super::journal::Journal;
use super::{StoreError, Table, Write};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAGIC: &[u8; 16] = b"turnpike backup\n";
const BACKUP_FORMAT: u8 = 1;
const HEADER: usize = 16 + 1 + 32;
/// Plain bytes in one chunk.
const CHUNK: usize = 64 * 1024;
const SEAL: usize = 16;
/// Longest key or value in a record; anything longer is no record of ours.
const MAX_FIELD: usize = 64 * 1024 * 1024;

const RECORD_END: u8 = 0;
const RECORD_GENERATION: u8 = 1;
const RECORD_ROW: u8 = 2;
const RECORD_JOURNAL: u8 = 3;

/// What a backup holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
        let io = |error| StoreError::backup(path, error);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let write = || -> std::io::Result<Backup> {
            let mut salt = [0; 32];
            getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
            let mut out = Sealer::begin(BufWriter::new(file), key, salt)?;
            let mut found = Backup {
                rows: 0,
                entries: 0,
                hash: [0; 32],
            };
            out.byte(RECORD_GENERATION)?;
            out.bytes(&self.generation().to_le_bytes())?;
            for (table, row) in &snapshot.rows {
                out.byte(RECORD_ROW)?;
                out.field(table.name().as_bytes())?;
                out.field(&row.key)?;
                out.field(&row.value)?;
                found.rows += 1;
            }
            let mut journal = Journal::default();
            for blob in snapshot.journal {
                out.byte(RECORD_JOURNAL)?;
                out.field(&blob)?;
                journal
                    .push(blob)
                    .ok_or_else(|| std::io::Error::other("the journal is damaged"))?;
            }
            found.entries = journal.entries().count() as u64;
            out.byte(RECORD_END)?;
            found.hash = out.hash.clone_hash();
            out.bytes(&found.hash)?;
            let file = out.finish()?.into_inner().map_err(|e| e.into_error())?;
            file.sync_all()?;
            Ok(found)
        };
        write().map_err(|error| {
            drop(std::fs::remove_file(path));
            io(error)
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
    let mut records = Opener::begin(BufReader::new(file), path, key)?;
    let mut generation = 0;
    let mut rows = Vec::new();
    let mut journal = Journal::default();
    loop {
        match records.array::<1>()?[0] {
            RECORD_END => break,
            RECORD_GENERATION => generation = u64::from_le_bytes(records.array()?),
            RECORD_ROW => {
                let name = records.field()?;
                let table = Table::ALL
                    .into_iter()
                    .find(|table| table.name().as_bytes() == name)
                    .ok_or_else(|| records.damaged("it has a table that this version does not know"))?;
                rows.push((table, records.field()?, records.field()?));
            }
            RECORD_JOURNAL => {
                let blob = records.field()?;
                let pushed = journal.push(blob);
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

    let mut writes: Vec<_> = rows
        .iter()
        .map(|(table, key, value)| Write::Put {
            table: *table,
            key,
            value,
        })
        .collect();
    writes.extend(journal.entries().map(Write::Journal));
    let found = Backup {
        rows: rows.len() as u64,
        entries: (writes.len() - rows.len()) as u64,
        hash,
    };
    database::build(store, |backend| {
        Store::create_on(backend, store, Origin::Restored, generation)?.commit(&writes)
    })?;
    Ok(found)
}

/// Running SHA-256 of the records.
struct RecordHash(sha256::HashEngine);

impl RecordHash {
    fn clone_hash(&self) -> [u8; 32] {
        sha256::Hash::from_engine(self.0.clone()).to_byte_array()
    }
}

struct Sealer<W> {
    out: W,
    cipher: ChaCha20Poly1305,
    header: [u8; HEADER],
    plain: Vec<u8>,
    number: u64,
    hash: RecordHash,
}

impl<W: std::io::Write> Sealer<W> {
    fn begin(mut out: W, key: &[u8; 32], salt: [u8; 32]) -> std::io::Result<Self> {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(MAGIC);
        header[16] = BACKUP_FORMAT;
        header[17..].copy_from_slice(&salt);
        out.write_all(&header)?;
        Ok(Sealer {
            out,
            cipher: cipher(key, &salt),
            header,
            plain: Vec::with_capacity(CHUNK),
            number: 0,
            hash: RecordHash(sha256::HashEngine::default()),
        })
    }

    fn byte(&mut self, byte: u8) -> std::io::Result<()> {
        self.bytes(&[byte])
    }

    fn field(&mut self, field: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(field.len()).map_err(std::io::Error::other)?;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(field)
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        self.hash.0.input(bytes);
        while !bytes.is_empty() {
            // A full chunk goes out only when more follows, so that the last one is never empty.
            if self.plain.len() == CHUNK {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn seal(&mut self, last: bool) -> std::io::Result<()> {
        let payload = Payload {
            msg: &self.plain,
            aad: &self.header,
        };
        let sealed = self
            .cipher
            .encrypt(&nonce(self.number, last), payload)
            .map_err(|_| std::io::Error::other("a chunk could not be sealed"))?;
        self.out.write_all(&(sealed.len() as u32).to_le_bytes())?;
        self.out.write_all(&sealed)?;
        self.number += 1;
        self.plain.clear();
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }
}

struct Opener<'a, R> {
    input: R,
    path: &'a Path,
    cipher: ChaCha20Poly1305,
    header: [u8; HEADER],
    plain: Vec<u8>,
    at: usize,
    number: u64,
    last: bool,
    hash: RecordHash,
}

impl<'a, R: Read> Opener<'a, R> {
    fn begin(mut input: R, path: &'a Path, key: &[u8; 32]) -> Result<Self, StoreError> {
        let damaged = |reason| StoreError::BackupDamaged {
            path: path.to_owned(),
            reason,
        };
        let mut header = [0; HEADER];
        input
            .read_exact(&mut header)
            .map_err(|_| damaged("it is too short"))?;
        if &header[..16] != MAGIC {
            return Err(damaged("it is no turnpike backup"));
        }
        if header[16] != BACKUP_FORMAT {
            return Err(StoreError::BackupNewer {
                path: path.to_owned(),
                found: header[16],
                known: BACKUP_FORMAT,
            });
        }
        let mut salt = [0; 32];
        salt.copy_from_slice(&header[17..]);
        Ok(Opener {
            input,
            path,
            cipher: cipher(key, &salt),
            header,
            plain: Vec::new(),
            at: 0,
            number: 0,
            last: false,
            hash: RecordHash(sha256::HashEngine::default()),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    fn field(&mut self) -> Result<Vec<u8>, StoreError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > MAX_FIELD {
            return Err(self.damaged("a record is too long"));
        }
        let mut field = vec![0; length];
        self.fill(&mut field)?;
        Ok(field)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), StoreError> {
        let mut done = 0;
        while done < out.len() {
            if self.at == self.plain.len() {
                self.open()?;
            }
            let take = (out.len() - done).min(self.plain.len() - self.at);
            out[done..done + take].copy_from_slice(&self.plain[self.at..self.at + take]);
            self.at += take;
            done += take;
        }
        self.hash.0.input(out);
        Ok(())
    }

    fn open(&mut self) -> Result<(), StoreError> {
        if self.last {
            return Err(self.damaged("it ends within a record"));
        }
        let mut length = [0; 4];
        self.read(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length <= SEAL || length > CHUNK + SEAL {
            return Err(self.damaged("a chunk has an impossible length"));
        }
        let mut sealed = vec![0; length];
        self.read(&mut sealed)?;
        for last in [false, true] {
            let payload = Payload {
                msg: &sealed,
                aad: &self.header,
            };
            if let Ok(plain) = self.cipher.decrypt(&nonce(self.number, last), payload) {
                self.plain = plain;
                self.at = 0;
                self.last = last;
                self.number += 1;
                return Ok(());
            }
        }
        Err(StoreError::BackupRefused {
            path: self.path.to_owned(),
        })
    }

    fn expect_end(&mut self) -> Result<(), StoreError> {
        let more = self
            .input
            .read(&mut [0])
            .map_err(|error| StoreError::backup(self.path, error))?;
        if !self.last || self.at != self.plain.len() || more != 0 {
            return Err(self.damaged("bytes follow its end"));
        }
        Ok(())
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), StoreError> {
        self.input
            .read_exact(out)
            .map_err(|_| self.damaged("it was cut off"))
    }

    fn damaged(&self, reason: &'static str) -> StoreError {
        StoreError::BackupDamaged {
            path: self.path.to_owned(),
            reason,
        }
    }
}

fn cipher(key: &[u8; 32], salt: &[u8; 32]) -> ChaCha20Poly1305 {
    let tag = sha256::Hash::hash(b"turnpike/backup/v1").to_byte_array();
    let mut engine = sha256::HashEngine::default();
    for part in [&tag, &tag, key, salt] {
        engine.input(part);
    }
    let derived = sha256::Hash::from_engine(engine).to_byte_array();
    ChaCha20Poly1305::new(Key::from_slice(&derived))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8] = u8::from(last);
    Nonce::from(nonce)
}
