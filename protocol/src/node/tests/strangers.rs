//! What strangers may ask for, and how little of it is written.

use super::hand::{Hand, refusals};
use super::*;
use crate::base::limits::{ASKS_WITHIN_SECS, MAX_ASKS};
use crate::wire::{Hello, OfferRequest, OpenRequest};

fn accepted(heard: &[Message]) -> bool {
    heard.iter().any(|m| matches!(m, Message::OpenAccept(_)))
}

#[test]
fn who_asks_for_channels_too_fast_is_refused_and_nothing_is_written() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    for index in 0..u32::from(MAX_ASKS) {
        assert!(accepted(&hand.ask(&mut world, index)), "{index}");
    }
    let written = world.disks[RELAY].writes;
    for index in 100..1_000 {
        assert_eq!(refusals(&hand.ask(&mut world, index)), [ErrorCode::TooFast]);
    }
    assert_eq!(world.disks[RELAY].writes, written);
    // Another session of the same key is the same key; others are not.
    let mut hand = hand;
    hand.connect(&mut world, ConnectionId(90), 0);
    assert_eq!(refusals(&hand.ask(&mut world, 100)), [ErrorCode::TooFast]);
    let other = Hand::new(&mut world, 10);
    assert!(accepted(&other.ask(&mut world, 0)));
    world.now = world.now + Duration::from_secs(ASKS_WITHIN_SECS);
    assert!(accepted(&hand.ask(&mut world, 100)));
}

#[test]
fn an_acceptance_for_which_nothing_was_named_or_seen_gives_its_key_to_the_next() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    let keys: Vec<[u8; 32]> = (0..4)
        .map(|i| hand.accepted(&mut world, i).terms.payee_key)
        .collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(world.nodes[RELAY].meta.next_payee_key, 1);
    let rows = |world: &World| {
        let rows = world.disks[RELAY].rows.keys();
        rows.filter(|(table, _)| *table == Table::Payee).count()
    };
    assert_eq!(rows(&world), 1);
    // One that was seen, though never named, keeps its key.
    let channel = hand.accepted(&mut world, 4);
    world.mempool.push(channel.tx.clone());
    world.sightings(&channel.tx, None, &[RELAY]);
    let next = hand.accepted(&mut world, 5);
    assert_ne!(next.terms.payee_key, channel.terms.payee_key);
    // So does one that was named, though never seen.
    hand.say(&mut world, hand.naming(&next, next.outpoint));
    world.now = world.now + Duration::from_secs(ASKS_WITHIN_SECS);
    let last = hand.accepted(&mut world, 6);
    assert_ne!(last.terms.payee_key, next.terms.payee_key);
    assert_eq!(rows(&world), 2);
}

#[test]
fn rows_and_keys_that_are_used_up_are_refused_and_never_used_twice() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    for (slot, key) in [(u32::MAX, 0), (0, u32::MAX)] {
        let meta = &mut world.nodes[RELAY].meta;
        (meta.next_slot, meta.next_payee_key) = (slot, key);
        assert_eq!(refusals(&hand.ask(&mut world, 0)), [ErrorCode::Full]);
        let meta = &world.nodes[RELAY].meta;
        assert_eq!((meta.next_slot, meta.next_payee_key), (slot, key));
    }
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    world.nodes[CLIENT].meta.next_payer_key = u32::MAX;
    let open = Command::Open {
        connection: LINK,
        capacity: Sat::new(50_000),
        lifetime: None,
    };
    assert_eq!(world.command(open), Err(CommandError::NoKeys));
}

#[test]
fn a_question_that_the_policy_refuses_costs_no_write_and_no_acceptance() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    hand.accepted(&mut world, 0);
    let written = world.disks[RELAY].writes;
    let small = OpenRequest {
        payer_key: hand.payer_key(1),
        capacity: Sat::new(1),
        expiry: BlockHeight::new(2_008),
        ext: Default::default(),
    };
    assert_eq!(refusals(&hand.say(&mut world, small)), [ErrorCode::Capacity]);
    assert_eq!(world.disks[RELAY].writes, written);
    assert_eq!(world.nodes[RELAY].channels().len(), 1);
}

#[test]
fn in_the_dark_no_channel_is_accepted() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    world.give(RELAY, Input::Chain(ChainEvent::Dark));
    let written = world.disks[RELAY].writes;
    assert_eq!(refusals(&hand.ask(&mut world, 0)), [ErrorCode::ExposureFull]);
    assert_eq!(world.disks[RELAY].writes, written);
    assert!(world.nodes[RELAY].channels().is_empty());
    world.tip(RELAY);
    assert!(accepted(&hand.ask(&mut world, 0)));
}

#[test]
fn one_key_holds_two_channels_and_no_third() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    hand.unconfirmed(&mut world, 0);
    hand.unconfirmed(&mut world, 1);
    assert_eq!(refusals(&hand.ask(&mut world, 2)), [ErrorCode::Full]);
    assert_eq!(world.nodes[RELAY].channels().len(), 2);
    let other = Hand::new(&mut world, 10);
    assert!(accepted(&other.ask(&mut world, 0)));
}

#[test]
fn a_peer_on_another_chain_is_not_greeted() {
    let mut world = World::new();
    let mut hand = Hand::new(&mut world, 9);
    let connection = ConnectionId(90);
    let peer = hand.id();
    let relay = &mut world.nodes[RELAY];
    relay
        .handle(world.now, Input::Connected { connection, peer })
        .unwrap();
    hand.connection = connection;
    let hello = Hello {
        genesis: GenesisHash::from_bytes([6; 32]),
        height: BlockHeight::new(1_000),
        generation: 1,
        seen_generation: 0,
        ext: Default::default(),
    };
    assert_eq!(refusals(&hand.say(&mut world, hello)), [ErrorCode::WrongChain]);
    assert!(world.nodes[RELAY].connections[&connection].greeted.eq(&false));
    let ask = OfferRequest {
        ext: Default::default(),
    };
    assert_eq!(refusals(&hand.say(&mut world, ask)), [ErrorCode::OutOfOrder]);
}

#[test]
fn only_a_peer_whose_money_was_seen_is_believed_about_the_age_of_this_store() {
    let mut world = World::new();
    let mut hand = Hand::new(&mut world, 9);
    let channel = hand.accepted(&mut world, 0);
    hand.say(&mut world, hand.naming(&channel, channel.outpoint));
    let copied = |world: &World| {
        let copied = |e: &Event| matches!(e, Event::CopiedStore { .. });
        world.events[RELAY].iter().any(copied)
    };
    let written = world.disks[RELAY].writes;
    hand.connect(&mut world, ConnectionId(90), 99);
    assert!(!copied(&world), "it named an output that nobody saw");
    assert_eq!(world.disks[RELAY].writes, written);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "unconfirmed");
    world.mempool.push(channel.tx.clone());
    world.mine_before(1, &[RELAY]);
    hand.connect(&mut world, ConnectionId(91), 99);
    assert!(copied(&world));
    assert_eq!(world.nodes[RELAY].channels()[0].state, "restored");
}
