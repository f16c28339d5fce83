//! A purchase as a request follows it: over all of its channels, and one at a time at each relay.

use super::news::News;
use super::open::left;
use super::relay::Relay;
use crate::control::Purchase;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use turnpike_protocol::base::{ByteCount, Msat, NodeId, Slot};
use turnpike_protocol::market::BuyerView;
use turnpike_protocol::node::{ChannelView, Role};

/// A purchase on its way.
pub(super) struct Course {
    /// So much in all; `None` for as much as `max` pays.
    pub ordered: Option<ByteCount>,
    /// The most to spend in all.
    pub max: Msat,
    /// Where it is bought.
    pub relay: Relay,
    /// What happened since it was ordered.
    pub news: News,
    /// What was bought in channels before the present one.
    pub past: Past,
}

/// A relay from which a request buys; no other one may meanwhile.
pub(super) struct Followed<'a> {
    all: &'a Mutex<BTreeSet<NodeId>>,
    relay: NodeId,
}

impl<'a> Followed<'a> {
    /// `None` if another request buys there.
    pub fn new(all: &'a Mutex<BTreeSet<NodeId>>, relay: NodeId) -> Option<Followed<'a>> {
        let free = all.lock().unwrap_or_else(PoisonError::into_inner).insert(relay);
        free.then_some(Followed { all, relay })
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.relay);
    }
}

/// What was used and spent in channels that are used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Past {
    used: ByteCount,
    spent: Msat,
}

impl Past {
    /// With what the present order used and spent.
    pub fn plus(self, view: &BuyerView) -> Past {
        Past {
            used: self.used.saturating_add(view.used),
            spent: self.spent.saturating_add(view.spent),
        }
    }

    /// What is still to be bought for how much; `None` if that is nothing.
    pub fn rest(self, ordered: Option<ByteCount>, max: Msat) -> Option<(Option<ByteCount>, Msat)> {
        let bytes = ordered.map(|o| o.saturating_sub(self.used));
        let max = max.saturating_sub(self.spent);
        (bytes != Some(ByteCount::ZERO) && max > Msat::ZERO).then_some((bytes, max))
    }
}

impl Course {
    /// The purchase over all of its channels.
    pub fn shown(&self, view: &BuyerView) -> Purchase {
        let Past { used, spent } = self.past.plus(view);
        Purchase {
            ordered_bytes: self.ordered,
            max_msat: self.max,
            used_bytes: used,
            spent_msat: spent,
            ..Purchase::new(self.relay.node, view)
        }
    }
}

/// Open channels to this relay that are used up, or refused before that, and one that can pay next.
pub(super) fn worn_and_fresh(channels: &[ChannelView], relay: NodeId) -> (Vec<Slot>, Option<Slot>) {
    let open = |c: &&ChannelView| {
        c.role == Role::Payer && c.peer == relay && matches!(c.state, "unconfirmed" | "open")
    };
    let open: Vec<&ChannelView> = channels.iter().filter(open).collect();
    let (mut worn, mut fresh): (Vec<&ChannelView>, Vec<&ChannelView>) =
        open.into_iter().partition(|c| left(c) == Msat::ZERO);
    if worn.is_empty() && !fresh.is_empty() {
        // The relay takes no more in the one that paid, which is the oldest.
        worn.push(fresh.remove(0));
    }
    (
        worn.iter().map(|c| c.slot).collect(),
        fresh.first().map(|c| c.slot),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::{BlockHeight, Sat};

    const RELAY: NodeId = NodeId::from_bytes([1; 32]);

    fn channel(slot: u32, total: u64) -> ChannelView {
        ChannelView {
            slot: Slot(slot),
            id: None,
            role: Role::Payer,
            peer: RELAY,
            capacity: Sat::new(10_000),
            total: Msat::new(total),
            expiry: BlockHeight::new(1_000),
            settle_by: BlockHeight::new(900),
            outpoint: None,
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
    fn a_used_up_channel_makes_room_for_the_next() {
        let (used_up, half) = (channel(3, 10_000_000), channel(5, 5_000_000));
        assert_eq!(
            worn_and_fresh(&[used_up.clone(), half.clone()], RELAY),
            (vec![Slot(3)], Some(Slot(5)))
        );
        assert_eq!(
            worn_and_fresh(std::slice::from_ref(&used_up), RELAY),
            (vec![Slot(3)], None)
        );
        // Refused before it was used up.
        assert_eq!(
            worn_and_fresh(std::slice::from_ref(&half), RELAY),
            (vec![Slot(5)], None)
        );
        let others = [
            ChannelView {
                state: "closing",
                outcome: None,
                ended_at: None,
                ..used_up.clone()
            },
            ChannelView {
                role: Role::Payee,
                ..used_up.clone()
            },
            ChannelView {
                peer: NodeId::from_bytes([2; 32]),
                ..used_up
            },
        ];
        assert_eq!(worn_and_fresh(&others, RELAY), (Vec::new(), None));
    }

    #[test]
    fn two_requests_never_buy_from_one_relay_at_once() {
        let all = Mutex::default();
        let first = Followed::new(&all, RELAY);
        assert!(first.is_some() && Followed::new(&all, RELAY).is_none());
        assert!(Followed::new(&all, NodeId::from_bytes([2; 32])).is_some());
        drop(first);
        assert!(Followed::new(&all, RELAY).is_some());
    }

    #[test]
    fn what_earlier_channels_bought_is_not_bought_again() {
        let view = |used, spent| BuyerView {
            used: ByteCount::new(used),
            spent: Msat::new(spent),
            ..BuyerView::default()
        };
        let past = Past::default().plus(&view(70, 600)).plus(&view(20, 300));
        let rest = |ordered, max| past.rest(ordered, Msat::new(max));
        let ordered = |bytes| Some(ByteCount::new(bytes));
        assert_eq!(rest(ordered(100), 1_000), Some((ordered(10), Msat::new(100))));
        assert_eq!(rest(None, 1_000), Some((None, Msat::new(100))));
        assert_eq!(rest(ordered(90), 1_000), None);
        assert_eq!(rest(ordered(100), 900), None);
    }
}
