//! A frame on its way from a connection to the node.

use std::fmt;
use std::ops::Deref;
use tokio::sync::OwnedSemaphorePermit;

/// A plain frame: version byte, kind, body. Reads as bytes.
///
/// It occupies one of its connection's few places until it is dropped, so that no connection can fill the node's
/// channel: drop it when it was handled.
pub struct Frame {
    bytes: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Frame {
    pub(super) fn holding(bytes: Vec<u8>, place: OwnedSemaphorePermit) -> Frame {
        Frame {
            bytes,
            _place: Some(place),
        }
    }
}

impl From<Vec<u8>> for Frame {
    /// A frame that came from no connection and occupies nothing.
    fn from(bytes: Vec<u8>) -> Frame {
        Frame { bytes, _place: None }
    }
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Vec<u8> {
        frame.bytes
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    /// The length only: frames carry signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.bytes.len())
    }
}
