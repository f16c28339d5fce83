//! Hostile bytes and lost, repeated, reordered, cut and forged packets between two ends of a session.
//!
//! Promises, on a stream and over datagrams alike:
//! - no panic, and no end without progress;
//! - what an end delivers was sealed by the other one: on a stream all of it in order, as datagrams each at most once;
//! - an end only ever establishes the peer that it was set up with, never itself, never another than the pinned one, and
//!   both ends name one session;
//! - while nothing was forged, both ends establish (and over datagrams, also when the forger came after the first hello).

mod datagram;
mod stream;

use crate::parties;
use crate::tape::Tape;
use turnpike_protocol::base::{Instant, NodeId};
use turnpike_protocol::talk::session::{Contact, Peer, SessionError, noise_public};

const T0: Instant = Instant::from_micros(5_000_000);

/// Who talks to whom, and whom each of them expects.
struct Setting {
    /// Initiator and responder: numbers of [`parties`].
    who: [usize; 2],
    contact: Contact,
    pinned: Option<NodeId>,
}

/// One exchange without a fault in each mode, and one with frames.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for bearer in [0, 1] {
        for contact in 0..3 {
            let mut seed = vec![bearer, 1 << 2, contact, 0];
            for round in 0..12 {
                // Deliver from both ends in turn; from the middle on each seals a frame of its own before.
                for side in [0, 1] {
                    if round > 5 {
                        seed.extend([7 | side << 4, 20, 0]);
                    }
                    seed.extend([side << 4, 0]);
                }
            }
            seeds.push(seed);
        }
    }
    seeds
}

/// One input.
pub fn run(input: &[u8]) {
    let mut tape = Tape::new(input);
    let bearer = tape.byte();
    let setting = Setting::read(&mut tape);
    if bearer % 2 == 0 {
        stream::run(&setting, &mut tape);
    } else {
        datagram::run(&setting, &mut tape);
    }
}

impl Setting {
    fn read(tape: &mut Tape<'_>) -> Setting {
        let both = tape.byte();
        let who = [usize::from(both) & 3, usize::from(both) >> 2 & 3].map(|w| w % parties::COUNT);
        let how = tape.byte();
        let node = parties::of(usize::from(how) >> 2 & 3).node();
        let meant = if how & 16 == 0 {
            who[1]
        } else {
            usize::from(how) >> 2 & 3
        };
        let contact = match how & 3 {
            0 => Contact::Any,
            1 => Contact::Pinned(parties::of(meant).node()),
            _ => Contact::Known {
                node: parties::of(meant).node(),
                noise_static: noise_public(parties::of(meant).session_static()),
            },
        };
        let pinned = (tape.byte() & 1 == 1).then_some(node);
        Setting { who, contact, pinned }
    }

    /// Whether these two want to talk to each other.
    fn agrees(&self) -> bool {
        let [caller, called] = self.who.map(|w| parties::of(w).node());
        let meant = match self.contact {
            Contact::Any => true,
            Contact::Pinned(node) | Contact::Known { node, .. } => node == called,
        };
        caller != called && meant && self.pinned.is_none_or(|p| p == caller)
    }

    /// An end says that it knows its peer now.
    fn check(&self, side: usize, peer: &Peer, other: Option<&Peer>) {
        let expected = parties::of(self.who[1 - side]);
        assert!(
            self.who[0] != self.who[1],
            "a node established a session with itself"
        );
        assert_eq!(
            peer.node,
            expected.node(),
            "an end established a peer that is not there"
        );
        assert_eq!(
            peer.noise_static,
            noise_public(expected.session_static()),
            "of another static key"
        );
        let wanted = match side {
            0 => match self.contact {
                Contact::Any => None,
                Contact::Pinned(node) | Contact::Known { node, .. } => Some(node),
            },
            _ => self.pinned,
        };
        assert!(
            wanted.is_none_or(|w| w == peer.node),
            "a peer other than the pinned one was established"
        );
        if let Some(other) = other {
            assert_eq!(
                peer.session, other.session,
                "both ends are established in different sessions"
            );
        }
    }
}

/// Frame number `number` of one side: no two are alike.
fn frame(side: usize, number: usize, length: usize) -> Vec<u8> {
    let mut frame = vec![side as u8 + 1];
    frame.extend((number as u32).to_be_bytes());
    frame.resize(length.max(frame.len()), 0x5a);
    frame
}

/// A call that only the caller can get wrong.
fn sealed(result: Result<(), SessionError>, length: usize, open: bool, dead: bool) {
    use turnpike_protocol::base::limits::MAX_FRAME;
    let fits = (1..=MAX_FRAME).contains(&length);
    match result {
        Ok(()) => assert!(open && fits, "a frame of {length} bytes was sealed, open: {open}"),
        Err(SessionError::FrameLength(_)) => assert!(open && !fits, "a frame of {length} bytes was refused"),
        Err(SessionError::NotEstablished) => assert!(!open, "an established session says that it is not"),
        Err(error) => assert!(dead, "a living session seals nothing: {error}"),
    }
}
