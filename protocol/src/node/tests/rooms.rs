//! Unconfirmed credit as the node computes it (money.md rule 1), and who may pay at all.

use super::hand::{Hand, bind, bound, refusals};
use super::*;

/// A relay that gives this much before a funding is deep: to one key, and to all together.
fn giving(key: u64, all: u64) -> World {
    let mut world = World::new();
    let mut config = relay_config();
    config.policy.unconfirmed = Msat::new(key);
    config.policy.unconfirmed_total = Msat::new(all);
    world.give(RELAY, Input::Command(Command::Sell(config)));
    world
}

/// Pays over a channel that is bound; gives the refusals.
fn pay(
    world: &mut World,
    hand: &Hand,
    channel: &super::hand::Accepted,
    short: u16,
    total: u64,
) -> Vec<ErrorCode> {
    let heard = hand.say(world, hand.payment(channel, short, 1, total));
    refusals(&heard)
}

#[test]
fn rule_1_the_unconfirmed_credit_of_a_key_is_shared_by_its_channels() {
    let mut world = giving(500_000, 50_000_000);
    let hand = Hand::new(&mut world, 9);
    let [first, second] = [0, 1].map(|index| hand.unconfirmed(&mut world, index));
    assert_eq!(bound(&hand.say(&mut world, bind(0))).len(), 1);
    assert_eq!(pay(&mut world, &hand, &first, 0, 300_000), []);
    assert_eq!(bound(&hand.say(&mut world, bind(1))).len(), 1);
    assert_eq!(
        pay(&mut world, &hand, &second, 1, 200_001),
        [ErrorCode::ExposureFull]
    );
    assert_eq!(pay(&mut world, &hand, &second, 1, 200_000), []);
    // Another key has its own.
    let other = Hand::new(&mut world, 10);
    let third = other.unconfirmed(&mut world, 0);
    other.say(&mut world, bind(0));
    assert_eq!(pay(&mut world, &other, &third, 0, 500_000), []);
    // The first one deep: what was paid over it is sure.
    world.mine_before(6, &[RELAY]);
    assert_eq!(pay(&mut world, &hand, &second, 1, 40_000_000), []);
}

#[test]
fn rule_1_the_unconfirmed_credit_of_all_keys_together_is_bounded() {
    let mut world = giving(500_000, 600_000);
    let hands = [9, 10].map(|seed| Hand::new(&mut world, seed));
    let [first, second] = [0, 1].map(|n| hands[n].unconfirmed(&mut world, 0));
    for hand in &hands {
        assert_eq!(bound(&hand.say(&mut world, bind(0))).len(), 1);
    }
    assert_eq!(pay(&mut world, &hands[0], &first, 0, 500_000), []);
    assert_eq!(
        pay(&mut world, &hands[1], &second, 0, 100_001),
        [ErrorCode::ExposureFull]
    );
    assert_eq!(pay(&mut world, &hands[1], &second, 0, 100_000), []);
    assert_eq!(world.nodes[RELAY].unconfirmed().0, Msat::new(600_000));
}

#[test]
fn rule_1_what_was_lost_within_a_day_is_not_given_again() {
    let mut world = giving(500_000, 600_000);
    let thief = Hand::new(&mut world, 9);
    let first = thief.unconfirmed(&mut world, 0);
    thief.say(&mut world, bind(0));
    assert_eq!(pay(&mut world, &thief, &first, 0, 500_000), []);
    // Its funding is double-spent.
    world.mempool.clear();
    world.mine_before(150, &[RELAY]);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "missing");
    let honest = Hand::new(&mut world, 10);
    thief.unconfirmed(&mut world, 1);
    honest.unconfirmed(&mut world, 0);
    let ceilings = |world: &World| [1, 2].map(|slot| world.nodes[RELAY].ceilings(Slot(slot)).value());
    assert_eq!(ceilings(&world), [0, 100_000]);
    assert_eq!(world.nodes[RELAY].unconfirmed().0, Msat::new(500_000));
    world.mempool.clear();
    world.mine_before(140, &[RELAY]);
    assert_eq!(ceilings(&world), [0, 100_000]);
    world.mine_before(4, &[RELAY]);
    assert_eq!(ceilings(&world), [500_000, 500_000], "a day later");
}

#[test]
fn no_payment_is_taken_before_the_gate_has_confirmed_the_binding() {
    let mut world = giving(500_000, 600_000);
    let hand = Hand::new(&mut world, 9);
    let channel = hand.unconfirmed(&mut world, 0);
    let early = hand.payment(&channel, 0, 1, 1_000);
    let heard = hand.burst(&mut world, [bind(0), early.clone()]);
    assert_eq!(refusals(&heard), [ErrorCode::UnknownAccount]);
    assert_eq!((bound(&heard).len(), world.total(RELAY)), (1, 0));
    assert_eq!(refusals(&hand.say(&mut world, early)), []);
    assert_eq!(world.total(RELAY), 1_000);
}

#[test]
fn no_payment_is_taken_after_the_gate_has_closed_the_binding() {
    let mut world = giving(500_000, 600_000);
    let hand = Hand::new(&mut world, 9);
    let channel = hand.unconfirmed(&mut world, 0);
    hand.say(&mut world, bind(0));
    assert_eq!(pay(&mut world, &hand, &channel, 0, 1_000), []);
    world.nodes[RELAY]
        .handle(world.now, Input::Drift { client: 1 })
        .unwrap();
    hand.hear(&mut world);
    assert!(world.gate.is_empty());
    assert_eq!(
        pay(&mut world, &hand, &channel, 0, 2_000),
        [ErrorCode::UnknownAccount]
    );
    assert_eq!(world.total(RELAY), 1_000);
}

#[test]
fn no_payment_is_taken_in_another_session_than_the_one_that_is_bound() {
    let mut world = giving(500_000, 600_000);
    let mut hand = Hand::new(&mut world, 9);
    let channel = hand.unconfirmed(&mut world, 0);
    hand.say(&mut world, bind(0));
    let home = hand.connection;
    hand.connect(&mut world, ConnectionId(90), 0);
    // The channel has a short name there, too.
    hand.say(&mut world, hand.naming(&channel, channel.outpoint));
    assert_eq!(
        pay(&mut world, &hand, &channel, 0, 1_000),
        [ErrorCode::UnknownAccount]
    );
    assert_eq!(world.total(RELAY), 0);
    hand.connection = home;
    assert_eq!(pay(&mut world, &hand, &channel, 0, 1_000), []);
}
