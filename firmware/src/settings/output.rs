//! The files that the node's programs and scripts read.

use super::card::Update;
use super::choice::Settings;
use super::entry::quoted;
use super::finding::{Finding, Weight};
use super::radio;
use crate::card::{Places, ProblemCode, Problems};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Name of a node that was given none.
pub(super) const HOSTNAME: &str = "turnpike";

/// The problems that settings can be.
pub(super) const PROBLEMS: [ProblemCode; 2] = [ProblemCode::Settings, ProblemCode::SettingsGarbage];

/// Writes all of them below `run`, and removes those that these settings do not ask for.
///
/// # Errors
/// The file system's.
pub(super) fn write(
    places: &Places,
    settings: &Settings,
    findings: &[Finding],
    report: &str,
) -> io::Result<()> {
    let run = &places.run;
    let folder = run.join("settings");
    let wifi = folder.join("wifi");
    for folder in [run, &folder] {
        make(folder, 0o755)?;
    }
    make(&wifi, 0o700)?;
    // First what the node cannot be without.
    put(run, "turnpike.toml", 0o600, Some(settings.daemon.clone()))?;
    let system = &settings.card.system;
    let line = |text: &str| format!("{text}\n");
    let hostname = system.hostname.as_deref().unwrap_or(HOSTNAME);
    put(&folder, "hostname", 0o644, Some(line(hostname)))?;
    let keys = system.ssh_keys.iter().map(|key| line(key)).collect();
    put(&folder, "authorized_keys", 0o600, Some(keys))?;
    let country = system.country.as_deref();
    put(&folder, "country", 0o644, country.map(line))?;
    put(&folder, "network", 0o644, Some(settings.wiring.lines()))?;
    let wiring = &settings.wiring;
    let hostapd = wiring.access_point.as_ref().map(|interface| {
        let offered = settings.card.access_point.clone().unwrap_or_default();
        radio::hostapd(&offered, interface, country)
    });
    put(&wifi, "hostapd.conf", 0o600, hostapd)?;
    let joined = settings.card.wifi.as_ref().filter(|_| wiring.station.is_some());
    let supplicant = joined.map(|it| radio::wpa_supplicant(it, country));
    put(&wifi, "wpa_supplicant.conf", 0o600, supplicant)?;
    let update = settings.card.update.as_ref();
    let keys = update.filter(|it| !it.keys.is_empty()).map(update_keys);
    put(&folder, "update-keys.toml", 0o644, keys)?;
    let serve = update
        .and_then(|it| it.serve)
        .map(|serve| line(&serve.to_string()));
    put(&folder, "update-serve", 0o644, serve)?;
    let problems = Problems::of(places);
    for code in PROBLEMS {
        let garbage = code == ProblemCode::SettingsGarbage;
        let of = |weight| weight != Weight::Note && (weight == Weight::Garbage) == garbage;
        match problem(findings, of) {
            Some(text) => problems.report(code, &text)?,
            None => problems.clear(code)?,
        }
    }
    put(run, "REPORT.txt", 0o644, Some(report.to_owned()))
}

fn update_keys(update: &Update) -> String {
    let keys: Vec<_> = update.keys.iter().map(|key| quoted(key)).collect();
    format!("keys = [{}]\nthreshold = {}\n", keys.join(", "), update.threshold)
}

/// The first finding of a kind, and how many follow.
fn problem(findings: &[Finding], of: impl Fn(Weight) -> bool) -> Option<String> {
    let mut lines = findings.iter().filter(|finding| of(finding.weight));
    let first = lines.next()?;
    Some(match lines.count() {
        0 => first.to_string(),
        more => format!("{first} (and {more} more: see REPORT.txt)"),
    })
}

fn make(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(mode).create(folder) {
        Err(error) if !folder.is_dir() => Err(error),
        _ => Ok(()),
    }
}

/// Replaces a file as a whole, or removes it. It is in RAM: nothing has to be durable.
fn put(folder: &Path, name: &str, mode: u32, text: Option<String>) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!(".{name}.new")));
    let gone = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let Some(text) = text else {
        return gone(&path);
    };
    // What is as it should be stays: it may belong to somebody else by now.
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    gone(&new)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, &path)
}
