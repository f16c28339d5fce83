//! How the command line ends when it does not end well.

use super::arguments::Arguments;
use super::doctor::denied;
use crate::config::ConfigError;
use crate::control::{ClientError, Failed, Reason, one_line};
use crate::store::StoreError;
use clap::CommandFactory;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

/// One line and an exit status.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    line: String,
}

impl Failure {
    /// Status 1.
    pub(super) fn new(line: impl Display) -> Failure {
        Failure {
            status: 1,
            line: line.to_string(),
        }
    }

    /// Status 2: arguments or configuration have to change.
    pub(super) fn usage(line: impl Display) -> Failure {
        Failure {
            status: 2,
            line: line.to_string(),
        }
    }

    /// Status 3: what was asked about is genuine, but one side's claim only.
    pub(super) fn claim(line: impl Display) -> Failure {
        Failure {
            status: 3,
            line: line.to_string(),
        }
    }

    /// Nobody reads what is printed, as with `| head`: no reason for a word.
    pub(super) fn silent() -> Failure {
        Failure {
            status: 0,
            line: String::new(),
        }
    }

    /// Says it and gives the status.
    pub(super) fn report(&self) -> ExitCode {
        if !self.line.is_empty() {
            eprintln!("turnpike: {}", one_line(&self.line));
        }
        ExitCode::from(self.status)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Denied { path } => match denied(path) {
                Some(whose) => Failure::new(format!("permission denied: {whose}")),
                None => Failure::new(error),
            },
            _ => Failure::new(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::new(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::usage(error)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed.reason {
            Reason::Usage => Failure::usage(failed),
            Reason::Refused | Reason::Daemon => Failure::new(failed),
        }
    }
}

/// What clap says about wrong arguments, in one line; help and version as they are.
pub(super) fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            drop(error.print());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            drop(error.print());
            ExitCode::from(2)
        }
        _ => {
            let said = error.to_string();
            Failure::usage(format!(
                "{}: see `{} --help`",
                usage_text(&said),
                command_of(arguments)
            ))
            .report()
        }
    }
}

/// The command that these words begin, whose help says how they go on.
fn command_of(arguments: &[OsString]) -> String {
    let whole = Arguments::command();
    let mut command = &whole;
    let mut name = command.get_name().to_owned();
    for word in arguments.iter().skip(1) {
        if let Some(below) = word.to_str().and_then(|word| command.find_subcommand(word)) {
            command = below;
            name = format!("{name} {}", below.get_name());
        }
    }
    name
}

fn usage_text(text: &str) -> String {
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        said.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let said: Vec<_> = said.collect();
    said.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_that_is_named_is_that_of_the_command() {
        for (words, command) in [
            ("turnpike --json buy --max-sat -5", "turnpike buy"),
            ("turnpike channel close -1", "turnpike channel close"),
            ("turnpike channel fly", "turnpike channel"),
            ("turnpike fly", "turnpike"),
            ("turnpike", "turnpike"),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(command_of(&words), command, "{words:?}");
        }
    }
}
