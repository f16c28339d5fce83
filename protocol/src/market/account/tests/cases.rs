//! One property each.

use super::*;

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

#[test]
fn a_dropped_packet_strands_less_than_itself() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(500);
    let paid = MIB / 2;
    let passed = b.send_down(MIB);
    assert!(passed > paid - PACKET && passed <= paid);
    b.run(150);
    // The gate is set anew with what is still owed, so that a packet that fits passes.
    assert!(b.count(|a| matches!(a, AccountAction::Grant { .. })) >= 2);
    assert_eq!(b.send_down(paid - passed), paid - passed);
    // The next payment passes in full.
    b.run(10_000);
    b.pay(1_000);
    assert_eq!(b.send_down(paid), paid);
}

#[test]
fn setting_the_gate_anew_ends_when_nothing_passes() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(500);
    b.send_down(MIB);
    for _ in 0..40 {
        b.run(250);
        b.tell(AccountInput::Liveness);
        b.send_down(PACKET);
    }
    assert!(b.count(|a| matches!(a, AccountAction::Grant { .. })) < 10);
    assert_eq!(b.account.paused(), Some(PauseReason::NoCredit));
    assert!(b.account.usage(b.now).exhausted);
}

#[test]
fn unequal_prices_turn_what_is_left_into_bytes_again() {
    let mut b = Bench::new(&sheet(100, 1_000, 0));
    b.attach();
    b.pay(1_000);
    assert_eq!(b.limit, MIB);
    // Uploading costs a tenth: ten times as much passes, in steps.
    let mut passed = 0;
    for _ in 0..2_000 {
        passed += b.send(64 * PACKET, 0);
        b.run(50);
        b.tell(AccountInput::Liveness);
    }
    assert!(passed <= 10 * MIB && passed > 10 * MIB - 10 * PACKET, "{passed}");
    assert!(b.account.credit() <= Msat::new(2));
}

#[test]
fn the_gate_is_never_open_more_than_a_window_beyond_the_checkpoint() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    for n in 1..=4 {
        b.pay(n * 4_000);
    }
    let window = 4 * MIB;
    for _ in 0..200 {
        b.send_down(40 * PACKET);
        b.run(20);
        let saved = b.stored.gate.bytes().value();
        assert!(b.limit - saved <= window, "{} {saved}", b.limit);
    }
    let saved = b.stored;
    // The power goes: what was used since is forgotten, and no more.
    let lost = b.down - saved.gate.bytes().value();
    let mut b = Bench::restore(saved, b.now);
    b.pay(16_000);
    b.attach();
    assert!(lost <= window);
    assert_eq!(b.account.record().down, saved.down);
}

#[test]
fn money_that_is_gone_is_debt_until_it_is_paid() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(2_000);
    b.send_down(3 * MIB / 2);
    b.read();
    b.pay(1_000);
    assert_eq!(b.account.paused(), Some(PauseReason::Debt));
    let debt = b.account.debt().value();
    assert!((499..=500).contains(&debt), "{debt}");
    assert_eq!(b.send_down(PACKET), 0);
    b.pay(1_000 + debt);
    assert_eq!(b.send_down(PACKET), 0);
    b.pay(2_500);
    assert_eq!(b.account.paused(), None);
    assert_eq!(b.send_down(MIB / 2), MIB / 2);
}

#[test]
fn a_failed_reading_is_no_use_of_zero_and_three_of_them_close_the_gate() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.send_down(MIB / 2);
    b.read();
    let known = *b.account.record();
    b.broken = true;
    for _ in 0..3 {
        b.send_down(10 * PACKET);
        b.read();
    }
    assert_eq!(b.account.record().bytes(), known.bytes());
    assert_eq!(b.account.paused(), Some(PauseReason::GateDown));
    assert_eq!(b.send_down(PACKET), 0);
    b.broken = false;
    b.run(6_000);
    assert_eq!(b.account.paused(), None);
    assert_eq!(b.account.record().bytes().value(), b.down);
}

