//! The seller's side: offers, acceptances, payments, bindings, receipts.

use super::load::{receipt_digest, sheet_digest};
use super::record::{ClientRecord, ReceiptRecord, Table, put, receipt_key, slot_key};
use super::{ACCESS, Action, Config, Event, GateReading, Node};
use crate::base::limits::{MAX_CHANNELS, MAX_CHANNELS_PER_PEER};
use crate::base::{BlockHeight, ByteCount, ConnectionId, Instant, Msat, NodeId, Slot};
use crate::crypto::Role;
use crate::market::{Account, AccountAction, AccountInput, AccountRecord, PauseReason, Prices, Standing};
use crate::money::chain::ChainAction;
use crate::money::channel::tx::{Terms, costs};
use crate::money::channel::{Acceptance, Payee, PayeeError, PayeeInput, PayeeState};
use crate::wire::{
    self, BindRequest, BindingClass, Bound, ChannelReady, CloseRequest, Consequence, ErrorCode, Ext, Funded,
    Kind, Offer, OpenAccept, OpenRequest, Payment, PaymentAck, Problem, ReceiptAnswer, ReceiptOffer, Resume,
    Signature, Usage,
};
use alloc::vec::Vec;
use heapless::Vec as Bounded;

/// What a relay knows of one client key while it runs.
pub(super) struct Client {
    /// Credit and use.
    pub account: Account,
    /// The channel that pays now.
    pub paying: Option<Slot>,
    /// The attachment of the gate that carries its packets.
    pub gate: Option<u16>,
    /// How many attachments it ever had: the number of the present one.
    pub attachments: u32,
    /// The session that is bound, or was last.
    pub connection: Option<ConnectionId>,
    /// The gate has confirmed the attachment.
    attached: bool,
    /// A binding that waits for the one before to be closed.
    next: Option<(ConnectionId, Slot, Vec<[u8; 16]>)>,
    /// The reading that the account waits for.
    reading: u32,
    /// The receipt on offer.
    offered: Option<ReceiptRecord>,
}

impl Client {
    pub fn load(now: Instant, record: ClientRecord, config: &Config) -> Client {
        let settings = config.relay.as_ref().map(|r| r.account).unwrap_or_default();
        Client {
            account: Account::restore(settings, record.account, now),
            paying: record.paying,
            gate: record.gate,
            attachments: record.attachments,
            connection: None,
            attached: false,
            next: None,
            reading: 0,
            offered: None,
        }
    }

