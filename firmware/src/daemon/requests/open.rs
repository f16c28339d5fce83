//! Opening a channel: what it would cost, and the way until the relay takes payments in it.

use super::news::{News, show, step};
use super::relay::{Relay, trouble};
use super::{Desk, figures, refusal};
use crate::control::{Failed, Hex, Prices, Progress, Quote, Responder, Response, Target, amount};
use std::time::Duration;
use turnpike_protocol::base::{BlockHeight, Msat, NodeId, Sat, Slot};
use turnpike_protocol::money::channel::deep;
use turnpike_protocol::money::channel::tx::Terms;
use turnpike_protocol::money::channel::tx::costs::WorstCase;
use turnpike_protocol::node::{ChannelView, Command, CommandError, Event, Node, Offer, Role};

/// How long a relay may take to accept a channel.
const ACCEPT_WITHIN: Duration = Duration::from_secs(10);
/// How long the wallet may take to build the funding: the chain task may be busy with a slow back end.
const FUND_WITHIN: Duration = Duration::from_secs(60);
/// How long a relay may take to say that it knows a channel.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long confirmations may take: a day of slow blocks, after which an acceptance is no longer good.
const CREDIT_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the state is looked at beside the news: heights change without any.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A channel to be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Locked in it.
    pub capacity: Sat,
    /// Blocks until its expiry.
    pub lifetime: u32,
}

impl Desk {
    pub(super) async fn quote(
        &self,
        target: Option<Target>,
        capacity: Option<Sat>,
        lifetime: Option<u32>,
    ) -> Result<Response, Failed> {
        let relay = self.find(target, false).await?;
        let offer = self.ask_offer(&relay).await?;
        let plan = self.plan(&offer, capacity, lifetime)?;
        let node = relay.node;
        let (height, rate, open) = self
            .core
            .look(move |n| {
                (
                    n.view().height,
                    n.fee_rate(),
                    n.paying_channel(&node).and_then(|s| n.channel(s)),
                )
            })
            .await?;
        // Without a chain there are no terms, and the wallet only seems to be empty.
        if height == BlockHeight::ZERO && open.is_none() {
            return Err(refusal::command(CommandError::NoHeight));
        }
        let wallet = self.spendable().await?.unwrap_or(Sat::ZERO);
        // The keys weigh the same whatever they are.
        let terms = Terms {
            payer_key: [0; 32],
            payee_key: [0; 32],
            capacity: plan.capacity,
            expiry: height.plus(plan.lifetime),
        };
        let opening_fee = self.funding_fee(plan.capacity, rate).await?;
        let worst = opening_fee.and_then(|fee| WorstCase::new(&terms, fee, rate));
        let worst = worst.ok_or_else(|| {
            Failed::refused(
                format!("fees at {} are beyond all money", amount::rate(rate)),
                "wait for lower fees",
            )
        })?;
        Ok(Response::Quote(Quote {
            relay: Hex(relay.node),
            open_slot: open.as_ref().map(|c| c.slot.0),
            open_left_msat: open.as_ref().map_or(Msat::ZERO, left),
            capacity_sat: worst.locked,
            lifetime_blocks: plan.lifetime,
            locked_until_height: worst.until,
            height,
            funding_fee_sat: worst.opening_fee,
            settle_fee_sat: offer.settle_cost,
            refund_fee_sat: worst.refund_fee,
            dust_sat: worst.dust,
            fee_rate_sat_per_kvb: rate,
            unconfirmed_msat: offer.unconfirmed,
            deep_blocks: deep(plan.capacity),
            wallet_sat: wallet,
            prices: Prices::from(&offer.sheet),
        }))
    }

    pub(super) async fn open(
        &self,
        target: Option<Target>,
        capacity: Option<Sat>,
        lifetime: Option<u32>,
        responder: &Responder,
    ) -> Result<Response, Failed> {
        let mut relay = self.find(target, false).await?;
        let offer = self.ask_offer(&relay).await?;
        let plan = self.plan(&offer, capacity, lifetime)?;
        let slot = self.open_channel(&relay, plan, responder).await?;
        self.until_credit(&mut relay, slot, responder).await?;
        let view = self.core.look(move |n| n.channel(slot)).await?;
        let view = view.ok_or_else(|| gone(slot))?;
        Ok(Response::Opened(figures::channel(&view)))
    }

