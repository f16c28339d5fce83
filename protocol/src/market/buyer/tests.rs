//! What a buyer believes, figure by figure.

use super::*;
use crate::base::{BlockHeight, Instant, NodeId};
use crate::wire::{BindingClass, PriceSheet};

const MIB: u64 = 1 << 20;

fn prices(up: u64, down: u64) -> Prices {
    prices_and_time(up, down, 0)
}

fn prices_and_time(up: u64, down: u64, per_second: u64) -> Prices {
    let sheet = PriceSheet {
        version: 1,
        valid_until: BlockHeight::new(1_000),
        up: Msat::new(up),
        down: Msat::new(down),
        per_second: Msat::new(per_second),
        free: ByteCount::ZERO,
        window_min: ByteCount::new(128 << 10),
        window_max: ByteCount::new(64 << 20),
        class: BindingClass::Address,
    };
    Prices::check(&sheet, BlockHeight::new(500)).unwrap()
}

/// A buyer that counted 100 MiB each way at 100 and 1,000 msat per MiB, in ten seconds.
fn buyer() -> (Buyer, Instant) {
    buyer_at(0)
}

/// The same, at so many millisatoshi a second.
fn buyer_at(per_second: u64) -> (Buyer, Instant) {
    let start = Instant::from_micros(1_000_000);
    let now = start + Duration::from_secs(10);
    let config = BuyerConfig::default();
    let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut buyer = Buyer::restore(config, ids.0, ids.1, BuyerRecord::default(), start);
    let inputs = [
        BuyerInput::Offer {
            sheet_id: 0,
            sheet: SheetHash::from_bytes([4; 32]),
            prices: prices_and_time(100, 1_000, per_second),
        },
        BuyerInput::Channel {
            channel: ChannelId::from_bytes([3; 32]),
            total: Msat::ZERO,
            ceiling: Msat::MAX,
            capacity: Msat::new(1_000_000_000),
        },
        BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::new(300 * MIB),
            liveness: Duration::from_secs(30),
        },
        BuyerInput::Buy {
            bytes: Some(ByteCount::new(1_000 * MIB)),
            max: Msat::new(1_000_000),
        },
    ];
    for input in inputs {
        buyer.handle(start, input).unwrap();
    }
    let counted = ByteCount::new(100 * MIB);
    let meter = BuyerInput::Meter {
        read: 0,
        up: counted,
        down: counted,
    };
    buyer.handle(now, meter).unwrap();
    answer(&mut buyer, now);
    (buyer, now)
}

fn answer(buyer: &mut Buyer, now: Instant) {
    while let Some(action) = buyer.poll_action() {
        if let BuyerAction::ReadMeter { read } = action {
            let counted = ByteCount::new(100 * MIB);
            let meter = BuyerInput::Meter {
                read,
                up: counted,
                down: counted,
            };
            buyer.handle(now, meter).unwrap();
        }
    }
}

fn believed(change: impl Fn(&mut Claim)) -> bool {
    believed_at(0, change)
}

fn believed_at(per_second: u64, change: impl Fn(&mut Claim)) -> bool {
    let (mut buyer, now) = buyer_at(per_second);
    let mut claim = Claim {
        up: ByteCount::new(100 * MIB),
        down: ByteCount::new(100 * MIB),
        seconds: 10,
        cost: Msat::new(110_000),
        granted: ByteCount::new(300 * MIB),
        exhausted: false,
    };
    change(&mut claim);
    buyer.handle(now, BuyerInput::Usage(claim)).unwrap();
    answer(&mut buyer, now);
    buyer.view().state != BuyerState::Stopped(StopReason::OverClaim)
}

