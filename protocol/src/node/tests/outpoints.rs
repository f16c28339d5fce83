//! One output funds one channel, and what was paid over it is counted once.

use super::hand::{Accepted, Hand, bind, bound, funding, refusals};
use super::*;
use crate::money::channel::PayerInput;

/// A channel that paid, and another one with an unconfirmed funding of its own that pays now.
fn two_channels() -> (World, Slot, Outpoint, Transaction) {
    let mut world = World::ready();
    world.buy(2);
    world.traffic(4, 2 * MIB);
    let first = world.nodes[RELAY].channels()[0].outpoint.unwrap();
    world
        .command(Command::Open {
            connection: LINK,
            capacity: Sat::new(50_000),
            lifetime: None,
        })
        .unwrap();
    let pending = world.mempool.last().cloned().unwrap();
    let second = world.nodes[RELAY].channels()[1].slot;
    (world, second, first, pending)
}

#[test]
fn what_one_output_holds_is_counted_once_whatever_channels_name_it() {
    let (mut world, second, real, _) = two_channels();
    let record = world.nodes[RELAY].payees[&second].record().clone();
    let name = |outpoint| crate::wire::Funded {
        payer_key: NodeId::from_bytes(record.terms.payer_key),
        outpoint,
        tx: Default::default(),
        ext: Default::default(),
    };
    let counted = |world: &World| {
        world.nodes[RELAY]
            .clients
            .values()
            .next()
            .unwrap()
            .account
            .paid_total()
    };
    let first = *world.nodes[CLIENT].payers.keys().next().unwrap();
    for _ in 0..3 {
        world.forge(RELAY, name(record.outpoint.unwrap()));
        world.forge(RELAY, bind(1));
        // Bound once more; before the gate answers, the channel is given the name of the other one.
        let now = world.now;
        for message in [bind(1), name(real).into()] {
            let mut frame = Vec::new();
            write_frame(&message, &mut frame);
            let frame = Input::Frame {
                connection: LINK,
                frame: &frame,
            };
            world.nodes[RELAY].handle(now, frame).unwrap();
        }
        world.drain();
        let client = &mut world.nodes[CLIENT];
        let pay = PayerInput::Pay {
            step: Msat::new(1_000),
            ceiling: Msat::MAX,
        };
        client.payer(first, pay).unwrap();
        while client.poll_action().is_some() {}
        let resume = crate::wire::Resume {
            channel: client.payers[&first].id().unwrap(),
            total: client.payers[&first].record().total,
            signature: client.payment_signature(first).unwrap(),
            ext: Default::default(),
        };
        world.forge(RELAY, resume);
        assert_eq!(counted(&world).value(), world.total(RELAY));
        world.now = world.now + Duration::from_secs(11);
    }
    let refused =
        |e: &Event| matches!(e, Event::PeerProblem { code, .. } if *code == ErrorCode::FundingMismatch);
    assert!(world.events[CLIENT].iter().any(refused));
    assert_eq!(
        world.nodes[RELAY].payees[&second].record().outpoint,
        record.outpoint
    );
}

#[test]
fn an_output_that_funds_or_funded_anothers_channel_is_nobody_elses() {
    let mut world = World::ready();
    world.buy(8);
    world.traffic(8, 2 * MIB);
    let real = world.nodes[RELAY].channels()[0].outpoint.unwrap();
    let thief = Hand::new(&mut world, 9);
    let theirs = thief.accepted(&mut world, 0);
    let named = |world: &mut World| thief.say(world, thief.naming(&theirs, real));
    assert_eq!(refusals(&named(&mut world)), [ErrorCode::FundingMismatch]);
    let slot = world.nodes[CLIENT].channels()[0].slot;
    world.command(Command::Close { slot }).unwrap();
    world.mine(7);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "over");
    assert_eq!(refusals(&named(&mut world)), [ErrorCode::FundingMismatch]);
}

#[test]
fn who_names_anothers_output_first_gives_it_up_to_the_channel_that_proves_it() {
    let mut world = World::new();
    let (thief, honest) = (Hand::new(&mut world, 9), Hand::new(&mut world, 10));
    let theirs = thief.accepted(&mut world, 0);
    let good = honest.accepted(&mut world, 0);
    let outpoint = |world: &World, slot: u32| world.nodes[RELAY].payees[&Slot(slot)].record().outpoint;
    thief.say(&mut world, thief.naming(&theirs, good.outpoint));
    assert_eq!(
        outpoint(&world, 0),
        Some(good.outpoint),
        "nobody proved anything yet"
    );
    // Without its transaction and before it was seen it is one word against another.
    let heard = honest.say(&mut world, honest.naming(&good, good.outpoint));
    assert_eq!(refusals(&heard), [ErrorCode::FundingMismatch]);
    let heard = honest.say(&mut world, honest.proof(&good));
    assert_eq!(refusals(&heard), []);
    assert_eq!(
        (outpoint(&world, 0), outpoint(&world, 1)),
        (None, Some(good.outpoint))
    );
    let heard = thief.say(&mut world, thief.naming(&theirs, good.outpoint));
    assert_eq!(refusals(&heard), [ErrorCode::FundingMismatch]);
}