    /// Capacity and lifetime as asked for or configured, within what the relay takes.
    pub(super) fn plan(
        &self,
        offer: &Offer,
        capacity: Option<Sat>,
        lifetime: Option<u32>,
    ) -> Result<Plan, Failed> {
        let client = &self.config.client;
        check(
            offer,
            Plan {
                capacity: capacity.unwrap_or(client.capacity),
                lifetime: lifetime.unwrap_or(client.lifetime),
            },
        )
    }

    /// Asks for a channel and funds it. It is there when this returns; the relay may not rely on it yet.
    pub(super) async fn open_channel(
        &self,
        relay: &Relay,
        plan: Plan,
        responder: &Responder,
    ) -> Result<Slot, Failed> {
        let _one_at_a_time = self.opening.lock().await;
        // Before anything is asked of the relay, which would keep a place for the channel.
        self.affordable(plan.capacity).await?;
        let mut news = News::of(&self.core);
        let before = self.core.look(newest_slot).await?;
        let step = |text: String| step(responder, text);
        step(format!("asking the relay for a channel of {}", plan.capacity));
        let open = Command::Open {
            connection: relay.connection,
            capacity: plan.capacity,
            lifetime: Some(plan.lifetime),
        };
        self.core.command(open).await?.map_err(refusal::command)?;

        let accepted = async {
            loop {
                let event = news.next().await?;
                if let Some(Event::FundingFailed {
                    available, needed, ..
                }) = event
                {
                    return Err(poor(available, needed));
                }
                // Looked at, not read from the news: those may have been missed.
                let node = relay.node;
                if let Some(view) = self.core.look(move |n| opened_since(n, node, before)).await? {
                    return Ok(view);
                }
                if let Some(event) = event {
                    trouble(&event, relay)?;
                }
            }
        };
        let late = || {
            let error = format!(
                "relay {} did not accept the channel within {} s",
                Hex(relay.node),
                ACCEPT_WITHIN.as_secs()
            );
            Failed::refused(error, "nothing was sent; try again, or another relay")
        };
        let view = refusal::within(ACCEPT_WITHIN, accepted, late).await?;
        let slot = view.slot;
        step(format!("the relay accepted channel {}; funding it", slot.0));
        if view.state != "over" {
            show(responder, Progress::Channel(figures::channel(&view)));
        }
        let funded = async {
            loop {
                let view = self.core.look(move |n| n.channel(slot)).await?;
                match view {
                    Some(view) if view.state == "accepted" => {}
                    Some(view) if view.state != "over" => return Ok(view),
                    // Given up, unless the news say why.
                    _ => return Err(self.why_unfunded(&mut news, slot).await),
                }
                if let Some(Event::FundingFailed {
                    slot: s,
                    available,
                    needed,
                }) = news.next_or_moment(LOOK_EVERY).await?
                {
                    if s == slot {
                        return Err(poor(available, needed));
                    }
                }
            }
        };
        let late = || {
            let error = format!(
                "the wallet did not fund channel {} within {} s",
                slot.0,
                FUND_WITHIN.as_secs()
            );
            Failed::refused(error, "look at the chain back end and at `turnpike channel list`")
        };
        let view = refusal::within(FUND_WITHIN, funded, late).await?;
        show(responder, Progress::Channel(figures::channel(&view)));
        Ok(slot)
    }

    /// Refuses a channel that the wallet cannot fund.
    async fn affordable(&self, capacity: Sat) -> Result<(), Failed> {
        let rate = self.core.look(|n| n.fee_rate()).await?;
        let fee = self.funding_fee(capacity, rate).await?;
        let needed = fee
            .and_then(|fee| capacity.checked_add(fee))
            .unwrap_or(Sat::new(u64::MAX));
        let available = self.spendable().await?.unwrap_or(Sat::ZERO);
        if available < needed {
            return Err(poor(available, needed));
        }
        Ok(())
    }

