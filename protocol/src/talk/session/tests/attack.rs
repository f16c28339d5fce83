//! What a stream session promises against everybody else.

use super::*;
use crate::base::limits::MAX_FRAME;
use crate::talk::session::Fault;
use proptest::prelude::*;
use std::vec;

#[test]
fn another_chain_cannot_shake_hands() {
    for contact in contacts() {
        let mut a = End::alice(contact);
        let elsewhere = Party {
            genesis: GenesisHash::from_bytes([0x12; 32]),
            ..BOB.party()
        };
        let mut b = End::new(elsewhere, StreamSession::accept(T0, None, [0xb0; 32]));
        assert_eq!(settle(&mut a, &mut b), Err(SessionError::Handshake));
        assert!(a.peer.is_none() && b.peer.is_none());
    }
}

#[test]
fn a_pinned_identity_that_does_not_match_is_named() {
    let wrong = SessionError::WrongPeer {
        expected: MALLORY.id(),
        got: BOB.id(),
    };
    let mut a = End::alice(Contact::Pinned(MALLORY.id()));
    assert_eq!(settle(&mut a, &mut End::bob(None)), Err(wrong));
    let mut a = End::alice(Contact::Known {
        node: MALLORY.id(),
        noise_static: BOB.noise(),
    });
    assert_eq!(settle(&mut a, &mut End::bob(None)), Err(wrong));
    // The caller has shown itself to nobody: it stopped before its own proof.
    assert!(a.sent().is_empty());

    let wrong = SessionError::WrongPeer {
        expected: MALLORY.id(),
        got: ALICE.id(),
    };
    let mut a = End::alice(Contact::Any);
    assert_eq!(settle(&mut a, &mut End::bob(Some(MALLORY.id()))), Err(wrong));
    assert_eq!(wrong.fault(), Fault::Peer);
}

#[test]
fn a_known_static_key_of_another_node_fails() {
    let mut a = End::alice(Contact::Known {
        node: BOB.id(),
        noise_static: MALLORY.noise(),
    });
    assert_eq!(settle(&mut a, &mut End::bob(None)), Err(SessionError::Handshake));
}

#[test]
fn a_node_that_calls_itself_is_told() {
    let mut a = End::alice(Contact::Any);
    let mut b = End::new(ALICE.party(), StreamSession::accept(T0, None, [0xb0; 32]));
    assert_eq!(settle(&mut a, &mut b), Err(SessionError::Ourselves));
    assert_eq!(SessionError::Ourselves.fault(), Fault::Ours);
}

#[test]
fn nothing_but_the_proof_is_taken_before_the_proof() {
    // Bob's first sealed message is cut off, and a later one of his follows instead.
    let (mut a, mut b) = (End::alice(Contact::Any), End::bob(None));
    b.take(&a.sent()).unwrap();
    a.take(&b.sent()).unwrap();
    b.take(&a.sent()).unwrap();
    let _proof = b.sent();
    let mut early = Vec::new();
    assert_eq!(
        b.session.seal(b"too early", &mut early),
        Err(SessionError::NotEstablished)
    );
    let refused = a.take(&[0, 25, 1, 2, 3]);
    assert_eq!(
        refused,
        Err(SessionError::Length {
            got: 25,
            least: 112,
            most: 112
        })
    );
}

#[test]
fn an_oversized_length_is_refused_at_its_second_byte() {
    let (_, mut b) = pair(Contact::Any);
    let announced = u16::try_from(MAX_FRAME + 17).unwrap().to_be_bytes();
    assert_eq!(b.take(&announced[..1]), Ok(()));
    let refused = b.take(&announced[1..]).unwrap_err();
    assert_eq!(
        refused,
        SessionError::Length {
            got: MAX_FRAME + 17,
            least: 17,
            most: MAX_FRAME + 16
        }
    );
    assert_eq!(refused.fault(), Fault::Peer);
    // Dead: the reason stays, nothing goes on.
    assert_eq!(b.session.handle_timeout(T0), Err(refused));
    assert_eq!(b.session.seal(b"x", &mut Vec::new()), Err(refused));
    assert_eq!(b.session.handle_bytes(T0, &b.party, b"x"), Err(refused));
    assert_eq!(b.session.peer(), None);
    for (stage, bytes) in [("hello", [0, 32]), ("hello", [0, 98]), ("hello", [0xff, 0xff])] {
        let refused = End::bob(None).take(&bytes);
        assert!(
            matches!(refused, Err(SessionError::Length { .. })),
            "{stage} {bytes:?}"
        );
    }
}

#[test]
fn an_unknown_handshake_is_named() {
    let mut hello = vec![0, 33, 9];
    hello.extend([7; 32]);
    assert_eq!(End::bob(None).take(&hello), Err(SessionError::Pattern(9)));
    // The right pattern in the wrong length.
    let mut hello = vec![0, 33, 2];
    hello.extend([7; 32]);
    let refused = End::bob(None).take(&hello);
    assert_eq!(
        refused,
        Err(SessionError::Length {
            got: 33,
            least: 97,
            most: 97
        })
    );
}

