//! Receipts: what they cost the disk of either side.

use super::record::{ReceiptRecord, read};
use super::*;
use crate::base::limits::MAX_RECEIPTS_PER_CHANNEL;
use crate::market::receipt_digest;
use crate::wire::{self, Ext, Receipt, ReceiptOffer, ReceiptRequest};

fn receipts(world: &World, who: usize) -> Vec<(Receipt, ReceiptRecord)> {
    let rows = world.disks[who]
        .rows
        .iter()
        .filter(|((t, _), _)| *t == Table::Receipt);
    rows.map(|(_, value)| {
        let record: ReceiptRecord = read(Table::Receipt, value).unwrap();
        (wire::decode(&record.receipt).unwrap(), record)
    })
    .collect()
}

fn ask(world: &mut World) {
    world.forge(
        RELAY,
        ReceiptRequest {
            account: AccountId(0),
        },
    );
}

#[test]
fn a_client_that_asks_for_receipts_without_use_makes_the_relay_write_nothing() {
    let mut world = World::ready();
    world.buy(2);
    world.traffic(2, 2 * MIB);
    ask(&mut world);
    let (before, written) = (receipts(&world, RELAY).len(), world.disks[RELAY].writes);
    assert_eq!(before, 1);
    for _ in 0..1_000 {
        ask(&mut world);
    }
    assert_eq!(receipts(&world, RELAY).len(), before);
    assert_eq!(world.disks[RELAY].writes, written);
}

#[test]
fn of_one_channel_the_newest_receipts_are_kept_and_no_more() {
    let mut world = World::ready();
    world.buy(20);
    for _ in 0..60 {
        world.traffic(1, 1_500);
        ask(&mut world);
    }
    for who in [CLIENT, RELAY] {
        let kept = receipts(&world, who);
        assert_eq!(kept.len(), MAX_RECEIPTS_PER_CHANNEL as usize, "node {who}");
        let newest = kept.iter().map(|(r, _)| r.sequence).max().unwrap();
        assert!(newest >= 60, "node {who}: {newest}");
        let oldest = kept.iter().map(|(r, _)| r.sequence).min().unwrap();
        assert_eq!(newest - oldest + 1, MAX_RECEIPTS_PER_CHANNEL);
        assert!(kept.iter().all(|(_, kept)| kept.client.is_some()));
    }
}

#[test]
fn a_receipt_whose_answer_was_lost_is_offered_again_to_the_byte_after_a_restart() {
    let mut world = World::ready();
    world.buy(2);
    world.traffic(2, MIB / 2);
    // The relay loses its power before it can write that the client has signed.
    world.cut = Some((RELAY, world.disks[RELAY].writes + 2));
    ask(&mut world);
    assert_eq!(world.was_cut, Some(RELAY));
    let open = receipts(&world, RELAY);
    assert_eq!(open.len(), 1);
    assert!(open[0].1.client.is_none());
    let bytes = open[0].1.receipt.clone();
    world.restart(RELAY, true);
    world.link();
    world.traffic(4, MIB / 2);
    ask(&mut world);
    ask(&mut world);
    for who in [CLIENT, RELAY] {
        let kept = receipts(&world, who);
        let first = kept.iter().find(|(r, _)| r.sequence == 1).unwrap();
        assert_eq!(first.1.receipt, bytes, "node {who}");
        assert!(first.1.client.is_some(), "node {who}");
        assert!(kept.iter().any(|(r, _)| r.sequence == 2), "node {who} goes on");
    }
}

#[test]
fn a_relay_that_sends_receipts_that_are_refused_fills_no_disk() {
    let mut world = World::ready();
    world.buy(4);
    world.traffic(2, 2 * MIB);
    ask(&mut world);
    let honest = receipts(&world, CLIENT);
    let last = honest.last().unwrap().0;
    let (relay, client) = (world.nodes[RELAY].id(), world.nodes[CLIENT].id());
    for n in 1..200_u32 {
        let mut receipt = Receipt {
            sequence: last.sequence + 1,
            down: ByteCount::new(last.down.value() + 1_000 * MIB + u64::from(n)),
            ..last
        };
        match n % 4 {
            1 => receipt.sequence = 1_000 + n,
            2 => receipt.channel = crate::base::ChannelId::from_bytes([n as u8; 32]),
            3 => receipt.cost = Msat::new(u64::from(n) << 40),
            _ => {}
        }
        let bytes = wire::encode(&receipt);
        let digest = receipt_digest(genesis(), relay, client, receipt.channel, &bytes);
        let signature = Signature(world.nodes[RELAY].keys.sign(&digest).serialize());
        let offer = ReceiptOffer {
            account: AccountId(0),
            receipt: heapless::Vec::from_slice(&bytes).unwrap(),
            signature,
            ext: Ext::default(),
        };
        world.forge(CLIENT, offer);
    }
    let kept = receipts(&world, CLIENT);
    assert!(kept.len() <= honest.len() + 2, "{}", kept.len());
    let claims = kept.iter().filter(|(_, kept)| kept.client.is_none());
    let worst = claims
        .map(|(r, _)| r.down)
        .max()
        .expect("a claim is kept as proof");
    assert!(worst.value() > 1_000 * MIB);
}

#[test]
fn a_receipt_made_while_the_client_was_away_is_signed_when_it_is_back_though_it_pays_on() {
    let mut world = World::ready();
    world.buy(2);
    world.traffic(2, 2 * MIB);
    // The client falls silent: its binding is closed, and a receipt made that nobody hears of.
    world.unlink_quietly(RELAY);
    world.give(RELAY, Input::Disconnected { connection: LINK });
    world.traffic(60, 0);
    let made = receipts(&world, RELAY);
    assert_eq!(made.len(), 1);
    assert!(made[0].1.client.is_none());
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    world.buy(8);
    world.traffic(8, 2 * MIB);
    ask(&mut world);
    let signed = receipts(&world, RELAY);
    assert_eq!(signed.len(), 2, "the next one is made too");
    assert!(signed.iter().all(|(_, kept)| kept.client.is_some()), "{signed:?}");
}
