//! What is watched and what was seen of it: pure bookkeeping, fed with transactions by the follower.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{OutPoint, Script, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use turnpike_protocol::base::{BlockHeight, Outpoint, Sat, Slot, Txid};
use turnpike_protocol::money::chain::ChainEvent;

/// Outputs remembered per watched script. The channel is bound by the first confirmed one; the rest are only
/// refundable, and each costs its sender a dust limit and a fee.
const MAX_SIGHTINGS: usize = 64;

/// All watched scripts with everything seen of them. Serialised as a whole into the follower's state.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Watches {
    watches: BTreeMap<Slot, Watch>,
    /// Raw transactions that spend a sighted output, each once though a batch spends many.
    spenders: BTreeMap<Txid, Vec<u8>>,
    #[serde(skip)]
    by_key: HashMap<[u8; 32], Slot>,
    #[serde(skip)]
    by_outpoint: HashMap<Outpoint, Slot>,
}

#[derive(Serialize, Deserialize)]
struct Watch {
    key: [u8; 32],
    from: u32,
    sightings: Vec<Sighting>,
}

#[derive(Serialize, Deserialize)]
struct Sighting {
    outpoint: Outpoint,
    value: Sat,
    height: Option<u32>,
    /// Its block left the best chain, and it was not seen since: whatever comes next is news.
    void: bool,
    spend: Option<Spend>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Spend {
    txid: Txid,
    height: Option<u32>,
}

impl Watches {
    /// Rebuilds what is not serialised; call after deserialising.
    pub(super) fn index(&mut self) {
        self.by_key = self.watches.iter().map(|(slot, w)| (w.key, *slot)).collect();
        let outpoints = self
            .watches
            .iter()
            .flat_map(|(slot, w)| w.sightings.iter().map(|s| (s.outpoint, *slot)));
        self.by_outpoint = outpoints.collect();
    }

    /// Starts watching. Returns whether blocks from `from` on must be looked at again: not if the same watch was
    /// already here, whose sightings are then repeated by [`Watches::repeat`].
    pub(super) fn add(&mut self, slot: Slot, key: [u8; 32], from: u32) -> bool {
        match self.watches.get(&slot) {
            Some(known) if known.key == key && known.from <= from => return false,
            Some(_) => self.remove(slot),
            None => {}
        }
        self.by_key.insert(key, slot);
        self.watches.insert(
            slot,
            Watch {
                key,
                from,
                sightings: Vec::new(),
            },
        );
        true
    }

    /// Stops watching.
    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(watch) = self.watches.remove(&slot) {
            self.by_key.remove(&watch.key);
            for sighting in watch.sightings {
                self.by_outpoint.remove(&sighting.outpoint);
            }
            self.forget_spenders();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Takes note of a transaction in the block at `height`, or in the mempool. Returns what is new.
    pub(super) fn see(&mut self, tx: &Transaction, height: Option<u32>) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        let mut id = None;
        for input in &tx.input {
            let outpoint = Outpoint::from(input.previous_output);
            if let Some(slot) = self.by_outpoint.get(&outpoint).copied() {
                let txid = *id.get_or_insert_with(|| Txid::from_bytes(tx.compute_txid().to_byte_array()));
                self.see_spend(slot, outpoint, txid, tx, height, &mut events);
            }
        }
        for (vout, output) in (0u32..).zip(&tx.output) {
            let Some(slot) = taproot_key(&output.script_pubkey)
                .and_then(|key| self.by_key.get(&key))
                .copied()
            else {
                continue;
            };
            let txid = *id.get_or_insert_with(|| Txid::from_bytes(tx.compute_txid().to_byte_array()));
            let value = Sat::new(output.value.to_sat());
            self.see_funding(slot, Outpoint { txid, vout }, value, height, &mut events);
        }
        events
    }

