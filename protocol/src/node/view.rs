//! What the owner may see: plain values, read at any time, no secrets.

use super::Node;
use super::load::sheet_digest;
use crate::base::{
    BlockHeight, ByteCount, ChannelId, ConnectionId, GenesisHash, Instant, Msat, NodeId, Outpoint, Sat, Slot,
    Txid,
};
use crate::crypto::Verifier;
use crate::market::{Exposure, Quantity, Standing, UNLIMITED, UsageFigures};
use crate::money::channel::{PayeeState, PayerState};
use crate::wire::{self, PriceSheet, Signature};
use alloc::vec::Vec;
use bitcoin::secp256k1::schnorr;

pub use crate::market::BuyerView;

/// Which side of a channel we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We pay.
    Payer,
    /// We are paid.
    Payee,
}

/// One channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelView {
    /// Its row.
    pub slot: Slot,
    /// Its name, once funded.
    pub id: Option<ChannelId>,
    /// Which side we are.
    pub role: Role,
    /// The other side.
    pub peer: NodeId,
    /// Capacity.
    pub capacity: Sat,
    /// Paid so far.
    pub total: Msat,
    /// From here on the payer can take everything back.
    pub expiry: BlockHeight,
    /// The payee must have settled by here.
    pub settle_by: BlockHeight,
    /// The funding output.
    pub outpoint: Option<Outpoint>,
    /// The funding's block.
    pub funded_at: Option<BlockHeight>,
    /// One word.
    pub state: &'static str,
    /// How it ended, once it is over.
    pub outcome: Option<&'static str>,
    /// The height when it was over.
    pub ended_at: Option<BlockHeight>,
    /// The transaction that spent it, if any.
    pub spent_by: Option<Txid>,
    /// What the funding cost, as payer.
    pub funding_fee: Sat,
    /// Totals above this are refused now, as payee.
    pub ceiling: Msat,
}

/// One client of a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountView {
    /// The client.
    pub client: NodeId,
    /// The channel that pays.
    pub paying: Option<Slot>,
    /// The attachment of the gate, if its packets pass now.
    pub gate: Option<u16>,
    /// How the owner treats it.
    pub standing: Standing,
    /// Figures of the present channel.
    pub usage: UsageFigures,
    /// Used and not paid, over all channels: money that had counted never came.
    pub debt: Msat,
}

/// What would be lost if one peer vanished now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExposureView {
    /// The peer.
    pub peer: NodeId,
    /// The channel.
    pub slot: Option<Slot>,
    /// As payer: paid and not yet used. As payee: served, and either not yet durable or paid with money that may not
    /// come, or did not.
    pub role: Role,
    /// In money.
    pub msat: Msat,
    /// In bytes; zero where they cost nothing.
    pub bytes: ByteCount,
    /// In milliseconds at the present rate; `None` while nothing flows.
    pub millis: Option<u64>,
    /// Locked until the expiry if the peer falls silent, as payer.
    pub locked: Sat,
}

/// What one client bought here over the life of its account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoldView {
    /// The client.
    pub client: NodeId,
    /// Bytes from it.
    pub up: ByteCount,
    /// Bytes to it.
    pub down: ByteCount,
    /// What that cost.
    pub cost: Msat,
    /// What it paid, lost money included.
    pub paid: Msat,
    /// What of that never came, or went back to the client.
    pub lost: Msat,
}

/// The node as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Identity.
    pub id: NodeId,
    /// The lowest height that the chain can have.
    pub height: BlockHeight,
    /// Our own chain back end speaks.
    pub lit: bool,
    /// Store generation.
    pub generation: u64,
    /// Live sessions: number, who, we called it a relay by asking its offer.
    pub sessions: Vec<(ConnectionId, NodeId)>,
    /// The gate cannot be read or set.
    pub gate_down: bool,
    /// Clients whose last binding the gate could not close: its use is not billed yet, and they are not served.
    pub uncounted: Vec<NodeId>,
}

impl Node {
    /// The node as a whole.
    pub fn view(&self) -> NodeView {
        NodeView {
            id: self.id(),
            height: self.height,
            lit: self.lit,
            generation: self.generation,
            sessions: self
                .connections
                .iter()
                .filter(|(_, p)| p.greeted)
                .map(|(c, p)| (*c, p.id))
                .collect(),
            gate_down: self.gate_down,
            uncounted: self.uncounted(),
        }
    }

    /// The price sheet in force, if we sell.
    pub fn sheet(&self) -> Option<&crate::wire::PriceSheet> {
        self.selling.as_ref().map(|s| s.prices.sheet())
    }