#[test]
fn a_reading_that_never_comes_counts_as_failed() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    let mut reads = 0;
    for _ in 0..3 {
        b.account.handle(b.now, AccountInput::UsageAsked).unwrap();
        while let Some(action) = b.account.poll_action() {
            reads += u32::from(matches!(action, AccountAction::ReadGate { .. }));
        }
        b.now = b.now + Duration::from_secs(2);
        b.account.handle(b.now, AccountInput::Timer).unwrap();
    }
    assert!(reads >= 2);
    assert_eq!(b.account.paused(), Some(PauseReason::GateDown));
}

#[test]
fn a_counter_that_went_backwards_is_refused() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.send_down(100 * PACKET);
    b.read();
    let before = *b.account.record();
    let reset = AccountInput::Reading {
        attachment: b.gate,
        read: 0,
        up: ByteCount::ZERO,
        down: ByteCount::ZERO,
        exhausted: false,
    };
    assert_eq!(b.account.handle(b.now, reset), Err(AccountError::WentBack));
    assert_eq!(*b.account.record(), before);
}

#[test]
fn without_a_sign_of_life_service_pauses_and_credit_is_kept() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.run(29_000);
    assert_eq!(b.account.paused(), None);
    b.tell(AccountInput::Liveness);
    b.run(29_999);
    assert_eq!(b.account.paused(), None);
    b.run(2);
    assert_eq!(b.account.paused(), Some(PauseReason::NoLiveness));
    assert_eq!(b.send_down(PACKET), 0);
    assert_eq!(b.account.credit(), Msat::new(1_000));
    // A payment is a sign of life, too.
    b.pay(1_100);
    assert_eq!(b.account.paused(), None);
    assert_eq!(b.send_down(MIB), MIB);
}

#[test]
fn an_idle_client_wakes_the_relay_at_most_a_dozen_times_a_minute() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(4_000);
    b.run(1);
    for _ in 0..12 {
        b.tell(AccountInput::Liveness);
        b.run(10_000);
    }
    b.seen.clear();
    for _ in 0..6 {
        b.tell(AccountInput::Liveness);
        b.run(10_000);
    }
    // One reading at each sign of life, none between them.
    assert_eq!(b.count(|a| matches!(a, AccountAction::ReadGate { .. })), 6);
}

#[test]
fn a_dearer_sheet_bills_what_passed_before_at_the_old_price() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(2_000);
    b.send_down(MIB / 2);
    b.racing = (0, 100 * PACKET);
    b.tell(AccountInput::Sheet {
        sheet: hash(2),
        prices: prices(&sheet(4_000, 4_000, 0)),
    });
    b.racing = (0, 0);
    assert_eq!(b.account.record().sheet, hash(2));
    let before = b.down;
    let fixed = b.account.record().closed_cost;
    assert_eq!(fixed.value(), (before * 1_000).div_ceil(MIB));
    b.send_down(4 * MIB);
    b.run(5_000);
    b.send_down(4 * MIB);
    b.read();
    assert_eq!(b.account.debt(), Msat::ZERO);
    let expected = (2_000 - fixed.value()) * MIB / 4_000;
    let passed = b.down - before;
    assert!(
        passed <= expected && passed > expected - PACKET,
        "{passed} {expected}"
    );
}

#[test]
fn seconds_are_paid_before_they_begin_and_nothing_passes_after_the_last() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 100));
    b.attach();
    b.pay(1_050);
    // Nothing is used: the money goes to seconds, until what is left of it buys no byte beside one more second.
    b.run(9_900);
    assert_eq!(b.account.paused(), None, "{:?}", b.account.usage(b.now));
    b.run(200);
    assert_eq!(b.account.paused(), Some(PauseReason::NoCredit));
    assert_eq!(b.account.record().cost(), Msat::new(1_000));
    b.run(19_000);
    assert_eq!(b.account.record().cost(), Msat::new(1_000));
    assert_eq!(b.send_down(PACKET), 0);
}

#[test]
fn money_set_aside_for_seconds_becomes_bytes_at_the_end() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 10));
    b.attach();
    b.pay(1_000);
    for _ in 0..100 {
        b.send_down(20 * PACKET);
        b.run(10);
    }
    b.run(1_000);
    b.read();
    // Less than two seconds and one packet are left.
    assert!(
        b.account.credit() <= Msat::new(2 * 10 + 2),
        "{}",
        b.account.credit()
    );
    assert_eq!(b.account.debt(), Msat::ZERO);
}

