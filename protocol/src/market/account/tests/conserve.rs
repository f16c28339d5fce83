//! Whatever happens in whatever order: money is conserved, grants only grow, repetitions change nothing.

use super::*;
use proptest::prelude::*;
use std::vec;

#[derive(Clone, Copy, Debug)]
enum Step {
    Pay(u64),
    Send(u64, u64),
    Race(u64, u64),
    Run(u64),
    Read,
    Break(bool),
    Live,
    Sheet(u64, u64, u64),
    Detach,
    Attach,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..20_000u64).prop_map(Step::Pay),
        8 => (0..3_000_000u64, 0..3_000_000u64).prop_map(|(u, d)| Step::Send(u, d)),
        2 => (0..1_000_000u64, 0..1_000_000u64).prop_map(|(u, d)| Step::Race(u, d)),
        6 => (1..12_000u64).prop_map(Step::Run),
        2 => Just(Step::Read),
        1 => any::<bool>().prop_map(Step::Break),
        2 => Just(Step::Live),
        1 => (0..5_000u64, 0..5_000u64, 0..200u64).prop_map(|(u, d, s)| Step::Sheet(u, d, s)),
        1 => Just(Step::Detach),
        1 => Just(Step::Attach),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cost_never_exceeds_what_was_paid(steps in steps(), up in 0..3_000u64, down in 0..3_000u64, second in 0..100u64, free in 0..8u64) {
        let mut s = sheet(up, down, second);
        s.free = ByteCount::new(free << 20);
        let mut b = Bench::new(&s);
        let mut paid = 0;
        let mut sheets = 1;
        b.attach();
        for step in steps {
            match step {
                Step::Pay(step) => {
                    paid += step;
                    b.pay(paid);
                }
                Step::Send(up, down) => { b.send(up, down); }
                Step::Race(up, down) => b.racing = (up, down),
                Step::Run(millis) => b.run(millis),
                Step::Read => b.read(),
                Step::Break(broken) => b.broken = broken,
                Step::Live => b.tell(AccountInput::Liveness),
                Step::Sheet(up, down, second) => {
                    sheets += 1;
                    let mut s = sheet(up, down, second);
                    s.free = ByteCount::new(free << 20);
                    b.tell(AccountInput::Sheet { sheet: hash(sheets), prices: prices(&s) });
                }
                Step::Detach => b.tell(AccountInput::Detach),
                Step::Attach if b.account.attachment().is_none() => b.attach(),
                Step::Attach => {}
                Step::Crash => {
                    let window = b.account.window_and_rate().0.value();
                    let forgotten = b.account.record().bytes().value() - b.stored.bytes().value();
                    let priced = b.account.record().prices.dearest() > Msat::ZERO;
                    prop_assert!(!priced || forgotten <= window, "{forgotten} > {window}");
                    let free = b.free.clone();
                    let racing = b.racing;
                    b = Bench::restore(b.stored, b.now);
                    (b.free, b.racing) = (free, racing);
                    b.pay(paid);
                    b.attach();
                }
            }
            // A truthful reading of everything, then judge.
            let (broken, racing) = (b.broken, b.racing);
            (b.broken, b.racing) = (false, (0, 0));
            b.read();
            b.read();
            (b.broken, b.racing) = (broken, racing);
            let record = *b.account.record();
            if b.account.attachment().is_some() {
                prop_assert_eq!(record.gate.bytes().value(), b.up + b.down);
            }
            prop_assert!(record.cost() <= Msat::new(paid), "{} > {paid}", record.cost());
            prop_assert!(record.free.leased <= ByteCount::new((free << 20).max(record.free.left.value())));
        }
    }

    #[test]
    fn grants_only_grow_while_nothing_is_taken_back(pays in prop::collection::vec((0..9_000u64, 0..4_000_000u64, 0..4_000_000u64), 1..30), up in 0..3_000u64, down in 0..3_000u64) {
        let mut b = Bench::new(&sheet(up, down, 0));
        b.attach();
        let (mut paid, mut last) = (0, 0);
        for (step, up, down) in pays {
            paid += step;
            b.pay(paid);
            b.send(up, down);
            b.run(500);
            b.tell(AccountInput::Liveness);
            for action in core::mem::take(&mut b.seen) {
                if let AccountAction::Grant { limit, .. } = action {
                    prop_assert!(limit.value() >= last);
                    last = limit.value();
                }
            }
        }
    }

    #[test]
    fn any_input_twice_changes_nothing(pays in prop::collection::vec((0..9_000u64, 0..4_000_000u64), 1..20), second in 0..50u64) {
        let mut b = Bench::new(&sheet(500, 1_000, second));
        b.attach();
        let mut paid = 0;
        for (n, (step, down)) in pays.into_iter().enumerate() {
            paid += step;
            b.send_down(down);
            let mut inputs = vec![
                AccountInput::Paid { total: Msat::new(paid) },
                AccountInput::Attach { attachment: b.gate },
                AccountInput::Liveness,
                AccountInput::Timer,
                AccountInput::Channel { channel: ChannelId::from_bytes([7; 32]) },
                AccountInput::FreeLease { period: 0, leased: ByteCount::ZERO },
                AccountInput::ReceiptAnswered { sequence: 1 },
                AccountInput::Reading {
                    attachment: b.gate,
                    read: 0,
                    up: ByteCount::new(b.up),
                    down: ByteCount::new(b.down),
                    exhausted: b.dropped,
                },
            ];
            if n % 5 == 4 {
                inputs.push(AccountInput::Sheet { sheet: hash(n as u8), prices: prices(&sheet(600, n as u64, second)) });
            }
            for input in inputs {
                b.tell(input);
                let state = |b: &Bench| (*b.account.record(), b.account.paid_total(), b.account.paused());
                let (before, limit) = (state(&b), b.limit);
                b.tell(input);
                prop_assert_eq!(before, state(&b), "{:?}", input);
                // Where seconds have a price, "dropped again" turns seconds into bytes.
                prop_assert!(second > 0 || limit == b.limit, "{:?} {} {}", input, limit, b.limit);
            }
            b.run(700);
        }
    }
}
