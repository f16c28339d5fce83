//! `turnpike`: the owner's command line; under the name `turnpiked` the daemon.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next();
    if name.is_some_and(|name| Path::new(&name).file_name() == Some("turnpiked".as_ref())) {
        return turnpike_firmware::daemon::program();
    }
    turnpike_firmware::cli::run(std::env::args_os())
}
