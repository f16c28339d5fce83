//! Sessions: hello, dispatch of messages, goodbye.

use super::record::{PeerRecord, Table, put};
use super::{Action, Event, Node};
use crate::base::limits::MAX_CONNECTIONS;
use crate::base::{ConnectionId, Instant, Msat, NodeId, Slot};
use crate::money::channel::PayerState;
use crate::wire::{ErrorCode, Ext, FrameError, Hello, Kind, Message, Problem, Resume, Signature, read_frame};
use alloc::vec::Vec;

impl Node {
    pub(super) fn connected(&mut self, connection: ConnectionId, id: NodeId) {
        if self.connections.len() >= MAX_CONNECTIONS {
            self.actions.push_back(Action::Disconnect {
                connection,
                code: ErrorCode::Full,
            });
            return;
        }
        self.connections.insert(connection, super::peer::Peer::new(id));
        let seen_generation = self.peers.get(&id).map_or(0, |p| p.generation);
        let hello = Hello {
            genesis: self.config.genesis,
            height: self.height,
            generation: self.generation,
            seen_generation,
            ext: Ext::default(),
        };
        self.send(connection, hello);
    }

    pub(super) fn disconnected(&mut self, now: Instant, connection: ConnectionId) {
        let Some(peer) = self.connections.remove(&connection) else {
            return;
        };
        self.buyer_gone(now, peer.id);
        self.notify(Event::PeerGone {
            connection,
            peer: peer.id,
        });
    }

    pub(super) fn frame(&mut self, now: Instant, connection: ConnectionId, frame: &[u8]) {
        let Some((peer, greeted)) = self.connections.get(&connection).map(|p| (p.id, p.greeted)) else {
            return;
        };
        let message = match read_frame(frame) {
            Ok(message) => message,
            // A newer peer: not a fault.
            Err(FrameError::UnknownKind(_)) => return,
            Err(_) => {
                let problem = Problem {
                    code: ErrorCode::Malformed,
                    about: 0,
                    detail: 0,
                    ext: Ext::default(),
                };
                self.send(connection, problem);
                self.actions.push_back(Action::Disconnect {
                    connection,
                    code: ErrorCode::Malformed,
                });
                return;
            }
        };
        if !greeted && message.kind() != Kind::Hello {
            return self.refuse(connection, message.kind(), ErrorCode::OutOfOrder, 0);
        }
        match message {
            Message::Hello(m) => self.hello(connection, peer, &m),
            Message::OfferRequest(_) => self.offer_request(connection),
            Message::Offer(m) => self.offered(now, connection, peer, &m),
            Message::OpenRequest(m) => self.open_request(now, connection, peer, &m),
            Message::OpenAccept(m) => self.accepted(connection, peer, &m),
            Message::Funded(m) => self.funded(now, connection, peer, &m),
            Message::Resume(m) => self.resume(now, connection, peer, &m),
            Message::ChannelReady(m) => self.ready(now, connection, peer, &m),
            Message::BindRequest(m) => self.bind_request(now, connection, peer, &m),
            Message::Bound(m) => self.bound(now, connection, &m),
            Message::Payment(m) => self.payment(now, connection, peer, &m),
            Message::PaymentAck(m) => self.acknowledged(now, connection, &m),
            Message::Usage(m) => self.usage(now, connection, &m),
            Message::ReceiptRequest(_) => self.receipt_request(now, connection, peer),
            Message::ReceiptOffer(m) => self.receipt_offered(now, connection, peer, &m),
            Message::ReceiptAnswer(m) => self.receipt_answer(now, connection, peer, &m),
            Message::Liveness(_) => self.liveness(now, connection, peer),
            Message::Stop(_) => self.stop(now, connection, peer),
            Message::CloseRequest(m) => self.close_request(now, connection, peer, &m),
            // The chain tells the payer what really happened; the notice only saves it the wait.
            Message::CloseNotice(_) => {}
            Message::Headers(m) => self.headers(now, connection, &m),
            Message::Problem(m) => self.problem(now, connection, &m),
        }
    }

