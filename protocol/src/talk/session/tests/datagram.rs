//! Datagram sessions on a network that loses, repeats, reorders and forges.

use super::*;
use crate::base::limits::{HANDSHAKE_TIMEOUT, MAX_FRAME};
use crate::talk::session::{DATAGRAM_OVERHEAD, DatagramSession, Ignored, Received, Route, route};
use proptest::prelude::*;
use std::vec;

/// One end, and what it has seen.
struct Udp {
    party: Party<'static>,
    session: DatagramSession,
    peer: Option<Peer>,
    frames: Vec<Vec<u8>>,
    out: Vec<Vec<u8>>,
}

const ALICE_ID: u32 = 0xa11c_e001;
const BOB_ID: u32 = 0x0000_0b0b;

impl Udp {
    fn alice(contact: Contact) -> Udp {
        let session = DatagramSession::initiate(T0, &ALICE.party(), contact, ALICE_ID, [0xa1; 32]).unwrap();
        Udp::new(ALICE.party(), session)
    }

    fn bob(pinned: Option<NodeId>) -> Udp {
        Udp::new(
            BOB.party(),
            DatagramSession::accept(T0, pinned, BOB_ID, [0xb0; 32]),
        )
    }

    fn new(party: Party<'static>, session: DatagramSession) -> Udp {
        let mut end = Udp {
            party,
            session,
            peer: None,
            frames: Vec::new(),
            out: Vec::new(),
        };
        end.drain();
        end
    }

    fn take(&mut self, now: Instant, packet: &[u8]) -> Result<Option<Ignored>, SessionError> {
        let mut bytes = packet.to_vec();
        let why = match self.session.handle_datagram(now, &self.party, &mut bytes)? {
            Received::Frame(frame) => {
                self.frames.push(frame.to_vec());
                None
            }
            Received::Progress => None,
            Received::Ignored(why) => Some(why),
        };
        self.drain();
        Ok(why)
    }

    fn tick(&mut self, now: Instant) -> Result<(), SessionError> {
        let done = self.session.handle_timeout(now);
        self.drain();
        done
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(bytes) => self.out.push(bytes),
                Action::Established(peer) => {
                    assert!(self.peer.is_none(), "established once");
                    self.peer = Some(peer);
                }
            }
        }
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.out)
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.seal(frame, &mut out).unwrap();
        out
    }
}

/// Runs both ends until nothing moves and no timer is left; `fate` says how often each packet, in order, arrives.
fn run(a: &mut Udp, b: &mut Udp, mut fate: impl FnMut(usize) -> usize) -> Result<(), SessionError> {
    let (mut now, mut count) = (T0, 0);
    loop {
        let (to_b, to_a) = (a.sent(), b.sent());
        if to_b.is_empty() && to_a.is_empty() {
            let wake = [a.session.next_timeout(), b.session.next_timeout()];
            let Some(next) = wake.into_iter().flatten().min() else {
                return Ok(());
            };
            now = next;
            a.tick(now)?;
            b.tick(now)?;
            continue;
        }
        for (packets, to) in [(to_b, &mut *b), (to_a, &mut *a)] {
            for packet in packets {
                for _ in 0..fate(count) {
                    to.take(now, &packet)?;
                }
                count += 1;
            }
        }
    }
}

fn pair(contact: Contact) -> (Udp, Udp) {
    let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
    run(&mut a, &mut b, |_| 1).unwrap();
    assert!(a.peer.is_some() && b.peer.is_some());
    (a, b)
}

