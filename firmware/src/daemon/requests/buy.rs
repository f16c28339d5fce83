//! Buying: from finding a relay to the last byte used, over as many sessions and channels as that takes.

use super::course::{Course, Followed, Past, worn_and_fresh};
use super::news::{News, show, step};
use super::open::confirmed;
use super::relay::Relay;
use super::{Desk, figures, refusal};
use crate::control::{Failed, Hex, Progress, Responder, Response, Target};
use std::time::Duration;
use tokio::time::Instant as Deadline;
use turnpike_protocol::base::{ByteCount, Msat, NodeId, Sat, Slot};
use turnpike_protocol::market::{BuyerState, BuyerView};
use turnpike_protocol::node::{Command, Event, Node};
use turnpike_protocol::wire::ErrorCode;

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
/// How long a relay may take to offer the last receipt of a channel that is used up.
const RECEIPT_WITHIN: Duration = Duration::from_secs(3);
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
        let (relay, _followed) = prepared?;
        let news = News::of(&self.core);
        self.order(&relay, wish.bytes, max).await?;
        let course = Course {
            ordered: wish.bytes,
            max,
            relay,
            news,
            past: Past::default(),
        };
        self.follow(&wish, course, responder).await
    }

    async fn order(&self, relay: &Relay, bytes: Option<ByteCount>, max: Msat) -> Result<(), Failed> {
        let connection = relay.connection;
        let buy = Command::Buy {
            connection,
            bytes,
            max,
        };
        self.core.command(buy).await?.map_err(refusal::command)
    }

    /// A relay with a session, a known offer, and a channel in which it takes something.
    async fn prepare(&self, wish: &Wish, responder: &Responder) -> Result<(Relay, Followed<'_>), Failed> {
        let step = |text: String| step(responder, text);
        step("looking for the relay".to_owned());
        let mut relay = self.find(wish.relay.clone(), wish.auto).await?;
        step(format!("asking relay {} what it sells", Hex(relay.node)));
        let offer = self.ask_offer(&relay).await?;
        let node = relay.node;
        let followed = Followed::new(&self.followed, node).ok_or_else(|| {
            let error = format!("a purchase from relay {} is under way", Hex(node));
            Failed::refused(error, "wait for its end, or stop it with `turnpike stop`")
        })?;
        if self.core.look(move |n| active(n, node)).await?.is_some() {
            // Nobody follows it any more: the relay had not come back. This order takes its place.
            self.end(&relay).await?;
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
        Ok((relay, followed))
    }

    /// Tells how the purchase goes until it is over.
    async fn follow(
        &self,
        wish: &Wish,
        mut course: Course,
        responder: &Responder,
    ) -> Result<Response, Failed> {
        let node = course.relay.node;
        let mut last: Option<(BuyerState, Deadline)> = None;
        let mut told = None;
        loop {
            let event = course.news.next_or_moment(LOOK_EVERY).await?;
            // The state as it is now: news may be older than the order.
            let view = self
                .core
                .look(move |n| view_of(n, node))
                .await?
                .unwrap_or_default();
            if figures::is_over(view.state) {
                return Ok(Response::Bought(course.shown(&view)));
            }
            if responder.is_gone() {
                // Ctrl-C stops the spending; what is paid can still be used.
                self.end(&course.relay).await?;
                return Ok(Response::Bought(course.shown(&view)));
            }
            let changed = last.is_none_or(|(state, _)| state != view.state);
            if changed || last.is_some_and(|(_, told)| told.elapsed() >= LINE_EVERY) {
                show(responder, Progress::Purchase(course.shown(&view)));
                last = Some((view.state, Deadline::now()));
            }
            match view.state {
                BuyerState::Ceiling => {
                    let text = self.confirmations(node).await?;
                    if told.as_ref() != Some(&text) {
                        step(responder, text.clone());
                        told = Some(text);
                    }
                }
                BuyerState::ChannelUsedUp if wish.auto => {
                    if let Err(failed) = self.renew(wish, &mut course, responder).await {
                        self.end(&course.relay).await?;
                        return Err(failed);
                    }
                }
                BuyerState::ChannelUsedUp => {
                    if changed {
                        step(
                            responder,
                            "the channel is used up; what is paid can still be used",
                        );
                    }
                    if view.left <= STRANDED {
                        self.end(&course.relay).await?;
                        return Ok(Response::Bought(course.shown(&view)));
                    }
                }
                _ => {}
            }
            match event {
                Some(Event::PeerGone { connection, .. }) if connection == course.relay.connection => {
                    self.call_again(&mut course.relay, responder).await?;
                }
                Some(Event::PeerProblem {
                    connection,
                    code,
                    detail,
                    ..
                }) if connection == course.relay.connection && code != ErrorCode::UnknownAccount => {
                    // An account that is not open is opened again without anybody's help.
                    step(responder, refusal::peer(code, detail).to_string());
                }
                Some(event @ Event::OverClaim { .. }) => show(responder, self.tell(event).await?),
                Some(event @ Event::Receipt { peer, .. }) if peer == node => {
                    show(responder, self.tell(event).await?);
                }
                _ => {}
            }
        }
    }

    /// How far the channel that pays is from being relied on.
    async fn confirmations(&self, relay: NodeId) -> Result<String, Failed> {
        let (channel, height) = self
            .core
            .look(move |n| {
                let paying = n.paying_channel(&relay).and_then(|slot| n.channel(slot));
                (paying, n.view().height)
            })
            .await?;
        let far = channel.map_or_else(String::new, |c| format!(", {}", confirmed(&c, height)));
        Ok(format!(
            "the relay takes no more before further confirmations{far}; it goes on by itself"
        ))
    }

    /// The channel that pays is used up: goes on in another one, opened now if there is none.
    async fn renew(&self, wish: &Wish, course: &mut Course, responder: &Responder) -> Result<(), Failed> {
        let node = course.relay.node;
        let (worn, fresh) = self
            .core
            .look(move |n| worn_and_fresh(&n.channels(), node))
            .await?;
        // A relay takes two channels of one peer: those used up earlier have to make room.
        let (&last, earlier) = worn.split_last().ok_or_else(|| {
            Failed::refused(
                "the channel that paid is closed",
                "buy again, which opens another",
            )
        })?;
        self.close(earlier).await?;
        let slot = match fresh {
            Some(slot) => slot,
            None => self.another(wish, &course.relay, responder).await?,
        };
        self.until_credit(&mut course.relay, slot, responder).await?;
        let view = self.core.look(move |n| active(n, node)).await?;
        let Some(view) = view.filter(|v| v.state == BuyerState::ChannelUsedUp) else {
            // It ended meanwhile, or goes on by itself.
            return Ok(());
        };
        self.end(&course.relay).await?;
        let mut receipts = News::of(&self.core);
        self.close(&[last]).await?;
        // The last receipt of the old channel is about the figures that the next order leaves behind.
        let signed = async {
            loop {
                match receipts.next().await? {
                    Some(Event::Receipt { peer, .. }) if peer == node => return Ok(()),
                    _ => {}
                }
            }
        };
        let unsigned = || Failed::refused("the relay offers no receipt", "");
        let _without = refusal::within(RECEIPT_WITHIN, signed, unsigned).await;
        let past = course.past.plus(&view);
        if let Some((bytes, max)) = past.rest(course.ordered, course.max) {
            course.past = past;
            self.order(&course.relay, bytes, max).await?;
        }
        Ok(())
    }

    /// Asks for the settlement of channels that are used up. One that is closing already is left as it is.
    async fn close(&self, slots: &[Slot]) -> Result<(), Failed> {
        for slot in slots {
            let _closing_already = self.core.command(Command::Close { slot: *slot }).await?;
        }
        Ok(())
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
        let since = Deadline::now();
        let deadline = since + CALL_FOR;
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
                    let silent = since.elapsed().as_secs();
                    step(format!(
                        "nothing heard from the relay for {silent} s; trying again in {} s",
                        pause.as_secs()
                    ));
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
