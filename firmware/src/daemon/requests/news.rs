//! The node's news, as one request follows them, and as the owner reads them.

use super::Desk;
use crate::control::{self, Failed, Hex, Progress, Purchase, Responder, Response};
use crate::daemon::core::{CoreHandle, Down};
use std::time::Duration;
use tokio::sync::broadcast;
use turnpike_protocol::base::{ConnectionId, NodeId};
use turnpike_protocol::node::Event;

/// How often chain and gate are looked at while someone watches.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// News from the moment on at which it was made.
pub(super) struct News(broadcast::Receiver<Event>);

impl News {
    pub(super) fn of(core: &CoreHandle) -> News {
        News(core.events())
    }

    /// The next piece of news; `None` if some were missed, so that the state has to be looked at again.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failed> {
        match self.0.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Lagged(_)) => Ok(None),
            Err(broadcast::error::RecvError::Closed) => Err(Down.into()),
        }
    }

    /// The next piece of news, or `None` after a moment without any: time to look at the state.
    pub(super) async fn next_or_moment(&mut self, moment: Duration) -> Result<Option<Event>, Failed> {
        tokio::time::timeout(moment, self.next())
            .await
            .unwrap_or(Ok(None))
    }
}

/// Shows how a request goes. Whether somebody is still there to see it is asked elsewhere.
pub(super) fn show(responder: &Responder, progress: Progress) {
    let _gone = responder.progress(progress);
}

/// Says what is being done now, without a full stop.
pub(super) fn step(responder: &Responder, text: impl Into<String>) {
    show(responder, Progress::Step { text: text.into() });
}

impl Desk {
    /// Tells everything until the user goes away.
    pub(super) async fn events(&self, responder: &Responder) -> Result<Response, Failed> {
        let mut news = News::of(&self.core);
        let (mut lit, mut gate_down) = self.core.look(|n| (n.view().lit, n.view().gate_down)).await?;
        loop {
            let event = tokio::select! {
                event = news.next_or_moment(LOOK_EVERY) => event?,
                () = responder.gone() => return Err(Failed::refused("nobody listens any more", "")),
            };
            let told = match event {
                Some(event) => self.tell(event).await?,
                None => {
                    let view = self.core.look(|n| n.view()).await?;
                    if std::mem::replace(&mut lit, view.lit) != view.lit {
                        let chain = control::Event::Chain {
                            lit,
                            height: view.height,
                        };
                        show(responder, Progress::Event(chain));
                    }
                    if std::mem::replace(&mut gate_down, view.gate_down) != view.gate_down {
                        show(
                            responder,
                            Progress::Event(control::Event::Gate { works: !gate_down }),
                        );
                    }
                    continue;
                }
            };
            // A user who is gone is noticed above.
            show(responder, told);
        }
    }

    /// A piece of news as the owner reads it.
    pub(super) async fn tell(&self, event: Event) -> Result<Progress, Failed> {
        Ok(match event {
            Event::Progress { relay, view } => Progress::Purchase(Purchase::new(relay, &view)),
            Event::Offer { connection, offer } => {
                let relay = self.peer_of(connection).await?;
                Progress::Event(match relay {
                    Some(relay) => control::Event::Offer {
                        relay: Hex(relay),
                        version: offer.sheet.version,
                    },
                    None => control::Event::Note {
                        text: "a relay told what it sells and went away".to_owned(),
                    },
                })
            }
            other => Progress::Event(event_of(other)),
        })
    }

    /// Who is at the other end of a session that is there.
    pub(super) async fn peer_of(&self, connection: ConnectionId) -> Result<Option<NodeId>, Failed> {
        let sessions = self.core.look(|n| n.view().sessions).await?;
        Ok(sessions
            .into_iter()
            .find(|(c, _)| *c == connection)
            .map(|(_, peer)| peer))
    }
}

fn event_of(event: Event) -> control::Event {
    use control::Event as E;
    match event {
        Event::PeerReady { connection, peer } => E::PeerReady {
            connection: connection.0,
            peer: Hex(peer),
        },
        Event::PeerGone { connection, peer } => E::PeerGone {
            connection: connection.0,
            peer: Hex(peer),
        },
        Event::PeerProblem {
            connection,
            code,
            detail,
            ..
        } => E::PeerProblem {
            connection: connection.0,
            code: code.number(),
            text: code.text().to_owned(),
            detail,
        },
        Event::Funding { slot } => E::Funding { slot: slot.0 },
        Event::Funded { slot, txid, fee } => E::Funded {
            slot: slot.0,
            txid: Hex(txid),
            fee_sat: fee,
        },
        Event::FundingFailed {
            slot,
            available,
            needed,
        } => E::FundingFailed {
            slot: slot.0,
            available_sat: available,
            needed_sat: needed,
        },
        Event::ChannelReady { slot, ceiling } => E::ChannelReady {
            slot: slot.0,
            ceiling_msat: ceiling,
        },
        Event::NeedChannel { relay, amount } => E::NeedChannel {
            relay: Hex(relay),
            amount_msat: amount,
        },
        Event::OverClaim {
            peer,
            claimed,
            counted,
        } => E::OverClaim {
            relay: Hex(peer),
            claimed_bytes: claimed,
            counted_bytes: counted,
        },
        Event::Lost { slot, amount } => E::Lost {
            slot: slot.0,
            amount_msat: amount,
        },
        Event::Settling { slots, txid, fee } => E::Settling {
            slots: slots.into_iter().map(|s| s.0).collect(),
            txid: Hex(txid),
            fee_sat: fee,
        },
        Event::LeftOut {
            slot,
            paid,
            last_call,
        } => E::LeftOut {
            slot: slot.0,
            paid_sat: paid,
            last_call,
        },
        Event::Spent { slot, txid, height } => E::Spent {
            slot: slot.0,
            txid: Hex(txid),
            height,
        },
        Event::BroadcastRefused { slot, txid } => E::BroadcastRefused {
            slot: slot.0,
            txid: Hex(txid),
            text: None,
        },
        Event::CopiedStore { peer } => E::CopiedStore { peer: Hex(peer) },
        Event::Receipt { peer, sequence } => E::Receipt {
            peer: Hex(peer),
            sequence,
        },
        other => E::Note {
            text: format!("{other:?}"),
        },
    }
}
