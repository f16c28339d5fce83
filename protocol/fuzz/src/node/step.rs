//! One operation.

use super::Op;
use super::world::{BOTH, CLIENT, Faults, RELAY, World, selling};
use crate::tape::Tape;
use turnpike_protocol::base::{ByteCount, Duration, FeeRate, Instant, Msat, Sat, Slot};
use turnpike_protocol::market::Standing;
use turnpike_protocol::node::{Command, CommandError, Input};

/// The longest packet, bytes.
const PACKET: u64 = 1_500;

impl World {
    pub fn step(&mut self, op: Op, tape: &mut Tape<'_>) {
        match op {
            Op::Link => self.link(),
            Op::Unlink => {
                self.unlink();
                self.pump();
            }
            Op::Hold => {
                self.hold = !self.hold;
                self.repriced |= self.sold;
                self.pump();
            }
            Op::Deliver => {
                let how = tape.byte();
                for _ in 0..1 + how / 2 % 16 {
                    let who = usize::from(how & 1);
                    if let Some(frame) = self.frames[who].pop_front() {
                        self.deliver(who, &frame);
                        self.pump();
                    }
                }
            }
            Op::Lose => drop(self.frames[usize::from(tape.byte() & 1)].pop_front()),
            Op::Repeat => {
                let queue = &mut self.frames[usize::from(tape.byte() & 1)];
                if let Some(frame) = queue.front().cloned() {
                    queue.push_back(frame);
                }
            }
            Op::Swap => {
                let queue = &mut self.frames[usize::from(tape.byte() & 1)];
                if queue.len() > 1 {
                    queue.swap(0, 1);
                }
            }
            Op::Change => {
                let who = usize::from(tape.byte() & 1);
                let (at, bits) = (usize::from(tape.byte()), tape.byte().max(1));
                if let Some(frame) = self.frames[who].front_mut() {
                    let at = at % frame.len();
                    frame[at] ^= bits;
                    self.lied[1 - who] = true;
                }
            }
            Op::AskOffer => self.with_link(|connection| Command::AskOffer { connection }),
            Op::Open => {
                let (capacity, lifetime) = (tape.byte(), tape.byte());
                let capacity = Sat::new(10_000 + u64::from(capacity) * 10_000);
                let lifetime = Some(216 + u32::from(lifetime) * 200);
                self.with_link(|connection| Command::Open {
                    connection,
                    capacity,
                    lifetime,
                });
            }
            Op::Buy => {
                let (bytes, max) = (u64::from(tape.byte()), u64::from(tape.byte()) * 20_000);
                let bytes = (bytes != 255).then(|| ByteCount::new(bytes * 128 * 1024));
                let Some(connection) = self.link else { return };
                let buy = Command::Buy {
                    connection,
                    bytes,
                    max: Msat::new(max),
                };
                if self.command(CLIENT, buy).is_ok() {
                    self.allowed += max;
                }
                self.pump();
            }
            Op::StopBuying => self.with_link(|connection| Command::StopBuying { connection }),
            Op::Close => {
                let (who, slot) = (usize::from(tape.byte() & 1), Slot(u32::from(tape.byte() % 8)));
                let command = if slot.0 == 7 {
                    Command::CloseAll
                } else {
                    Command::Close { slot }
                };
                let _ = self.command(who, command);
                self.pump();
            }
            Op::Traffic => {
                let (amount, time) = (u64::from(tape.byte()) * 4 * 1024, tape.byte());
                self.traffic(amount, u32::from(time));
            }
            Op::Wait => {
                let time = u64::from(tape.byte());
                for _ in 0..20 {
                    self.pass(Duration::from_millis(time * 25));
                }
            }
            Op::Mine => {
                let (blocks, how) = (tape.byte(), tape.byte());
                // Many at once, as when a node comes back after days.
                if how & 2 != 0 {
                    self.height += u32::from(blocks) * 8;
                    self.highest = self.highest.max(self.height);
                }
                self.mine(1 + u32::from(blocks) % 16, how & 1 == 1);
            }
            Op::Reorganise => {
                let (depth, how) = (u32::from(tape.byte()) % 6, tape.byte());
                self.reorganise(depth, how & 1 == 1);
            }
            Op::DoubleSpend => self.double_spend(),
            Op::Dark => {
                let how = tape.byte();
                self.darken(usize::from(how & 1), how & 2 == 0);
            }
            Op::Rate => {
                let rate = [1_000, 3_000, 20_000, 100_000, 1_000_000, 250][tape.below(6)];
                self.fee_rate(rate);
                let (slot, rate) = (Slot(u32::from(tape.byte() % 4)), FeeRate::new(rate * 2));
                let _ = self.command(RELAY, Command::RaiseFee { slot, rate });
                self.pump();
            }
            Op::Cut => self.cut = Some((usize::from(tape.byte() & 1), tape.byte() % 32)),
            Op::Kill => {
                let how = tape.byte();
                self.restart(usize::from(how & 1), how & 2 == 0, how & 4 != 0);
            }
            Op::ClockBack => {
                self.now[usize::from(tape.byte() & 1)] = Instant::from_micros(0);
                self.clocks = true;
            }
            Op::Sell => {
                let kind = tape.byte();
                let config = selling(kind);
                self.sold = true;
                self.repriced |= self.hold || self.link.is_none();
                self.cheapest = self.cheapest.min(config.sheet.down.value());
                self.free |= config.sheet.free > ByteCount::ZERO;
                self.command(RELAY, Command::Sell(config))
                    .expect("good prices are sold by");
                self.pump();
            }
            Op::Stand => {
                let standing = [Standing::Normal, Standing::Blocked, Standing::Exempt][tape.below(3)];
                let client = self.nodes[CLIENT].id();
                if self.command(RELAY, Command::Stand { client, standing }).is_ok() {
                    self.exempt |= standing == Standing::Exempt;
                }
                self.pump();
            }
            Op::Faults => {
                let bits = tape.byte();
                let has = |bit: u8| bits >> bit & 1 == 1;
                self.faults = Faults {
                    attach: has(0),
                    read: has(1),
                    detach: has(2),
                    fund: has(3),
                    meter: has(4),
                };
                if !has(1) {
                    self.give(RELAY, Input::GateRestored);
                }
            }
            Op::Drift => {
                let client = u16::from(tape.byte() % 3);
                self.give(RELAY, Input::Drift { client });
            }
            Op::Fold => {
                let who = usize::from(tape.byte() & 1);
                self.pump();
                self.fold(who);
            }
        }
    }

    fn with_link(&mut self, command: impl Fn(turnpike_protocol::base::ConnectionId) -> Command) {
        if let Some(connection) = self.link {
            let _ = self.command(CLIENT, command(connection));
        }
        self.pump();
    }

    fn command(&mut self, who: usize, command: Command) -> Result<(), CommandError> {
        self.nodes[who].handle(self.now[who], Input::Command(command))
    }

    /// Packets to the client and some from it, in steps of 20 ms, with timers running.
    fn traffic(&mut self, amount: u64, steps: u32) {
        for _ in 0..steps {
            self.pass(Duration::from_millis(20));
            for passed in self.gate.values_mut() {
                let left = passed.limit.saturating_sub(passed.up + passed.down);
                let down = amount.min(left / PACKET * PACKET);
                let up = (down / 16).min(left - down);
                passed.dropped |= down < amount;
                passed.down += down;
                passed.up += up;
                self.meter.0 += up;
                self.meter.1 += down;
            }
        }
        debug_assert!(BOTH.len() == 2);
    }
}
