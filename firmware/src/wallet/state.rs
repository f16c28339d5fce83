//! The wallet's state: opened from its journal, fed with blocks, asked for addresses and balances.

use super::WalletError;
use super::journal::Entry;
use bdk_wallet::chain::{BlockId, ChainPosition};
use bdk_wallet::descriptor::IntoWalletDescriptor;
use bdk_wallet::signer::SignersContainer;
use bdk_wallet::{KeychainKind, LocalOutput, Update};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, Block, BlockHash, Network, NetworkKind, OutPoint, Transaction, Txid};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use turnpike_protocol::base::{Sat, Slot};

/// Blocks until a coinbase output can be spent (a consensus rule).
const COINBASE_MATURITY: u32 = 100;

/// Whose coins they are and on which chain. Secret: neither printed nor logged.
#[derive(Clone, Copy)]
pub struct WalletKeys<'a> {
    /// Descriptor of receiving addresses with its secret key, such as `tr([fp/86'/0'/0']xprv…/0/*)`.
    pub external: &'a str,
    /// Descriptor of change addresses with its secret key, such as `tr([fp/86'/0'/0']xprv…/1/*)`.
    pub internal: &'a str,
    /// The chain's address format.
    pub network: Network,
    /// The chain's first block; a play chain has its own.
    pub genesis: BlockHash,
    /// Seals the recovery data of fundings (money.md rule 3).
    pub recovery: &'a [u8; 32],
}

/// What the wallet holds, each coin counted once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// Confirmed, mature and not reserved: what fundings can use.
    pub confirmed: Sat,
    /// In the mempool only, or a young coinbase.
    pub unconfirmed: Sat,
    /// Set aside for channels that are being funded or closed.
    pub reserved: Sat,
}

/// An on-chain wallet.
///
/// Call order: [`Wallet::open`]; [`Wallet::start_at`] once for a new one; then every block in order, mempool
/// transactions as they are seen, and whatever the owner asks for. After any call [`Wallet::take_changes`] gives
/// what must be persisted before the result is acted on.
pub struct Wallet {
    pub(super) bdk: bdk_wallet::Wallet,
    pub(super) signers: [SignersContainer; 2],
    pub(super) recovery: [u8; 32],
    pub(super) reserved: BTreeMap<u32, Vec<OutPoint>>,
    changed: BTreeMap<u32, Vec<OutPoint>>,
    /// Orders sightings of unconfirmed transactions. Not the time: a node may have no clock.
    clock: u64,
}

impl Wallet {
    /// Opens the wallet from its journal, oldest entry first; an empty journal makes a new wallet.
    ///
    /// # Errors
    /// [`WalletError::Descriptor`], or [`WalletError::Journal`] where the journal is damaged or of other keys.
    pub fn open(keys: &WalletKeys<'_>, journal: &[impl AsRef<[u8]>]) -> Result<Self, WalletError> {
        let unusable = |e: &dyn fmt::Display| WalletError::Descriptor(e.to_string());
        let secp = Secp256k1::new();
        let kind = NetworkKind::from(keys.network);
        let mut public = Vec::new();
        let mut signers = Vec::new();
        for descriptor in [keys.external, keys.internal] {
            let (descriptor, secrets) = descriptor
                .into_wallet_descriptor(&secp, kind)
                .map_err(|e| unusable(&e))?;
            if secrets.is_empty() {
                return Err(unusable(&"no secret key in it"));
            }
            signers.push(SignersContainer::build(secrets, &descriptor, &secp));
            public.push(descriptor);
        }
        let (Ok([external, internal]), Ok(signers)) =
            (<[_; 2]>::try_from(public), <[_; 2]>::try_from(signers))
        else {
            return Err(unusable(&"not a pair"));
        };

        let entry = Entry::read(journal)?;
        let seen = entry
            .bdk
            .tx_graph
            .last_seen
            .values()
            .chain(entry.bdk.tx_graph.last_evicted.values());
        let clock = seen.copied().max().unwrap_or(0);
        let loaded = bdk_wallet::Wallet::load()
            .descriptor(KeychainKind::External, Some(external.clone()))
            .descriptor(KeychainKind::Internal, Some(internal.clone()))
            .check_network(keys.network)
            .check_genesis_hash(keys.genesis)
            .load_wallet_no_persist(entry.bdk)
            .map_err(|e| WalletError::Journal(e.to_string()))?;
        let bdk = match loaded {
            Some(bdk) => bdk,
            None => bdk_wallet::Wallet::create(external, internal)
                .network(keys.network)
                .genesis_hash(keys.genesis)
                .create_wallet_no_persist()
                .map_err(|e| unusable(&e))?,
        };
        let (recovery, reserved) = (*keys.recovery, entry.reserved);
        Ok(Wallet {
            bdk,
            signers,
            recovery,
            reserved,
            changed: BTreeMap::new(),
            clock,
        })
    }

    /// What must be persisted now, as one journal entry; `None` if nothing changed since the last call.
    ///
    /// # Errors
    /// [`WalletError::Journal`] if the changes cannot be written down. Our mistake; stop rather than go on.
    pub fn take_changes(&mut self) -> Result<Option<Vec<u8>>, WalletError> {
        let entry = Entry {
            bdk: self.bdk.take_staged().unwrap_or_default(),
            reserved: std::mem::take(&mut self.changed),
        };
        if entry.is_empty() {
            Ok(None)
        } else {
            entry.to_bytes().map(Some)
        }
    }

