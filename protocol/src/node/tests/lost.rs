//! Money that counted as paid and is lost: what was used for it is owed.

use super::*;

/// A first channel that paid for `mib`, and a second one that pays now.
fn moved_on(mib: u64) -> World {
    let mut world = World::ready();
    world.buy(mib);
    world.traffic(2 + mib, 2 * MIB);
    world.open_channel();
    let first = world.nodes[CLIENT].channels()[0].slot;
    world.command(Command::Close { slot: first }).unwrap();
    world.buy(1);
    world.traffic(2, 2 * MIB);
    let second = world.nodes[RELAY].channels()[1].slot;
    assert_eq!(account(&world).paying, Some(second));
    world
}

fn account(world: &World) -> AccountView {
    world.nodes[RELAY].accounts(world.now)[0].clone()
}

/// The relay's chain loses the funding of its oldest channel for good; the others come back at once.
fn forget_first_funding(world: &mut World) {
    let first = world.nodes[RELAY].channels()[0].outpoint.unwrap();
    let height = BlockHeight::new(1_000);
    world.give(RELAY, Input::Chain(ChainEvent::Reorg { height }));
    let spends = |tx: &Transaction| {
        tx.input
            .iter()
            .any(|i| Outpoint::from(i.previous_output) == first)
    };
    world
        .confirmed
        .retain(|(tx, _)| txid(tx) != first.txid && !spends(tx));
    world.mempool.retain(|tx| !spends(tx));
    world.void.push(first);
    for (tx, height) in world.confirmed.clone() {
        world.sightings(&tx, Some(BlockHeight::new(height)), &[RELAY]);
    }
    world.drain();
    world.tip(RELAY);
}

fn lost(world: &World) -> Vec<Event> {
    let is_lost = |e: &&Event| matches!(e, Event::Lost { .. });
    world.events[RELAY].iter().filter(is_lost).cloned().collect()
}

#[test]
fn a_funding_lost_after_the_account_moved_on_is_debt_that_stops_further_grants() {
    let mut world = moved_on(10);
    let first = world.nodes[RELAY].channels()[0].clone();
    assert_eq!(first.total, Msat::new(1_000_000));
    assert_eq!(account(&world).debt, Msat::ZERO);
    forget_first_funding(&mut world);
    // Until it is certain, it is exposure.
    let exposed = |world: &World| {
        let views = world.nodes[RELAY].exposures();
        views.iter().find(|v| v.role == Role::Payee).unwrap().msat
    };
    assert!(exposed(&world) >= Msat::new(990_000), "{:?}", exposed(&world));
    world.mine(200);
    assert_eq!(lost(&world).len(), 0, "it may come yet");
    assert_eq!(world.nodes[RELAY].channels()[0].state, "missing");
    let debt = account(&world).debt;
    assert!(
        debt > Msat::new(990_000) && debt <= Msat::new(1_000_000),
        "{debt:?}"
    );
    assert!(exposed(&world) >= debt);
    // The stranded rest of the first purchase counted towards the second.
    let paid = first.total.value() + world.nodes[RELAY].channels()[1].total.value();
    assert!((1_099_900..=1_100_000).contains(&paid), "{paid}");

    // The client was told, and what it pays now pays the debt first: not a byte passes for it.
    let told = world.events[CLIENT].iter().any(
        |e| matches!(e, Event::PeerProblem { code: ErrorCode::Debt, detail, .. } if *detail == debt.value()),
    );
    assert!(told);
    let before = world.passed();
    world.buy(1);
    world.traffic(3, 2 * MIB);
    assert_eq!(world.passed(), before, "nothing passes while there is debt");
    // A restart forgets none of it, and neither does the end.
    let debt = account(&world).debt;
    world.restart(RELAY, false);
    assert_eq!(account(&world).debt, debt);
    let paid = first.total.value() + world.nodes[RELAY].channels()[1].total.value();
    let blocks = first.expiry.value() - world.height;
    world.mine(blocks);
    assert_eq!((lost(&world).len(), account(&world).debt), (1, debt));
    let sold = world.nodes[RELAY].sold()[0];
    assert_eq!((sold.paid, sold.lost), (Msat::new(paid), Msat::new(1_000_000)));
    world.restart(RELAY, false);
    assert_eq!(account(&world).debt, debt);
    assert_eq!(world.nodes[RELAY].sold()[0].paid, Msat::new(paid));
}

#[test]
fn a_relay_cut_at_any_write_of_a_loss_finds_the_debt_at_its_next_start() {
    let missing_at = 1_000 + crate::base::limits::ACCEPT_BLOCKS + crate::base::limits::DEEP;
    // When it is missed, and when it is given up.
    cut_everywhere_before(missing_at, true);
    cut_everywhere_before(2_008, false);
}