    /// Waits until the relay takes more in this channel than is paid already, over as many sessions as that takes.
    pub(super) async fn until_credit(
        &self,
        relay: &mut Relay,
        slot: Slot,
        responder: &Responder,
    ) -> Result<(), Failed> {
        let mut news = News::of(&self.core);
        let mut since = tokio::time::Instant::now();
        let mut told = String::new();
        loop {
            let connection = relay.connection;
            let (view, ceiling, height) = self
                .core
                .look(move |n| (n.channel(slot), n.ceiling(connection, slot), n.view().height))
                .await?;
            let view = view.ok_or_else(|| gone(slot))?;
            if !matches!(view.state, "accepted" | "unconfirmed" | "open") {
                let error = format!("channel {} is {} and takes no payments", slot.0, view.state);
                return Err(Failed::refused(error, "open another"));
            }
            let Some(text) = waits_for(&view, ceiling, height) else {
                return Ok(());
            };
            if text != told {
                step(responder, text.clone());
                told = text;
                since = tokio::time::Instant::now();
            }
            let limit = if ceiling.is_none() {
                KNOWN_WITHIN
            } else {
                CREDIT_WITHIN
            };
            if since.elapsed() > limit {
                let error = format!("channel {}: still {told}", slot.0);
                return Err(Failed::refused(
                    error,
                    "the money is safe; look at the chain back end, then buy again",
                ));
            }
            let Some(event) = news.next_or_moment(LOOK_EVERY).await? else {
                continue;
            };
            match event {
                Event::PeerGone { connection: c, .. } if c == connection => {
                    self.call_again(relay, responder).await?
                }
                // It says so of a payment that has to wait for confirmations, as we do.
                Event::PeerProblem {
                    code: turnpike_protocol::wire::ErrorCode::ExposureFull,
                    ..
                } => {}
                Event::BroadcastRefused { slot: s, .. } if s == slot => {
                    let text = "the chain back end refused the funding; it is sent again with the next block"
                        .to_owned();
                    step(responder, text);
                }
                event => trouble(&event, relay)?,
            }
        }
    }

    async fn why_unfunded(&self, news: &mut News, slot: Slot) -> Failed {
        while let Ok(Some(event)) = news.next_or_moment(LOOK_EVERY).await {
            if let Event::FundingFailed {
                slot: s,
                available,
                needed,
            } = event
            {
                if s == slot {
                    return poor(available, needed);
                }
            }
        }
        gone(slot)
    }
}

/// What still keeps the relay from taking payments; `None` if nothing does.
fn waits_for(view: &ChannelView, ceiling: Option<Msat>, height: BlockHeight) -> Option<String> {
    let Some(ceiling) = ceiling else {
        return Some("waiting for the relay to know the channel".to_owned());
    };
    if ceiling > view.total {
        return None;
    }
    let needed = deep(view.capacity);
    Some(match confirmations(view, height) {
        0 => "waiting for the relay to see the funding".to_owned(),
        have if have < needed => format!("credit is limited, {}", confirmed(view, height)),
        _ => "waiting for the relay to rely on the channel".to_owned(),
    })
}

/// `2 of 6 confirmations`.
pub(super) fn confirmed(view: &ChannelView, height: BlockHeight) -> String {
    format!(
        "{} of {} confirmations",
        confirmations(view, height),
        deep(view.capacity)
    )
}

/// Blocks that the funding is in or under.
fn confirmations(view: &ChannelView, height: BlockHeight) -> u32 {
    view.funded_at
        .map_or(0, |at| (height.value() + 1).saturating_sub(at.value()))
}

/// A plan that the relay takes.
fn check(offer: &Offer, plan: Plan) -> Result<Plan, Failed> {
    if plan.capacity < offer.capacity_min || plan.capacity > offer.capacity_max {
        let error = format!(
            "the relay takes channels of {} to {}, not of {}",
            offer.capacity_min, offer.capacity_max, plan.capacity
        );
        return Err(Failed::usage(error, "name a capacity within these bounds"));
    }
    if plan.lifetime < offer.lifetime_min || plan.lifetime > offer.lifetime_max {
        let error = format!(
            "the relay takes channels of {} to {} blocks, not of {}",
            offer.lifetime_min, offer.lifetime_max, plan.lifetime
        );
        return Err(Failed::usage(error, "name a lifetime within these bounds"));
    }
    Ok(plan)
}

