//! What settings ask of a disk: small enough that a test can cut its power between any two steps.

use crate::card::{Places, Writable};
use rustix::fs::{fstatfs, syncfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// File systems that forget (`linux/magic.h`): tmpfs and ramfs.
const FORGETFUL: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A disk, or what plays one.
pub(super) trait Disk {
    /// The file's bytes, `limit` of them at most.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Makes a folder with mode 0700, durably; one that is there is fine.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a new file. Nothing of it is durable yet.
    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Makes the file's bytes durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives the file the other name, in place of what has it. Not durable yet.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names of a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// As `rename`, made durable; then what had the name is overwritten with zeros.
    fn rename_and_wipe(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What is written there is there after a power cut.
    fn remembers(&self, folder: &Path) -> bool;
    /// Runs `write` while the open partition may be written, and leaves it as it was.
    fn while_writable(&self, write: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()>;
}

/// Replaces a file as a whole: after a power cut at any time it is the old one or the new one.
pub(super) fn replace(disk: &dyn Disk, folder: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (new, path) = (new_name(folder, name), folder.join(name));
    disk.remove(&new)?;
    disk.create(&new, bytes, mode)?;
    disk.sync(&new)?;
    disk.rename(&new, &path)?;
    disk.sync_folder(folder)
}

/// The same on the open partition, and nothing of the old file can be read there afterwards: all writes there come
/// through here.
pub(super) fn replace_on_open_partition(
    disk: &dyn Disk,
    folder: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let (new, path) = (new_name(folder, name), folder.join(name));
    disk.while_writable(&mut || {
        disk.remove(&new)?;
        disk.create(&new, bytes, 0o644)?;
        disk.sync(&new)?;
        disk.rename_and_wipe(&new, &path)
    })
}

/// The name that a file has until it is whole: one that FAT can hold without a long name where the file's can.
fn new_name(folder: &Path, name: &str) -> std::path::PathBuf {
    let stem = name.split('.').next().unwrap_or(name);
    folder.join(format!("{stem}.new"))
}

/// The machine's own.
pub(super) struct System<'p>(pub(super) &'p Places);

impl Disk for System<'_> {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A device or pipe of that name would be waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        file.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => path.parent().map_or(Ok(()), |above| self.sync_folder(above)),
        }
    }

    fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = File::open(path)?;
        folder.sync_all()?;
        // FAT keeps what belongs to a name in more places than the folder.
        Ok(syncfs(&folder)?)
    }

    fn rename_and_wipe(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut old = OpenOptions::new().write(true).open(to)?;
        let length = old.metadata()?.len();
        fs::rename(from, to)?;
        if let Some(folder) = to.parent() {
            self.sync_folder(folder)?;
        }
        // Its clusters are still its own while it is open.
        io::copy(&mut io::repeat(0).take(length), &mut old)?;
        old.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn remembers(&self, folder: &Path) -> bool {
        let kind = File::open(folder).and_then(|folder| Ok(fstatfs(&folder)?.f_type));
        // The magic numbers have 32 bits, the field has the machine's word.
        kind.is_ok_and(|kind| !FORGETFUL.contains(&(kind as u32)))
    }

    fn while_writable(&self, write: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let _writable = Writable::open(self.0)?;
        write()
    }
}
