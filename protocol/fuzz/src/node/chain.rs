//! A chain that confirms what it is told to, and takes blocks back.

use super::world::{BOTH, World};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, transaction};
use turnpike_protocol::base::{BlockHeight, FeeRate, Outpoint, Sat, Slot};
use turnpike_protocol::money::chain::{ChainAction, ChainEvent};
use turnpike_protocol::money::channel::tx::txid;
use turnpike_protocol::node::Input;

/// Reorganisations are shallower than what counts as deep.
const DEEPEST: u32 = 5;

impl World {
    pub fn chain_action(&mut self, who: usize, action: ChainAction) {
        match action {
            ChainAction::Watch { slot, output_key, .. } => {
                self.watched[who].insert(slot, output_key);
                for (tx, at) in self.confirmed.clone() {
                    self.sight(who, slot, &tx, Some(at));
                }
                for tx in self.mempool.clone() {
                    self.sight(who, slot, &tx, None);
                }
            }
            ChainAction::Unwatch { slot } => drop(self.watched[who].remove(&slot)),
            ChainAction::Fund { slot, .. } if self.faults.fund => {
                let (available, needed) = (Sat::ZERO, Sat::new(1));
                self.feed(
                    who,
                    Input::Chain(ChainEvent::FundingFailed {
                        slot,
                        available,
                        needed,
                    }),
                );
            }
            ChainAction::Fund {
                slot,
                output_key,
                value,
                ..
            } => {
                let tx = funding(slot, self.links, &output_key, value);
                let outpoint = Outpoint {
                    txid: txid(&tx),
                    vout: 0,
                };
                let built = ChainEvent::FundingBuilt {
                    slot,
                    outpoint,
                    fee: Sat::new(150),
                    tx: serialize(&tx),
                };
                self.feed(who, Input::Chain(built));
            }
            ChainAction::Broadcast { slot, tx } => {
                let tx: Transaction = deserialize(&tx).expect("a node broadcasts transactions");
                let txid = txid(&tx);
                let accepted = self.offer(tx);
                self.feed(who, Input::Chain(ChainEvent::Broadcast { slot, txid, accepted }));
            }
        }
    }

    /// A transaction comes to the mempool, if it can ever confirm.
    fn offer(&mut self, tx: Transaction) -> bool {
        let id = txid(&tx);
        if self
            .mempool
            .iter()
            .chain(self.confirmed.iter().map(|(t, _)| t))
            .any(|t| txid(t) == id)
        {
            return true;
        }
        let gone = |i: &TxIn| {
            let coin = i.previous_output;
            let spent = self
                .confirmed
                .iter()
                .any(|(t, _)| t.input.iter().any(|i| i.previous_output == coin));
            spent || self.void.contains(&coin.into())
        };
        if tx.input.iter().any(gone) || !ripe(&tx, self.height) {
            return false;
        }
        // It replaces what spends the same.
        self.mempool.retain(|t| !conflict(t, &tx));
        self.mempool.push(tx.clone());
        self.sight_all(&tx, None);
        true
    }

    fn sight_all(&mut self, tx: &Transaction, at: Option<u32>) {
        for who in BOTH {
            let slots: Vec<Slot> = self.watched[who].keys().copied().collect();
            slots.into_iter().for_each(|slot| self.sight(who, slot, tx, at));
        }
    }

    /// Tells one node what one transaction means for one of its channels.
    fn sight(&mut self, who: usize, slot: Slot, tx: &Transaction, at: Option<u32>) {
        let Some(key) = self.watched[who].get(&slot).copied().filter(|_| !self.dark[who]) else {
            return;
        };
        let height = at.map(BlockHeight::new);
        let pays = |o: &TxOut| o.script_pubkey.as_bytes().get(2..) == Some(&key);
        for (vout, output) in (0u32..).zip(&tx.output).filter(|(_, o)| pays(o)) {
            let (outpoint, value) = (Outpoint { txid: txid(tx), vout }, Sat::new(output.value.to_sat()));
            self.feed(
                who,
                Input::Chain(ChainEvent::Funded {
                    slot,
                    outpoint,
                    value,
                    height,
                }),
            );
        }
        let known = self.mempool.iter().chain(self.confirmed.iter().map(|(t, _)| t));
        let ours: Vec<Outpoint> = known
            .flat_map(|t| {
                let id = txid(t);
                (0u32..)
                    .zip(&t.output)
                    .filter(|(_, o)| pays(o))
                    .map(move |(vout, _)| Outpoint { txid: id, vout })
            })
            .collect();
        for outpoint in tx
            .input
            .iter()
            .map(|i| Outpoint::from(i.previous_output))
            .filter(|o| ours.contains(o))
        {
            let spent = ChainEvent::Spent {
                slot,
                outpoint,
                txid: txid(tx),
                tx: serialize(tx),
                height,
            };
            self.feed(who, Input::Chain(spent));
        }
    }

