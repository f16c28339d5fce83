//! Honest sales.

use super::*;

const FAST: u64 = 6_250_000;

#[test]
fn at_equal_prices_no_unpaid_byte_passes_and_less_than_a_packet_is_stranded() {
    for rate in [125_000, FAST, 10 * FAST] {
        let mut p = Pair::new(sheet(1_000, 1_000, 0));
        p.rate = (rate / 2, rate / 2);
        p.buy(Some(20 * MIB), 1_000_000);
        p.run(if rate < FAST { 400_000 } else { 15_000 });
        p.read();
        assert_eq!(p.buyer.view().state, BuyerState::Done, "{:?}", p.buyer.view());
        assert_eq!(p.unpaid(0), 0);
        assert!(p.stranded() < PACKET, "{} stranded at {rate}", p.stranded());
        // Rounding: at most one millisatoshi for the order.
        assert!((20_000..=20_001).contains(&p.received), "{}", p.received);
        // A second order of 200 kB passes 200 kB, within a packet.
        let before = p.up + p.down;
        p.buy(Some(200_000), 1_000_000);
        p.run(5_000);
        p.read();
        let passed = p.up + p.down - before;
        assert!(passed.abs_diff(200_000) <= PACKET, "{passed}");
        assert_eq!(p.unpaid(0), 0);
    }
}

#[test]
fn the_link_is_never_idle_while_windows_are_bought() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(3_000);
    let before = p.down;
    p.run(10_000);
    let passed = p.down - before;
    assert!(passed * 1_000 > 10 * FAST * 999, "{passed}");
    // One payment per second of traffic or less, and no more than a window and a half prepaid.
    assert!(p.payments <= 30, "{}", p.payments);
    let prepaid = p.signed - p.account.record().cost().value();
    assert!(prepaid <= 1_500 * FAST / MIB * 2, "{prepaid}");
}

#[test]
fn at_unequal_prices_what_is_left_is_less_than_a_packet_at_the_dearer_price() {
    let mut p = Pair::new(sheet(200, 2_000, 0));
    p.rate = (FAST, FAST / 10);
    p.buy(None, 30_000);
    p.run(60_000);
    p.read();
    assert_eq!(p.unpaid(0), 0);
    assert_eq!(p.received, 30_000);
    assert!(p.stranded() < PACKET, "{}", p.stranded());
    assert_eq!(p.buyer.view().state, BuyerState::Stopped(StopReason::MaxSpent));
}

#[test]
fn seconds_are_billed_and_the_rest_is_below_two_of_them_and_a_packet() {
    let mut p = Pair::new(sheet(1_000, 1_000, 100));
    p.rate = (0, FAST);
    p.buy(None, 40_000);
    p.run(30_000);
    p.read();
    assert_eq!(p.unpaid(0), 0);
    assert_eq!(p.received, 40_000);
    let credit = p.account.credit().value();
    assert!(credit <= 2 * 100 + 2, "{credit}");
    let usage = p.account.usage(p.now);
    let ideal = (usage.down.value() * 1_000).div_ceil(MIB) + usage.seconds * 100;
    assert_eq!(usage.cost.value(), ideal);
}

#[test]
fn the_free_allowance_comes_first_and_is_not_paid_for() {
    let mut s = sheet(1_000, 1_000, 0);
    s.free = ByteCount::new(10 * MIB);
    let mut p = Pair::new(s);
    p.rate = (FAST / 4, FAST);
    p.run(5_000);
    assert!(p.up + p.down > 10 * MIB - PACKET);
    p.buy(Some(10 * MIB), 1_000_000);
    p.run(5_000);
    p.read();
    assert_eq!(p.unpaid(10 * MIB), 0);
    assert!(p.received <= 10_000, "{}", p.received);
    assert!(p.up + p.down > 20 * MIB - 2 * PACKET, "{}", p.up + p.down);
}

#[test]
fn a_sheet_that_changes_within_a_window_bills_each_part_at_its_price() {
    for (up, down) in [(4_000, 4_000), (250, 250), (100, 5_000)] {
        let mut p = Pair::new(sheet(1_000, 1_000, 0));
        p.rate = (FAST / 2, FAST / 2);
        p.buy(None, 100_000);
        p.run(3_333);
        p.new_sheet(sheet(up, down, 0));
        let before = (p.up, p.down);
        p.run(120_000);
        p.read();
        assert_eq!(p.unpaid(0), 0);
        assert_eq!(p.received, 100_000, "{:?}", p.buyer.view());
        assert!(p.stranded() < PACKET, "{}", p.stranded());
        let old = ((before.0 + before.1) * 1_000).div_ceil(MIB);
        let new = ((p.up - before.0) * up + (p.down - before.1) * down).div_ceil(MIB);
        assert!(p.account.record().cost().value().abs_diff(old + new) <= 2);
        assert!(p.refused.is_empty(), "{:?}", p.refused);
    }
}

