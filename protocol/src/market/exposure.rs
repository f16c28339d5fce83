//! What either side would lose if the other vanished now, in money and in time.

use super::{Account, Prices, Quantity, UNLIMITED, time_for};
use crate::base::{ByteCount, Msat};

/// What one side has at stake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// In money.
    pub msat: Msat,
    /// As service at the present rate, milliseconds; `None` while nothing passes or bytes cost nothing.
    pub millis: Option<u64>,
}

impl Exposure {
    /// What the payer has prepaid and not yet used, where `rate` is in bytes per second.
    pub fn of_payer(prices: &Prices, paid: Msat, cost: Msat, rate: ByteCount) -> Exposure {
        Exposure::new(prices, paid.saturating_sub(cost), rate)
    }

    /// What the relay has served and might not be paid for: use that a power cut would forget, credit on money that
    /// is not final yet (`unconfirmed`, as far as it is used up), and debt.
    pub fn of_relay(account: &Account, unconfirmed: Msat) -> Exposure {
        let record = account.record();
        // The confirmed part of what was paid is used first.
        let confirmed = account.paid_total().saturating_sub(unconfirmed);
        let unsure = record.cost().saturating_sub(confirmed);
        let (_, rate) = account.window_and_rate();
        Exposure::new(
            &record.prices,
            unsure.saturating_add(account.unsaved_cost()),
            rate,
        )
    }

    fn new(prices: &Prices, msat: Msat, rate: ByteCount) -> Exposure {
        let bytes = prices
            .room(msat, &Quantity::default())
            .filter(|b| *b != UNLIMITED);
        let millis = bytes
            .and_then(|bytes| time_for(bytes, rate))
            .map(|time| time.as_millis());
        Exposure { msat, millis }
    }
}

/// A window as it is shown: in bytes, in money, and in milliseconds at the present rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowView {
    /// Bytes of one window.
    pub bytes: ByteCount,
    /// What it costs at the dearer direction; `None` if that does not fit.
    pub cost: Option<Msat>,
    /// How long it lasts; `None` at rate zero.
    pub millis: Option<u64>,
}

impl WindowView {
    /// The window `bytes` at `rate` bytes per second.
    pub fn new(prices: &Prices, bytes: ByteCount, rate: ByteCount) -> WindowView {
        WindowView {
            bytes,
            cost: prices.window_cost(bytes, 0),
            millis: time_for(bytes, rate).map(|time| time.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlockHeight;
    use crate::wire::{BindingClass, PriceSheet};

    #[test]
    fn prepaid_money_is_shown_as_time_at_the_present_rate() {
        let sheet = PriceSheet {
            version: 1,
            valid_until: BlockHeight::new(10),
            up: Msat::new(500),
            down: Msat::new(1_000),
            per_second: Msat::ZERO,
            free: ByteCount::ZERO,
            window_min: ByteCount::new(1 << 20),
            window_max: ByteCount::new(1 << 24),
            class: BindingClass::Address,
        };
        let prices = Prices::check(&sheet, BlockHeight::new(1)).unwrap();
        let rate = ByteCount::new(1 << 20);
        let payer = Exposure::of_payer(&prices, Msat::new(5_000), Msat::new(3_000), rate);
        assert_eq!((payer.msat, payer.millis), (Msat::new(2_000), Some(2_000)));
        let idle = Exposure::of_payer(&prices, Msat::new(5_000), Msat::new(6_000), ByteCount::ZERO);
        assert_eq!((idle.msat, idle.millis), (Msat::ZERO, None));
        let window = WindowView::new(&prices, ByteCount::new(1 << 22), rate);
        assert_eq!(
            (window.cost, window.millis),
            (Some(Msat::new(4_000)), Some(4_000))
        );
    }
}