#[test]
fn each_figure_is_believed_to_its_tolerance_and_not_one_more() {
    // Two per cent and 256 KiB above the own count.
    let most = 102 * MIB + (256 << 10);
    assert!(believed(|_| ()));
    assert!(believed(|c| c.up = ByteCount::new(most)));
    assert!(!believed(|c| c.up = ByteCount::new(most + 1)));
    assert!(believed(|c| c.down = ByteCount::new(most)));
    assert!(!believed(|c| c.down = ByteCount::new(most + 1)));
    // The constant is granted once, not once per direction.
    assert!(!believed(
        |c| (c.up, c.down) = (ByteCount::new(most), ByteCount::new(most))
    ));
    assert!(believed_at(1, |c| c.seconds = 15));
    assert!(!believed_at(1, |c| c.seconds = 16));
    // Time that costs nothing accuses nobody.
    assert!(believed(|c| c.seconds = u64::MAX));
    // 2 % of 110,000, and 250 for the constant at the dearer price, and 1 for rounding.
    assert!(believed(|c| c.cost = Msat::new(112_451)));
    assert!(!believed(|c| c.cost = Msat::new(112_452)));
    assert!(!believed(|c| c.up = ByteCount::MAX));
}

#[test]
fn what_an_order_came_to_stays_to_be_seen_when_it_is_over() {
    for over in [BuyerInput::Stop, BuyerInput::Refused(ErrorCode::Blocked)] {
        let (mut buyer, now) = buyer();
        let paid = buyer.view();
        assert_eq!(paid.used, ByteCount::new(200 * MIB));
        buyer.handle(now, over).unwrap();
        let view = buyer.view();
        assert!(matches!(view.state, BuyerState::Stopped(_)));
        assert_eq!(
            (view.ordered, view.used, view.spent, view.max),
            (paid.ordered, paid.used, paid.spent, paid.max)
        );
    }
}

#[test]
fn what_the_money_side_could_not_pay_is_not_spent() {
    let (mut buyer, now) = buyer();
    let before = buyer.view().spent;
    // 20 MiB more are granted than used: time to pay.
    buyer
        .handle(
            now,
            BuyerInput::Ack {
                total: Msat::ZERO,
                granted: ByteCount::new(201 * MIB),
            },
        )
        .unwrap();
    assert!(buyer.view().spent > before, "a payment is under way");
    buyer.handle(now, BuyerInput::PayFailed).unwrap();
    assert_eq!(buyer.view().state, BuyerState::Stopped(StopReason::PayFailed));
    assert_eq!(buyer.view().spent, before);
}

#[test]
fn while_a_session_is_broken_the_clock_goes_on_as_the_relays_does() {
    for (away, counted) in [(20, 30), (500, 40)] {
        let (mut buyer, now) = buyer_at(1);
        buyer.handle(now, BuyerInput::Unbound).unwrap();
        let back = now + Duration::from_secs(away);
        let bound = BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::new(300 * MIB),
            liveness: Duration::from_secs(30),
        };
        buyer.handle(back, bound).unwrap();
        assert_eq!(buyer.record().open, Duration::from_secs(counted), "{away} s away");
    }
}

#[test]
fn what_passed_while_nobody_counted_belongs_to_no_later_order() {
    let (old, now) = buyer();
    let record = *old.record();
    let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut buyer = Buyer::restore(BuyerConfig::default(), ids.0, ids.1, record, now);
    let inputs = [
        BuyerInput::Offer {
            sheet_id: 0,
            sheet: SheetHash::from_bytes([4; 32]),
            prices: prices(100, 1_000),
        },
        BuyerInput::Channel {
            channel: ChannelId::from_bytes([3; 32]),
            total: Msat::ZERO,
            ceiling: Msat::MAX,
            capacity: Msat::new(1_000_000_000),
        },
        BuyerInput::Buy {
            bytes: Some(ByteCount::new(5 * MIB)),
            max: Msat::new(1_000_000),
        },
        BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::new(300 * MIB),
            liveness: Duration::from_secs(30),
        },
        BuyerInput::Usage(Claim {
            up: ByteCount::new(100 * MIB),
            down: ByteCount::new(160 * MIB),
            seconds: 10,
            cost: Msat::new(170_000),
            granted: ByteCount::new(300 * MIB),
            exhausted: false,
        }),
    ];
    for input in inputs {
        buyer.handle(now, input).unwrap();
        while let Some(action) = buyer.poll_action() {
            if let BuyerAction::ReadMeter { read } = action {
                let (up, down) = (ByteCount::ZERO, ByteCount::ZERO);
                buyer.handle(now, BuyerInput::Meter { read, up, down }).unwrap();
            }
        }
    }
    let view = buyer.view();
    assert_eq!(view.claimed, ByteCount::new(260 * MIB), "the claim was judged");
    assert_ne!(view.state, BuyerState::Done);
    assert_eq!(view.used, ByteCount::ZERO, "of this order nothing is used yet");
}

