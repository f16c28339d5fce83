//! The narrow trait that every source of chain data fulfils, and what can go wrong with one.

use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use turnpike_protocol::base::FeeRate;

/// Where chain data comes from: a bitcoind or the play chain today, Electrum and mesh headers later.
///
/// Every method is one question and keeps no state. None of them waits longer than the back end's own timeout.
pub trait Backend: Send + Sync {
    /// The best block.
    fn tip(&self) -> impl Future<Output = Result<Tip, BackendError>> + Send;

    /// Hash of the best chain's block at `height`; `None` above the tip.
    fn block_hash(&self, height: u32)
    -> impl Future<Output = Result<Option<BlockHash>, BackendError>> + Send;

    /// A whole block. Also one that left the best chain, while the back end still has it.
    fn block(&self, hash: BlockHash) -> impl Future<Output = Result<Block, BackendError>> + Send;

    /// Ids of all unconfirmed transactions that the back end would relay.
    fn mempool(&self) -> impl Future<Output = Result<Vec<Txid>, BackendError>> + Send;

    /// Unconfirmed transactions by id; those that left the mempool meanwhile are missing from the answer.
    /// At most [`MAX_BATCH`] ids.
    fn mempool_transactions(
        &self,
        txids: &[Txid],
    ) -> impl Future<Output = Result<Vec<Transaction>, BackendError>> + Send;

    /// For each output the unconfirmed transaction that spends it, if there is one. At most [`MAX_BATCH`] outputs.
    fn mempool_spenders(
        &self,
        outputs: &[OutPoint],
    ) -> impl Future<Output = Result<Vec<Option<Txid>>, BackendError>> + Send;

    /// Offers a transaction to the network. A refusal is an answer, not an error.
    fn send(&self, tx: &Transaction) -> impl Future<Output = Result<Verdict, BackendError>> + Send;

    /// What confirmation within about `blocks` blocks costs now.
    fn fee(&self, blocks: u16) -> impl Future<Output = Result<FeeEstimate, BackendError>> + Send;

    /// An unspent output, confirmed or not; `None` if it never was or is spent (also in the mempool).
    fn output(
        &self,
        output: OutPoint,
    ) -> impl Future<Output = Result<Option<UnspentOutput>, BackendError>> + Send;
}

/// Most ids or outputs in one question, so that 1 MB of answer is typical and no answer outgrows its limit.
pub const MAX_BATCH: usize = 50;

/// A block of the best chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// What the back end said to a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in the mempool now, or was there already.
    Accepted,
    /// It is in a block of the best chain.
    Confirmed,
    /// It is not in the mempool and will not be relayed, for the back end's stated reason.
    Refused {
        /// The back end's own words, such as `min relay fee not met, 1 < 110`.
        reason: String,
    },
}

/// An answer to [`Backend::fee`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeeEstimate {
    /// The estimate; `None` while the back end has seen too few blocks to make one.
    pub rate: Option<FeeRate>,
    /// The least that the mempool takes at the moment.
    pub floor: FeeRate,
}

/// An answer to [`Backend::output`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnspentOutput {
    /// Its value.
    pub value: Amount,
    /// Its script.
    pub script: ScriptBuf,
    /// Blocks on top, its own included; 0 while it is in the mempool.
    pub confirmations: u32,
}

/// A question that got no answer. The money is as safe as before: nothing was changed, heights known so far stay a
/// minimum, and the caller asks again later.
#[derive(Debug, thiserror::Error)]
#[error("{method} at {url}: {fault}")]
pub struct BackendError {
    /// Where the question went, without credentials.
    pub url: String,
    /// The question.
    pub method: &'static str,
    /// Why there is no answer.
    pub fault: Fault,
}

/// Why there is no answer, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The address in the configuration cannot be used.
    #[error("not a usable address ({0}); write http://HOST:PORT, TLS is not spoken: use a tunnel")]
    Address(&'static str),
    /// The cookie file cannot be read.
    #[error(
        "cannot read the cookie file {path}: {why}; is bitcoind running, and may this user read its files?"
    )]
    Cookie {
        /// The configured file.
        path: PathBuf,
        /// The system's reason.
        why: std::io::Error,
    },
    /// No connection, or it broke.
    #[error("cannot be reached: {0}; is bitcoind running there with -server=1?")]
    Unreachable(std::io::Error),
    /// No answer in time.
    #[error(
        "no answer within {0:?}; the node may be busy verifying blocks, the question is asked again later"
    )]
    Slow(Duration),
    /// User and password were refused, also after reading the cookie again.
    #[error("refused user and password; check the cookie file or rpcuser and rpcpassword")]
    Unauthorised,
    /// The node runs but does not answer questions yet or has too many of them.
    #[error("not ready: {0}; the question is asked again later")]
    NotReady(String),
    /// The answer is longer than any honest one.
    #[error("the answer exceeds {0} bytes; this is not a Bitcoin node, or a hostile one")]
    TooLong(usize),
    /// The answer makes no sense.
    #[error("answer not understood: {0}; is this a bitcoind of version 24 or newer?")]
    Garbled(String),
    /// A pruned node threw away a block that is needed.
    #[error("the block was pruned: {0}; use a node without -prune, or with a larger one")]
    Pruned(String),
    /// It follows another chain.
    #[error(
        "wrong chain: its first block is {found:?}, ours {expected}; check the network in both configurations"
    )]
    WrongChain {
        /// First block of the configured chain.
        expected: BlockHash,
        /// First block of the back end's.
        found: Option<BlockHash>,
    },
    /// The node refused the question.
    #[error("error {code}: {message}")]
    Refused {
        /// The JSON-RPC error code.
        code: i64,
        /// The node's own words.
        message: String,
    },
}

impl BackendError {
    /// Whether asking again later can help without anybody changing the configuration.
    pub fn passes(&self) -> bool {
        matches!(
            self.fault,
            Fault::Unreachable(_) | Fault::Slow(_) | Fault::NotReady(_) | Fault::Cookie { .. }
        )
    }
}
