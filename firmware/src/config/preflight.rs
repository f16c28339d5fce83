//! What the system must offer, looked at before anything is changed on it.

use super::{Config, ConfigError};
use crate::gate::{Gate, GateError};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

impl Config {
    /// Looks whether the daemon can do what this file asks for: data folder, port, interfaces, firewall. The first
    /// thing that is missing is the error. Changes nothing.
    ///
    /// # Errors
    /// One line, as [`Config::read`]; exit status 2 is due.
    pub fn preflight(&self) -> Result<(), ConfigError> {
        self.check_data_dir()?;
        if self.relay.enabled {
            self.check_interfaces()?;
            self.check_listen()?;
            self.check_gate()?;
        }
        Ok(())
    }

    /// The data folder exists, and this user may write in it.
    pub fn check_data_dir(&self) -> Result<(), ConfigError> {
        let folder = &self.node.data_dir;
        let blame = |what: String, remedy: &str| Err(self.blame("node.data_dir", what, remedy));
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return blame(format!("{} is no folder", folder.display()), "name a folder"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return blame(
                    format!("{} does not exist", folder.display()),
                    "run `turnpike init`, which makes it",
                );
            }
            Err(error) => {
                return blame(
                    format!("{}: {error}", folder.display()),
                    "run as the user who owns it",
                );
            }
        }
        if !writable(folder) {
            let what = format!("no permission to write in {}", folder.display());
            return blame(what, "run as the user who owns it, or name another folder");
        }
        Ok(())
    }

    /// Nobody else has the port, and this user may have it.
    pub fn check_listen(&self) -> Result<(), ConfigError> {
        let address = self.relay.listen;
        let Err(error) = TcpListener::bind(address) else {
            return Ok(());
        };
        let (what, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                format!("port {} is in use by another program", address.port()),
                "stop that program, or choose another port",
            ),
            io::ErrorKind::PermissionDenied => (
                format!("no permission to listen on port {}", address.port()),
                "choose a port above 1023, or run as root",
            ),
            io::ErrorKind::AddrNotAvailable => (
                format!("{} is no address of this machine", address.ip()),
                "use \"[::]:7473\" to listen on all addresses",
            ),
            _ => (error.to_string(), "choose another address"),
        };
        Err(self.blame("relay.listen", what, remedy))
    }

    /// Guest and uplink interfaces exist.
    pub fn check_interfaces(&self) -> Result<(), ConfigError> {
        for (key, names) in [
            ("relay.guest_interface", &self.relay.guest_interface),
            ("relay.uplink_interface", &self.relay.uplink_interface),
        ] {
            for name in names {
                if !Path::new("/sys/class/net").join(name.as_str()).exists() && !in_list(name.as_str()) {
                    let what = format!("there is no network interface {}", name.as_str());
                    return Err(self.blame(key, what, format!("use one of {}", interface_list().join(", "))));
                }
            }
        }
        Ok(())
    }

    /// The kernel can meter, and this process may tell it to.
    pub fn check_gate(&self) -> Result<(), ConfigError> {
        Gate::check().map_err(|error| {
            let (what, remedy) = match error {
                GateError::NoNft => (
                    "nftables is not installed, so traffic cannot be metered".to_owned(),
                    "install the package nftables, or set enabled = false".to_owned(),
                ),
                GateError::NoPermission => (
                    "no permission to change the firewall".to_owned(),
                    "run as root or with CAP_NET_ADMIN, or set enabled = false".to_owned(),
                ),
                GateError::NoForwarding { family, sysctl } => (
                    format!("the kernel does not forward {family}"),
                    format!("run `sysctl -w {sysctl}=1`, or set enabled = false"),
                ),
                other => (other.to_string(), "or set enabled = false".to_owned()),
            };
            self.blame("relay.enabled", what, remedy)
        })
    }
}

/// Asks the kernel rather than reading mode bits: it knows about root, ACLs and read-only file systems.
fn writable(folder: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    // A file without a name leaves no trace, not even for a moment.
    if options.clone().custom_flags(libc::O_TMPFILE).open(folder).is_ok() {
        return true;
    }
    // Not every file system knows such files.
    let probe = folder.join(".turnpike-probe");
    let made = options.create_new(true).open(&probe).is_ok();
    if made {
        drop(fs::remove_file(&probe));
    }
    made
}

/// Interfaces of this network namespace: /sys may show another one's.
fn interface_list() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn in_list(name: &str) -> bool {
    interface_list().iter().any(|known| known == name)
}
