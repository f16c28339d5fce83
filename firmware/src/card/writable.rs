//! The boot partition while something is written to it.

use super::Places;
use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs, syncfs};
use rustix::mount::{MountFlags, mount_remount};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The boot partition is writable until this is dropped; then it is flushed and read-only again. Who else writes to it
/// waits: one at a time. A plain folder that stands for it is left as it is.
#[derive(Debug)]
pub struct Writable {
    boot: PathBuf,
    remounted: bool,
    _lock: File,
}

impl Writable {
    /// Waits for whoever writes now.
    pub fn open(places: &Places) -> io::Result<Writable> {
        fs::create_dir_all(&places.run)?;
        let lock = File::create(places.run.join("boot.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let read_only = statvfs(&places.boot)?.f_flag.contains(StatVfsMountFlags::RDONLY);
        let remounted = read_only && is_mount_point(&places.boot)?;
        if remounted {
            mount_remount(&places.boot, MountFlags::NOATIME, c"")?;
        }
        Ok(Writable {
            boot: places.boot.clone(),
            remounted,
            _lock: lock,
        })
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        if !self.remounted {
            return;
        }
        let close = || -> io::Result<()> {
            syncfs(File::open(&self.boot)?)?;
            Ok(mount_remount(
                &self.boot,
                MountFlags::RDONLY | MountFlags::NOATIME,
                c"",
            )?)
        };
        if let Err(error) = close() {
            tracing::warn!(
                "{}: {error}: it stays writable until the next restart",
                self.boot.display()
            );
        }
    }
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let above = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(above)?.dev())
}
