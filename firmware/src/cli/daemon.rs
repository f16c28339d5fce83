//! Asking the daemon.

use super::{Failure, Place};
use crate::control::{ControlClient, Message, Progress, Request, Response};

/// The answer to a request; what goes on meanwhile is left out.
pub(super) fn ask(place: &Place, request: Request) -> Result<Response, Failure> {
    ask_with(place, request, |_| Ok(()))
}

/// The answer to a request; `progress` is told what goes on meanwhile, and an error of its ends the request.
pub(super) fn ask_with(
    place: &Place,
    request: Request,
    mut progress: impl FnMut(Progress) -> Result<(), Failure>,
) -> Result<Response, Failure> {
    for message in ControlClient::connect(&place.socket()?)?.request(request)? {
        match message? {
            Message::Progress(step) => progress(step)?,
            Message::Done(response) => return Ok(response),
            Message::Failed(failed) => return Err(failed.into()),
        }
    }
    Err(Failure::from(crate::control::ClientError::Ended))
}

/// The daemon gave the answer to another question.
pub(super) fn unexpected() -> Failure {
    Failure::new("turnpiked answered something else: install turnpike and turnpiked of the same release")
}
