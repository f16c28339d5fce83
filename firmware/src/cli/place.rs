//! Where this node's files are.

use super::Failure;
use crate::config::{Config, config_file, is_root, user_folder};
use crate::control::SOCKET;
use std::path::PathBuf;

/// What the owner said about it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `--config` or TURNPIKE_CONFIG.
    pub config: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The configuration file: see [`config_file`].
    pub(super) fn config_path(&self) -> PathBuf {
        config_file(self.config.as_deref())
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
