//! Applying a bundle.

use super::bundle::{Signed, expect_at, expect_end, is_signature, padded};
use super::checks::{Standing, check_room, judge};
use super::hash::{Digest, Hashing};
use super::keys::key_id;
use super::{CHUNK, FileEntry, Manifest, NotNow, Outcome, Refusal, Source, SourceError, Stage, UpdateError};
use crate::card::{
    ATTEMPTS, KernelLine, MANIFEST, Medium, Places, ProblemCode, Problems, Slot, SlotFiles, Trial, Writable,
};
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Chunks that are held in memory, then written together and made durable: a power cut costs at most these, the card
/// writes in large pieces, and the boot partition is writable only while they are written, however slow the source is.
const BATCH: usize = 8;

/// What goes on, for progress bars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// All checks passed; `bytes` are to be brought into `slot`.
    Checked {
        /// Version of the bundle.
        version: u64,
        /// Where it goes.
        slot: Slot,
        /// Of all files.
        bytes: u64,
    },
    /// So many more bytes are in the slot.
    Brought {
        /// Bytes of this chunk.
        bytes: u64,
        /// It came from the source; else it was there.
        fetched: bool,
    },
    /// Everything is there; it is read once more.
    ReadingBack,
}

/// A bundle is in the slot, which is on trial from the next boot on.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Applied {
    /// Its version.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Its slot.
    pub slot: Slot,
    /// Bytes of its files that came from the source.
    pub fetched_bytes: u64,
    /// Bytes of its files that were in the slot.
    pub kept_bytes: u64,
}

/// Brings a bundle into the slot that does not run and switches to it. `name` says where it comes from. The outcome is
/// recorded, and a refusal is reported as a problem too.
pub fn apply(
    places: &Places,
    name: &str,
    source: &mut dyn Source,
    medium: &mut dyn Medium,
    say: &mut dyn FnMut(Step),
) -> Result<Applied, UpdateError> {
    let _one = lock(places)?;
    let (standing, line) = Standing::read(places)?;
    if let Some(slot) = line.on_trial() {
        return Err(NotNow::OnTrial { slot }.into());
    }
    let mut update = Update {
        places,
        standing: &standing,
        medium,
        outcome: Outcome {
            version: None,
            name: None,
            from_version: Some(standing.version),
            slot: None,
            source: name.to_owned(),
            stage: Stage::Refused,
            reason: String::new(),
            fault: None,
        },
    };
    let result = update.run(source, say);
    if let Err(error) = &result {
        let outcome = update.outcome;
        record_failure(places, &line, outcome, error);
    }
    result
}

/// The bundle's manifest, if [`apply`] would take it. Writes nothing, not even an outcome.
pub fn inspect(places: &Places, source: &mut dyn Source) -> Result<Manifest, UpdateError> {
    let (standing, _) = Standing::read(places)?;
    let signed = Signed::read(source).map_err(truncated)?;
    let manifest = judge(places, &standing, &signed)?;
    check_room(places, &standing, &manifest)?;
    signed.locate(source.length(), &manifest)?;
    Ok(manifest)
}

/// Held while an update, a commit or a way back is at work.
pub(super) fn lock(places: &Places) -> Result<File, UpdateError> {
    let path = places.run.join("update.lock");
    let open = || {
        fs::create_dir_all(&places.run)?;
        File::create(&path)
    };
    let file = open().map_err(UpdateError::card(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(NotNow::Busy.into()),
        Err(error) => Err(UpdateError::card(&path)(error.into())),
    }
}

/// Whoever comes after a trial wants to know how it ended, not that another bundle was no good meanwhile.
fn record_failure(places: &Places, line: &KernelLine, mut outcome: Outcome, error: &UpdateError) {
    let refused = matches!(error, UpdateError::Refused(_));
    let began = outcome.stage != Stage::Refused;
    if !refused && !began {
        return;
    }
    outcome.reason = error.to_string();
    if refused {
        outcome.stage = Stage::Refused;
        let text = format!("{}: {}", outcome.source, outcome.reason);
        drop(Problems::of(places).report(ProblemCode::UpdateRefused, &text));
    }
    if matches!(error, UpdateError::ReadBack { .. }) {
        drop(Problems::of(places).report(ProblemCode::CardDropsWrites, &outcome.reason));
    }
    let pending = Outcome::read(places).map(|before| before.now(places, line).stage);
    if began || pending != Some(Stage::Trial) {
        outcome.record(places);
    }
}

/// One application under way.
struct Update<'a> {
    places: &'a Places,
    standing: &'a Standing,
    medium: &'a mut dyn Medium,
    /// What the file says, or would say.
    outcome: Outcome,
}

