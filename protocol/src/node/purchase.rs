//! Where a purchase meets the channel that pays for it and the session that it runs over.

use super::load::sheet_hash;
use super::peer::BindAsked;
use super::record::{ReceiptRecord, Table, claim_key, put};
use super::{ACCESS, Action, CommandError, Event, Node};
use crate::base::limits::{BINDS_WITHIN_SECS, MAX_BINDS};
use crate::base::{ByteCount, ConnectionId, Duration, Instant, Msat, NodeId, Slot};
use crate::market::{
    Buyer, BuyerAction, BuyerInput, BuyerRecord, BuyerState, Claim, Prices, ReceiptError, receipt_digest,
};
use crate::money::channel::{Payer, PayerInput};
use crate::wire::{
    self, Bound, ErrorCode, Ext, Kind, Liveness, OfferRequest, PaymentAck, Problem, Receipt, ReceiptAnswer,
    ReceiptOffer, ReceiptRequest, Signature, Stop, Usage,
};
use alloc::vec::Vec;
use bitcoin::secp256k1::schnorr;

/// A relay may not ask for signs of life more often than a tenth of its default, milliseconds.
const SHORTEST_LIVENESS_MS: u32 = 3_000;
/// A refused binding is asked for again after this: a gate that was down, a funding that was not seen, a relay that was
/// full may all be over without a word. Well below what a relay takes of one key (`MAX_BINDS`).
const BIND_AGAIN: Duration = Duration::from_secs(10);

/// What we buy from one relay.
pub(super) struct Buying {
    /// The purchase.
    pub buyer: Buyer,
    /// The channel that pays.
    slot: Option<Slot>,
    /// What the own meter showed when this purchase was made.
    base: Option<(ByteCount, ByteCount)>,
    /// The reading that the purchase waits for.
    reading: Option<u32>,
    /// The receipt that the relay offers.
    offered: Option<(Receipt, ReceiptRecord)>,
}

impl Buying {
    pub fn new(buyer: Buyer) -> Buying {
        Buying {
            buyer,
            slot: None,
            base: None,
            reading: None,
            offered: None,
        }
    }

    /// Whether anything is being bought or used.
    pub fn is_active(&self) -> bool {
        !matches!(
            self.buyer.view().state,
            BuyerState::Idle | BuyerState::Done | BuyerState::Stopped(_)
        )
    }
}

impl Node {
    pub(super) fn buy(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        bytes: Option<ByteCount>,
        max: Msat,
    ) -> Result<(), CommandError> {
        let peer = self
            .connections
            .get(&connection)
            .filter(|p| p.greeted)
            .ok_or(CommandError::NotConnected)?;
        let (relay, offer) = (peer.id, peer.offer.ok_or(CommandError::NoOffer)?);
        if peer.ready.is_empty() || self.paying_channel(&relay).is_none() {
            return Err(CommandError::NoChannel);
        }
        let (config, me) = (self.config.buyer, self.id());
        let buying = self
            .buyers
            .entry(relay)
            .or_insert_with(|| Buying::new(Buyer::restore(config, relay, me, BuyerRecord::default(), now)));
        if buying.is_active() {
            return Err(CommandError::Busy);
        }
        // Before the gate opens, so that nothing passes uncounted.
        if buying.base.is_none() {
            self.actions.push_back(Action::ReadMeter);
        }
        self.buyer_offer(now, connection, &offer);
        self.buyer_channel(now, connection);
        self.buyer(now, relay, BuyerInput::Buy { bytes, max });
        self.bind_if_needed(now, connection, relay);
        Ok(())
    }

    pub(super) fn stop_buying(&mut self, now: Instant, connection: ConnectionId) -> Result<(), CommandError> {
        let relay = self
            .connections
            .get(&connection)
            .map(|p| p.id)
            .ok_or(CommandError::NotConnected)?;
        self.buyer(now, relay, BuyerInput::Stop);
        Ok(())
    }

