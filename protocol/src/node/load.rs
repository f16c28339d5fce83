//! From rows on disk to a running node, and back: load, fold, restore.

use super::history::HistoryRecord;
use super::purchase::Buying;
use super::record::{
    ClientRecord, JournalEntry, LoadError, Meta, PeerRecord, ReceiptRecord, Table, Write, key_slot, node_key,
    put, read, slot_key,
};
use super::service::Client;
use super::{Action, Config, Node, RelayConfig, Selling};
use crate::base::limits::ACCEPT_BLOCKS;
use crate::base::{BlockHeight, FeeRate, Instant, Msat, NodeId, Sat, SheetHash, Slot};
use crate::crypto::{Digest, Keys, Role, Statement, Verifier, tagged_hash};
use crate::market::{Buyer, BuyerRecord, FreeAllowance, FreeRecord, Prices, SheetError};
use crate::money::channel::tx::recover;
use crate::money::channel::{Payee, PayeeRecord, PayeeState, Payer, PayerRecord, PayerState, Settler};
use crate::wire::{self, PriceSheet, Receipt, Signature};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Everything that the store holds.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// (table, key, value), in any order. Of receipts only those that no client has signed are needed.
    pub rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// Journal entries in the order in which they were appended.
    pub journal: Vec<Vec<u8>>,
    /// How often this store was opened, this time included.
    pub generation: u64,
    /// It came from a backup or from seed words (money.md rule 16).
    pub restored: bool,
}

/// Key of the counters' row.
const META_KEY: &[u8] = b"meta";
/// Key of the free allowance's row.
const FREE_KEY: &[u8] = b"free";

