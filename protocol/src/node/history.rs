//! Channels that are over: a short row each, for the owner and for peers that come late.
//!
//! A channel is over when nothing that this node could still do changes what it brings: its end is deep in the chain,
//! and as payer what was left of it has come home deep, too. Then its row, with keys and signatures, makes place for
//! one that says what happened. The newest are kept; with the oldest go its receipts.

use super::Node;
use super::record::{Table, Write, put, receipts_of, slot_key};
use super::view::{ChannelView, Role};
use crate::base::limits::{DUST_P2TR_SAT, MARGIN, MAX_HISTORY};
use crate::base::{BlockHeight, ChannelId, Msat, NodeId, Outpoint, Sat, Slot, Txid};
use crate::crypto::channel_id;
use crate::money::channel::{PayeeState, PayerRecord, PayerState, TakenBack};
use serde::{Deserialize, Serialize};

/// How a channel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// No funding was ever signed.
    NeverFunded,
    /// Settled: the payee has what was paid, the payer the rest.
    Settled,
    /// The payer has everything back; as payee: what was paid is owed.
    Refunded,
    /// The payer has everything back, and what was paid was not worth a settlement.
    GivenUp,
    /// The funding left the chain for good; what was paid is owed.
    Lost,
    /// Over, and nothing more is known.
    Unknown,
}

impl Outcome {
    /// A word or two.
    pub const fn text(self) -> &'static str {
        match self {
            Outcome::NeverFunded => "never funded",
            Outcome::Settled => "settled",
            Outcome::Refunded => "refunded",
            Outcome::GivenUp => "given up",
            Outcome::Lost => "lost",
            Outcome::Unknown => "unknown",
        }
    }
}

/// What is kept of a channel that is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// We were paid; otherwise we paid.
    pub payee: bool,
    /// The other side.
    pub peer: NodeId,
    /// Capacity.
    pub capacity: Sat,
    /// The newest total; as payee, before any loss.
    pub total: Msat,
    /// Height from which the payer could take everything back.
    pub expiry: BlockHeight,
    /// The funding output.
    pub outpoint: Option<Outpoint>,
    /// Its block.
    pub funded_at: Option<BlockHeight>,
    /// What the funding cost, as payer.
    pub funding_fee: Sat,
    /// What spent it.
    pub spent_by: Option<Txid>,
    /// The height when it was over.
    pub ended_at: BlockHeight,
    /// How it ended.
    pub outcome: Outcome,
}

impl HistoryRecord {
    /// The channel's name, if it was funded.
    pub fn channel(&self) -> Option<ChannelId> {
        self.outpoint.as_ref().map(channel_id)
    }
}

impl Node {
    /// A payee's simplex is over; `was` is where it stood before, `lost` what was lost with it.
    pub(super) fn retire_payee(&mut self, slot: Slot, was: PayeeState, lost: Option<(Msat, TakenBack)>) {
        let Some(payee) = self.payees.remove(&slot) else {
            return;
        };
        let record = payee.record();
        let (outcome, spent_by) = match (was, lost) {
            (PayeeState::Refunded { txid, back, .. }, _) => match back {
                TakenBack::Owed => (Outcome::Refunded, Some(txid)),
                TakenBack::GivenUp if record.total == Msat::ZERO => (Outcome::Refunded, Some(txid)),
                TakenBack::GivenUp => (Outcome::GivenUp, Some(txid)),
            },
            (_, Some(_)) => (Outcome::Lost, None),
            (PayeeState::Spent { txid, .. }, None) => (Outcome::Settled, Some(txid)),
            (_, None) => (Outcome::Unknown, None),
        };
        self.journalled.remove(&slot);
        let history = HistoryRecord {
            payee: true,
            peer: record.peer,
            capacity: record.terms.capacity,
            total: lost.map_or(record.total, |(amount, _)| amount),
            expiry: record.terms.expiry,
            outpoint: record.outpoint,
            funded_at: record.funded_at,
            funding_fee: Sat::ZERO,
            spent_by,
            ended_at: self.height,
            outcome,
        };
        self.retire(Table::Payee, slot, history);
    }

