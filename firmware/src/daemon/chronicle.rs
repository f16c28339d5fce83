//! The log for the owner: one line for each session, channel, purchase and client that begins, changes or ends.
//!
//! Sessions come from the news; everything else is looked at after news, a moment later so that a busy node stays
//! quiet, and now and then without any. What is logged are changes of state, so no line comes twice.

use super::core::CoreHandle;
use crate::control::Hex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant as Clock};
use tokio::sync::broadcast::error::RecvError;
use turnpike_protocol::base::{Instant, NodeId, Slot};
use turnpike_protocol::market::{BuyerState, BuyerView, Standing};
use turnpike_protocol::node::{AccountView, ChannelView, Event, Node, Role};

/// How long after news the node is looked at.
const SOON: Duration = Duration::from_millis(500);
/// How long it is not looked at without any.
const EVENTUALLY: Duration = Duration::from_secs(30);

/// Writes the log until the daemon goes down. `started` is the origin of the core's clock.
pub async fn keep(core: CoreHandle, started: Clock) {
    let mut events = core.events();
    let Ok(mut known) = look(&core, started).await else {
        return;
    };
    loop {
        let mut due = tokio::time::Instant::now() + EVENTUALLY;
        let mut woken = false;
        // Sessions are told at once; all else that happens within a moment is one look.
        loop {
            let event = match tokio::time::timeout_at(due, events.recv()).await {
                Err(_) => break,
                Ok(Err(RecvError::Closed)) => return,
                Ok(event) => event.ok(),
            };
            match event {
                Some(Event::PeerReady { peer, .. }) => tracing::info!(peer = %Hex(peer), "session up"),
                Some(Event::PeerGone { peer, .. }) => tracing::info!(peer = %Hex(peer), "session down"),
                _ => {}
            }
            if !std::mem::replace(&mut woken, true) {
                due = tokio::time::Instant::now() + SOON;
            }
        }
        let Ok(now) = look(&core, started).await else {
            return;
        };
        for line in now.since(&known) {
            tracing::info!("{line}");
        }
        known = now;
    }
}

async fn look(core: &CoreHandle, started: Clock) -> Result<Picture, super::Down> {
    core.look(move |node| {
        let now = Instant::from_micros(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        Picture::of(node, now)
    })
    .await
}

/// Everything whose changes are logged.
#[derive(Default)]
struct Picture {
    channels: BTreeMap<Slot, ChannelView>,
    purchases: BTreeMap<NodeId, BuyerView>,
    clients: BTreeMap<NodeId, (Standing, bool)>,
}

impl Picture {
    fn of(node: &Node, now: Instant) -> Picture {
        let client = |a: AccountView| (a.client, (a.standing, a.usage.exhausted));
        Picture {
            channels: node.channels().into_iter().map(|c| (c.slot, c)).collect(),
            purchases: node.purchases().into_iter().collect(),
            clients: node.accounts(now).into_iter().map(client).collect(),
        }
    }

    /// A line for each difference.
    fn since(&self, before: &Picture) -> Vec<String> {
        let mut lines = Vec::new();
        for (slot, channel) in &self.channels {
            if before.channels.get(slot).map(|c| c.state) != Some(channel.state) {
                lines.push(channel_line(channel));
            }
        }
        for (relay, view) in &self.purchases {
            let was = before.purchases.get(relay).map(|v| v.state);
            let ran = was.is_some_and(runs);
            match (ran, runs(view.state)) {
                (false, true) => lines.push(format!(
                    "purchase started: from {}, {} at most",
                    Hex(*relay),
                    view.max
                )),
                (true, false) => lines.push(format!(
                    "purchase ended ({:?}): from {}, {} used, {} spent",
                    view.state,
                    Hex(*relay),
                    view.used,
                    view.spent
                )),
                _ => {}
            }
        }
        for (client, (standing, cut)) in &self.clients {
            let (was, was_cut) = before
                .clients
                .get(client)
                .copied()
                .unwrap_or((Standing::Normal, false));
            if was != *standing {
                let treated = match standing {
                    Standing::Normal => "pays as others do",
                    Standing::Exempt => "is served for nothing",
                    Standing::Blocked => "is blocked",
                };
                lines.push(format!("client {} {treated}", Hex(*client)));
            }
            if was_cut != *cut {
                let what = if *cut {
                    "is cut: its credit is used up"
                } else {
                    "has credit again"
                };
                lines.push(format!("client {} {what}", Hex(*client)));
            }
        }
        lines
    }
}

fn channel_line(channel: &ChannelView) -> String {
    let how = match (channel.state, channel.outcome) {
        ("accepted", _) => "accepted".to_owned(),
        ("unconfirmed", _) => "opened, its funding is not confirmed yet".to_owned(),
        ("open", _) => "open, its funding is confirmed".to_owned(),
        ("restored", _) => "restored".to_owned(),
        ("over", Some(outcome)) => format!("over, {outcome}"),
        (state, _) => state.to_owned(),
    };
    let side = match channel.role {
        Role::Payer => "to",
        Role::Payee => "from",
    };
    format!(
        "channel {} {side} {} is {how}: {} paid of {}",
        channel.slot.0,
        Hex(channel.peer),
        channel.total,
        channel.capacity
    )
}

fn runs(state: BuyerState) -> bool {
    !matches!(
        state,
        BuyerState::Idle | BuyerState::Done | BuyerState::Stopped(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::{BlockHeight, Msat, Sat};

    const PEER: NodeId = NodeId::from_bytes([7; 32]);

    fn channel(state: &'static str) -> ChannelView {
        ChannelView {
            slot: Slot(3),
            id: None,
            role: Role::Payee,
            peer: PEER,
            capacity: Sat::new(50_000),
            total: Msat::new(1_500),
            expiry: BlockHeight::new(1_000),
            settle_by: BlockHeight::new(900),
            outpoint: None,
            funded_at: None,
            state,
            outcome: None,
            ended_at: None,
            spent_by: None,
            funding_fee: Sat::ZERO,
            ceiling: Msat::ZERO,
        }
    }

    #[test]
    fn a_change_is_one_line_and_none_is_none() {
        let picture = |state, buying, standing, cut| Picture {
            channels: BTreeMap::from([(Slot(3), channel(state))]),
            purchases: BTreeMap::from([(
                PEER,
                BuyerView {
                    state: buying,
                    ..BuyerView::default()
                },
            )]),
            clients: BTreeMap::from([(PEER, (standing, cut))]),
        };
        let quiet = picture("unconfirmed", BuyerState::Done, Standing::Normal, false);
        assert_eq!(quiet.since(&quiet), Vec::<String>::new());
        let first = quiet.since(&Picture::default());
        assert!(
            first.len() == 1 && first[0].contains("channel 3 from"),
            "{first:?}"
        );

        let lively = picture("open", BuyerState::Buying, Standing::Blocked, true);
        let lines = lively.since(&quiet);
        for (line, fact) in lines.iter().zip([
            "is open, its funding is confirmed: 1500 msat paid of 50000 sat",
            "purchase started",
            "is blocked",
            "is cut",
        ]) {
            assert!(line.contains(fact), "{line}");
        }
        assert_eq!(lines.len(), 4);
        // Going on is no news; the end is.
        let paid = picture("open", BuyerState::Paid, Standing::Blocked, true);
        assert!(paid.since(&lively).is_empty());
        let over = picture("settled", BuyerState::Done, Standing::Blocked, true).since(&paid);
        assert!(over.len() == 2 && over[1].contains("purchase ended"), "{over:?}");
    }
}
