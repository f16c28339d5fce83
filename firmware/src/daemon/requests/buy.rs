//! Buying: from finding a relay to the last byte used, over as many sessions and channels as that takes.

use super::news::{News, show, step};
use super::relay::Relay;
use super::{Desk, figures, refusal};
use crate::control::{Failed, Hex, Progress, Purchase, Responder, Response, Target};
use std::time::Duration;
use tokio::time::Instant as Deadline;
use turnpike_protocol::base::{ByteCount, Msat, NodeId, Sat, Slot};
use turnpike_protocol::market::{BuyerState, BuyerView};
use turnpike_protocol::node::{Command, Event, Node};

/// How long a relay that went away is called again before its purchase is left to itself.
const CALL_FOR: Duration = Duration::from_secs(10 * 60);
/// First pause between two calls; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two calls.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the purchase is looked at beside the news.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Shortest time between two lines about a purchase whose state did not change: more is not read.
const LINE_EVERY: Duration = Duration::from_millis(100);
/// Credit below this cannot be relied on: one offloaded segment with its headers may not fit any more (DESIGN §5).
const STRANDED: ByteCount = ByteCount::new(65_549);

/// What the user wants to buy.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// From this relay.
    pub relay: Option<Target>,
    /// So much; `None` for as much as `max` pays.
    pub bytes: Option<ByteCount>,
    /// The most to spend.
    pub max: Sat,
    /// Whatever relay is cheapest, and new channels where needed.
    pub auto: bool,
    /// Capacity of channels that are opened.
    pub capacity_sat: Option<Sat>,
    /// Lifetime of channels that are opened.
    pub lifetime_blocks: Option<u32>,
}

impl Desk {
    /// Carries a purchase out. A user who goes away before it began calls it off; one who goes away later does not.
    pub(super) async fn buy(&self, wish: Wish, responder: &Responder) -> Result<Response, Failed> {
        let max = wish.max.to_msat().filter(|m| *m > Msat::ZERO).ok_or_else(|| {
            Failed::usage(
                format!("{} cannot be spent", wish.max),
                "name an amount from 1 sat on",
            )
        })?;
        if wish.bytes == Some(ByteCount::ZERO) {
            return Err(Failed::usage(
                "nothing to buy: 0 bytes",
                "name a number of bytes, or none for as many as the money buys",
            ));
        }
        let prepared = tokio::select! {
            prepared = self.prepare(&wish, responder) => prepared,
            () = responder.gone() => Err(Failed::refused("the user went away before the purchase began", "")),
        };
        let mut relay = prepared?;
        let mut news = News::of(&self.core);
        let command = Command::Buy {
            connection: relay.connection,
            bytes: wish.bytes,
            max,
        };
        self.core.command(command).await?.map_err(refusal::command)?;
        self.follow(&wish, &mut relay, &mut news, responder).await
    }

    /// A relay with a session, a known offer, and a channel in which it takes something.
    async fn prepare(&self, wish: &Wish, responder: &Responder) -> Result<Relay, Failed> {
        let step = |text: String| step(responder, text);
        step("looking for the relay".to_owned());
        let mut relay = self.find(wish.relay.clone(), wish.auto).await?;
        step(format!("asking relay {} what it sells", Hex(relay.node)));
        let offer = self.ask_offer(&relay).await?;
        let node = relay.node;
        if let Some(view) = self.core.look(move |n| active(n, node)).await? {
            let error = format!(
                "a purchase from this relay is under way ({} spent of {})",
                view.spent, view.max
            );
            return Err(Failed::refused(
                error,
                "wait for its end, or stop it with `turnpike stop`",
            ));
        }
        let slot = match self.core.look(move |n| n.paying_channel(&node)).await? {
            Some(slot) => slot,
            None => {
                let plan = self.plan(&offer, wish.capacity_sat, wish.lifetime_blocks)?;
                self.open_channel(&relay, plan, responder).await?
            }
        };
        self.until_credit(&mut relay, slot, responder).await?;
        // A session that was made anew meanwhile does not know the prices yet.
        let connection = relay.connection;
        if !self.core.look(move |n| n.offer(connection).is_some()).await? {
            self.ask_offer(&relay).await?;
        }
        Ok(relay)
    }

    /// Tells how the purchase goes until it is over.
    async fn follow(
        &self,
        wish: &Wish,
        relay: &mut Relay,
        news: &mut News,
        responder: &Responder,
    ) -> Result<Response, Failed> {
        let node = relay.node;
        let mut last: Option<(BuyerState, Deadline)> = None;
        let mut replaced: Option<Slot> = None;
        loop {
            let event = news.next_or_moment(LOOK_EVERY).await?;
            // The state as it is now: news may be older than the order.
            let view = self
                .core
                .look(move |n| view_of(n, node))
                .await?
                .unwrap_or_default();
            if figures::is_over(view.state) {
                return Ok(Response::Bought(Purchase::new(node, &view)));
            }
            let changed = last.is_none_or(|(state, _)| state != view.state);
            if changed || last.is_some_and(|(_, told)| told.elapsed() >= LINE_EVERY) {
                show(responder, Progress::Purchase(Purchase::new(node, &view)));
                last = Some((view.state, Deadline::now()));
            }
            if changed && view.state == BuyerState::Ceiling {
                let text =
                    "the relay takes no more before further confirmations; it goes on by itself".to_owned();
                step(responder, text);
            }
            if view.state == BuyerState::ChannelUsedUp {
                if let Some(answer) = self
                    .used_up(wish, relay, &view, changed, &mut replaced, responder)
                    .await?
                {
                    return Ok(answer);
                }
            }
            match event {
                Some(Event::PeerGone { connection, .. }) if connection == relay.connection => {
                    self.call_again(relay, responder).await?;
                }
                Some(Event::PeerProblem {
                    connection,
                    code,
                    detail,
                }) if connection == relay.connection => {
                    let text = refusal::peer(code, detail).to_string();
                    step(responder, text);
                }
                Some(event @ Event::OverClaim { .. }) => show(responder, self.tell(event).await?),
                Some(event @ Event::Receipt { peer, .. }) if peer == node => {
                    show(responder, self.tell(event).await?);
                }
                _ => {}
            }
        }
    }