#[test]
fn the_free_allowance_passes_first_and_costs_nothing() {
    let mut s = sheet(1_000, 1_000, 50);
    s.free = ByteCount::new(10 << 20);
    let mut b = Bench::new(&s);
    b.attach();
    let mut passed = 0;
    for _ in 0..100 {
        passed += b.send_down(100 * PACKET);
        b.run(100);
        b.tell(AccountInput::Liveness);
    }
    assert!(passed <= 10 * MIB && passed > 10 * MIB - PACKET, "{passed}");
    assert_eq!(b.account.record().cost(), Msat::ZERO);
    assert_eq!(b.account.paused(), Some(PauseReason::NoCredit));
    // A restart from the record does not refill it.
    let mut b = Bench::restore(b.stored, b.now);
    b.free = FreeAllowance::restore(
        FreeRecord {
            leased: ByteCount::new(10 << 20),
            ..FreeRecord::default()
        },
        ByteCount::new(100 << 20),
        b.now,
    );
    b.attach();
    assert!(b.send_down(MIB) < 5 * MIB / 2);
    assert_eq!(b.free.tick(b.now + FREE_PERIOD), Some(1));
    b.tell(AccountInput::FreePeriod { period: 1 });
    b.tell(AccountInput::Liveness);
    assert!(b.limit > 0);
}

#[test]
fn a_receipt_ends_every_stretch_and_numbers_have_no_gaps() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    let mut offered = Vec::new();
    for n in 1..=40 {
        b.pay(n * 4_000);
        b.send_down(4 * MIB);
        b.read();
        for action in core::mem::take(&mut b.seen) {
            if let AccountAction::ReceiptDue { sequence, again } = action {
                assert!(!again);
                offered.push(sequence);
                let receipt = b.account.receipt(
                    NodeId::from_bytes([1; 32]),
                    NodeId::from_bytes([2; 32]),
                    BlockHeight::new(5),
                );
                let receipt = receipt.unwrap();
                assert_eq!(receipt.sequence, sequence);
                assert!(receipt.cost <= receipt.paid);
                assert_eq!(b.stored.receipt.sequence, sequence);
                b.tell(AccountInput::ReceiptAnswered { sequence });
            }
        }
    }
    // 160 MiB with one receipt per 64 MiB.
    assert_eq!(offered, [1, 2]);
    b.tell(AccountInput::Detach);
    let last = b.seen.iter().find_map(|a| match a {
        AccountAction::ReceiptDue { sequence, again } => Some((*sequence, *again)),
        _ => None,
    });
    assert_eq!(last, Some((3, false)));
    // Not answered: the same one is offered again at the next end of a stretch.
    b.seen.clear();
    b.attach();
    b.send_down(10 * PACKET);
    b.tell(AccountInput::Detach);
    assert!(b.seen.contains(&AccountAction::ReceiptDue {
        sequence: 3,
        again: true
    }));
}

#[test]
fn a_new_channel_keeps_credit_and_starts_its_receipts_at_zero() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(2_000);
    b.send_down(MIB);
    b.read();
    let credit = b.account.credit();
    b.tell(AccountInput::Channel {
        channel: ChannelId::from_bytes([8; 32]),
    });
    assert_eq!(b.account.credit(), credit);
    b.pay(3_000);
    for _ in 0..8 {
        b.send_down(4 * MIB);
        b.read();
    }
    let receipt = b
        .account
        .receipt(
            NodeId::from_bytes([1; 32]),
            NodeId::from_bytes([2; 32]),
            BlockHeight::new(5),
        )
        .unwrap();
    assert_eq!(receipt.paid, Msat::new(3_000));
    assert!(
        receipt.cost <= receipt.paid && receipt.cost >= Msat::new(2_998),
        "{}",
        receipt.cost
    );
}

#[test]
fn a_gate_that_is_gone_before_its_last_reading_is_told_and_not_taken_for_unused() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.send_down(MIB / 2);
    b.broken = true;
    b.tell(AccountInput::Detach);
    assert!(b.seen.contains(&AccountAction::Unread {
        bytes: ByteCount::new(MIB)
    }));
    assert_eq!(b.account.attachment(), None);
    // The same number cannot be attached again.
    let again = AccountInput::Attach { attachment: b.gate };
    assert_eq!(b.account.handle(b.now, again), Err(AccountError::Attachment));
}

