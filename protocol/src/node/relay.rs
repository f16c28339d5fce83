//! The seller's channels: offers, acceptances, fundings, what is accepted now.

use super::load::sheet_digest;
use super::record::{Table, put, slot_key};
use super::{Action, Node};
use crate::base::limits::{DUST_P2TR_SAT, MAX_CHANNELS, MAX_CHANNELS_PER_PEER, MAX_UNFUNDED};
use crate::base::{BlockHeight, ChannelId, ConnectionId, Instant, Msat, NodeId, Sat, Slot};
use crate::crypto::Role;
use crate::market::{AccountInput, Prices, Standing};
use crate::money::chain::ChainAction;
use crate::money::channel::tx::{Terms, costs};
use crate::money::channel::{Acceptance, Payee, PayeeError, PayeeInput, PayeeState};
use crate::wire::{
    self, ChannelReady, CloseRequest, Consequence, ErrorCode, Ext, Funded, Kind, Offer, OpenAccept,
    OpenRequest, Problem, Resume, Signature,
};
use alloc::vec::Vec;
use heapless::Vec as Bounded;
impl Node {
    pub(super) fn refuse(&mut self, connection: ConnectionId, about: Kind, code: ErrorCode, detail: u64) {
        self.send(
            connection,
            Problem {
                code,
                about: about.number(),
                detail,
                ext: Ext::default(),
            },
        );
        if code.consequence() == Consequence::Disconnect {
            self.actions.push_back(Action::Disconnect { connection, code });
        }
    }

    pub(super) fn offer_request(&mut self, connection: ConnectionId) {
        let Some(selling) = &self.selling else {
            return self.refuse(connection, Kind::OfferRequest, ErrorCode::OutOfOrder, 0);
        };
        let policy = &selling.config.policy;
        let offer = Offer {
            sheet_id: selling.sheet_id,
            sheet: Bounded::from_slice(&selling.bytes).unwrap_or_default(),
            signature: selling.signature,
            capacity_min: policy.capacity_min,
            capacity_max: policy.capacity_max,
            lifetime_min: policy.lifetime_min,
            lifetime_max: policy.lifetime_max,
            unconfirmed: policy.unconfirmed,
            settle_cost: self.rate.fee(costs::SETTLEMENT_VB).unwrap_or_default(),
            ext: Ext::default(),
        };
        self.send(connection, offer);
    }

    /// Signs a fresh sheet when the old one nears its end, and tells everyone connected.
    pub(super) fn renew_sheet(&mut self, now: Instant) {
        let Some(selling) = &self.selling else { return };
        let ends = selling.prices.sheet().valid_until;
        if self.height < ends.minus(crate::base::limits::MAX_SHEET_BLOCKS / 2) {
            return;
        }
        let config = selling.config;
        if self.sell(config).is_ok() {
            self.sheet_changed(now);
        }
    }