#[test]
fn a_lost_payment_is_the_same_payment_again() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.lose = 3;
    p.buy(Some(20 * MIB), 1_000_000);
    p.run(30_000);
    p.read();
    assert_eq!(p.buyer.view().state, BuyerState::Done);
    assert_eq!(p.signed, p.received);
    assert!((20_000..=20_001).contains(&p.received), "{}", p.received);
}

#[test]
fn never_more_than_the_user_allowed_and_never_more_than_the_channel_holds() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(Some(20 * MIB), 7_777);
    p.run(20_000);
    assert_eq!(p.signed, 7_777);
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.capacity = 9_000;
    p.client_channel();
    p.rate = (0, FAST);
    p.buy(Some(20 * MIB), 1_000_000);
    p.run(20_000);
    assert_eq!(p.signed, 9_000);
    assert_eq!(p.buyer.view().state, BuyerState::ChannelUsedUp);
    assert_eq!(p.needed, Some(Msat::new(11_000)));
}

#[test]
fn both_sides_agree_on_every_receipt() {
    let mut p = Pair::new(sheet(300, 1_000, 7));
    p.rate = (FAST / 3, FAST);
    p.buy(None, 400_000);
    p.run(70_000);
    p.client(BuyerInput::Stop);
    p.run(2_000);
    assert!(p.stopped);
    assert!(p.refused.is_empty(), "{:?}", p.refused);
    assert!(p.agreed.len() >= 3, "{}", p.agreed.len());
    let numbers: Vec<u32> = p.agreed.iter().map(|receipt| receipt.sequence).collect();
    assert!(
        numbers
            .iter()
            .copied()
            .eq(1..=u32::try_from(numbers.len()).unwrap())
    );
    let last = p.agreed.last().unwrap();
    assert_eq!((last.up.value(), last.down.value()), (p.up, p.down));
    assert_eq!(last.cost, p.account.record().cost());
}

#[test]
fn after_a_long_pause_the_sale_goes_on() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(5_000);
    p.rate = (0, 0);
    p.run(180_000);
    assert_eq!(p.account.paused(), None);
    p.rate = (0, FAST);
    let before = p.down;
    p.run(10_000);
    let passed = p.down - before;
    assert!(passed > 7 * FAST, "{passed}");
}

#[test]
fn a_failing_own_meter_stops_payments() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(3_000);
    p.blind = true;
    p.run(500);
    let signed = p.signed;
    p.run(10_000);
    assert_eq!(p.signed, signed);
    assert_eq!(p.buyer.view().state, BuyerState::Stopped(StopReason::MeterDown));
}

#[test]
fn a_restarted_client_goes_on_without_crying_wolf() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(5_000);
    // The client loses power just before its next payment: its record is the one of the payment before, what passed
    // since is not counted, and its meter starts at zero.
    let next = |p: &mut Pair| {
        let payments = p.payments;
        while p.payments == payments {
            p.run(1);
        }
    };
    next(&mut p);
    let record = *p.buyer.record();
    next(&mut p);
    assert!(p.down > record.granted.value() + (256 << 10));
    p.buyer = Buyer::restore(BuyerConfig::default(), RELAY, CLIENT, record, p.now);
    p.started = (p.up, p.down);
    p.to_client.clear();
    p.client_offer(0);
    p.client_channel();
    let granted = p.account.usage(p.now).granted;
    p.tell_client(Mail::Bound { granted });
    p.relay(AccountInput::UsageAsked);
    p.buy(None, u64::MAX);
    p.run(20_000);
    assert_eq!(p.buyer.view().state, BuyerState::Buying, "{:?}", p.refused);
}

#[test]
fn one_payment_at_a_time_is_under_way() {
    let mut p = Pair::new(sheet(1_000, 1_000, 0));
    p.rate = (0, FAST);
    p.buy(None, u64::MAX);
    p.run(3_000);
    p.lose = u32::MAX;
    let acknowledged = p.received;
    p.run(30_000);
    let step = p.signed - acknowledged;
    assert!(step <= 2 * FAST * 1_000 / MIB, "{step}");
    p.lose = 0;
    p.run(10_000);
    assert!(p.received > acknowledged + step);
}

#[test]
fn prepaid_is_never_more_than_the_largest_window() {
    let mut s = sheet(1_000, 1_000, 0);
    s.window_max = ByteCount::new(MIB);
    let mut p = Pair::new(s);
    p.rate = (0, FAST / 2);
    p.buy(None, u64::MAX);
    let before = p.down;
    for _ in 0..5_000 {
        p.run(1);
        let prepaid = p.signed.saturating_sub((p.down * 1_000).div_ceil(MIB));
        assert!(prepaid <= 1_001, "{prepaid}");
    }
    assert!(p.down - before > 2 * FAST, "{}", p.down);
}
