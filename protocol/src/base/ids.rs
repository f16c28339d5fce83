//! Names of things: nodes, channels, accounts, transactions.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes as they stand on the wire.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                $name(bytes)
            }

            /// The 32 bytes as they stand on the wire.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id32!(
    /// A node's identity: its secp256k1 public key, x-only (BIP340).
    NodeId
);
id32!(
    /// Names a channel: tagged hash of the funding outpoint, so the first confirmed outpoint names it.
    ChannelId
);
id32!(
    /// Hash of block 0 of the chain that a channel lives on, in the byte order of the block header.
    GenesisHash
);
id32!(
    /// Tagged hash of a signed price sheet's bytes.
    SheetHash
);
id32!(
    /// Transaction id in internal byte order (the reverse of what explorers print).
    Txid
);

/// A transaction output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Outpoint {
    /// The transaction.
    pub txid: Txid,
    /// Index of the output in it.
    pub vout: u32,
}

/// A channel's row number in this node's own store; never reused, never shown to a peer as a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

/// Short id of a service account within one session, agreed on when the binding is opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u8);

/// A live connection, numbered by the shell; never reused while the process runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);
