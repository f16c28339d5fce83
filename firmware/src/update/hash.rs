//! SHA-256 of files and of their chunks.

use super::CHUNK;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use std::fmt;
use std::io::{self, Read};

/// A SHA-256, shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(sha256::Hash::hash(bytes).to_byte_array())
    }

    /// From 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = *pair else { return None };
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A file that is hashed as a whole and by chunks in one reading.
#[derive(Default)]
pub struct Hashing {
    whole: sha256::HashEngine,
    chunks: Vec<Digest>,
    size: u64,
}

impl Hashing {
    /// Reads to the end. More than `limit` bytes are an error.
    pub fn read(mut from: impl Read, limit: u64) -> io::Result<Hashing> {
        let mut hashing = Hashing::default();
        loop {
            let mut chunk = Vec::new();
            from.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(hashing);
            }
            hashing.chunk(&chunk);
            if hashing.size > limit {
                return Err(io::Error::other(format!(
                    "it has more than {limit} bytes, the most that a slot takes"
                )));
            }
        }
    }

    /// The next chunk: [`CHUNK`] bytes, fewer only at the end. Gives its hash.
    pub fn chunk(&mut self, bytes: &[u8]) -> Digest {
        self.whole.input(bytes);
        self.size += bytes.len() as u64;
        let digest = Digest::of(bytes);
        self.chunks.push(digest);
        digest
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hash of everything, and of each chunk.
    pub fn finish(self) -> (Digest, Vec<Digest>) {
        let whole = sha256::Hash::from_engine(self.whole).to_byte_array();
        (Digest(whole), self.chunks)
    }
}
