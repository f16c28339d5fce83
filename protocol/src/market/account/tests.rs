//! The account on its own, with a gate that counts exactly.

use super::*;
use crate::base::{BlockHeight, Instant};
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
                AccountAction::Grant { limit, .. } => {
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

    /// Offers packets down the link; returns the bytes that passed.
    fn send_down(&mut self, bytes: u64) -> u64 {
        let before = self.down;
        let mut left = bytes;
        while left > 0 {
            let packet = left.min(PACKET);
            if self.up + self.down + packet > self.limit {
                self.dropped = true;
                break;
            }
            self.down += packet;
            left -= packet;
        }
        self.down - before
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

#[test]
fn what_was_paid_may_pass_and_not_a_byte_more() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    assert_eq!(b.account.paused(), Some(PauseReason::NoCredit));
    assert_eq!(b.send_down(PACKET), 0);
    b.pay(1_000);
    assert_eq!(b.limit, MIB);
    assert_eq!(b.account.paused(), None);
    let mut passed = b.send_down(2 * MIB);
    b.run(5_000);
    passed += b.send_down(2 * MIB);
    assert!(passed <= MIB && passed > MIB - PACKET, "{passed}");
    b.read();
    assert!(b.account.record().cost() <= Msat::new(1_000));
}

#[test]
fn an_exempt_key_is_served_without_limit_and_never_billed() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 5));
    b.tell(AccountInput::Standing(Standing::Exempt));
    b.attach();
    assert_eq!(b.limit, UNLIMITED.value());
    b.send_down(10 * MIB);
    b.read();
    assert_eq!(b.account.record().cost(), Msat::ZERO);
    assert_eq!(b.account.record().down, ByteCount::new(10 * MIB));
    b.tell(AccountInput::Standing(Standing::Normal));
    assert_eq!(b.send_down(PACKET), 0);
    assert_eq!(b.account.record().cost(), Msat::ZERO);
    assert_eq!(
        b.count(|a| matches!(a, AccountAction::Pause(PauseReason::NoCredit))),
        1
    );
}
