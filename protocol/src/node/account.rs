//! The seller's accounts: what they want done, what is told to the client, receipts.

use super::record::{ReceiptRecord, Table, Write, put, receipt_key};
use super::service::Client;
use super::{ACCESS, Action, Event, Node};
use crate::base::limits::MAX_RECEIPTS_PER_CHANNEL;
use crate::base::{ByteCount, ConnectionId, Instant, NodeId};
use crate::market::{AccountAction, AccountInput, PauseReason, receipt_digest};
use crate::wire::{
    self, ErrorCode, Ext, Kind, Problem, Receipt, ReceiptAnswer, ReceiptOffer, Signature, Usage,
};
use heapless::Vec as Bounded;
impl Node {
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
            (None, Some(connection)) => {
                if reason == PauseReason::Debt {
                    // It should know what its next payments are for before it makes them.
                    let detail = client.account.debt().value();
                    let problem = Problem {
                        code: ErrorCode::Debt,
                        about: 0,
                        detail,
                        ext: Ext::default(),
                    };
                    self.send(connection, problem);
                }
                self.send_usage(now, id);
            }
            // Whatever it was about to pay: it gets nothing for it.
            (Some(ErrorCode::Blocked), Some(connection)) => {
                self.refuse(connection, Kind::Payment, ErrorCode::Blocked, 0);
            }
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

    /// A receipt that is not answered is offered again before its client hears of more credit: after that it would
    /// state less than was acknowledged, and be refused for ever.
    pub(super) fn offer_receipt_again(&mut self, id: NodeId) {
        let waits = |c: &Client| c.offered.is_some() && c.account.record().receipt.open;
        if self.clients.get(&id).is_some_and(waits) {
            self.offer_receipt(id, true);
        }
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
            client.offered = Some(record.clone());
            self.keep_receipt(&receipt, &record);
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
        let Ok(receipt) = wire::decode::<Receipt>(&record.receipt) else {
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
        let record = record.clone();
        client.offered = None;
        self.keep_receipt(&receipt, &record);
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

    /// Keeps a receipt, and lets go of the one that is too old now (either side's).
    pub(super) fn keep_receipt(&mut self, receipt: &Receipt, record: &ReceiptRecord) {
        let write = put(Table::Receipt, &receipt_key(receipt), record);
        self.persist(write);
        if let Some(sequence) = receipt.sequence.checked_sub(MAX_RECEIPTS_PER_CHANNEL) {
            let old = Receipt { sequence, ..*receipt };
            self.persist(Write::Delete {
                table: Table::Receipt,
                key: receipt_key(&old),
            });
        }
    }

    pub(super) fn liveness(&mut self, now: Instant, connection: ConnectionId, peer: NodeId) {
        let client = self
            .clients
            .get(&peer)
            .filter(|c| c.connection == Some(connection));
        let Some(client) = client else { return };
        // It lives, but maybe on another device by now, or somebody else has its address.
        if let Some(client) = client.gate.filter(|_| client.attached) {
            self.actions.push_back(Action::CheckBinding { client });
        }
        self.account(now, peer, AccountInput::Liveness);
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
}