#[test]
fn the_last_reading_of_a_gate_is_waited_for_however_long_it_takes() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.account.handle(b.now, AccountInput::Detach).unwrap();
    let detach = std::iter::from_fn(|| b.account.poll_action()).find_map(|a| match a {
        AccountAction::Detach { attachment, read } => Some((attachment, read)),
        _ => None,
    });
    let (attachment, read) = detach.unwrap();
    b.run(3_600_000);
    assert!(b.account.is_closing());
    // A device that comes back waits as well.
    b.gate += 1;
    b.account
        .handle(b.now, AccountInput::Attach { attachment: b.gate })
        .unwrap();
    assert_eq!(b.account.attachment(), Some(attachment));
    b.down = MIB / 2;
    b.answer(attachment, read);
    assert_eq!(b.account.record().down, ByteCount::new(MIB / 2));
    assert_eq!(b.account.attachment(), Some(b.gate));
}

#[test]
fn a_binding_that_moves_takes_its_credit_along() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    let first = b.send_down(MIB / 2);
    b.tell(AccountInput::Detach);
    b.attach();
    assert_eq!(b.limit, MIB - first);
    assert_eq!(b.account.record().down.value(), first);
}

#[test]
fn a_blocked_key_gets_nothing_and_keeps_its_credit() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.tell(AccountInput::Standing(Standing::Blocked));
    assert_eq!(b.account.paused(), Some(PauseReason::Blocked));
    assert_eq!(b.send_down(PACKET), 0);
    b.tell(AccountInput::Standing(Standing::Normal));
    assert_eq!(b.send_down(MIB), MIB);
}

#[test]
fn a_gate_that_outlived_a_crash_is_billed_before_the_next_one() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    let passed = b.send_down(MIB / 4);
    let (gate, down) = (b.gate, b.down);
    let mut b = Bench::restore(b.stored, b.now);
    b.pay(1_000);
    b.tell(AccountInput::Reading {
        attachment: gate,
        read: 0,
        up: ByteCount::ZERO,
        down: ByteCount::new(down),
        exhausted: false,
    });
    assert_eq!(b.stored.down.value(), passed);
    b.attach();
    assert_eq!(b.limit, MIB - passed);
}

#[test]
fn a_timer_that_comes_late_costs_the_relay_and_not_the_client() {
    let mut s = sheet(1_000, 1_000, 100);
    s.class = BindingClass::Link;
    let mut b = Bench::new(&s);
    b.attach();
    b.pay(10_000);
    b.run(1_000);
    let leased = b.account.leased;
    b.now = b.now + Duration::from_secs(3_600);
    b.tell(AccountInput::Timer);
    // Only the seconds that were set aside are billed, and nothing is open beyond what is paid.
    assert!(b.account.record().cost() <= Msat::new((leased + 1) * 100));
    assert_eq!(b.account.debt(), Msat::ZERO);
}

#[test]
fn an_answer_that_was_overtaken_changes_nothing() {
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(1_000);
    b.send_down(10 * PACKET);
    b.read();
    let read = b.account.gate.unwrap().answered;
    let old = AccountInput::Reading {
        attachment: b.gate,
        read,
        up: ByteCount::new(b.up),
        down: ByteCount::new(b.down),
        exhausted: true,
    };
    b.send_down(10 * PACKET);
    b.read();
    let before = (*b.account.record(), b.account.gate);
    for _ in 0..5 {
        b.tell(old);
    }
    assert_eq!(before, (*b.account.record(), b.account.gate));
    // Nor does an answer to a question that was never asked.
    let unasked = AccountInput::Reading {
        attachment: b.gate,
        read: read + 100,
        up: ByteCount::ZERO,
        down: ByteCount::ZERO,
        exhausted: false,
    };
    b.tell(unasked);
    assert_eq!(before, (*b.account.record(), b.account.gate));
}

