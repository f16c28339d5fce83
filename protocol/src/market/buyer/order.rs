//! What the user ordered, and what it came to.

use super::{Buyer, BuyerState, BuyerView, StopReason};
use crate::base::{ByteCount, Msat};
use crate::market::Exposure;

/// What the user ordered. Bytes and money are counted over the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Order {
    pub bytes: Option<ByteCount>,
    pub used_before: ByteCount,
    pub spent: Msat,
    pub max: Msat,
}

/// The figures of an order that is over, as they stood then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub ordered: Option<ByteCount>,
    pub used: ByteCount,
    pub spent: Msat,
    pub max: Msat,
}

impl Buyer {
    /// The purchase, for displays.
    pub fn view(&self) -> BuyerView {
        let order = self.order.map(|order| self.figures(&order)).or(self.ended);
        BuyerView {
            state: self.state,
            ordered: order.and_then(|order| order.ordered),
            used: order.map_or(ByteCount::ZERO, |order| order.used),
            left: self.left(),
            spent: order.map_or(Msat::ZERO, |order| order.spent),
            max: order.map_or(Msat::ZERO, |order| order.max),
            counted: self.counted(),
            claimed: self.claimed,
            cost: self.own_cost(),
            window: self.window(),
            rate: self.meter.rate,
        }
    }

    /// What we have prepaid and not used.
    pub fn exposure(&self) -> Option<Exposure> {
        let (offer, channel) = (self.offer.as_ref()?, self.channel.as_ref()?);
        let cost = self.own_cost();
        Some(Exposure::of_payer(
            &offer.prices,
            channel.total,
            cost,
            self.meter.rate,
        ))
    }

    fn figures(&self, order: &Order) -> Ended {
        Ended {
            ordered: order.bytes,
            used: self.used().saturating_sub(order.used_before),
            spent: order.spent,
            max: order.max,
        }
    }

    /// The order is over; what it came to stays to be seen until the next one.
    pub(super) fn stop(&mut self, reason: StopReason) {
        self.state = BuyerState::Stopped(reason);
        self.short_since = None;
        if let Some(order) = self.order.take() {
            self.ended = Some(self.figures(&order));
        }
    }

    pub(super) fn end(&mut self, reason: StopReason) {
        self.stop(reason);
        self.pending.pay = None;
        self.pending.stop = self.bound.map(|binding| binding.account);
    }
}
