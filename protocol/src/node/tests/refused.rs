//! What a relay refuses, and how a client goes on.

use super::*;
use crate::market::{Standing, StopReason};

fn unlink(world: &mut World) {
    world.unlink_quietly(RELAY);
    world.give(RELAY, Input::Disconnected { connection: LINK });
}

fn state(world: &World) -> BuyerState {
    world.nodes[CLIENT].purchases()[0].1.state
}

#[test]
fn however_often_a_session_breaks_each_new_one_asks_for_one_binding() {
    let mut world = World::ready();
    world.open_channel();
    world.buy(40);
    world.traffic(1, MIB);
    for _ in 0..4 {
        unlink(&mut world);
        let before = world.binds;
        // A relay hangs up on who asks too often, and that would be a panic here.
        world.link();
        world.command(Command::AskOffer { connection: LINK }).unwrap();
        assert_eq!(world.binds - before, 1);
        world.traffic(1, MIB);
    }
    let before = world.passed();
    world.traffic(4, MIB);
    assert!(
        world.passed() > before + 3 * MIB,
        "it is served after all of that"
    );
}

#[test]
fn a_binding_that_drifted_is_made_anew_and_the_credit_goes_on() {
    let mut world = World::ready();
    world.buy(40);
    world.traffic(1, 100_000);
    let (binds, attachment) = (world.binds, world.nodes[RELAY].attachments());
    world.drifts = true;
    // The next sign of life is due within ten seconds.
    world.traffic(12, 100_000);
    assert!(!world.drifts);
    assert_eq!(world.binds, binds + 1);
    assert_eq!(world.nodes[RELAY].attachments().len(), attachment.len());
    let before = world.passed();
    world.traffic(2, 100_000);
    assert!(world.passed() > before);
}

#[test]
fn a_client_that_is_blocked_pays_nothing_more_and_is_told() {
    let mut world = World::ready();
    world.buy(40);
    world.traffic(2, MIB);
    world.hangs_up = Some(ErrorCode::Blocked);
    let client = world.nodes[CLIENT].id();
    let stand = Command::Stand {
        client,
        standing: Standing::Blocked,
    };
    world.nodes[RELAY]
        .handle(world.now, Input::Command(stand))
        .unwrap();
    world.drain();
    let paid = world.total(CLIENT);
    assert_eq!(
        state(&world),
        BuyerState::Stopped(StopReason::Refused(ErrorCode::Blocked))
    );
    let passed = world.passed();
    world.traffic(5, MIB);
    // It comes back and tries again.
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    world.buy(8);
    world.traffic(5, MIB);
    assert_eq!(
        state(&world),
        BuyerState::Stopped(StopReason::Refused(ErrorCode::Blocked))
    );
    assert_eq!(
        (world.total(CLIENT), world.total(RELAY), world.passed()),
        (paid, paid, passed)
    );
}

#[test]
fn a_payment_of_a_client_that_is_blocked_is_refused() {
    let mut world = World::ready();
    world.buy(40);
    world.traffic(2, MIB);
    // The block and a payment cross: the payment is on its way when the relay's owner blocks the client.
    let client = world.nodes[CLIENT].id();
    let paid = world.total(RELAY);
    world.hangs_up = Some(ErrorCode::Blocked);
    let stand = Command::Stand {
        client,
        standing: Standing::Blocked,
    };
    world.nodes[RELAY]
        .handle(world.now, Input::Command(stand))
        .unwrap();
    // Not drained: the client knows nothing yet and uses up its window.
    for passed in world.gate.values_mut() {
        passed.down = passed.limit;
        world.meter.1 = passed.up + passed.down;
    }
    world.now = world.now + Duration::from_secs(2);
    world.nodes[CLIENT].handle(world.now, Input::Tick).unwrap();
    world.drain();
    assert_eq!(world.total(RELAY), paid);
}

#[test]
fn a_channel_that_its_relay_closed_meanwhile_does_not_keep_another_from_paying() {
    let mut world = World::ready();
    world.open_channel();
    let [first, second] = [0, 1].map(|n| world.nodes[CLIENT].channels()[n].slot);
    unlink(&mut world);
    let closed = world.nodes[RELAY].channels()[0].slot;
    let close = Command::Close { slot: closed };
    world.nodes[RELAY]
        .handle(world.now, Input::Command(close))
        .unwrap();
    world.drain();
    world.events[CLIENT].clear();
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    // It asks for the end of a channel that is ending; that is all.
    let close = Kind::CloseRequest.number();
    let refused = |e: &Event| matches!(e, Event::PeerProblem { about, .. } if *about != close);
    assert!(
        !world.events[CLIENT].iter().any(refused),
        "{:?}",
        world.events[CLIENT]
    );
    let relay = world.nodes[RELAY].id();
    assert_eq!(world.nodes[CLIENT].paying_channel(&relay), Some(second));
    world.buy(4);
    world.traffic(4, MIB);
    let total = |slot| world.nodes[CLIENT].channel(slot).unwrap().total;
    assert_eq!(total(first), Msat::ZERO);
    assert!(total(second) > Msat::ZERO);
}

#[test]
fn a_claim_about_the_channel_before_is_not_held_against_the_new_one() {
    let mut world = World::ready();
    world.buy(40);
    world.traffic(2, 2 * MIB);
    world.open_channel();
    // The first channel comes near its expiry: the relay settles it, and says for the last time what was used on it.
    let slot = world.nodes[RELAY].channels()[0].slot;
    let closed = world.nodes[RELAY].handle(world.now, Input::Command(Command::Close { slot }));
    assert_eq!(closed, Ok(()));
    world.drain();
    let over_claim = |e: &Event| matches!(e, Event::OverClaim { .. });
    assert!(!world.events[CLIENT].iter().any(over_claim));
    assert!(
        !matches!(state(&world), BuyerState::Stopped(_)),
        "{:?}",
        state(&world)
    );
    let before = world.passed();
    world.traffic(5, 2 * MIB);
    assert!(
        world.passed() > before + 6 * MIB,
        "it is served over the channel that is open: {:?}",
        state(&world)
    );
}

#[test]
fn a_payment_over_a_channel_that_was_given_up_is_refused_and_not_acknowledged() {
    let mut world = World::new();
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    let open = Command::Open {
        connection: LINK,
        capacity: Sat::new(50_000),
        lifetime: None,
    };
    world.command(open).unwrap();
    // Seen in the mempool, bound, and then never in a block.
    for tx in world.mempool.clone() {
        world.sightings(&tx, None, &[RELAY]);
    }
    let bind = crate::wire::BindRequest {
        account: AccountId(0),
        channel: 0,
        class: BindingClass::Address,
        addresses: Default::default(),
        ext: Default::default(),
    };
    // The client, which does not buy, would give the binding back.
    world.linked = false;
    world.forge(RELAY, bind);
    assert_eq!(world.gate.len(), 1);
    world.mempool.clear();
    world.mine_before(200, &[RELAY]);
    assert!(world.nodes[RELAY].channels().is_empty());
    world.linked = true;
    let payment = crate::wire::Payment {
        channel: 0,
        account: AccountId(0),
        sheet: 0,
        total: Msat::new(1_000),
        signature: Signature([7; 64]),
    };
    world.forge(RELAY, payment);
    let refused = |e: &Event| {
        let Event::PeerProblem { code, .. } = e else {
            return false;
        };
        *code == ErrorCode::UnknownChannel
    };
    assert!(
        world.events[CLIENT].iter().any(refused),
        "{:?}",
        world.events[CLIENT]
    );
}
