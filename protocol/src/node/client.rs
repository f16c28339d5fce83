//! The buyer's channels: reading an offer, asking for a channel, learning that it is ready.

use super::peer::{Asked, Ready};
use super::{CommandError, Event, Node};
use crate::base::limits::{
    ACCEPT_BLOCKS, LOOK_GAP, MARGIN, MAX_CAPACITY_SAT, MAX_LIFETIME, MIN_CAPACITY_SAT, MIN_LIFETIME,
};
use crate::base::{BlockHeight, ConnectionId, Instant, Msat, NodeId, Sat, Slot};
use crate::crypto::Role;
use crate::money::channel::tx::{Terms, costs};
use crate::money::channel::{Acceptance, Payer, PayerInput, PayerState, deep};
use crate::wire::{
    BindRequest, ChannelReady, ErrorCode, Ext, Headers, Kind, Offer, OpenAccept, OpenRequest, Problem,
};
use bitcoin::secp256k1::schnorr;

impl Node {
    pub(super) fn offered(&mut self, now: Instant, connection: ConnectionId, relay: NodeId, message: &Offer) {
        match self.read_offer(relay, message, self.height) {
            Ok(offer) => {
                if let Some(peer) = self.connections.get_mut(&connection) {
                    peer.offer = Some(offer);
                }
                self.notify(Event::Offer { connection, offer });
                self.buyer_offer(now, connection, &offer);
                // After a reconnect the channel may have been ready before the prices were known.
                self.buyer_channel(now, connection);
            }
            Err(code) => self.refuse(connection, Kind::Offer, code, 0),
        }
    }

    /// Further addresses of this device on its relay's link, to be bound with the session's own: IPv6, or IPv4 mapped
    /// into IPv6. At most four are sent.
    pub fn set_addresses(&mut self, addresses: alloc::vec::Vec<[u8; 16]>) {
        self.addresses = addresses;
    }

    pub(super) fn open(
        &mut self,
        connection: ConnectionId,
        capacity: Sat,
        lifetime: u32,
    ) -> Result<(), CommandError> {
        let peer = self
            .connections
            .get(&connection)
            .filter(|p| p.greeted)
            .ok_or(CommandError::NotConnected)?;
        let offer = peer.offer.ok_or(CommandError::NoOffer)?;
        let within = |low: u64, value: u64, high: u64| low <= value && value <= high;
        if !within(
            offer.capacity_min.value(),
            capacity.value(),
            offer.capacity_max.value(),
        ) || !within(MIN_CAPACITY_SAT, capacity.value(), MAX_CAPACITY_SAT)
        {
            return Err(CommandError::Capacity);
        }
        if !within(
            offer.lifetime_min.into(),
            lifetime.into(),
            offer.lifetime_max.into(),
        ) || !within(MIN_LIFETIME.into(), lifetime.into(), MAX_LIFETIME.into())
        {
            return Err(CommandError::Lifetime);
        }
        if self.height == BlockHeight::ZERO {
            return Err(CommandError::NoHeight);
        }
        if !Payer::worth_opening(capacity, costs::OPENING_VB, costs::REFUND_VB, self.rate) {
            return Err(CommandError::FeesTooHigh);
        }
        let key_index = self.meta.next_payer_key;
        let next_key = key_index.checked_add(1).ok_or(CommandError::NoKeys)?;
        let keys = self
            .keys
            .channel(Role::Payer, key_index)
            .map_err(|_| CommandError::NoKeys)?;
        let payer_key = keys.funding.x_only_public_key().0.serialize();
        let terms = Terms {
            payer_key,
            payee_key: [0; 32],
            capacity,
            expiry: self.height.plus(lifetime),
        };
        self.meta.next_payer_key = next_key;
        self.persist_meta();
        if let Some(peer) = self.connections.get_mut(&connection) {
            peer.asked = Some(Asked { terms, key_index });
        }
        let payer_key = NodeId::from_bytes(payer_key);
        self.send(
            connection,
            OpenRequest {
                payer_key,
                capacity,
                expiry: terms.expiry,
                ext: Ext::default(),
            },
        );
        Ok(())
    }

    pub(super) fn accepted(&mut self, connection: ConnectionId, relay: NodeId, message: &OpenAccept) {
        if let Err(code) = self.take_acceptance(connection, relay, message) {
            self.refuse(connection, Kind::OpenAccept, code, 0);
        }
    }

