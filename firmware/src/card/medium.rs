//! Every write to the card, in a shape that tests can cut short.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Writes of an update, of a trial and of markers go through it; reads do not.
pub trait Medium {
    /// A whole small file under its name: a power cut leaves the old one, the new one or, on FAT, none. Durable on return.
    fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Bytes in place, of a file that is made if it is missing. Durable after [`Medium::sync`].
    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file that is longer; a partition has its length and keeps it. Durable after [`Medium::sync`].
    fn truncate(&mut self, path: &Path, length: u64) -> io::Result<()>;
    /// Removes a file; nothing happens where there is none. Durable on return.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes a file and its name durable.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
}

/// The real thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Medium for Disk {
    fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        make_folder(path)?;
        let unfinished = unfinished(path);
        fs::write(&unfinished, bytes)?;
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(path)
    }

    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        make_folder(path)?;
        let mut options = OpenOptions::new();
        options.write(true);
        // A partition that is missing must not become a file among the devices.
        options.create(!path.starts_with("/dev/turnpike"));
        options.open(path)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let now = file.metadata()?;
        if now.is_file() && now.len() > length {
            file.set_len(length)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Ok(()) => sync_folder(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        file.sync_all()?;
        if file.metadata()?.is_file() {
            sync_folder(path)?;
        }
        Ok(())
    }
}

/// Beside the file, so that the rename stays in one file system; a name that FAT takes.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.exists() => {
            fs::create_dir_all(folder)?;
            sync_folder(folder)
        }
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
