//! One frame: version byte, message kind, body. Length and authenticity come from the session around it.

use crate::base::limits::{MAX_BODY, MAX_FRAME};
use crate::wire::codec::{self, DecodeError};
use crate::wire::{Kind, Message};
use alloc::vec::Vec;
use thiserror::Error;

/// The wire version that this build speaks.
pub const VERSION: u8 = 1;

/// Why a frame gave no message. The peer's fault, always; [`FrameError::UnknownKind`] alone is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame is this short or this long.
    #[error("a frame of this length cannot hold a message")]
    Length,
    /// Another wire version.
    #[error("the peer speaks wire version {0}, this node speaks {VERSION}: update the older one")]
    Version(u8),
    /// A kind that this build does not know: skipped, since peers may be newer.
    #[error("message kind {0} is unknown here and was skipped")]
    UnknownKind(u16),
    /// The body does not decode.
    #[error("the body of message kind {kind} is refused: {error}")]
    Body {
        /// The kind.
        kind: u16,
        /// What is wrong.
        error: DecodeError,
    },
}

/// Appends one frame to `out`.
pub fn write_frame(message: &Message, out: &mut Vec<u8>) {
    out.push(VERSION);
    codec::encode_into(&message.kind().number(), out);
    message.encode_body(out);
}

/// Reads one frame. Version, length and kind are checked before anything is decoded.
pub fn read_frame(frame: &[u8]) -> Result<Message, FrameError> {
    if frame.len() > MAX_FRAME {
        return Err(FrameError::Length);
    }
    let (&version, rest) = frame.split_first().ok_or(FrameError::Length)?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let (number, body) = postcard::take_from_bytes::<u16>(rest).map_err(|_| FrameError::Length)?;
    let width = rest.len() - body.len();
    if width
        != if number < 0x80 {
            1
        } else if number < 0x4000 {
            2
        } else {
            3
        }
    {
        return Err(FrameError::Body {
            kind: number,
            error: DecodeError::NotCanonical,
        });
    }
    if body.len() > MAX_BODY {
        return Err(FrameError::Length);
    }
    let kind = Kind::from_number(number).ok_or(FrameError::UnknownKind(number))?;
    Message::decode_body(kind, body).map_err(|error| FrameError::Body { kind: number, error })
}
