//! The journal: one value per commit, holding all entries of that commit one after the other. One row instead
//! of one per entry, because redb's cost is per row: it makes 5,400 one-row commits a second, but 690 of 100 rows.
//!
//! Bytes of a value: per entry its length (two bytes, little endian) and the entry.

use super::{MAX_ENTRY, StoreError, Write};

/// The journal as it was read back: entries in the order of their commits.
#[derive(Debug, Default)]
pub struct Journal {
    blobs: Vec<Vec<u8>>,
}

impl Journal {
    /// Takes one value of the file. `None` if its lengths do not add up.
    pub(super) fn push(&mut self, blob: Vec<u8>) -> Option<()> {
        let mut rest = blob.as_slice();
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        self.blobs.push(blob);
        Some(())
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.blobs.iter().flat_map(|blob| {
            let mut rest = blob.as_slice();
            std::iter::from_fn(move || {
                let (entry, after) = split(rest)?;
                rest = after;
                Some(entry)
            })
        })
    }

    /// True when nothing was journalled since the last fold.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }
}

/// All journal entries of one commit as one value; empty when there are none.
pub(super) fn pack(writes: &[Write<'_>]) -> Result<Vec<u8>, StoreError> {
    let entries = || {
        writes.iter().filter_map(|write| match write {
            Write::Journal(entry) => Some(*entry),
            _ => None,
        })
    };
    let mut blob = Vec::with_capacity(entries().map(|entry| entry.len() + 2).sum());
    for entry in entries() {
        let length = u16::try_from(entry.len()).map_err(|_| StoreError::EntryTooLong(entry.len()))?;
        blob.extend_from_slice(&length.to_le_bytes());
        blob.extend_from_slice(entry);
    }
    Ok(blob)
}

fn split(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blob.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

const _: () = assert!(MAX_ENTRY == u16::MAX as usize);