    fn hello(&mut self, connection: ConnectionId, id: NodeId, hello: &Hello) {
        if hello.genesis != self.config.genesis {
            return self.refuse(connection, Kind::Hello, ErrorCode::WrongChain, 0);
        }
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        if core::mem::replace(&mut peer.greeted, true) {
            return self.refuse(connection, Kind::Hello, ErrorCode::OutOfOrder, 0);
        }
        peer.generation = hello.generation;
        if self.shares_money(&id) {
            self.remember(&id);
            let echoed = self.peers.get(&id).map_or(0, |p| p.echoed);
            if hello.seen_generation > self.generation.max(echoed) {
                self.copied(connection, id, hello.seen_generation);
            }
        }
        self.notify(Event::PeerReady { connection, peer: id });
        self.resume_channels(connection, id);
        self.buyer_greeted(connection, id);
    }

    /// Whether a channel with this peer holds or held money.
    fn shares_money(&self, id: &NodeId) -> bool {
        self.payees
            .values()
            .any(|p| p.record().peer == *id && p.is_seen())
            || self.payers.values().any(|p| p.record().peer == *id)
            || self.peers.contains_key(id)
    }

    /// Keeps the store generation that a peer shows, once there is money between us: strangers leave no row.
    pub(super) fn remember(&mut self, id: &NodeId) {
        let shown = self
            .connections
            .values()
            .filter(|p| p.id == *id)
            .map(|p| p.generation)
            .max();
        let known = self.peers.get(id).copied().unwrap_or_default();
        if shown.is_none_or(|shown| shown <= known.generation) {
            return;
        }
        let record = PeerRecord {
            generation: shown.unwrap_or(0),
            ..known
        };
        self.peers.insert(*id, record);
        let write = put(Table::Peer, id.as_bytes(), &record);
        self.persist(write);
    }

    /// A peer has seen this store younger than it is: the card is a copy, or was restored without saying so. Every
    /// simplex in which *this peer* pays us takes one last signature and is settled (money.md rule 16); a peer is believed
    /// about its own money only, and each number once.
    fn copied(&mut self, connection: ConnectionId, peer: NodeId, seen: u64) {
        let record = PeerRecord {
            echoed: seen,
            ..self.peers.get(&peer).copied().unwrap_or_default()
        };
        self.peers.insert(peer, record);
        let mut writes = alloc::vec![put(Table::Peer, peer.as_bytes(), &record)];
        for (slot, payee) in self.payees.iter_mut().filter(|(_, p)| p.record().peer == peer) {
            if payee.mark_restored() {
                writes.push(put(Table::Payee, &super::record::slot_key(*slot), payee.record()));
            }
        }
        writes.into_iter().for_each(|w| self.persist(w));
        self.send(
            connection,
            Problem {
                code: ErrorCode::CopiedStore,
                about: 0,
                detail: seen,
                ext: Ext::default(),
            },
        );
        self.notify(Event::CopiedStore { peer });
    }

    /// As payer: says of every channel with this peer what was paid last.
    fn resume_channels(&mut self, connection: ConnectionId, id: NodeId) {
        let live = |state: PayerState| matches!(state, PayerState::Open | PayerState::CloseAsked);
        let slots: Vec<_> = self
            .payers
            .iter()
            .filter(|(_, p)| p.record().peer == id && live(p.record().state) && p.record().outpoint.is_some())
            .map(|(s, _)| *s)
            .collect();
        for slot in slots {
            // A payee that was never told of the funding learns it first; one that was ignores it.
            self.send_funded(connection, slot);
            self.send_resume(connection, slot);
        }
    }

    /// Says what was paid last.
    pub(super) fn send_resume(&mut self, connection: ConnectionId, slot: Slot) {
        let Some(payer) = self.payers.get(&slot) else {
            return;
        };
        let (Some(channel), total) = (payer.id(), payer.record().total) else {
            return;
        };
        let signature = if total == Msat::ZERO {
            Some(Signature([0; 64]))
        } else {
            self.payment_signature(slot)
        };
        if let Some(signature) = signature {
            self.send(
                connection,
                Resume {
                    channel,
                    total,
                    signature,
                    ext: Ext::default(),
                },
            );
        }
    }
}
