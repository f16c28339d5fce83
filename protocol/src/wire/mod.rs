//! The bytes between two nodes: frames, message kinds, canonical encoding.
//!
//! What comes in: one decrypted frame. What goes out: one valid [`Message`], or an error that says what follows.
//! What it never does: allocate more than the frame it was given, accept two encodings of one value, or decide.
//! Spec page: `protocol/spec/wire.md`.

mod codec;
mod error_code;
mod frame;
#[cfg(any(test, feature = "vectors"))]
pub mod golden;
mod message;
mod schema;
mod types;

pub use codec::{DecodeError, decode, encode, encode_into};
pub use error_code::{Consequence, ErrorCode};
pub use frame::{FrameError, VERSION, read_frame, write_frame};
pub use message::{
    BindRequest, Bound, ChannelReady, CloseNotice, CloseRequest, Ext, ExtEntry, Funded, Headers, Hello, Kind,
    Liveness, Message, Offer, OfferRequest, OpenAccept, OpenRequest, Payment, PaymentAck, Problem,
    ReceiptAnswer, ReceiptOffer, ReceiptRequest, Resume, Stop, Usage,
};
pub use schema::schema_text;
pub use types::{BindingClass, HeaderBytes, PriceSheet, Receipt, Signature};