#[test]
fn a_claim_is_judged_by_a_reading_taken_after_it() {
    let (mut buyer, now) = buyer();
    let claim = Claim {
        up: ByteCount::new(100 * MIB),
        down: ByteCount::new(110 * MIB),
        seconds: 10,
        cost: Msat::new(110_000),
        granted: ByteCount::new(300 * MIB),
        exhausted: false,
    };
    buyer.handle(now, BuyerInput::Usage(claim)).unwrap();
    assert_eq!(buyer.view().claimed, ByteCount::ZERO);
    let read = loop {
        if let Some(BuyerAction::ReadMeter { read }) = buyer.poll_action() {
            break read;
        }
    };
    let meter = BuyerInput::Meter {
        read,
        up: ByteCount::new(100 * MIB),
        down: ByteCount::new(110 * MIB),
    };
    buyer.handle(now, meter).unwrap();
    assert_eq!(buyer.view().claimed, ByteCount::new(210 * MIB));
    assert!(!matches!(buyer.view().state, BuyerState::Stopped(_)));
}

#[test]
fn lost_figures_are_taken_from_the_relay_once_and_only_as_far_as_they_were_paid() {
    let start = Instant::from_micros(1_000_000);
    let claim = |cost| Claim {
        up: ByteCount::new(MIB),
        down: ByteCount::new(50 * MIB),
        seconds: 100,
        cost: Msat::new(cost),
        granted: ByteCount::new(60 * MIB),
        exhausted: false,
    };
    for (cost, state) in [
        (50_000, BuyerState::Idle),
        (60_001, BuyerState::Stopped(StopReason::OverClaim)),
    ] {
        let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let record = BuyerRecord::default();
        let mut buyer = Buyer::restore(BuyerConfig::default(), ids.0, ids.1, record, start);
        let channel = BuyerInput::Channel {
            channel: ChannelId::from_bytes([3; 32]),
            total: Msat::new(60_000),
            ceiling: Msat::MAX,
            capacity: Msat::new(1_000_000),
        };
        buyer.handle(start, channel).unwrap();
        let bound = BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::ZERO,
            liveness: Duration::from_secs(30),
        };
        buyer.handle(start, bound).unwrap();
        buyer.handle(start, BuyerInput::Usage(claim(cost))).unwrap();
        while let Some(action) = buyer.poll_action() {
            if let BuyerAction::ReadMeter { read } = action {
                let (up, down) = (ByteCount::ZERO, ByteCount::ZERO);
                buyer.handle(start, BuyerInput::Meter { read, up, down }).unwrap();
            }
        }
        assert_eq!(buyer.view().state, state);
    }
}

