//! A list of operations over two whole nodes, a client and a relay, in simulated time: their messages, disks, kernel,
//! meter and chain are all here, and each can fail.
//!
//! Promises, whatever is lost, repeated, reordered, changed, cut or reorganised:
//! - no panic, no store that its own node cannot load, no endless talk;
//! - the relay's gate is never open for more bytes than were paid on its disk, given away, or forgotten by a power cut, and
//!   that is at most one window a cut; also when the client lies;
//! - the client never signs for more than its owner allowed in all orders together, and each channel's payer is at most
//!   one window ahead of its payee, unless the relay lies; the payee never holds what was not signed;
//! - what is sent rests on what is on disk: payments, acknowledgements, grants;
//! - honest nodes never hang up on each other for what they sent, and no honest relay is accused of claiming or granting
//!   wrongly (but of prices that changed while the client could not hear of it).

mod act;
mod chain;
mod check;
mod disk;
mod step;
mod world;

use crate::tape::Tape;
use world::World;

/// What happens in an operation: its first byte, counted round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// A new session; an earlier one dies, and the relay may learn that late.
    Link,
    Unlink,
    /// From now on frames wait for `Deliver`, or no longer.
    Hold,
    Deliver,
    Lose,
    Repeat,
    Swap,
    Change,
    AskOffer,
    Open,
    Buy,
    StopBuying,
    Close,
    Traffic,
    Wait,
    Mine,
    Reorganise,
    DoubleSpend,
    Dark,
    Rate,
    /// The power goes before the n-th action from now.
    Cut,
    Kill,
    /// A clock goes back to its start.
    ClockBack,
    Sell,
    Stand,
    Faults,
    Drift,
    Fold,
}

const OPS: [Op; 28] = [
    Op::Link,
    Op::Unlink,
    Op::Hold,
    Op::Deliver,
    Op::Lose,
    Op::Repeat,
    Op::Swap,
    Op::Change,
    Op::AskOffer,
    Op::Open,
    Op::Buy,
    Op::StopBuying,
    Op::Close,
    Op::Traffic,
    Op::Wait,
    Op::Mine,
    Op::Reorganise,
    Op::DoubleSpend,
    Op::Dark,
    Op::Rate,
    Op::Cut,
    Op::Kill,
    Op::ClockBack,
    Op::Sell,
    Op::Stand,
    Op::Faults,
    Op::Drift,
    Op::Fold,
];

/// Operations of one input that are done.
const MOST: usize = 120;

/// A sale from hello to settlement, and the same with one fault each.
pub fn seeds() -> Vec<Vec<u8>> {
    use Op::*;
    let begin: &[(Op, &[u8])] = &[(Link, &[]), (AskOffer, &[]), (Open, &[4, 3]), (Mine, &[7, 1])];
    let buy: &[(Op, &[u8])] = &[
        (Buy, &[64, 200]),
        (Traffic, &[200, 100]),
        (Traffic, &[60, 100]),
        (Wait, &[4]),
    ];
    let close: &[(Op, &[u8])] = &[(Close, &[0, 0]), (Mine, &[7, 1])];
    let again: &[(Op, &[u8])] = &[(Link, &[]), (AskOffer, &[])];
    let faults: [&[(Op, &[u8])]; 12] = [
        &[],
        &[(Kill, &[0])],
        &[(Kill, &[1])],
        &[(Kill, &[3])],
        &[(Cut, &[1, 3]), (Buy, &[64, 200]), (Traffic, &[200, 100])],
        &[(Cut, &[0, 3]), (Buy, &[64, 200]), (Traffic, &[200, 100])],
        &[
            (Hold, &[]),
            (Buy, &[64, 200]),
            (Lose, &[0]),
            (Deliver, &[4]),
            (Hold, &[]),
        ],
        &[(Reorganise, &[4, 1])],
        &[(Sell, &[1]), (Buy, &[32, 200]), (Traffic, &[200, 100])],
        &[
            (Faults, &[4]),
            (StopBuying, &[]),
            (Wait, &[20]),
            (Faults, &[0]),
            (Wait, &[200]),
        ],
        &[(Dark, &[1]), (Buy, &[32, 200]), (Traffic, &[100, 100])],
        &[(Close, &[0, 0]), (Open, &[4, 3]), (Mine, &[7, 1])],
    ];
    let seeds: Vec<Vec<u8>> = faults
        .iter()
        .map(|fault| {
            let mut seed = Vec::new();
            for (op, operands) in [begin, buy, fault, again, buy, close].concat() {
                seed.push(
                    OPS.iter()
                        .position(|o| *o == op)
                        .expect("every operation is listed") as u8,
                );
                seed.extend_from_slice(operands);
            }
            seed
        })
        .collect();
    // Seeds that sell nothing would guide nobody.
    for (number, seed) in seeds.iter().enumerate() {
        let world = play(seed);
        assert!(world.sold(), "seed {number} is no whole sale");
    }
    seeds
}

/// One input.
pub fn run(input: &[u8]) {
    play(input).finish();
}

fn play(input: &[u8]) -> World {
    let mut tape = Tape::new(input);
    let mut world = World::new();
    for _ in 0..MOST {
        if tape.ended() {
            break;
        }
        let op = OPS[usize::from(tape.byte()) % OPS.len()];
        world.step(op, &mut tape);
        world.check();
    }
    world
}
