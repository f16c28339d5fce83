//! What is wrong, seen from outside the daemon and from inside.

use super::{Failure, Output, Place, amount, daemon, show};
use crate::chain::{Backend, Bitcoind};
use crate::config::Config;
use crate::control::{Check, CheckState, ClientError, ControlClient, Request, Response, one_line};
use crate::daemon::store_of_another_chain;
use crate::store::{Store, Table};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use turnpike_protocol::base::ByteCount;

/// Free bytes below which a node is warned, and below which it will soon stop: each commit goes to new pages.
const LITTLE_SPACE: u64 = 256 * 1024 * 1024;
const NO_SPACE: u64 = 16 * 1024 * 1024;
/// How long the chain back end may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(place: &Place, output: &Output) -> Result<(), Failure> {
    let path = place.config_path();
    let mut checks = Vec::new();
    let config = match Config::read(&path) {
        Ok(config) => {
            checks.push(good("configuration", path.display()));
            Some(config)
        }
        Err(error) => {
            let remedy = match path.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    "make one with `turnpike init`, or name yours with --config".to_owned()
                }
                _ => denied(&path).unwrap_or_else(|| "change the file as it says".to_owned()),
            };
            checks.push(bad("configuration", error, remedy));
            None
        }
    };
    if let Ok(folder) = place.data_dir() {
        checks.extend(files(&folder));
        checks.push(space(&folder));
    }
    checks.push(namespaces());
    let socket = place
        .socket()
        .map_err(|failure| finish(output, &checks).err().unwrap_or(failure))?;
    match ControlClient::connect(&socket) {
        Ok(_) => {
            checks.push(good("daemon", "it is running"));
            match daemon::ask(place, Request::Doctor)? {
                Response::Checks { checks: inside } => checks.extend(inside),
                _ => return Err(daemon::unexpected()),
            }
        }
        Err(error) => {
            let remedy = match &error {
                ClientError::NotRunning { .. } => {
                    "start it with `systemctl start turnpiked`, or run `turnpiked`".to_owned()
                }
                _ => denied(&socket).unwrap_or_else(|| "run this as the user who runs turnpiked".to_owned()),
            };
            checks.push(bad("daemon", "it is not running, or not for this user", remedy));
            // A daemon that runs has the right one.
            checks.extend(config.as_ref().and_then(other_chain));
            // While it runs, it says itself whether its chain answers.
            checks.extend(config.as_ref().map(chain));
            // While it runs, it has the port and the gate itself.
            if let Some(config) = &config {
                checks.push(match config.preflight() {
                    Ok(()) => good("system", "it has what the configuration asks for"),
                    Err(error) => bad("system", error, "change the file or the system as it says"),
                });
            }
        }
    }
    finish(output, &checks)
}

fn files(folder: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, file, remedy) in [
        (
            "seed",
            "seed",
            "make one with `turnpike init`, or bring yours back with `turnpike init --restore`",
        ),
        (
            "store",
            "store.redb",
            "make one with `turnpike init`, or bring a backup back with `turnpike restore`",
        ),
    ] {
        let path = folder.join(file);
        checks.push(match path.metadata() {
            Ok(found) if found.mode() & 0o077 != 0 => {
                let path = path.display();
                bad(
                    name,
                    format!("others may read {path}"),
                    format!("run `chmod 600 {path}`"),
                )
            }
            Ok(_) => good(name, path.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bad(name, format!("there is no {}", path.display()), remedy)
            }
            Err(error) => bad(
                name,
                format!("{}: {error}", path.display()),
                denied(&path).unwrap_or_else(|| remedy.to_owned()),
            ),
        });
    }
    checks
}

/// Whose it is and how to become that, where this user may not read it.
pub(super) fn denied(path: &Path) -> Option<String> {
    let forbidden = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    match path.symlink_metadata() {
        Err(error) if !forbidden(&error) => return None,
        Ok(found) if found.is_file() && !std::fs::File::open(path).is_err_and(|e| forbidden(&e)) => {
            return None;
        }
        _ => {}
    }
    // What is in a closed folder belongs to the folder's owner.
    let found = path.ancestors().find_map(|above| above.symlink_metadata().ok())?;
    let user = user_name(found.uid());
    Some(format!(
        "{} belongs to {user}: run this as that user, such as with `sudo -u {user} turnpike …`",
        path.display()
    ))
}