    /// Every account and every session learns of the sheet now in force.
    pub(super) fn sheet_changed(&mut self, now: Instant) {
        let Some((sheet, prices)) = self.selling.as_ref().map(|s| (s.hash, s.prices)) else {
            return;
        };
        let ids: Vec<NodeId> = self.clients.keys().copied().collect();
        for id in ids {
            self.account(now, id, AccountInput::Sheet { sheet, prices });
        }
        if let Some(version) = self.sheet().map(|s| s.version) {
            self.notify(super::Event::SheetSigned { version });
        }
        let sessions: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, p)| p.greeted)
            .map(|(c, _)| *c)
            .collect();
        for connection in sessions {
            self.offer_request(connection);
        }
    }

    pub(super) fn open_request(&mut self, connection: ConnectionId, peer: NodeId, ask: &OpenRequest) {
        match self.accept(peer, ask) {
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

    fn accept(&mut self, peer: NodeId, ask: &OpenRequest) -> Result<(Slot, Acceptance), ErrorCode> {
        let policy = self.selling.as_ref().ok_or(ErrorCode::OutOfOrder)?.config.policy;
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
        self.drop_unfunded(peer);
        let live = |p: &&Payee| {
            !matches!(
                p.record().state,
                PayeeState::Over | PayeeState::Spent { .. } | PayeeState::Refunded { .. }
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
        let key_index = self.meta.next_payee_key;
        let keys = self
            .keys
            .channel(Role::Payee, key_index)
            .map_err(|_| ErrorCode::Full)?;
        let terms = Terms {
            payer_key: *ask.payer_key.as_bytes(),
            payee_key: keys.funding.x_only_public_key().0.serialize(),
            capacity: ask.capacity,
            expiry: ask.expiry,
        };
        let accept_until = policy.accept(&terms, self.height, costs::SETTLEMENT_VB, self.rate)?;
        let slot = Slot(self.meta.next_slot);
        let payee = Payee::accept(slot, peer, terms, key_index, self.height, accept_until)
            .map_err(|_| ErrorCode::Malformed)?;
        self.meta.next_slot += 1;
        self.meta.next_payee_key += 1;
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
        self.payees.remove(&slot);
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
        if let Err(PayeeError::Refused(code)) = self.payee(
            now,
            slot,
            PayeeInput::Declared {
                outpoint: message.outpoint,
            },
        ) {
            return self.refuse(connection, Kind::Funded, code, 0);
        }
        self.remember(&peer);
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

    pub(super) fn resume(&mut self, now: Instant, connection: ConnectionId, peer: NodeId, message: &Resume) {
        let found = self
            .payees
            .iter()
            .find(|(_, p)| p.record().peer == peer && p.id() == Some(message.channel));
        let Some(slot) = found.map(|(s, _)| *s) else {
            let code = self.unknown(&peer, message.channel);
            return self.refuse(connection, Kind::Resume, code, 0);
        };
        let room = self.room(slot);
        let input = PayeeInput::Resume {
            total: message.total,
            signature: message.signature,
            room,
        };
        match self.payee(now, slot, input) {
            Ok(_) => self.channel_ready(connection, slot),
            Err(PayeeError::Refused(ErrorCode::ExposureFull))
                if self.payees.get(&slot).is_some_and(Payee::is_open) =>
            {
                self.channel_ready(connection, slot)
            }
            // It knows all that was paid, and takes no more: the payer pays over another channel.
            Err(PayeeError::Refused(ErrorCode::Closing))
                if self
                    .payees
                    .get(&slot)
                    .is_some_and(|p| p.record().total >= message.total) =>
            {
                self.channel_ready(connection, slot)
            }
            Err(PayeeError::Refused(code)) => self.refuse(connection, Kind::Resume, code, 0),
        }
    }

    pub(super) fn channel_ready(&mut self, connection: ConnectionId, slot: Slot) {
        let ceiling = self.ceilings(slot);
        let Some(payee) = self.payees.get(&slot) else {
            return;
        };
        let (Some(channel), record, open) = (payee.id(), payee.record(), payee.is_open()) else {
            return;
        };
        let (total, signature) = (record.total, record.signature);
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        let short = peer.short(slot);
        peer.told.insert(slot, (ceiling, open));
        self.send(
            connection,
            ChannelReady {
                channel,
                short,
                total,
                signature,
                ceiling,
                open,
                ext: Ext::default(),
            },
        );
    }

    /// Tells payers what is accepted now, where that changed: all of them, or the one of `only`.
    pub(super) fn say_ready(&mut self, only: Option<Slot>) {
        let known: Vec<(ConnectionId, Slot)> = self
            .connections
            .iter()
            .flat_map(|(c, p)| p.shorts.iter().map(|s| (*c, *s)))
            .filter(|(_, s)| only.is_none_or(|o| o == *s))
            .collect();
        for (connection, slot) in known {
            let (Some(payee), Some(peer)) = (self.payees.get(&slot), self.connections.get(&connection))
            else {
                continue;
            };
            // A restored one is said again with every block: its payer answers with its newest signature, which is taken
            // once the funding is deep.
            let waits = payee.record().state == PayeeState::Restored;
            let now = (self.ceilings(slot), payee.is_open());
            if waits || peer.told.get(&slot) != Some(&now) {
                self.channel_ready(connection, slot);
            }
        }
    }

    /// What is accepted now on a channel in which a peer pays us.
    pub(super) fn ceilings(&self, slot: Slot) -> Msat {
        let policy = self.selling.as_ref().map(|s| s.config.policy).unwrap_or_default();
        let room = self.room(slot);
        self.payees
            .get(&slot)
            .map_or(Msat::ZERO, |p| p.ceiling(&policy, room))
    }

    /// Unconfirmed credit left for this channel: what its key and all keys together may have, less what the others
    /// hold (money.md rule 1).
    pub(super) fn room(&self, slot: Slot) -> Msat {
        let Some(payee) = self.payees.get(&slot) else {
            return Msat::ZERO;
        };
        if payee.is_deep() {
            return Msat::MAX;
        }
        let policy = self.selling.as_ref().map(|s| s.config.policy).unwrap_or_default();
        let (mut of_key, mut of_all) = (Msat::ZERO, Msat::ZERO);
        for (_, p) in self.payees.iter().filter(|(s, _)| **s != slot) {
            of_all = of_all.saturating_add(p.unconfirmed());
            if p.record().peer == payee.record().peer {
                of_key = of_key.saturating_add(p.unconfirmed());
            }
        }
        policy
            .unconfirmed
            .saturating_sub(of_key)
            .min(policy.unconfirmed_total.saturating_sub(of_all))
    }

    pub(super) fn close_request(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &CloseRequest,
    ) {
        let found = self
            .payees
            .iter()
            .find(|(_, p)| p.record().peer == peer && p.id() == Some(message.channel));
        let Some((slot, payee)) = found.map(|(s, p)| (*s, p)) else {
            let code = self.unknown(&peer, message.channel);
            return self.refuse(connection, Kind::CloseRequest, code, 0);
        };
        if !payee.is_open() {
            // Settled already, or waiting for the payer's newest signature: the next block does what is to be done.
            return self.refuse(connection, Kind::CloseRequest, ErrorCode::Closing, 0);
        }
        // Below that the payer may pay the difference, or wait for E.
        let least = self.least_settlement();
        if payee.record().total.to_sat_ceil() < least {
            return self.refuse(
                connection,
                Kind::CloseRequest,
                ErrorCode::FeesTooHigh,
                least.value(),
            );
        }
        if self.clients.get(&peer).is_some_and(|c| c.paying == Some(slot)) {
            self.account(now, peer, AccountInput::ReceiptAsked);
            self.account(now, peer, AccountInput::Detach);
        }
        let _ = self.payee(now, slot, PayeeInput::Close);
    }

    /// What is said of a channel in which nothing can be paid any more.
    fn unknown(&self, peer: &NodeId, channel: ChannelId) -> ErrorCode {
        if self.was_paid_by(peer, channel) {
            ErrorCode::Closing
        } else {
            ErrorCode::UnknownChannel
        }
    }

    /// The least total that is worth a settlement of its own now: it must leave the payee an output.
    pub(super) fn least_settlement(&self) -> Sat {
        let fee = self.rate.fee(costs::SETTLEMENT_VB).unwrap_or_default();
        fee.checked_add(Sat::new(DUST_P2TR_SAT)).unwrap_or(fee)
    }

    /// A relay's offer as its client reads it: signature and prices checked.
    pub(super) fn read_offer(
        &self,
        relay: NodeId,
        message: &Offer,
        height: BlockHeight,
    ) -> Result<super::Offer, ErrorCode> {
        let sheet: wire::PriceSheet = wire::decode(&message.sheet).map_err(|_| ErrorCode::Malformed)?;
        let digest = sheet_digest(self.config.genesis, relay, &message.sheet);
        let signature = bitcoin::secp256k1::schnorr::Signature::from_slice(&message.signature.0)
            .map_err(|_| ErrorCode::BadSignature)?;
        self.verifier
            .verify(&relay, &digest, &signature)
            .map_err(|_| ErrorCode::BadSignature)?;
        // The client may lag behind by a few blocks; an expired sheet is refused by the relay anyway.
        Prices::check(&sheet, height.min(sheet.valid_until)).map_err(|_| ErrorCode::WrongSheet)?;
        Ok(super::Offer {
            sheet_id: message.sheet_id,
            sheet,
            capacity_min: message.capacity_min,
            capacity_max: message.capacity_max,
            lifetime_min: message.lifetime_min,
            lifetime_max: message.lifetime_max,
            unconfirmed: message.unconfirmed,
            settle_cost: message.settle_cost,
        })
    }
}
