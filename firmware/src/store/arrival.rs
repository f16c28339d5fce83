//! A store and a seed that arrive on a new card, in place of its empty ones.
//!
//! Each step is durable before the next: the store under the name `…arriving`, the seed under such a name, the store
//! under its own name, which uses up the empty one and its id, then the seed. A cut before the third step leaves the
//! card as it was; from there on the next start ends it.

use super::{Arrival, StoreError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Puts what arrived in the place of an empty store and its seed. The old seed is kept beside the new one.
pub fn take_over(arrival: &Arrival, seed: &Path, store: &Path) -> Result<(), StoreError> {
    take_over_with(arrival, seed, store, &mut || Ok(()))
}

/// `step` comes after everything that is durable: a power cut can only fall on one of its calls.
pub(super) fn take_over_with(
    arrival: &Arrival,
    seed: &Path,
    store: &Path,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> Result<(), StoreError> {
    finish_with(seed, store, step)?;
    let (new_seed, new_store) = (arriving(seed), arriving(store));
    let io = |error| StoreError::io(store, error);
    arrival.build(&new_store)?;
    step().map_err(io)?;
    write(&new_seed, arrival.words()).map_err(|error| StoreError::io(&new_seed, error))?;
    step().map_err(io)?;
    rename(&new_store, store)?;
    step().map_err(io)?;
    finish_with(seed, store, step)
}

/// Ends what a power cut interrupted. Run before seed and store are looked at.
pub fn finish_arrival(seed: &Path, store: &Path) -> Result<(), StoreError> {
    finish_with(seed, store, &mut || Ok(()))
}

pub(super) fn finish_with(
    seed: &Path,
    store: &Path,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> Result<(), StoreError> {
    let mut step = || step().map_err(|error| StoreError::io(store, error));
    let (new_seed, new_store) = (arriving(seed), arriving(store));
    let there = |path: &Path| path.symlink_metadata().is_ok();
    if there(&new_store) {
        // The card's own store still counts. The seed first: alone it would mean that the store has arrived.
        for file in [&new_seed, &new_store] {
            remove(file)?;
            step()?;
        }
        return Ok(());
    }
    if !there(&new_seed) {
        return Ok(());
    }
    if there(seed) {
        rename(seed, &aside(seed))?;
        step()?;
    }
    rename(&new_seed, seed)?;
    step()
}

fn arriving(path: &Path) -> PathBuf {
    with_end(path, ".arriving")
}

/// A name that is free: a seed is never overwritten.
fn aside(seed: &Path) -> PathBuf {
    let names = (1..).map(|n| with_end(seed, &format!(".before-{n}")));
    let mut free = names.filter(|path| path.symlink_metadata().is_err());
    free.next().unwrap_or_else(|| with_end(seed, ".before"))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn write(path: &Path, words: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(words.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    sync_folder(path)
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let renamed = fs::rename(from, to).and_then(|()| sync_folder(to));
    renamed.map_err(|error| StoreError::io(to, error))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io(path, error)),
        Ok(()) => sync_folder(path).map_err(|error| StoreError::io(path, error)),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