#[test]
fn both_learn_who_the_other_is_and_agree_on_the_session() {
    for contact in contacts() {
        let (a, b) = pair(contact);
        let (seen_by_a, seen_by_b) = (a.peer.unwrap(), b.peer.unwrap());
        assert_eq!((seen_by_a.node, seen_by_a.noise_static), (BOB.id(), BOB.noise()));
        assert_eq!(
            (seen_by_b.node, seen_by_b.noise_static),
            (ALICE.id(), ALICE.noise())
        );
        assert_eq!(seen_by_a.session, seen_by_b.session);
        assert_eq!(
            (a.session.peer(), b.session.peer()),
            (Some(&seen_by_a), Some(&seen_by_b))
        );
        assert_eq!((a.session.id(), b.session.id()), (ALICE_ID, BOB_ID));
        assert_eq!((a.session.next_timeout(), b.session.next_timeout()), (None, None));
    }
}

#[test]
fn any_lost_packet_of_the_handshake_is_made_up_for() {
    for contact in contacts() {
        for lost in 0..8 {
            for also in 0..8 {
                let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
                run(&mut a, &mut b, |n| usize::from(n != lost && n != also)).unwrap();
                assert!(
                    a.peer.is_some() && b.peer.is_some(),
                    "{contact:?} without packets {lost} and {also}"
                );
                let frame = a.seal(b"hello");
                assert_eq!(b.take(T0, &frame), Ok(None));
                assert_eq!(b.frames, [b"hello"]);
            }
        }
    }
}

#[test]
fn repeated_packets_of_the_handshake_do_no_harm() {
    for contact in contacts() {
        let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
        // Copies of copies would grow for ever: only the first of each kind come twice.
        run(&mut a, &mut b, |n| if n < 8 { 2 } else { 1 }).unwrap();
        assert!(a.peer.is_some() && b.peer.is_some());
    }
}

#[test]
fn a_dead_line_ends_in_a_timeout_on_both_sides() {
    let (mut a, mut b) = (Udp::alice(Contact::Any), Udp::bob(None));
    assert_eq!(run(&mut a, &mut b, |_| 0), Err(SessionError::Timeout));
    // The last packet before the deadline was sent at 7.5 s; nothing is sent after the end.
    assert_eq!(a.tick(T0 + HANDSHAKE_TIMEOUT), Err(SessionError::Timeout));
    assert_eq!(b.tick(T0 + HANDSHAKE_TIMEOUT), Err(SessionError::Timeout));
    assert!(a.sent().is_empty() && a.session.next_timeout().is_none());
    // Also when only the confirmation of the caller's proof never comes.
    let (mut a, mut b) = (Udp::alice(Contact::Any), Udp::bob(None));
    let outcome = run(&mut a, &mut b, |n| usize::from(n < 5));
    assert_eq!(outcome, Err(SessionError::Timeout));
}

#[test]
fn the_caller_repeats_at_growing_pauses() {
    let mut a = Udp::alice(Contact::Any);
    let first = a.sent();
    let mut times = Vec::new();
    while let Some(next) = a.session.next_timeout() {
        let _ = a.tick(next);
        if !a.out.is_empty() {
            assert_eq!(a.sent(), first, "the very same bytes");
            times.push(next.since(T0).as_millis());
        }
    }
    assert_eq!(times, [500, 1_500, 3_500, 7_500]);
}

#[test]
fn a_node_sends_no_more_to_a_stranger_than_it_got() {
    for contact in contacts() {
        let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
        let hello = a.sent();
        assert_eq!(hello[0].len(), 200);
        b.take(T0, &hello[0]).unwrap();
        let answered: usize = b.sent().iter().map(Vec::len).sum();
        assert!(answered <= 200, "{answered}");
        b.take(T0, &hello[0]).unwrap();
        let again: usize = b.sent().iter().map(Vec::len).sum();
        assert_eq!(again, answered, "a repeated hello gets the same answers");
    }
}

