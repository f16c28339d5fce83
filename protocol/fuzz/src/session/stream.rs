//! Two ends of a stream, and somebody in between.

use super::{Setting, T0, frame, sealed};
use crate::parties;
use crate::tape::Tape;
use std::collections::VecDeque;
use turnpike_protocol::base::{Duration, Instant};
use turnpike_protocol::talk::session::{Action, Peer, SessionError, StreamSession};

struct End {
    session: StreamSession,
    peer: Option<Peer>,
    dead: Option<SessionError>,
    /// On their way to the other end.
    out: VecDeque<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
    delivered: usize,
    /// What arrives here was not touched.
    clean: bool,
}

struct Pair<'a> {
    setting: &'a Setting,
    now: Instant,
    ends: [End; 2],
}

pub(super) fn run(setting: &Setting, tape: &mut Tape<'_>) {
    let caller = StreamSession::initiate(T0, &parties::party(setting.who[0]), setting.contact, [0xa1; 32]);
    let called = StreamSession::accept(T0, setting.pinned, [0xb0; 32]);
    let mut pair = Pair {
        setting,
        now: T0,
        ends: [
            End::new(caller.expect("a session can be begun")),
            End::new(called),
        ],
    };
    pair.drain(0);
    while !tape.ended() {
        pair.step(tape);
    }
    pair.finish();
}

impl End {
    fn new(session: StreamSession) -> End {
        End {
            session,
            peer: None,
            dead: None,
            out: VecDeque::new(),
            sealed: Vec::new(),
            delivered: 0,
            clean: true,
        }
    }
}

impl Pair<'_> {
    fn step(&mut self, tape: &mut Tape<'_>) {
        let code = tape.byte();
        let side = usize::from(code >> 4 & 1);
        let queue = &mut self.ends[side].out;
        let mut touched = true;
        match code & 15 {
            0 | 10.. => {
                let cut = usize::from(tape.byte());
                if let Some(mut chunk) = queue.pop_front() {
                    // Cut where the byte says, in eighths of a byte of length; zero takes it all.
                    let at = if cut == 0 {
                        chunk.len()
                    } else {
                        (chunk.len() * cut / 256).max(1).min(chunk.len())
                    };
                    let rest = chunk.split_off(at);
                    if !rest.is_empty() {
                        queue.push_front(rest);
                    }
                    self.deliver(1 - side, &chunk);
                }
                touched = false;
            }
            1 => {
                if let Some(first) = queue.front().cloned() {
                    queue.push_front(first);
                }
            }
            2 => drop(queue.pop_front()),
            3 => {
                if queue.len() > 1 {
                    queue.swap(0, 1);
                }
            }
            4 => {
                let (at, bits) = (usize::from(tape.short()), tape.byte().max(1));
                if let Some(chunk) = queue.front_mut().filter(|c| !c.is_empty()) {
                    let at = at % chunk.len();
                    chunk[at] ^= bits;
                }
            }
            5 => {
                let count = tape.below(256);
                queue.push_front(tape.take(count).to_vec());
            }
            6 => {
                // What an end said is said to itself.
                if let Some(chunk) = self.ends[1 - side].out.front().cloned() {
                    self.ends[side].out.push_front(chunk);
                }
            }
            7 | 8 => {
                self.seal(side, usize::from(tape.short()));
                touched = false;
            }
            _ => {
                self.now = self.now + Duration::from_millis(u64::from(tape.byte()) * 100);
                let result = self.ends[side].session.handle_timeout(self.now);
                self.ended(side, result);
                // A handshake that was slow may end.
                self.ends[0].clean &= self.ends[0].peer.is_some();
                self.ends[1].clean &= self.ends[1].peer.is_some();
                touched = false;
            }
        }
        if touched {
            self.ends[1 - side].clean = false;
        }
    }

    fn seal(&mut self, side: usize, length: usize) {
        let end = &mut self.ends[side];
        let text = if length < 5 {
            vec![0; length]
        } else {
            frame(side, end.sealed.len(), length)
        };
        let mut out = Vec::new();
        let result = end.session.seal(&text, &mut out);
        if result.is_ok() {
            end.sealed.push(text.clone());
            end.out.push_back(out);
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

    fn deliver(&mut self, side: usize, mut bytes: &[u8]) {
        let party = parties::party(self.setting.who[side]);
        while !bytes.is_empty() {
            let result = self.ends[side].session.handle_bytes(self.now, &party, bytes);
            let Ok(taken) = result else {
                return self.ended(side, result.map(drop));
            };
            assert!(self.ends[side].dead.is_none(), "a dead session takes bytes");
            assert!(
                taken > 0 && taken <= bytes.len(),
                "{taken} of {} bytes taken",
                bytes.len()
            );
            bytes = &bytes[taken..];
            self.drain(side);
        }
    }

    fn ended(&mut self, side: usize, result: Result<(), SessionError>) {
        let end = &mut self.ends[side];
        if let Err(error) = result {
            assert!(
                end.dead.is_none_or(|known| known == error),
                "a session died twice"
            );
            end.dead = Some(error);
        }
        if end.dead.is_some() {
            assert_eq!(end.session.peer(), None, "a dead session has a peer");
        }
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
                Action::Send(bytes) => end.out.push_back(bytes),
                Action::Established(peer) => {
                    assert_eq!(end.peer, None, "established twice");
                    self.setting.check(side, &peer, other.peer.as_ref());
                    end.peer = Some(peer);
                }
            }
        }
        if let Some(got) = end.session.poll_frame() {
            assert!(
                end.peer.is_some(),
                "a frame was delivered before the peer was proven"
            );
            let sent = other.sealed.get(end.delivered).map(Vec::as_slice);
            assert_eq!(
                Some(got),
                sent,
                "a stream delivered what was not sealed, or in another order"
            );
            end.delivered += 1;
        }
    }

    /// Carries what is left. Where nobody touched anything all of it must arrive.
    fn finish(&mut self) {
        let clean = self.ends.iter().all(|e| e.clean);
        while self.ends.iter().any(|e| !e.out.is_empty()) {
            for side in [0, 1] {
                if let Some(chunk) = self.ends[side].out.pop_front() {
                    self.deliver(1 - side, &chunk);
                }
            }
        }
        let [caller, called] = &self.ends;
        if clean && self.setting.agrees() {
            assert!(
                caller.peer.is_some() && called.peer.is_some(),
                "an untouched handshake failed"
            );
            assert_eq!(
                caller.delivered,
                called.sealed.len(),
                "an untouched frame did not arrive"
            );
            assert_eq!(
                called.delivered,
                caller.sealed.len(),
                "an untouched frame did not arrive"
            );
        }
        if !self.setting.agrees() {
            let both = caller.peer.is_some() && called.peer.is_some();
            assert!(!both, "two established a session who did not want each other");
        }
    }
}
