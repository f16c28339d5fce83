//! Transactions that wait for a block.

use super::blocks::{Blocks, Coin};
use super::consensus::{self, Refusal};
use super::policy;
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most virtual bytes that wait; more are refused.
const MAX_VSIZE: u64 = 5_000_000;

/// A transaction that waits.
pub(super) struct Entry {
    pub(super) tx: Transaction,
    pub(super) fee: Amount,
    pub(super) vsize: u64,
    /// Order of arrival: parents before children.
    order: u64,
}

/// A verdict in favour.
pub(super) struct Accepted {
    pub(super) fee: Amount,
    pub(super) vsize: u64,
    replaced: BTreeSet<Txid>,
}

#[derive(Default)]
pub(super) struct Mempool {
    entries: HashMap<Txid, Entry>,
    spent: HashMap<OutPoint, Txid>,
    arrivals: u64,
}

impl Mempool {
    /// Judges a transaction in Bitcoin Core's order (`MemPoolAccept::PreChecks`), so that of several faults the same
    /// one is named.
    pub(super) fn judge(&self, tx: &Transaction, blocks: &Blocks) -> Result<Accepted, Refusal> {
        consensus::check_alone(tx)?;
        policy::check_standard(tx)?;
        consensus::check_final(tx, blocks)?;
        let txid = tx.compute_txid();
        if let Some(known) = self.entries.get(&txid) {
            return Err(Refusal::rule(
                match known.tx.compute_wtxid() == tx.compute_wtxid() {
                    true => "txn-already-in-mempool",
                    false => "txn-same-nonwitness-data-in-mempool",
                },
            ));
        }
        let coins = self.coins(tx, txid, blocks)?;
        consensus::check_relative_locks(tx, &coins, blocks)?;
        let fee = consensus::check_values(tx, &coins, blocks)?;
        policy::check_inputs(tx, &coins)?;
        let vsize = tx.vsize() as u64;
        policy::check_fee(fee, vsize)?;

        let mut direct: BTreeSet<Txid> = tx
            .input
            .iter()
            .filter_map(|i| self.spent.get(&i.previous_output))
            .copied()
            .collect();
        let mut replaced = self.with_descendants(&direct);
        if let Some(sibling) = policy::check_chain(tx, vsize, self, &replaced)? {
            direct.insert(sibling);
            replaced.insert(sibling);
        }
        policy::check_replacement(tx, fee, vsize, &direct, &replaced, self)?;
        consensus::check_scripts(tx, &coins)?;
        if self.entries.values().map(|e| e.vsize).sum::<u64>() + vsize > MAX_VSIZE {
            return Err(Refusal::rule("mempool full"));
        }
        Ok(Accepted { fee, vsize, replaced })
    }

    /// Takes a transaction in if it is judged well.
    pub(super) fn accept(&mut self, tx: Transaction, blocks: &Blocks) -> Result<Txid, Refusal> {
        let accepted = self.judge(&tx, blocks)?;
        accepted.replaced.iter().for_each(|txid| self.remove(txid));
        let txid = tx.compute_txid();
        self.spent
            .extend(tx.input.iter().map(|i| (i.previous_output, txid)));
        self.arrivals += 1;
        let entry = Entry {
            tx,
            fee: accepted.fee,
            vsize: accepted.vsize,
            order: self.arrivals,
        };
        self.entries.insert(txid, entry);
        Ok(txid)
    }

    pub(super) fn remove(&mut self, txid: &Txid) {
        if let Some(entry) = self.entries.remove(txid) {
            entry.tx.input.iter().for_each(|i| {
                self.spent.remove(&i.previous_output);
            });
        }
    }

    /// All transactions, parents before children.
    pub(super) fn in_order(&self) -> Vec<&Transaction> {
        let ordered: BTreeMap<u64, &Transaction> = self.entries.values().map(|e| (e.order, &e.tx)).collect();
        ordered.into_values().collect()
    }

    pub(super) fn entry(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Txid, &Entry)> {
        self.entries.iter()
    }

    /// The waiting transaction that spends an output.
    pub(super) fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spent.get(outpoint).copied()
    }

    /// Waiting transactions that it spends from.
    pub(super) fn parents(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let spent = tx.input.iter().map(|i| i.previous_output.txid);
        spent.filter(|txid| self.entries.contains_key(txid)).collect()
    }

    /// Waiting transactions that it builds on, at any distance, without itself.
    pub(super) fn ancestors(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = self.parents(tx).into_iter().collect();
        while let Some(txid) = open.pop() {
            if let Some(entry) = self.entries.get(&txid).filter(|_| found.insert(txid)) {
                open.extend(self.parents(&entry.tx));
            }
        }
        found
    }

    /// A waiting transaction and all that builds on it.
    pub(super) fn descendants(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.with_descendants(&BTreeSet::from([*txid]))
    }

    fn with_descendants(&self, roots: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = roots.iter().copied().collect();
        while let Some(txid) = open.pop() {
            if let Some(entry) = self.entries.get(&txid).filter(|_| found.insert(txid)) {
                let outputs = (0u32..)
                    .take(entry.tx.output.len())
                    .map(|vout| OutPoint::new(txid, vout));
                open.extend(outputs.filter_map(|o| self.spent.get(&o)));
            }
        }
        found
    }

    /// The coins that the inputs spend, in order.
    fn coins(&self, tx: &Transaction, txid: Txid, blocks: &Blocks) -> Result<Vec<Coin>, Refusal> {
        let next = blocks.height() + 1;
        let mut coins = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = input.previous_output;
            let waiting = self
                .entries
                .get(&outpoint.txid)
                .and_then(|e| e.tx.output.get(outpoint.vout as usize));
            let coin = match waiting {
                Some(output) => Some(Coin {
                    output: output.clone(),
                    height: next,
                    coinbase: false,
                }),
                None => blocks.coin(&outpoint).cloned(),
            };
            coins.push(coin.ok_or_else(|| {
                let outputs = (0u32..)
                    .take(tx.output.len())
                    .map(|vout| OutPoint::new(txid, vout));
                match outputs.into_iter().any(|o| blocks.coin(&o).is_some()) {
                    true => Refusal {
                        code: -27,
                        reason: "Transaction outputs already in utxo set".into(),
                    },
                    false => Refusal {
                        code: -25,
                        reason: "bad-txns-inputs-missingorspent".into(),
                    },
                }
            })?);
        }
        Ok(coins)
    }
}
