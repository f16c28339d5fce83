//! The format of a store that somebody else may have open, or that nobody closed.

use super::database::{read_format, unopened};
use super::{FORMAT, StoreError};
use redb::StorageBackend;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes of a page of the overlay.
const PAGE: u64 = 4_096;
/// Most pages that a repair may write: 64 MiB, far more than the allocator's state of a store.
const MAX_PAGES: usize = 16_384;

/// The format of the store at `path`, or `None` where there is no store. The file is opened for reading only and
/// locked against writers while it is read; what a repair would write stays in memory. A store that a daemon has open
/// counts as [`FORMAT`]: a daemon writes in its own, and the one that runs belongs to this program.
pub fn format_of(path: &Path) -> Result<Option<u32>, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| StoreError::io(path, error))?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Some(FORMAT)),
        locked => locked.map_err(|error| StoreError::io(path, error.into()))?,
    }
    let length = file
        .metadata()
        .map_err(|error| StoreError::io(path, error))?
        .len();
    let overlay = Overlay {
        file,
        state: Mutex::new(State {
            length,
            base: length,
            pages: BTreeMap::new(),
        }),
    };
    let db = unopened(overlay, path)?;
    read_format(&db, path).map(Some)
}

/// A file whose changes stay in memory.
#[derive(Debug)]
struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    length: u64,
    /// So much of the file still counts: what was cut off does not come back by growing again.
    base: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn page(&self, state: &State, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = state.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize];
        let start = number * PAGE;
        let there = state.base.saturating_sub(start).min(PAGE) as usize;
        if let Some(part) = page.get_mut(..there) {
            self.file.read_exact_at(part, start)?;
        }
        Ok(page)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > state.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let page = self.page(&state, at / PAGE)?;
            let within = page.get((at % PAGE) as usize..).unwrap_or_default();
            let count = within.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(within.get(..count).unwrap_or_default());
            rest = later;
            at += count as u64;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.length = length;
        state.base = state.base.min(length);
        state.pages.retain(|number, _| number * PAGE < length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let number = at / PAGE;
            let mut page = self.page(&state, number)?;
            let within = (at % PAGE) as usize;
            let count = (PAGE as usize - within).min(rest.len());
            let (now, later) = rest.split_at(count);
            if let Some(part) = page.get_mut(within..within + count) {
                part.copy_from_slice(now);
            }
            state.pages.insert(number, page);
            if state.pages.len() > MAX_PAGES {
                return Err(io::Error::other(
                    "a repair of the store would not fit into memory",
                ));
            }
            rest = later;
            at += count as u64;
        }
        state.length = state.length.max(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Origin, Store, Table, Write};

    #[test]
    fn the_format_is_told_of_a_closed_an_open_and_a_torn_store_and_the_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        assert_eq!(format_of(&path).unwrap(), None);
        Store::create(&path, Origin::New).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(format_of(&path).unwrap(), Some(FORMAT));
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let store = Store::open(&path).unwrap();
        assert_eq!(format_of(&path).unwrap(), Some(FORMAT), "while it is open");
        let put = Write::Put {
            table: Table::Meta,
            key: b"k",
            value: &[1; 5_000],
        };
        store.commit(&[put]).unwrap();
        // What a power cut leaves: a copy of the open file.
        let torn = folder.path().join("torn.redb");
        std::fs::copy(&path, &torn).unwrap();
        let before = std::fs::read(&torn).unwrap();
        assert!(
            matches!(Store::peek(&torn, Table::Meta), Ok(None)),
            "it needs a repair"
        );
        assert_eq!(format_of(&torn).unwrap(), Some(FORMAT));
        assert_eq!(std::fs::read(&torn).unwrap(), before);
        drop(store);

        std::fs::write(&torn, vec![7; 9_000]).unwrap();
        assert!(format_of(&torn).is_err());
        std::fs::write(&torn, b"").unwrap();
        assert!(format_of(&torn).is_err(), "an empty file is no store");
    }
}
