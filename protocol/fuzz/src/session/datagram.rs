//! Two ends of a datagram session, and somebody in between.

use super::{Setting, T0, frame, sealed};
use crate::parties;
use crate::tape::Tape;
use std::collections::BTreeSet;
use turnpike_protocol::base::limits::HANDSHAKE_TIMEOUT;
use turnpike_protocol::base::{Duration, Instant};
use turnpike_protocol::talk::session::{Action, DatagramSession, Peer, Received, SessionError, route};

struct End {
    session: DatagramSession,
    peer: Option<Peer>,
    dead: Option<SessionError>,
    /// Every packet that it sent, so that each can be said again.
    sent: Vec<Vec<u8>>,
    /// How many of them were delivered in their order.
    next: usize,
    sealed: BTreeSet<Vec<u8>>,
    delivered: BTreeSet<Vec<u8>>,
    /// Numbers its frames.
    frames: usize,
}

struct Pair<'a> {
    setting: &'a Setting,
    now: Instant,
    ends: [End; 2],
    /// The first packet that the called end saw was the caller's own; `None` before.
    honest: Option<bool>,
}

/// Numbers of the session at both ends.
const IDS: [u32; 2] = [0x0a0b_0c0d, 0x0102_0304];
/// Packets of one side that are kept: an input cannot ask for more work than this.
const MOST: usize = 400;

pub(super) fn run(setting: &Setting, tape: &mut Tape<'_>) {
    let caller = DatagramSession::initiate(
        T0,
        &parties::party(setting.who[0]),
        setting.contact,
        IDS[0],
        [0xa1; 32],
    );
    let called = DatagramSession::accept(T0, setting.pinned, IDS[1], [0xb0; 32]);
    let ends = [
        End::new(caller.expect("a session can be begun")),
        End::new(called),
    ];
    let mut pair = Pair {
        setting,
        now: T0,
        ends,
        honest: None,
    };
    pair.drain(0);
    while !tape.ended() && pair.ends.iter().all(|e| e.sent.len() < MOST) {
        pair.step(tape);
    }
    pair.finish();
}

impl End {
    fn new(session: DatagramSession) -> End {
        End {
            session,
            peer: None,
            dead: None,
            sent: Vec::new(),
            next: 0,
            sealed: BTreeSet::new(),
            delivered: BTreeSet::new(),
            frames: 0,
        }
    }
}

