//! `turnpike`: the owner's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnpike_firmware::cli::run(std::env::args_os())
}