    /// Adds blocks that hold all that waits, or nothing.
    pub fn mine(&mut self, blocks: u32, full: bool) {
        for _ in 0..blocks {
            self.height += 1;
            self.highest = self.highest.max(self.height);
            if full {
                let (block, rest) = std::mem::take(&mut self.mempool)
                    .into_iter()
                    .partition(|t: &Transaction| ripe(t, self.height - 1));
                self.mempool = rest;
                for tx in block {
                    self.confirmed.push((tx.clone(), self.height));
                    self.sight_all(&tx, Some(self.height));
                }
            }
            BOTH.into_iter().for_each(|who| self.tip(who));
        }
    }

    /// Takes blocks back; what they held waits again. One block more than before follows.
    pub fn reorganise(&mut self, depth: u32, full: bool) {
        let last = self
            .height
            .saturating_sub(depth)
            .max(self.highest - DEEPEST)
            .min(self.height);
        let depth = self.height - last;
        self.height = last;
        let (kept, back): (Vec<_>, Vec<_>) = std::mem::take(&mut self.confirmed)
            .into_iter()
            .partition(|(_, at)| *at <= last);
        self.confirmed = kept;
        let height = BlockHeight::new(last);
        for who in BOTH
            .into_iter()
            .filter(|who| !self.dark[*who])
            .collect::<Vec<_>>()
        {
            self.feed(who, Input::Chain(ChainEvent::Reorg { height }));
        }
        for (tx, _) in back {
            self.offer(tx);
        }
        self.pump();
        self.mine(depth + 1, full);
    }

    /// The coins of a funding that waits go elsewhere: it never confirms, nor does what spends it.
    pub fn double_spend(&mut self) {
        let Some(at) = self.mempool.iter().position(is_funding) else {
            return;
        };
        let tx = self.mempool.remove(at);
        let outpoint = Outpoint {
            txid: txid(&tx),
            vout: 0,
        };
        self.void
            .extend(tx.input.iter().map(|i| Outpoint::from(i.previous_output)));
        self.void.push(outpoint);
        self.mempool.retain(|t| {
            t.input
                .iter()
                .all(|i| Outpoint::from(i.previous_output) != outpoint)
        });
        for who in BOTH {
            let slots: Vec<Slot> = self.watched[who].keys().copied().collect();
            if self.dark[who] {
                continue;
            }
            for slot in slots {
                self.feed(who, Input::Chain(ChainEvent::Unfunded { slot, outpoint }));
            }
        }
        self.pump();
    }

    /// A back end goes silent, or tells everything again.
    pub fn darken(&mut self, who: usize, dark: bool) {
        if dark {
            self.dark[who] = true;
            return self.give(who, Input::Chain(ChainEvent::Dark));
        }
        if std::mem::take(&mut self.dark[who]) {
            let watched: Vec<(Slot, [u8; 32])> = self.watched[who].iter().map(|(s, k)| (*s, *k)).collect();
            // It may have missed a reorganisation; it knows how deep that can have been.
            let height = BlockHeight::new(self.height.saturating_sub(DEEPEST));
            self.feed(who, Input::Chain(ChainEvent::Reorg { height }));
            for (slot, output_key) in watched {
                let from = BlockHeight::ZERO;
                self.chain_action(
                    who,
                    ChainAction::Watch {
                        slot,
                        output_key,
                        from,
                    },
                );
            }
            self.pump();
            self.tip(who);
        }
    }

    pub fn fee_rate(&mut self, rate: u64) {
        for who in BOTH {
            self.give(
                who,
                Input::Chain(ChainEvent::FeeRate {
                    rate: FeeRate::new(rate),
                }),
            );
        }
    }
}

/// A funding spends a coin of its own, whose name tells it from every other.
fn funding(slot: Slot, links: u64, output_key: &[u8; 32], value: Sat) -> Transaction {
    use bitcoin::hashes::{Hash, sha256d};
    let coin =
        sha256d::Hash::hash(&[output_key.as_slice(), &slot.0.to_be_bytes(), &links.to_be_bytes()].concat());
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint {
                txid: bitcoin::Txid::from_raw_hash(coin),
                vout: u32::MAX - 1,
            },
            ..TxIn::default()
        }],
        output: vec![TxOut {
            value: Amount::from_sat(value.value()),
            script_pubkey: ScriptBuf::from_bytes([&[0x51, 0x20][..], output_key].concat()),
        }],
    }
}

fn is_funding(tx: &Transaction) -> bool {
    tx.input.iter().any(|i| i.previous_output.vout == u32::MAX - 1)
}

fn conflict(a: &Transaction, b: &Transaction) -> bool {
    a.input
        .iter()
        .any(|i| b.input.iter().any(|j| i.previous_output == j.previous_output))
}

/// Whether the block after `tip` may hold it: nLockTime N confirms first in block N + 1.
fn ripe(tx: &Transaction, tip: u32) -> bool {
    match tx.lock_time {
        LockTime::Blocks(n) => n.to_consensus_u32() <= tip,
        LockTime::Seconds(_) => false,
    }
}