    /// The channel that pays is used up: opens another where that was ordered, else ends once the credit is used.
    async fn used_up(
        &self,
        wish: &Wish,
        relay: &mut Relay,
        view: &BuyerView,
        changed: bool,
        replaced: &mut Option<Slot>,
        responder: &Responder,
    ) -> Result<Option<Response>, Failed> {
        let node = relay.node;
        let ready = self.core.look(move |n| n.paying_channel(&node)).await?;
        if wish.auto {
            // A new one is there, and its first payment on the way.
            if ready.is_some() && ready == *replaced {
                return Ok(None);
            }
            let slot = match ready {
                Some(slot) => Ok(slot),
                None => self.another(wish, relay, responder).await,
            };
            let credited = match slot {
                Ok(slot) => self.until_credit(relay, slot, responder).await.map(|()| slot),
                Err(failed) => Err(failed),
            };
            match credited {
                Ok(slot) => *replaced = Some(slot),
                Err(failed) => {
                    self.end(relay).await?;
                    return Err(failed);
                }
            }
            return Ok(None);
        }
        if changed {
            let text = "the channel is used up; what is paid can still be used".to_owned();
            step(responder, text);
        }
        if view.left > STRANDED {
            return Ok(None);
        }
        self.end(relay).await?;
        Ok(Some(Response::Bought(Purchase::new(node, view))))
    }

    async fn another(&self, wish: &Wish, relay: &Relay, responder: &Responder) -> Result<Slot, Failed> {
        let offer = self.ask_offer(relay).await?;
        let plan = self.plan(&offer, wish.capacity_sat, wish.lifetime_blocks)?;
        self.open_channel(relay, plan, responder).await
    }

    /// Stops a purchase that cannot go on. One that is over already is left as it is.
    async fn end(&self, relay: &Relay) -> Result<(), Failed> {
        let _over_already = self
            .core
            .command(Command::StopBuying {
                connection: relay.connection,
            })
            .await?;
        Ok(())
    }

    /// Makes the session anew after it was lost; credit and channels are kept on both sides.
    pub(super) async fn call_again(&self, relay: &mut Relay, responder: &Responder) -> Result<(), Failed> {
        let step = |text: String| step(responder, text);
        let deadline = Deadline::now() + CALL_FOR;
        let mut pause = FIRST_PAUSE;
        step(format!(
            "the session with relay {} ended; calling it again",
            Hex(relay.node)
        ));
        loop {
            // Somebody else may have been quicker.
            if let Some(found) = self.session_with(relay.node).await? {
                *relay = Relay {
                    address: found.address.or(relay.address),
                    ..found
                };
                step("the session is there again".to_owned());
                return Ok(());
            }
            let target = Target {
                node: Some(Hex(relay.node)),
                address: relay.address.map(|a| a.to_string()),
            };
            match self.find(Some(target), false).await {
                Ok(_) => {}
                Err(failed) if Deadline::now() + pause < deadline => {
                    tracing::debug!(error = %failed, "the relay is not back yet");
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                Err(failed) => {
                    let error = format!("relay {} did not come back ({})", Hex(relay.node), failed.error);
                    return Err(Failed::refused(
                        error,
                        "credit is kept: connect when it is there, and the purchase goes on",
                    ));
                }
            }
        }
    }

    pub(super) async fn stop_buying(&self, wanted: Option<NodeId>) -> Result<Response, Failed> {
        let buying = self
            .core
            .look(|n| {
                n.purchases()
                    .into_iter()
                    .filter(|(_, v)| !figures::is_over(v.state))
                    .map(|(r, _)| r)
                    .collect::<Vec<_>>()
            })
            .await?;
        let mut stopped = Vec::new();
        for node in buying
            .into_iter()
            .filter(|relay| wanted.is_none_or(|w| w == *relay))
        {
            let Some(relay) = self.session_with(node).await? else {
                let error = format!(
                    "there is no session with relay {}, so nothing is being paid to it",
                    Hex(node)
                );
                return Err(Failed::refused(error, "connect to it first, then stop"));
            };
            self.core
                .command(Command::StopBuying {
                    connection: relay.connection,
                })
                .await?
                .map_err(refusal::command)?;
            stopped.push(Hex(node));
        }
        Ok(Response::Stopped { relays: stopped })
    }
}

fn view_of(node: &Node, relay: NodeId) -> Option<BuyerView> {
    node.purchases()
        .into_iter()
        .find(|(r, _)| *r == relay)
        .map(|(_, view)| view)
}

/// A purchase from this relay that is not over.
fn active(node: &Node, relay: NodeId) -> Option<BuyerView> {
    view_of(node, relay).filter(|view| !figures::is_over(view.state))
}
