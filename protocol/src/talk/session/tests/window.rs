//! The replay window against a plain set, and keys that are rekeyed while packets overtake one another.

use crate::base::limits::{MAX_EPOCH_JUMP, REPLAY_WINDOW};
use crate::talk::session::Ignored;
use crate::talk::session::cipher::{Key, Ordered};
use crate::talk::session::window::{Unordered, Window};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;

const EPOCH: u64 = 1 << 16;

/// The rule in its plainest form.
fn judge(seen: &BTreeSet<u64>, counter: u64) -> Result<(), Ignored> {
    match seen.last() {
        Some(newest) if counter + REPLAY_WINDOW <= *newest => Err(Ignored::Old),
        _ if seen.contains(&counter) => Err(Ignored::Replayed),
        _ => Ok(()),
    }
}

proptest! {
    #[test]
    fn the_window_is_the_plain_rule(steps in proptest::collection::vec((0..5_u8, 0..5_000_u64), 1..400)) {
        let (mut window, mut seen, mut newest) = (Window::new(), BTreeSet::new(), 0_u64);
        for (kind, by) in steps {
            let counter = match kind {
                0 => newest + 1,
                1 => newest + by % 130,
                2 => newest.saturating_sub(by % 70),
                3 => newest.saturating_sub(by),
                _ => newest + by,
            };
            let verdict = window.check(counter);
            prop_assert_eq!(verdict, judge(&seen, counter), "counter {} newest {}", counter, newest);
            if verdict.is_ok() {
                window.mark(counter);
                seen.insert(counter);
                newest = newest.max(counter);
            }
        }
    }
}

#[test]
fn every_counter_within_the_window_is_taken_once_and_none_behind_it() {
    for newest in [REPLAY_WINDOW, REPLAY_WINDOW + 63, 10_000, 64 * 500] {
        let mut window = Window::new();
        window.mark(newest);
        for counter in 0..=newest {
            let verdict = window.check(counter);
            let expected = if counter == newest {
                Err(Ignored::Replayed)
            } else if newest - counter < REPLAY_WINDOW {
                Ok(())
            } else {
                Err(Ignored::Old)
            };
            assert_eq!(verdict, expected, "{counter} after {newest}");
        }
    }
}

#[test]
fn the_last_counter_is_reserved_for_rekeying() {
    assert_eq!(Window::new().check(u64::MAX), Err(Ignored::Ahead));
}

/// Seals packets of four bytes with these counters, in order.
fn sealed(counters: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    let mut sender = Ordered::new(Key::new(&[8; 32]));
    let seal = |counter| {
        sender.skip_to(counter);
        assert_eq!(sender.counter(), counter);
        let mut bytes = (counter as u32).to_be_bytes().to_vec();
        let tag = sender.seal(&mut bytes).unwrap();
        bytes.extend(tag);
        (counter, bytes)
    };
    counters.into_iter().map(seal).collect()
}

fn receiver() -> Unordered {
    Unordered::new(Key::new(&[8; 32]))
}

#[test]
fn packets_overtake_one_another_across_a_rekey() {
    let mut packets = sealed((EPOCH - 300..EPOCH + 300).chain(2 * EPOCH - 300..2 * EPOCH + 300));
    // Each run arrives backwards.
    packets.chunks_mut(600).for_each(|run| run.reverse());
    let mut receiver = receiver();
    for (counter, bytes) in &packets {
        let mut copy = bytes.clone();
        assert_eq!(receiver.open(*counter, &mut copy), Ok(4), "{counter}");
        assert_eq!(copy[..4], (*counter as u32).to_be_bytes());
    }
    for (counter, bytes) in &packets {
        let again = receiver.open(*counter, &mut bytes.clone());
        assert!(
            matches!(again, Err(Ignored::Replayed | Ignored::Old)),
            "{counter}"
        );
    }
}

#[test]
fn an_outage_of_four_epochs_is_bridged_and_one_of_five_is_not() {
    let packets = sealed([0, 4 * EPOCH - 5, 4 * EPOCH + 7, 5 * EPOCH + 3]);
    assert_eq!(MAX_EPOCH_JUMP, 4);
    let bytes = |n: u64| {
        packets
            .iter()
            .find(|(counter, _)| *counter == n)
            .unwrap()
            .1
            .clone()
    };
    let mut receiver = receiver();
    assert_eq!(
        receiver.open(5 * EPOCH + 3, &mut bytes(5 * EPOCH + 3)),
        Err(Ignored::Ahead)
    );
    assert_eq!(receiver.open(4 * EPOCH + 7, &mut bytes(4 * EPOCH + 7)), Ok(4));
    // The epoch just before is still open for what was overtaken, and the way ahead is open again.
    assert_eq!(receiver.open(4 * EPOCH - 5, &mut bytes(4 * EPOCH - 5)), Ok(4));
    assert_eq!(receiver.open(5 * EPOCH + 3, &mut bytes(5 * EPOCH + 3)), Ok(4));
    assert_eq!(receiver.open(0, &mut bytes(0)), Err(Ignored::Old));
}

#[test]
fn a_forged_counter_moves_nothing() {
    let packets = sealed([0, 1, EPOCH + 1]);
    let mut receiver = receiver();
    assert_eq!(receiver.open(0, &mut packets[0].1.clone()), Ok(4));
    for forged in [1, 2, 1_000, EPOCH, 2 * EPOCH, 4 * EPOCH + 9] {
        let mut bytes = packets[0].1.clone();
        assert_eq!(receiver.open(forged, &mut bytes), Err(Ignored::Forged));
        assert_eq!(bytes, packets[0].1, "refused bytes stay as they came");
    }
    assert_eq!(receiver.open(1, &mut packets[1].1.clone()), Ok(4));
    assert_eq!(receiver.open(EPOCH + 1, &mut packets[2].1.clone()), Ok(4));
}
