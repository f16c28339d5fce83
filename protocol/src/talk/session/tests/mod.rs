//! Pairs of sessions in simulated time, judged by plain `snow` peers that were built independently.

mod attack;
mod datagram;
mod interop;
mod stream;
mod window;

use super::{Action, Contact, Party, Peer, SessionError, StreamSession, noise_public};
use crate::base::{GenesisHash, Instant, NodeId};
use crate::crypto::{CoinType, Keys, Seed, Verifier};
use std::sync::LazyLock;
use std::vec::Vec;

const REGTEST: GenesisHash = GenesisHash::from_bytes([0x11; 32]);
const T0: Instant = Instant::from_micros(5_000_000);

/// A node: made once, since seeds are stretched slowly on purpose.
struct Node {
    keys: Keys,
    verifier: Verifier,
}

static ALICE: LazyLock<Node> = LazyLock::new(|| Node::new(1));
static BOB: LazyLock<Node> = LazyLock::new(|| Node::new(2));
static MALLORY: LazyLock<Node> = LazyLock::new(|| Node::new(3));

impl Node {
    fn new(seed: u8) -> Node {
        let keys = Keys::new(&Seed::from_entropy(&[seed; 32]), CoinType::Test).unwrap();
        Node {
            keys,
            verifier: Verifier::new(),
        }
    }

    fn party(&self) -> Party<'_> {
        Party {
            keys: &self.keys,
            verifier: &self.verifier,
            genesis: REGTEST,
        }
    }

    fn id(&self) -> NodeId {
        self.keys.node()
    }

    fn noise(&self) -> [u8; 32] {
        noise_public(self.keys.session_static())
    }
}

/// How Alice may reach Bob.
fn contacts() -> [Contact; 3] {
    let node = BOB.id();
    [
        Contact::Any,
        Contact::Pinned(node),
        Contact::Known {
            node,
            noise_static: BOB.noise(),
        },
    ]
}

/// One end of a stream, and what it has seen.
struct End {
    party: Party<'static>,
    session: StreamSession,
    peer: Option<Peer>,
    frames: Vec<Vec<u8>>,
    out: Vec<u8>,
}

impl End {
    fn alice(contact: Contact) -> End {
        End::new(
            ALICE.party(),
            StreamSession::initiate(T0, &ALICE.party(), contact, [0xa1; 32]).unwrap(),
        )
    }

    fn bob(pinned: Option<NodeId>) -> End {
        End::new(BOB.party(), StreamSession::accept(T0, pinned, [0xb0; 32]))
    }

    fn new(party: Party<'static>, session: StreamSession) -> End {
        let mut end = End {
            party,
            session,
            peer: None,
            frames: Vec::new(),
            out: Vec::new(),
        };
        end.drain();
        end
    }

    fn take(&mut self, mut input: &[u8]) -> Result<(), SessionError> {
        while !input.is_empty() {
            let taken = self.session.handle_bytes(T0, &self.party, input)?;
            input = &input[taken..];
            self.drain();
        }
        Ok(())
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(bytes) => self.out.extend(bytes),
                Action::Established(peer) => self.peer = Some(peer),
            }
        }
        if let Some(frame) = self.session.poll_frame() {
            self.frames.push(frame.to_vec());
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.seal(frame, &mut out).unwrap();
        out
    }
}

/// Carries bytes both ways until nobody has any left.
fn settle(a: &mut End, b: &mut End) -> Result<(), SessionError> {
    loop {
        let (to_b, to_a) = (a.sent(), b.sent());
        if to_a.is_empty() && to_b.is_empty() {
            return Ok(());
        }
        b.take(&to_b)?;
        a.take(&to_a)?;
    }
}

/// Alice and Bob, established.
fn pair(contact: Contact) -> (End, End) {
    let (mut a, mut b) = (End::alice(contact), End::bob(None));
    settle(&mut a, &mut b).unwrap();
    assert!(a.peer.is_some() && b.peer.is_some());
    (a, b)
}
