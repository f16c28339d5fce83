//! What is checked before anything is written, in this order.

use super::bundle::Signed;
use super::{Keys, Manifest, NotNow, Refusal, UpdateError};
use crate::card::{KernelLine, Places, Slot, SlotFiles};
use crate::store::{FORMAT, OLDEST_FORMAT, StoreError, format_of};
use rustix::fs::statvfs;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of the boot partition that an update leaves for the owner's files and the report.
const BOOT_RESERVE: u64 = 4 * 1024 * 1024;
/// Most of the device tree's `compatible` that is read, bytes.
const MAX_COMPATIBLE: u64 = 4_096;

/// Where an update would go, and what it would leave.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// The slot that runs.
    pub(super) running: Slot,
    /// Its version.
    pub(super) version: u64,
    /// The slot that an update is written into.
    pub(super) target: Slot,
}

impl Standing {
    /// Of this card.
    pub(super) fn read(places: &Places) -> Result<(Standing, KernelLine), UpdateError> {
        let no_card = |reason: String| UpdateError::from(NotNow::NoCard { reason });
        let line = KernelLine::read(places)
            .map_err(|error| no_card(format!("{}: {error}", places.cmdline.display())))?;
        let running = line
            .slot
            .ok_or_else(|| no_card("the kernel command line has no turnpike.slot".to_owned()))?;
        let env = SlotFiles::of(places, running).env();
        let version = env.map(|env| env.version).ok_or_else(|| {
            no_card(format!(
                "slot {} on {} has no slot.env",
                running.name(),
                places.boot.display()
            ))
        })?;
        let target = running.other();
        let standing = Standing {
            running,
            version,
            target,
        };
        Ok((standing, line))
    }
}

/// Judges the signed part by everything but its place on the card.
pub(super) fn judge(places: &Places, standing: &Standing, signed: &Signed) -> Result<Manifest, UpdateError> {
    Keys::find(places)?.verify(&signed.manifest, &signed.signatures)?;
    let manifest = Manifest::parse(&signed.manifest)?;
    check_board(places, &manifest)?;
    let (version, running) = (manifest.facts.version, standing.version);
    if version <= running {
        return Err(Refusal::NotNewer { version, running }.into());
    }
    check_store(places, &manifest)?;
    Ok(manifest)
}

/// The files fit into the slot.
pub(super) fn check_room(
    places: &Places,
    standing: &Standing,
    manifest: &Manifest,
) -> Result<(), UpdateError> {
    let root = places.root(standing.target);
    let room = File::open(root)
        .and_then(|mut file| file.seek(SeekFrom::End(0)))
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => NotNow::Denied {
                path: root.to_owned(),
            }
            .into(),
            _ => UpdateError::from(NotNow::NoCard {
                reason: format!("{}: {error}", root.display()),
            }),
        })?;
    let [kernel, initrd, root_file] = &manifest.files;
    let fits = |what, size, room, remedy| match size <= room {
        true => Ok(()),
        false => Err(Refusal::Room {
            what,
            size,
            room,
            remedy,
        }),
    };
    fits(
        "root.img",
        root_file.size,
        room,
        "flash the card with the new image, and bring seed and store over by `turnpike backup`",
    )?;
    let free = statvfs(&places.boot)
        .map(|about| about.f_bavail.saturating_mul(about.f_frsize))
        .map_err(|error| UpdateError::card(&places.boot)(error.into()))?;
    let files = SlotFiles::of(places, standing.target);
    let there =
        [kernel, initrd].map(|file| fs::metadata(files.path(file.name)).map_or(0, |about| about.len()));
    let room = free
        .saturating_add(there.iter().sum())
        .saturating_sub(BOOT_RESERVE);
    fits(
        "the kernel with its initramfs",
        kernel.size + initrd.size,
        room,
        "remove files of your own from the boot partition",
    )?;
    Ok(())
}

fn check_board(places: &Places, manifest: &Manifest) -> Result<(), UpdateError> {
    let mut bytes = Vec::new();
    File::open(&places.compatible)
        .and_then(|file| file.take(MAX_COMPATIBLE).read_to_end(&mut bytes))
        .map_err(|error| NotNow::NoCard {
            reason: format!("{}: {error}", places.compatible.display()),
        })?;
    let own: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .map(|text| String::from_utf8_lossy(text).trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    let boards = &manifest.facts.boards;
    if own.iter().any(|board| boards.contains(board)) {
        return Ok(());
    }
    Err(Refusal::Board {
        boards: boards.join(", "),
        own: own.first().cloned().unwrap_or_else(|| "unknown".to_owned()),
    }
    .into())
}

/// Both firmwares have to read what either of them may leave.
fn check_store(places: &Places, manifest: &Manifest) -> Result<(), UpdateError> {
    let path = places.store();
    let found = match format_of(&path) {
        Ok(found) => found,
        // A store that this firmware cannot open either is no reason against a new one.
        Err(StoreError::Unreadable { .. }) => None,
        Err(StoreError::Denied { path }) => return Err(NotNow::Denied { path }.into()),
        Err(error) => return Err(UpdateError::card(&path)(io::Error::other(error.to_string()))),
    };
    let [oldest, newest] = manifest.facts.store_reads;
    // This firmware may write until it restarts.
    for found in found.into_iter().chain([FORMAT]) {
        if !(oldest..=newest).contains(&found) {
            return Err(Refusal::StoreTooOther {
                found,
                oldest,
                newest,
            }
            .into());
        }
    }
    let writes = manifest.facts.store_writes;
    if !(OLDEST_FORMAT..=FORMAT).contains(&writes) {
        return Err(Refusal::StoreOneWay {
            writes,
            oldest: OLDEST_FORMAT,
            newest: FORMAT,
        }
        .into());
    }
    Ok(())
}