impl Node {
    /// Starts from what the store holds. The first actions watch every channel.
    ///
    /// `height` is the lowest height that the chain can have as far as the caller knows.
    ///
    /// # Errors
    /// [`LoadError`]; the store was not changed then.
    pub fn load(
        now: Instant,
        config: Config,
        keys: Keys,
        stored: &Rows,
        height: BlockHeight,
    ) -> Result<Node, LoadError> {
        let verifier = Verifier::new();
        let mut meta = Meta::default();
        let mut free = FreeRecord::default();
        let (mut payees, mut payers) = (BTreeMap::new(), BTreeMap::new());
        let (mut peers, mut clients, mut buyers) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut history = BTreeMap::new();
        let mut unanswered: Vec<(Receipt, ReceiptRecord)> = Vec::new();
        for (table, key, value) in &stored.rows {
            let corrupt = table.corrupt();
            match table {
                Table::Meta if key == META_KEY => meta = read(*table, value)?,
                Table::Meta if key == FREE_KEY => free = read(*table, value)?,
                Table::Meta => return Err(corrupt),
                Table::Payee => {
                    let record: PayeeRecord = read(*table, value)?;
                    payees.insert(key_slot(key).ok_or(corrupt)?, record);
                }
                Table::Payer => {
                    let record: PayerRecord = read(*table, value)?;
                    payers.insert(key_slot(key).ok_or(corrupt)?, record);
                }
                Table::Client => {
                    let record: ClientRecord = read(*table, value)?;
                    clients.push((node_key(key).ok_or(corrupt)?, record));
                }
                Table::Peer => {
                    let record: PeerRecord = read(*table, value)?;
                    peers.insert(node_key(key).ok_or(corrupt)?, record);
                }
                Table::Buyer => {
                    let record: BuyerRecord = read(*table, value)?;
                    buyers.push((node_key(key).ok_or(corrupt)?, record));
                }
                Table::History => {
                    let record: HistoryRecord = read(*table, value)?;
                    history.insert(key_slot(key).ok_or(corrupt)?, record);
                }
                Table::Receipt => {
                    let record: ReceiptRecord = read(*table, value)?;
                    if record.client.is_none() {
                        unanswered.push((
                            wire::decode::<Receipt>(&record.receipt).map_err(|_| corrupt)?,
                            record,
                        ));
                    }
                }
            }
        }
        let mut journalled = BTreeSet::new();
        for line in &stored.journal {
            let entry: JournalEntry =
                wire::decode(line).map_err(|_| LoadError::Corrupt { about: "a payment" })?;
            if entry.slot.0 >= meta.next_slot {
                return Err(LoadError::Corrupt { about: "a payment" });
            }
            // A row that was removed since: its channel was over.
            let Some(record) = payees.get_mut(&entry.slot) else {
                continue;
            };
            // A channel that was lost stays lost.
            if entry.total > record.total && record.state != PayeeState::Over {
                record.total = entry.total;
                record.signature = entry.signature;
                journalled.insert(entry.slot);
            }
        }
        let terms = |slot: &Slot| LoadError::Terms { slot: slot.0 };
        let mut machines = BTreeMap::new();
        for (slot, record) in payees {
            let record = if stored.restored {
                Payee::restored(record)
            } else {
                record
            };
            machines.insert(
                slot,
                Payee::load(slot, record, &verifier).map_err(|_| terms(&slot))?,
            );
        }
        let mut node = Node {
            settler: Settler::new(config.payout.clone()),
            minimum: config.minimum,
            addresses: Vec::new(),
            free: FreeAllowance::restore(
                free,
                config.relay.as_ref().map_or(Default::default(), |r| r.free_total),
                now,
            ),
            keys,
            verifier,
            generation: stored.generation,
            meta,
            height,
            lit: false,
            rate: FeeRate::MIN_RELAY,
            selling: None,
            gate_down: false,
            detaching: BTreeMap::new(),
            payees: machines,
            payers: BTreeMap::new(),
            history,
            journalled,
            settle_queue: Vec::new(),
            connections: BTreeMap::new(),
            peers,
            clients: BTreeMap::new(),
            buyers: BTreeMap::new(),
            attachments: BTreeMap::new(),
            asks: BTreeMap::new(),
            unused_keys: Vec::new(),
            actions: VecDeque::new(),
            config,
        };
        for (slot, record) in payers {
            let payer = Payer::load(slot, record, &node.verifier).map_err(|_| terms(&slot))?;
            node.payers.insert(slot, payer);
        }
        if stored.restored {
            let writes: Vec<Write> = node
                .payees
                .iter()
                .map(|(s, p)| put(Table::Payee, &slot_key(*s), p.record()))
                .collect();
            writes.into_iter().for_each(|w| node.persist(w));
        }
        if let Some(relay) = node.config.relay {
            // Refused prices leave the relay closed, not the node down: the caller has checked them before.
            if node.sell(relay).is_err() {
                crate::warn!("the configured prices are refused: nothing is sold");
            }
        }
        for (id, record) in clients {
            let mut client = Client::load(now, record, &node.config);
            // The client may have signed these bytes already: it takes no others under their number.
            let offered = |r: &Receipt| {
                record.account.receipt.open
                    && r.client == id
                    && r.sequence == record.account.receipt.sequence
                    && record
                        .account
                        .channel
                        .is_some_and(|base| base.channel == r.channel)
            };
            client.offered = unanswered
                .iter()
                .find(|(r, _)| r.relay == node.id() && offered(r))
                .map(|(_, kept)| kept.clone());
            if let Some(gate) = client.gate {
                // After a crash the kernel's table still counts this client: the shell reads it and reports it.
                node.attachments.insert(gate, id);
            }
            node.clients.insert(id, client);
            node.compare_totals(now, id);
        }
        for (relay, record) in buyers {
            node.buyers.insert(
                relay,
                Buying::new(Buyer::restore(node.config.buyer, relay, node.id(), record, now)),
            );
        }
        node.retire_leftovers();
        node.sheet_changed(now);
        node.watch_all();
        Ok(node)
    }

    fn watch_all(&mut self) {
        let payees: Vec<(Slot, PayeeState)> =
            self.payees.iter().map(|(s, p)| (*s, p.record().state)).collect();
        for (slot, state) in payees {
            if state != PayeeState::Over {
                self.watch_payee(slot);
            }
            // The settler keeps nothing on disk: what is closing goes to it again with the first block seen.
            if matches!(
                state,
                PayeeState::Closing | PayeeState::Spent { height: None, .. }
            ) {
                self.settle_queue.push(slot);
            }
        }
        let payers: Vec<(Slot, PayerState)> =
            self.payers.iter().map(|(s, p)| (*s, p.record().state)).collect();
        for (slot, state) in payers {
            match state {
                PayerState::Over => {}
                // Its funding was never signed: the wallet is asked again only by the owner.
                PayerState::Accepted => {
                    let _ = self.payer(slot, crate::money::channel::PayerInput::Abandon);
                }
                _ => self.watch_payer(slot),
            }
        }
    }

