//! Channels that are over: what is left of them.

use super::record::{put, receipts_of, slot_key};
use super::*;
use crate::base::limits::MAX_HISTORY;
use crate::node::history::{HistoryRecord, Outcome};

fn rows(world: &World, who: usize, table: Table) -> usize {
    world.disks[who].rows.keys().filter(|(t, _)| *t == table).count()
}

/// A sale of 20 MiB, and its channel about to be settled: nothing of that is in a block yet.
fn closing() -> World {
    let mut world = World::ready();
    world.buy(20);
    world.traffic(15, 2 * MIB);
    let slot = world.nodes[CLIENT].channels()[0].slot;
    world.command(Command::Close { slot }).unwrap();
    world
}

#[test]
fn a_settled_channel_leaves_one_short_row_that_says_what_happened() {
    let mut world = closing();
    let before = world.nodes[RELAY].sold()[0];
    world.mine(7);
    for restarted in [false, true] {
        if restarted {
            world.restart(CLIENT, false);
            world.restart(RELAY, false);
        }
        for (who, table) in [(CLIENT, Table::Payer), (RELAY, Table::Payee)] {
            assert_eq!(rows(&world, who, table), 0, "node {who}");
            assert_eq!(rows(&world, who, Table::History), 1, "node {who}");
            let [channel] = &world.nodes[who].channels()[..] else {
                panic!("node {who} still lists it");
            };
            assert_eq!((channel.state, channel.outcome), ("over", Some("settled")));
            assert_eq!(channel.total, Msat::new(2_000_000));
            assert!(channel.spent_by.is_some() && channel.ended_at.is_some());
        }
        assert!(world.watched.iter().all(Map::is_empty));
        // What it paid stays paid.
        assert_eq!(world.nodes[RELAY].sold()[0], before);
        assert_eq!(world.nodes[RELAY].accounts(world.now)[0].debt, Msat::ZERO);
    }
    // And the next channel begins with what was left, and no debt.
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    world
        .command(Command::Open {
            connection: LINK,
            capacity: Sat::new(50_000),
            lifetime: None,
        })
        .unwrap();
    world.mine(7);
    let passed = world.passed();
    world.buy(2);
    world.traffic(3, 2 * MIB);
    assert!(world.passed() - passed > 2 * MIB - 1_500);
    assert_eq!(world.nodes[RELAY].accounts(world.now)[0].debt, Msat::ZERO);
}

#[test]
fn the_payers_row_stays_until_its_remainder_is_home() {
    let mut world = closing();
    world.mine(1);
    // Fees are high: no block takes the sweep, and the mempools forget it.
    for _ in 0..50 {
        world.mempool.clear();
        world.mine_before(1, &[RELAY]);
        world.tip(CLIENT);
    }
    assert_eq!(world.nodes[CLIENT].channels()[0].state, "settled");
    assert_eq!(rows(&world, CLIENT, Table::Payer), 1);
    world.restart(CLIENT, false);
    world.mine(1);
    let home = |tx: &Transaction| tx.output.iter().any(|o| o.script_pubkey == payout(1));
    let sweep = world
        .confirmed
        .iter()
        .find(|(tx, _)| home(tx))
        .expect("it is swept at last");
    assert_eq!(sweep.0.input.len(), 1);
    world.mine(4);
    assert_eq!(world.nodes[CLIENT].channels()[0].state, "settled");
    world.mine(2);
    assert_eq!(world.nodes[CLIENT].channels()[0].state, "over");
}

#[test]
fn the_newest_that_are_over_are_listed_and_the_oldest_go_with_their_receipts() {
    let mut world = closing();
    let (relay, client) = (world.nodes[RELAY].id(), world.nodes[CLIENT].id());
    let old = |n: u32| HistoryRecord {
        payee: true,
        peer: client,
        capacity: Sat::new(50_000),
        total: Msat::new(1),
        expiry: BlockHeight::new(900),
        outpoint: Some(Outpoint {
            txid: Txid::from_bytes([7; 32]),
            vout: n,
        }),
        funded_at: None,
        funding_fee: Sat::ZERO,
        spent_by: None,
        ended_at: BlockHeight::new(900),
        outcome: Outcome::Settled,
    };
    for n in 0..MAX_HISTORY as u32 {
        world.disks[RELAY].write(put(Table::History, &slot_key(Slot(n)), &old(n)));
        world.nodes[RELAY].history.insert(Slot(n), old(n));
    }
    let id = old(0).channel().unwrap();
    let mut key = receipts_of(&relay, &client, &id);
    key.extend_from_slice(&1_u32.to_be_bytes());
    world.disks[RELAY]
        .rows
        .insert((Table::Receipt, key.clone()), std::vec![1]);
    let others = rows(&world, RELAY, Table::Receipt);
    // One more is over.
    let record = old(9_999);
    world.nodes[RELAY].retire(Table::Payee, Slot(9_999), record);
    world.drain();
    assert_eq!(world.nodes[RELAY].history.len(), MAX_HISTORY);
    assert!(!world.nodes[RELAY].history.contains_key(&Slot(0)));
    assert!(!world.disks[RELAY].rows.contains_key(&(Table::Receipt, key)));
    assert_eq!(rows(&world, RELAY, Table::Receipt), others - 1);
}

#[test]
fn a_cut_at_any_write_of_an_ending_loses_no_money_and_leaves_no_row() {
    for who in [CLIENT, RELAY] {
        let mut cuts = 0;
        for at in 0..100 {
            let mut world = closing();
            let before = world.nodes[RELAY].sold()[0];
            world.cut = Some((who, world.disks[who].writes + at));
            world.mine(8);
            let cut = world.was_cut.is_some();
            world.restart(who, false);
            world.mine(15);
            let what = std::format!("node {who}, write {at}");
            assert_eq!(world.nodes[RELAY].sold()[0], before, "{what}");
            assert_eq!(
                world.nodes[RELAY].accounts(world.now)[0].debt,
                Msat::ZERO,
                "{what}"
            );
            for (who, table) in [(CLIENT, Table::Payer), (RELAY, Table::Payee)] {
                assert_eq!(rows(&world, who, table), 0, "{what}");
                // The shell writes both rows at once; this world cuts in between, and then no more is known.
                let outcome = world.nodes[who].channels()[0].outcome.unwrap();
                assert!(["settled", "unknown"].contains(&outcome), "{what}: {outcome}");
            }
            if !cut {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 3, "node {who}: {cuts} crash points");
    }
}
