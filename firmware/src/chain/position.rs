//! Where the follower stands: the last block it took, and enough blocks before it to find a fork.

use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Blocks remembered: a day's worth. No reorganisation has come near; a deeper one is followed too, from the lowest.
const REMEMBERED: usize = 144;

/// A block of the best chain and the ones before it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Position {
    height: u32,
    /// The newest last; never empty.
    hashes: VecDeque<BlockHash>,
}

impl Position {
    pub(super) fn new(height: u32, hash: BlockHash) -> Self {
        Position {
            height,
            hashes: VecDeque::from([hash]),
        }
    }

    pub(super) fn height(&self) -> u32 {
        self.height
    }

    pub(super) fn hash(&self) -> Option<BlockHash> {
        self.hashes.back().copied()
    }

    /// The remembered hash of the block at `height`.
    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        let back = usize::try_from(self.height.checked_sub(height)?).ok()?;
        self.hashes
            .len()
            .checked_sub(back + 1)
            .and_then(|i| self.hashes.get(i))
            .copied()
    }

    /// The next block was taken.
    pub(super) fn push(&mut self, hash: BlockHash) {
        self.height = self.height.saturating_add(1);
        self.hashes.push_back(hash);
        while self.hashes.len() > REMEMBERED {
            self.hashes.pop_front();
        }
    }

    /// Blocks above `height` left the chain; `height` must be remembered.
    pub(super) fn rewind(&mut self, height: u32) {
        while self.height > height && self.hashes.len() > 1 {
            self.hashes.pop_back();
            self.height -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    fn hash(n: u32) -> BlockHash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        BlockHash::from_byte_array(bytes)
    }

    #[test]
    fn a_day_of_blocks_is_remembered_and_rewound() {
        let mut position = Position::new(100, hash(100));
        (101..=400).for_each(|h| position.push(hash(h)));
        assert_eq!(position.height(), 400);
        assert_eq!(position.hash_at(257), Some(hash(257)));
        assert_eq!((position.hash_at(256), position.hash_at(401)), (None, None));
        position.rewind(300);
        assert_eq!((position.height(), position.hash()), (300, Some(hash(300))));
        assert_eq!(position.hash_at(257), Some(hash(257)));
    }
}
