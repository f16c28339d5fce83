//! The daemon's `main`: options, log, limits, runtime. `turnpiked` runs it, and so does `turnpike` under that name: the card
//! carries one program under two names.

use super::{StartError, run};
use crate::config::{Config, config_file};
use crate::control::one_line;
use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sells, buys and forwards metered bandwidth.
#[derive(Parser)]
#[command(name = "turnpiked", version)]
struct Options {
    /// The configuration file [default: /etc/turnpike/turnpike.toml, else ~/.config/turnpike/turnpike.toml].
    #[arg(long, env = "TURNPIKE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the daemon until it is told to stop. Exit status 2: something is wrong with options or configuration.
pub fn program() -> ExitCode {
    let options = Options::parse();
    let config = match Config::read(&config_file(options.config.as_deref())) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(config.log_level.to_string()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for terminals; a journal or a file would show their codes.
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    // A thousand sessions, the store and the control socket need more than the usual 1,024 descriptors.
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, files) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // Two threads: one may wait for the disk while the other serves sessions.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                &format!("the system gives no threads: {error}; free some memory"),
                1,
            );
        }
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::Config(_)) => fail(&error, 2),
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    eprintln!("turnpiked: {}", one_line(&error));
    ExitCode::from(status)
}