#[test]
fn sealing_adds_twenty_nine_bytes() {
    let (mut a, mut b) = pair(Contact::Any);
    assert_eq!(DATAGRAM_OVERHEAD, 29);
    for length in [1, 80, MAX_FRAME] {
        let packet = a.seal(&vec![7; length]);
        assert_eq!(packet.len(), length + DATAGRAM_OVERHEAD);
        assert_eq!(route(&packet), Some(Route::Session(BOB_ID)));
        assert_eq!(b.take(T0, &packet), Ok(None));
        assert_eq!(b.frames.pop(), Some(vec![7; length]));
    }
    for length in [0, MAX_FRAME + 1] {
        let refused = a.session.seal(&vec![7; length], &mut Vec::new());
        assert_eq!(refused, Err(SessionError::FrameLength(length)));
    }
    let early = Udp::alice(Contact::Any).session.seal(b"x", &mut Vec::new());
    assert_eq!(early, Err(SessionError::NotEstablished));
}

#[test]
fn frames_arrive_in_any_order_and_once() {
    let (mut a, mut b) = pair(Contact::Any);
    let mut packets: Vec<Vec<u8>> = (0..500_u32).map(|n| a.seal(&n.to_be_bytes())).collect();
    packets.reverse();
    for packet in &packets {
        assert_eq!(b.take(T0, packet), Ok(None));
    }
    for packet in &packets {
        assert_eq!(b.take(T0, packet), Ok(Some(Ignored::Replayed)));
    }
    assert_eq!(b.frames.len(), 500);
    let much_later = (0..2_500_u32).map(|n| a.seal(&n.to_be_bytes())).last().unwrap();
    assert_eq!(b.take(T0, &much_later), Ok(None));
    assert_eq!(b.take(T0, &packets[0]), Ok(Some(Ignored::Old)));
}

#[test]
fn a_session_goes_on_across_a_rekey() {
    let (mut a, mut b) = pair(Contact::Any);
    for from in [65_500, 131_040] {
        a.session.skip_to(from);
        for n in 0..100_u32 {
            let packet = a.seal(&n.to_be_bytes());
            assert_eq!(b.take(T0, &packet), Ok(None), "{n}");
            assert_eq!(b.frames.pop().unwrap(), n.to_be_bytes());
        }
    }
}

#[test]
fn another_chain_cannot_shake_hands() {
    for contact in contacts() {
        let mut a = Udp::alice(contact);
        let elsewhere = Party {
            genesis: GenesisHash::from_bytes([0x12; 32]),
            ..BOB.party()
        };
        let mut b = Udp::new(elsewhere, DatagramSession::accept(T0, None, BOB_ID, [0xb0; 32]));
        let outcome = run(&mut a, &mut b, |_| 1);
        assert!(
            matches!(outcome, Err(SessionError::Handshake | SessionError::Timeout)),
            "{outcome:?}"
        );
        assert!(a.peer.is_none() && b.peer.is_none());
    }
}

#[test]
fn a_pinned_identity_that_does_not_match_is_named() {
    let (mut a, mut b) = (Udp::alice(Contact::Pinned(MALLORY.id())), Udp::bob(None));
    let wrong = SessionError::WrongPeer {
        expected: MALLORY.id(),
        got: BOB.id(),
    };
    assert_eq!(run(&mut a, &mut b, |_| 1), Err(wrong));
    assert!(a.sent().is_empty());
    let (mut a, mut b) = (Udp::alice(Contact::Any), Udp::bob(Some(MALLORY.id())));
    let wrong = SessionError::WrongPeer {
        expected: MALLORY.id(),
        got: ALICE.id(),
    };
    assert_eq!(run(&mut a, &mut b, |_| 1), Err(wrong));
}

#[test]
fn packets_for_another_session_or_stage_are_ignored() {
    let (mut a, mut b) = pair(Contact::Any);
    let mut foreign = a.seal(b"x");
    foreign[4] ^= 1;
    assert_eq!(b.take(T0, &foreign), Ok(Some(Ignored::Foreign)));
    let own = a.seal(b"mirror");
    assert_eq!(a.take(T0, &own), Ok(Some(Ignored::Foreign)));
    let hello = Udp::alice(Contact::Any).sent().remove(0);
    assert_eq!(route(&hello), Some(Route::Hello));
    assert_eq!(b.take(T0, &hello), Ok(Some(Ignored::Stage)));
    for shapeless in [
        &[][..],
        &[9; 40],
        &[4, 0, 0],
        &[2; 50],
        &[1; 199],
        &vec![4; MAX_FRAME + 30],
    ] {
        assert_eq!(route(shapeless), None);
        assert_eq!(b.take(T0, shapeless), Ok(Some(Ignored::Shape)));
    }
}

