//! Fees above what a settlement brings: what the owner is told, and when.

use super::*;
use crate::base::FeeRate;
use crate::base::limits::MARGIN;

/// Who was given up at the tip that comes now; blocks confirm nothing.
fn given_up_at(world: &mut World, height: BlockHeight, rate: u64) -> Vec<(Sat, bool)> {
    world.events[RELAY].clear();
    world.give(
        RELAY,
        Input::Chain(ChainEvent::FeeRate {
            rate: FeeRate::new(rate),
        }),
    );
    world.give(RELAY, Input::Chain(ChainEvent::Tip { height }));
    let left_out = |e: &Event| match e {
        Event::LeftOut { paid, last_call, .. } => Some((*paid, *last_call)),
        _ => None,
    };
    world.events[RELAY].iter().filter_map(left_out).collect()
}

fn newest_fee(world: &World) -> Sat {
    let fee = |e: &Event| match e {
        Event::Settling { fee, .. } => Some(*fee),
        _ => None,
    };
    world.events[RELAY].iter().rev().find_map(fee).unwrap()
}

#[test]
fn rule_8_from_one_margin_before_expiry_the_owner_hears_of_a_settlement_that_fees_have_outbid() {
    let mut world = World::ready();
    world.buy(20);
    world.traffic(22, 2 * MIB);
    let channel = world.nodes[RELAY].channels()[0].clone();
    assert_eq!(channel.total, Msat::new(2_000_000));
    let [begins, pressing, last] = [3, 2, 1].map(|m| channel.expiry.minus(m * MARGIN));

    // 2,000 sat in 205 vB: everything but 330 sat is 8.1 sat/vB.
    assert_eq!(given_up_at(&mut world, begins, 1_000), []);
    assert_eq!(newest_fee(&world), Sat::new(205));
    assert_eq!(given_up_at(&mut world, pressing, 50_000), [], "there is time yet");
    assert_eq!(newest_fee(&world), Sat::new(1_670), "it bids all that it brings");
    assert_eq!(given_up_at(&mut world, last.minus(1), 50_000), []);
    let lost = [(Sat::new(2_000), true)];
    assert_eq!(given_up_at(&mut world, last, 50_000), lost);
    assert_eq!(newest_fee(&world), Sat::new(1_670), "and stays broadcast");
    assert_eq!(
        given_up_at(&mut world, last.plus(1), 50_000),
        lost,
        "at every block"
    );
    assert_eq!(given_up_at(&mut world, last.plus(2), 8_000), [], "fees fell");
}
