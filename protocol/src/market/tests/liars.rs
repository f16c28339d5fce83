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
