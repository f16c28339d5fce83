//! Names as text: 32 bytes as 64 hex digits, transaction ids in the order that explorers print.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use turnpike_protocol::base::{ChannelId, GenesisHash, NodeId, Outpoint, SheetHash, Txid};

/// A name, a hash or bytes, as hex in text and JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<T>(pub T);

/// The text is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("expected {expected}")]
pub struct HexError {
    /// What was expected.
    pub expected: &'static str,
}

/// What can stand in a [`Hex`].
pub trait HexText: Sized {
    /// What [`HexText::parse`] takes, for people.
    const EXPECTED: &'static str;

    /// The text of it.
    fn text(&self) -> String;

    /// Reads the text; `None` if it is not [`HexText::EXPECTED`]. Upper case is taken.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! forward {
    ($($name:ident, $expected:literal;)*) => {$(
        impl HexText for $name {
            const EXPECTED: &'static str = $expected;

            fn text(&self) -> String {
                digits(self.as_bytes())
            }

            fn parse(text: &str) -> Option<Self> {
                array(text).map($name::from_bytes)
            }
        }
    )*};
}

forward! {
    NodeId, "a node's identity, 64 hex digits";
    ChannelId, "a channel's name, 64 hex digits";
    SheetHash, "the hash of a price sheet, 64 hex digits";
}

macro_rules! reversed {
    ($($name:ident, $expected:literal;)*) => {$(
        impl HexText for $name {
            const EXPECTED: &'static str = $expected;

            fn text(&self) -> String {
                let mut bytes = *self.as_bytes();
                bytes.reverse();
                digits(&bytes)
            }

            fn parse(text: &str) -> Option<Self> {
                let mut bytes: [u8; 32] = array(text)?;
                bytes.reverse();
                Some($name::from_bytes(bytes))
            }
        }
    )*};
}

reversed! {
    Txid, "a transaction id, 64 hex digits";
    GenesisHash, "the hash of a chain's first block, 64 hex digits";
}

impl HexText for Outpoint {
    const EXPECTED: &'static str = "an outpoint: transaction id, colon, index";

    fn text(&self) -> String {
        format!("{}:{}", self.txid.text(), self.vout)
    }

    fn parse(text: &str) -> Option<Self> {
        let (txid, vout) = text.split_once(':')?;
        Some(Outpoint {
            txid: Txid::parse(txid)?,
            vout: vout.parse().ok()?,
        })
    }
}

impl<const N: usize> HexText for [u8; N] {
    const EXPECTED: &'static str = "bytes of a fixed number as hex digits";

    fn text(&self) -> String {
        digits(self)
    }

    fn parse(text: &str) -> Option<Self> {
        array(text)
    }
}

impl HexText for Vec<u8> {
    const EXPECTED: &'static str = "bytes as hex digits";

    fn text(&self) -> String {
        digits(self)
    }

    fn parse(text: &str) -> Option<Self> {
        bytes(text)
    }
}

impl<T: HexText> fmt::Display for Hex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text())
    }
}

impl<T: HexText> fmt::Debug for Hex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text())
    }
}

impl<T: HexText> FromStr for Hex<T> {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        T::parse(text).map(Hex).ok_or(HexError {
            expected: T::EXPECTED,
        })
    }
}

impl<T: HexText> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.text())
    }
}

impl<'de, T: HexText> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl<T> From<T> for Hex<T> {
    fn from(value: T) -> Self {
        Hex(value)
    }
}

fn digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |b: &u8| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]];
    bytes.iter().flat_map(pair).map(char::from).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| Some((digit(pair[0])? << 4) | digit(pair[1])?))
        .collect()
}

fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes(text)?.try_into().ok()
}