    fn bind_if_needed(&mut self, now: Instant, connection: ConnectionId, relay: NodeId) {
        let Some(buying) = self.buyers.get(&relay).filter(|b| b.is_active()) else {
            return;
        };
        let (Some(slot), Some(peer)) = (buying.slot, self.connections.get_mut(&connection)) else {
            return;
        };
        // Offer and channels each say that it may be time; one question is enough.
        let waits = |asked: &BindAsked| asked.slot == slot && !asked.refused && now < asked.at + BIND_AGAIN;
        if peer.bound || peer.bind_asked.as_ref().is_some_and(waits) {
            return;
        }
        if now.since(peer.binds.0) >= Duration::from_secs(BINDS_WITHIN_SECS) {
            peer.binds = (now, 0);
        }
        // Below what the relay takes; what is left over waits for the next turn.
        let refused = peer.binds.1.saturating_add(1) >= MAX_BINDS;
        if !refused && !self.ask_binding(connection, slot) {
            return;
        }
        if let Some(peer) = self.connections.get_mut(&connection) {
            peer.binds.1 = peer.binds.1.saturating_add(u8::from(!refused));
            let at = now;
            peer.bind_asked = Some(BindAsked { slot, at, refused });
        }
    }

    /// When a binding that was asked for in vain is asked for again.
    pub(super) fn next_rebind(&self) -> Option<Instant> {
        let asked = self.connections.values().filter_map(|p| p.bind_asked);
        asked.map(|asked| asked.at + BIND_AGAIN).min()
    }

    pub(super) fn tick_bindings(&mut self, now: Instant) {
        let due = |p: &super::peer::Peer| p.bind_asked.is_some_and(|asked| asked.at + BIND_AGAIN <= now);
        let late: Vec<(ConnectionId, NodeId)> = self
            .connections
            .iter()
            .filter(|(_, p)| due(p))
            .map(|(c, p)| (*c, p.id))
            .collect();
        for (connection, relay) in late {
            // Asked again only by a purchase that still runs.
            if let Some(peer) = self.connections.get_mut(&connection) {
                peer.bind_asked = None;
            }
            self.bind_if_needed(now, connection, relay);
        }
    }

    pub(super) fn buyer_offer(&mut self, now: Instant, connection: ConnectionId, offer: &super::Offer) {
        let Some(relay) = self.connections.get(&connection).map(|p| p.id) else {
            return;
        };
        let height = self.height.min(offer.sheet.valid_until);
        let Ok(prices) = Prices::check(&offer.sheet, height) else {
            return;
        };
        let sheet = sheet_hash(&wire::encode(&offer.sheet));
        self.buyer(
            now,
            relay,
            BuyerInput::Offer {
                sheet_id: offer.sheet_id,
                sheet,
                prices,
            },
        );
    }

    /// The channel that pays, or what is accepted on it, may have changed.
    pub(super) fn buyer_channel(&mut self, now: Instant, connection: ConnectionId) {
        let Some(peer) = self.connections.get(&connection) else {
            return;
        };
        let relay = peer.id;
        if !self.buyers.contains_key(&relay) {
            return;
        }
        let open = |slot: &Slot| {
            self.payers
                .get(slot)
                .is_some_and(|p| p.is_open() && p.left() > Msat::ZERO)
        };
        let kept = self.buyers.get(&relay).and_then(|b| b.slot).filter(open);
        let slot = kept.or_else(|| self.paying_channel(&relay));
        let Some(slot) = slot.filter(|s| peer.ready.iter().any(|r| r.slot == *s)) else {
            return;
        };
        let ceiling = peer.ceiling(slot);
        let Some(payer) = self.payers.get(&slot) else {
            return;
        };
        let Some(channel) = payer.id() else { return };
        let total = payer.record().total;
        let capacity = payer.record().terms.capacity.to_msat().unwrap_or(Msat::ZERO);
        let before = self.buyers.get_mut(&relay).and_then(|b| b.slot.replace(slot));
        if before.is_some_and(|before| before != slot) {
            // The binding that there is pays from the channel before.
            if let Some(peer) = self.connections.get_mut(&connection) {
                peer.bound = false;
            }
        }
        self.buyer(
            now,
            relay,
            BuyerInput::Channel {
                channel,
                total,
                ceiling,
                capacity,
            },
        );
        self.bind_if_needed(now, connection, relay);
    }

