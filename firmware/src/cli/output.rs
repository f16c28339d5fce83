//! Where text goes: results to standard output, the rest to standard error.

use super::{Failure, show};
use crate::control::Response;
use serde::Serialize;
use serde_json::Value;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// As JSON.
    pub json: bool,
}

impl Output {
    /// An answer: for people, or the answer's fields as one document.
    pub(super) fn response(&self, response: &Response) -> Result<(), Failure> {
        self.line(&fields(response), &show::response(response))
    }

    /// One document or the text for people.
    pub(super) fn line(&self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string(value).map_err(Failure::new)?;
            return self.bytes(format!("{line}\n").as_bytes());
        }
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            Ok(())
        } else {
            self.bytes(format!("{text}\n").as_bytes())
        }
    }

    /// As it is.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::silent()),
            Err(error) => Err(Failure::new(format!(
                "standard output: {error}: redirect it elsewhere"
            ))),
        }
    }

    /// What goes on, for people; never in the way of results.
    pub(super) fn note(&self, text: &str) {
        if !self.json {
            drop(writeln!(stderr().lock(), "{text}"));
        }
    }

    /// Whether a progress bar makes sense.
    pub(super) fn bar(&self) -> bool {
        !self.json && stderr().is_terminal()
    }
}

/// An answer's fields without its name: who asked knows the name.
pub(super) fn fields(response: &Response) -> Value {
    match serde_json::to_value(response) {
        Ok(Value::Object(named)) if named.len() == 1 => {
            named.into_iter().next().map_or(Value::Null, |(_, v)| v)
        }
        Ok(other) => other,
        Err(_) => Value::Null,
    }
}
