//! `make bench`: measures what the project promises, both sides of every comparison in turn in the same run, and
//! writes `target/bench.json`. `make bench ONLY=name` measures one figure.

mod figure;
mod payments;
mod wire;

use figure::{Figure, table};
use std::process::ExitCode;

/// A measurement: the names of the figures that it gives, and how.
struct Measurement {
    names: &'static [&'static str],
    run: fn() -> Vec<Figure>,
}

const ALL: &[Measurement] = &[
    Measurement {
        names: &["payment_bytes"],
        run: wire::payment_bytes,
    },
    Measurement {
        names: &["payments_ratio"],
        run: payments::payments_ratio,
    },
];

fn main() -> ExitCode {
    let only = std::env::args().nth(1).filter(|name| !name.is_empty());
    let wanted = |m: &&Measurement| only.as_deref().is_none_or(|name| m.names.contains(&name));
    let mut figures = Vec::new();
    for measurement in ALL.iter().filter(wanted) {
        figures.extend((measurement.run)());
    }
    if figures.is_empty() {
        let names: Vec<&str> = ALL.iter().flat_map(|m| m.names).copied().collect();
        eprintln!("no figure has this name; there are: {}", names.join(" "));
        return ExitCode::from(2);
    }
    if let Some(name) = only {
        figures.retain(|f| f.name == name);
    }
    print!("{}", table(&figures));
    let json = serde_json::to_string_pretty(&figures).expect("figures are plain");
    if let Err(error) =
        std::fs::create_dir_all("target").and_then(|()| std::fs::write("target/bench.json", json + "\n"))
    {
        eprintln!("target/bench.json: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
