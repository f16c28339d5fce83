//! One sample of every message kind, with values that use every field's width, for `protocol/vectors/`.
//!
//! The file there is the judge: x86-64, aarch64 and Cortex-M4 builds must all produce and accept its bytes.

use super::*;
use crate::base::{
    AccountId, BlockHeight, ByteCount, ChannelId, GenesisHash, Msat, NodeId, Outpoint, Sat, SheetHash, Txid,
};
use alloc::vec::Vec;
use heapless::Vec as Bounded;

/// The frozen frames: lines of `kind name hex`.
pub const MESSAGES: &str = include_str!("../../vectors/messages.txt");
/// The frozen schema text.
pub const SCHEMA: &str = include_str!("../../vectors/schema.txt");

/// Why a replay failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// A line of the file is not `kind name hex`.
    File,
    /// This build encodes the sample of this kind otherwise.
    Encoding(u16),
    /// This build does not read the frozen frame of this kind back as the sample.
    Decoding(u16),
    /// Kinds in the file and kinds in this build differ.
    Kinds,
    /// The schema text differs.
    Schema,
}

/// Replays the frozen frames through this build; gives the number of frames compared.
pub fn replay() -> Result<usize, Mismatch> {
    replay_files(MESSAGES, SCHEMA)
}

/// As [`replay`], with the text of both files as it was read where the code runs (a microcontroller's host).
pub fn replay_files(messages: &str, schema: &str) -> Result<usize, Mismatch> {
    let samples = samples();
    let mut lines = messages.lines();
    for message in &samples {
        let number = message.kind().number();
        let mut parts = lines.next().ok_or(Mismatch::Kinds)?.split(' ');
        let (kind, _name, frozen) = (parts.next(), parts.next(), parts.next().ok_or(Mismatch::File)?);
        if kind.and_then(|k| k.parse().ok()) != Some(number) {
            return Err(Mismatch::Kinds);
        }
        let frozen = unhex(frozen).ok_or(Mismatch::File)?;
        let mut frame = Vec::new();
        write_frame(message, &mut frame);
        if frame != frozen {
            return Err(Mismatch::Encoding(number));
        }
        if read_frame(&frozen).as_ref() != Ok(message) {
            return Err(Mismatch::Decoding(number));
        }
    }
    if lines.next().is_some() || samples.len() != Kind::ALL.len() {
        return Err(Mismatch::Kinds);
    }
    if schema_text() != schema {
        return Err(Mismatch::Schema);
    }
    Ok(samples.len())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// `count` bytes that differ from each other: start, start + 1, …
fn run<const N: usize>(start: u8) -> [u8; N] {
    core::array::from_fn(|i| start.wrapping_add(i as u8))
}

fn bytes<const N: usize>(source: &[u8]) -> Bounded<u8, N> {
    Bounded::from_slice(source).unwrap_or_default()
}

/// The price sheet of the sample offer.
pub fn sheet() -> PriceSheet {
    PriceSheet {
        version: 7,
        valid_until: BlockHeight::new(850_144),
        up: Msat::new(1_200),
        down: Msat::new(900),
        per_second: Msat::new(3),
        free: ByteCount::new(1 << 20),
        window_min: ByteCount::new(131_072),
        window_max: ByteCount::new(1 << 30),
        class: BindingClass::Address,
    }
}

/// The receipt of the sample receipt offer.
pub fn receipt() -> Receipt {
    Receipt {
        relay: NodeId::from_bytes(run(0x10)),
        client: NodeId::from_bytes(run(0x30)),
        channel: ChannelId::from_bytes(run(0x50)),
        sequence: 300,
        sheet: SheetHash::from_bytes(run(0x70)),
        height: BlockHeight::new(850_001),
        up: ByteCount::new(123_456_789),
        down: ByteCount::new(9_876_543_210),
        seconds: 86_400,
        cost: Msat::new(10_000_001),
        paid: Msat::new(10_000_500),
    }
}

/// One message of every kind, by rising kind.
pub fn samples() -> Vec<Message> {
    let mut ext = Ext::default();
    let _ = ext.0.push(ExtEntry {
        kind: 1,
        value: bytes(&[0xab, 0xcd]),
    });
    let _ = ext.0.push(ExtEntry {
        kind: 301,
        value: bytes(&[]),
    });
    let none = Ext::default;
    let key = NodeId::from_bytes(run(0x01));
    let channel = ChannelId::from_bytes(run(0x50));
    let signature = Signature(run(0xa0));
    let account = AccountId(2);
    alloc::vec![
        Hello {
            genesis: GenesisHash::from_bytes(run(0xe0)),
            height: BlockHeight::new(850_000),
            generation: 41,
            seen_generation: 40,
            ext
        }
        .into(),
        OfferRequest { ext: none() }.into(),
        Offer {
            sheet_id: 3,
            sheet: bytes(&encode(&sheet())),
            signature,
            capacity_min: Sat::new(10_000),
            capacity_max: Sat::new(1_000_000),
            lifetime_min: 216,
            lifetime_max: 4_032,
            unconfirmed: Msat::new(50_000),
            settle_cost: Sat::new(615),
            ext: none(),
        }
        .into(),
        OpenRequest {
            payer_key: key,
            capacity: Sat::new(50_000),
            expiry: BlockHeight::new(851_008),
            ext: none()
        }
        .into(),
        OpenAccept {
            payer_key: key,
            payee_key: NodeId::from_bytes(run(0x21)),
            capacity: Sat::new(50_000),
            expiry: BlockHeight::new(851_008),
            accept_until: BlockHeight::new(850_144),
            signature,
            ext: none(),
        }
        .into(),
        Funded {
            payer_key: key,
            outpoint: Outpoint {
                txid: Txid::from_bytes(run(0xc0)),
                vout: 1
            },
            tx: bytes(&run::<200>(0)),
            ext: none(),
        }
        .into(),
        Resume {
            channel,
            total: Msat::new(1_234_567),
            signature,
            ext: none()
        }
        .into(),
        ChannelReady {
            channel,
            short: 700,
            total: Msat::new(1_234_567),
            signature,
            ceiling: Msat::new(50_000_000),
            open: true,
            ext: none(),
        }
        .into(),
        BindRequest {
            account,
            channel: 700,
            class: BindingClass::Address,
            addresses: Bounded::from_slice(&[run(0xfd)]).unwrap_or_default(),
            ext: none(),
        }
        .into(),
        Bound {
            account,
            granted: ByteCount::new(5_242_880),
            liveness_ms: 30_000,
            ext: none()
        }
        .into(),
        Payment {
            channel: 700,
            account,
            sheet: 3,
            total: Msat::new(1_239_567),
            signature
        }
        .into(),
        PaymentAck {
            channel: 700,
            account,
            total: Msat::new(1_239_567),
            granted: ByteCount::new(9_437_184)
        }
        .into(),
        Usage {
            account,
            up: ByteCount::new(123_456),
            down: ByteCount::new(7_654_321),
            seconds: 61,
            cost: Msat::new(7_000),
            paid: Msat::new(9_000),
            granted: ByteCount::new(9_437_184),
            exhausted: false,
        }
        .into(),
        ReceiptRequest { account }.into(),
        ReceiptOffer {
            account,
            receipt: bytes(&encode(&receipt())),
            signature,
            ext: none()
        }
        .into(),
        ReceiptAnswer {
            account,
            sequence: 300,
            signature
        }
        .into(),
        Liveness { account, counter: 77 }.into(),
        Stop { account }.into(),
        CloseRequest { channel, ext: none() }.into(),
        CloseNotice {
            channel,
            txid: Txid::from_bytes(run(0xc0)),
            paid: Sat::new(1_240),
            ext: none()
        }
        .into(),
        Headers {
            first: BlockHeight::new(850_001),
            headers: Bounded::from_slice(&[HeaderBytes(run(0x05)), HeaderBytes(run(0x55))])
                .unwrap_or_default()
        }
        .into(),
        Problem {
            code: ErrorCode::TotalTooLow,
            about: 11,
            detail: 1_234_567,
            ext: none()
        }
        .into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_golden_bytes_and_they_replay() {
        assert_eq!(replay(), Ok(Kind::ALL.len()));
    }

    #[test]
    fn the_schema_text_is_the_frozen_one() {
        assert_eq!(
            schema_text(),
            SCHEMA,
            "a wire struct changed: peers in the field cannot follow"
        );
    }

    #[test]
    fn every_truncation_and_every_extra_byte_of_a_frame_is_refused() {
        for line in MESSAGES.lines() {
            let frame = unhex(line.rsplit(' ').next().unwrap()).unwrap();
            for len in 0..frame.len() {
                assert!(read_frame(&frame[..len]).is_err(), "{line} cut at {len}");
            }
            let mut longer = frame.clone();
            longer.push(0);
            assert!(read_frame(&longer).is_err(), "{line} with a byte more");
        }
    }

    #[test]
    fn another_version_kind_or_length_is_told_apart() {
        assert_eq!(read_frame(&[2, 1]), Err(FrameError::Version(2)));
        assert_eq!(read_frame(&[1, 0x7f]), Err(FrameError::UnknownKind(0x7f)));
        assert_eq!(
            read_frame(&[1, 0x8b, 0x00]),
            Err(FrameError::Body {
                kind: 11,
                error: DecodeError::NotCanonical
            })
        );
        assert_eq!(read_frame(&alloc::vec![1; 5_000]), Err(FrameError::Length));
        assert_eq!(read_frame(&[]), Err(FrameError::Length));
    }

    #[test]
    fn an_even_or_unsorted_extension_is_refused() {
        let mut frame = Vec::new();
        let mut ext = Ext::default();
        ext.0
            .push(ExtEntry {
                kind: 2,
                value: bytes(&[]),
            })
            .unwrap();
        write_frame(&OfferRequest { ext: ext.clone() }.into(), &mut frame);
        assert_eq!(
            read_frame(&frame),
            Err(FrameError::Body {
                kind: 2,
                error: DecodeError::Extension
            })
        );
        ext.0.clear();
        ext.0
            .push(ExtEntry {
                kind: 5,
                value: bytes(&[]),
            })
            .unwrap();
        ext.0
            .push(ExtEntry {
                kind: 5,
                value: bytes(&[]),
            })
            .unwrap();
        frame.clear();
        write_frame(&OfferRequest { ext }.into(), &mut frame);
        assert_eq!(
            read_frame(&frame),
            Err(FrameError::Body {
                kind: 2,
                error: DecodeError::Extension
            })
        );
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics_and_what_decodes_has_one_encoding(mut garbage in proptest::collection::vec(0u8.., 0..300), kind in 1u8..24) {
            if garbage.len() > 2 { garbage[0] = VERSION; garbage[1] = kind; }
            if let Ok(message) = read_frame(&garbage) {
                let mut again = Vec::new();
                write_frame(&message, &mut again);
                proptest::prop_assert_eq!(again, garbage);
            }
        }
    }
}
