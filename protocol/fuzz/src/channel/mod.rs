//! A list of operations over one payer and one payee of a simplex, with disks that can be cut at every action, messages
//! that are lost, repeated, reordered and changed, and a chain that reorganises and confirms what it likes.
//!
//! Promises:
//! - no panic; a total, and the state that forbids more of them, is on disk before what follows from it leaves;
//! - whatever a settlement takes, the payer signed: the remainder is never less than the capacity less the highest total
//!   whose signature left the payer, and what goes in comes out;
//! - the payee holds what the payer signed, to the satoshi, and never counts on more; what it had on disk stays, but for
//!   what a double-spent funding or a refund takes, and that is at most what was allowed;
//! - the payer's own refund leaves it at the expiry and not before, and an old backup costs it nothing;
//! - once the chain runs again without a fault, the payee gets exactly its newest total, if it is worth a settlement, the
//!   payer the rest, and both are through.

mod act;
mod chain;
mod finish;
mod step;
mod world;

use crate::tape::Tape;
use world::World;

/// What happens in an operation; the low five bits of its first byte, counted round.
#[derive(Clone, Copy, Debug)]
enum Op {
    Pay,
    Deliver,
    Repeat,
    Drop,
    Change,
    Resume,
    Proof,
    Acknowledge,
    CutPayer,
    CutPayee,
    RestartPayer,
    RestartPayee,
    Backup,
    OldPayer,
    OldPayee,
    ClosePayer,
    ClosePayee,
    Mine,
    MineMany,
    Reorganise,
    DoubleSpend,
    Dark,
    Rate,
    Raise,
    Declare,
}

const OPS: [Op; 25] = [
    Op::Pay,
    Op::Deliver,
    Op::Repeat,
    Op::Drop,
    Op::Change,
    Op::Resume,
    Op::Proof,
    Op::Acknowledge,
    Op::CutPayer,
    Op::CutPayee,
    Op::RestartPayer,
    Op::RestartPayee,
    Op::Backup,
    Op::OldPayer,
    Op::OldPayee,
    Op::ClosePayer,
    Op::ClosePayee,
    Op::Mine,
    Op::MineMany,
    Op::Reorganise,
    Op::DoubleSpend,
    Op::Dark,
    Op::Rate,
    Op::Raise,
    Op::Declare,
];

/// Operations of one input that are done.
const MOST: usize = 200;

/// A sale without a fault; one with cuts; one with a reorganisation; one that ends in a refund.
pub fn seeds() -> Vec<Vec<u8>> {
    let op = |wanted: Op| {
        OPS.iter()
            .position(|o| *o as u8 == wanted as u8)
            .expect("every operation is listed") as u8
    };
    let open = || [op(Op::Declare), op(Op::Mine), 1, 3, op(Op::Mine), 6, 0].to_vec();
    let pay = || {
        [
            op(Op::Pay),
            0x40,
            0x1f,
            op(Op::Deliver),
            0,
            op(Op::Acknowledge),
            0,
        ]
        .to_vec()
    };
    let close = || [op(Op::ClosePayer), op(Op::Deliver), 0, op(Op::Mine), 7, 3].to_vec();
    vec![
        [open(), pay(), pay(), pay(), close()].concat(),
        [
            open(),
            pay(),
            vec![op(Op::CutPayer), 1],
            pay(),
            vec![op(Op::CutPayee), 1],
            pay(),
            vec![op(Op::Resume), 0],
            close(),
        ]
        .concat(),
        [
            open(),
            pay(),
            vec![op(Op::Backup)],
            pay(),
            vec![op(Op::OldPayer), op(Op::Proof), 0],
            pay(),
            close(),
        ]
        .concat(),
        [
            open(),
            pay(),
            vec![op(Op::Backup)],
            pay(),
            vec![op(Op::OldPayee), op(Op::Resume), 0],
            close(),
        ]
        .concat(),
        [
            open(),
            pay(),
            vec![op(Op::Reorganise), 3, 3],
            pay(),
            close(),
            vec![op(Op::Reorganise), 5, 3],
        ]
        .concat(),
        [open(), pay(), vec![op(Op::Dark), 1, op(Op::MineMany), 240, 0]].concat(),
        [
            vec![op(Op::Declare), op(Op::Mine), 1, 0],
            pay(),
            vec![op(Op::DoubleSpend), 1, op(Op::MineMany), 60, 0],
        ]
        .concat(),
    ]
}

/// One input.
pub fn run(input: &[u8]) {
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
    world.finish();
}
