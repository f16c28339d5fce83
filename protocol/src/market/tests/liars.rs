//! Dishonest sales: each side stops where the other lies, and loses no more than stated.

use super::*;

const FAST: u64 = 6_250_000;

#[test]
fn a_relay_that_claims_too_much_is_stopped_within_the_tolerance_and_its_claim_is_kept() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(5_000);
    let counted = p.down;
    // 256 KiB and two per cent are believed; one byte per cent more is not.
    p.lie = (256 << 10) + (counted + 2 * FAST) / 25;
    p.relay(AccountInput::UsageAsked);
    p.run(500);
    assert_eq!(p.buyer.view().state, BuyerState::Stopped(StopReason::OverClaim));
    let signed = p.signed;
    p.run(20_000);
    assert_eq!(p.signed, signed);
    // It was asked to sign what it claims; that receipt is refused, and stays as proof.
    assert!(p.refused.contains(&ReceiptError::OverClaim), "{:?}", p.refused);
    assert!(p.stopped);
}

#[test]
fn a_small_difference_is_believed() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(5_000);
    p.lie = 200 << 10;
    p.relay(AccountInput::UsageAsked);
    p.run(5_000);
    assert_eq!(p.buyer.view().state, BuyerState::Buying);
}

#[test]
fn a_relay_that_grants_less_than_was_paid_is_stopped() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(5_000);
    p.lie = 300 << 10;
    p.run(3_000);
    assert_eq!(p.buyer.view().state, BuyerState::Stopped(StopReason::UnderGrant));
}

#[test]
fn a_relay_that_claims_a_payment_that_was_never_made_is_ignored() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(2_000);
    let ack = BuyerInput::Ack {
        total: Msat::new(p.signed + 1),
        granted: ByteCount::MAX,
    };
    assert_eq!(p.buyer.handle(p.now, ack), Err(BuyerError::AckTooHigh));
    assert!(p.buyer.view().left < ByteCount::new(1 << 30));
}

#[test]
fn a_client_that_stops_paying_gets_what_it_paid_for() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (FAST, FAST);
    p.lose = u32::MAX;
    p.relay(AccountInput::Paid {
        total: Msat::new(3_000),
    });
    p.received = 3_000;
    p.run(20_000);
    p.read();
    assert_eq!(p.unpaid(0), 0);
    assert!(p.up + p.down <= 3 * MIB);
}

#[test]
fn a_client_that_hides_its_use_pays_no_less() {
    // It says nothing at all: no meter, no receipts. The relay bills what passed its gate.
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    for n in 1..=10 {
        p.received = n * 2_000;
        p.relay(AccountInput::Paid {
            total: Msat::new(n * 2_000),
        });
        p.to_client.clear();
        p.run(2_000);
        p.to_client.clear();
    }
    p.read();
    assert_eq!(p.unpaid(0), 0);
    assert!(p.account.record().cost() >= Msat::new(19_998));
}

#[test]
fn a_replayed_or_lower_payment_changes_nothing() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(Some(8 * MIB), 1_000_000);
    p.run(6_000);
    let (limit, signed) = (p.limit, p.signed);
    for total in [signed, signed / 2, 0] {
        p.tell_relay(Mail::Pay { sheet_id: 0, total });
        p.run(100);
    }
    assert_eq!((p.limit, p.received), (limit, signed));
}

#[test]
fn a_relay_that_takes_its_grant_back_again_and_again_is_paid_for_one_window() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, 0);
    p.buy(None, 1_000_000);
    for _ in 0..400 {
        p.run(50);
        // An honest count, and a grant that is just used up.
        let mut usage = p.account.usage(p.now);
        usage.granted = usage.up.saturating_add(usage.down);
        p.tell_client(Mail::Usage(usage));
        p.run(20);
    }
    assert_eq!(p.buyer.view().state, BuyerState::Stopped(StopReason::UnderGrant));
    // The window of a client that nothing is known of yet is 4 MiB.
    assert!(p.signed <= 4_000, "{} msat for nothing", p.signed);
}

#[test]
fn a_relay_that_keeps_a_little_of_every_window_is_stopped() {
    for kept in [250 << 10, 100 << 10] {
        let mut p = Pair::new(sheet(1_000, 1_000, 0));
        p.rate = (0, FAST);
        p.buy(None, u64::MAX);
        p.run(3_000);
        let mut hidden = 0;
        for _ in 0..600 {
            if matches!(p.buyer.view().state, BuyerState::Stopped(_)) {
                break;
            }
            hidden += kept;
            p.keep = hidden;
            p.run(1_000);
        }
        assert_eq!(
            p.buyer.view().state,
            BuyerState::Stopped(StopReason::UnderGrant),
            "{kept}"
        );
        // A window and a half may be prepaid at any time; beyond that two per cent and the slack are gone once.
        let used = p.up + p.down;
        let window = p.buyer.view().window.value().max(FAST);
        let most = used / 50 + (256 << 10) + 65_549 + window * 3 / 2;
        let lost = p.signed * MIB / 1_000 - used;
        assert!(
            lost <= most,
            "{lost} bytes paid for and not served, {used} served"
        );
    }
}

#[test]
fn a_relay_with_the_smallest_window_that_grants_nothing_is_stopped_after_a_few() {
    let mut small = sheet(100_000, 100_000, 0);
    small.window_max = ByteCount::new(128 << 10);
    let prices = Prices::check(&small, BlockHeight::new(500)).unwrap();
    let mut now = Instant::from_micros(1_000_000);
    let mut buyer = Buyer::restore(BuyerConfig::default(), RELAY, CLIENT, BuyerRecord::default(), now);
    let (mut signed, mut payments) = (0, 0);
    let mut inputs = Vec::from([
        BuyerInput::Offer {
            sheet_id: 0,
            sheet: SheetHash::from_bytes([4; 32]),
            prices,
        },
        BuyerInput::Channel {
            channel: CHANNEL,
            total: Msat::ZERO,
            ceiling: Msat::MAX,
            capacity: Msat::new(50_000_000),
        },
        BuyerInput::Bound {
            account: AccountId(0),
            granted: ByteCount::ZERO,
            liveness: Duration::from_secs(30),
        },
        BuyerInput::Buy {
            bytes: None,
            max: Msat::new(50_000_000),
        },
    ]);
    for _ in 0..3_000 {
        while !inputs.is_empty() {
            buyer.handle(now, inputs.remove(0)).unwrap();
            while let Some(action) = buyer.poll_action() {
                match action {
                    BuyerAction::ReadMeter { read } => inputs.push(BuyerInput::Meter {
                        read,
                        up: ByteCount::ZERO,
                        down: ByteCount::ZERO,
                    }),
                    BuyerAction::Pay { amount, .. } => {
                        signed += amount.value();
                        payments += 1;
                        inputs.push(BuyerInput::Ack {
                            total: Msat::new(signed),
                            granted: ByteCount::ZERO,
                        });
                    }
                    _ => {}
                }
            }
        }
        now = now + Duration::from_millis(10);
        if buyer.next_timeout().is_some_and(|at| at <= now) {
            inputs.push(BuyerInput::Timer);
        }
    }
    assert_eq!(buyer.view().state, BuyerState::Stopped(StopReason::UnderGrant));
    assert!(payments <= 5, "{payments} payments for nothing");
}
