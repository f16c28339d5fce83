//! What a stream session promises to honest nodes.

use super::*;
use crate::base::Duration;
use crate::base::limits::{HANDSHAKE_TIMEOUT, MAX_FRAME};
use crate::talk::session::STREAM_OVERHEAD;
use proptest::prelude::*;
use std::vec;

#[test]
fn both_learn_who_the_other_is_and_agree_on_the_session() {
    for contact in contacts() {
        let (a, b) = pair(contact);
        let (seen_by_a, seen_by_b) = (a.peer.unwrap(), b.peer.unwrap());
        assert_eq!(seen_by_a.node, BOB.id());
        assert_eq!(seen_by_b.node, ALICE.id());
        assert_eq!(seen_by_a.noise_static, BOB.noise());
        assert_eq!(seen_by_b.noise_static, ALICE.noise());
        assert_eq!(seen_by_a.session, seen_by_b.session);
        assert_eq!(a.session.peer(), Some(&seen_by_a));
        assert_eq!((a.session.next_timeout(), b.session.next_timeout()), (None, None));
    }
}

#[test]
fn a_caller_is_ready_after_two_round_trips_and_after_one_with_a_known_peer() {
    for (contact, trips) in [(Contact::Any, 2), (contacts()[2], 1)] {
        let (mut a, mut b) = (End::alice(contact), End::bob(None));
        for trip in 1..=trips {
            assert!(a.peer.is_none());
            b.take(&a.sent()).unwrap();
            a.take(&b.sent()).unwrap();
            assert_eq!(a.peer.is_some(), trip == trips);
        }
        // The proof and the first frame travel together.
        let mut bytes = a.sent();
        bytes.extend(a.seal(b"first"));
        b.take(&bytes).unwrap();
        assert_eq!(b.frames, [b"first"]);
    }
}

#[test]
fn sealing_adds_eighteen_bytes() {
    let (mut a, mut b) = pair(Contact::Any);
    assert_eq!(STREAM_OVERHEAD, 18);
    for length in [1, 2, 82, MAX_FRAME] {
        let sealed = a.seal(&vec![7; length]);
        assert_eq!(sealed.len(), length + STREAM_OVERHEAD);
        b.take(&sealed).unwrap();
        assert_eq!(b.frames.pop(), Some(vec![7; length]));
    }
}

#[test]
fn a_frame_that_cannot_be_sealed_is_our_fault_and_appends_nothing() {
    let (mut a, _) = pair(Contact::Any);
    let mut out = Vec::new();
    for length in [0, MAX_FRAME + 1, 70_000] {
        let refused = a.session.seal(&vec![0; length], &mut out);
        assert_eq!(refused, Err(SessionError::FrameLength(length)));
        assert!(out.is_empty());
    }
    let mut early = End::alice(Contact::Any);
    assert_eq!(
        early.session.seal(b"x", &mut out),
        Err(SessionError::NotEstablished)
    );
    assert!(out.is_empty());
}

#[test]
fn both_sides_rekey_at_the_same_frame_and_go_on() {
    let (mut a, mut b) = pair(Contact::Any);
    // Twice past the point, both directions at different distances from it. (A plain snow peer judges the point itself.)
    for (from_a, from_b) in [(65_500, 65_530), (131_060, 131_071)] {
        a.session.skip_to(from_a, from_b);
        b.session.skip_to(from_b, from_a);
        for n in 0..100_u32 {
            b.take(&a.seal(&n.to_be_bytes())).unwrap();
            assert_eq!(b.frames.pop().unwrap(), n.to_be_bytes());
            a.take(&b.seal(&n.to_le_bytes())).unwrap();
            assert_eq!(a.frames.pop().unwrap(), n.to_le_bytes());
        }
    }
}

#[test]
fn a_side_that_does_not_rekey_is_refused() {
    let (mut a, mut b) = pair(Contact::Any);
    a.session.skip_to(65_535, 1);
    b.session.skip_to(1, 65_536);
    let old_key = a.seal(b"under the key of the first 65,536");
    assert_eq!(b.take(&old_key), Err(SessionError::Frame));
}

#[test]
fn a_handshake_that_stalls_ends_after_ten_seconds_however_slowly_it_trickles() {
    let end = T0 + HANDSHAKE_TIMEOUT;
    assert_eq!(HANDSHAKE_TIMEOUT, Duration::from_secs(10));
    let mut a = End::alice(Contact::Any);
    let mut b = End::bob(None);
    assert_eq!(
        (a.session.next_timeout(), b.session.next_timeout()),
        (Some(end), Some(end))
    );
    let hello = a.sent();
    let before = end - Duration::from_micros(1);
    assert_eq!(b.session.handle_bytes(before, &b.party, &hello[..10]), Ok(10));
    assert_eq!(b.session.handle_timeout(before), Ok(()));
    assert_eq!(
        b.session.handle_bytes(end, &b.party, &hello[10..]),
        Err(SessionError::Timeout)
    );
    assert_eq!(b.session.handle_timeout(before), Err(SessionError::Timeout));
    assert_eq!(b.session.next_timeout(), None);
    assert_eq!(a.session.handle_timeout(end), Err(SessionError::Timeout));
}

#[test]
fn an_open_session_never_times_out() {
    let (mut a, _) = pair(Contact::Any);
    assert_eq!(a.session.handle_timeout(Instant::from_micros(u64::MAX)), Ok(()));
}

#[test]
fn a_frame_waits_until_it_is_polled() {
    let (mut a, mut b) = pair(Contact::Any);
    let mut bytes = a.seal(b"one");
    bytes.extend(a.seal(b"two"));
    let taken = b.session.handle_bytes(T0, &b.party, &bytes).unwrap();
    assert_eq!(taken, 3 + STREAM_OVERHEAD);
    assert_eq!(b.session.handle_bytes(T0, &b.party, &bytes[taken..]), Ok(0));
    assert_eq!(b.session.poll_frame(), Some(&b"one"[..]));
    assert_eq!(b.session.poll_frame(), None);
    assert_eq!(
        b.session.handle_bytes(T0, &b.party, &bytes[taken..]),
        Ok(3 + STREAM_OVERHEAD)
    );
    assert_eq!(b.session.poll_frame(), Some(&b"two"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_may_arrive_in_any_pieces(
        which in 0..3_usize,
        cuts in proptest::collection::vec(1..200_usize, 1..40),
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..10),
    ) {
        let (mut a, mut b) = (End::alice(contacts()[which]), End::bob(Some(ALICE.id())));
        let mut cuts = cuts.into_iter().cycle();
        let mut pieces = |to: &mut End, bytes: &[u8]| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                to.take(piece).unwrap();
                rest = left;
            }
        };
        for _ in 0..3 {
            pieces(&mut b, &a.sent());
            pieces(&mut a, &b.sent());
        }
        let sealed: Vec<u8> = frames.iter().flat_map(|f| a.seal(f)).collect();
        pieces(&mut b, &sealed);
        prop_assert_eq!(&b.frames, &frames);
    }
}
