//! Channels: list, close, raise the fee of a settlement, hand out refunds.

use super::news::{News, show, step};
use super::{Desk, figures, refusal};
use crate::control::{Channel, Failed, Hex, Refund, Responder, Response, Target, Which, amount};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant as Deadline;
use turnpike_protocol::base::{FeeRate, NodeId, Sat, Slot, Txid};
use turnpike_protocol::node::{ChannelView, Command, Event, Node, Role};
use turnpike_protocol::wire::{ErrorCode, Kind};

/// Longest wait that can be asked for: a settlement at a floor fee may need a day.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the channels are looked at while waiting: heights change without news.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long raising a fee may take: it is one signature.
const RAISE_WITHIN: Duration = Duration::from_secs(10);

impl Desk {
    pub(super) async fn channel_list(&self) -> Result<Response, Failed> {
        let channels = self
            .core
            .look(|n| n.channels().iter().map(figures::channel).collect())
            .await?;
        Ok(Response::Channels { channels })
    }

    pub(super) async fn channel_close(
        &self,
        which: Which,
        wait_seconds: u32,
        responder: &Responder,
    ) -> Result<Response, Failed> {
        let mut news = News::of(&self.core);
        let views = self.core.look(move |n| chosen(n, which)).await?;
        if let (Which::Slot(slot), true) = (which, views.is_empty()) {
            return Err(Failed::usage(
                format!("there is no channel with the number {slot}"),
                "see `turnpike channel list`",
            ));
        }
        self.call_payees(&views, responder).await?;
        let closing = match which {
            Which::Slot(slot) => Command::Close { slot: Slot(slot) },
            Which::All => Command::CloseAll,
        };
        self.core.command(closing).await?.map_err(refusal::command)?;
        let slots: Vec<Slot> = views.iter().map(|v| v.slot).collect();
        // Channels that the relay does not settle for what is paid so far.
        let mut too_little = BTreeSet::new();
        let deadline = Deadline::now() + Duration::from_secs(wait_seconds.into()).min(MAX_WAIT);
        loop {
            let asked = slots.clone();
            let (views, lit) = self
                .core
                .look(move |n| {
                    let views: Vec<ChannelView> = asked.iter().filter_map(|s| n.channel(*s)).collect();
                    (views, n.view().lit)
                })
                .await?;
            let done = |v: &ChannelView| is_settled(v) || too_little.contains(&v.slot);
            if views.iter().all(done) || Deadline::now() >= deadline {
                if let Some(text) = not_yet(&views, &too_little, lit) {
                    step(responder, text);
                }
                let channels: Vec<Channel> = views.iter().map(figures::channel).collect();
                return Ok(Response::Channels { channels });
            }
            let rest = deadline.saturating_duration_since(Deadline::now());
            match news.next_or_moment(LOOK_EVERY.min(rest)).await? {
                Some(Event::PeerProblem {
                    connection,
                    code: ErrorCode::FeesTooHigh,
                    about,
                    detail,
                }) if Kind::from_number(about) == Some(Kind::CloseRequest) => {
                    let relay = self.peer_of(connection).await?;
                    for view in views.iter().filter(|v| Some(v.peer) == relay) {
                        if let Some(text) = paid_too_little(view, Sat::new(detail)) {
                            if too_little.insert(view.slot) {
                                step(responder, text);
                            }
                        }
                    }
                }
                Some(event) if concerns(&event, &slots) => show(responder, self.tell(event).await?),
                _ => {}
            }
        }
    }

    /// A payee settles when it is asked, so it has to be there. One that is not is asked when it comes back.
    async fn call_payees(&self, views: &[ChannelView], responder: &Responder) -> Result<(), Failed> {
        let mut payees: Vec<NodeId> = views
            .iter()
            .filter(|v| v.role == Role::Payer && !is_settled(v))
            .map(|v| v.peer)
            .collect();
        payees.sort_unstable();
        payees.dedup();
        for payee in payees {
            let target = Target {
                node: Some(Hex(payee)),
                address: None,
            };
            if let Err(failed) = self.find(Some(target), false).await {
                let text = format!(
                    "relay {} is not there ({}), and settles once it is asked",
                    Hex(payee),
                    failed.error
                );
                step(responder, text);
            }
        }
        Ok(())
    }

    pub(super) async fn channel_raise_fee(&self, slot: u32, rate: FeeRate) -> Result<Response, Failed> {
        let mut news = News::of(&self.core);
        self.core
            .command(Command::RaiseFee {
                slot: Slot(slot),
                rate,
            })
            .await?
            .map_err(refusal::command)?;
        let raised = async {
            loop {
                match news.next().await? {
                    Some(Event::Settling { slots, txid, fee }) if slots.contains(&Slot(slot)) => {
                        return Ok(Response::Raised {
                            slot,
                            txid: Hex(txid),
                            fee_sat: fee,
                        });
                    }
                    _ => {}
                }
            }
        };
        let late = || {
            Failed::refused(
                "the raised settlement was not seen being sent",
                "see `turnpike channel list`",
            )
        };
        refusal::within(RAISE_WITHIN, raised, late).await
    }

    pub(super) async fn refund_export(&self) -> Result<Response, Failed> {
        let raw = self
            .core
            .look(|node| {
                let rate = node.fee_rate();
                let refund = |view: ChannelView| {
                    let pays = view.role == Role::Payer && !is_settled(&view);
                    Some((node.refund_transaction(view.slot, rate).filter(|_| pays)?, view))
                };
                node.channels().into_iter().filter_map(refund).collect::<Vec<_>>()
            })
            .await?;
        let refunds = raw
            .into_iter()
            .map(|(tx, view)| refund(tx, &view))
            .collect::<Result<_, _>>()?;
        Ok(Response::Refunds { refunds })
    }
}