    fn see_funding(
        &mut self,
        slot: Slot,
        outpoint: Outpoint,
        value: Sat,
        height: Option<u32>,
        events: &mut Vec<ChainEvent>,
    ) {
        let Some(watch) = self.watches.get_mut(&slot) else {
            return;
        };
        let full = watch.sightings.len() >= MAX_SIGHTINGS;
        match watch.sightings.iter_mut().find(|s| s.outpoint == outpoint) {
            Some(known) if known.height == height && !known.void => return,
            // A copy in the mempool says nothing about one in a block.
            Some(known) if known.height.is_some() && height.is_none() => return,
            Some(known) => (known.height, known.void) = (height, false),
            None if full => {
                tracing::warn!(slot = slot.0, %outpoint.txid, "over {MAX_SIGHTINGS} payments to one channel, ignored");
                return;
            }
            None => {
                watch.sightings.push(Sighting {
                    outpoint,
                    value,
                    height,
                    void: false,
                    spend: None,
                });
                self.by_outpoint.insert(outpoint, slot);
            }
        }
        events.push(funded(slot, outpoint, value, height));
    }

    fn see_spend(
        &mut self,
        slot: Slot,
        outpoint: Outpoint,
        txid: Txid,
        tx: &Transaction,
        height: Option<u32>,
        events: &mut Vec<ChainEvent>,
    ) {
        let sighting = self
            .watches
            .get_mut(&slot)
            .and_then(|w| w.sightings.iter_mut().find(|s| s.outpoint == outpoint));
        let Some(sighting) = sighting else { return };
        let spend = Spend { txid, height };
        let settled = sighting.spend.is_some_and(|s| s.height.is_some()) && height.is_none();
        if sighting.spend == Some(spend) || settled {
            return;
        }
        sighting.spend = Some(spend);
        let raw = bitcoin::consensus::serialize(tx);
        self.spenders.insert(txid, raw.clone());
        self.forget_spenders();
        events.push(ChainEvent::Spent {
            slot,
            outpoint,
            txid,
            tx: raw,
            height: height.map(BlockHeight::new),
        });
    }

    /// Blocks above `height` left the best chain: what was seen in them counts as unconfirmed until seen again.
    pub(super) fn rewind(&mut self, height: u32) {
        for sighting in self.watches.values_mut().flat_map(|w| &mut w.sightings) {
            if sighting.height.is_some_and(|h| h > height) {
                (sighting.height, sighting.void) = (None, true);
            }
            if sighting
                .spend
                .is_some_and(|s| s.height.is_some_and(|h| h > height))
            {
                sighting.spend = None;
            }
        }
        self.forget_spenders();
    }

    /// Sighted outputs without a confirmed spend, for asking who spends them in the mempool.
    pub(super) fn unspent(&self) -> Vec<OutPoint> {
        let sightings = self.watches.values().flat_map(|w| &w.sightings);
        sightings
            .filter(|s| s.spend.is_none_or(|s| s.height.is_none()))
            .map(|s| s.outpoint.into())
            .collect()
    }

    /// Whether this unconfirmed spend was reported already.
    pub(super) fn knows_spend(&self, outpoint: OutPoint, txid: bitcoin::Txid) -> bool {
        let (outpoint, txid) = (Outpoint::from(outpoint), Txid::from_bytes(txid.to_byte_array()));
        let watch = self
            .by_outpoint
            .get(&outpoint)
            .and_then(|slot| self.watches.get(slot));
        let sighting = watch.and_then(|w| w.sightings.iter().find(|s| s.outpoint == outpoint));
        sighting.is_some_and(|s| s.spend.is_some_and(|s| s.txid == txid))
    }

    /// An unconfirmed spend left the mempool: the next one is news again. Returns whether there was one.
    pub(super) fn unspend(&mut self, outpoint: OutPoint) -> bool {
        let outpoint = Outpoint::from(outpoint);
        let watch = self
            .by_outpoint
            .get(&outpoint)
            .and_then(|slot| self.watches.get_mut(slot));
        let sighting = watch.and_then(|w| w.sightings.iter_mut().find(|s| s.outpoint == outpoint));
        match sighting.filter(|s| s.spend.is_some_and(|s| s.height.is_none())) {
            Some(sighting) => {
                sighting.spend = None;
                self.forget_spenders();
                true
            }
            None => false,
        }
    }

