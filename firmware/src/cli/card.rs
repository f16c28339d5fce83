//! What a node that runs from a card does for itself.

use super::arguments::CardOptions;
use super::{Failure, Output};
use crate::card::Places;
use crate::settings::{Finding, Interfaces, MAX_FILE, Weight, apply, check, example};
use crate::setup::{Ended, Setup};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Interfaces of the boards that the image is for.
const BOARD: &str = "eth0 wlan0";

pub(super) fn settings(output: &Output, options: &CardOptions) -> Result<(), Failure> {
    if options.example {
        return output.bytes(example().as_bytes());
    }
    if let Some(file) = &options.check {
        let names = options.interfaces.as_deref().unwrap_or(BOARD);
        return check_file(output, file, &Interfaces::new(names.split_whitespace()));
    }
    let names = options.interfaces.clone().unwrap_or_else(present);
    let places = Places {
        boot: options.boot.clone(),
        data: options.data.clone(),
        run: options.run.clone(),
        ..Places::card()
    };
    let told = apply(&places, &Interfaces::new(names.split_whitespace())).map_err(|error| {
        Failure::new(format!(
            "{}: {error}: the node has no configuration; run as root, or name another folder with --run",
            places.run.display()
        ))
    })?;
    output.line(&document(&told.findings), &told.report.replace('\r', ""))
}

/// Serves setup mode's page.
pub(super) fn setup(output: &Output, listen: SocketAddr, seconds: u32) -> Result<(), Failure> {
    let names = present();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let setup = Setup::bind(
        Places::find(None),
        Interfaces::new(names.split_whitespace()),
        hostname.trim().to_owned(),
        listen,
        Duration::from_secs(u64::from(seconds)),
    )
    .map_err(Failure::new)?;
    let address = setup.address().map_err(Failure::new)?;
    output.line(
        &json!({ "listening": address }),
        &format!("setup mode's page is at {address}"),
    )?;
    let (asked, text) = match setup.run() {
        Ended::Asked => (true, "somebody wants the node to start again"),
        Ended::Late => (false, "the time of setup mode is over"),
    };
    output.line(&json!({ "asked": asked }), text)
}

fn check_file(output: &Output, path: &Path, interfaces: &Interfaces) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut bytes = Vec::new();
    let limit = MAX_FILE as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| Failure::usage(format!("{}: {error}: name a file", path.display())))?;
    let findings = check(&name, &bytes, interfaces);
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let problems = findings.iter().filter(|finding| finding.is_problem()).count();
    if problems == 0 {
        text.push_str("a node takes this file as it is");
    }
    output.line(&document(&findings), &text)?;
    let counts = findings.iter().all(|finding| finding.weight > Weight::Wrong);
    match problems {
        0 => Ok(()),
        _ if counts => Err(Failure::new(
            "a node takes this file without what stands above: correct it",
        )),
        _ => Err(Failure::new(
            "a node does not take this file: correct what stands above",
        )),
    }
}

fn document(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        let weight = match finding.weight {
            Weight::Garbage => "garbage",
            Weight::Wrong => "wrong",
            Weight::Odd => "odd",
            Weight::Note => "note",
        };
        json!({ "weight": weight, "text": finding.to_string() })
    };
    json!({ "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

/// Names of this machine's interfaces.
fn present() -> String {
    let folder = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut names: Vec<_> = folder
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.join(" ")
}