impl Update<'_> {
    fn run(&mut self, source: &mut dyn Source, say: &mut dyn FnMut(Step)) -> Result<Applied, UpdateError> {
        let signed = Signed::read(source).map_err(truncated)?;
        let manifest = judge(self.places, self.standing, &signed)?;
        self.outcome.version = Some(manifest.facts.version);
        self.outcome.name = Some(manifest.facts.name.clone());
        self.outcome.slot = Some(self.standing.target);
        check_room(self.places, self.standing, &manifest)?;
        let starts = signed.locate(source.length(), &manifest)?;
        let bytes = manifest.files.iter().map(|file| file.size).sum();
        say(Step::Checked {
            version: manifest.facts.version,
            slot: self.standing.target,
            bytes,
        });
        self.record(Stage::Fetching, "it is being written");
        self.prepare()?;
        let mut fetched_bytes = 0;
        for (index, (file, start)) in manifest.files.iter().zip(starts).enumerate() {
            // The first header was read with the signatures.
            if index > 0 {
                expect_at(source, start, file.name, file.size)?;
            }
            fetched_bytes += self.bring(source, file, start, say)?;
        }
        if let (Some(start), Some(file)) = (starts.last(), manifest.files.last()) {
            expect_end(source, start + padded(file.size))?;
        }
        say(Step::ReadingBack);
        for file in &manifest.files {
            self.read_back(file)?;
        }
        self.record(Stage::Written, "it is whole in its slot");
        self.switch(&manifest, &signed)?;
        drop(Problems::of(self.places).clear(ProblemCode::UpdateRefused));
        drop(Problems::of(self.places).clear(ProblemCode::SlotRolledBack));
        Ok(Applied {
            version: manifest.facts.version,
            name: manifest.facts.name,
            slot: self.standing.target,
            fetched_bytes,
            kept_bytes: bytes - fetched_bytes,
        })
    }

    /// From here on the inactive slot cannot be started, and whatever happens the running one is.
    fn prepare(&mut self) -> Result<(), UpdateError> {
        let running = self.standing.running;
        let target = SlotFiles::of(self.places, self.standing.target);
        self.on_boot(|places, medium| {
            fall_back_to(places, running, medium)?;
            target.unmark_good(medium)?;
            target.remove_env(medium)
        })
    }

    /// Takes from the source what the slot has not. Gives the bytes that were taken.
    fn bring(
        &mut self,
        source: &mut dyn Source,
        file: &FileEntry,
        start: u64,
        say: &mut dyn FnMut(Step),
    ) -> Result<u64, UpdateError> {
        let path = self.place(file);
        let mut fetched = 0;
        let mut batch = Vec::new();
        for (index, digest) in file.chunks.iter().enumerate() {
            let offset = index as u64 * CHUNK;
            let mut chunk = vec![0; file.chunk_length(index) as usize];
            let bytes = chunk.len() as u64;
            let there = read_chunk(&path, offset, &mut chunk).map_err(UpdateError::card(&path))?
                && Digest::of(&chunk) == *digest;
            if !there {
                let brought = source.read_at(start + offset, &mut chunk);
                let good = brought.is_ok() && Digest::of(&chunk) == *digest;
                if !good {
                    // What came before is not thrown away.
                    self.write(&path, &mut batch, None)?;
                    brought?;
                    let (file, chunk) = (file.name, index);
                    return Err(Refusal::Chunk { file, chunk }.into());
                }
                batch.push((offset, chunk));
                fetched += bytes;
            }
            if batch.len() == BATCH {
                self.write(&path, &mut batch, None)?;
            }
            say(Step::Brought {
                bytes,
                fetched: !there,
            });
        }
        self.write(&path, &mut batch, Some(file.size))?;
        Ok(fetched)
    }

    /// Writes chunks and makes them durable; cuts the file at `end`.
    fn write(
        &mut self,
        path: &Path,
        batch: &mut Vec<(u64, Vec<u8>)>,
        end: Option<u64>,
    ) -> Result<(), UpdateError> {
        if batch.is_empty() && end.is_none() {
            return Ok(());
        }
        let _writable = match path.starts_with(&self.places.boot) {
            true => Some(Writable::open(self.places).map_err(UpdateError::card(path))?),
            false => None,
        };
        let mut work = || -> io::Result<()> {
            for (offset, chunk) in batch.drain(..) {
                self.medium.write_at(path, offset, &chunk)?;
            }
            if let Some(end) = end {
                self.medium.truncate(path, end)?;
            }
            self.medium.sync(path)
        };
        work().map_err(UpdateError::card(path))
    }

    /// What the card gives back is what was signed.
    fn read_back(&self, entry: &FileEntry) -> Result<(), UpdateError> {
        let path = self.place(entry);
        let work = || -> io::Result<bool> {
            let file = File::open(&path)?;
            // What is read has to come from the card, not from memory. Advice only: nothing depends on its being taken.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
            holds(&file, entry)
        };
        match work().map_err(UpdateError::card(&path))? {
            true => Ok(()),
            false => Err(UpdateError::ReadBack { file: entry.name }),
        }
    }

    /// Everything is whole: makes the slot bootable, and puts it on trial.
    fn switch(&mut self, manifest: &Manifest, signed: &Signed) -> Result<(), UpdateError> {
        let slot = self.standing.target;
        let files = SlotFiles::of(self.places, slot);
        self.on_boot(|places, medium| {
            for old in signatures_in(&places.slot(slot))? {
                medium.remove(&old)?;
            }
            medium.put(&files.path(MANIFEST), &signed.manifest)?;
            for text in &signed.signatures {
                if let Some(id) = key_id(text) {
                    let name = format!("{MANIFEST}.{id}.minisig");
                    medium.put(&files.path(&name), text.as_bytes())?;
                }
            }
            files.write_env(&manifest.slot_env(), medium)?;
            files.unmark_bad(medium)
        })?;
        // Before the switch: a cut in between leaves a trial that was announced and lost, which `Outcome::now` tells.
        self.record(Stage::Trial, "it is on trial from the next boot on");
        let left = ATTEMPTS;
        self.on_boot(|places, medium| Trial::write(Some(Trial { slot, left }), places, medium))
    }

    fn on_boot(
        &mut self,
        work: impl FnOnce(&Places, &mut dyn Medium) -> io::Result<()>,
    ) -> Result<(), UpdateError> {
        let boot = &self.places.boot;
        let _writable = Writable::open(self.places).map_err(UpdateError::card(boot))?;
        work(self.places, self.medium).map_err(UpdateError::card(boot))
    }

    fn record(&mut self, stage: Stage, reason: &str) {
        self.outcome.stage = stage;
        self.outcome.reason = reason.to_owned();
        self.outcome.record(self.places);
    }

    fn place(&self, file: &FileEntry) -> PathBuf {
        place(self.places, self.standing.target, file)
    }
}

