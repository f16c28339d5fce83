//! A relay's account and a client's buyer, a gate that counts exactly, and a link with delay, all in simulated time.

mod liars;
mod sales;

use super::*;
use crate::base::{AccountId, BlockHeight, ByteCount, ChannelId, Duration, Instant, Msat, NodeId, SheetHash};
use crate::wire::{BindingClass, PriceSheet, Receipt};
use std::collections::VecDeque;
use std::vec::Vec;

pub(super) const PACKET: u64 = 1_514;
const RELAY: NodeId = NodeId::from_bytes([1; 32]);
const CLIENT: NodeId = NodeId::from_bytes([2; 32]);
const CHANNEL: ChannelId = ChannelId::from_bytes([3; 32]);
/// One way over the control link.
const DELAY: Duration = Duration::from_millis(5);

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

/// A message on its way.
#[derive(Clone, Copy, Debug)]
enum Mail {
    Pay { sheet_id: u8, total: u64 },
    Liveness,
    AskReceipt,
    Stop,
    Signed { sequence: u32 },
    Bound { granted: ByteCount },
    Ack { total: u64, granted: ByteCount },
    Usage(UsageFigures),
    Offer { sheet_id: u8 },
    WrongSheet,
    Receipt(Receipt),
}

/// Both sides and everything between them.
struct Pair {
    now: Instant,
    account: Account,
    buyer: Buyer,
    offers: Vec<(SheetHash, Prices)>,
    free: FreeAllowance,
    to_relay: VecDeque<(Instant, Mail)>,
    to_client: VecDeque<(Instant, Mail)>,
    /// The newest total that the client signed, and the newest that the relay has.
    signed: u64,
    received: u64,
    capacity: u64,
    /// The gate.
    attachment: u32,
    limit: u64,
    up: u64,
    down: u64,
    dropped: bool,
    /// Bytes per second that the client tries to send and to receive.
    rate: (u64, u64),
    carry: (u64, u64),
    /// The next so many payments are lost on the way.
    lose: u32,
    /// What the relay adds to every claim.
    lie: u64,
    /// What the relay grants less than it was paid for.
    keep: u64,
    /// What the gate had counted when the client's program was started last.
    started: (u64, u64),
    /// The client's meter does not answer.
    blind: bool,
    payments: u32,
    agreed: Vec<Receipt>,
    refused: Vec<ReceiptError>,
    needed: Option<Msat>,
    stopped: bool,
}

impl Pair {
    fn new(sheet: PriceSheet) -> Pair {
        let now = Instant::from_micros(1_000_000);
        let prices = Prices::check(&sheet, BlockHeight::new(500)).unwrap();
        let first = SheetHash::from_bytes([0; 32]);
        let record = AccountRecord::new(first, prices);
        let mut pair = Pair {
            now,
            account: Account::restore(AccountConfig::default(), record, now),
            buyer: Buyer::restore(BuyerConfig::default(), RELAY, CLIENT, BuyerRecord::default(), now),
            offers: Vec::from([(first, prices)]),
            free: FreeAllowance::restore(FreeRecord::default(), ByteCount::new(1 << 40), now),
            to_relay: VecDeque::new(),
            to_client: VecDeque::new(),
            signed: 0,
            received: 0,
            capacity: 10_000_000_000,
            attachment: 0,
            limit: 0,
            up: 0,
            down: 0,
            dropped: false,
            rate: (0, 0),
            carry: (0, 0),
            lose: 0,
            lie: 0,
            keep: 0,
            started: (0, 0),
            blind: false,
            payments: 0,
            agreed: Vec::new(),
            refused: Vec::new(),
            needed: None,
            stopped: false,
        };
        pair.relay(AccountInput::Channel { channel: CHANNEL });
        pair.relay(AccountInput::Attach { attachment: 1 });
        pair.attachment = 1;
        pair.client_offer(0);
        pair.client_channel();
        let granted = pair.account.usage(now).granted;
        pair.tell_client(Mail::Bound { granted });
        pair
    }

    fn buy(&mut self, bytes: Option<u64>, max: u64) {
        self.client(BuyerInput::Buy {
            bytes: bytes.map(ByteCount::new),
            max: Msat::new(max),
        });
    }

    fn client_channel(&mut self) {
        self.client(BuyerInput::Channel {
            channel: CHANNEL,
            total: Msat::new(self.signed),
            ceiling: Msat::MAX,
            capacity: Msat::new(self.capacity),
        });
    }

    fn client_offer(&mut self, sheet_id: u8) {
        let (sheet, prices) = self.offers[usize::from(sheet_id)];
        self.client(BuyerInput::Offer {
            sheet_id,
            sheet,
            prices,
        });
    }

