//! Block headers as proof of a minimum height (money.md rule 15).
//!
//! Headers cost work, so nobody forges many; but a peer may hold newer ones back. So they prove that the chain is
//! *at least* so high, which makes a payee settle earlier, and never that it is in sight.

use crate::base::BlockHeight;
use crate::wire::HeaderBytes;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::{BlockHash, Target};
use thiserror::Error;

/// Why headers prove nothing. The peer's fault: ignore them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum HeadersError {
    /// They do not build on what is known here.
    #[error("the headers do not build on a block known here: ignored")]
    Unconnected,
    /// One of them has less work than the floor.
    #[error("a header has less work than the floor for this chain: ignored")]
    Work,
}

/// The highest header known, and the least work that one must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MinimumHeight {
    height: BlockHeight,
    hash: BlockHash,
    floor: Target,
}

impl MinimumHeight {
    /// From a block that our own back end showed, or that the firmware ships, with the easiest target allowed.
    pub fn new(height: BlockHeight, hash: [u8; 32], floor: Target) -> MinimumHeight {
        use bitcoin::hashes::Hash;
        MinimumHeight {
            height,
            hash: BlockHash::from_byte_array(hash),
            floor,
        }
    }

    /// The height proved so far.
    pub fn height(&self) -> BlockHeight {
        self.height
    }

    /// Adds headers, the first of them at height `first`. All of them are checked before any counts; headers at or
    /// below the known height are skipped until one builds on the known block.
    pub fn extend(
        &mut self,
        first: BlockHeight,
        headers: &[HeaderBytes],
    ) -> Result<BlockHeight, HeadersError> {
        let skip = (self.height.value() + 1)
            .checked_sub(first.value())
            .ok_or(HeadersError::Unconnected)?;
        let new = headers
            .get(usize::try_from(skip).unwrap_or(usize::MAX)..)
            .ok_or(HeadersError::Unconnected)?;
        let mut tip = *self;
        for bytes in new {
            let header: Header = deserialize(&bytes.0).map_err(|_| HeadersError::Work)?;
            if header.prev_blockhash != tip.hash {
                return Err(HeadersError::Unconnected);
            }
            if header.target() > self.floor || header.validate_pow(header.target()).is_err() {
                return Err(HeadersError::Work);
            }
            tip = MinimumHeight {
                height: tip.height.plus(1),
                hash: header.block_hash(),
                floor: self.floor,
            };
        }
        *self = tip;
        Ok(tip.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use bitcoin::block::Version;
    use bitcoin::hashes::Hash;
    use bitcoin::{CompactTarget, TxMerkleNode};

    fn easy() -> CompactTarget {
        CompactTarget::from_consensus(0x207f_ffff)
    }

    fn chain(mut prev: [u8; 32], count: usize, bits: CompactTarget) -> Vec<HeaderBytes> {
        let mut headers = Vec::new();
        for _ in 0..count {
            let mut header = Header {
                version: Version::TWO,
                prev_blockhash: BlockHash::from_byte_array(prev),
                merkle_root: TxMerkleNode::all_zeros(),
                time: 0,
                bits,
                nonce: 0,
            };
            while header.validate_pow(header.target()).is_err() {
                header.nonce += 1;
            }
            prev = header.block_hash().to_byte_array();
            headers.push(HeaderBytes(
                bitcoin::consensus::encode::serialize(&header).try_into().unwrap(),
            ));
        }
        headers
    }

    fn known() -> MinimumHeight {
        MinimumHeight::new(BlockHeight::new(100), [7; 32], Target::from_compact(easy()))
    }

    #[test]
    fn rule_15_headers_with_work_prove_a_minimum_height() {
        let mut minimum = known();
        let headers = chain([7; 32], 5, easy());
        assert_eq!(
            minimum.extend(BlockHeight::new(101), &headers),
            Ok(BlockHeight::new(105))
        );
        // Said again, or overlapping: no change.
        assert_eq!(
            minimum.extend(BlockHeight::new(101), &headers),
            Ok(BlockHeight::new(105))
        );
    }

    #[test]
    fn rule_15_headers_without_work_or_link_prove_nothing() {
        let mut minimum = known();
        let mut headers = chain([7; 32], 3, easy());
        assert_eq!(
            minimum.extend(BlockHeight::new(102), &headers),
            Err(HeadersError::Unconnected)
        );
        assert_eq!(
            minimum.extend(BlockHeight::new(101), &chain([8; 32], 1, easy())),
            Err(HeadersError::Unconnected)
        );
        let hard = MinimumHeight::new(
            BlockHeight::new(100),
            [7; 32],
            Target::from_compact(CompactTarget::from_consensus(0x1d00_ffff)),
        );
        assert_eq!(
            { hard }.extend(BlockHeight::new(101), &headers),
            Err(HeadersError::Work)
        );
        headers[1].0[76] ^= 1;
        let before = minimum;
        assert!(minimum.extend(BlockHeight::new(101), &headers).is_err());
        assert_eq!(minimum, before, "nothing counts unless all of it holds");
    }
}