    /// How we sell, if we do.
    pub fn relay_config(&self) -> Option<&super::RelayConfig> {
        self.selling.as_ref().map(|s| &s.config)
    }

    /// Fee rate for a settlement or refund now.
    pub fn fee_rate(&self) -> crate::base::FeeRate {
        self.rate
    }

    /// Every channel, oldest first; of those that are over the newest
    /// [`MAX_HISTORY`](crate::base::limits::MAX_HISTORY).
    pub fn channels(&self) -> Vec<ChannelView> {
        let mut views: Vec<ChannelView> = self
            .payers
            .keys()
            .chain(self.payees.keys())
            .chain(self.history.keys())
            .filter_map(|s| self.channel(*s))
            .collect();
        views.sort_by_key(|v| v.slot);
        views
    }

    /// One channel.
    pub fn channel(&self, slot: Slot) -> Option<ChannelView> {
        if let Some(payer) = self.payers.get(&slot) {
            let r = payer.record();
            let (state, spent_by) = match r.state {
                PayerState::Accepted => ("accepted", None),
                PayerState::Open if r.funded_at.is_none() => ("unconfirmed", None),
                PayerState::Open => ("open", None),
                PayerState::CloseAsked => ("closing", None),
                PayerState::Spent { txid, .. } | PayerState::Sweeping { txid, .. } => ("settled", Some(txid)),
                PayerState::Over => ("over", None),
            };
            return Some(ChannelView {
                slot,
                id: payer.id(),
                role: Role::Payer,
                peer: r.peer,
                capacity: r.terms.capacity,
                total: r.total,
                expiry: r.terms.expiry,
                settle_by: r.terms.expiry.minus(3 * crate::base::limits::MARGIN),
                outpoint: r.outpoint,
                funded_at: r.funded_at,
                state,
                outcome: None,
                ended_at: None,
                spent_by,
                funding_fee: r.funding_fee,
                ceiling: Msat::ZERO,
            });
        }
        let Some(payee) = self.payees.get(&slot) else {
            return self.history_view(slot);
        };
        let r = payee.record();
        let (state, spent_by) = match r.state {
            PayeeState::Open if r.outpoint.is_none() => ("accepted", None),
            PayeeState::Open if !payee.is_deep() => ("unconfirmed", None),
            PayeeState::Open => ("open", None),
            PayeeState::Restored => ("restored", None),
            PayeeState::Closing => ("closing", None),
            PayeeState::Spent { txid, .. } => ("settled", Some(txid)),
            PayeeState::Refunded { txid, .. } => ("refunded", Some(txid)),
            PayeeState::Missing => ("missing", None),
            PayeeState::Over => ("over", None),
        };
        Some(ChannelView {
            slot,
            id: payee.id(),
            role: Role::Payee,
            peer: r.peer,
            capacity: r.terms.capacity,
            total: r.total,
            expiry: r.terms.expiry,
            settle_by: payee.settle_at(),
            outpoint: r.outpoint,
            funded_at: r.funded_at,
            state,
            outcome: None,
            ended_at: None,
            spent_by,
            funding_fee: Sat::ZERO,
            ceiling: self.ceilings(slot),
        })
    }

    /// Every client that was ever served.
    pub fn accounts(&self, now: Instant) -> Vec<AccountView> {
        let view = |(id, c): (&NodeId, &super::service::Client)| AccountView {
            client: *id,
            paying: c.paying,
            gate: c.gate,
            standing: c.account.record().standing,
            usage: c.account.usage(now),
            debt: c.account.debt(),
        };
        self.clients.iter().map(view).collect()
    }

    /// Credit that was given although it could still be lost, or was lost lately: (unconfirmed in all, its configured bound).
    pub fn unconfirmed(&self) -> (Msat, Msat) {
        let all = self
            .payees
            .values()
            .map(|p| p.unconfirmed().saturating_add(p.lately_lost()))
            .fold(Msat::ZERO, Msat::saturating_add);
        (
            all,
            self.selling
                .as_ref()
                .map_or(Msat::ZERO, |s| s.config.policy.unconfirmed_total),
        )
    }

