//! What a node tells a peer when it refuses. One code has one meaning, and says what follows.

use serde::{Deserialize, Serialize};

/// What the sender of an error does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consequence {
    /// Nothing changes; the peer may try otherwise.
    Warn,
    /// The message was not acted on and the service is paused until the peer does what the code says.
    Pause,
    /// The connection ends; money and credit stay as they were.
    Disconnect,
    /// The channel is being settled on chain.
    Close,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $consequence:ident, $text:literal;)*) => {
        /// Why something was refused. Numbers are frozen.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a newer peer.
            Other(u16),
        }

        impl ErrorCode {
            /// The number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(ErrorCode::$name => $number,)* ErrorCode::Other(n) => n }
            }

            /// The code with this number.
            pub const fn from_number(number: u16) -> ErrorCode {
                match number { $($number => ErrorCode::$name,)* n => ErrorCode::Other(n) }
            }

            /// What the sender of this code does next.
            pub const fn consequence(self) -> Consequence {
                match self { $(ErrorCode::$name => Consequence::$consequence,)* ErrorCode::Other(_) => Consequence::Warn }
            }

            /// What happened and what to do, for people.
            pub const fn text(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* ErrorCode::Other(_) => "the peer gave a reason that this version does not know: update" }
            }
        }
    };
}

error_codes! {
    /// Genesis hashes differ.
    WrongChain = 1, Disconnect, "the peer uses another chain: both must name the same one in their configuration";
    /// A frame did not decode.
    Malformed = 2, Disconnect, "a message could not be read: one of the two programs is faulty or too old";
    /// A message that makes no sense now.
    OutOfOrder = 3, Warn, "a message came at the wrong moment and was ignored";
    /// Too many messages.
    TooFast = 4, Disconnect, "too many messages: wait a minute before connecting again";
    /// Capacity outside the relay's bounds.
    Capacity = 5, Warn, "the relay does not take a channel of this size: see the bounds in its offer";
    /// Lifetime outside the relay's bounds.
    Lifetime = 6, Warn, "the relay does not take a channel of this lifetime: see the bounds in its offer";
    /// Fees eat the channel.
    FeesTooHigh = 7, Warn, "on-chain fees are too high now for a channel of this size: wait, or open a larger one";
    /// No room.
    Full = 8, Warn, "the relay has no room for another channel or client: try later or another relay";
    /// Funding for terms that were never accepted, or too late.
    NotAccepted = 9, Warn, "the relay accepted no such channel; money already sent comes back at the expiry height";
    /// The funding transaction does not pay what was agreed.
    FundingMismatch = 10, Warn, "the funding transaction does not pay the agreed script and amount; it comes back at the expiry height";
    /// No such channel.
    UnknownChannel = 11, Warn, "the relay does not know this channel";
    /// A signature does not verify.
    BadSignature = 12, Disconnect, "a signature does not verify: nothing was credited";
    /// A payment below the newest one.
    TotalTooLow = 13, Warn, "the payment's total is below one received before: nothing was credited";
    /// A payment above the capacity.
    TotalTooHigh = 14, Pause, "the payment exceeds the channel's capacity: open a new channel";
    /// No such account.
    UnknownAccount = 15, Warn, "the payment names a service account that is not open: bind first";
    /// A payment names a sheet that is not in force.
    WrongSheet = 16, Pause, "prices have changed: read the new offer and pay by it";
    /// The channel takes no more payments.
    Closing = 17, Pause, "the channel is closing and takes no more payments: open a new one";
    /// Credit on unconfirmed or dark channels is used up.
    ExposureFull = 18, Pause, "the relay cannot yet rely on this channel's money: wait for confirmations";
    /// The kernel gate cannot be opened.
    GateDown = 19, Pause, "the relay cannot open its gate: no money was taken, tell its owner";
    /// The addresses do not belong to the link of this session.
    BindingRefused = 20, Pause, "the addresses could not be verified on the relay's link: reconnect over the guest network";
    /// Packets from elsewhere use the binding.
    BindingDrift = 21, Pause, "the address is used by another device: credit is kept, reconnect to go on";
    /// The other side knows a newer state of this store.
    CopiedStore = 22, Pause, "this card's data is older than what the peer has seen: restore properly, or settle";
    /// Owner's decision.
    Blocked = 23, Disconnect, "the relay's owner does not serve this key";
    /// Going down.
    Shutdown = 24, Disconnect, "the relay is shutting down: credit is kept";
    /// Counts differ beyond the tolerance.
    OverClaim = 25, Pause, "the relay claims more bytes than were seen here, beyond the tolerance: the client stops paying";
    /// A receipt's figures do not add up.
    ReceiptRefused = 26, Warn, "the receipt does not match what this side counted and was not signed";
    /// Headers do not connect or have too little work.
    BadHeaders = 27, Warn, "the block headers do not connect or lack work: ignored";
    /// The payee settles since expiry is near.
    Expiring = 28, Close, "the channel is near its expiry and is being settled: open a new one";
    /// The relay went too long without a sign of life from the client.
    NoLiveness = 29, Pause, "no sign of life from the client: service is paused, credit is kept";
    /// Money that had counted as paid never came, or came back to its payer; the detail is what is owed, millisatoshi.
    Debt = 30, Pause, "money paid here before never came or went back: the next payments go towards that before anything passes";
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u16::deserialize(d).map(ErrorCode::from_number)
    }
}
