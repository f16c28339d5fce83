//! The play chain as a whole: blocks, mempool, miner, faucet, and the file that they are kept in.

use super::blocks::{Blocks, Coin};
use super::consensus::Refusal;
use super::mempool::{Accepted, Mempool};
use crate::chain::ChainName;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize_partial, serialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Address, Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, TapSighashType,
    Transaction, TxIn, TxMerkleNode, TxOut, Txid, Weight, Witness, transaction,
};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// New money per block; it never halves.
const SUBSIDY: Amount = Amount::from_sat(50 * 100_000_000);
/// Blocks that a new chain starts with, so that the faucet has twenty coins it may spend.
const FIRST_BLOCKS: u32 = 120;
/// Weight kept free in a block for its header and its first transaction.
const BLOCK_RESERVE: Weight = Weight::from_wu(8_000);
/// What the faucet pays as fee, sat/vB.
const FAUCET_RATE: u64 = 2;
/// Size of the faucet's transaction, vB: one taproot input, two outputs of any standard type.
const FAUCET_SIZE: u64 = 200;
/// Most that one draw from the faucet gives.
const FAUCET_MOST: Amount = Amount::from_sat(10 * 100_000_000);
/// The faucet's key is the hash of these words: everybody may have it, its coins are worthless.
const FAUCET_WORDS: &[u8] = b"turnpike play chain faucet";

/// A chain of worthless coins.
pub struct PlayNode {
    pub(super) blocks: Blocks,
    pub(super) pool: Mempool,
    secp: Secp256k1<All>,
    faucet: Keypair,
    /// Makes every coinbase differ, also of blocks at the same height with the same payee.
    extra_nonce: u64,
    file: Option<PathBuf>,
}

/// Why the faucet gave nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaucetError {
    /// Less than dust, or more than it gives at once.
    #[error("the faucet gives from 330 sat to 10 coins at once; ask for that")]
    Amount,
    /// All its coins are in unconfirmed transactions.
    #[error("the faucet's coins are all on their way; wait for the next block")]
    Empty,
    /// The chain refused the payment, for example because of the address type.
    #[error("the payment was refused: {0}")]
    Refused(String),
}

impl PlayNode {
    /// A chain with its first blocks, kept in `file` if given: read from there, or begun there.
    ///
    /// # Errors
    /// If the file cannot be read or written, or holds something else.
    pub fn open(file: Option<PathBuf>) -> io::Result<Self> {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(sha256::Hash::hash(FAUCET_WORDS).as_byte_array());
        let secret = secret.map_err(|e| io::Error::other(e.to_string()))?;
        let faucet = secret.keypair(&secp);
        let (blocks, pool) = (Blocks::new(), Mempool::default());
        let extra_nonce = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?;
        let mut node = PlayNode {
            blocks,
            pool,
            secp,
            faucet,
            extra_nonce,
            file,
        };
        match node.file.as_ref().map(std::fs::read) {
            Some(Ok(bytes)) => node.replay(&bytes)?,
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Some(Err(_)) | None => {
                let script = node.faucet_address().script_pubkey();
                for _ in 0..FIRST_BLOCKS {
                    node.make_block(&script);
                }
                node.save()?;
            }
        }
        Ok(node)
    }

    /// Height of the best block.
    pub fn height(&self) -> u32 {
        self.blocks.height()
    }

    /// Takes a transaction into the mempool.
    ///
    /// # Errors
    /// The [`Refusal`] that a bitcoind would give.
    pub fn send(&mut self, tx: Transaction) -> Result<Txid, Refusal> {
        match self.pool.entry(&tx.compute_txid()).is_some_and(|e| e.tx == tx) {
            true => Ok(tx.compute_txid()),
            false => self.pool.accept(tx, &self.blocks),
        }
    }

    /// Judges a transaction without taking it.
    pub(super) fn judge(&self, tx: &Transaction) -> Result<Accepted, Refusal> {
        self.pool.judge(tx, &self.blocks)
    }

    /// Makes blocks with what waits in the mempool; their new money goes to `payee`.
    ///
    /// # Errors
    /// If they cannot be written down.
    pub fn mine(&mut self, blocks: u32, payee: &ScriptBuf) -> io::Result<Vec<BlockHash>> {
        let mut made = Vec::new();
        for _ in 0..blocks {
            let hash = self.make_block(payee);
            self.append(&hash)?;
            made.push(hash);
        }
        Ok(made)
    }