fn cut_everywhere_before(end: u32, first: bool) {
    let mut debts = Vec::new();
    for at in 0..100 {
        let mut world = moved_on(10);
        forget_first_funding(&mut world);
        let blocks = end - 1 - world.height;
        world.mine(blocks);
        assert_eq!(account(&world).debt == Msat::ZERO, first);
        world.cut = Some((RELAY, world.disks[RELAY].writes + at));
        world.mine(1);
        let cut = world.was_cut.is_some();
        // The kernel's table lives, so that no use is forgotten.
        world.restart(RELAY, true);
        world.mine(1);
        debts.push(account(&world).debt);
        if !cut {
            break;
        }
    }
    assert!(debts.len() > 2, "{} crash points", debts.len());
    let whole = debts[debts.len() - 1];
    assert!(whole > Msat::new(990_000));
    // A restart ends a stretch, whose cost is rounded.
    let near = |debt: &Msat| debt.value().abs_diff(whole.value()) <= 1;
    assert!(debts.iter().all(near), "{debts:?}");
}

/// The relay sleeps past the expiry; the client takes everything back.
fn slept_past_the_expiry(mib: u64) -> World {
    let mut world = World::ready();
    world.buy(mib);
    world.traffic(2 + mib, 2 * MIB);
    let expiry = world.nodes[CLIENT].channels()[0].expiry.value();
    let blocks = expiry + 1 - world.height;
    world.mine_before(blocks, &[CLIENT]);
    assert_eq!(world.nodes[CLIENT].channels()[0].state, "settled");
    let (refund, height) = world.confirmed.last().cloned().unwrap();
    world.sightings(&refund, Some(BlockHeight::new(height)), &[RELAY]);
    world.drain();
    world.tip(RELAY);
    world
}

#[test]
fn money_that_its_payer_took_back_at_the_expiry_is_owed_from_that_block_on() {
    let mut world = slept_past_the_expiry(10);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "refunded");
    let debt = account(&world).debt;
    assert!(
        debt > Msat::new(990_000) && debt <= Msat::new(1_000_000),
        "{debt:?}"
    );
    world.restart(RELAY, false);
    assert_eq!(account(&world).debt, debt);
    world.mine(6);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "over");
    assert_eq!(lost(&world).len(), 1);
    assert_eq!(account(&world).debt, debt);
    world.restart(RELAY, false);
    assert_eq!(account(&world).debt, debt);
    assert_eq!(world.nodes[RELAY].sold()[0].lost, Msat::new(1_000_000));
}

#[test]
fn a_refund_that_a_reorganisation_takes_away_is_no_debt_and_the_channel_is_settled() {
    let mut world = slept_past_the_expiry(10);
    assert!(account(&world).debt > Msat::ZERO);
    let (refund, height) = world.confirmed.pop().unwrap();
    world.mempool.retain(|tx| tx.input.is_empty());
    let last = BlockHeight::new(height - 1);
    world.give(RELAY, Input::Chain(ChainEvent::Reorg { height: last }));
    world.tip(RELAY);
    assert_eq!(account(&world).debt, Msat::ZERO);
    let settles = |tx: &&Transaction| tx.input[0].witness.len() == 4 && txid(tx) != txid(&refund);
    assert!(world.mempool.iter().any(|tx| settles(&tx)));
}

#[test]
fn what_is_not_worth_a_settlement_is_given_up_and_not_owed() {
    // 100 sat; settling costs 205.
    let mut world = slept_past_the_expiry(1);
    world.mine(6);
    assert_eq!(world.nodes[RELAY].channels()[0].state, "over");
    assert_eq!(account(&world).debt, Msat::ZERO);
    assert_eq!(lost(&world).len(), 1, "the owner is told all the same");
    let sold = world.nodes[RELAY].sold()[0];
    assert_eq!((sold.paid, sold.lost), (Msat::new(100_000), Msat::new(100_000)));
}

#[test]
fn a_funding_that_confirms_after_it_was_given_up_brings_its_relay_what_was_paid_over_it() {
    // Soon, and so late that it gives no credit any more.
    for late in [1_160, 1_880] {
        settled_though_it_came(late);
    }
}

fn settled_though_it_came(late: u32) {
    let mut world = World::new();
    let mut config = relay_config();
    config.policy.unconfirmed = Msat::new(1_000_000);
    world.give(RELAY, Input::Command(Command::Sell(config)));
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    let open = Command::Open {
        connection: LINK,
        capacity: Sat::new(50_000),
        lifetime: None,
    };
    world.command(open).unwrap();
    let funding = world.mempool[0].clone();
    world.buy(10);
    world.traffic(12, 2 * MIB);
    let paid = world.total(RELAY);
    assert_eq!(paid, 1_000_000);
    while world.height < late {
        world.mempool.clear();
        world.mine(1);
    }
    assert!(account(&world).debt > Msat::new(990_000), "{:?}", account(&world));
    world.restart(RELAY, true);
    assert!(
        account(&world).debt > Msat::new(990_000),
        "after a restart, too: {:?}",
        account(&world)
    );
    world.mempool = [funding].into();
    world.mine(1);
    assert_eq!(account(&world).debt, Msat::ZERO);
    world.mine(12);
    let settled = |(tx, _): &&(Transaction, u32)| tx.output.iter().any(|o| o.script_pubkey == payout(2));
    let (settlement, _) = world.confirmed.iter().find(settled).expect("it is settled");
    let brought: u64 = settlement.output.iter().map(|o| o.value.to_sat()).sum();
    assert_eq!(brought, 50_000 - 205, "the relay's share and the client's rest");
    assert_eq!((lost(&world).len(), world.total(RELAY)), (0, paid));
    assert_eq!(world.nodes[RELAY].channels()[0].outcome, Some("settled"));
}
