//! A gate that fails to close an attachment.

use super::*;

fn account(world: &World) -> AccountView {
    world.nodes[RELAY].accounts(world.now)[0].clone()
}

/// Bought 8 MiB and used some; then the client stops, and the gate cannot close its attachment.
fn stuck() -> World {
    let mut world = World::ready();
    world.buy(8);
    world.traffic(2, MIB);
    world.gate_stuck = true;
    world.command(Command::StopBuying { connection: LINK }).unwrap();
    assert_eq!(world.tries, 1);
    world
}

fn billed(world: &World) -> u64 {
    let sold = world.nodes[RELAY].sold()[0];
    sold.up.value() + sold.down.value()
}

#[test]
fn an_attachment_that_cannot_be_closed_is_tried_again_and_what_it_passed_is_billed() {
    let mut world = stuck();
    let client = world.nodes[CLIENT].id();
    assert_eq!(world.nodes[RELAY].uncounted(), [client]);
    // Packets pass still, as far as was granted: the kernel counts them.
    world.traffic(2, MIB);
    let passed = world.passed();
    assert!(billed(&world) < passed);
    world.gate_stuck = false;
    world.traffic(10, 0);
    assert_eq!(world.nodes[RELAY].uncounted(), []);
    assert_eq!(billed(&world), world.passed());
    assert!(world.passed() >= passed);
    assert_eq!(account(&world).gate, None);
    // It is served again.
    world.buy(1);
    world.traffic(3, 2 * MIB);
    assert!(world.passed() > passed);
}

#[test]
fn the_tries_grow_rarer_up_to_one_a_minute_and_never_end() {
    let mut world = stuck();
    let at = |world: &mut World, seconds: u64| {
        let before = world.tries;
        world.traffic(seconds, 0);
        world.tries - before
    };
    let first = at(&mut world, 60);
    assert!((5..=7).contains(&first), "{first}");
    at(&mut world, 120);
    let later = at(&mut world, 600);
    assert!((9..=11).contains(&later), "{later}");
}

#[test]
fn who_is_not_counted_yet_is_not_served_anew() {
    let mut world = stuck();
    let paid = world.total(RELAY);
    world.buy(1);
    world.traffic(3, 2 * MIB);
    let number = account(&world).gate;
    assert!(number.is_some());
    assert_eq!(world.gate.len(), 1, "the old attachment is the only one");
    let refused = |e: &Event| {
        matches!(
            e,
            Event::PeerProblem {
                code: ErrorCode::GateDown,
                ..
            }
        )
    };
    assert!(world.events[CLIENT].iter().any(refused));
    assert_eq!(world.total(RELAY), paid, "and no money is taken");
}

#[test]
fn a_survivor_that_cannot_be_closed_after_a_crash_is_billed_when_it_can() {
    let mut world = World::ready();
    world.buy(8);
    world.traffic(2, MIB);
    world.gate_stuck = true;
    let survivors = world.gate.clone();
    world.restart(RELAY, true);
    world.gate = survivors;
    assert_eq!(world.nodes[RELAY].uncounted().len(), 1);
    world.traffic(2, MIB);
    assert!(billed(&world) < world.passed());
    world.gate_stuck = false;
    world.traffic(10, 0);
    assert_eq!(billed(&world), world.passed());
}
