//! The other end, for programs that wait: one connection, one request, an iterator over the answer.

use super::{Envelope, MAX_ANSWER, Message, Request};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A connection that has not asked yet.
#[derive(Debug)]
pub struct ControlClient {
    stream: UnixStream,
}

/// The answer, line by line. It ends after [`Message::Done`], [`Message::Failed`], or an error. Dropping it closes the
/// connection, which stops what the request had begun where its page says so.
#[derive(Debug)]
pub struct Messages {
    lines: BufReader<UnixStream>,
    over: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No socket, or nobody behind it.
    #[error(
        "turnpiked is not running here ({path}): start it with `systemctl start turnpiked`, or run `turnpiked`"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// This user may not.
    #[error("{path}: permission denied: run this as the user who runs turnpiked")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The connection broke before the answer was complete.
    #[error("turnpiked ended before it answered: read its log, and start it again")]
    Ended,
    /// The answer is no answer.
    #[error("turnpiked's answer cannot be read ({0}): install turnpike and turnpiked of the same release")]
    Unreadable(String),
    /// The system refused.
    #[error("{path}: {error}: check the data folder")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl ControlClient {
    /// Connects to the daemon behind this socket.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(path: &Path) -> Result<ControlClient, ClientError> {
        let owned = path.to_owned();
        match UnixStream::connect(path) {
            Ok(stream) => Ok(ControlClient { stream }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NotRunning { path: owned }
                }
                io::ErrorKind::PermissionDenied => ClientError::Denied { path: owned },
                _ => ClientError::Io { path: owned, error },
            }),
        }
    }

    /// Sends the request.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] where it cannot be written as JSON. What the daemon says comes with the messages,
    /// a refusal of the connection too.
    pub fn request(mut self, request: Request) -> Result<Messages, ClientError> {
        let mut line = serde_json::to_vec(&Envelope::from(request))
            .map_err(|e| ClientError::Unreadable(e.to_string()))?;
        line.push(b'\n');
        // A daemon that is full has answered and closed already: its reason is still there to be read.
        drop(self.stream.write_all(&line));
        Ok(Messages {
            lines: BufReader::new(self.stream),
            over: false,
        })
    }
}

impl Messages {
    fn read(&mut self) -> Result<Message, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.lines)
            .take(MAX_ANSWER as u64)
            .read_until(b'\n', &mut line);
        if read.is_err() || !line.ends_with(b"\n") {
            return Err(ClientError::Ended);
        }
        serde_json::from_slice(&line).map_err(|error| ClientError::Unreadable(error.to_string()))
    }
}

impl Iterator for Messages {
    type Item = Result<Message, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let message = self.read();
        self.over = !matches!(message, Ok(Message::Progress(_)));
        Some(message)
    }
}
