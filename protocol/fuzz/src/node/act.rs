//! What nodes want done, done by a simulated shell, in order.

use super::check::Judged;
use super::world::{BOTH, CLIENT, Passed, RELAY, World, start};
use turnpike_protocol::base::{ByteCount, ConnectionId};
use turnpike_protocol::market::{BuyerState, StopReason};
use turnpike_protocol::node::{Action, Event, Input};
use turnpike_protocol::wire::ErrorCode;

/// Frames that two nodes may exchange before one operation is through.
const MOST_FRAMES: usize = 2_000;

impl World {
    /// Does what both want and carries their frames, until both are quiet.
    pub fn pump(&mut self) {
        let mut carried = 0;
        loop {
            for who in BOTH {
                while let Some(action) = self.nodes[who].poll_action() {
                    if self.goes_out(who) {
                        break;
                    }
                    self.act(who, action);
                }
            }
            let (true, false) = (self.fallen.is_none(), self.hold) else {
                break;
            };
            let mut quiet = true;
            for who in BOTH {
                if let Some(frame) = self.frames[who].pop_front() {
                    quiet = false;
                    carried += 1;
                    self.deliver(who, &frame);
                }
            }
            assert!(carried < MOST_FRAMES, "two nodes never stop talking");
            if quiet {
                break;
            }
        }
        if let Some(who) = self.fallen.take() {
            // Whether the kernel outlived it: by turns, so that both are tried.
            let kernel = self.links % 2 == 0;
            self.restart(who, kernel, false);
        }
    }

    fn goes_out(&mut self, who: usize) -> bool {
        match &mut self.cut {
            _ if self.fallen == Some(who) => true,
            Some((cut, 0)) if *cut == who => {
                self.cut = None;
                self.fallen = Some(who);
                true
            }
            Some((cut, left)) if *cut == who => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    pub fn deliver(&mut self, who: usize, frame: &[u8]) {
        if let Some(connection) = self.link {
            self.feed(who, Input::Frame { connection, frame });
        }
    }

    pub fn link(&mut self) {
        self.repriced |= self.sold;
        self.stale.extend(self.link.take());
        for connection in self.stale.clone() {
            self.feed(CLIENT, Input::Disconnected { connection });
        }
        self.frames.iter_mut().for_each(|f| f.clear());
        self.links += 1;
        let connection = ConnectionId(self.links);
        self.link = Some(connection);
        let ids = BOTH.map(|who| self.nodes[who].id());
        for who in BOTH {
            self.feed(
                who,
                Input::Connected {
                    connection,
                    peer: ids[1 - who],
                },
            );
        }
        self.pump();
    }

    fn act(&mut self, who: usize, action: Action) {
        match action {
            Action::Persist(write) => self.disks[who].write(write),
            Action::Send { connection, frame } => {
                self.judge(who, Judged::Frame(&frame));
                if self.link == Some(connection) {
                    self.frames[1 - who].push_back(frame);
                }
            }
            Action::Disconnect { connection, code } => {
                let liars = self.lied[CLIENT] || self.lied[RELAY];
                let faults = matches!(
                    code,
                    ErrorCode::Malformed | ErrorCode::BadSignature | ErrorCode::WrongChain
                );
                assert!(liars || !faults, "an honest node was hung up on: {}", code.text());
                if self.link == Some(connection) {
                    self.unlink();
                }
            }
            Action::Chain(action) => self.chain_action(who, action),
            Action::Attach { client, .. } => {
                let result = if self.faults.attach {
                    Err(ErrorCode::GateDown)
                } else {
                    Ok(())
                };
                if result.is_ok() {
                    let before = self.gate.insert(client, Passed::default());
                    assert!(before.is_none(), "attachment {client} was made twice");
                }
                self.feed(who, Input::Attached { client, result });
            }
            Action::Grant { client, limit } => {
                if let Some(passed) = self.gate.get_mut(&client) {
                    passed.limit = limit.value();
                    passed.dropped = false;
                }
                self.judge(who, Judged::Grant);
            }
            Action::ReadGate if self.faults.read => self.feed(who, Input::GateFailed),
            Action::ReadGate => {
                self.feed(who, Input::GateRestored);
                let readings: Vec<_> = self.gate.iter().map(|(c, p)| p.reading(*c)).collect();
                self.feed(who, Input::GateReadings { readings: &readings });
            }
            Action::CheckBinding { .. } => {}
            Action::Detach { client } => self.close_gate(client),
            Action::ReadMeter if self.faults.meter => self.feed(who, Input::MeterFailed),
            Action::ReadMeter => {
                let (up, down) = (ByteCount::new(self.meter.0), ByteCount::new(self.meter.1));
                self.feed(who, Input::MeterReading { up, down });
            }
            Action::Notify(event) => self.event(who, &event),
        }
    }

    pub fn close_gate(&mut self, client: u16) {
        if self.faults.detach {
            return self.feed(RELAY, Input::DetachFailed { client });
        }
        let last = self.gate.remove(&client);
        self.passed_before += last.map_or(0, |p| p.up + p.down);
        let last = last.map(|p| p.reading(client));
        self.feed(RELAY, Input::Detached { client, last });
    }

    fn event(&mut self, who: usize, event: &Event) {
        if let Event::CopiedStore { .. } = event {
            assert!(
                self.lied[1 - who],
                "a store that was never copied is taken for a copy"
            );
        }
        self.lost |= matches!(event, Event::Lost { .. });
        let accused = match event {
            Event::OverClaim { .. } => true,
            Event::Progress { view, .. } => matches!(
                view.state,
                BuyerState::Stopped(StopReason::OverClaim | StopReason::UnderGrant)
            ),
            _ => false,
        };
        // What an exempt client fails to count across a restart has no bound. Who misses that prices rose, since the session
        // broke or the frame was lost, rightly wonders at the bill; and so does who pays with a funding that never confirms.
        let lied = self.lied[RELAY] || self.lied[CLIENT];
        let honest = !lied && !self.clocks && !self.exempt && !self.repriced && !self.lost;
        assert!(
            !accused || !honest || self.missing(),
            "an honest relay is accused: {event:?}"
        );
    }

    /// A store that is folded holds the same, and loads.
    pub fn fold(&mut self, who: usize) {
        let writes = self.nodes[who].fold();
        self.disks[who].fold(writes);
        drop(start(who, &mut self.disks[who], self.now[who]));
    }
}