    /// A channel was spent: a purchase that paid from it goes on over another one that is open.
    pub(super) fn buyer_left(&mut self, now: Instant, slot: Slot) {
        let Some(relay) = self.payers.get(&slot).map(|p| p.record().peer) else {
            return;
        };
        let paid_from_it = |b: &Buying| b.slot == Some(slot) && b.is_active();
        if !self.buyers.get(&relay).is_some_and(paid_from_it) {
            return;
        }
        if let Some(connection) = self.connection_of(&relay) {
            self.buyer_channel(now, connection);
        }
    }

    /// We paid more than we remember: the figures of the purchase are as old.
    pub(super) fn buyer_outdated(&mut self, now: Instant, relay: NodeId) {
        self.buyer(now, relay, BuyerInput::Outdated);
    }

    /// After a reconnect: a purchase under way needs the relay's prices again.
    pub(super) fn buyer_greeted(&mut self, connection: ConnectionId, relay: NodeId) {
        if self.buyers.get(&relay).is_some_and(Buying::is_active) {
            self.send(connection, OfferRequest { ext: Ext::default() });
        }
    }

    pub(super) fn bound(&mut self, now: Instant, connection: ConnectionId, message: &Bound) {
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        peer.bound = true;
        peer.bind_asked = None;
        let relay = peer.id;
        // It was stopped while the relay was binding it: nobody would close that binding otherwise.
        if !self.buyers.get(&relay).is_some_and(Buying::is_active) {
            return self.unbind(Some(connection));
        }
        let liveness = Duration::from_millis(message.liveness_ms.max(SHORTEST_LIVENESS_MS).into());
        self.buyer(
            now,
            relay,
            BuyerInput::Bound {
                account: message.account,
                granted: message.granted,
                liveness,
            },
        );
    }

    pub(super) fn acknowledged(&mut self, now: Instant, connection: ConnectionId, message: &PaymentAck) {
        let Some(relay) = self.connections.get(&connection).map(|p| p.id) else {
            return;
        };
        if let Some(slot) = self.buyers.get(&relay).and_then(|b| b.slot) {
            let _ = self.payer(slot, PayerInput::Acknowledged { total: message.total });
        }
        self.buyer(
            now,
            relay,
            BuyerInput::Ack {
                total: message.total,
                granted: message.granted,
            },
        );
    }

    pub(super) fn usage(&mut self, now: Instant, connection: ConnectionId, m: &Usage) {
        let Some(relay) = self.connections.get(&connection).map(|p| p.id) else {
            return;
        };
        let claim = Claim {
            up: m.up,
            down: m.down,
            seconds: m.seconds,
            cost: m.cost,
            granted: m.granted,
            exhausted: m.exhausted,
        };
        self.buyer(now, relay, BuyerInput::Usage(claim));
    }

    pub(super) fn buyer_problem(&mut self, now: Instant, connection: ConnectionId, message: &Problem) {
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        let relay = peer.id;
        match message.code {
            // The binding is gone, the money is not: open it again.
            ErrorCode::UnknownAccount | ErrorCode::NoLiveness | ErrorCode::BindingDrift => {
                peer.bound = false;
                peer.bind_asked = None;
                self.buyer(now, relay, BuyerInput::Unbound);
                self.bind_if_needed(now, connection, relay);
            }
            code if matches!(
                Kind::from_number(message.about),
                Some(Kind::Payment | Kind::BindRequest)
            ) =>
            {
                if let Some(asked) = peer.bind_asked.as_mut() {
                    asked.refused = true;
                }
                self.buyer(now, relay, BuyerInput::Refused(code));
            }
            _ => {}
        }
    }

    pub(super) fn buyer_gone(&mut self, now: Instant, relay: NodeId) {
        if self.connection_of(&relay).is_none() {
            self.buyer(now, relay, BuyerInput::Unbound);
        }
    }

