//! One operation.

use super::Op;
use super::world::{CAPACITY, PAYEE, PAYER, Sent, World, payout};
use crate::tape::Tape;
use bitcoin::consensus::encode::serialize;
use turnpike_protocol::base::{BlockHeight, FeeRate, Msat};
use turnpike_protocol::money::channel::tx::txid;
use turnpike_protocol::money::channel::{Payee, PayeeInput, PayeeState, PayerInput, PayerState, TakenBack};
use turnpike_protocol::wire::{self, Signature};

/// Blocks that one tip may tell of.
const STRIDE: u32 = 24;

impl World {
    pub fn step(&mut self, op: Op, tape: &mut Tape<'_>) {
        match op {
            Op::Pay => {
                let step = Msat::new(u64::from(tape.short()) * 1_237);
                let ceiling = Msat::MAX;
                let _ = self.payer(PayerInput::Pay { step, ceiling });
            }
            Op::Deliver => {
                let at = tape.below(self.flight.len());
                if let Some(sent) = self.flight.remove(at) {
                    self.deliver(sent);
                }
            }
            Op::Repeat => {
                let at = tape.below(self.flight.len());
                if let Some(sent) = self.flight.get(at).copied() {
                    self.deliver(sent);
                }
            }
            Op::Drop => drop(self.flight.pop_front()),
            Op::Change => self.change(tape),
            Op::Resume => {
                let room = room(tape);
                if matches!(
                    self.payer.record().state,
                    PayerState::Open | PayerState::CloseAsked
                ) {
                    let total = self.payer.record().total;
                    let signature = match total {
                        Msat::ZERO => Signature([0; 64]),
                        total => self.sign(total),
                    };
                    let _ = self.payee(PayeeInput::Resume {
                        total,
                        signature,
                        room,
                    });
                }
            }
            Op::Proof => {
                let raise = Msat::new(u64::from(tape.byte()) * 97);
                let record = self.payee.record();
                let (total, signature) = (record.total.saturating_add(raise), record.signature);
                let _ = self.payer(PayerInput::Proof { total, signature });
            }
            Op::Acknowledge => {
                let raise = Msat::new(u64::from(tape.byte()) * 1_000);
                let total = self.payee.record().total.saturating_add(raise);
                let _ = self.payer(PayerInput::Acknowledged { total });
            }
            Op::CutPayer => self.cut[PAYER] = Some(tape.byte() % 4),
            Op::CutPayee => self.cut[PAYEE] = Some(tape.byte() % 4),
            Op::RestartPayer => self.restart_payer(),
            Op::RestartPayee => self.restart_payee(),
            Op::Backup => self.backup = Some((self.payer_disk.clone(), self.payee_disk.clone())),
            Op::OldPayer => {
                if let Some((disk, _)) = self.backup.clone() {
                    self.payer_disk = disk;
                    self.restart_payer();
                }
            }
            Op::OldPayee => self.old_payee(),
            Op::ClosePayer => drop(self.payer(PayerInput::Close)),
            Op::ClosePayee => drop(self.payee(PayeeInput::Close)),
            Op::Mine => {
                let (blocks, how) = (u32::from(tape.byte()) % 16, tape.byte());
                self.mine(blocks, how);
            }
            Op::MineMany => {
                let (blocks, how) = (u32::from(tape.byte()) * 4, tape.byte());
                self.mine(blocks, how);
            }
            Op::Reorganise => {
                let (depth, how) = (u32::from(tape.byte()) % 6, tape.byte());
                self.reorganise(depth, how);
            }
            Op::DoubleSpend => self.double_spend(tape.byte()),
            Op::Dark => {
                self.chain.dark = tape.byte() & 1 == 1;
                if self.chain.dark {
                    let _ = self.payee(PayeeInput::Dark);
                } else {
                    self.show(PAYEE);
                }
            }
            Op::Rate => self.rate = FeeRate::new([1_000, 3_000, 20_000, 100_000, 1_000_000][tape.below(5)]),
            Op::Raise => {
                let rate = FeeRate::new(u64::from(tape.byte()) * 1_000);
                self.settler
                    .raise(crate::parties::of(PAYEE), super::world::SLOT, rate)
                    .expect("a settlement that was signed can be signed again");
                self.drain_settler();
            }
            Op::Declare => {
                let _ = self.payee(PayeeInput::Declared {
                    outpoint: self.chain.outpoint,
                });
            }
        }
    }

    fn deliver(&mut self, sent: Sent) {
        match sent {
            Sent::Payment { total, signature } => {
                let _ = self.payee(PayeeInput::Payment {
                    total,
                    signature,
                    room: Msat::MAX,
                });
            }
            Sent::Close => drop(self.payee(PayeeInput::Close)),
        }
    }

    /// A payment that somebody changed on the way, or that the payer lies in.
    fn change(&mut self, tape: &mut Tape<'_>) {
        let (at, how, by) = (tape.below(self.flight.len()), tape.byte(), tape.byte());
        let Some(Sent::Payment { total, mut signature }) = self.flight.get(at).copied() else {
            return;
        };
        let by = Msat::new(u64::from(by) * 100 + 1);
        let total = match how & 3 {
            0 => total.saturating_add(by),
            1 => total.saturating_sub(by),
            2 => {
                signature.0[usize::from(how >> 2)] ^= 1;
                total
            }
            _ => CAPACITY.to_msat().expect("it fits").saturating_add(by),
        };
        let input = if how & 128 == 0 {
            PayeeInput::Payment {
                total,
                signature,
                room: Msat::MAX,
            }
        } else {
            PayeeInput::Resume {
                total,
                signature,
                room: Msat::MAX,
            }
        };
        let _ = self.payee(input);
    }