#[test]
fn replayed_reordered_and_dropped_frames_end_the_stream() {
    let sequences: [&[usize]; 4] = [&[0, 0], &[1], &[0, 2], &[0, 1, 0]];
    for sequence in sequences {
        let (mut a, mut b) = pair(Contact::Any);
        let frames: Vec<Vec<u8>> = (0..3).map(|n| a.seal(&[n; 20])).collect();
        let outcome = sequence.iter().try_for_each(|&n| b.take(&frames[n]));
        assert_eq!(outcome, Err(SessionError::Frame), "{sequence:?}");
    }
}

#[test]
fn frames_of_one_direction_or_session_mean_nothing_in_another() {
    let (mut a, mut b) = pair(Contact::Any);
    let own = a.seal(b"mirror");
    assert_eq!(a.take(&own), Err(SessionError::Frame));
    let mut c = End::new(
        ALICE.party(),
        StreamSession::initiate(T0, &ALICE.party(), Contact::Any, [0xa2; 32]).unwrap(),
    );
    let mut d = End::bob(None);
    settle(&mut c, &mut d).unwrap();
    assert_eq!(b.take(&c.seal(b"other session")), Err(SessionError::Frame));
}

#[test]
fn a_truncated_stream_yields_no_frame() {
    let (mut a, mut b) = pair(Contact::Any);
    let sealed = a.seal(&[5; 100]);
    b.take(&sealed[..sealed.len() - 1]).unwrap();
    assert!(b.frames.is_empty());
}

/// The four to six messages of a handshake and one frame each way, as (to the responder?, bytes).
fn transcript(contact: Contact) -> Vec<(bool, Vec<u8>)> {
    let (mut a, mut b) = (End::alice(contact), End::bob(None));
    let mut log = Vec::new();
    loop {
        let to_b = a.sent();
        b.take(&to_b).unwrap();
        let to_a = b.sent();
        a.take(&to_a).unwrap();
        if to_a.is_empty() && to_b.is_empty() {
            break;
        }
        log.extend([(true, to_b), (false, to_a)]);
    }
    log.push((true, a.seal(b"paid 1000 msat in total")));
    log.push((false, b.seal(b"taken")));
    log
}

/// Plays Alice and Bob with one change on the way; who ended up with which frames and peers.
fn tampered(contact: Contact, at: usize, change: impl Fn(&mut Vec<u8>)) -> (End, End, bool) {
    let (mut a, mut b) = (End::alice(contact), End::bob(None));
    let mut passed = 0;
    let mut refused = false;
    let mut carry = |bytes: Vec<u8>, to: &mut End| {
        let mut bytes = bytes;
        if bytes.is_empty() {
            return;
        }
        if (passed..passed + bytes.len()).contains(&at) {
            let mut one = bytes.split_off(at - passed);
            let tail = one.split_off(1);
            change(&mut one);
            passed += bytes.len() + 1 + tail.len();
            bytes.extend(one);
            bytes.extend(tail);
        } else {
            passed += bytes.len();
        }
        refused |= to.take(&bytes).is_err();
    };
    for _ in 0..3 {
        carry(a.sent(), &mut b);
        carry(b.sent(), &mut a);
    }
    if a.peer.is_some() {
        carry(a.seal(b"paid 1000 msat in total"), &mut b);
    }
    if b.session.peer().is_some() {
        carry(b.seal(b"taken"), &mut a);
    }
    (a, b, refused)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_flipped_bit_anywhere_is_refused(which in 0..3_usize, at in any::<proptest::sample::Index>(), bit in 0..8_u32) {
        let contact = contacts()[which];
        let log = transcript(contact);
        let total: usize = log.iter().map(|(_, bytes)| bytes.len()).sum();
        let at = at.index(total);
        let (a, b, refused) = tampered(contact, at, |byte| byte[0] ^= 1 << bit);
        // A longer length may leave the receiver waiting instead, until its timeout or for ever without a frame.
        let waiting = a.peer.is_none() || b.peer.is_none() || a.frames.is_empty() || b.frames.is_empty();
        prop_assert!(refused || waiting, "byte {} of {}", at, total);
        for (got, sent) in [(&b.frames, &b"paid 1000 msat in total"[..]), (&a.frames, &b"taken"[..])] {
            prop_assert!(got.iter().all(|frame| frame == sent));
            prop_assert!(got.len() <= 1);
        }
        if at < log.iter().take(2).map(|(_, bytes)| bytes.len()).sum() {
            // Nobody is proven to anybody over a changed beginning.
            prop_assert!(a.peer.is_none() && b.peer.is_none());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_waited_for_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        initiator in any::<bool>(),
        open in any::<bool>(),
    ) {
        let (mut a, mut b) = if open { pair(Contact::Any) } else { (End::alice(Contact::Any), End::bob(None)) };
        let end = if initiator { &mut a } else { &mut b };
        let _ = end.take(&bytes);
        prop_assert!(end.frames.is_empty());
    }
}
