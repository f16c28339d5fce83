//! Values inside messages that are signed or kept beyond the message.

use crate::base::{BlockHeight, ByteCount, ChannelId, Msat, NodeId, SheetHash};
use crate::wire::schema::wire_type;
use core::fmt;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        // serde stops at arrays of 32; on the wire this is that many bytes, without a length.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut tuple = s.serialize_tuple($len)?;
                self.0.iter().try_for_each(|b| tuple.serialize_element(b))?;
                tuple.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Bytes;
                impl<'de> Visitor<'de> for Bytes {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!(stringify!($len), " bytes"))
                    }
                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let mut bytes = [0u8; $len];
                        for b in bytes.iter_mut() {
                            *b = seq.next_element()?.ok_or_else(|| A::Error::custom("too short"))?;
                        }
                        Ok($name(bytes))
                    }
                }
                d.deserialize_tuple($len, Bytes)
            }
        }
    };
}

fixed_bytes!(
    /// A BIP340 signature.
    Signature, 64
);
fixed_bytes!(
    /// A block header as it is hashed.
    HeaderBytes, 80
);

/// What binds packets to credit (DESIGN §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum BindingClass {
    /// MAC, IP addresses and port of an open Wi-Fi: small windows, liveness, pause on drift.
    Address,
    /// One association of a link with SAE or OWE and client isolation.
    Link,
    /// A WireGuard key: theft-proof per packet.
    Tunnel,
}

wire_type! {
    /// What a relay sells and for how much. Signed with tag `turnpike/sheet/v1`, signer the relay, no peer.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct PriceSheet {
        /// Rises with every change; a client never goes back to a lower one.
        pub version: u32,
        /// Last height at which a payment may name this sheet.
        pub valid_until: BlockHeight,
        /// Millisatoshi per MiB from the client.
        pub up: Msat,
        /// Millisatoshi per MiB to the client.
        pub down: Msat,
        /// Millisatoshi per second that the binding is open.
        pub per_second: Msat,
        /// Bytes that a key may use without paying, per 24 hours.
        pub free: ByteCount,
        /// Smallest window that may be bought.
        pub window_min: ByteCount,
        /// Largest window that may be bought: it bounds what a payer has prepaid.
        pub window_max: ByteCount,
        /// What guests are bound by.
        pub class: BindingClass,
    }
}

wire_type! {
    /// The end of a stretch: cumulative figures of one service account that both sides sign, tag
    /// `turnpike/receipt/v1`, instance the channel.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Receipt {
        /// Who sold.
        pub relay: NodeId,
        /// Who bought.
        pub client: NodeId,
        /// The channel that paid.
        pub channel: ChannelId,
        /// Number of this receipt in the channel, from 1, without gaps.
        pub sequence: u32,
        /// The sheet in force at the end of the stretch.
        pub sheet: SheetHash,
        /// The relay's height when it signed.
        pub height: BlockHeight,
        /// Bytes from the client since the channel opened.
        pub up: ByteCount,
        /// Bytes to the client since the channel opened.
        pub down: ByteCount,
        /// Seconds that the binding was open since the channel opened.
        pub seconds: u64,
        /// What all of that cost.
        pub cost: Msat,
        /// What the client had paid for it.
        pub paid: Msat,
    }
}
