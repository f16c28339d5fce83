//! Changing prices: in the configuration file, comments and all, and in the daemon.

use super::arguments::PriceOptions;
use super::{Failure, Output, Place, daemon};
use crate::config::{Config, PriceConfig};
use crate::control::{ClientError, ControlClient, PriceChange, Request};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(super) fn set(place: &Place, output: &Output, options: &PriceOptions) -> Result<(), Failure> {
    let changes = changes(options);
    if changes.is_empty() {
        return Err(Failure::usage(
            "no price is named: say for example `turnpike price set --down \"50 msat/MiB\"`",
        ));
    }
    let path = place.config_path();
    let before = Config::read(&path)?;
    let io = |error: std::io::Error| {
        Failure::new(format!(
            "{}: {error}: run as its owner, or say --temporary",
            path.display()
        ))
    };
    let old = fs::read_to_string(&path).map_err(io)?;
    let new = edit(&old, &changes);
    let after = Config::parse(&path, &new)?;
    if options.temporary {
        return output.response(&daemon::ask(
            place,
            Request::PriceSet(difference(&before.price, &after.price)),
        )?);
    }
    if Config::parse(&path, &edit(&new, &changes))
        .ok()
        .as_ref()
        .map(|c| &c.price)
        != Some(&after.price)
    {
        return Err(Failure::usage(format!(
            "{}: its [price] cannot be edited: edit it by hand",
            path.display()
        )));
    }
    write(&path, &new).map_err(io)?;
    let socket = place.socket()?;
    match ControlClient::connect(&socket) {
        Ok(_) => {}
        Err(ClientError::NotRunning { .. }) => {
            output.note("turnpiked is not running: the prices are in force when it starts");
            return output.line(&serde_json::json!({"in_force": false}), "");
        }
        Err(error) => return Err(error.into()),
    }
    match daemon::ask(place, Request::PriceReload) {
        Ok(response) => output.response(&response),
        Err(failure) => {
            // What the daemon refuses must not meet it again at its next start.
            write(&path, &old).map_err(io)?;
            Err(failure)
        }
    }
}

/// Keys of `[price]` and their new values, as they stand in the file.
fn changes(options: &PriceOptions) -> Vec<(&'static str, String)> {
    let all = [
        ("up", &options.up, "msat/MiB"),
        ("down", &options.down, "msat/MiB"),
        ("per_second", &options.per_second, "msat/s"),
        ("free", &options.free, "B"),
        ("free_total", &options.free_total, "B"),
        ("window_min", &options.window_min, "B"),
        ("window_max", &options.window_max, "B"),
    ];
    let given = all
        .into_iter()
        .filter_map(|(key, value, unit)| Some((key, value.as_deref()?.trim(), unit)));
    given
        .map(|(key, value, unit)| {
            // A JSON string is a TOML string. Zero needs no unit; what else is bare is refused by the configuration, which names the units.
            let value = if value == "0" {
                format!("0 {unit}")
            } else {
                value.to_owned()
            };
            (key, serde_json::Value::String(value).to_string())
        })
        .collect()
}

/// The file with these values in its `[price]`: in their places, in the places of their commented defaults, or behind
/// the section's heading.
pub(super) fn edit(text: &str, changes: &[(&str, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let heading = |line: &str| line.trim_start().starts_with('[');
    let named = |line: &str| {
        line.split('#')
            .next()
            .unwrap_or_default()
            .replace([' ', '\t'], "")
            == "[price]"
    };
    let start = match lines.iter().position(|line| named(line)) {
        Some(at) => at + 1,
        None => {
            if lines.last().is_some_and(|line| !line.trim().is_empty()) {
                lines.push(String::new());
            }
            lines.push("[price]".to_owned());
            lines.len()
        }
    };
    for (key, value) in changes {
        let end = lines
            .iter()
            .skip(start)
            .position(|line| heading(line))
            .map_or(lines.len(), |n| start + n);
        let is = |line: &str, mark: &str| {
            let line = line.trim_start();
            let Some((name, _)) = line.strip_prefix(mark).and_then(|rest| rest.split_once('=')) else {
                return false;
            };
            name.trim() == *key
        };
        let find = |mark: &str| (start..end).find(|at| is(&lines[*at], mark));
        let line = format!("{key} = {value}");
        match find("").or_else(|| find("#")) {
            Some(at) => lines[at] = line,
            None => lines.insert(start, line),
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// What differs, for the daemon alone.
fn difference(before: &PriceConfig, after: &PriceConfig) -> PriceChange {
    fn new<T: PartialEq>(before: T, after: T) -> Option<T> {
        (before != after).then_some(after)
    }
    PriceChange {
        up_msat_per_mib: new(before.up, after.up),
        down_msat_per_mib: new(before.down, after.down),
        msat_per_second: new(before.per_second, after.per_second),
        free_bytes: new(before.free, after.free),
        free_total_bytes: new(before.free_total, after.free_total),
        window_min_bytes: new(before.window_min, after.window_min),
        window_max_bytes: new(before.window_max, after.window_max),
    }
}

/// Replaces the file in one step, with its mode and owner.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let found = path.metadata()?;
    let new = path.with_extension("toml.new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        // Whoever may not give files away owns this one already.
        let _ = std::os::unix::fs::chown(&new, Some(found.uid()), Some(found.gid()));
        file.set_permissions(fs::Permissions::from_mode(found.mode() & 0o7777))?;
        file.sync_all()?;
        fs::rename(&new, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