    pub(super) fn receipt_offered(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        relay: NodeId,
        message: &ReceiptOffer,
    ) {
        let Ok(receipt) = wire::decode::<Receipt>(&message.receipt) else {
            return self.refuse(connection, Kind::ReceiptOffer, ErrorCode::Malformed, 0);
        };
        let digest = receipt_digest(
            self.config.genesis,
            relay,
            self.id(),
            receipt.channel,
            &message.receipt,
        );
        let signature = schnorr::Signature::from_slice(&message.signature.0);
        if !signature.is_ok_and(|s| self.verifier.verify(&relay, &digest, &s).is_ok()) {
            return self.refuse(connection, Kind::ReceiptOffer, ErrorCode::BadSignature, 0);
        }
        if receipt.relay != relay || receipt.client != self.id() {
            return self.refuse(connection, Kind::ReceiptOffer, ErrorCode::ReceiptRefused, 0);
        }
        let Some(buying) = self.buyers.get_mut(&relay) else {
            return;
        };
        let record = ReceiptRecord {
            receipt: message.receipt.to_vec(),
            relay: message.signature,
            client: None,
        };
        buying.offered = Some((receipt, record));
        self.buyer(now, relay, BuyerInput::ReceiptOffered(receipt));
    }

    /// The own meter was read, or could not be.
    pub(super) fn meter(&mut self, now: Instant, reading: Option<(ByteCount, ByteCount)>) {
        let relays: Vec<NodeId> = self.buyers.keys().copied().collect();
        for relay in relays {
            let Some(buying) = self.buyers.get_mut(&relay) else {
                continue;
            };
            let waiting = buying.reading.take();
            match (reading, waiting) {
                (Some((up, down)), _) => {
                    let (up0, down0) = *buying.base.get_or_insert((up, down));
                    let (up, down) = (up.saturating_sub(up0), down.saturating_sub(down0));
                    self.buyer(
                        now,
                        relay,
                        BuyerInput::Meter {
                            read: waiting.unwrap_or(0),
                            up,
                            down,
                        },
                    );
                }
                (None, Some(read)) => self.buyer(now, relay, BuyerInput::MeterFailed { read }),
                (None, None) => {}
            }
        }
    }

    pub(super) fn tick_buyers(&mut self, now: Instant) {
        let due = |b: &Buying| b.buyer.next_timeout().is_some_and(|at| at <= now);
        let relays: Vec<NodeId> = self
            .buyers
            .iter()
            .filter(|(_, b)| due(b))
            .map(|(id, _)| *id)
            .collect();
        for relay in relays {
            self.buyer(now, relay, BuyerInput::Timer);
        }
    }

    /// Feeds a purchase and turns what it wants into actions.
    fn buyer(&mut self, now: Instant, relay: NodeId, input: BuyerInput) {
        let Some(buying) = self.buyers.get_mut(&relay) else {
            return;
        };
        if buying.buyer.handle(now, input).is_err() {
            crate::warn!("a figure of the meter or of the relay made no sense and was not counted");
        }
        while let Some(action) = self.buyers.get_mut(&relay).and_then(|b| b.buyer.poll_action()) {
            self.buyer_action(now, relay, action);
        }
    }

