//! The seller's acceptances and fundings: what strangers ask for, what it may cost us, and whose an output is.

use super::Node;
use super::record::{Table, put, slot_key};
use crate::base::limits::{
    ASKS_WITHIN_SECS, MAX_ASKS, MAX_CHANNELS, MAX_CHANNELS_PER_PEER, MAX_CONNECTIONS, MAX_UNFUNDED,
};
use crate::base::{ConnectionId, Duration, Instant, NodeId, Outpoint, Slot};
use crate::crypto::Role;
use crate::market::Standing;
use crate::money::chain::ChainAction;
use crate::money::channel::tx::{Terms, costs};
use crate::money::channel::{Acceptance, Payee, PayeeError, PayeeInput, PayeeState};
use crate::wire::{ErrorCode, Ext, Funded, Kind, OpenAccept, OpenRequest, Signature};
use alloc::vec::Vec;

impl Node {
    pub(super) fn open_request(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        ask: &OpenRequest,
    ) {
        match self.accept(now, peer, ask) {
            Ok((slot, acceptance)) => {
                let digest = acceptance.digest(self.config.genesis, self.id(), peer);
                let signature = Signature(self.keys.sign(&digest).serialize());
                let Terms {
                    payee_key,
                    capacity,
                    expiry,
                    ..
                } = acceptance.terms;
                self.watch_payee(slot);
                self.send(
                    connection,
                    OpenAccept {
                        payer_key: ask.payer_key,
                        payee_key: NodeId::from_bytes(payee_key),
                        capacity,
                        expiry,
                        accept_until: acceptance.accept_until,
                        signature,
                        ext: Ext::default(),
                    },
                );
            }
            Err(code) => self.refuse(
                connection,
                Kind::OpenRequest,
                code,
                u64::from(self.height.value()),
            ),
        }
    }

    /// Whether this key has asked for too many channels lately: what strangers can make us write is bounded in time.
    fn asks_too_fast(&mut self, now: Instant, peer: NodeId) -> bool {
        let recent = |since: Instant| now.since(since) < Duration::from_secs(ASKS_WITHIN_SECS);
        self.asks.retain(|_, (since, _)| recent(*since));
        if self.asks.len() >= MAX_CONNECTIONS && !self.asks.contains_key(&peer) {
            return true;
        }
        let (_, asked) = self.asks.entry(peer).or_insert((now, 0));
        *asked = asked.saturating_add(1);
        *asked > MAX_ASKS
    }

    fn accept(
        &mut self,
        now: Instant,
        peer: NodeId,
        ask: &OpenRequest,
    ) -> Result<(Slot, Acceptance), ErrorCode> {
        let policy = self.selling.as_ref().ok_or(ErrorCode::OutOfOrder)?.config.policy;
        if self.asks_too_fast(now, peer) {
            return Err(ErrorCode::TooFast);
        }
        // Without the chain in sight no expiry can be judged.
        if !self.lit {
            return Err(ErrorCode::ExposureFull);
        }
        if self
            .clients
            .get(&peer)
            .is_some_and(|c| c.account.standing() == Standing::Blocked)
        {
            return Err(ErrorCode::Blocked);
        }
        let repeated = self.payees.iter().find(|(_, p)| {
            p.record().peer == peer && p.record().terms.payer_key == *ask.payer_key.as_bytes()
        });
        if let Some((slot, payee)) = repeated {
            // The answer was lost on the way: the same acceptance again, if the question is the same.
            let record = payee.record();
            let same = record.terms.capacity == ask.capacity && record.terms.expiry == ask.expiry;
            let acceptance = Acceptance {
                terms: record.terms,
                accept_until: record.accept_until,
            };
            return if same {
                Ok((*slot, acceptance))
            } else {
                Err(ErrorCode::OutOfOrder)
            };
        }
        let mut terms = Terms {
            payer_key: *ask.payer_key.as_bytes(),
            payee_key: [0; 32],
            capacity: ask.capacity,
            expiry: ask.expiry,
        };
        // Nothing is written for a question that is refused anyway.
        let accept_until = policy.accept(&terms, self.height, costs::SETTLEMENT_VB, self.rate)?;
        self.drop_unfunded(peer);
        let live = |p: &&Payee| {
            !matches!(
                p.record().state,
                PayeeState::Over
                    | PayeeState::Missing
                    | PayeeState::Spent { .. }
                    | PayeeState::Refunded { .. }
            )
        };
        let of_peer = self
            .payees
            .values()
            .filter(|p| p.record().peer == peer)
            .filter(live)
            .count();
        let held = self
            .payees
            .values()
            .filter(|p| p.record().state != PayeeState::Over)
            .count();
        if of_peer >= MAX_CHANNELS_PER_PEER || held >= MAX_CHANNELS {
            return Err(ErrorCode::Full);
        }
        self.make_room()?;
        let next_slot = self.meta.next_slot.checked_add(1).ok_or(ErrorCode::Full)?;
        let fresh = self.meta.next_payee_key;
        let (key_index, next_key) = match self.unused_keys.last() {
            Some(index) => (*index, fresh),
            None => (fresh, fresh.checked_add(1).ok_or(ErrorCode::Full)?),
        };
        let keys = self
            .keys
            .channel(Role::Payee, key_index)
            .map_err(|_| ErrorCode::Full)?;
        terms.payee_key = keys.funding.x_only_public_key().0.serialize();
        // A row has a number of its own for ever: the chain's news about a row that is gone may still be on their way.
        let slot = Slot(self.meta.next_slot);
        let payee = Payee::accept(slot, peer, terms, key_index, self.height, accept_until)
            .map_err(|_| ErrorCode::Malformed)?;
        self.unused_keys.pop();
        self.meta.next_slot = next_slot;
        self.meta.next_payee_key = next_key;
        self.persist_meta();
        let write = put(Table::Payee, &slot_key(slot), payee.record());
        self.persist(write);
        self.payees.insert(slot, payee);
        Ok((slot, Acceptance { terms, accept_until }))
    }

