//! Where this node's files are.

use super::Failure;
use crate::config::Config;
use crate::control::SOCKET;
use std::path::{Path, PathBuf};

/// What the owner said about it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `--config` or TURNPIKE_CONFIG.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The configuration file: the one that was named, else the system's, else the user's. Where neither is there, the
    /// one that `init` makes.
    pub(super) fn config_path(&self) -> PathBuf {
        if let Some(path) = &self.config {
            return path.clone();
        }
        let system = PathBuf::from("/etc/turnpike/turnpike.toml");
        match user_folder("XDG_CONFIG_HOME", ".config") {
            Some(folder) if !system.exists() && (folder.join("turnpike.toml").exists() || !is_root()) => {
                folder.join("turnpike.toml")
            }
            _ => system,
        }
    }

    /// The configuration.
    pub(super) fn read_config(&self) -> Result<Config, Failure> {
        Ok(Config::read(&self.config_path())?)
    }

    /// The data folder: the one that was named, else the one in the configuration.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        match &self.data_dir {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.read_config()?.node.data_dir),
        }
    }

    /// The data folder that `init` makes where nothing names one.
    pub(super) fn default_data_dir(&self) -> PathBuf {
        let system = PathBuf::from("/var/lib/turnpike");
        if is_root() {
            system
        } else {
            user_folder("XDG_DATA_HOME", ".local/share").unwrap_or(system)
        }
    }

    /// The daemon's socket.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        Ok(self.data_dir()?.join(SOCKET))
    }
}

fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let folder = named(variable).or_else(|| named("HOME").map(|home| home.join(below_home)))?;
    Some(folder.join("turnpike"))
}

fn is_root() -> bool {
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0)
}