#[test]
fn a_receipt_is_held_against_what_was_acknowledged_when_it_came() {
    let bytes_for = |msat: Msat| ByteCount::new(msat.value() * MIB / 1_000);
    let paid = |buyer: &mut Buyer, now, used: ByteCount| {
        let mut amount = None;
        while let Some(action) = buyer.poll_action() {
            match action {
                BuyerAction::ReadMeter { read } => {
                    let (up, down) = (ByteCount::ZERO, used);
                    buyer.handle(now, BuyerInput::Meter { read, up, down }).unwrap();
                }
                BuyerAction::Pay { amount: a, .. } => amount = Some(a),
                _ => {}
            }
        }
        amount.unwrap()
    };
    let start = Instant::from_micros(1_000_000);
    let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut buyer = Buyer::restore(
        BuyerConfig::default(),
        ids.0,
        ids.1,
        BuyerRecord::default(),
        start,
    );
    let (sheet, channel) = (SheetHash::from_bytes([4; 32]), ChannelId::from_bytes([3; 32]));
    let inputs = [
        BuyerInput::Offer {
            sheet_id: 0,
            sheet,
            prices: prices(1_000, 1_000),
        },
        BuyerInput::Channel {
            channel,
            total: Msat::ZERO,
            ceiling: Msat::MAX,
            capacity: Msat::new(1_000_000_000),
        },
        BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::ZERO,
            liveness: Duration::from_secs(30),
        },
        BuyerInput::Buy {
            bytes: Some(ByteCount::new(1_000 * MIB)),
            max: Msat::new(1_000_000),
        },
    ];
    for input in inputs {
        buyer.handle(start, input).unwrap();
    }
    let first = paid(&mut buyer, start, ByteCount::ZERO);
    let granted = bytes_for(first);
    buyer
        .handle(
            start,
            BuyerInput::Ack {
                total: first,
                granted,
            },
        )
        .unwrap();
    let now = start + Duration::from_secs(2);
    let used = granted.saturating_sub(ByteCount::new(1));
    buyer
        .handle(
            now,
            BuyerInput::Meter {
                read: 0,
                up: ByteCount::ZERO,
                down: used,
            },
        )
        .unwrap();
    let second = paid(&mut buyer, now, used);
    let total = first.saturating_add(second);

    let receipt = Receipt {
        relay: ids.0,
        client: ids.1,
        channel,
        sequence: 1,
        sheet,
        height: BlockHeight::new(500),
        up: ByteCount::ZERO,
        down: used,
        seconds: 2,
        cost: first,
        paid: first,
    };
    // The receipt crosses the payment: its acknowledgement overtakes our reading, not the receipt.
    buyer.handle(now, BuyerInput::ReceiptOffered(receipt)).unwrap();
    let granted = bytes_for(total);
    buyer.handle(now, BuyerInput::Ack { total, granted }).unwrap();
    let judged = |buyer: &mut Buyer| {
        let mut judged = None;
        while let Some(action) = buyer.poll_action() {
            match action {
                BuyerAction::ReadMeter { read } => {
                    let (up, down) = (ByteCount::ZERO, used);
                    buyer.handle(now, BuyerInput::Meter { read, up, down }).unwrap();
                }
                BuyerAction::SignReceipt { sequence } => judged = Some(Ok(sequence)),
                BuyerAction::RefuseReceipt { reason, .. } => judged = Some(Err(reason)),
                _ => {}
            }
        }
        judged
    };
    assert_eq!(judged(&mut buyer), Some(Ok(1)));
    // One that comes after the acknowledgement must know of it.
    let late = Receipt {
        sequence: 2,
        ..receipt
    };
    buyer.handle(now, BuyerInput::ReceiptOffered(late)).unwrap();
    assert_eq!(judged(&mut buyer), Some(Err(ReceiptError::Paid)));
}

/// Pays for 4 MiB at 100 msat per MiB, uses 2.5, is told that a MiB costs 200 from now on, and pays for the next window;
/// the relay's answer to that grants `granted` bytes.
fn paid_across_a_rise(granted: u64) -> BuyerState {
    let now = Instant::from_micros(1_000_000);
    let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut buyer = Buyer::restore(BuyerConfig::default(), ids.0, ids.1, BuyerRecord::default(), now);
    let offer = |id: u8, price| BuyerInput::Offer {
        sheet_id: id,
        sheet: SheetHash::from_bytes([id; 32]),
        prices: prices(price, price),
    };
    // Answers every question about the own meter; gives the total that is under way.
    fn paid(buyer: &mut Buyer, now: Instant, used: u64) -> Option<Msat> {
        while let Some(action) = buyer.poll_action() {
            if let BuyerAction::ReadMeter { read } = action {
                let (up, down) = (ByteCount::ZERO, ByteCount::new(used));
                buyer.handle(now, BuyerInput::Meter { read, up, down }).unwrap();
            }
        }
        buyer.flight.map(|flight| flight.total)
    }
    let inputs = [
        offer(0, 100),
        BuyerInput::Channel {
            channel: ChannelId::from_bytes([3; 32]),
            total: Msat::ZERO,
            ceiling: Msat::MAX,
            capacity: Msat::new(1_000_000_000),
        },
        BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::ZERO,
            liveness: Duration::from_secs(30),
        },
        BuyerInput::Buy {
            bytes: Some(ByteCount::new(100 * MIB)),
            max: Msat::new(1_000_000),
        },
    ];
    for input in inputs {
        buyer.handle(now, input).unwrap();
    }
    let total = paid(&mut buyer, now, 0).unwrap();
    assert_eq!(total, Msat::new(400));
    let granted_first = ByteCount::new(4 * MIB);
    buyer
        .handle(
            now,
            BuyerInput::Ack {
                total,
                granted: granted_first,
            },
        )
        .unwrap();
    let later = now + Duration::from_secs(2);
    buyer.handle(later, offer(1, 200)).unwrap();
    let total = paid(&mut buyer, later, 5 * MIB / 2).unwrap();
    assert_eq!(total, Msat::new(1_200));
    let granted = ByteCount::new(granted);
    buyer.handle(later, BuyerInput::Ack { total, granted }).unwrap();
    buyer.view().state
}