    /// Makes one block for the faucet.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn mine_for_faucet(&mut self) -> io::Result<BlockHash> {
        let script = self.faucet_address().script_pubkey();
        let hash = self.make_block(&script);
        self.append(&hash)?;
        Ok(hash)
    }

    /// Pays play coins to `address`, unconfirmed.
    ///
    /// # Errors
    /// [`FaucetError`].
    pub fn draw(&mut self, address: &Address, amount: Amount) -> Result<OutPoint, FaucetError> {
        let payee = address.script_pubkey();
        if amount > FAUCET_MOST || amount < payee.minimal_non_dust() {
            return Err(FaucetError::Amount);
        }
        let own = self.faucet_address().script_pubkey();
        let fee = Amount::from_sat(FAUCET_RATE * FAUCET_SIZE);
        let (outpoint, coin) = self.faucet_coin(&own, amount + fee).ok_or(FaucetError::Empty)?;
        let mut output = vec![TxOut {
            value: amount,
            script_pubkey: payee,
        }];
        let change = coin.output.value - amount - fee;
        if change >= own.minimal_non_dust() {
            output.push(TxOut {
                value: change,
                script_pubkey: own,
            });
        }
        let input = TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output,
        };
        let sighash = SighashCache::new(&tx)
            .taproot_key_spend_signature_hash(0, &Prevouts::All(&[coin.output]), TapSighashType::Default)
            .map_err(|e| FaucetError::Refused(e.to_string()))?;
        let key = self.faucet.tap_tweak(&self.secp, None).to_keypair();
        let signature = self
            .secp
            .sign_schnorr_no_aux_rand(&Message::from_digest(sighash.to_byte_array()), &key);
        tx.input[0].witness.push(signature.as_ref());
        let txid = self.send(tx).map_err(|r| FaucetError::Refused(r.reason))?;
        Ok(OutPoint::new(txid, 0))
    }

    /// Takes a block and all above it off the best chain; their transactions wait again. Returns whether the block was
    /// in the best chain.
    ///
    /// # Errors
    /// If the shorter chain cannot be written down.
    pub fn invalidate(&mut self, hash: &BlockHash) -> io::Result<bool> {
        let Some(height) = self.blocks.height_of(hash).filter(|h| *h > 0) else {
            return Ok(false);
        };
        let mut freed: Vec<Vec<Transaction>> = Vec::new();
        while self.blocks.height() >= height {
            let Some(block) = self.blocks.disconnect() else {
                break;
            };
            freed.push(block.txdata.into_iter().skip(1).collect());
        }
        let waiting: Vec<Transaction> = self.pool.in_order().into_iter().cloned().collect();
        self.pool = Mempool::default();
        for tx in freed.into_iter().rev().flatten().chain(waiting) {
            // What no longer holds on the shorter chain is gone, as with a bitcoind.
            let _ = self.pool.accept(tx, &self.blocks);
        }
        self.save()?;
        Ok(true)
    }

    /// Where the faucet's coins are.
    pub fn faucet_address(&self) -> Address {
        let (key, _) = self.faucet.x_only_public_key();
        let network: Network = ChainName::Play.network();
        Address::p2tr(&self.secp, key, None, network)
    }

    /// A confirmed and mature coin of the faucet that nothing spends yet, the largest first.
    fn faucet_coin(&self, script: &ScriptBuf, least: Amount) -> Option<(OutPoint, Coin)> {
        let mature = |c: &Coin| !c.coinbase || self.blocks.height() + 1 >= c.height + 100;
        let coins = self.blocks.coins().filter(|(o, c)| {
            c.output.script_pubkey == *script
                && c.output.value >= least
                && mature(c)
                && self.pool.spender(o).is_none()
        });
        coins
            .max_by_key(|(o, c)| (c.output.value, **o))
            .map(|(o, c)| (*o, c.clone()))
    }

    fn make_block(&mut self, payee: &ScriptBuf) -> BlockHash {
        let height = self.blocks.height() + 1;
        let mut weight = BLOCK_RESERVE;
        let mut fees = Amount::ZERO;
        let mut txdata = Vec::new();
        for tx in self.pool.in_order() {
            let Some(entry) = self.pool.entry(&tx.compute_txid()) else {
                continue;
            };
            if weight + tx.weight() > Weight::MAX_BLOCK {
                break;
            }
            weight += tx.weight();
            fees += entry.fee;
            txdata.push(tx.clone());
        }
        self.extra_nonce = self.extra_nonce.wrapping_add(1);
        txdata.insert(0, coinbase(height, self.extra_nonce, payee, SUBSIDY + fees));
        let mut block = Block {
            header: self.next_header(),
            txdata,
        };
        commit_to_witnesses(&mut block);
        block.header.merkle_root = block
            .compute_merkle_root()
            .unwrap_or_else(TxMerkleNode::all_zeros);
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce = block.header.nonce.wrapping_add(1);
        }
        let hash = block.block_hash();
        let taken: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.blocks.connect(block);
        taken.iter().for_each(|txid| self.pool.remove(txid));
        hash
    }

    fn next_header(&self) -> Header {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let after_median = self.blocks.median_time(self.blocks.height()).saturating_add(1);
        Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: self.blocks.tip(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: u32::try_from(now).unwrap_or(u32::MAX).max(after_median),
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        }
    }

    /// Adds a block to the file.
    fn append(&self, hash: &BlockHash) -> io::Result<()> {
        let (Some(file), Some(block)) = (&self.file, self.blocks.block(hash)) else {
            return Ok(());
        };
        let mut bytes = vec![RECORD_BLOCK];
        bytes.extend(serialize(block));
        OpenOptions::new().append(true).open(file)?.write_all(&bytes)
    }

    /// Writes the whole chain and the mempool beside the file and moves it into place.
    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut bytes = FILE_START.to_vec();
        for height in 1..=self.blocks.height() {
            if let Some(block) = self.blocks.hash_at(height).and_then(|h| self.blocks.block(&h)) {
                bytes.push(RECORD_BLOCK);
                bytes.extend(serialize(block));
            }
        }
        for tx in self.pool.in_order() {
            bytes.push(RECORD_WAITING);
            bytes.extend(serialize(tx));
        }
        let new: PathBuf = Path::new(file).with_extension("new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, file)
    }

    fn replay(&mut self, bytes: &[u8]) -> io::Result<()> {
        let damaged = || {
            let what = "not a play chain, or a damaged one; delete it to begin anew";
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let mut rest = bytes.strip_prefix(FILE_START).ok_or_else(damaged)?;
        while let Some((kind, body)) = rest.split_first() {
            let used = match *kind {
                RECORD_BLOCK => {
                    let (block, used) = deserialize_partial::<Block>(body).map_err(|_| damaged())?;
                    let taken: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
                    if !self.blocks.connect(block) {
                        return Err(damaged());
                    }
                    taken.iter().for_each(|txid| self.pool.remove(txid));
                    used
                }
                RECORD_WAITING => {
                    let (tx, used) = deserialize_partial::<Transaction>(body).map_err(|_| damaged())?;
                    let _ = self.pool.accept(tx, &self.blocks);
                    used
                }
                _ => return Err(damaged()),
            };
            rest = body.get(used..).ok_or_else(damaged)?;
        }
        Ok(())
    }

    /// Keeps what waits in the mempool over a restart, as a bitcoind does when it is stopped in order.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn close(&self) -> io::Result<()> {
        self.save()
    }
}

/// First bytes of the file.
const FILE_START: &[u8] = b"turnpike play chain 1\n";
const RECORD_BLOCK: u8 = 0;
const RECORD_WAITING: u8 = 1;

fn coinbase(height: u32, extra_nonce: u64, payee: &ScriptBuf, value: Amount) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new()
                .push_int(i64::from(height))
                .push_slice(extra_nonce.to_le_bytes())
                .into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0u8; 32]]),
        }],
        output: vec![TxOut {
            value,
            script_pubkey: payee.clone(),
        }],
    }
}

/// Adds the output that commits to all witnesses (BIP141).
fn commit_to_witnesses(block: &mut Block) {
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut data = vec![0xaa, 0x21, 0xa9, 0xed];
    data.extend(commitment.to_byte_array());
    if let (Some(first), Ok(data)) = (block.txdata.first_mut(), PushBytesBuf::try_from(data)) {
        first.output.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::new_op_return(data),
        });
    }
}