    fn new_sheet(&mut self, sheet: PriceSheet) {
        let id = u8::try_from(self.offers.len()).unwrap();
        let prices = Prices::check(&sheet, BlockHeight::new(500)).unwrap();
        let hash = SheetHash::from_bytes([id; 32]);
        self.offers.push((hash, prices));
        self.tell_client(Mail::Offer { sheet_id: id });
        self.relay(AccountInput::Sheet { sheet: hash, prices });
    }

    fn tell_client(&mut self, mail: Mail) {
        self.to_client.push_back((self.now + DELAY, mail));
    }

    fn tell_relay(&mut self, mail: Mail) {
        self.to_relay.push_back((self.now + DELAY, mail));
    }

    fn relay(&mut self, input: AccountInput) {
        self.account.handle(self.now, input).unwrap();
        while let Some(action) = self.account.poll_action() {
            self.relay_action(action);
        }
    }

    fn relay_action(&mut self, action: AccountAction) {
        match action {
            AccountAction::Grant { limit, .. } => {
                self.limit = limit.value().saturating_sub(self.keep);
                self.dropped = false;
            }
            AccountAction::ReadGate { attachment, read } | AccountAction::Detach { attachment, read } => {
                if matches!(action, AccountAction::Detach { .. }) {
                    self.limit = 0;
                    self.stopped = true;
                }
                let input = AccountInput::Reading {
                    attachment,
                    read,
                    up: ByteCount::new(self.up),
                    down: ByteCount::new(self.down),
                    exhausted: self.dropped,
                };
                self.account.handle(self.now, input).unwrap();
            }
            AccountAction::LeaseFree { want } => {
                let record = self.account.record();
                let per_key = record.prices.sheet().free;
                let (period, leased) = self.free.lease(&record.free, per_key, want);
                let input = AccountInput::FreeLease { period, leased };
                self.account.handle(self.now, input).unwrap();
            }
            AccountAction::Warn => {
                let mut usage = self.account.usage(self.now);
                usage.down = usage.down.saturating_add(ByteCount::new(self.lie));
                usage.granted = usage.granted.saturating_sub(ByteCount::new(self.keep));
                self.tell_client(Mail::Usage(usage));
            }
            AccountAction::ReceiptDue { .. } => {
                if let Some(mut receipt) = self.account.receipt(RELAY, CLIENT, BlockHeight::new(500)) {
                    receipt.down = receipt.down.saturating_add(ByteCount::new(self.lie));
                    self.tell_client(Mail::Receipt(receipt));
                }
            }
            AccountAction::Checkpoint | AccountAction::Pause(_) | AccountAction::Resume => {}
            AccountAction::Unread { bytes } => panic!("{bytes} unread"),
        }
    }

    fn client(&mut self, input: BuyerInput) {
        self.buyer.handle(self.now, input).unwrap();
        while let Some(action) = self.buyer.poll_action() {
            self.client_action(action);
        }
    }

    fn client_action(&mut self, action: BuyerAction) {
        match action {
            BuyerAction::Pay { sheet_id, amount, .. } => {
                self.signed += amount.value();
                self.payments += 1;
                let total = self.signed;
                self.tell_relay(Mail::Pay { sheet_id, total });
            }
            BuyerAction::PayAgain { sheet_id, .. } => {
                let total = self.signed;
                self.tell_relay(Mail::Pay { sheet_id, total });
            }
            BuyerAction::ReadMeter { read } => {
                let input = match self.blind {
                    true => BuyerInput::MeterFailed { read },
                    false => BuyerInput::Meter {
                        read,
                        up: ByteCount::new(self.up - self.started.0),
                        down: ByteCount::new(self.down - self.started.1),
                    },
                };
                self.buyer.handle(self.now, input).unwrap();
            }
            BuyerAction::Liveness { .. } => self.tell_relay(Mail::Liveness),
            BuyerAction::Stop { .. } => self.tell_relay(Mail::Stop),
            BuyerAction::AskReceipt { .. } => self.tell_relay(Mail::AskReceipt),
            BuyerAction::SignReceipt { sequence } => {
                let receipt = self.buyer.record().receipt.unwrap();
                assert_eq!(receipt.sequence, sequence);
                if self.agreed.last() != Some(&receipt) {
                    self.agreed.push(receipt);
                }
                self.tell_relay(Mail::Signed { sequence });
            }
            BuyerAction::RefuseReceipt { reason, .. } => self.refused.push(reason),
            BuyerAction::NeedChannel { amount } => self.needed = Some(amount),
            BuyerAction::Checkpoint | BuyerAction::Report => {}
        }
    }

