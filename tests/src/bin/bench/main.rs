//! `make bench`: measures what the project promises, both sides of every comparison in turn in the same run, and
//! writes `target/bench.json`. `make bench ONLY=name` measures one figure.
//!
//! Each measurement is a process of its own, so that none inherits what another left: a bound core, a network.

mod cut;
mod forward;
mod idle;
mod mcu;
mod overhead;
mod payments;
mod rtt;
mod wire;

use std::path::Path;
use std::process::{Command, ExitCode};
use turnpike_tests::figure::{Entry, Figure, table};
use turnpike_tests::lab;

/// A measurement: the names of the figures that it gives, and how.
struct Measurement {
    names: &'static [&'static str],
    run: fn() -> Vec<Figure>,
    /// Whether it is measured in a network of namespaces.
    lab: bool,
}

const ALL: &[Measurement] = &[
    Measurement {
        names: &["forward_ratio"],
        run: forward::with_offload,
        lab: true,
    },
    Measurement {
        names: &["forward_ratio_small"],
        run: forward::without_offload,
        lab: true,
    },
    Measurement {
        names: &["forward_ratio_bare", "forward_ratio_small_bare"],
        run: forward::against_bare,
        lab: true,
    },
    Measurement {
        names: &["payments_ratio"],
        run: payments::payments_ratio,
        lab: false,
    },
    Measurement {
        names: &["payment_bytes"],
        run: wire::payment_bytes,
        lab: false,
    },
    Measurement {
        names: &["payment_rtt_us", "payment_rtt_p99_us"],
        run: rtt::payment_rtt,
        lab: true,
    },
    Measurement {
        names: &["unpaid_bytes", "stranded_bytes"],
        run: cut::without_offload,
        lab: true,
    },
    Measurement {
        names: &["unpaid_bytes_offload", "stranded_bytes_offload"],
        run: cut::with_offload,
        lab: true,
    },
    Measurement {
        names: &["overhead_ppm"],
        run: overhead::overhead_ppm,
        lab: true,
    },
    Measurement {
        names: &["idle_rss_kib", "idle_wakeups"],
        run: idle::idle,
        lab: true,
    },
    Measurement {
        names: &["mcu_text_bytes", "mcu_ram_bytes"],
        run: mcu::mcu,
        lab: false,
    },
];

/// Word that tells this program to take one measurement and to write what it gives into a file.
const MEASURE: &str = "--measure";
const JSON: &str = "target/bench.json";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [MEASURE, name, file] => measure(name, Path::new(file)),
        [] | [""] => all(None),
        [only] => all(Some(only)),
        _ => {
            eprintln!("usage: bench [NAME]");
            ExitCode::from(2)
        }
    }
}

/// The inner process: one measurement.
fn measure(name: &str, file: &Path) -> ExitCode {
    let measurement = ALL
        .iter()
        .find(|m| m.names[0] == name)
        .expect("the outer process knows the names");
    if measurement.lab {
        lab::enter();
    }
    let figures = serde_json::to_vec(&(measurement.run)()).expect("figures are plain");
    std::fs::write(file, figures).expect("the outer process made the folder");
    ExitCode::SUCCESS
}

/// The outer process: starts a process for each measurement that is wanted, and prints what they give.
fn all(only: Option<&str>) -> ExitCode {
    let wanted: Vec<_> = ALL
        .iter()
        .filter(|m| only.is_none_or(|name| m.names.contains(&name)))
        .collect();
    if wanted.is_empty() {
        let names: Vec<&str> = ALL.iter().flat_map(|m| m.names).copied().collect();
        eprintln!("no figure has this name; there are: {}", names.join(" "));
        return ExitCode::from(2);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for measurement in wanted {
        eprintln!("measuring {}", measurement.names.join(" "));
        match outcome(measurement, &folder.path().join("figures")) {
            Some(found) => figures.extend(found),
            None => failed.push(measurement.names.join(" ")),
        }
    }
    if let Some(name) = only {
        figures.retain(|f| f.name == name);
    }
    print!("{}", table(&figures));
    let entries: Vec<Entry<'_>> = figures.iter().map(Figure::entry).collect();
    let json = serde_json::to_string_pretty(&entries).expect("figures are plain");
    if let Err(error) = std::fs::create_dir_all("target").and_then(|()| std::fs::write(JSON, json + "\n")) {
        eprintln!("{JSON}: {error}");
        return ExitCode::FAILURE;
    }
    for names in &failed {
        eprintln!("bench: {names} could not be measured; the reason stands above");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn outcome(measurement: &Measurement, file: &Path) -> Option<Vec<Figure>> {
    let program = std::env::current_exe().expect("own path");
    let status = Command::new(program)
        .args([MEASURE, measurement.names[0]])
        .arg(file)
        .status()
        .expect("this program starts");
    if !status.success() {
        return None;
    }
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}