    /// Starts selling by this configuration, or changes it: signs a new sheet.
    pub(super) fn sell(&mut self, relay: RelayConfig) -> Result<(), SheetError> {
        let version = self.meta.sheet_version.saturating_add(1);
        let valid_until = self.height.plus(crate::base::limits::MAX_SHEET_BLOCKS);
        let sheet = PriceSheet {
            version,
            valid_until,
            ..relay.sheet
        };
        let prices = Prices::check(&sheet, self.height)?;
        let bytes = wire::encode(&sheet);
        let hash = sheet_hash(&bytes);
        let signature = Signature(
            self.keys
                .sign(&sheet_digest(self.config.genesis, self.id(), &bytes))
                .serialize(),
        );
        let sheet_id = self.selling.as_ref().map_or(0, |s| s.sheet_id.wrapping_add(1));
        self.selling = Some(Selling {
            config: relay,
            prices,
            sheet_id,
            bytes,
            hash,
            signature,
        });
        self.meta.sheet_version = version;
        self.persist_meta();
        Ok(())
    }

    /// Takes up the channels of this seed that the store knows nothing of: it was made from the seed words alone, or
    /// from a backup that is older than they are. Who is paid in them, and how much, is not known: they are refunded
    /// at their expiry, unless the payee settles before (money.md rule 3).
    pub(super) fn recover(&mut self, raw: &[u8], height: BlockHeight) {
        let Ok(tx) = bitcoin::consensus::encode::deserialize::<bitcoin::Transaction>(raw) else {
            return;
        };
        let keys = &self.keys;
        let payer_key = |index| match keys.channel(Role::Payer, index) {
            Ok(keys) => keys.funding.x_only_public_key().0.serialize(),
            // No script is built from it.
            Err(_) => [0; 32],
        };
        for found in recover(
            self.verifier.context(),
            keys.recovery().as_bytes(),
            &tx,
            payer_key,
        ) {
            let known = |p: &Payer| p.record().outpoint == Some(found.outpoint);
            let ended = |h: &HistoryRecord| !h.payee && h.outpoint == Some(found.outpoint);
            if self.payers.values().any(known) || self.history.values().any(ended) {
                continue;
            }
            let record = PayerRecord {
                peer: NodeId::from_bytes([0; 32]),
                terms: found.terms,
                key_index: found.key_index,
                accepted_at: height,
                accept_until: height.plus(ACCEPT_BLOCKS),
                acceptance: Signature([0; 64]),
                outpoint: Some(found.outpoint),
                funding_tx: raw.to_vec(),
                funding_fee: Sat::ZERO,
                funded_at: Some(height),
                total: Msat::ZERO,
                acknowledged: Msat::ZERO,
                remainder: None,
                state: PayerState::Open,
            };
            let Some(next_slot) = self.meta.next_slot.checked_add(1) else {
                continue;
            };
            let slot = Slot(self.meta.next_slot);
            let write = put(Table::Payer, &slot_key(slot), &record);
            let Ok(payer) = Payer::load(slot, record, &self.verifier) else {
                continue;
            };
            self.meta.next_slot = next_slot;
            // A key serves one channel.
            self.meta.next_payer_key = self.meta.next_payer_key.max(found.key_index.saturating_add(1));
            self.persist_meta();
            self.persist(write);
            self.payers.insert(slot, payer);
            self.watch_payer(slot);
        }
    }

    pub(super) fn persist_meta(&mut self) {
        let write = put(Table::Meta, META_KEY, &self.meta);
        self.persist(write);
    }

    pub(super) fn persist_free(&mut self) {
        let write = put(Table::Meta, FREE_KEY, self.free.record());
        self.persist(write);
    }

    /// Rows that hold everything that only the journal holds now: write them and empty the journal in one
    /// transaction, after all actions were done.
    pub fn fold(&mut self) -> Vec<Write> {
        debug_assert!(
            !self.actions.iter().any(|a| matches!(a, Action::Persist(_))),
            "drain the actions first"
        );
        let slots = core::mem::take(&mut self.journalled);
        slots
            .iter()
            .filter_map(|s| Some(put(Table::Payee, &slot_key(*s), self.payees.get(s)?.record())))
            .collect()
    }
}

/// What names a sheet in receipts: tag `turnpike/sheet-hash/v1` over its bytes.
pub(super) fn sheet_hash(bytes: &[u8]) -> SheetHash {
    SheetHash::from_bytes(tagged_hash("turnpike/sheet-hash/v1", &[bytes]))
}

/// What a relay signs under a sheet: for everyone, of no channel.
pub(super) fn sheet_digest(genesis: crate::base::GenesisHash, relay: NodeId, bytes: &[u8]) -> Digest {
    Statement {
        kind: "sheet",
        genesis,
        signer: relay,
        peer: [0; 32],
        instance: [0; 32],
        body: bytes,
    }
    .digest()
}
