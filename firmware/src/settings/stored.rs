//! The last good texts in the data partition, and the way of secrets into them.

use super::choice::Versions;
use super::disk::{Disk, replace, replace_on_open_partition};
use super::entry::{Entry, MOVED, entries, quoted};
use super::source::{Kind, MAX_FILE, Source};
use std::io;
use std::path::Path;

/// The two folders that settings live in.
pub(super) struct Folders<'f> {
    /// The open partition.
    pub boot: &'f Path,
    /// `settings` in the data partition.
    pub stored: &'f Path,
}

/// The file on the open partition, if any, and its last good text, if any.
pub(super) fn versions(
    disk: &dyn Disk,
    folders: &Folders<'_>,
    kind: Kind,
    current: Option<Source>,
) -> Versions {
    let name = kind.stored_name();
    let last_good = disk
        .read(&folders.stored.join(name), MAX_FILE + 1)
        .ok()
        .and_then(|bytes| Source::new(kind, name, &bytes).ok())
        .map(|source| Source {
            name: format!("last good {name}"),
            ..source
        });
    let stored = last_good.as_ref().map(entries).unwrap_or_default();
    let mut current_entries = current.as_ref().map(entries).unwrap_or_default();
    for entry in current_entries.iter_mut().filter(|entry| entry.is_moved()) {
        let secret = stored.iter().find(|there| there.dotted() == entry.dotted());
        if let Some(there) = secret.filter(|there| there.secret().is_some()) {
            entry.value = there.value.clone();
        }
    }
    Versions {
        current,
        current_entries,
        last_good,
    }
}

/// Makes the current text the last good one, and then takes its secrets off the open partition. Gives the number of
/// secrets that were moved.
///
/// # Errors
/// The disk's. At any of them, and at a power cut, each secret is in at least one of the two places, and both files
/// are whole.
pub(super) fn keep(
    disk: &dyn Disk,
    folders: &Folders<'_>,
    current: &Source,
    last_good: Option<&Source>,
) -> io::Result<usize> {
    if !disk.remembers(folders.stored) {
        return Ok(0);
    }
    let whole = with_secrets(current, last_good);
    let kept = last_good.is_some_and(|last| last.text == whole);
    if !kept {
        let name = current.kind.stored_name();
        replace(disk, folders.stored, name, whole.as_bytes(), 0o600)?;
    }
    let secrets = secrets(current);
    if !secrets.is_empty() {
        let text = splice(&current.text, secrets.iter(), |_| Some(quoted(MOVED)));
        replace_on_open_partition(disk, folders.boot, &current.name, &current.bytes(&text))?;
    }
    Ok(secrets.len())
}

/// The text with every secret that was moved put back.
fn with_secrets(current: &Source, stored: Option<&Source>) -> String {
    let there = stored.map(entries).unwrap_or_default();
    let value = |entry: &Entry| {
        let found = there.iter().find(|there| there.dotted() == entry.dotted())?;
        found.secret()?;
        stored?.text.get(found.span()).map(str::to_owned)
    };
    let moved = entries(current);
    splice(
        &current.text,
        moved.iter().filter(|entry| entry.is_moved()),
        value,
    )
}

/// Secrets that stand on the open partition.
pub(super) fn secrets(current: &Source) -> Vec<Entry> {
    let here = |entry: &Entry| {
        entry
            .secret()
            .is_some_and(|secret| !secret.is_empty() && secret != MOVED)
    };
    entries(current).into_iter().filter(here).collect()
}

/// The text with other values for some entries; every other byte stays.
pub(super) fn splice<'e>(
    text: &str,
    entries: impl DoubleEndedIterator<Item = &'e Entry>,
    value: impl Fn(&Entry) -> Option<String>,
) -> String {
    let mut spliced = text.to_owned();
    // From the end, so that what stands before keeps its place.
    for entry in entries.rev() {
        if let Some(value) = value(entry) {
            spliced.replace_range(entry.span(), &value);
        }
    }
    spliced
}
