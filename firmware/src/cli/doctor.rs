//! What is wrong, seen from outside the daemon and from inside.

use super::{Failure, Output, Place, daemon, show};
use crate::config::Config;
use crate::control::{Check, CheckState, ClientError, ControlClient, Request, Response};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn run(place: &Place, output: &Output) -> Result<(), Failure> {
    let path = place.config_path();
    let mut checks = Vec::new();
    let config = match Config::read(&path) {
        Ok(config) => {
            checks.push(good("configuration", path.display()));
            Some(config)
        }
        Err(error) => {
            checks.push(bad("configuration", error, "change the file as it says"));
            None
        }
    };
    if let Ok(folder) = place.data_dir() {
        checks.extend(files(&folder));
    }
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
                    "start it with `systemctl start turnpiked`, or run `turnpiked`"
                }
                _ => "run this as the user who runs turnpiked",
            };
            checks.push(bad("daemon", "it is not running, or not for this user", remedy));
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
            Err(error) => bad(name, format!("{}: {error}", path.display()), remedy),
        });
    }
    checks
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

fn bad(name: &str, found: impl ToString, remedy: impl ToString) -> Check {
    Check {
        name: name.to_owned(),
        state: CheckState::Bad,
        found: found.to_string(),
        remedy: remedy.to_string(),
    }
}