    /// Whether a transaction that spends a sighted output is in a block.
    pub(super) fn has_confirmed(&self, txid: bitcoin::Txid) -> bool {
        let txid = Txid::from_bytes(txid.to_byte_array());
        let mut sightings = self.watches.values().flat_map(|w| &w.sightings);
        sightings.any(|s| {
            let funding = s.outpoint.txid == txid && s.height.is_some();
            funding || s.spend.is_some_and(|s| s.txid == txid && s.height.is_some())
        })
    }

    /// Whether an unconfirmed funding is not in `mempool`.
    pub(super) fn misses(&self, mempool: &HashSet<bitcoin::Txid>) -> bool {
        let mut sightings = self.watches.values().flat_map(|w| &w.sightings);
        sightings.any(|s| {
            s.height.is_none()
                && !mempool.contains(&bitcoin::Txid::from_byte_array(*s.outpoint.txid.as_bytes()))
        })
    }

    /// Drops unconfirmed fundings that are not in `mempool`, a list taken while the chain stood at the follower's
    /// position. Reports each as gone.
    pub(super) fn drop_vanished(&mut self, mempool: &HashSet<bitcoin::Txid>) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        for (slot, watch) in &mut self.watches {
            watch.sightings.retain(|s| {
                let txid = bitcoin::Txid::from_byte_array(*s.outpoint.txid.as_bytes());
                let keep = s.height.is_some() || mempool.contains(&txid);
                if !keep {
                    events.push(ChainEvent::Unfunded {
                        slot: *slot,
                        outpoint: s.outpoint,
                    });
                    self.by_outpoint.remove(&s.outpoint);
                }
                keep
            });
        }
        self.forget_spenders();
        events
    }

    /// All sightings once more, of one slot or of all; those of a reorganisation that were not seen since are void.
    pub(super) fn repeat(&self, only: Option<Slot>) -> Vec<ChainEvent> {
        let mut events = Vec::new();
        for (slot, watch) in self
            .watches
            .iter()
            .filter(|(slot, _)| only.is_none_or(|o| o == **slot))
        {
            for s in watch.sightings.iter().filter(|s| !s.void) {
                events.push(funded(*slot, s.outpoint, s.value, s.height));
                if let Some((spend, tx)) = s
                    .spend
                    .and_then(|spend| Some((spend, self.spenders.get(&spend.txid)?)))
                {
                    events.push(ChainEvent::Spent {
                        slot: *slot,
                        outpoint: s.outpoint,
                        txid: spend.txid,
                        tx: tx.clone(),
                        height: spend.height.map(BlockHeight::new),
                    });
                }
            }
        }
        events
    }

    fn forget_spenders(&mut self) {
        if self.spenders.is_empty() {
            return;
        }
        let sightings = self.watches.values().flat_map(|w| &w.sightings);
        let used: HashSet<Txid> = sightings.filter_map(|s| s.spend.map(|s| s.txid)).collect();
        self.spenders.retain(|txid, _| used.contains(txid));
    }
}

fn funded(slot: Slot, outpoint: Outpoint, value: Sat, height: Option<u32>) -> ChainEvent {
    ChainEvent::Funded {
        slot,
        outpoint,
        value,
        height: height.map(BlockHeight::new),
    }
}