    /// The payee's card is replaced by its backup.
    fn old_payee(&mut self) {
        let Some((_, disk)) = self.backup.clone() else {
            return;
        };
        let record = Payee::restored(disk.read());
        self.payee_disk.row = wire::encode(&record);
        self.payee_disk.journal.clear();
        self.forgot = true;
        self.restart_payee();
    }

    pub fn mine(&mut self, blocks: u32, how: u8) {
        let mut left = blocks;
        while left > 0 {
            // A tip tells of many blocks where nothing happened, as after a night without power.
            let many = if left > STRIDE && self.chain.idle() {
                STRIDE
            } else {
                1
            };
            left -= many;
            self.chain.height += many - 1;
            let spend = (how & 2 != 0).then_some(usize::from(how >> 2));
            self.chain.mine(how & 1 != 0, spend);
            self.sightings(PAYER);
            self.sightings(PAYEE);
            self.tip(PAYER);
            self.tip(PAYEE);
        }
    }

    fn reorganise(&mut self, depth: u32, how: u8) {
        let height = self.chain.reorganise(depth);
        let _ = self.payer(PayerInput::Reorg { height });
        if !self.chain.dark {
            let _ = self.payee(PayeeInput::Reorg { height });
        }
        self.mine(depth + 1, how);
    }

    /// The coins of an unconfirmed funding go elsewhere, perhaps into another output that pays the same script.
    fn double_spend(&mut self, how: u8) {
        if self.chain.funded_at.is_some() {
            return;
        }
        self.chain.void = true;
        if self.chain.dark {
            return;
        }
        let _ = self.payee(PayeeInput::Unfunded {
            outpoint: self.chain.outpoint,
        });
        if how & 1 == 1 {
            let (outpoint, height) = (self.chain.second(), Some(BlockHeight::new(self.chain.height)));
            let _ = self.payee(PayeeInput::Funded {
                outpoint,
                value: CAPACITY,
                height,
            });
        }
    }

    /// A back end that was connected anew tells everything again.
    pub fn show(&mut self, who: usize) {
        self.sightings(who);
        self.tip(who);
    }

    fn tip(&mut self, who: usize) {
        let height = BlockHeight::new(self.chain.height);
        if who == PAYER {
            let _ = self.payer(PayerInput::Height { height });
            return;
        }
        // In the dark a height is what headers prove.
        if !self.chain.dark {
            let _ = self.payee(PayeeInput::Lit);
        }
        let _ = self.payee(PayeeInput::Height { height });
        self.settler
            .height(
                crate::parties::of(PAYEE),
                &crate::parties::VERIFIER,
                self.rate,
                height,
            )
            .expect("a settlement that was signed can be raised or stays");
        self.drain_settler();
    }

    fn sightings(&mut self, who: usize) {
        let (outpoint, at) = (self.chain.outpoint, self.chain.funded_at.map(BlockHeight::new));
        if who == PAYEE && self.chain.dark {
            return;
        }
        if at.is_some() || !self.chain.void {
            if who == PAYER {
                let _ = self.payer(PayerInput::Funded { outpoint, height: at });
            } else {
                let _ = self.payee(PayeeInput::Funded {
                    outpoint,
                    value: CAPACITY,
                    height: at,
                });
            }
        }
        let seen = match (&self.chain.spent, self.chain.mempool.last()) {
            (Some((tx, at)), _) => Some((tx.clone(), Some(BlockHeight::new(*at)))),
            (None, Some(tx)) if at.is_some() => Some((tx.clone(), None)),
            _ => None,
        };
        if let (PAYER, Some(at)) = (who, self.chain.swept) {
            let height = Some(BlockHeight::new(at));
            let _ = self.payer(PayerInput::Swept { height });
        }
        let Some((tx, height)) = seen else { return };
        let id = txid(&tx);
        if who == PAYER {
            let _ = self.payer(PayerInput::Spent {
                txid: id,
                tx: &serialize(&tx),
                height,
            });
        } else if self.payee.record().outpoint == Some(outpoint) {
            self.settler.spent(super::world::SLOT, id, height.is_some());
            let refund = tx.output.iter().any(|o| o.script_pubkey == payout(PAYER));
            let worth = self.payee.record().total.to_sat_ceil().value() >= 205 + 330;
            let back = refund.then_some(if worth {
                TakenBack::Owed
            } else {
                TakenBack::GivenUp
            });
            let _ = self.payee(PayeeInput::Spent {
                txid: id,
                height,
                back,
            });
        }
    }

    /// Whether the payee still trades or settles.
    pub fn payee_lives(&self) -> bool {
        !matches!(
            self.payee.record().state,
            PayeeState::Over | PayeeState::Refunded { .. }
        )
    }
}

fn room(tape: &mut Tape<'_>) -> Msat {
    match tape.byte() {
        0 => Msat::MAX,
        some => Msat::new(u64::from(some) * 10_000),
    }
}
