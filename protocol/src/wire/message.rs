//! Every message kind. Numbers, fields and their order are frozen: new kinds are added at the end, and messages
//! that may grow carry extensions.

use super::schema::wire_type;
use super::types::{BindingClass, HeaderBytes, Signature};
use super::{DecodeError, ErrorCode, codec};
use crate::base::limits::{MAX_EXT, MAX_EXT_VALUE, MAX_FUNDING_TX};
use crate::base::{
    AccountId, BlockHeight, ByteCount, ChannelId, GenesisHash, Msat, NodeId, Outpoint, Sat, Txid,
};
use alloc::vec::Vec;
use heapless::Vec as Bounded;

wire_type! {
    /// One extension: odd types may be ignored, even ones must be understood.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct ExtEntry {
        /// Type, rising within a message.
        pub kind: u16,
        /// Its value.
        pub value: Bounded<u8, MAX_EXT_VALUE>,
    }
}

/// Extensions of a message, sorted by type.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Ext(pub Bounded<ExtEntry, MAX_EXT>);

impl Ext {
    /// This version knows no extension: even types are refused, odd ones pass, order is enforced.
    fn check(&self) -> Result<(), DecodeError> {
        let sorted = self
            .0
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a.kind < b.kind));
        let optional = self.0.iter().all(|entry| entry.kind % 2 == 1);
        if sorted && optional {
            Ok(())
        } else {
            Err(DecodeError::Extension)
        }
    }
}

