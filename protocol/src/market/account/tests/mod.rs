//! The account on its own, with a gate that counts exactly.

mod cases;
mod conserve;

use super::*;
use crate::base::{BlockHeight, Instant, NodeId};
use crate::market::{MIB, UNLIMITED};
use crate::wire::{BindingClass, PriceSheet};
use std::vec::Vec;

const PACKET: u64 = 1_514;

fn sheet(up: u64, down: u64, per_second: u64) -> PriceSheet {
    PriceSheet {
        version: 1,
        valid_until: BlockHeight::new(1_000),
        up: Msat::new(up),
        down: Msat::new(down),
        per_second: Msat::new(per_second),
        free: ByteCount::ZERO,
        window_min: ByteCount::new(128 << 10),
        window_max: ByteCount::new(64 << 20),
        class: BindingClass::Address,
    }
}

fn prices(sheet: &PriceSheet) -> Prices {
    Prices::check(sheet, BlockHeight::new(500)).unwrap()
}

fn hash(n: u8) -> SheetHash {
    SheetHash::from_bytes([n; 32])
}

/// An account and what its shell keeps: the gate, the store, the time.
struct Bench {
    now: Instant,
    account: Account,
    stored: AccountRecord,
    gate: u32,
    limit: u64,
    up: u64,
    down: u64,
    dropped: bool,
    broken: bool,
    /// Bytes up and down that race with every grant: they are offered before it is applied.
    racing: (u64, u64),
    free: FreeAllowance,
    seen: Vec<AccountAction>,
}

impl Bench {
    fn new(sheet: &PriceSheet) -> Bench {
        Bench::restore(
            AccountRecord::new(hash(1), prices(sheet)),
            Instant::from_micros(1_000_000),
        )
    }

    fn restore(record: AccountRecord, now: Instant) -> Bench {
        let mut account = Account::restore(AccountConfig::default(), record, now);
        let channel = ChannelId::from_bytes([7; 32]);
        account.handle(now, AccountInput::Channel { channel }).unwrap();
        Bench {
            now,
            account,
            stored: record,
            gate: record.gate.attachment,
            limit: 0,
            up: 0,
            down: 0,
            dropped: false,
            broken: false,
            racing: (0, 0),
            free: FreeAllowance::restore(FreeRecord::default(), ByteCount::new(100 << 20), now),
            seen: Vec::new(),
        }
    }

    fn tell(&mut self, input: AccountInput) {
        self.account.handle(self.now, input).unwrap();
        self.work();
    }

    fn work(&mut self) {
        while let Some(action) = self.account.poll_action() {
            self.seen.push(action);
            match action {
                AccountAction::Checkpoint => self.stored = *self.account.record(),
                AccountAction::LeaseFree { want } => {
                    let record = self.account.record();
                    let per_key = record.prices.sheet().free;
                    let (period, leased) = self.free.lease(&record.free, per_key, want);
                    let input = AccountInput::FreeLease { period, leased };
                    self.account.handle(self.now, input).unwrap();
                }
                AccountAction::Grant { attachment, limit } => {
                    assert_eq!(attachment, self.gate);
                    let (up, down) = self.racing;
                    self.send(up, down);
                    self.limit = limit.value();
                    self.dropped = false;
                }
                AccountAction::ReadGate { attachment, read } => self.answer(attachment, read),
                AccountAction::Detach { attachment, read } => {
                    self.limit = 0;
                    self.answer(attachment, read);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, attachment: u32, read: u32) {
        let input = if self.broken {
            AccountInput::ReadFailed { attachment, read }
        } else {
            AccountInput::Reading {
                attachment,
                read,
                up: ByteCount::new(self.up),
                down: ByteCount::new(self.down),
                exhausted: self.dropped,
            }
        };
        self.account.handle(self.now, input).unwrap();
    }

    fn attach(&mut self) {
        self.gate += 1;
        (self.up, self.down, self.limit, self.dropped) = (0, 0, 0, false);
        self.tell(AccountInput::Attach {
            attachment: self.gate,
        });
    }

    fn pay(&mut self, total: u64) {
        self.tell(AccountInput::Paid {
            total: Msat::new(total),
        });
    }

    /// Offers packets both ways; returns the bytes that passed. The packet that would cross the limit is dropped.
    fn send(&mut self, mut up: u64, mut down: u64) -> u64 {
        let before = self.up + self.down;
        while up + down > 0 {
            let upward = up >= down;
            let packet = up.max(down).min(PACKET);
            *(if upward { &mut up } else { &mut down }) -= packet;
            if self.up + self.down + packet > self.limit {
                self.dropped = true;
                break;
            }
            *(if upward { &mut self.up } else { &mut self.down }) += packet;
        }
        self.up + self.down - before
    }

    fn send_down(&mut self, bytes: u64) -> u64 {
        self.send(0, bytes)
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        let mut steps = 0;
        while let Some(at) = self.account.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tell(AccountInput::Timer);
            steps += 1;
            assert!(steps < 10_000, "timeouts without end");
        }
        self.now = end;
    }

    fn read(&mut self) {
        self.tell(AccountInput::UsageAsked);
    }

    fn count(&self, what: fn(&AccountAction) -> bool) -> usize {
        self.seen.iter().filter(|action| what(action)).count()
    }
}
