//! Blocks and the unspent outputs that they leave.

use crate::chain::play_genesis;
use bitcoin::{Block, BlockHash, OutPoint, TxOut};
use std::collections::HashMap;

/// Blocks over whose times the median is taken (a consensus rule).
const MEDIAN_SPAN: usize = 11;

/// An unspent output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coin {
    /// Its value and script.
    pub output: TxOut,
    /// Height of its block; one above the tip while it is in the mempool.
    pub height: u32,
    /// Whether it is new money.
    pub coinbase: bool,
}

/// The best chain, and blocks that left it.
pub(super) struct Blocks {
    /// Hashes by height.
    best: Vec<BlockHash>,
    /// What each block of the best chain spent, for taking it back.
    spent: Vec<Vec<(OutPoint, Coin)>>,
    all: HashMap<BlockHash, Block>,
    coins: HashMap<OutPoint, Coin>,
}

impl Blocks {
    pub(super) fn new() -> Self {
        let genesis = play_genesis();
        let hash = genesis.block_hash();
        // As in Bitcoin, the first block's output cannot be spent.
        Blocks {
            best: vec![hash],
            spent: vec![Vec::new()],
            all: HashMap::from([(hash, genesis)]),
            coins: HashMap::new(),
        }
    }

    pub(super) fn height(&self) -> u32 {
        u32::try_from(self.best.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn tip(&self) -> BlockHash {
        self.best[self.best.len() - 1]
    }

    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.best.get(usize::try_from(height).ok()?).copied()
    }

    pub(super) fn block(&self, hash: &BlockHash) -> Option<&Block> {
        self.all.get(hash)
    }

    /// Height of a block, if it is in the best chain.
    pub(super) fn height_of(&self, hash: &BlockHash) -> Option<u32> {
        self.best
            .iter()
            .rposition(|h| h == hash)
            .and_then(|h| u32::try_from(h).ok())
    }

    pub(super) fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    pub(super) fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// Median time of the eleven blocks up to `height` (BIP113).
    pub(super) fn median_time(&self, height: u32) -> u32 {
        let end = usize::try_from(height)
            .unwrap_or(usize::MAX)
            .min(self.best.len() - 1)
            + 1;
        let span = &self.best[end.saturating_sub(MEDIAN_SPAN)..end];
        let mut times: Vec<u32> = span
            .iter()
            .filter_map(|h| self.all.get(h))
            .map(|b| b.header.time)
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// Puts a block on the tip. Its transactions were judged before; `false` if it does not fit.
    pub(super) fn connect(&mut self, block: Block) -> bool {
        if block.header.prev_blockhash != self.tip() {
            return false;
        }
        let height = self.height() + 1;
        let mut spent = Vec::new();
        for tx in &block.txdata {
            for input in &tx.input {
                if let Some(coin) = self.coins.remove(&input.previous_output) {
                    spent.push((input.previous_output, coin));
                }
            }
            let (txid, coinbase) = (tx.compute_txid(), tx.is_coinbase());
            for (vout, output) in (0u32..)
                .zip(&tx.output)
                .filter(|(_, o)| !o.script_pubkey.is_op_return())
            {
                let coin = Coin {
                    output: output.clone(),
                    height,
                    coinbase,
                };
                self.coins.insert(OutPoint::new(txid, vout), coin);
            }
        }
        let hash = block.block_hash();
        self.best.push(hash);
        self.spent.push(spent);
        self.all.insert(hash, block);
        true
    }

    /// Takes the tip off the best chain and returns it; never the first block.
    pub(super) fn disconnect(&mut self) -> Option<Block> {
        if self.best.len() < 2 {
            return None;
        }
        let (hash, spent) = (self.best.pop()?, self.spent.pop()?);
        let block = self.all.get(&hash)?.clone();
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            for vout in (0u32..).take(tx.output.len()) {
                self.coins.remove(&OutPoint::new(txid, vout));
            }
        }
        // A coin made and spent in this block is not to come back: it was removed above only if unspent.
        let made: std::collections::HashSet<_> = block.txdata.iter().map(|tx| tx.compute_txid()).collect();
        self.coins
            .extend(spent.into_iter().filter(|(o, _)| !made.contains(&o.txid)));
        Some(block)
    }
}
