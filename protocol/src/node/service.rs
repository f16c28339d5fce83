//! The seller's service: bindings, payments, the gate.

use super::record::{ClientRecord, ReceiptRecord, Table, put};
use super::{ACCESS, Action, Config, GateReading, Node};
use crate::base::limits::{BINDS_WITHIN_SECS, MAX_BINDS};
use crate::base::{ByteCount, ChannelId, ConnectionId, Duration, Instant, Msat, NodeId, Slot};
use crate::market::{Account, AccountInput, AccountRecord, Standing};
use crate::money::channel::{Payee, PayeeError, PayeeInput, PayeeState, TakenBack};
use crate::wire::{BindRequest, BindingClass, Bound, ErrorCode, Ext, Kind, Payment, PaymentAck, Problem};
use alloc::vec::Vec;
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
    pub attached: bool,
    /// A binding that waits for the one before to be closed.
    pub next: Option<Binding>,
    /// The channel of the binding that the gate works on: as it was asked for, whatever its slot holds by then.
    pub binding: Option<ChannelId>,
    /// The reading that the account waits for.
    pub reading: u32,
    /// Bindings asked for since the moment beside them.
    binds: (Instant, u8),
    /// The receipt on offer.
    pub offered: Option<ReceiptRecord>,
}

/// A binding that was asked for.
pub(super) struct Binding {
    connection: ConnectionId,
    slot: Slot,
    channel: ChannelId,
    addresses: Vec<[u8; 16]>,
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
            binding: None,
            reading: 0,
            offered: None,
            binds: (now, 0),
        }
    }

    pub fn record(&self) -> ClientRecord {
        ClientRecord {
            account: *self.account.record(),
            paying: self.paying,
            gate: self.gate,
            attachments: self.attachments,
        }
    }
}

