//! The seller's channels: offers, what is accepted now, the end.

use super::load::sheet_digest;
use super::{Action, Node};
use crate::base::limits::DUST_P2TR_SAT;
use crate::base::{BlockHeight, ChannelId, ConnectionId, Instant, Msat, NodeId, Sat, Slot};
use crate::market::{AccountInput, Prices};
use crate::money::channel::tx::costs;
use crate::money::channel::{Payee, PayeeError, PayeeInput, PayeeState};
use crate::wire::{
    self, ChannelReady, CloseRequest, Consequence, ErrorCode, Ext, Kind, Offer, Problem, Resume,
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
    /// hold, and less what was lost lately (money.md rule 1).
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
            let held = p.unconfirmed().saturating_add(p.lately_lost());
            of_all = of_all.saturating_add(held);
            if p.record().peer == payee.record().peer {
                of_key = of_key.saturating_add(held);
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
