//! The chain as both sides see it: one funding, whatever spends it, blocks that come and go.

use super::world::{CAPACITY, EXPIRY, NOW, TERMS};
use crate::parties::VERIFIER;
use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, Transaction, TxIn, TxOut, transaction};
use turnpike_protocol::base::{BlockHeight, Outpoint, Txid};
use turnpike_protocol::money::channel::tx::txid;

/// Reorganisations are no deeper than what counts as deep: that is what "deep" means.
const DEEPEST: u32 = 5;

pub(super) struct Chain {
    pub height: u32,
    /// The highest that it ever was.
    pub highest: u32,
    pub funding: Transaction,
    pub outpoint: Outpoint,
    pub funded_at: Option<u32>,
    /// Another transaction took the funding's coins: it never confirms.
    pub void: bool,
    /// The payee's back end does not answer.
    pub dark: bool,
    /// What waits to spend the funding.
    pub mempool: Vec<Transaction>,
    pub spent: Option<(Transaction, u32)>,
    /// What brings the payer's remainder home waits, or is in this block.
    pub sweeping: bool,
    pub swept: Option<u32>,
}

impl Chain {
    pub fn new() -> Chain {
        let script = TERMS
            .funding_output(VERIFIER.context())
            .expect("good terms")
            .to_script_buf();
        let coin = OutPoint {
            txid: bitcoin::Txid::from_raw_hash(hash([9; 32])),
            vout: 0,
        };
        let funding = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: coin,
                ..TxIn::default()
            }],
            output: vec![TxOut {
                value: Amount::from_sat(CAPACITY.value()),
                script_pubkey: script,
            }],
        };
        let outpoint = Outpoint {
            txid: txid(&funding),
            vout: 0,
        };
        Chain {
            height: NOW,
            highest: NOW,
            funding,
            outpoint,
            funded_at: None,
            void: false,
            dark: true,
            mempool: Vec::new(),
            spent: None,
            sweeping: false,
            swept: None,
        }
    }

    /// Adds a block. It holds the funding if `fund` says so, and one of what waits to spend it, if `spend` does.
    pub fn mine(&mut self, fund: bool, spend: Option<usize>) {
        self.height += 1;
        self.highest = self.highest.max(self.height);
        if fund && !self.void && self.funded_at.is_none() {
            self.funded_at = Some(self.height);
        }
        // Its `1 CSV` keeps it out of the settlement's own block.
        let settled = self.spent.as_ref().is_some_and(|(_, at)| *at < self.height);
        if spend.is_some() && settled && self.sweeping && self.swept.is_none() {
            self.swept = Some(self.height);
        }
        let ripe: Vec<&Transaction> = self.mempool.iter().filter(|t| self.ripe(t)).collect();
        if let (Some(which), Some(_), None, false) = (spend, self.funded_at, &self.spent, ripe.is_empty()) {
            self.spent = Some((ripe[which % ripe.len()].clone(), self.height));
        }
    }

    /// Whether the next blocks hold nothing, whatever the input says.
    pub fn idle(&self) -> bool {
        let waiting = (self.funded_at.is_none() && !self.void) || (self.sweeping && self.swept.is_none());
        !waiting && (self.funded_at.is_none() || self.spent.is_some() || self.mempool.is_empty())
    }

    /// Takes blocks away; gives the last height that holds.
    pub fn reorganise(&mut self, depth: u32) -> BlockHeight {
        let last = self
            .height
            .saturating_sub(depth)
            .max(self.highest - DEEPEST.min(self.highest))
            .min(self.height);
        self.height = last;
        self.funded_at = self.funded_at.filter(|at| *at <= last);
        self.spent = self.spent.take().filter(|(_, at)| *at <= last);
        self.swept = self.swept.filter(|at| *at <= last);
        self.sweeping &= self.spent.is_some();
        BlockHeight::new(last)
    }

    /// Whether the next block may hold it: nLockTime N confirms first in block N + 1.
    fn ripe(&self, tx: &Transaction) -> bool {
        match tx.lock_time {
            LockTime::Blocks(n) => n.to_consensus_u32() < self.height,
            LockTime::Seconds(_) => false,
        }
    }

    /// A transaction that spends the funding reaches the mempool.
    pub fn broadcast(&mut self, tx: Transaction) {
        let [input] = tx.input.as_slice() else {
            panic!("{} inputs spend one channel", tx.input.len())
        };
        assert_eq!(
            Outpoint::from(input.previous_output),
            self.outpoint,
            "something else is spent"
        );
        let out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        assert!(
            out < CAPACITY.value(),
            "{out} come out of a channel of {CAPACITY}"
        );
        if !self.mempool.contains(&tx) {
            self.mempool.push(tx);
        }
    }

    /// Whether a refund could be in a block by now.
    pub fn expired(&self) -> bool {
        self.height >= EXPIRY
    }

    /// The outpoint of a second output that pays the channel's script.
    pub fn second(&self) -> Outpoint {
        Outpoint {
            txid: Txid::from_bytes([8; 32]),
            vout: 0,
        }
    }
}

fn hash(bytes: [u8; 32]) -> bitcoin::hashes::sha256d::Hash {
    use bitcoin::hashes::Hash;
    bitcoin::hashes::sha256d::Hash::from_byte_array(bytes)
}