    /// Acceptances cost strangers nothing: the oldest one that nothing was ever seen of, and whose peer is gone, makes
    /// place for a new one. Its payer, should there be a funding after all, is told so and has it back at the expiry.
    fn make_room(&mut self) -> Result<(), ErrorCode> {
        let unfunded = |p: &Payee| p.is_open() && !p.is_seen();
        if self.payees.values().filter(|p| unfunded(p)).count() < MAX_UNFUNDED {
            return Ok(());
        }
        let gone = |p: &Payee| unfunded(p) && self.connection_of(&p.record().peer).is_none();
        let oldest = self.payees.iter().find(|(_, p)| gone(p)).map(|(slot, _)| *slot);
        self.drop_acceptance(oldest.ok_or(ErrorCode::Full)?);
        Ok(())
    }

    pub(super) fn drop_acceptance(&mut self, slot: Slot) {
        let dropped = self.payees.remove(&slot).filter(Payee::is_untouched);
        self.unused_keys.extend(dropped.map(|p| p.record().key_index));
        self.persist(super::record::Write::Delete {
            table: Table::Payee,
            key: slot_key(slot).to_vec(),
        });
        self.chain(ChainAction::Unwatch { slot });
    }

    /// A peer that asks again without having funded gives up the earlier acceptance, if nothing was ever named.
    fn drop_unfunded(&mut self, peer: NodeId) {
        let idle = |p: &Payee| p.record().peer == peer && p.record().outpoint.is_none() && p.is_open();
        let gone: Vec<Slot> = self
            .payees
            .iter()
            .filter(|(_, p)| idle(p))
            .map(|(s, _)| *s)
            .collect();
        for slot in gone {
            self.drop_acceptance(slot);
        }
    }

    pub(super) fn funded(&mut self, now: Instant, connection: ConnectionId, peer: NodeId, message: &Funded) {
        let found = self.payees.iter().find(|(_, p)| {
            p.record().peer == peer && p.record().terms.payer_key == *message.payer_key.as_bytes()
        });
        let Some((slot, payee)) = found.map(|(s, p)| (*s, p)) else {
            return self.refuse(connection, Kind::Funded, ErrorCode::NotAccepted, 0);
        };
        if !message.tx.is_empty() && !self.pays(payee, message) {
            return self.refuse(connection, Kind::Funded, ErrorCode::FundingMismatch, 0);
        }
        let outpoint = message.outpoint;
        let proven = !message.tx.is_empty() || payee.has_sighted(outpoint);
        if payee.record().outpoint != Some(outpoint) && !self.is_free(slot, outpoint, proven) {
            return self.refuse(connection, Kind::Funded, ErrorCode::FundingMismatch, 0);
        }
        if let Err(PayeeError::Refused(code)) = self.payee(now, slot, PayeeInput::Declared { outpoint }) {
            return self.refuse(connection, Kind::Funded, code, 0);
        }
        // Strangers who only name something leave no row but the acceptance's own.
        if self.payees.get(&slot).is_some_and(Payee::is_seen) {
            self.remember(&peer);
        }
        // A guest without internet hands its funding to the relay that it is about to pay.
        let once = Some((slot, self.height));
        let known = self.payees.get(&slot).is_none_or(Payee::is_seen);
        let session = self.connections.get_mut(&connection);
        let repeated = session.is_none_or(|p| core::mem::replace(&mut p.relayed, once) == once);
        if !message.tx.is_empty() && !known && !repeated {
            self.chain(ChainAction::Broadcast {
                slot,
                tx: message.tx.to_vec(),
            });
        }
        self.channel_ready(connection, slot);
    }

    /// Whether an output can be the funding of this channel: no other has or had it, whoever pays in it. One output, one
    /// channel: what was paid over it is counted once. A channel that only named it, and never saw it, gives it up to one
    /// that proves it: an output pays one script.
    pub(super) fn is_free(&mut self, slot: Slot, outpoint: Outpoint, proven: bool) -> bool {
        let ended = |h: &super::history::HistoryRecord| h.payee && h.outpoint == Some(outpoint);
        if self.history.values().any(ended) {
            return false;
        }
        let named = |(s, p): (&Slot, &Payee)| {
            (*s != slot && p.record().outpoint == Some(outpoint)).then_some((*s, p.is_seen()))
        };
        let Some((other, seen)) = self.payees.iter().find_map(named) else {
            return true;
        };
        if seen || !proven {
            return false;
        }
        if let Some(payee) = self.payees.get_mut(&other) {
            payee.unname();
            let write = put(Table::Payee, &slot_key(other), payee.record());
            self.persist(write);
        }
        true
    }

    fn pays(&self, payee: &Payee, message: &Funded) -> bool {
        let Ok(tx) = bitcoin::consensus::encode::deserialize::<bitcoin::Transaction>(&message.tx) else {
            return false;
        };
        let Ok(script) = payee.record().terms.funding_output(self.verifier.context()) else {
            return false;
        };
        let output = usize::try_from(message.outpoint.vout)
            .ok()
            .and_then(|i| tx.output.get(i));
        crate::money::channel::tx::txid(&tx) == message.outpoint.txid
            && output.is_some_and(|o| {
                o.value.to_sat() == payee.record().terms.capacity.value()
                    && o.script_pubkey == script.to_script_buf()
            })
    }
}