/// The channels that a closing is about: those that something can still be done with.
fn chosen(node: &Node, which: Which) -> Vec<ChannelView> {
    match which {
        Which::Slot(slot) => node.channel(Slot(slot)).into_iter().collect(),
        // A channel that was never funded has nothing to settle.
        Which::All => node
            .channels()
            .into_iter()
            .filter(|v| !is_settled(v) && v.outpoint.is_some())
            .collect(),
    }
}

/// Whether the chain shows the end of it, or nothing is to come.
pub(super) fn is_settled(view: &ChannelView) -> bool {
    matches!(view.state, "settled" | "over")
}

/// Whether it belongs on the screen of someone who closes these channels.
fn concerns(event: &Event, slots: &[Slot]) -> bool {
    match event {
        Event::Settling { slots: settled, .. } => settled.iter().any(|s| slots.contains(s)),
        Event::LeftOut { slot, .. }
        | Event::Spent { slot, .. }
        | Event::BroadcastRefused { slot, .. }
        | Event::Lost { slot, .. } => slots.contains(slot),
        Event::PeerProblem { .. } => true,
        _ => false,
    }
}

/// What a payer is told whose relay settles from `least` on only.
fn paid_too_little(view: &ChannelView, least: Sat) -> Option<String> {
    let missing = least.checked_sub(view.total.to_sat_ceil())?;
    (view.role == Role::Payer && missing > Sat::ZERO).then(|| {
        format!(
            "channel {}: the relay settles from {} paid ({} more), or the channel is refunded at height {}",
            view.slot.0,
            amount::sat(least),
            amount::sat(missing),
            amount::grouped(view.expiry.value().into())
        )
    })
}

/// What is said at the end of the wait where something is still to come.
fn not_yet(views: &[ChannelView], too_little: &BTreeSet<Slot>, lit: bool) -> Option<String> {
    let waits = |v: &&ChannelView| {
        !is_settled(v) && v.spent_by.is_none() && v.outpoint.is_some() && !too_little.contains(&v.slot)
    };
    let waiting: Vec<String> = views.iter().filter(waits).map(|v| v.slot.0.to_string()).collect();
    if waiting.is_empty() {
        return None;
    }
    let why = if lit {
        "it is, as soon as it can be: see `turnpike channel list`"
    } else {
        "the chain cannot be reached; it is done once the chain answers, keep turnpiked running"
    };
    Some(format!(
        "channel {}: not broadcast yet: {why}",
        waiting.join(", ")
    ))
}

fn refund(raw: Vec<u8>, view: &ChannelView) -> Result<Refund, Failed> {
    let broken = || {
        Failed::daemon(
            "a refund could not be built",
            "restore the store from a backup, then export again",
        )
    };
    let tx: bitcoin::Transaction = deserialize(&raw).map_err(|_| broken())?;
    let paid = tx.output.iter().map(|o| o.value.to_sat()).sum();
    Ok(Refund {
        slot: view.slot.0,
        outpoint: Hex(view.outpoint.ok_or_else(broken)?),
        capacity_sat: view.capacity,
        fee_sat: view.capacity.checked_sub(Sat::new(paid)).ok_or_else(broken)?,
        expiry_height: view.expiry,
        txid: Hex(Txid::from_bytes(tx.compute_txid().to_byte_array())),
        transaction: Hex(raw),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::{BlockHeight, Msat, Outpoint};

    fn paid(total_msat: u64) -> ChannelView {
        ChannelView {
            slot: Slot(4),
            id: None,
            role: Role::Payer,
            peer: NodeId::from_bytes([1; 32]),
            capacity: Sat::new(50_000),
            total: Msat::new(total_msat),
            expiry: BlockHeight::new(1_000),
            settle_by: BlockHeight::new(900),
            outpoint: Some(Outpoint {
                txid: Txid::from_bytes([2; 32]),
                vout: 0,
            }),
            funded_at: None,
            state: "open",
            outcome: None,
            ended_at: None,
            spent_by: None,
            funding_fee: Sat::ZERO,
            ceiling: Msat::ZERO,
        }
    }

    #[test]
    fn a_payer_is_told_what_is_missing_until_the_relay_settles() {
        let text = paid_too_little(&paid(120_500), Sat::new(206)).unwrap();
        assert_eq!(
            text,
            "channel 4: the relay settles from 206 sat paid (85 sat more), or the channel is refunded at height 1,000"
        );
        // The relay's count is the newer one then: its refusal is about something else.
        assert_eq!(paid_too_little(&paid(206_000), Sat::new(206)), None);
    }

    #[test]
    fn what_was_not_broadcast_does_not_look_done() {
        let none = BTreeSet::new();
        let dark = not_yet(&[paid(1)], &none, false).unwrap();
        assert!(
            dark.contains("channel 4: not broadcast yet: the chain cannot be reached"),
            "{dark}"
        );
        assert!(!not_yet(&[paid(1)], &none, true).unwrap().contains("reached"));
        let spent = ChannelView {
            spent_by: Some(Txid::from_bytes([3; 32])),
            ..paid(1)
        };
        assert_eq!(not_yet(&[spent], &none, false), None);
        assert_eq!(not_yet(&[paid(1)], &BTreeSet::from([Slot(4)]), true), None);
    }
}
