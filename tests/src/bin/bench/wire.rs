//! Sizes on the wire.

use turnpike_protocol::base::{AccountId, Msat};
use turnpike_protocol::talk::session::STREAM_OVERHEAD;
use turnpike_protocol::wire::{Payment, Signature, write_frame};
use turnpike_tests::figure::Figure;

/// One sealed and framed payment: at ordinary numbers, and at the largest that any channel can have.
pub fn payment_bytes() -> Vec<Figure> {
    let size = |channel: u16, total: u64| {
        let payment = Payment {
            channel,
            account: AccountId(0),
            sheet: 1,
            total: Msat::new(total),
            signature: Signature([0xff; 64]),
        };
        let mut frame = Vec::new();
        write_frame(&payment.into(), &mut frame);
        (frame.len() + STREAM_OVERHEAD) as f64
    };
    let largest = size(u16::MAX, 10_000_000_000);
    let note = format!(
        "ordinary (channel 0, total 1,000,000 msat): {} bytes",
        size(0, 1_000_000)
    );
    vec![Figure::new(
        "payment_bytes",
        largest,
        "bytes",
        "limit",
        100.0,
        "<= 100",
        note,
    )]
}