    /// Whether there is something to persist.
    pub fn has_changes(&self) -> bool {
        self.bdk.staged().is_some() || !self.changed.is_empty()
    }

    /// Height of the last block that the wallet saw.
    pub fn height(&self) -> u32 {
        self.bdk.latest_checkpoint().height()
    }

    /// Whether the wallet knows this block as part of its chain.
    pub fn knows(&self, height: u32, hash: BlockHash) -> bool {
        self.bdk
            .latest_checkpoint()
            .get(height)
            .is_some_and(|c| c.hash() == hash)
    }

    /// Begins at a block instead of at the first one; earlier payments are not seen. Later blocks connect to it.
    ///
    /// # Errors
    /// [`WalletError::Disconnected`] if the block contradicts what the wallet knows.
    pub fn start_at(&mut self, height: u32, hash: BlockHash) -> Result<(), WalletError> {
        let chain = self.bdk.latest_checkpoint().insert(BlockId { height, hash });
        self.bdk
            .apply_update(Update {
                chain: Some(chain),
                ..Update::default()
            })
            .map_err(|_| WalletError::Disconnected { height })
    }

    /// Takes note of the next block, or of one that replaces blocks from its height on.
    ///
    /// # Errors
    /// [`WalletError::Disconnected`] if the block before it is unknown.
    pub fn apply_block(&mut self, block: &Block, height: u32) -> Result<(), WalletError> {
        self.bdk
            .apply_block(block, height)
            .map_err(|_| WalletError::Disconnected { height })
    }

    /// Takes note of a mempool transaction. One that does not concern the wallet changes nothing.
    pub fn apply_unconfirmed(&mut self, tx: &Transaction) {
        self.clock += 1;
        self.bdk.apply_unconfirmed_txs([(tx.clone(), self.clock)]);
    }

    /// Ids of the wallet's transactions that wait for a block.
    pub fn unconfirmed(&self) -> Vec<Txid> {
        let all = self.bdk.transactions();
        let waiting = all.filter(|tx| matches!(tx.chain_position, ChainPosition::Unconfirmed { .. }));
        waiting.map(|tx| tx.tx_node.txid).collect()
    }

    /// These left the mempool without entering a block: what they spent can be spent again.
    pub fn drop_unconfirmed(&mut self, gone: &[Txid]) {
        self.clock += 1;
        self.bdk
            .apply_evicted_txs(gone.iter().map(|txid| (*txid, self.clock)));
    }

    /// A receiving address that nobody has paid to yet.
    pub fn address(&mut self) -> Address {
        self.bdk.next_unused_address(KeychainKind::External).address
    }

    /// A change address that nothing has paid to yet, for the payee's output of a settlement.
    pub fn change_address(&mut self) -> Address {
        self.bdk.next_unused_address(KeychainKind::Internal).address
    }

    /// What the wallet holds.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for coin in self.bdk.list_unspent() {
            let part = match () {
                () if self.bdk.is_outpoint_locked(coin.outpoint) => &mut balance.reserved,
                () if self.is_spendable(&coin) => &mut balance.confirmed,
                () => &mut balance.unconfirmed,
            };
            *part = part.saturating_add(Sat::new(coin.txout.value.to_sat()));
        }
        balance
    }

    /// Gives back the coins that were set aside for a channel; nothing happens if there are none.
    pub fn release(&mut self, slot: Slot) {
        if let Some(coins) = self.reserved.remove(&slot.0) {
            coins.iter().for_each(|coin| self.bdk.unlock_outpoint(*coin));
            self.changed.insert(slot.0, Vec::new());
        }
    }

    /// Sets coins aside for a channel, in addition to those already set aside for it.
    pub(super) fn set_aside(&mut self, slot: Slot, coins: impl IntoIterator<Item = OutPoint>) {
        let reserved = self.reserved.entry(slot.0).or_default();
        for coin in coins {
            self.bdk.lock_outpoint(coin);
            reserved.push(coin);
        }
        self.changed.insert(slot.0, reserved.clone());
    }

    /// Confirmed, mature, unreserved coins, the largest first.
    pub(super) fn spendable(&self) -> Vec<LocalOutput> {
        let free = |c: &LocalOutput| !self.bdk.is_outpoint_locked(c.outpoint) && self.is_spendable(c);
        let mut coins: Vec<LocalOutput> = self.bdk.list_unspent().filter(free).collect();
        coins.sort_by_key(|c| (std::cmp::Reverse(c.txout.value), c.outpoint));
        coins
    }

    /// Coins that a transaction of ours must not touch: unconfirmed or reserved.
    pub(super) fn untouchable(&self) -> Vec<OutPoint> {
        let free: HashSet<OutPoint> = self.spendable().iter().map(|c| c.outpoint).collect();
        self.bdk
            .list_unspent()
            .map(|c| c.outpoint)
            .filter(|o| !free.contains(o))
            .collect()
    }

    fn is_spendable(&self, coin: &LocalOutput) -> bool {
        let ChainPosition::Confirmed { anchor, .. } = coin.chain_position else {
            return false;
        };
        let confirmations = self
            .height()
            .saturating_add(1)
            .saturating_sub(anchor.block_id.height);
        let coinbase = self
            .bdk
            .get_tx(coin.outpoint.txid)
            .is_some_and(|tx| tx.tx_node.tx.is_coinbase());
        !coinbase || confirmations >= COINBASE_MATURITY
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet(height {}, {:?})", self.height(), self.balance())
    }
}