    /// What would be lost if the others vanished now, by peer and side. Channels that are settled are left out.
    pub fn exposures(&self) -> Vec<ExposureView> {
        let paying = self.payers.iter().filter_map(|(slot, payer)| {
            let record = payer.record();
            let live = matches!(record.state, PayerState::Open | PayerState::CloseAsked);
            if !live || record.outpoint.is_none() {
                return None;
            }
            let buyer = self.buyers.get(&record.peer).map(|b| &b.buyer);
            let (msat, bytes, millis) = match buyer {
                Some(buyer) if buyer.record().channel == payer.id() => {
                    let view = buyer.view();
                    let exposure = buyer.exposure();
                    let msat = exposure.map_or(record.total.saturating_sub(view.cost), |e| e.msat);
                    (
                        msat,
                        Some(view.left).filter(|b| *b != UNLIMITED).unwrap_or_default(),
                        exposure.and_then(|e| e.millis),
                    )
                }
                // What it paid was used up before its successor began, or came along as credit there.
                Some(_) => (Msat::ZERO, ByteCount::ZERO, None),
                None => (record.total, ByteCount::ZERO, None),
            };
            Some(ExposureView {
                peer: record.peer,
                slot: Some(*slot),
                role: Role::Payer,
                msat,
                bytes,
                millis,
                locked: record.terms.capacity,
            })
        });
        let paid = self.clients.iter().map(|(id, client)| {
            let unconfirmed = self
                .payees
                .values()
                .filter(|p| p.record().peer == *id)
                .fold(Msat::ZERO, |sum, p| sum.saturating_add(p.unconfirmed()));
            let exposure = Exposure::of_relay(&client.account, unconfirmed);
            let prices = &client.account.record().prices;
            let bytes = prices
                .room(exposure.msat, &Quantity::default())
                .filter(|b| *b != UNLIMITED);
            ExposureView {
                peer: *id,
                slot: client.paying,
                role: Role::Payee,
                msat: exposure.msat,
                bytes: bytes.unwrap_or_default(),
                millis: exposure.millis,
                locked: Sat::ZERO,
            }
        });
        paying.chain(paid).collect()
    }

    /// What was sold over the life of each account, as far as it is counted.
    pub fn sold(&self) -> Vec<SoldView> {
        let view = |(id, c): (&NodeId, &super::service::Client)| {
            let record = c.account.record();
            SoldView {
                client: *id,
                up: record.up,
                down: record.down,
                cost: record.cost(),
                paid: c.account.paid_total().saturating_add(record.lost),
                lost: record.lost.saturating_add(record.given_up),
            }
        };
        self.clients.iter().map(view).collect()
    }

    /// Totals up to which a relay takes payments now, in a channel in which we pay; `None` before it said so in this
    /// session.
    pub fn ceiling(&self, connection: ConnectionId, slot: Slot) -> Option<Msat> {
        let peer = self.connections.get(&connection)?;
        peer.ready.iter().find(|r| r.slot == slot).map(|r| r.ceiling)
    }

    /// The price sheet in force as it is signed, with its signature, to be shown to whoever looks for relays.
    pub fn signed_sheet(&self) -> Option<(&[u8], Signature)> {
        self.selling.as_ref().map(|s| (s.bytes.as_slice(), s.signature))
    }

    /// Numbers of the attachments that are in use, or were when the power went.
    pub fn attachments(&self) -> Vec<u16> {
        self.attachments.keys().copied().collect()
    }

    /// Purchases, by relay.
    pub fn purchases(&self) -> Vec<(NodeId, BuyerView)> {
        self.buyers
            .iter()
            .map(|(relay, b)| (*relay, b.buyer.view()))
            .collect()
    }

    /// The offer of a relay in this session, if it was asked.
    pub fn offer(&self, connection: ConnectionId) -> Option<&super::Offer> {
        self.connections.get(&connection)?.offer.as_ref()
    }

    /// An open channel in which we pay this peer and something is left.
    pub fn paying_channel(&self, peer: &NodeId) -> Option<Slot> {
        // The newest: a relay never goes back to an earlier one.
        self.payers
            .iter()
            .rev()
            .find(|(_, p)| p.record().peer == *peer && p.is_open() && p.left() > Msat::ZERO)
            .map(|(s, _)| *s)
    }

    /// Bytes that a client used, by both counters, for displays.
    pub fn used(usage: &UsageFigures) -> ByteCount {
        usage.up.saturating_add(usage.down)
    }
}

/// Reads a price sheet that `relay` signed; `None` if it did not, or if it is no sheet. Whether its prices are in
/// force is another question.
pub fn read_sheet(
    verifier: &Verifier,
    genesis: GenesisHash,
    relay: NodeId,
    bytes: &[u8],
    signature: &[u8; 64],
) -> Option<PriceSheet> {
    let sheet = wire::decode(bytes).ok()?;
    let signature = schnorr::Signature::from_slice(signature).ok()?;
    let digest = sheet_digest(genesis, relay, bytes);
    verifier.verify(&relay, &digest, &signature).ok()?;
    Some(sheet)
}