impl Pair<'_> {
    fn step(&mut self, tape: &mut Tape<'_>) {
        let code = tape.byte();
        let side = usize::from(code >> 4 & 1);
        let end = &mut self.ends[side];
        match code & 15 {
            0 | 10.. => {
                // The byte is skipped, so that both bearers read alike.
                tape.byte();
                if let Some(packet) = end.sent.get(end.next).cloned() {
                    end.next += 1;
                    self.deliver(1 - side, packet, true);
                }
            }
            1 | 2 => {
                // An old packet again, or one that overtakes the others.
                let at = tape.below(end.sent.len());
                if let Some(packet) = end.sent.get(at).cloned() {
                    self.deliver(1 - side, packet, true);
                }
            }
            3 => end.next += 1,
            4 => {
                let (which, at, bits) = (
                    tape.below(end.sent.len()),
                    usize::from(tape.short()),
                    tape.byte().max(1),
                );
                if let Some(mut packet) = end.sent.get(which).cloned() {
                    let at = at % packet.len();
                    packet[at] ^= bits;
                    self.deliver(1 - side, packet, false);
                }
            }
            5 => {
                let count = tape.below(256);
                let packet = tape.take(count).to_vec();
                self.deliver(1 - side, packet, false);
            }
            6 => {
                // Its own packet comes back, or one that was cut.
                let (which, length) = (tape.below(end.sent.len()), usize::from(tape.byte()));
                if let Some(mut packet) = end.sent.get(which).cloned() {
                    let whole = length >= packet.len();
                    packet.truncate(length);
                    self.deliver(if whole { side } else { 1 - side }, packet, false);
                }
            }
            7 | 8 => self.seal(side, usize::from(tape.short())),
            _ => {
                self.now = self.now + Duration::from_millis(u64::from(tape.byte()) * 20);
                self.timeout(side);
            }
        }
    }

    fn seal(&mut self, side: usize, length: usize) {
        let end = &mut self.ends[side];
        let text = if length == 0 || length > 5_000 {
            vec![0; length]
        } else {
            frame(side, end.frames, length)
        };
        end.frames += 1;
        let mut out = Vec::new();
        let result = end.session.seal(&text, &mut out);
        if result.is_ok() {
            end.sealed.insert(text.clone());
            end.sent.push(out);
        } else {
            assert!(out.is_empty(), "a frame that was refused left bytes behind");
        }
        sealed(
            result,
            text.len(),
            end.session.peer().is_some(),
            end.dead.is_some(),
        );
    }

    fn deliver(&mut self, side: usize, mut packet: Vec<u8>, honest: bool) {
        let party = parties::party(self.setting.who[side]);
        let _ = route(&packet);
        let [caller, called] = &mut self.ends;
        let (end, other) = if side == 0 {
            (caller, called)
        } else {
            (called, caller)
        };
        if side == 1 {
            // A first packet that no session comes of is dropped by the shell together with the session.
            self.honest.get_or_insert(honest && packet.first() == Some(&1));
        }
        match end.session.handle_datagram(self.now, &party, &mut packet) {
            Ok(received) => {
                assert!(end.dead.is_none(), "a dead session takes packets");
                if let Received::Frame(text) = received {
                    assert!(
                        end.peer.is_some(),
                        "a frame was delivered before the peer was proven"
                    );
                    assert!(
                        other.sealed.contains(text),
                        "a frame was delivered that was not sealed"
                    );
                    assert!(end.delivered.insert(text.to_vec()), "a frame was delivered twice");
                    assert!(honest, "a packet that was changed delivered a frame");
                }
            }
            Err(error) => end.die(error),
        }
        self.drain(side);
    }

    fn timeout(&mut self, side: usize) {
        if let Err(error) = self.ends[side].session.handle_timeout(self.now) {
            self.ends[side].die(error);
        }
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        let [caller, called] = &mut self.ends;
        let (end, other) = if side == 0 {
            (caller, called)
        } else {
            (called, caller)
        };
        while let Some(action) = end.session.poll_action() {
            match action {
                Action::Send(packet) => end.sent.push(packet),
                Action::Established(peer) => {
                    assert_eq!(end.peer, None, "established twice");
                    self.setting.check(side, &peer, other.peer.as_ref());
                    end.peer = Some(peer);
                }
            }
        }
    }

    /// From now on nothing is lost: the handshake must come to its end while there is time for it.
    fn finish(&mut self) {
        let deadline = T0 + HANDSHAKE_TIMEOUT;
        let in_time = self.now < T0 + Duration::from_secs(6);
        for _ in 0..40 {
            for side in [0, 1] {
                let end = &mut self.ends[side];
                let packets: Vec<_> = end
                    .sent
                    .get(end.next.min(end.sent.len())..)
                    .unwrap_or_default()
                    .to_vec();
                end.next = end.sent.len();
                packets.into_iter().for_each(|p| self.deliver(1 - side, p, true));
            }
            let next = self.ends.iter().filter_map(|e| e.session.next_timeout()).min();
            if let Some(at) = next.filter(|at| *at < deadline) {
                self.now = self.now.max(at);
            }
            (0..2).for_each(|side| self.timeout(side));
        }
        let [caller, called] = &self.ends;
        let both = caller.peer.is_some() && called.peer.is_some();
        if self.setting.agrees() && in_time && self.honest == Some(true) {
            assert!(
                both,
                "a forger kept two ends apart: {:?} {:?}",
                caller.session, called.session
            );
        }
        if !self.setting.agrees() {
            assert!(!both, "two established a session who did not want each other");
        }
    }
}

impl End {
    fn die(&mut self, error: SessionError) {
        assert!(
            self.dead.is_none_or(|known| known == error),
            "a session died twice"
        );
        self.dead = Some(error);
        assert_eq!(self.session.peer(), None, "a dead session has a peer");
    }
}