#[test]
fn an_output_that_a_block_shows_is_its_channels_whoever_named_it_before() {
    let mut world = World::new();
    let (thief, honest) = (Hand::new(&mut world, 9), Hand::new(&mut world, 10));
    let theirs = thief.accepted(&mut world, 0);
    let good = honest.accepted(&mut world, 0);
    thief.say(&mut world, thief.naming(&theirs, good.outpoint));
    world.mempool.push(good.tx.clone());
    world.mine_before(1, &[RELAY]);
    let record = |slot: u32| world.nodes[RELAY].payees[&Slot(slot)].record();
    assert_eq!(
        (record(0).outpoint, record(1).outpoint),
        (None, Some(good.outpoint))
    );
}

/// Two outputs that both fund the same channel, both in the mempool.
fn two_fundings(world: &mut World, hand: &Hand) -> (Accepted, Outpoint) {
    let channel = hand.unconfirmed(world, 0);
    let other = funding(&channel.terms, 500);
    world.mempool.push(other.clone());
    world.sightings(&other, None, &[RELAY]);
    let outpoint = Outpoint {
        txid: txid(&other),
        vout: 0,
    };
    (channel, outpoint)
}

#[test]
fn a_channel_whose_funding_changes_while_the_gate_works_is_not_served_by_that_binding() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    let (channel, other) = two_fundings(&mut world, &hand);
    let heard = hand.burst(&mut world, [bind(0), hand.naming(&channel, other)]);
    assert_eq!(bound(&heard).len(), 0);
    assert_eq!(refusals(&heard), [ErrorCode::UnknownChannel]);
    assert!(world.gate.is_empty() && world.nodes[RELAY].attachments().is_empty());
    // Asked for again, it is served.
    let heard = hand.say(&mut world, bind(0));
    assert_eq!((bound(&heard).len(), world.gate.len()), (1, 1));
}

#[test]
fn a_channel_whose_funding_changed_since_it_was_bound_takes_no_payment() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    let (mut channel, other) = two_fundings(&mut world, &hand);
    assert_eq!(bound(&hand.say(&mut world, bind(0))).len(), 1);
    hand.say(&mut world, hand.naming(&channel, other));
    channel.outpoint = other;
    let payment = hand.payment(&channel, 0, 0, 1_000);
    let heard = hand.say(&mut world, payment.clone());
    assert_eq!(refusals(&heard), [ErrorCode::UnknownAccount]);
    assert_eq!(world.total(RELAY), 0);
    hand.say(&mut world, bind(0));
    assert_eq!(refusals(&hand.say(&mut world, payment)), []);
    assert_eq!(world.total(RELAY), 1_000);
}

#[test]
fn a_binding_asked_for_while_the_gate_works_on_another_is_opened_after_it() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    hand.unconfirmed(&mut world, 0);
    let second = hand.unconfirmed(&mut world, 1);
    let heard = hand.burst(&mut world, [bind(0), bind(1)]);
    assert_eq!(bound(&heard).len(), 1, "{heard:?}");
    assert_eq!((world.gate.len(), world.nodes[RELAY].attachments().len()), (1, 1));
    assert_eq!(world.nodes[RELAY].accounts(world.now)[0].paying, Some(Slot(1)));
    let paid = hand.say(&mut world, hand.payment(&second, 1, 0, 1_000));
    assert_eq!(refusals(&paid), []);
}

#[test]
fn a_stranger_who_only_names_an_output_leaves_no_row_about_itself() {
    let mut world = World::new();
    let hand = Hand::new(&mut world, 9);
    let channel = hand.accepted(&mut world, 0);
    hand.say(&mut world, hand.naming(&channel, channel.outpoint));
    let known = |world: &World| world.nodes[RELAY].peers.contains_key(&hand.id());
    assert!(!known(&world));
    world.mempool.push(channel.tx.clone());
    world.mine_before(1, &[RELAY]);
    assert!(known(&world), "its money is there now");
}
