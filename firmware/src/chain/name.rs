//! Which chain it is.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};
use std::fmt;
use std::str::FromStr;

/// A chain that channels can live on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChainName {
    /// The real one.
    Bitcoin,
    /// The public test chain (version 4).
    Testnet4,
    /// The public signed test chain.
    Signet,
    /// A private chain of a bitcoind in regtest mode.
    Regtest,
    /// The play-money chain of `turnpike-playchain`; its money is worthless.
    Play,
}

/// Words in the play chain's first block.
const PLAY_MESSAGE: [u8; 44] = *b"Turnpike play chain: this money is worthless";
/// Time of the play chain's first block: 2025-01-01 00:00:00 UTC.
const PLAY_TIME: u32 = 1_735_689_600;

impl ChainName {
    /// All chains, in the order of their worth.
    pub const ALL: [ChainName; 5] = [
        ChainName::Bitcoin,
        ChainName::Testnet4,
        ChainName::Signet,
        ChainName::Regtest,
        ChainName::Play,
    ];

    /// The format of addresses and extended keys. A play chain uses regtest's (`bcrt1…`).
    pub fn network(self) -> Network {
        match self {
            ChainName::Bitcoin => Network::Bitcoin,
            ChainName::Testnet4 => Network::Testnet4,
            ChainName::Signet => Network::Signet,
            ChainName::Regtest | ChainName::Play => Network::Regtest,
        }
    }

    /// Hash of block 0, which tells chains apart.
    pub fn genesis(self) -> BlockHash {
        match self {
            ChainName::Play => play_genesis().block_hash(),
            other => genesis_block(other.network()).block_hash(),
        }
    }

    /// The word for it in `turnpike.toml`, `turnpike init --network` and on the screen.
    pub fn word(self) -> &'static str {
        match self {
            ChainName::Bitcoin => "mainnet",
            ChainName::Testnet4 => "testnet4",
            ChainName::Signet => "signet",
            ChainName::Regtest => "regtest",
            ChainName::Play => "play",
        }
    }

    /// The chain with this block 0; `None` for one that is not known here.
    pub fn of(genesis: BlockHash) -> Option<ChainName> {
        ChainName::ALL
            .into_iter()
            .find(|chain| chain.genesis() == genesis)
    }

    /// Whether blocks come at the owner's pace, so that looking often is cheap and worth it.
    pub fn is_private(self) -> bool {
        matches!(self, ChainName::Regtest | ChainName::Play)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChainName::Bitcoin => "bitcoin",
            ChainName::Testnet4 => "testnet4",
            ChainName::Signet => "signet",
            ChainName::Regtest => "regtest",
            ChainName::Play => "play",
        })
    }
}

impl FromStr for ChainName {
    type Err = UnknownChain;

    fn from_str(name: &str) -> Result<Self, UnknownChain> {
        ChainName::ALL
            .into_iter()
            .find(|c| c.to_string() == name)
            .ok_or_else(|| UnknownChain(name.to_owned()))
    }
}

/// No chain has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no chain is called {0:?}; write bitcoin, testnet4, signet, regtest or play")]
pub struct UnknownChain(String);

/// Block 0 of the play chain: regtest's rules with words of its own, so that its hash is its own.
pub fn play_genesis() -> Block {
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_slice(PLAY_MESSAGE).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        // Nobody can spend it; the subsidy begins with block 1.
        output: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::new_op_return(PLAY_MESSAGE),
        }],
    };
    let mut header = Header {
        version: Version::ONE,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::from_byte_array(coinbase.compute_txid().to_byte_array()),
        time: PLAY_TIME,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    // Regtest's target takes two tries on average.
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    Block {
        header,
        txdata: vec![coinbase],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_first_blocks_differ() {
        let mut seen = std::collections::HashSet::new();
        for chain in ChainName::ALL {
            assert_eq!(chain.to_string().parse(), Ok(chain));
            assert!(seen.insert(chain.genesis()), "{chain}");
            assert_eq!(ChainName::of(chain.genesis()), Some(chain));
        }
        assert!("mainnet".parse::<ChainName>().is_err());
    }

    #[test]
    fn the_play_chain_keeps_its_first_block() {
        // Changing it cuts every play chain off from its nodes.
        assert_eq!(
            ChainName::Play.genesis().to_string(),
            "44054d4c069619e02dc6d08b579b2e85847f40ce3d47ae31c7513e8915bc4a9a"
        );
    }
}
