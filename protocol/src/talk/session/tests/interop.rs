//! The outside judge: peers made of plain `snow` with its own randomness and its own transport cipher, and a proof put
//! together here from the spec page. They also play the man in the middle.

use super::*;
use crate::crypto::{Signature, tagged_hash};
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey};
use snow::{Builder, HandshakeState, TransportState};
use std::format;
use std::vec;

/// A node of other make.
struct Plain {
    noise: [u8; 32],
    identity: Keypair,
}

impl Plain {
    fn new(fill: u8) -> Plain {
        let identity =
            Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[fill; 32]).unwrap());
        Plain {
            noise: [fill; 32],
            identity,
        }
    }

    fn handshake(&self, pattern: &str, remote: Option<&[u8; 32]>, initiator: bool) -> HandshakeState {
        let mut prologue = b"turnpike/session/v1\x01".to_vec();
        prologue.extend(REGTEST.as_bytes());
        let name = format!("Noise_{pattern}_25519_ChaChaPoly_BLAKE2s");
        let mut builder = Builder::new(name.parse().unwrap());
        builder = builder
            .local_private_key(&self.noise)
            .unwrap()
            .prologue(&prologue)
            .unwrap();
        if let Some(remote) = remote {
            builder = builder.remote_public_key(remote).unwrap();
        }
        if initiator {
            builder.build_initiator().unwrap()
        } else {
            builder.build_responder().unwrap()
        }
    }

    /// Signed over (genesis, signer, peer's static, handshake hash, role, own static), as the spec page says.
    fn proof(&self, role: u8, hash: &[u8], own: &[u8], peer: &[u8]) -> Vec<u8> {
        let signer = self.identity.x_only_public_key().0.serialize();
        let digest = tagged_hash(
            "turnpike/session/v1",
            &[REGTEST.as_bytes(), &signer, peer, hash, &[role], own],
        );
        let signature: Signature =
            Secp256k1::new().sign_schnorr_no_aux_rand(&Message::from_digest(digest), &self.identity);
        [&signer[..], &signature.serialize()].concat()
    }

    fn public(&self) -> [u8; 32] {
        // x25519 with snow's own code: the first message of IK's responder key is known by a throw-away handshake.
        let mut a = self.handshake("XX", None, true);
        let mut b = self.handshake("XX", None, false);
        let mut wire = [0; 256];
        let mut text = [0; 256];
        let n = a.write_message(&[], &mut wire).unwrap();
        b.read_message(&wire[..n], &mut text).unwrap();
        let n = b.write_message(&[], &mut wire).unwrap();
        a.read_message(&wire[..n], &mut text).unwrap();
        a.get_remote_static().unwrap().try_into().unwrap()
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn seal(transport: &mut TransportState, text: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; text.len() + 16];
    let n = transport.write_message(text, &mut wire).unwrap();
    assert_eq!(n, wire.len());
    framed(&wire)
}

/// Takes one length-prefixed message off the front.
fn unframe(bytes: &mut Vec<u8>) -> Vec<u8> {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let rest = bytes.split_off(2 + length);
    core::mem::replace(bytes, rest).split_off(2)
}

fn open(transport: &mut TransportState, sealed: &[u8]) -> Vec<u8> {
    let mut text = vec![0; sealed.len()];
    let n = transport.read_message(sealed, &mut text).unwrap();
    text.truncate(n);
    text
}

/// A plain initiator up to and including the last Noise message; bytes that Bob answered after it are returned.
fn plain_initiator(plain: &Plain, pattern: &str, bob: &mut End) -> (HandshakeState, Vec<u8>) {
    let mut wire = [0; 256];
    let known = BOB.noise();
    let mut noise = plain.handshake(pattern, (pattern == "IK").then_some(&known), true);
    let n = noise.write_message(&[], &mut wire).unwrap();
    let number = if pattern == "XX" { 1 } else { 2 };
    bob.take(&framed(&[&[number], &wire[..n]].concat())).unwrap();
    let mut reply = bob.sent();
    let second = unframe(&mut reply);
    assert_eq!(noise.read_message(&second, &mut wire).unwrap(), 0);
    if pattern == "XX" {
        assert!(
            reply.is_empty(),
            "a responder of XX proves itself only after the third message"
        );
        let n = noise.write_message(&[], &mut wire).unwrap();
        bob.take(&framed(&wire[..n])).unwrap();
        reply = bob.sent();
    }
    (noise, reply)
}

