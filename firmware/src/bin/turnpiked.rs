//! `turnpiked`: the node's daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnpike_firmware::daemon::program()
}