    fn deliver(&mut self) {
        while let Some(mail) = due(&mut self.to_relay, self.now) {
            match mail {
                Mail::Pay { .. } if self.lose > 0 => self.lose -= 1,
                Mail::Pay { sheet_id, total } => {
                    if usize::from(sheet_id) + 1 != self.offers.len() {
                        self.tell_client(Mail::WrongSheet);
                        continue;
                    }
                    self.received = self.received.max(total);
                    let total = self.received;
                    self.relay(AccountInput::Paid {
                        total: Msat::new(total),
                    });
                    let granted = self.account.usage(self.now).granted;
                    let granted = granted.saturating_sub(ByteCount::new(self.lie + self.keep));
                    self.tell_client(Mail::Ack { total, granted });
                }
                Mail::Liveness => self.relay(AccountInput::Liveness),
                Mail::AskReceipt => self.relay(AccountInput::ReceiptAsked),
                Mail::Stop => self.relay(AccountInput::Detach),
                Mail::Signed { sequence } => self.relay(AccountInput::ReceiptAnswered { sequence }),
                mail => panic!("{mail:?} to the relay"),
            }
        }
        while let Some(mail) = due(&mut self.to_client, self.now) {
            match mail {
                Mail::Bound { granted } => self.client(BuyerInput::Bound {
                    account: AccountId(0),
                    granted,
                    liveness: Duration::from_secs(30),
                }),
                Mail::Ack { total, granted } => self.client(BuyerInput::Ack {
                    total: Msat::new(total),
                    granted,
                }),
                Mail::Usage(usage) => self.client(BuyerInput::Usage(Claim {
                    up: usage.up,
                    down: usage.down,
                    seconds: usage.seconds,
                    cost: usage.cost,
                    granted: usage.granted,
                    exhausted: usage.exhausted,
                })),
                Mail::Offer { sheet_id } => self.client_offer(sheet_id),
                Mail::WrongSheet => self.client(BuyerInput::Refused(crate::wire::ErrorCode::WrongSheet)),
                Mail::Receipt(receipt) => self.client(BuyerInput::ReceiptOffered(receipt)),
                mail => panic!("{mail:?} to the client"),
            }
        }
    }

    /// One millisecond of traffic through the gate, packet by packet.
    fn traffic(&mut self) {
        self.carry.0 += self.rate.0 / 1_000;
        self.carry.1 += self.rate.1 / 1_000;
        while self.carry.0 >= PACKET || self.carry.1 >= PACKET {
            let upward = self.carry.0 >= self.carry.1;
            *(if upward {
                &mut self.carry.0
            } else {
                &mut self.carry.1
            }) -= PACKET;
            if self.up + self.down + PACKET > self.limit {
                // What does not pass is not sent faster later.
                self.dropped = true;
                self.carry = (self.carry.0.min(PACKET), self.carry.1.min(PACKET));
                continue;
            }
            *(if upward { &mut self.up } else { &mut self.down }) += PACKET;
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            self.traffic();
            self.deliver();
            if self.account.next_timeout().is_some_and(|at| at <= self.now) {
                self.relay(AccountInput::Timer);
            }
            if self.buyer.next_timeout().is_some_and(|at| at <= self.now) {
                self.client(BuyerInput::Timer);
            }
            self.judge();
        }
    }

    /// At every moment: what was read is paid for.
    fn judge(&self) {
        let cost = self.account.record().cost().value();
        assert!(cost <= self.received, "cost {cost} above {}", self.received);
    }

    /// A last reading of both sides.
    fn read(&mut self) {
        self.relay(AccountInput::UsageAsked);
        let rate = core::mem::take(&mut self.rate);
        self.carry = (0, 0);
        self.run(50);
        self.rate = rate;
    }

    /// Bytes that were not paid for at the dearest price, free ones aside.
    fn unpaid(&self, free: u64) -> u64 {
        let record = self.account.record();
        let billed = record.cost().value();
        let paid = self.received;
        assert_eq!(record.bytes().value(), self.up + self.down);
        let over = billed.saturating_sub(paid);
        over.max((self.up + self.down).saturating_sub(free + self.most(paid)))
    }

    // The most bytes that `paid` buys at the cheaper direction of any sheet.
    fn most(&self, paid: u64) -> u64 {
        let cheapest = |prices: &Prices| prices.sheet().up.min(prices.sheet().down).value();
        let price = self
            .offers
            .iter()
            .map(|(_, prices)| cheapest(prices))
            .min()
            .unwrap();
        (u128::from(paid) * u128::from(MIB))
            .checked_div(u128::from(price))
            .map_or(u64::MAX, |b| u64::try_from(b).unwrap())
    }

    /// Paid bytes that did not pass, at the dearer direction.
    fn stranded(&self) -> u64 {
        let prices = &self.offers.last().unwrap().1;
        prices
            .room(self.account.credit(), &Quantity::default())
            .unwrap()
            .value()
    }
}

fn due(mails: &mut VecDeque<(Instant, Mail)>, now: Instant) -> Option<Mail> {
    let (at, mail) = *mails.front()?;
    (at <= now).then(|| {
        mails.pop_front();
        mail
    })
}