#[test]
fn a_plain_snow_initiator_interoperates_also_across_a_rekey() {
    for pattern in ["XX", "IK"] {
        let plain = Plain::new(0x42);
        let mut bob = End::bob(None);
        let (noise, mut reply) = plain_initiator(&plain, pattern, &mut bob);
        let hash = noise.get_handshake_hash().to_vec();
        let mut transport = noise.into_stateless_transport_mode().unwrap();
        let (mut wire, mut text) = ([0; 256], [0; 256]);
        assert_eq!(
            transport
                .read_message(0, &unframe(&mut reply), &mut text)
                .unwrap(),
            96
        );
        assert_eq!(&text[..32], BOB.id().as_bytes());
        let own = plain.public();
        let n = transport
            .write_message(0, &plain.proof(1, &hash, &own, &BOB.noise()), &mut wire)
            .unwrap();
        bob.take(&framed(&wire[..n])).unwrap();
        let peer = bob.peer.unwrap();
        assert_eq!(
            peer.node.as_bytes(),
            &plain.identity.x_only_public_key().0.serialize()
        );
        assert_eq!((peer.noise_static, &peer.session[..]), (own, &hash[..]));
        // Frame 0 was the proof. Frame 65,535 is the last under the first key, by the spec page and by snow's REKEY.
        bob.session.skip_to(65_500, 65_500);
        for nonce in 65_500..65_600_u64 {
            if nonce == 65_536 {
                transport.rekey_outgoing();
                transport.rekey_incoming();
            }
            let n = transport.write_message(nonce, b"question", &mut wire).unwrap();
            bob.take(&framed(&wire[..n])).unwrap();
            assert_eq!(bob.frames.pop().unwrap(), b"question");
            let answer = unframe(&mut bob.seal(b"answer"));
            assert_eq!(transport.read_message(nonce, &answer, &mut text).unwrap(), 6);
            assert_eq!(text[..6], *b"answer");
        }
    }
}

#[test]
fn a_plain_snow_responder_interoperates() {
    for pattern in ["XX", "IK"] {
        let plain = Plain::new(0x43);
        let node = NodeId::from_bytes(plain.identity.x_only_public_key().0.serialize());
        let contact = match pattern {
            "XX" => Contact::Pinned(node),
            _ => Contact::Known {
                node,
                noise_static: plain.public(),
            },
        };
        let mut alice = End::alice(contact);
        let mut noise = plain.handshake(pattern, None, false);
        let mut wire = [0; 256];
        let hello = unframe(&mut alice.sent());
        assert_eq!(noise.read_message(&hello[1..], &mut wire).unwrap(), 0);
        let n = noise.write_message(&[], &mut wire).unwrap();
        alice.take(&framed(&wire[..n])).unwrap();
        if pattern == "XX" {
            let third = unframe(&mut alice.sent());
            assert_eq!(noise.read_message(&third, &mut wire).unwrap(), 0);
        }
        let hash = noise.get_handshake_hash().to_vec();
        let mut transport = noise.into_transport_mode().unwrap();
        let proof = plain.proof(2, &hash, &plain.public(), &ALICE.noise());
        alice.take(&seal(&mut transport, &proof)).unwrap();
        assert_eq!(alice.peer.unwrap().node, node);
        let shown = open(&mut transport, &unframe(&mut alice.sent()));
        assert_eq!(&shown[..32], ALICE.id().as_bytes());
        assert_eq!(
            open(&mut transport, &unframe(&mut alice.seal(b"hello"))),
            b"hello"
        );
    }
}

#[test]
fn a_proof_for_anything_else_is_refused() {
    let plain = Plain::new(0x42);
    let own = plain.public();
    let cheats = [
        ("the other role, so a reflected proof", 2, own, BOB.noise(), false),
        (
            "another static key of its own",
            1,
            MALLORY.noise(),
            BOB.noise(),
            false,
        ),
        ("for another peer", 1, own, MALLORY.noise(), false),
        ("another session", 1, own, BOB.noise(), true),
        ("both keys swapped", 1, BOB.noise(), own, false),
    ];
    for (what, role, signer_static, peer_static, other_hash) in cheats {
        let mut bob = End::bob(None);
        let (noise, _) = plain_initiator(&plain, "XX", &mut bob);
        let mut hash = noise.get_handshake_hash().to_vec();
        if other_hash {
            hash[0] ^= 1;
        }
        let mut transport = noise.into_transport_mode().unwrap();
        let proof = plain.proof(role, &hash, &signer_static, &peer_static);
        assert_eq!(
            bob.take(&seal(&mut transport, &proof)),
            Err(SessionError::Proof),
            "{what}"
        );
        assert!(bob.peer.is_none());
    }
}

#[test]
fn a_man_in_the_middle_with_swapped_static_keys_gets_nowhere() {
    // Mallory answers Alice and calls Bob, both with Noise keys of its own, and passes the proofs on.
    let mallory = Plain::new(0x66);
    let (mut alice, mut bob) = (End::alice(Contact::Pinned(BOB.id())), End::bob(None));
    let mut towards_alice = mallory.handshake("XX", None, false);
    let mut wire = [0; 256];
    towards_alice
        .read_message(&unframe(&mut alice.sent())[1..], &mut wire)
        .unwrap();
    let n = towards_alice.write_message(&[], &mut wire).unwrap();
    alice.take(&framed(&wire[..n])).unwrap();
    towards_alice
        .read_message(&unframe(&mut alice.sent()), &mut wire)
        .unwrap();
    let mut towards_alice = towards_alice.into_transport_mode().unwrap();

    let (towards_bob, mut reply) = plain_initiator(&mallory, "XX", &mut bob);
    let mut towards_bob = towards_bob.into_transport_mode().unwrap();
    let bobs_proof = open(&mut towards_bob, &unframe(&mut reply));
    assert_eq!(
        alice.take(&seal(&mut towards_alice, &bobs_proof)),
        Err(SessionError::Proof)
    );
    assert!(alice.sent().is_empty(), "Alice shows nothing to Mallory");
    assert!(alice.peer.is_none() && bob.peer.is_none());
}