#[test]
fn free_bytes_that_were_not_used_count_towards_the_next_period() {
    let mut s = sheet(1_000, 1_000, 0);
    s.free = ByteCount::new(8 << 20);
    let mut b = Bench::new(&s);
    b.attach();
    assert_eq!(b.limit, 4 * MIB);
    b.now = b.now + Duration::from_secs(86_400);
    assert_eq!(b.free.tick(b.now), Some(1));
    b.tell(AccountInput::FreePeriod { period: 1 });
    b.tell(AccountInput::Liveness);
    let mut passed = 0;
    for _ in 0..50 {
        passed += b.send_down(MIB);
        b.run(200);
        b.tell(AccountInput::Liveness);
    }
    assert!(passed <= 8 * MIB && passed > 8 * MIB - PACKET, "{passed}");
}

#[test]
fn a_lease_of_a_new_period_includes_what_was_left_of_the_old_one() {
    let mut s = sheet(1_000, 1_000, 0);
    s.free = ByteCount::new(8 << 20);
    let mut b = Bench::new(&s);
    b.attach();
    let five = ByteCount::new(5 << 20);
    b.tell(AccountInput::FreeLease {
        period: 1,
        leased: five,
    });
    let free = b.account.record().free;
    assert_eq!((free.period, free.leased, free.left), (1, five, five));
}

#[test]
fn a_channel_that_comes_back_takes_its_money_along_and_is_counted_once() {
    let channel = |n| AccountInput::Channel {
        channel: ChannelId::from_bytes([n; 32]),
    };
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.pay(2_000);
    b.tell(channel(8));
    b.pay(1_000);
    for total in [2_000, 1_000, 2_500, 1_200] {
        let back = if total >= 2_000 { 7 } else { 8 };
        let before = b.account.paid_total();
        b.tell(channel(back));
        assert_eq!(
            b.account.paid_total(),
            before,
            "nothing is paid by a change of names"
        );
        b.pay(total);
    }
    assert_eq!(b.account.paid_total(), Msat::new(3_700));
    assert_eq!(b.stored.earlier.iter().flatten().count(), 1);
}

#[test]
fn an_earlier_channel_counts_for_what_it_still_holds_and_for_nothing_once_it_is_lost() {
    let channel = |n| ChannelId::from_bytes([n; 32]);
    let earlier = |n, total, over| AccountInput::Earlier {
        channel: channel(n),
        total: Msat::new(total),
        over,
    };
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    b.attach();
    b.pay(2_000);
    b.send_down(MIB);
    b.read();
    b.tell(AccountInput::Channel { channel: channel(8) });
    b.pay(1_000);
    assert_eq!(b.account.paid_total(), Msat::new(3_000));
    // Said again, or about a channel that never paid: nothing.
    b.tell(earlier(7, 2_000, false));
    b.tell(earlier(9, 5_000, false));
    assert_eq!(b.account.paid_total(), Msat::new(3_000));
    // A later payment that came along with a reconnect.
    b.tell(earlier(7, 2_500, false));
    assert_eq!(b.account.paid_total(), Msat::new(3_500));
    b.tell(earlier(7, 0, true));
    assert_eq!(b.account.paid_total(), Msat::new(1_000));
    assert_eq!(b.stored.paid_before, Msat::ZERO, "it is durable");
    // Once it is over nothing is believed about it any more.
    b.tell(earlier(7, 9_000, false));
    assert_eq!(b.account.paid_total(), Msat::new(1_000));
}

#[test]
fn a_channel_takes_over_only_while_the_one_before_can_be_remembered() {
    let channel = |n| ChannelId::from_bytes([n; 32]);
    let mut b = Bench::new(&sheet(1_000, 1_000, 0));
    for n in 8..16 {
        assert!(b.account.has_place_for(channel(n)));
        b.pay(1_000);
        b.tell(AccountInput::Channel { channel: channel(n) });
    }
    b.pay(1_000);
    assert!(!b.account.has_place_for(channel(16)));
    let next = AccountInput::Channel { channel: channel(16) };
    assert_eq!(b.account.handle(b.now, next), Err(AccountError::Full));
    assert_eq!(b.account.paid_total(), Msat::new(9_000));
    b.tell(AccountInput::Earlier {
        channel: channel(9),
        total: Msat::new(1_000),
        over: true,
    });
    b.tell(next);
    assert_eq!(b.account.paid_total(), Msat::new(9_000));
}