/// As `sudo -u` takes it.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// A store of another chain keeps the daemon from starting.
fn other_chain(config: &Config) -> Option<Check> {
    let rows = Store::peek(&config.store(), Table::Wallet).ok()??;
    let journal: Vec<Vec<u8>> = rows.into_iter().map(|row| row.value).collect();
    let wrong = store_of_another_chain(config, &journal)?;
    let (found, remedy) = wrong.split_once(": ").unwrap_or((&wrong, ""));
    Some(bad("store's chain", found, remedy))
}

/// A node that cannot write stops.
fn space(folder: &Path) -> Check {
    let free = match rustix::fs::statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return bad("disk space", error, "make the data folder with `turnpike init`"),
    };
    judge_space(free)
}

fn judge_space(free: u64) -> Check {
    let found = format!("{} free", amount::bytes(ByteCount::new(free)));
    let remedy = "free some space: a node that cannot write stops";
    if free < NO_SPACE {
        bad("disk space", found, remedy)
    } else if free < LITTLE_SPACE {
        poor("disk space", found, remedy)
    } else {
        good("disk space", found)
    }
}

/// Only the demo and the tests need them.
fn namespaces() -> Check {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let forbidden = read("/proc/sys/user/max_user_namespaces") == Some(0)
        || read("/proc/sys/kernel/unprivileged_userns_clone") == Some(0);
    match forbidden {
        false => good("user namespaces", "allowed"),
        true => poor(
            "user namespaces",
            "forbidden; the demo needs them, a node does not",
            "run `sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1`",
        ),
    }
}

fn chain(config: &Config) -> Check {
    let ask = || {
        let backend = Bitcoind::new(&config.chain.url, config.chain.auth.clone(), PATIENCE)
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(backend.tip()).map_err(|error| error.to_string())
    };
    match ask() {
        Ok(tip) => good(
            "chain",
            format!("{} answers, height {}", config.chain.url, tip.height),
        ),
        Err(error) => bad(
            "chain",
            error,
            "check url and cookie, or user and password, in [chain], and that the back end runs",
        ),
    }
}

fn finish(output: &Output, checks: &[Check]) -> Result<(), Failure> {
    output.line(&serde_json::json!({ "checks": checks }), &show::checks(checks))?;
    let bad = checks
        .iter()
        .filter(|check| check.state == CheckState::Bad)
        .count();
    match bad {
        0 => Ok(()),
        1 => Err(Failure::new("one thing does not work: do what stands beside it")),
        n => Err(Failure::new(format!(
            "{n} things do not work: do what stands beside them, the first one first"
        ))),
    }
}

fn good(name: &str, found: impl ToString) -> Check {
    Check {
        name: name.to_owned(),
        state: CheckState::Good,
        found: found.to_string(),
        remedy: String::new(),
    }
}

fn poor(name: &str, found: impl ToString, remedy: impl ToString) -> Check {
    Check {
        state: CheckState::Poor,
        ..bad(name, found, remedy)
    }
}

fn bad(name: &str, found: impl ToString, remedy: impl ToString) -> Check {
    Check {
        name: name.to_owned(),
        state: CheckState::Bad,
        found: one_line(&found.to_string()),
        remedy: one_line(&remedy.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_warns_and_none_fails() {
        assert_eq!(judge_space(NO_SPACE - 1).state, CheckState::Bad);
        assert_eq!(judge_space(NO_SPACE).state, CheckState::Poor);
        assert_eq!(judge_space(LITTLE_SPACE).state, CheckState::Good);
        assert_eq!(space(Path::new("/nosuchfolder")).state, CheckState::Bad);
        assert_ne!(space(Path::new("/")).found, "0 B free");
    }

    #[test]
    fn users_are_named_as_sudo_takes_them() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "#4000000000");
        // Nothing is forbidden about it.
        assert_eq!(denied(Path::new("/etc/passwd")), None);
        assert_eq!(denied(Path::new("/nosuchfolder/seed")), None);
    }

    #[test]
    fn a_chain_that_does_not_answer_is_named() {
        let text = "[node]\ndata_dir = \"d\"\n[chain]\nbackend = \"play\"\nurl = \"http://127.0.0.1:1\"\n";
        let config = Config::parse(Path::new("turnpike.toml"), text).unwrap();
        let check = chain(&config);
        assert_eq!(check.state, CheckState::Bad);
        assert!(check.found.contains("http://127.0.0.1:1"), "{}", check.found);
    }
}