    fn take_acceptance(
        &mut self,
        connection: ConnectionId,
        relay: NodeId,
        message: &OpenAccept,
    ) -> Result<(), ErrorCode> {
        let peer = self
            .connections
            .get_mut(&connection)
            .ok_or(ErrorCode::OutOfOrder)?;
        let asked = peer.asked.ok_or(ErrorCode::OutOfOrder)?;
        let terms = Terms {
            payee_key: *message.payee_key.as_bytes(),
            ..asked.terms
        };
        let same = message.payer_key.as_bytes() == &terms.payer_key
            && message.capacity == terms.capacity
            && message.expiry == terms.expiry;
        if !same {
            return Err(ErrorCode::OutOfOrder);
        }
        // Good from now on, for no longer than acceptances are, the two tips apart by one look at most; and early enough that
        // the relay gives credit once the funding is deep (money.md rule 1).
        let until = message.accept_until;
        let latest = self.height.plus(ACCEPT_BLOCKS + LOOK_GAP);
        let early = terms.expiry.minus(4 * MARGIN + deep(terms.capacity));
        if until <= self.height || until > latest.min(early) {
            return Err(ErrorCode::Lifetime);
        }
        let acceptance = Acceptance {
            terms,
            accept_until: message.accept_until,
        };
        let digest = acceptance.digest(self.config.genesis, relay, self.keys.node());
        let signature =
            schnorr::Signature::from_slice(&message.signature.0).map_err(|_| ErrorCode::BadSignature)?;
        self.verifier
            .verify(&relay, &digest, &signature)
            .map_err(|_| ErrorCode::BadSignature)?;
        peer.asked = None;
        let next_slot = self.meta.next_slot.checked_add(1).ok_or(ErrorCode::Full)?;
        let slot = Slot(self.meta.next_slot);
        let payer = Payer::fund(
            slot,
            relay,
            acceptance,
            message.signature,
            asked.key_index,
            self.height,
            &self.verifier,
        )
        .map_err(|_| ErrorCode::Malformed)?;
        self.meta.next_slot = next_slot;
        self.persist_meta();
        self.payers.insert(slot, payer);
        self.notify(Event::Funding { slot });
        self.drain_payer(slot);
        Ok(())
    }

    pub(super) fn ready(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        relay: NodeId,
        message: &ChannelReady,
    ) {
        let found = self
            .payers
            .iter()
            .find(|(_, p)| p.record().peer == relay && p.id() == Some(message.channel));
        let Some(slot) = found.map(|(s, _)| *s) else {
            return self.refuse(connection, Kind::ChannelReady, ErrorCode::UnknownChannel, 0);
        };
        // Our own signature for more than we remember: we run on an old backup, and go on from what we really paid.
        let proof = PayerInput::Proof {
            total: message.total,
            signature: message.signature,
        };
        let known = self.payers.get(&slot).map(|p| p.record().total);
        if self.payer(slot, proof).is_err() {
            return self.refuse(connection, Kind::ChannelReady, ErrorCode::BadSignature, 0);
        }
        if self.payers.get(&slot).map(|p| p.record().total) > known {
            self.buyer_outdated(now, relay);
        }
        let _ = self.payer(slot, PayerInput::Acknowledged { total: message.total });
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        let ceiling = if message.open { message.ceiling } else { Msat::ZERO };
        let before = peer.ceiling(slot);
        peer.ready.retain(|r| r.slot != slot);
        peer.ready.push(Ready {
            slot,
            short: message.short,
            ceiling,
        });
        self.notify(Event::ChannelReady { slot, ceiling });
        if !message.open
            && message.total >= self.payers.get(&slot).map_or(Msat::ZERO, |p| p.record().total)
            && self
                .payers
                .get(&slot)
                .is_some_and(|p| p.record().state == PayerState::Open)
        {
            let _ = self.payer(slot, PayerInput::Close);
        }
        // A payment that was refused for want of confirmations is said again once they are there, and only then.
        let ours = self.payers.get(&slot).map_or(Msat::ZERO, |p| p.record().total);
        // A payee that was restored takes no payments but this one.
        let restored = !message.open;
        if message.total < ours && (restored || (ours <= ceiling && before < ours)) {
            self.send_resume(connection, slot);
        }
        self.buyer_channel(now, connection);
    }

    /// Asks for the service account, paid from this channel; false while the relay is not ready for that.
    pub(super) fn ask_binding(&mut self, connection: ConnectionId, slot: Slot) -> bool {
        let Some(peer) = self.connections.get(&connection) else {
            return false;
        };
        let (Some(ready), Some(offer)) = (peer.ready.iter().find(|r| r.slot == slot), peer.offer) else {
            return false;
        };
        let request = BindRequest {
            account: super::ACCESS,
            channel: ready.short,
            class: offer.sheet.class,
            addresses: self.addresses.iter().take(4).copied().collect(),
            ext: Ext::default(),
        };
        self.send(connection, request);
        true
    }

    pub(super) fn headers(&mut self, now: Instant, connection: ConnectionId, message: &Headers) {
        let Some(minimum) = self.minimum.as_mut() else {
            return;
        };
        match minimum.extend(message.first, &message.headers) {
            Ok(height) => self.minimum_height(now, height),
            Err(_) => self.refuse(connection, Kind::Headers, ErrorCode::BadHeaders, 0),
        }
    }

    pub(super) fn problem(&mut self, now: Instant, connection: ConnectionId, message: &Problem) {
        if Kind::from_number(message.about) == Some(Kind::OpenRequest) {
            if let Some(peer) = self.connections.get_mut(&connection) {
                peer.asked = None;
            }
        }
        self.notify(Event::PeerProblem {
            connection,
            code: message.code,
            about: message.about,
            detail: message.detail,
        });
        self.buyer_problem(now, connection, message);
    }
}