    /// A payer's simplex is over; `was` is where it stood before.
    pub(super) fn retire_payer(&mut self, slot: Slot, was: PayerState) {
        let Some(payer) = self.payers.remove(&slot) else {
            return;
        };
        let record = payer.record();
        let (outcome, spent_by) = match was {
            PayerState::Accepted => (Outcome::NeverFunded, None),
            PayerState::Spent { txid, .. } if is_refunded(record) => (Outcome::Refunded, Some(txid)),
            PayerState::Spent { txid, .. } | PayerState::Sweeping { txid, .. } => {
                (Outcome::Settled, Some(txid))
            }
            _ => (Outcome::Unknown, None),
        };
        let history = HistoryRecord {
            payee: false,
            peer: record.peer,
            capacity: record.terms.capacity,
            total: record.total,
            expiry: record.terms.expiry,
            outpoint: record.outpoint,
            funded_at: record.funded_at,
            funding_fee: record.funding_fee,
            spent_by,
            ended_at: self.height,
            outcome,
        };
        self.retire(Table::Payer, slot, history);
    }

    pub(super) fn retire(&mut self, table: Table, slot: Slot, record: HistoryRecord) {
        // After a power cut between two writes both rows stand: the first says more.
        let record = self.history.remove(&slot).unwrap_or(record);
        self.persist(put(Table::History, &slot_key(slot), &record));
        self.persist(Write::Delete {
            table,
            key: slot_key(slot).to_vec(),
        });
        self.history.insert(slot, record);
        while self.history.len() > MAX_HISTORY {
            let Some((slot, oldest)) = self.history.pop_first() else {
                return;
            };
            self.persist(Write::Delete {
                table: Table::History,
                key: slot_key(slot).to_vec(),
            });
            if let Some(channel) = oldest.channel() {
                let (me, peer) = (self.id(), oldest.peer);
                let (relay, client) = if oldest.payee { (me, peer) } else { (peer, me) };
                self.persist(Write::DeleteAll {
                    table: Table::Receipt,
                    prefix: receipts_of(&relay, &client, &channel),
                });
            }
        }
    }

    /// After a start: rows that say "over" already, which a power cut or an older version left.
    pub(super) fn retire_leftovers(&mut self) {
        let payees: alloc::vec::Vec<Slot> = self
            .payees
            .iter()
            .filter(|(_, p)| p.record().state == PayeeState::Over)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in payees {
            self.retire_payee(slot, PayeeState::Over, None);
        }
        let payers: alloc::vec::Vec<Slot> = self
            .payers
            .iter()
            .filter(|(_, p)| p.record().state == PayerState::Over)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in payers {
            self.retire_payer(slot, PayerState::Over);
        }
    }

    /// Whether a channel in which this peer pays us is over.
    pub(super) fn was_paid_by(&self, peer: &NodeId, channel: ChannelId) -> bool {
        self.history
            .values()
            .any(|h| h.payee && h.peer == *peer && h.channel() == Some(channel))
    }

    pub(super) fn history_view(&self, slot: Slot) -> Option<ChannelView> {
        let h = self.history.get(&slot)?;
        Some(ChannelView {
            slot,
            id: h.channel(),
            role: if h.payee { Role::Payee } else { Role::Payer },
            peer: h.peer,
            capacity: h.capacity,
            total: h.total,
            expiry: h.expiry,
            settle_by: h.expiry.minus(3 * MARGIN),
            outpoint: h.outpoint,
            funded_at: h.funded_at,
            state: "over",
            outcome: Some(h.outcome.text()),
            ended_at: Some(h.ended_at),
            spent_by: h.spent_by,
            funding_fee: h.funding_fee,
            ceiling: Msat::ZERO,
        })
    }
}

/// A settlement leaves the payer a remainder, unless that would be dust.
fn is_refunded(record: &PayerRecord) -> bool {
    let rest = record
        .terms
        .capacity
        .value()
        .saturating_sub(record.total.to_sat_ceil().value());
    record.remainder.is_none() && rest >= DUST_P2TR_SAT
}
