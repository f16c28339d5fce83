//! A disk that loses power: for tests only.
//!
//! It counts every write, sync and change of length. At the chosen one it fails, and everything after it fails
//! too. [`Disk::images`] then gives what may be found on the medium: what was synced, and of what was written
//! since then any part.

use redb::StorageBackend;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    /// Done since the last sync, in order.
    pending: Vec<Change>,
    live: Vec<u8>,
    operations: u64,
    cut_at: Option<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Disk {
    /// A disk that holds these bytes.
    pub fn holding(image: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            durable: image.clone(),
            live: image,
            ..State::default()
        })))
    }

    /// The power goes at operation number `n` (from 0), which may still reach the medium in part.
    pub fn cut_at(self, n: u64) -> Disk {
        self.state().cut_at = Some(n);
        self
    }

    /// Writes, syncs and changes of length so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power is gone.
    pub fn is_cut(&self) -> bool {
        self.state().is_cut()
    }

    /// What the medium may hold now: nothing, all, every prefix of what was written since the last sync; each of
    /// these writes alone missing, alone there, or torn; and `random` arbitrary choices. No two are the same.
    pub fn images(&self, random: u64, mut visit: impl FnMut(Vec<u8>)) {
        let mut seen = HashSet::new();
        let mut found = |image: Vec<u8>| {
            let mut hasher = DefaultHasher::new();
            image.hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                visit(image);
            }
        };
        let state = self.state();
        let count = state.pending.len();
        for n in 0..=count {
            found(state.image(|i, _| if i < n { usize::MAX } else { 0 }));
        }
        for n in 0..count {
            found(state.image(|i, _| if i == n { 0 } else { usize::MAX }));
            found(state.image(|i, _| if i == n { usize::MAX } else { 0 }));
            for tear in [1, 64, 200, 512] {
                found(state.image(|i, _| if i == n { tear } else { usize::MAX }));
            }
            found(state.image(|i, len| if i == n { len / 2 } else { usize::MAX }));
            found(state.image(|i, len| if i == n { len / 2 } else { 0 }));
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15 ^ state.operations;
        let mut next = || {
            // xorshift64: any spread will do, and every run is the same.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..random {
            found(state.image(|_, len| match next() % 3 {
                0 => 0,
                1 => usize::MAX,
                _ => (next() % (len as u64 + 1)) as usize,
            }));
        }
    }

    /// What the medium holds if nothing more goes wrong.
    pub fn image(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; `true` when the power goes during it.
    fn step(state: &mut State) -> io::Result<bool> {
        if state.is_cut() {
            return Err(power_cut());
        }
        let now = state.operations;
        state.operations += 1;
        Ok(state.cut_at == Some(now))
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.operations > cut)
    }

    /// The durable bytes with that many bytes of each pending change.
    fn image(&self, mut keep: impl FnMut(usize, usize) -> usize) -> Vec<u8> {
        let mut image = self.durable.clone();
        for (i, change) in self.pending.iter().enumerate() {
            match change {
                Change::Length(length) => {
                    if keep(i, 1) > 0 {
                        image.resize(*length, 0);
                    }
                }
                Change::Write(offset, data) => {
                    let kept = keep(i, data.len()).min(data.len());
                    // What lies behind the end of a file whose growth was lost is lost with it.
                    let end = image.len().min(offset + kept);
                    if let Some(part) = image.get_mut(*offset..end) {
                        part.copy_from_slice(&data[..end - offset]);
                    }
                }
            }
        }
        image
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        if state.is_cut() {
            return Err(power_cut());
        }
        Ok(state.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.is_cut() {
            return Err(power_cut());
        }
        let offset = offset as usize;
        let bytes = state
            .live
            .get(offset..offset + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let cut = Disk::step(&mut state)?;
        state.live.resize(len as usize, 0);
        state.pending.push(Change::Length(len as usize));
        if cut { Err(power_cut()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if Disk::step(&mut state)? {
            return Err(power_cut());
        }
        for change in std::mem::take(&mut state.pending) {
            match change {
                Change::Length(length) => state.durable.resize(length, 0),
                Change::Write(offset, data) => {
                    state.durable[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let cut = Disk::step(&mut state)?;
        let offset = offset as usize;
        let end = offset + data.len();
        if state.live.len() < end {
            state.live.resize(end, 0);
            state.pending.push(Change::Length(end));
        }
        state.live[offset..end].copy_from_slice(data);
        state.pending.push(Change::Write(offset, data.to_vec()));
        if cut { Err(power_cut()) } else { Ok(()) }
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power was cut")
}