#[test]
fn a_rise_of_the_price_makes_what_was_granted_less_and_no_relay_a_liar() {
    // 1,200 paid, 250 used: 950 left buy 4.75 MiB on top of the 2.5.
    let honest = 29 * MIB / 4;
    assert!(!matches!(paid_across_a_rise(honest), BuyerState::Stopped(_)));
    // One that takes the money and grants nothing for it is one all the same.
    assert_eq!(
        paid_across_a_rise(4 * MIB),
        BuyerState::Stopped(StopReason::UnderGrant)
    );
}

#[test]
fn a_grant_that_comes_with_a_new_binding_is_credit_to_use_though_the_gate_dropped_before() {
    let now = Instant::from_micros(1_000_000);
    let ids = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut buyer = Buyer::restore(BuyerConfig::default(), ids.0, ids.1, BuyerRecord::default(), now);
    let feed = |buyer: &mut Buyer, input: BuyerInput, used: u64| {
        buyer.handle(now, input).unwrap();
        while let Some(action) = buyer.poll_action() {
            if let BuyerAction::ReadMeter { read } = action {
                let (up, down) = (ByteCount::ZERO, ByteCount::new(used));
                buyer.handle(now, BuyerInput::Meter { read, up, down }).unwrap();
            }
        }
    };
    let bound = |granted| BuyerInput::Bound {
        account: AccountId(0),
        granted: ByteCount::new(granted),
        liveness: Duration::from_secs(30),
    };
    let buy = BuyerInput::Buy {
        bytes: Some(ByteCount::new(4 * MIB)),
        max: Msat::new(1_000_000),
    };
    let ack = |total, granted| BuyerInput::Ack {
        total: Msat::new(total),
        granted: ByteCount::new(granted),
    };
    let offer = BuyerInput::Offer {
        sheet_id: 0,
        sheet: SheetHash::from_bytes([4; 32]),
        prices: prices(100, 100),
    };
    let channel = BuyerInput::Channel {
        channel: ChannelId::from_bytes([3; 32]),
        total: Msat::ZERO,
        ceiling: Msat::MAX,
        capacity: Msat::new(1_000_000_000),
    };
    for input in [offer, channel, bound(0), buy, ack(400, 4 * MIB)] {
        feed(&mut buyer, input, 0);
    }
    let all_used = Claim {
        up: ByteCount::ZERO,
        down: ByteCount::new(4 * MIB),
        seconds: 0,
        cost: Msat::new(400),
        granted: ByteCount::new(4 * MIB),
        exhausted: true,
    };
    feed(&mut buyer, BuyerInput::Usage(all_used), 4 * MIB);
    assert_eq!(buyer.view().state, BuyerState::Done);
    // The next window is paid; the session breaks before the answer, which the new binding brings.
    feed(&mut buyer, buy, 4 * MIB);
    assert_eq!(buyer.flight.map(|f| f.total), Some(Msat::new(800)));
    feed(&mut buyer, BuyerInput::Unbound, 4 * MIB);
    feed(&mut buyer, bound(8 * MIB), 4 * MIB);
    assert_eq!(buyer.view().left, ByteCount::new(4 * MIB));
    feed(&mut buyer, ack(800, 8 * MIB), 4 * MIB);
    assert!(!matches!(buyer.view().state, BuyerState::Stopped(_)));
}