    fn record(&self) -> ClientRecord {
        ClientRecord {
            account: *self.account.record(),
            paying: self.paying,
            gate: self.gate,
            attachments: self.attachments,
        }
    }
}

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
        let config = selling.config.clone();
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
            .is_some_and(|c| c.account.record().standing == Standing::Blocked)
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
        let live = |p: &&Payee| !matches!(p.record().state, PayeeState::Over | PayeeState::Spent { .. });
        let of_peer = self
            .payees
            .values()
            .filter(|p| p.record().peer == peer)
            .filter(live)
            .count();
        if of_peer >= MAX_CHANNELS_PER_PEER || self.payees.len() + self.payers.len() >= MAX_CHANNELS {
            return Err(ErrorCode::Full);
        }
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
            self.payees.remove(&slot);
            self.persist(super::record::Write::Delete {
                table: Table::Payee,
                key: slot_key(slot).to_vec(),
            });
            self.chain(ChainAction::Unwatch { slot });
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
        // A guest without internet hands its funding to the relay that it is about to pay.
        if !message.tx.is_empty() {
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
            return self.refuse(connection, Kind::Resume, ErrorCode::UnknownChannel, 0);
        };
        let room = self.room(slot);
        let input = PayeeInput::Resume {
            total: message.total,
            signature: message.signature,
            room,
        };
        match self.payee(now, slot, input) {
            Ok(_) | Err(PayeeError::Refused(ErrorCode::Closing | ErrorCode::ExposureFull)) => {
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

    /// Tells payers what is accepted now: all of them, or the one of `only`.
    pub(super) fn say_ready(&mut self, only: Option<Slot>) {
        let known: Vec<(ConnectionId, Slot)> = self
            .connections
            .iter()
            .flat_map(|(c, p)| p.shorts.iter().map(|s| (*c, *s)))
            .filter(|(_, s)| only.is_none_or(|o| o == *s))
            .collect();
        for (connection, slot) in known {
            self.channel_ready(connection, slot);
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
    /// hold (MONEY.md rule 1).
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

    pub(super) fn payment(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &Payment,
    ) {
        if let Err((code, detail)) = self.take_payment(now, connection, peer, message) {
            self.refuse(connection, Kind::Payment, code, detail);
        }
    }

    fn take_payment(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &Payment,
    ) -> Result<(), (ErrorCode, u64)> {
        let slot = self
            .connections
            .get(&connection)
            .and_then(|p| p.slot(message.channel));
        let slot = slot.ok_or((ErrorCode::UnknownChannel, 0))?;
        let client = self.clients.get(&peer).ok_or((ErrorCode::UnknownAccount, 0))?;
        let bound = client.attached && client.paying == Some(slot) && client.connection == Some(connection);
        if message.account != ACCESS || !bound {
            return Err((ErrorCode::UnknownAccount, 0));
        }
        // Never take money for service that cannot be given.
        if self.gate_down {
            return Err((ErrorCode::GateDown, 0));
        }
        if self.selling.as_ref().map(|s| s.sheet_id) != Some(message.sheet) {
            return Err((ErrorCode::WrongSheet, 0));
        }
        let room = self.room(slot);
        let input = PayeeInput::Payment {
            total: message.total,
            signature: message.signature,
            room,
        };
        let known = self.payees.get(&slot).map_or(0, |p| p.record().total.value());
        let credited = self
            .payee(now, slot, input)
            .map_err(|PayeeError::Refused(code)| (code, known))?;
        self.account(now, peer, AccountInput::Liveness);
        let granted = self
            .clients
            .get(&peer)
            .map_or(ByteCount::ZERO, |c| c.account.usage(now).granted);
        let total = credited.unwrap_or(message.total);
        self.send(
            connection,
            PaymentAck {
                channel: message.channel,
                account: ACCESS,
                total,
                granted,
            },
        );
        Ok(())
    }

    /// A channel's total changed: the account it pays for learns of it.
    pub(super) fn total_changed(&mut self, now: Instant, slot: Slot) {
        let Some(record) = self.payees.get(&slot).map(|p| p.record()) else {
            return;
        };
        let (peer, total) = (record.peer, record.total);
        if self.clients.get(&peer).is_some_and(|c| c.paying == Some(slot)) {
            self.account(now, peer, AccountInput::Paid { total });
        }
    }

    pub(super) fn bind_request(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &BindRequest,
    ) {
        if let Err(code) = self.bind(now, connection, peer, message) {
            self.refuse(connection, Kind::BindRequest, code, 0);
        }
    }

    fn bind(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &BindRequest,
    ) -> Result<(), ErrorCode> {
        let selling = self.selling.as_ref().ok_or(ErrorCode::OutOfOrder)?;
        if message.account != ACCESS
            || message.class != selling.prices.class()
            || message.class != BindingClass::Address
        {
            return Err(ErrorCode::BindingRefused);
        }
        if self.gate_down {
            return Err(ErrorCode::GateDown);
        }
        let slot = self
            .connections
            .get(&connection)
            .and_then(|p| p.slot(message.channel))
            .ok_or(ErrorCode::UnknownChannel)?;
        let payee = self.payees.get(&slot).ok_or(ErrorCode::UnknownChannel)?;
        if !payee.is_open() {
            return Err(ErrorCode::Closing);
        }
        let settings = selling.config.account;
        let fresh = AccountRecord::new(selling.hash, selling.prices);
        let client = self.clients.entry(peer).or_insert_with(|| Client {
            account: Account::restore(settings, fresh, now),
            paying: None,
            gate: None,
            attachments: 0,
            connection: None,
            attached: false,
            next: None,
            reading: 0,
            offered: None,
        });
        if client.account.record().standing == Standing::Blocked {
            return Err(ErrorCode::Blocked);
        }
        client.next = Some((connection, slot, message.addresses.to_vec()));
        if client.gate.is_some() {
            // The device moved or came back: the old binding is closed and counted before the new one opens.
            self.account(now, peer, AccountInput::Detach);
        } else {
            self.attach_next(peer)?;
        }
        Ok(())
    }

    fn attach_next(&mut self, id: NodeId) -> Result<(), ErrorCode> {
        let number = (1..=u16::MAX)
            .find(|n| !self.attachments.contains_key(n))
            .ok_or(ErrorCode::Full)?;
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some((connection, slot, addresses)) = client.next.take() else {
            return Ok(());
        };
        client.gate = Some(number);
        client.attached = false;
        client.attachments = client.attachments.saturating_add(1);
        client.connection = Some(connection);
        client.paying = Some(slot);
        let write = put(Table::Client, id.as_bytes(), &client.record());
        self.attachments.insert(number, id);
        self.persist(write);
        self.actions.push_back(Action::Attach {
            client: number,
            connection,
            addresses,
        });
        Ok(())
    }

    pub(super) fn attached(&mut self, now: Instant, number: u16, result: Result<(), ErrorCode>) {
        let Some(id) = self.attachments.get(&number).copied() else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (connection, attachment, slot) = (client.connection, client.attachments, client.paying);
        if let Err(code) = result {
            client.gate = None;
            client.connection = None;
            self.attachments.remove(&number);
            if let Some(connection) = connection {
                self.refuse(connection, Kind::BindRequest, code, 0);
            }
            return;
        }
        client.attached = true;
        let Some(payee) = slot.and_then(|s| self.payees.get(&s)) else {
            return;
        };
        let (channel, total) = (payee.id(), payee.record().total);
        if let Some(channel) = channel {
            self.account(now, id, AccountInput::Channel { channel });
        }
        self.account(now, id, AccountInput::Paid { total });
        self.account(now, id, AccountInput::Attach { attachment });
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let granted = client.account.usage(now).granted;
        let liveness = self
            .selling
            .as_ref()
            .map_or(0, |s| s.config.account.liveness.as_millis());
        if let Some(connection) = connection {
            let liveness_ms = u32::try_from(liveness).unwrap_or(u32::MAX);
            self.send(
                connection,
                Bound {
                    account: ACCESS,
                    granted,
                    liveness_ms,
                    ext: Ext::default(),
                },
            );
        }
    }

    /// Feeds an account and turns what it wants into actions.
    pub(super) fn account(&mut self, now: Instant, id: NodeId, input: AccountInput) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.account.handle(now, input).is_err() {
            crate::warn!("a reading of the gate made no sense and was not billed");
        }
        while let Some(action) = self.clients.get_mut(&id).and_then(|c| c.account.poll_action()) {
            self.account_action(now, id, action);
        }
    }

    fn account_action(&mut self, now: Instant, id: NodeId, action: AccountAction) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let gate = client.gate;
        match action {
            AccountAction::Checkpoint => {
                let write = put(Table::Client, id.as_bytes(), &client.record());
                self.persist(write);
            }
            AccountAction::LeaseFree { want } => {
                let per_key = self
                    .selling
                    .as_ref()
                    .map_or(ByteCount::ZERO, |s| s.config.sheet.free);
                let (period, leased) = self.free.lease(&client.account.record().free, per_key, want);
                let input = AccountInput::FreeLease { period, leased };
                self.persist_free();
                if let Some(client) = self.clients.get_mut(&id) {
                    let _ = client.account.handle(now, input);
                }
            }
            AccountAction::Grant { limit, .. } => {
                if let Some(number) = gate {
                    self.actions.push_back(Action::Grant {
                        client: number,
                        limit,
                    });
                }
            }
            AccountAction::ReadGate { read, .. } => {
                client.reading = read;
                if !self.actions.contains(&Action::ReadGate) {
                    self.actions.push_back(Action::ReadGate);
                }
            }
            AccountAction::Detach { read, .. } => {
                client.reading = read;
                if let Some(number) = gate {
                    self.actions.push_back(Action::Detach { client: number });
                }
            }
            AccountAction::Pause(reason) => self.paused(now, id, reason),
            AccountAction::Resume | AccountAction::Warn => self.send_usage(now, id),
            AccountAction::ReceiptDue { again, .. } => self.offer_receipt(id, again),
            AccountAction::Unread { bytes } => {
                crate::warn!(
                    "a client's gate went away unread: up to {} bytes were not billed",
                    bytes.value()
                );
            }
        }
    }

    fn paused(&mut self, now: Instant, id: NodeId, reason: PauseReason) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let live = client.connection.filter(|c| self.connections.contains_key(c));
        let code = match reason {
            PauseReason::NoCredit | PauseReason::Debt => None,
            PauseReason::NoLiveness => Some(ErrorCode::NoLiveness),
            PauseReason::GateDown => Some(ErrorCode::GateDown),
            PauseReason::Blocked => Some(ErrorCode::Blocked),
        };
        match (code, live) {
            (None, Some(_)) => self.send_usage(now, id),
            (Some(code), Some(connection)) => self.send(
                connection,
                Problem {
                    code,
                    about: 0,
                    detail: 0,
                    ext: Ext::default(),
                },
            ),
            (Some(_), None) => self.account(now, id, AccountInput::Detach),
            (None, None) => {}
        }
    }

    fn send_usage(&mut self, now: Instant, id: NodeId) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let Some(connection) = client.connection.filter(|c| self.connections.contains_key(c)) else {
            return;
        };
        let f = client.account.usage(now);
        self.send(
            connection,
            Usage {
                account: ACCESS,
                up: f.up,
                down: f.down,
                seconds: f.seconds,
                cost: f.cost,
                paid: f.paid,
                granted: f.granted,
                exhausted: f.exhausted,
            },
        );
    }

    fn offer_receipt(&mut self, id: NodeId, again: bool) {
        let (me, height, genesis) = (self.id(), self.height, self.config.genesis);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !again || client.offered.is_none() {
            let Some(receipt) = client.account.receipt(me, id, height) else {
                return;
            };
            let bytes = wire::encode(&receipt);
            let digest = receipt_digest(genesis, me, id, receipt.channel, &bytes);
            let relay = Signature(self.keys.sign(&digest).serialize());
            let record = ReceiptRecord {
                receipt: bytes,
                relay,
                client: None,
            };
            let write = put(Table::Receipt, &receipt_key(&receipt), &record);
            client.offered = Some(record);
            self.persist(write);
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let Some(connection) = client.connection.filter(|c| self.connections.contains_key(c)) else {
            return;
        };
        let Some(record) = &client.offered else { return };
        let offer = ReceiptOffer {
            account: ACCESS,
            receipt: Bounded::from_slice(&record.receipt).unwrap_or_default(),
            signature: record.relay,
            ext: Ext::default(),
        };
        self.send(connection, offer);
    }

    pub(super) fn receipt_answer(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        peer: NodeId,
        message: &ReceiptAnswer,
    ) {
        let (me, genesis) = (self.id(), self.config.genesis);
        let Some(client) = self.clients.get_mut(&peer) else {
            return;
        };
        let Some(record) = client.offered.as_mut() else {
            return;
        };
        let Ok(receipt) = wire::decode::<wire::Receipt>(&record.receipt) else {
            return;
        };
        if receipt.sequence != message.sequence {
            return;
        }
        let digest = receipt_digest(genesis, peer, me, receipt.channel, &record.receipt);
        let signature = bitcoin::secp256k1::schnorr::Signature::from_slice(&message.signature.0);
        if !signature.is_ok_and(|s| self.verifier.verify(&peer, &digest, &s).is_ok()) {
            return self.refuse(connection, Kind::ReceiptAnswer, ErrorCode::BadSignature, 0);
        }
        record.client = Some(message.signature);
        let write = put(Table::Receipt, &receipt_key(&receipt), record);
        client.offered = None;
        self.persist(write);
        self.notify(Event::Receipt {
            peer,
            sequence: receipt.sequence,
        });
        self.account(
            now,
            peer,
            AccountInput::ReceiptAnswered {
                sequence: message.sequence,
            },
        );
    }

    pub(super) fn liveness(&mut self, now: Instant, connection: ConnectionId, peer: NodeId) {
        if self
            .clients
            .get(&peer)
            .is_some_and(|c| c.connection == Some(connection))
        {
            self.account(now, peer, AccountInput::Liveness);
        }
    }

    pub(super) fn receipt_request(&mut self, now: Instant, connection: ConnectionId, peer: NodeId) {
        if self
            .clients
            .get(&peer)
            .is_some_and(|c| c.connection == Some(connection))
        {
            self.account(now, peer, AccountInput::ReceiptAsked);
        }
    }

    pub(super) fn stop(&mut self, now: Instant, connection: ConnectionId, peer: NodeId) {
        if self
            .clients
            .get(&peer)
            .is_some_and(|c| c.connection == Some(connection))
        {
            self.account(now, peer, AccountInput::Detach);
        }
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
            return self.refuse(connection, Kind::CloseRequest, ErrorCode::UnknownChannel, 0);
        };
        // Settling must leave the payee an output: below that the payer may pay the difference, or wait for E.
        let least = self
            .rate
            .fee(costs::SETTLEMENT_VB)
            .unwrap_or_default()
            .value()
            .saturating_add(crate::base::limits::DUST_P2TR_SAT);
        if payee.is_open() && payee.record().total.to_sat_ceil().value() < least {
            return self.refuse(connection, Kind::CloseRequest, ErrorCode::FeesTooHigh, least);
        }
        if self.clients.get(&peer).is_some_and(|c| c.paying == Some(slot)) {
            self.account(now, peer, AccountInput::ReceiptAsked);
            self.account(now, peer, AccountInput::Detach);
        }
        let _ = self.payee(now, slot, PayeeInput::Close);
    }

    pub(super) fn gate_readings(&mut self, now: Instant, readings: &[GateReading]) {
        for r in readings {
            let Some(id) = self.attachments.get(&r.client).copied() else {
                continue;
            };
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let (attachment, read) = (client.attachments, core::mem::take(&mut client.reading));
            let input = AccountInput::Reading {
                attachment,
                read,
                up: r.up,
                down: r.down,
                exhausted: r.exhausted,
            };
            self.account(now, id, input);
        }
    }

    /// The gate closed an attachment: its last reading, or none if it could not be read.
    pub(super) fn detached(&mut self, now: Instant, number: u16, last: Option<GateReading>) {
        let Some(id) = self.attachments.get(&number).copied() else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (attachment, read) = (client.attachments, core::mem::take(&mut client.reading));
        let input = match last {
            Some(r) => AccountInput::Reading {
                attachment,
                read,
                up: r.up,
                down: r.down,
                exhausted: r.exhausted,
            },
            None => AccountInput::ReadFailed { attachment, read },
        };
        self.account(now, id, input);
        self.attachments.remove(&number);
        if let Some(client) = self.clients.get_mut(&id) {
            client.gate = None;
            client.attached = false;
            let write = put(Table::Client, id.as_bytes(), &client.record());
            self.persist(write);
            if let Err(code) = self.attach_next(id) {
                crate::warn!("no attachment of the gate is free");
                if let Some(connection) = self.connection_of(&id) {
                    self.refuse(connection, Kind::BindRequest, code, 0);
                }
            }
        }
    }

    pub(super) fn gate_failed(&mut self, now: Instant) {
        self.gate_down = true;
        let waiting: Vec<(NodeId, u32, u32)> = self
            .clients
            .iter_mut()
            .filter(|(_, c)| c.reading != 0)
            .map(|(id, c)| (*id, c.attachments, core::mem::take(&mut c.reading)))
            .collect();
        for (id, attachment, read) in waiting {
            self.account(now, id, AccountInput::ReadFailed { attachment, read });
        }
    }

    pub(super) fn drift(&mut self, now: Instant, number: u16) {
        let Some(id) = self.attachments.get(&number).copied() else {
            return;
        };
        if let Some(connection) = self.connection_of(&id) {
            self.send(
                connection,
                Problem {
                    code: ErrorCode::BindingDrift,
                    about: 0,
                    detail: 0,
                    ext: Ext::default(),
                },
            );
        }
        self.account(now, id, AccountInput::Detach);
    }

    pub(super) fn tick_clients(&mut self, now: Instant) {
        if let Some(period) = self.free.tick(now) {
            self.persist_free();
            let ids: Vec<NodeId> = self.clients.keys().copied().collect();
            for id in ids {
                self.account(now, id, AccountInput::FreePeriod { period });
            }
        }
        let due: Vec<NodeId> = self
            .clients
            .iter()
            .filter(|(_, c)| c.account.next_timeout().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.account(now, id, AccountInput::Timer);
        }
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