impl Node {
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
        // The account counts by the channel's name: one that has another name now must be bound anew.
        let named = client.account.record().channel.map(|base| base.channel);
        let present = self.payees.get(&slot).and_then(Payee::id);
        let bound = bound && present.is_none_or(|present| named == Some(present));
        if message.account != ACCESS || !bound {
            return Err((ErrorCode::UnknownAccount, 0));
        }
        // Never take money for service that cannot be given, or will not be.
        if client.account.standing() == Standing::Blocked {
            return Err((ErrorCode::Blocked, 0));
        }
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
        // A channel that was given up credits nothing, whoever is still bound to it.
        let total = credited.ok_or((ErrorCode::UnknownChannel, 0))?;
        self.account(now, peer, AccountInput::Liveness);
        self.offer_receipt_again(peer);
        let granted = self
            .clients
            .get(&peer)
            .map_or(ByteCount::ZERO, |c| c.account.usage(now).granted);
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
        let (peer, over) = (record.peer, record.state == PayeeState::Over);
        let counted = self.payees.get(&slot).map_or(Msat::ZERO, Payee::counted);
        let Some(channel) = self.payees.get(&slot).and_then(Payee::id) else {
            return;
        };
        let Some(client) = self.clients.get(&peer) else {
            return;
        };
        let present = client.account.record().channel.map(|base| base.channel);
        // The account is told of another channel only when the gate has confirmed its binding.
        let input = if present == Some(channel) && !over {
            AccountInput::Paid { total: counted }
        } else {
            AccountInput::Earlier {
                channel,
                total: counted,
                over,
            }
        };
        self.account(now, peer, input);
    }

    /// Every channel that an account counts on is compared with what the account counts: it may have moved on, or the
    /// power may have gone, between two writes.
    pub(super) fn compare_totals(&mut self, now: Instant, id: NodeId) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let record = client.account.record();
        let counted: Vec<ChannelId> = record
            .channel
            .iter()
            .map(|base| base.channel)
            .chain(record.earlier.iter().flatten().map(|e| e.channel))
            .collect();
        let slots: Vec<Slot> = self
            .payees
            .iter()
            .filter(|(_, p)| p.record().peer == id && p.id().is_some_and(|id| counted.contains(&id)))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in slots {
            self.total_changed(now, slot);
        }
    }

    /// Money that was counted on this channel will never come.
    pub(super) fn money_lost(&mut self, now: Instant, slot: Slot, amount: Msat, back: TakenBack) {
        let Some(peer) = self.payees.get(&slot).map(|p| p.record().peer) else {
            return;
        };
        let given_up = back == TakenBack::GivenUp;
        self.account(now, peer, AccountInput::Lost { amount, given_up });
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
            // With nobody attached nothing else reads it, and only a reading tells that it works again.
            if !self.actions.contains(&Action::ReadGate) {
                self.actions.push_back(Action::ReadGate);
            }
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
        // What a channel paid moves along when the next one takes over, so nobody goes back to an earlier one.
        if self
            .clients
            .get(&peer)
            .and_then(|c| c.paying)
            .is_some_and(|before| slot < before)
        {
            return Err(ErrorCode::BindingRefused);
        }
        let channel = payee.id().ok_or(ErrorCode::UnknownChannel)?;
        let movable = |c: &Client| c.account.has_place_for(channel);
        if !self.clients.get(&peer).is_none_or(movable) {
            return Err(ErrorCode::Full);
        }
        // Rules are laid for money that exists, or for what is given away.
        if !payee.is_seen() && selling.config.sheet.free == ByteCount::ZERO {
            return Err(ErrorCode::ExposureFull);
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
            binding: None,
            reading: 0,
            offered: None,
            binds: (now, 0),
        });
        if now.since(client.binds.0) >= Duration::from_secs(BINDS_WITHIN_SECS) {
            client.binds = (now, 0);
        }
        client.binds.1 = client.binds.1.saturating_add(1);
        if client.binds.1 > MAX_BINDS {
            return Err(ErrorCode::TooFast);
        }
        if client.account.standing() == Standing::Blocked {
            return Err(ErrorCode::Blocked);
        }
        if client.gate.is_some_and(|gate| self.detaching.contains_key(&gate)) {
            // The binding before is not counted yet, and it is tried again.
            return Err(ErrorCode::GateDown);
        }
        client.next = Some(Binding {
            connection,
            slot,
            channel,
            addresses: message.addresses.to_vec(),
        });
        let asked = client.gate.is_some() && self.attachments.values().any(|holder| *holder == peer);
        if asked && client.binding.is_some() {
            // The gate has not answered the one before yet: this one follows it.
        } else if asked {
            // The device moved or came back: the old binding is closed and counted before the new one opens.
            self.account(now, peer, AccountInput::Detach);
        } else {
            self.attach_next(peer)?;
        }
        Ok(())
    }

    pub(super) fn attach_next(&mut self, id: NodeId) -> Result<(), ErrorCode> {
        let number = (1..=u16::MAX)
            .find(|n| !self.attachments.contains_key(n))
            .ok_or(ErrorCode::Full)?;
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        let Some(Binding {
            connection,
            slot,
            channel,
            addresses,
        }) = client.next.take()
        else {
            return Ok(());
        };
        client.binding = Some(channel);
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
        let bound = client.binding.take();
        if let Err(code) = result {
            client.gate = None;
            client.connection = None;
            let write = put(Table::Client, id.as_bytes(), &client.record());
            self.persist(write);
            self.attachments.remove(&number);
            if let Some(connection) = connection {
                self.refuse(connection, Kind::BindRequest, code, 0);
            }
            return self.attach_or_refuse(id);
        }
        let superseded = client.next.is_some();
        let present = slot.and_then(|s| self.payees.get(&s)).and_then(Payee::id);
        let Some(channel) = present.filter(|_| present == bound && !superseded) else {
            // What is asked for by now is something else, or its channel has another funding: nothing was granted yet.
            self.actions.push_back(Action::Detach { client: number });
            if let Some(connection) = connection.filter(|_| !superseded) {
                self.refuse(connection, Kind::BindRequest, ErrorCode::UnknownChannel, 0);
            }
            return;
        };
        client.attached = true;
        self.account(now, id, AccountInput::Channel { channel });
        self.compare_totals(now, id);
        self.account(now, id, AccountInput::Attach { attachment });
        self.offer_receipt_again(id);
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

    /// Opens the binding that waits, if any.
    pub(super) fn attach_or_refuse(&mut self, id: NodeId) {
        if let Err(code) = self.attach_next(id) {
            crate::warn!("no attachment of the gate is free");
            if let Some(connection) = self.connection_of(&id) {
                self.refuse(connection, Kind::BindRequest, code, 0);
            }
        }
    }

    pub(super) fn gate_readings(&mut self, now: Instant, readings: &[GateReading]) {
        for r in readings {
            let Some(id) = self.attachments.get(&r.client).copied() else {
                continue;
            };
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            if client.account.is_closing() {
                // Only what is read after its packets were taken away is the last.
                continue;
            }
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

    pub(super) fn gate_failed(&mut self, now: Instant) {
        self.gate_down = true;
        let waiting: Vec<(NodeId, u32, u32)> = self
            .clients
            .iter_mut()
            .filter(|(_, c)| c.reading != 0 && !c.account.is_closing())
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
}
