//! Bundles that the owner put onto the boot partition.

use super::apply::{apply, inspect};
use super::{Applied, FileSource, Refusal, Step, UpdateError};
use crate::card::{Disk, KernelLine, Medium, Places, Writable};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most entries of the boot partition that are looked at.
const MAX_FILES: usize = 256;

/// What became of the bundles there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// None is there, or none is to be taken now.
    Nothing,
    /// One is in its slot, and its file is gone.
    Switched(Applied),
    /// One was refused, and is now called `….tpu.refused`.
    Refused {
        /// Its name.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Takes the first `*.tpu` by name that this node takes; whoever put it there holds the card. While a trial is under way
/// nothing is taken. The one that runs already is removed without a word.
pub fn take_from_boot(places: &Places, say: &mut dyn FnMut(Step)) -> Result<Taken, UpdateError> {
    let line = KernelLine::read(places).unwrap_or_default();
    if line.slot.is_none() || line.on_trial().is_some() {
        return Ok(Taken::Nothing);
    }
    let mut taken = Taken::Nothing;
    for path in bundles(places)? {
        let judged = FileSource::open(&path)
            .map_err(UpdateError::from)
            .and_then(|mut source| inspect(places, &mut source));
        if let Err(UpdateError::Refused(Refusal::NotNewer { version, running })) = &judged {
            if version == running {
                on_boot(places, |medium| medium.remove(&path))?;
                continue;
            }
        }
        let mut source = FileSource::open(&path)?;
        match apply(places, &path.display().to_string(), &mut source, &mut Disk, say) {
            Ok(applied) => {
                on_boot(places, |medium| medium.remove(&path))?;
                return Ok(Taken::Switched(applied));
            }
            Err(UpdateError::Refused(refusal)) => {
                on_boot(places, |_| set_aside(&path))?;
                taken = Taken::Refused {
                    file: path.display().to_string(),
                    reason: refusal.to_string(),
                };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// By name.
fn bundles(places: &Places) -> Result<Vec<PathBuf>, UpdateError> {
    let entries = fs::read_dir(&places.boot).map_err(UpdateError::card(&places.boot))?;
    let mut found: Vec<PathBuf> = entries
        .take(MAX_FILES)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .filter(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tpu")))
        .collect();
    found.sort();
    Ok(found)
}

fn set_aside(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".refused");
    fs::rename(path, name)
}

fn on_boot(places: &Places, work: impl FnOnce(&mut dyn Medium) -> io::Result<()>) -> Result<(), UpdateError> {
    let write = || {
        let _writable = Writable::open(places)?;
        work(&mut Disk)
    };
    write().map_err(UpdateError::card(&places.boot))
}
