//! The control socket: how the owner's programs speak to the daemon.
//!
//! What it does: carries one [`Request`] per connection over a unix socket, as lines of JSON, and its answer: any
//! number of [`Progress`] lines, then one [`Response`] or one [`Failed`].
//! What comes in: connections of the user who owns the data folder. What goes out: requests with a [`Responder`] each.
//! What it never does: decide anything, wait for a reader who does not read, carry a secret.
//! Spec page: `protocol/spec/control.md`.

pub mod amount;
mod client;
mod event;
mod hex;
mod message;
mod progress;
mod request;
mod response;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientError, ControlClient, Messages};
pub use event::Event;
pub use hex::{Hex, HexError, HexText};
pub use message::{Envelope, Failed, Message, Reason, one_line};
pub use progress::{Progress, Purchase, PurchaseState, StopCause};
pub use request::{PriceChange, Request, Standing, Target, Which};
pub use response::{
    Balance, BindingClass, Channel, Check, CheckState, Client, Discovered, Exposure, ExposureRow, Prices,
    Quote, ReceiptCopy, Refund, RelayStatus, Response, Role, SalesRow, SessionStatus, Status,
};
pub use server::{BindError, ControlServer, Gone, Order, Responder};

/// Version of the protocol. It rises when a field changes its meaning or goes away, not when one is added.
pub const VERSION: u32 = 1;
/// Name of the socket in the data folder.
pub const SOCKET: &str = "control.sock";
/// Longest request, bytes, its line end included: the longest field is a file name.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Longest line of an answer, bytes: 4,096 channels or clients with every field fit.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Connections served at once: an owner's terminals, a display, a backup job.
pub const MAX_CONNECTIONS: usize = 32;
/// Most receipts in one answer; ask again with a larger `skip` for more.
pub const MAX_RECEIPTS: u32 = 1_000;
/// Lines that wait for a slow reader; what comes beyond is left out and counted.
const MAX_WAITING: usize = 256;
/// How long a new connection may take to say its request, and how long one line may take to be taken.
const LINE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