macro_rules! messages {
    ($($(#[$doc:meta])* $number:literal $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? } $($ext:ident)?;)*) => {
        $(wire_type! {
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, Debug)]
            pub struct $name { $($(#[$fdoc])* pub $field: $ty),* }
        })*

        /// A message kind by its frozen number.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind, by rising number.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),*];

            /// The frozen number.
            pub const fn number(self) -> u16 {
                match self { $(Kind::$name => $number,)* }
            }

            /// The kind with this number, if this version knows it.
            pub const fn from_number(number: u16) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }

        /// One message.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant)] // a message lives for one call; boxing would need a heap on the hot path
        #[non_exhaustive]
        pub enum Message { $($(#[$doc])* $name($name),)* }

        impl Message {
            /// Its kind.
            pub const fn kind(&self) -> Kind {
                match self { $(Message::$name(_) => Kind::$name,)* }
            }

            pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
                match self { $(Message::$name(m) => codec::encode_into(m, out),)* }
            }

            pub(super) fn decode_body(kind: Kind, body: &[u8]) -> Result<Message, DecodeError> {
                match kind { $(Kind::$name => {
                    let m: $name = codec::decode(body)?;
                    $(m.$ext.check()?;)?
                    Ok(Message::$name(m))
                })* }
            }
        }

        $(impl From<$name> for Message {
            fn from(m: $name) -> Message { Message::$name(m) }
        })*

        pub(super) const SCHEMAS: &[&str] = &[
            ExtEntry::SCHEMA,
            $(concat!(stringify!($number), " "), $name::SCHEMA,)*
        ];
    };
}

messages! {
    /// First message of each side.
    1 Hello {
        /// The sender's chain.
        genesis: GenesisHash,
        /// The lowest height that the sender's chain can have now.
        height: BlockHeight,
        /// How often the sender's store was opened; a copied card shows an old one.
        generation: u64,
        /// The highest generation of the receiver that the sender has seen, 0 if none.
        seen_generation: u64,
        /// Extensions.
        ext: Ext,
    } ext;
    /// Asks what is sold.
    2 OfferRequest {
        /// Extensions.
        ext: Ext,
    } ext;
    /// What is sold here; sent again, unasked, when prices change.
    3 Offer {
        /// Short name of the sheet in this session.
        sheet_id: u8,
        /// A [`super::PriceSheet`] as signed.
        sheet: Bounded<u8, 96>,
        /// The relay's signature over it.
        signature: Signature,
        /// Smallest capacity taken.
        capacity_min: Sat,
        /// Largest capacity taken.
        capacity_max: Sat,
        /// Shortest channel lifetime taken, blocks.
        lifetime_min: u32,
        /// Longest channel lifetime taken, blocks.
        lifetime_max: u32,
        /// Credit given before the funding is deep.
        unconfirmed: Msat,
        /// What the relay reckons that settling costs now, which it bears itself.
        settle_cost: Sat,
        /// Extensions.
        ext: Ext,
    } ext;
    /// A payer asks for a channel.
    4 OpenRequest {
        /// The payer's key for this channel only.
        payer_key: NodeId,
        /// Capacity.
        capacity: Sat,
        /// Expiry height.
        expiry: BlockHeight,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The payee's signed acceptance (money.md rule 1): tag `turnpike/accept/v1`.
    5 OpenAccept {
        /// Which request is answered.
        payer_key: NodeId,
        /// The payee's key for this channel only.
        payee_key: NodeId,
        /// Capacity.
        capacity: Sat,
        /// Expiry height.
        expiry: BlockHeight,
        /// Last height at which the funding may confirm.
        accept_until: BlockHeight,
        /// The payee's identity signature.
        signature: Signature,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The payer has signed the funding; the payee may broadcast it too.
    6 Funded {
        /// Which acceptance.
        payer_key: NodeId,
        /// The channel's output.
        outpoint: Outpoint,
        /// The raw transaction; empty when the payee has it already.
        tx: Bounded<u8, MAX_FUNDING_TX>,
        /// Extensions.
        ext: Ext,
    } ext;
    /// A payer comes back to a channel (after a reconnect or a restart of either side).
    7 Resume {
        /// The channel.
        channel: ChannelId,
        /// The payer's newest total.
        total: Msat,
        /// The payer's newest payment signature; all zero when the total is zero.
        signature: Signature,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The payee knows the channel; also the answer to `Resume`.
    8 ChannelReady {
        /// The channel.
        channel: ChannelId,
        /// Its short name in this session.
        short: u16,
        /// The newest total that the payee has.
        total: Msat,
        /// The payer's signature for that total: proof to a payer who restored an old backup.
        signature: Signature,
        /// Totals above this are refused for now (unconfirmed or dark).
        ceiling: Msat,
        /// The payee accepts payments.
        open: bool,
        /// Extensions.
        ext: Ext,
    } ext;
    /// Opens a service account for packets of the given addresses.
    9 BindRequest {
        /// The account's short name in this session.
        account: AccountId,
        /// The paying channel's short name.
        channel: u16,
        /// How packets are bound.
        class: BindingClass,
        /// Further addresses of this device on the link: IPv6, or IPv4 mapped into IPv6 (RFC 4291).
        addresses: Bounded<[u8; 16], 4>,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The account is open.
    10 Bound {
        /// The account.
        account: AccountId,
        /// Bytes that may pass in all, free allowance included.
        granted: ByteCount,
        /// Milliseconds without a sign of life after which service pauses.
        liveness_ms: u32,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The metering path: a cumulative payment. No extensions, since it must stay small.
    11 Payment {
        /// The channel's short name in this session.
        channel: u16,
        /// The service account that is credited.
        account: AccountId,
        /// Short name of the price sheet.
        sheet: u8,
        /// Everything paid in this channel so far.
        total: Msat,
        /// The payer's signature over its remainder (money.md rule 5).
        signature: Signature,
    };
    /// The payment is durable and the gate is open so far.
    12 PaymentAck {
        /// The channel's short name in this session.
        channel: u16,
        /// The account that was credited.
        account: AccountId,
        /// The newest total that the payee has.
        total: Msat,
        /// Bytes that may pass in all.
        granted: ByteCount,
    };
    /// What the relay counted: sent on change, when credit runs low, and when asked.
    13 Usage {
        /// The account.
        account: AccountId,
        /// Bytes from the client, cumulative over the channel.
        up: ByteCount,
        /// Bytes to the client, cumulative over the channel.
        down: ByteCount,
        /// Seconds that the binding was open.
        seconds: u64,
        /// What all of that cost.
        cost: Msat,
        /// What was paid for it.
        paid: Msat,
        /// Bytes that may pass in all.
        granted: ByteCount,
        /// The gate has dropped a packet for want of credit.
        exhausted: bool,
    };
    /// Asks for a signed receipt now.
    14 ReceiptRequest {
        /// The account.
        account: AccountId,
    };
    /// A stretch ends: the relay's receipt and signature.
    15 ReceiptOffer {
        /// The account.
        account: AccountId,
        /// A [`super::Receipt`] as signed.
        receipt: Bounded<u8, 224>,
        /// The relay's signature.
        signature: Signature,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The client agrees with the receipt.
    16 ReceiptAnswer {
        /// The account.
        account: AccountId,
        /// The receipt's number.
        sequence: u32,
        /// The client's signature over the same bytes.
        signature: Signature,
    };
    /// The client is still there, at the address that the session runs over.
    17 Liveness {
        /// The account.
        account: AccountId,
        /// Rises by one.
        counter: u32,
    };
    /// The client wants no more service for now; credit is kept.
    18 Stop {
        /// The account.
        account: AccountId,
    };
    /// The payer asks the payee to settle on chain.
    19 CloseRequest {
        /// The channel.
        channel: ChannelId,
        /// Extensions.
        ext: Ext,
    } ext;
    /// The channel is being settled.
    20 CloseNotice {
        /// The channel.
        channel: ChannelId,
        /// The settlement that was broadcast last.
        txid: Txid,
        /// What the payee takes.
        paid: Sat,
        /// Extensions.
        ext: Ext,
    } ext;
    /// Block headers, proof of a minimum height (money.md rule 15).
    21 Headers {
        /// Height of the first one.
        first: BlockHeight,
        /// The headers, each on top of the one before.
        headers: Bounded<HeaderBytes, 48>,
    };
    /// A refusal.
    22 Problem {
        /// Why.
        code: ErrorCode,
        /// The kind of the refused message, 0 if none.
        about: u16,
        /// A number that belongs to the code (a height, a total), 0 if none.
        detail: u64,
        /// Extensions.
        ext: Ext,
    } ext;
}