#[test]
fn frames_before_the_proof_are_dropped() {
    // The caller's proof is late, a frame overtakes it.
    let (mut a, mut b) = (Udp::alice(Contact::Any), Udp::bob(None));
    for _ in 0..2 {
        a.sent().iter().for_each(|p| assert_eq!(b.take(T0, p), Ok(None)));
        b.sent().iter().for_each(|p| assert_eq!(a.take(T0, p), Ok(None)));
    }
    let proof = a.sent().remove(0);
    let frame = a.seal(b"early");
    assert_eq!(b.take(T0, &frame), Ok(Some(Ignored::Stage)));
    assert_eq!(b.take(T0, &proof), Ok(None));
    assert!(b.peer.is_some() && b.frames.is_empty());
    // Dropped, not consumed: the same packet is good once the peer is proven.
    assert_eq!(b.take(T0, &frame), Ok(None));
}

#[test]
fn no_changed_packet_of_a_handshake_counts_and_none_spoils_the_honest_one() {
    for contact in contacts() {
        let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
        let hello = a.sent().remove(0);
        b.take(T0, &hello).unwrap();
        for _ in 0..4 {
            forge_then_deliver(&mut b, &mut a);
            forge_then_deliver(&mut a, &mut b);
        }
        assert!(a.peer.is_some() && b.peer.is_some(), "{contact:?}");
    }
}

/// Every packet first with each of its bytes changed, then as it was sent.
fn forge_then_deliver(from: &mut Udp, to: &mut Udp) {
    for packet in from.sent() {
        let (peer, frames, out) = (to.peer, to.frames.len(), to.out.len());
        for byte in 0..packet.len() {
            let mut changed = packet.clone();
            changed[byte] ^= 1 << (byte % 8);
            let verdict = to.take(T0, &changed);
            assert!(
                matches!(verdict, Ok(Some(_))),
                "byte {byte} of {} {verdict:?}",
                packet.len()
            );
            // Nobody is proven, nothing is answered.
            assert_eq!((to.peer, to.frames.len(), to.out.len()), (peer, frames, out));
        }
        assert_eq!(to.take(T0, &packet), Ok(None));
    }
}

#[test]
fn a_changed_hello_leads_nowhere() {
    for contact in contacts() {
        let hello = Udp::alice(contact).sent().remove(0);
        for byte in 0..hello.len() {
            let mut changed = hello.clone();
            changed[byte] ^= 1 << (byte % 8);
            let (mut a, mut b) = (Udp::alice(contact), Udp::bob(None));
            if b.take(T0, &changed) != Ok(None) {
                continue;
            }
            for reply in b.sent() {
                // Refused by the hash, or addressed to a session that does not exist.
                assert!(matches!(a.take(T0, &reply), Ok(Some(_))), "{contact:?} {byte}");
            }
            assert!(a.peer.is_none() && b.peer.is_none());
        }
    }
}

/// The first half of a peer of other make.
fn plain_xx() -> snow::HandshakeState {
    let mut prologue = b"turnpike/session/v1\x02".to_vec();
    prologue.extend(REGTEST.as_bytes());
    let builder = snow::Builder::new("Noise_XX_25519_ChaChaPoly_BLAKE2s".parse().unwrap());
    let builder = builder
        .local_private_key(&[0x42; 32])
        .unwrap()
        .prologue(&prologue)
        .unwrap();
    builder.build_initiator().unwrap()
}

