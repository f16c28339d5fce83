//! Sealed chunks of records: what backups and moves are written in.
//!
//! A header in plain, then chunks: length of the sealed chunk (4, little endian) and the chunk. A chunk is
//! ChaCha20-Poly1305 over at most 64 KiB under a tagged hash of key and salt; its nonce is its number (8, little endian)
//! and 1 if it is the last (4); the header is authenticated with it. So chunks can be neither changed, moved, dropped nor
//! cut off.

use super::StoreError;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of a salt.
pub(super) const SALT: usize = 32;
/// Plain bytes in one chunk.
const CHUNK: usize = 64 * 1024;
const SEAL: usize = 16;
/// Longest key or value in a record; anything longer is no record of ours.
const MAX_FIELD: usize = 64 * 1024 * 1024;

/// Running SHA-256 of the records.
pub(super) struct RecordHash(sha256::HashEngine);

impl RecordHash {
    pub(super) fn clone_hash(&self) -> [u8; 32] {
        sha256::Hash::from_engine(self.0.clone()).to_byte_array()
    }
}

/// Writes records.
pub(super) struct Sealer<W> {
    out: W,
    cipher: ChaCha20Poly1305,
    header: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    number: u64,
    /// Of everything so far.
    pub(super) hash: RecordHash,
}

impl<W: std::io::Write> Sealer<W> {
    /// Writes the header. No two files have the same cipher: it comes from a salt.
    pub(super) fn begin(mut out: W, header: Vec<u8>, cipher: ChaCha20Poly1305) -> std::io::Result<Self> {
        out.write_all(&header)?;
        Ok(Sealer {
            out,
            cipher,
            header,
            plain: Zeroizing::new(Vec::with_capacity(CHUNK)),
            number: 0,
            hash: RecordHash(sha256::HashEngine::default()),
        })
    }

    pub(super) fn byte(&mut self, byte: u8) -> std::io::Result<()> {
        self.bytes(&[byte])
    }

    pub(super) fn field(&mut self, field: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(field.len()).map_err(std::io::Error::other)?;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(field)
    }

    pub(super) fn bytes(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
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

    pub(super) fn finish(mut self) -> std::io::Result<W> {
        self.seal(true)?;
        Ok(self.out)
    }
}

/// Reads records.
pub(super) struct Opener<'a, R> {
    input: R,
    path: &'a Path,
    cipher: ChaCha20Poly1305,
    header: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    number: u64,
    last: bool,
    /// Of everything so far.
    pub(super) hash: RecordHash,
}

impl<'a, R: Read> Opener<'a, R> {
    /// Goes on behind the header.
    pub(super) fn begin(input: R, path: &'a Path, header: Vec<u8>, cipher: ChaCha20Poly1305) -> Self {
        Opener {
            input,
            path,
            cipher,
            header,
            plain: Zeroizing::default(),
            at: 0,
            number: 0,
            last: false,
            hash: RecordHash(sha256::HashEngine::default()),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    pub(super) fn field(&mut self) -> Result<Vec<u8>, StoreError> {
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
                self.plain = Zeroizing::new(plain);
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

    pub(super) fn expect_end(&mut self) -> Result<(), StoreError> {
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

    pub(super) fn damaged(&self, reason: &'static str) -> StoreError {
        StoreError::BackupDamaged {
            path: self.path.to_owned(),
            reason,
        }
    }
}

/// The cipher of one file: under the tagged hash (BIP340) `tag` of key and salt.
pub(super) fn cipher(tag: &[u8], key: &[u8], salt: &[u8; SALT]) -> ChaCha20Poly1305 {
    let tag = sha256::Hash::hash(tag).to_byte_array();
    let mut engine = sha256::HashEngine::default();
    for part in [&tag[..], &tag, key, salt] {
        engine.input(part);
    }
    let derived = Zeroizing::new(sha256::Hash::from_engine(engine).to_byte_array());
    ChaCha20Poly1305::new(Key::from_slice(derived.as_ref()))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8] = u8::from(last);
    Nonce::from(nonce)
}
