//! The wallet on disk: a list of entries that is only appended to, each one JSON so that later versions can read it.

use super::WalletError;
use bdk_wallet::ChangeSet;
use bdk_wallet::chain::Merge;
use bitcoin::{BlockHash, OutPoint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Blocks that stay in a merged journal behind the tip, so that a reorganisation can be followed.
const KEPT_BLOCKS: u32 = 288;

/// What changed since the entry before.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The wallet library's own changes.
    pub(super) bdk: ChangeSet,
    /// Coins reserved for a channel, by slot; an empty list where the reservation ended.
    pub(super) reserved: BTreeMap<u32, Vec<OutPoint>>,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.bdk.is_empty() && self.reserved.is_empty()
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, WalletError> {
        serde_json::to_vec(self).map_err(|e| WalletError::Journal(e.to_string()))
    }

    /// Reads all entries, oldest first, into one.
    pub(super) fn read(journal: &[impl AsRef<[u8]>]) -> Result<Entry, WalletError> {
        let mut all = Entry::default();
        for (index, bytes) in journal.iter().enumerate() {
            let entry: Entry = serde_json::from_slice(bytes.as_ref())
                .map_err(|e| WalletError::Journal(format!("entry {index}: {e}")))?;
            let same = |a: &Option<_>, b: &Option<_>| a.is_none() || b.is_none() || a == b;
            let of_one_wallet = same(&all.bdk.descriptor, &entry.bdk.descriptor)
                && same(&all.bdk.change_descriptor, &entry.bdk.change_descriptor)
                && (all.bdk.network.is_none()
                    || entry.bdk.network.is_none()
                    || all.bdk.network == entry.bdk.network);
            if !of_one_wallet {
                return Err(WalletError::Journal(format!(
                    "entry {index} belongs to another wallet"
                )));
            }
            all.bdk.merge(entry.bdk);
            all.reserved.extend(entry.reserved);
        }
        all.reserved.retain(|_, coins| !coins.is_empty());
        all.bdk.locked_outpoints.outpoints.retain(|_, locked| *locked);
        all.prune_blocks();
        Ok(all)
    }

    /// Forgets old blocks in which nothing of ours is.
    fn prune_blocks(&mut self) {
        let blocks = &mut self.bdk.local_chain.blocks;
        blocks.retain(|_, hash| hash.is_some());
        let Some(tip) = blocks.keys().next_back().copied() else {
            return;
        };
        let ours: Vec<u32> = self
            .bdk
            .tx_graph
            .anchors
            .iter()
            .map(|(a, _)| a.block_id.height)
            .collect();
        let first_kept = tip.saturating_sub(KEPT_BLOCKS);
        blocks.retain(|height, _| *height == 0 || *height >= first_kept || ours.contains(height));
    }
}

/// Block 0 of the chain that a journal belongs to; `None` for one that says nothing yet.
///
/// # Errors
/// [`WalletError::Journal`] if an entry is damaged.
pub fn chain_of(journal: &[impl AsRef<[u8]>]) -> Result<Option<BlockHash>, WalletError> {
    let entry = Entry::read(journal)?;
    Ok(entry.bdk.local_chain.blocks.get(&0).copied().flatten())
}

/// Whether no transaction of the wallet's was ever seen, and no coin set aside.
///
/// # Errors
/// As [`chain_of`].
pub fn is_untouched(journal: &[impl AsRef<[u8]>]) -> Result<bool, WalletError> {
    let entry = Entry::read(journal)?;
    Ok(entry.bdk.tx_graph.txs.is_empty() && entry.reserved.is_empty())
}

/// Joins a journal into a single entry that means the same and is shorter. The caller may store it in place of the
/// old ones, at a start for example.
///
/// # Errors
/// [`WalletError::Journal`] if an entry is damaged.
pub fn merge(journal: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, WalletError> {
    Entry::read(journal)?.to_bytes()
}
