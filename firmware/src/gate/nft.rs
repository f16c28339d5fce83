//! Runs the `nft` program, for what happens rarely: opening, attaching, detaching, closing.

use super::GateError;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Applies `script` as one transaction: all of it or nothing.
pub fn apply(script: &str) -> Result<(), GateError> {
    run(&["-f", "-"], script).map(drop)
}

/// Asks the kernel whether it would take `script`, and changes nothing.
pub fn would_accept(script: &str) -> Result<(), GateError> {
    run(&["-c", "-f", "-"], script).map(drop)
}

/// The table `inet name` as JSON, or `None` if there is none.
pub fn list(name: &str) -> Result<Option<Vec<u8>>, GateError> {
    match run(&["-j", "list", "table", "inet", name], "") {
        Err(GateError::Refused(text)) if text.contains("No such file or directory") => Ok(None),
        other => other.map(Some),
    }
}

fn run(arguments: &[&str], input: &str) -> Result<Vec<u8>, GateError> {
    let failed = GateError::kernel("running nft");
    let mut command = Command::new(program().ok_or(GateError::NoNft)?);
    command.args(arguments).env("LC_ALL", "C");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut exchange = || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // nft reads all of its input before it answers, so writing first cannot block for ever. It may also
            // leave early, for want of permission; then its exit status says so.
            match stdin.write_all(input.as_bytes()) {
                Err(e) if e.kind() != ErrorKind::BrokenPipe => return Err(e),
                _ => drop(stdin),
            }
        }
        child.wait_with_output()
    };
    let output = exchange().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text
        .lines()
        .find(|l| l.contains("rror"))
        .or(text.lines().next())
        .unwrap_or("no reason given");
    if text.contains("Operation not permitted") || text.contains("must be root") {
        return Err(GateError::NoPermission);
    }
    Err(GateError::Refused(first.trim().to_owned()))
}

/// Where nft is: on PATH, or where distributions put it for root only.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|d| d.join("nft"))
        .find(|p| p.is_file())
}