    fn buyer_action(&mut self, now: Instant, relay: NodeId, action: BuyerAction) {
        let connection = self.connection_of(&relay);
        let Some(buying) = self.buyers.get_mut(&relay) else {
            return;
        };
        match action {
            BuyerAction::Checkpoint => {
                let write = put(Table::Buyer, relay.as_bytes(), buying.buyer.record());
                self.persist(write);
            }
            BuyerAction::ReadMeter { read } => {
                buying.reading = Some(read);
                if !self.actions.contains(&Action::ReadMeter) {
                    self.actions.push_back(Action::ReadMeter);
                }
            }
            BuyerAction::Pay { amount, .. } => {
                let (Some(slot), Some(connection)) = (buying.slot, connection) else {
                    return self.pay_failed(now, relay);
                };
                let ceiling = self
                    .connections
                    .get(&connection)
                    .map_or(Msat::ZERO, |p| p.ceiling(slot));
                if self
                    .payer(
                        slot,
                        PayerInput::Pay {
                            step: amount,
                            ceiling,
                        },
                    )
                    .is_err()
                {
                    self.pay_failed(now, relay);
                }
            }
            BuyerAction::PayAgain { .. } => {
                if let Some(slot) = buying.slot {
                    self.send_payment(slot);
                }
            }
            BuyerAction::Liveness { counter, .. } => self.tell(
                connection,
                Liveness {
                    account: ACCESS,
                    counter,
                },
            ),
            BuyerAction::Stop { .. } => self.unbind(connection),
            BuyerAction::AskReceipt { .. } => self.tell(connection, ReceiptRequest { account: ACCESS }),
            BuyerAction::SignReceipt { sequence } => self.sign_receipt(connection, relay, sequence),
            BuyerAction::RefuseReceipt { reason, .. } => self.refuse_receipt(connection, relay, reason),
            BuyerAction::NeedChannel { amount } => self.notify(Event::NeedChannel { relay, amount }),
            BuyerAction::Report => {
                let view = buying.buyer.view();
                self.notify(Event::Progress { relay, view });
            }
        }
    }

    /// Tells the relay to close the binding. It counts it and keeps the credit.
    fn unbind(&mut self, connection: Option<ConnectionId>) {
        if let Some(peer) = connection.and_then(|c| self.connections.get_mut(&c)) {
            peer.bound = false;
            peer.bind_asked = None;
        }
        self.tell(connection, Stop { account: ACCESS });
    }

    fn pay_failed(&mut self, now: Instant, relay: NodeId) {
        if let Some(buying) = self.buyers.get_mut(&relay) {
            let _ = buying.buyer.handle(now, BuyerInput::PayFailed);
        }
    }

    fn tell(&mut self, connection: Option<ConnectionId>, message: impl Into<wire::Message>) {
        if let Some(connection) = connection {
            self.send(connection, message);
        }
    }

    fn sign_receipt(&mut self, connection: Option<ConnectionId>, relay: NodeId, sequence: u32) {
        let (me, genesis) = (self.id(), self.config.genesis);
        let Some((receipt, record)) = self.buyers.get_mut(&relay).and_then(|b| b.offered.as_mut()) else {
            return;
        };
        if receipt.sequence != sequence {
            return;
        }
        let digest = receipt_digest(genesis, me, relay, receipt.channel, &record.receipt);
        let signature = Signature(self.keys.sign(&digest).serialize());
        record.client = Some(signature);
        let (receipt, record) = (*receipt, record.clone());
        self.keep_receipt(&receipt, &record);
        self.tell(
            connection,
            ReceiptAnswer {
                account: ACCESS,
                sequence,
                signature,
            },
        );
        self.notify(Event::Receipt {
            peer: relay,
            sequence,
        });
    }

    /// Keeps what the relay signed as proof of what it claimed, and says why it is not signed here.
    fn refuse_receipt(&mut self, connection: Option<ConnectionId>, relay: NodeId, reason: ReceiptError) {
        let Some(buying) = self.buyers.get_mut(&relay) else {
            return;
        };
        let view = buying.buyer.view();
        let Some((receipt, record)) = buying.offered.take() else {
            return;
        };
        let ours = |p: &Payer| p.record().peer == relay && p.id() == Some(receipt.channel);
        if let Some(key) = claim_key(&receipt, reason).filter(|_| self.payers.values().any(ours)) {
            let write = put(Table::Receipt, &key, &record);
            self.persist(write);
        }
        // A receipt that is late, or about the channel before, is no lie.
        if matches!(reason, ReceiptError::OverClaim | ReceiptError::OverPriced) {
            let claimed = receipt.up.saturating_add(receipt.down);
            self.notify(Event::OverClaim {
                peer: relay,
                claimed,
                counted: view.counted,
            });
        }
        let about = Kind::ReceiptOffer.number();
        let detail = u64::from(receipt.sequence);
        self.tell(
            connection,
            Problem {
                code: ErrorCode::ReceiptRefused,
                about,
                detail,
                ext: Ext::default(),
            },
        );
    }
}
