//! `make bench`: measures what the project promises, both sides of every comparison in turn in the same run, and
//! writes `target/bench.json`. `make bench ONLY=name` measures one figure.

mod figure;
mod forward;
mod payments;
mod wire;

use figure::{Figure, table};
use std::process::ExitCode;

/// A measurement: the names of the figures that it gives, and how.
struct Measurement {
    names: &'static [&'static str],
    run: fn() -> Vec<Figure>,
    /// Whether it is measured in a network of namespaces.
    lab: bool,
}

const ALL: &[Measurement] = &[
    Measurement {
        names: &["payment_bytes"],
        run: wire::payment_bytes,
        lab: false,
    },
    Measurement {
        names: &["payments_ratio"],
        run: payments::payments_ratio,
        lab: false,
    },
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
];

fn main() -> ExitCode {
    let only = std::env::args().nth(1).filter(|name| !name.is_empty());
    let wanted = |m: &&Measurement| only.as_deref().is_none_or(|name| m.names.contains(&name));
    if ALL.iter().filter(wanted).any(|m| m.lab) {
        turnpike_tests::lab::enter();
    }
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