/// The output key of a taproot output.
fn taproot_key(script: &Script) -> Option<[u8; 32]> {
    match script.as_bytes() {
        [version, 32, key @ ..] if *version == OP_PUSHNUM_1.to_u8() => key.try_into().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, ScriptBuf, Sequence, TxIn, TxOut, Witness, absolute, transaction};

    const SLOT: Slot = Slot(7);
    const KEY: [u8; 32] = [3; 32];

    fn tx(spends: &[OutPoint], key: [u8; 32], value: u64) -> Transaction {
        let mut script = vec![OP_PUSHNUM_1.to_u8(), 32];
        script.extend(key);
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: spends
                .iter()
                .map(|o| TxIn {
                    previous_output: *o,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                })
                .collect(),
            output: vec![TxOut {
                value: Amount::from_sat(value),
                script_pubkey: ScriptBuf::from_bytes(script),
            }],
        }
    }

    fn funding() -> (Transaction, OutPoint) {
        let tx = tx(&[OutPoint::default()], KEY, 50_000);
        let outpoint = OutPoint::new(tx.compute_txid(), 0);
        (tx, outpoint)
    }

    #[test]
    fn a_funding_is_reported_unconfirmed_then_confirmed_and_each_once() {
        let mut watches = Watches::default();
        assert!(watches.add(SLOT, KEY, 100));
        let (tx, outpoint) = funding();
        let event = |height: Option<u32>| funded(SLOT, outpoint.into(), Sat::new(50_000), height);
        assert_eq!(watches.see(&tx, None), [event(None)]);
        assert_eq!(watches.see(&tx, None), []);
        assert_eq!(watches.see(&tx, Some(101)), [event(Some(101))]);
        assert_eq!(
            watches.see(&tx, None),
            [],
            "a mempool copy must not undo a confirmation"
        );
        assert_eq!(watches.repeat(Some(SLOT)), [event(Some(101))]);
    }

    #[test]
    fn a_reorganised_funding_is_unconfirmed_and_gone_when_the_mempool_lacks_it() {
        let mut watches = Watches::default();
        watches.add(SLOT, KEY, 100);
        let (tx, outpoint) = funding();
        watches.see(&tx, Some(101));
        watches.rewind(101);
        assert_eq!(watches.drop_vanished(&HashSet::new()), [], "block 101 stayed");
        watches.rewind(100);
        assert_eq!(watches.drop_vanished(&HashSet::from([tx.compute_txid()])), []);
        assert_eq!(watches.repeat(None), []);
        let waiting = funded(SLOT, outpoint.into(), Sat::new(50_000), None);
        assert_eq!(
            watches.see(&tx, None),
            [waiting],
            "it is news that it waits again"
        );
        assert_eq!(watches.see(&tx, None), []);
        let gone = ChainEvent::Unfunded {
            slot: SLOT,
            outpoint: outpoint.into(),
        };
        assert_eq!(watches.drop_vanished(&HashSet::new()), [gone]);
        assert_eq!(watches.repeat(None), []);
    }

    #[test]
    fn a_spend_survives_serialisation_and_a_mempool_twin() {
        let mut watches = Watches::default();
        watches.add(SLOT, KEY, 100);
        let (tx0, outpoint) = funding();
        watches.see(&tx0, Some(101));
        assert_eq!(watches.unspent(), [outpoint]);
        let (spend, twin) = (tx(&[outpoint], [9; 32], 49_000), tx(&[outpoint], [9; 32], 48_000));
        assert!(matches!(
            &watches.see(&twin, None)[..],
            [ChainEvent::Spent { height: None, .. }]
        ));
        assert!(matches!(
            &watches.see(&spend, Some(102))[..],
            [ChainEvent::Spent { height: Some(_), .. }]
        ));
        assert_eq!(watches.see(&twin, None), [], "a block outranks the mempool");

        let bytes = postcard::to_allocvec(&watches).unwrap();
        let mut again: Watches = postcard::from_bytes(&bytes).unwrap();
        again.index();
        assert_eq!(again.repeat(None), watches.repeat(None));
        assert_eq!(again.repeat(None).len(), 2);
        assert!(!again.add(SLOT, KEY, 100), "a known watch needs no second look");
        assert_eq!(again.unspent(), []);
        again.rewind(101);
        assert_eq!(again.unspent(), [outpoint]);
        again.remove(SLOT);
        assert!(again.is_empty() && again.spenders.is_empty() && again.by_outpoint.is_empty());
    }
}