#[test]
fn a_hello_padded_with_anything_but_zeros_is_refused() {
    for (at, verdict) in [
        (3, Ok(None)),
        (4, Err(SessionError::Handshake)),
        (165, Err(SessionError::Handshake)),
    ] {
        let (mut payload, mut wire, mut bob) = (vec![0; 166], [0; 300], Udp::bob(None));
        payload[at] = 1;
        let n = plain_xx().write_message(&payload, &mut wire).unwrap();
        assert_eq!(
            bob.take(T0, &[&[1, 1], &wire[..n]].concat()),
            verdict,
            "byte {at}"
        );
    }
}

#[test]
fn a_plain_snow_peer_interoperates() {
    let mut noise = plain_xx();
    let (mut wire, mut text, mut bob) = ([0; 300], [0; 300], Udp::bob(None));
    let mut payload = vec![0x77; 4];
    payload.resize(166, 0);
    let n = noise.write_message(&payload, &mut wire).unwrap();
    bob.take(T0, &[&[1, 1], &wire[..n]].concat()).unwrap();
    let reply = bob.sent().remove(0);
    assert_eq!(reply[..5], [2, 0x77, 0x77, 0x77, 0x77]);
    assert_eq!(noise.read_message(&reply[5..], &mut text).unwrap(), 4);
    assert_eq!(text[..4], BOB_ID.to_be_bytes());
    let n = noise.write_message(&[], &mut wire).unwrap();
    bob.take(T0, &[&[3], &BOB_ID.to_be_bytes()[..], &wire[..n]].concat())
        .unwrap();
    let proof = bob.sent().remove(0);
    assert_eq!(proof[..13], [4, 0x77, 0x77, 0x77, 0x77, 0, 0, 0, 0, 0, 0, 0, 0]);
    let transport = noise.into_stateless_transport_mode().unwrap();
    assert_eq!(transport.read_message(0, &proof[13..], &mut text).unwrap(), 96);
    assert_eq!(text[..32], *BOB.id().as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn on_a_bad_line_both_agree_or_time_out(fates in proptest::collection::vec(0..3_usize, 1..60), which in 0..3_usize) {
        let (mut a, mut b) = (Udp::alice(contacts()[which]), Udp::bob(Some(ALICE.id())));
        // What comes after the listed fates arrives once, so that copies of copies end.
        let outcome = run(&mut a, &mut b, |n| fates.get(n).copied().unwrap_or(1));
        match outcome {
            Ok(()) => {
                let (seen_by_a, seen_by_b) = (a.peer.unwrap(), b.peer.unwrap());
                prop_assert_eq!(seen_by_a.session, seen_by_b.session);
                let packet = b.seal(b"still here");
                prop_assert_eq!(a.take(T0, &packet), Ok(None));
            }
            Err(error) => prop_assert_eq!(error, SessionError::Timeout),
        }
    }

    #[test]
    fn a_flipped_bit_in_a_sealed_packet_is_ignored(bit in 0..(100_usize + 29) * 8) {
        let (mut a, mut b) = pair(Contact::Any);
        let packet = a.seal(&[5; 100]);
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(matches!(b.take(T0, &changed), Ok(Some(_))));
        prop_assert!(b.frames.is_empty());
        prop_assert_eq!(b.take(T0, &packet), Ok(None));
    }

    #[test]
    fn any_bytes_are_ignored_without_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        kind in 0..6_u8,
        addressed in any::<bool>(),
        stage in 0..4_u8,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let (mut a, mut b) = if stage < 2 { (Udp::alice(Contact::Any), Udp::bob(None)) } else { pair(Contact::Any) };
        let (end, id) = if stage % 2 == 0 { (&mut a, ALICE_ID) } else { (&mut b, BOB_ID) };
        if addressed && bytes.len() > 5 {
            bytes[1..5].copy_from_slice(&id.to_be_bytes());
        }
        let _ = route(&bytes);
        let _ = end.take(T0, &bytes);
        prop_assert!(end.frames.is_empty());
    }
}
