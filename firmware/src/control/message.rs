//! The lines themselves.

use super::{Progress, Request, Response, VERSION};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The one line that a client sends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What it wants.
    pub request: Request,
}

impl From<Request> for Envelope {
    fn from(request: Request) -> Self {
        Envelope {
            version: VERSION,
            request,
        }
    }
}

/// One line that the daemon sends. After `Done` or `Failed` it closes the connection.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// It goes on.
    Progress(Progress),
    /// It is done.
    Done(Response),
    /// It was not done.
    Failed(Failed),
}

/// Why a request was not fulfilled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// Whose move it is.
    pub reason: Reason,
    /// What happened and what it means, without a line break.
    pub error: String,
    /// What to do, without a line break.
    pub remedy: String,
}

/// Whose move it is after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request or the configuration has to change; the same request will fail again.
    Usage,
    /// Something outside has to change first: a peer, the chain, the wallet.
    Refused,
    /// The daemon cannot go on, or ended.
    Daemon,
}

impl Failed {
    /// Something outside has to change first.
    pub fn refused(error: impl ToString, remedy: impl ToString) -> Failed {
        Failed {
            reason: Reason::Refused,
            error: one_line(&error),
            remedy: one_line(&remedy),
        }
    }

    /// The request or the configuration has to change.
    pub fn usage(error: impl ToString, remedy: impl ToString) -> Failed {
        Failed {
            reason: Reason::Usage,
            ..Failed::refused(error, remedy)
        }
    }

    /// The daemon cannot go on.
    pub fn daemon(error: impl ToString, remedy: impl ToString) -> Failed {
        Failed {
            reason: Reason::Daemon,
            ..Failed::refused(error, remedy)
        }
    }

    /// From an error whose text is "what happened: what to do", as the project's errors read.
    pub fn from_error(error: impl ToString) -> Failed {
        let text = error.to_string();
        match text.rsplit_once(": ") {
            Some((error, remedy)) => Failed::refused(error, remedy),
            None => Failed::refused(text, ""),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if self.remedy.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.remedy)
        }
    }
}

/// A text for people: whatever a peer or a file put into it stays on its line, and the system's numbers of errors, which
/// say nothing to anybody, are left out.
pub fn one_line(text: &(impl ToString + ?Sized)) -> String {
    let text = text.to_string();
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while let Some(start) = line.find(" (os error ") {
        let Some(length) = line.get(start..).and_then(|rest| rest.find(')')) else {
            break;
        };
        line.replace_range(start..=start + length, "");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_system_errors_are_left_out() {
        assert_eq!(
            one_line("/a: No such file (os error 2): name b: (os error 13) x (os error"),
            "/a: No such file: name b: x (os error"
        );
    }
}
