//! Canonical postcard: one value, one encoding.
//!
//! postcard alone is neither canonical (a varint can be padded) nor strict (trailing bytes are dropped), so a
//! decoded value is encoded again into a flavour that compares it with the input, byte by byte, to its very end.

use alloc::vec::Vec;
use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Why bytes are not a value. The peer's fault, always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early or hold an impossible value.
    #[error("the bytes do not hold a value of this type")]
    Malformed,
    /// Bytes are left behind the value.
    #[error("bytes are left behind the value")]
    Trailing,
    /// The value has a shorter encoding than the one received.
    #[error("this is not the one encoding that the value has")]
    NotCanonical,
    /// Extension entries that are unsorted, repeated, or of an unknown even type.
    #[error("an extension of this message is unknown and must be understood, or the list is not sorted")]
    Extension,
}

/// Decodes a value that must fill `bytes` exactly, in its one encoding.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing);
    }
    match postcard::serialize_with_flavor(&value, Compare { left: bytes }) {
        Ok(true) => Ok(value),
        _ => Err(DecodeError::NotCanonical),
    }
}

/// Encodes a value. Wire types cannot fail to encode: they hold no maps, floats or unbounded parts.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Appends a value's encoding to `out`.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // The only error of the appending flavour is a serde error, which no wire type raises.
    let _ = postcard::serialize_with_flavor(value, Append { out });
}

struct Append<'a> {
    out: &'a mut Vec<u8>,
}

impl Flavor for Append<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.out.push(byte);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Takes what an encoder writes off the front of `left`; stops the encoder at the first difference.
struct Compare<'a> {
    left: &'a [u8],
}

impl Flavor for Compare<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        match self.left.strip_prefix(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.left.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_varint_is_refused() {
        assert_eq!(decode::<u16>(&[0x00]), Ok(0));
        assert_eq!(decode::<u16>(&[0x80, 0x00]), Err(DecodeError::NotCanonical));
        assert_eq!(decode::<u64>(&[0xff, 0x80, 0x00]), Err(DecodeError::NotCanonical));
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        assert_eq!(decode::<u16>(&[0x01, 0x00]), Err(DecodeError::Trailing));
        assert_eq!(decode::<(u16, u8)>(&[0x01]), Err(DecodeError::Malformed));
        assert_eq!(decode::<bool>(&[2]), Err(DecodeError::Malformed));
    }
}