/// Where a file of the manifest is in a slot.
pub(super) fn place(places: &Places, slot: Slot, file: &FileEntry) -> PathBuf {
    match file.name {
        super::manifest::ROOT => places.root(slot).to_owned(),
        name => SlotFiles::of(places, slot).path(name),
    }
}

/// The file begins with exactly what the manifest says.
pub(super) fn holds(file: &File, entry: &FileEntry) -> io::Result<bool> {
    let mut hashing = Hashing::default();
    for (index, digest) in entry.chunks.iter().enumerate() {
        let mut chunk = vec![0; entry.chunk_length(index) as usize];
        match file.read_exact_at(&mut chunk, index as u64 * CHUNK) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if hashing.chunk(&chunk) != *digest {
            return Ok(false);
        }
    }
    Ok(hashing.finish().0 == entry.sha256)
}

/// After this the boot rule picks `slot` whenever no trial is under way, whatever is in the other one: slot a is picked by
/// default, slot b because it is `good`.
pub(super) fn fall_back_to(places: &Places, slot: Slot, medium: &mut dyn Medium) -> io::Result<()> {
    let files = SlotFiles::of(places, slot);
    let facts = files.facts();
    if slot == Slot::B && !facts.good {
        files.mark_good("it ran when another firmware was to be tried", medium)?;
    }
    if facts.bad {
        files.unmark_bad(medium)?;
    }
    if Trial::read(places).is_some() {
        Trial::write(None, places, medium)?;
    }
    Ok(())
}

/// False where the file is shorter or missing.
fn read_chunk(path: &Path, offset: u64, out: &mut [u8]) -> io::Result<bool> {
    let read = File::open(path).and_then(|file| file.read_exact_at(out, offset));
    match read {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn signatures_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_signature) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A source that ends within the signed part is no bundle, however often it is asked.
fn truncated(error: UpdateError) -> UpdateError {
    match error {
        UpdateError::Source(SourceError::Ended { length, .. }) => Refusal::Bundle {
            reason: format!("it ends after {length} bytes"),
        }
        .into(),
        error => error,
    }
}