/// What a channel can still pay.
pub(super) fn left(view: &ChannelView) -> Msat {
    view.capacity
        .to_msat()
        .unwrap_or(Msat::MAX)
        .saturating_sub(view.total)
}

fn newest_slot(node: &Node) -> Option<Slot> {
    node.channels().last().map(|c| c.slot)
}

/// A channel in which we pay this relay, and that is newer than `before`.
fn opened_since(node: &Node, relay: NodeId, before: Option<Slot>) -> Option<ChannelView> {
    let newer = |c: &ChannelView| before.is_none_or(|b| c.slot > b);
    node.channels()
        .into_iter()
        .find(|c| c.role == Role::Payer && c.peer == relay && newer(c))
}

fn poor(available: Sat, needed: Sat) -> Failed {
    let missing = needed.saturating_sub(available);
    let error = format!(
        "the wallet has {} that can be spent, the channel needs {} with its fee: {} are missing",
        amount::sat(available),
        amount::sat(needed),
        amount::sat(missing)
    );
    Failed::refused(
        error,
        "send coins to `turnpike wallet address` and wait for a block, or open a smaller one",
    )
}

fn gone(slot: Slot) -> Failed {
    let error = format!("channel {} was given up before it was funded", slot.0);
    Failed::refused(error, "nothing was sent; see the daemon's log, and try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::ByteCount;
    use turnpike_protocol::wire::{BindingClass, PriceSheet};

    fn view() -> ChannelView {
        ChannelView {
            slot: Slot(1),
            id: None,
            role: Role::Payer,
            peer: NodeId::from_bytes([1; 32]),
            capacity: Sat::new(50_000),
            total: Msat::new(1_000),
            expiry: BlockHeight::new(1_000),
            settle_by: BlockHeight::new(900),
            outpoint: None,
            funded_at: None,
            state: "unconfirmed",
            outcome: None,
            ended_at: None,
            spent_by: None,
            funding_fee: Sat::ZERO,
            ceiling: Msat::ZERO,
        }
    }

    #[test]
    fn it_is_said_what_is_waited_for() {
        let height = BlockHeight::new(100);
        let text = |view: &ChannelView, ceiling: Option<u64>| waits_for(view, ceiling.map(Msat::new), height);
        assert!(text(&view(), None).unwrap().contains("know the channel"));
        assert!(text(&view(), Some(1_000)).unwrap().contains("see the funding"));
        let confirmed = ChannelView {
            funded_at: Some(BlockHeight::new(99)),
            ..view()
        };
        assert_eq!(
            text(&confirmed, Some(0)).unwrap(),
            "credit is limited, 2 of 6 confirmations"
        );
        assert_eq!(text(&confirmed, Some(1_001)), None);
    }

    #[test]
    fn a_plan_outside_the_relays_bounds_is_the_users_to_change() {
        let sheet = PriceSheet {
            version: 1,
            valid_until: BlockHeight::new(10),
            up: Msat::new(1),
            down: Msat::new(1),
            per_second: Msat::ZERO,
            free: ByteCount::ZERO,
            window_min: ByteCount::new(1),
            window_max: ByteCount::new(1),
            class: BindingClass::Address,
        };
        let offer = Offer {
            sheet_id: 0,
            sheet,
            capacity_min: Sat::new(20_000),
            capacity_max: Sat::new(30_000),
            lifetime_min: 216,
            lifetime_max: 1_008,
            unconfirmed: Msat::ZERO,
            settle_cost: Sat::ZERO,
        };
        let plan = |capacity, lifetime| {
            check(
                &offer,
                Plan {
                    capacity: Sat::new(capacity),
                    lifetime,
                },
            )
        };
        assert!(plan(20_000, 216).is_ok() && plan(30_000, 1_008).is_ok());
        for (capacity, lifetime) in [(19_999, 216), (30_001, 216), (20_000, 215), (20_000, 1_009)] {
            assert_eq!(
                plan(capacity, lifetime).unwrap_err().reason,
                crate::control::Reason::Usage
            );
        }
    }
}
