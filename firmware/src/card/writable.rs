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
    /// The flags that it is mounted with again, if it was read-only.
    remount: Option<MountFlags>,
    _lock: File,
}

impl Writable {
    /// Waits for whoever writes now.
    pub fn open(places: &Places) -> io::Result<Writable> {
        fs::create_dir_all(&places.run)?;
        let lock = File::create(places.run.join("boot.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let now = statvfs(&places.boot)?.f_flag;
        let remount = match now.contains(StatVfsMountFlags::RDONLY) && is_mount_point(&places.boot)? {
            true => Some(kept(now)),
            false => None,
        };
        if let Some(flags) = remount {
            mount_remount(&places.boot, flags, c"")?;
        }
        Ok(Writable {
            boot: places.boot.clone(),
            remount,
            _lock: lock,
        })
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        let Some(flags) = self.remount else {
            return;
        };
        let close = || -> io::Result<()> {
            syncfs(File::open(&self.boot)?)?;
            Ok(mount_remount(&self.boot, flags | MountFlags::RDONLY, c"")?)
        };
        if let Err(error) = close() {
            tracing::warn!(
                "{}: {error}: it stays writable until the next restart",
                self.boot.display()
            );
        }
    }
}

/// What else holds of the mount stays so.
fn kept(now: StatVfsMountFlags) -> MountFlags {
    [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
    ]
    .into_iter()
    .filter(|(here, _)| now.contains(*here))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let above = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(above)?.dev())
}
