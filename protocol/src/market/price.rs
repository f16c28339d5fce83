//! What a stretch of bytes and seconds costs, and what an amount of money buys. Integers only.
//!
//! Cost is cumulative within a stretch (the time one sheet is in force) and rounded up once, so it never depends on
//! how often it is asked for. Bytes bought are rounded down at the dearer direction, so no byte passes unpaid.

use crate::base::limits::{
    DEFAULT_WINDOW, MAX_CAPACITY_SAT, MAX_FREE, MAX_PRICE_MSAT, MAX_SHEET_BLOCKS, MAX_WINDOW, MIN_WINDOW,
};
use crate::base::{BlockHeight, ByteCount, Duration, Msat};
use crate::wire::{BindingClass, PriceSheet};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of one MiB, the unit that prices are per.
pub const MIB: u64 = 1 << 20;

/// The answer where nothing limits the bytes: they cost nothing.
pub const UNLIMITED: ByteCount = ByteCount::MAX;

/// Why a price sheet is not one that can be sold or bought by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SheetError {
    /// A price above [`MAX_PRICE_MSAT`].
    #[error("a price is above one bitcoin per MiB or second and would overflow: lower it")]
    PriceTooHigh,
    /// The smallest window costs more than the largest channel holds.
    #[error("the smallest window costs more than the largest channel holds: lower the price or the window")]
    WindowUnaffordable,
    /// A free allowance above [`MAX_FREE`].
    #[error("the free allowance is above one TiB a day: lower it")]
    FreeTooLarge,
    /// Window bounds outside the limits, or the smaller above the larger.
    #[error("window bounds must lie between 128 KiB and 4 GiB, the smaller one first")]
    WindowBounds,
    /// The last height of the sheet has passed.
    #[error("the price sheet has expired: ask for the present offer before paying")]
    Expired,
    /// The sheet would be valid for more than [`MAX_SHEET_BLOCKS`] blocks.
    #[error(
        "the price sheet is valid for more than 1,008 blocks: prices that old cannot be changed, refuse it"
    )]
    TooLong,
}

/// What was used within a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quantity {
    /// Bytes from the client.
    pub up: ByteCount,
    /// Bytes to the client.
    pub down: ByteCount,
    /// Begun seconds of open service.
    pub seconds: u64,
}

impl Quantity {
    /// Bytes both ways; saturates.
    pub const fn bytes(&self) -> ByteCount {
        self.up.saturating_add(self.down)
    }
}

/// The figures of a price sheet that passed [`Prices::check`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Prices {
    sheet: PriceSheet,
}

impl Prices {
    /// Checks a sheet's bounds and that it is in force at `height`. The signature over it is the caller's matter.
    ///
    /// # Errors
    /// [`SheetError`]: the owner's fault where the sheet is our own, else the relay's.
    pub fn check(sheet: &PriceSheet, height: BlockHeight) -> Result<Prices, SheetError> {
        let highest = sheet.up.max(sheet.down).max(sheet.per_second);
        if highest.value() > MAX_PRICE_MSAT {
            return Err(SheetError::PriceTooHigh);
        }
        if sheet.free.value() > MAX_FREE {
            return Err(SheetError::FreeTooLarge);
        }
        let (min, max) = (sheet.window_min.value(), sheet.window_max.value());
        if min < MIN_WINDOW || max > MAX_WINDOW || min > max {
            return Err(SheetError::WindowBounds);
        }
        if height > sheet.valid_until {
            return Err(SheetError::Expired);
        }
        if sheet.valid_until > height.plus(MAX_SHEET_BLOCKS) {
            return Err(SheetError::TooLong);
        }
        let prices = Prices { sheet: *sheet };
        match prices.window_cost(sheet.window_min, 1) {
            Some(cost) if cost.to_sat_ceil().value() <= MAX_CAPACITY_SAT => Ok(prices),
            _ => Err(SheetError::WindowUnaffordable),
        }
    }

    /// The sheet as it was checked.
    pub const fn sheet(&self) -> &PriceSheet {
        &self.sheet
    }

    /// Millisatoshi per MiB in the dearer direction.
    pub fn dearest(&self) -> Msat {
        self.sheet.up.max(self.sheet.down)
    }

    /// Millisatoshi per second of open service.
    pub const fn per_second(&self) -> Msat {
        self.sheet.per_second
    }

    /// What guests are bound by.
    pub const fn class(&self) -> BindingClass {
        self.sheet.class
    }

    /// What `used` costs: bytes rounded up once to a whole millisatoshi, plus the seconds.
    /// `None` if it does not fit 64 bits.
    pub fn cost(&self, used: &Quantity) -> Option<Msat> {
        let bytes = self.byte_cost_scaled(used).div_ceil(u128::from(MIB));
        let total = bytes.checked_add(self.second_cost(used.seconds))?;
        u64::try_from(total).ok().map(Msat::new)
    }

    /// How many more bytes `credit` buys on top of `used`, at the dearer direction: whatever mix of directions
    /// they take, their cost stays within `credit`. [`UNLIMITED`] where bytes cost nothing; `None` when `used`
    /// alone already costs more (debt).
    pub fn room(&self, credit: Msat, used: &Quantity) -> Option<ByteCount> {
        let left = self.left_scaled(credit, used)?;
        match u128::from(self.dearest().value()) {
            0 => Some(UNLIMITED),
            price => Some(ByteCount::new(u64::try_from(left / price).unwrap_or(u64::MAX))),
        }
    }

    /// How many more whole seconds `credit` buys on top of `used`, with `bytes` more bytes set aside at the dearer
    /// direction. `u64::MAX` where seconds cost nothing; zero when there is debt.
    pub fn seconds_room(&self, credit: Msat, used: &Quantity, bytes: ByteCount) -> u64 {
        let aside = u128::from(self.dearest().value()).saturating_mul(u128::from(bytes.value()));
        let left = self
            .left_scaled(credit, used)
            .and_then(|left| left.checked_sub(aside));
        match (left, u128::from(self.sheet.per_second.value())) {
            (None, _) => 0,
            (Some(_), 0) => u64::MAX,
            (Some(left), price) => u64::try_from(left / (price * u128::from(MIB))).unwrap_or(u64::MAX),
        }
    }

    /// What `bytes` at the dearer direction and `seconds` cost, rounded up. `None` if it does not fit.
    pub fn window_cost(&self, bytes: ByteCount, seconds: u64) -> Option<Msat> {
        let scaled = u128::from(bytes.value()) * u128::from(self.dearest().value());
        let total = scaled
            .div_ceil(u128::from(MIB))
            .checked_add(self.second_cost(seconds))?;
        u64::try_from(total).ok().map(Msat::new)
    }

    /// The window that suits a link of `rate` bytes per second: one second of traffic, at least
    /// [`DEFAULT_WINDOW`] so that payments stay under 0.01 % of the bytes, within the sheet's bounds.
    pub fn default_window(&self, rate: ByteCount) -> ByteCount {
        self.clamp_window(rate.max(ByteCount::new(DEFAULT_WINDOW)))
    }

    /// The nearest window that the sheet allows.
    pub fn clamp_window(&self, bytes: ByteCount) -> ByteCount {
        bytes.max(self.sheet.window_min).min(self.sheet.window_max)
    }

    // Price times bytes: below 2^37 · 2^64 · 2, far from 2^128.
    fn byte_cost_scaled(&self, used: &Quantity) -> u128 {
        u128::from(used.up.value()) * u128::from(self.sheet.up.value())
            + u128::from(used.down.value()) * u128::from(self.sheet.down.value())
    }

    fn second_cost(&self, seconds: u64) -> u128 {
        u128::from(seconds) * u128::from(self.sheet.per_second.value())
    }

    // What is left of `credit` after `used`, in millisatoshi times 2^20, exactly.
    fn left_scaled(&self, credit: Msat, used: &Quantity) -> Option<u128> {
        let seconds = self.second_cost(used.seconds).checked_mul(u128::from(MIB))?;
        let spent = self.byte_cost_scaled(used).checked_add(seconds)?;
        (u128::from(credit.value()) * u128::from(MIB)).checked_sub(spent)
    }
}

/// What selling costs on the wire, in bytes with all headers, for [`overhead_ppm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overhead {
    /// One payment and its acknowledgement, both ways.
    pub payment: u64,
    /// One receipt offered and answered.
    pub receipt: u64,
    /// Bytes sold between two receipts.
    pub receipt_every: ByteCount,
    /// Liveness and everything else that goes by time, per second.
    pub per_second: u64,
}

/// Bytes of payments, receipts and liveness per million bytes sold, rounded up, at `window` and a link of `rate`
/// bytes per second. `None` when window, rate or stretch is zero.
pub fn overhead_ppm(window: ByteCount, rate: ByteCount, overhead: &Overhead) -> Option<u64> {
    let share =
        |bytes: u64, per: ByteCount| (u128::from(bytes) * 1_000_000_000).checked_div(u128::from(per.value()));
    let parts = share(overhead.payment, window)?
        .checked_add(share(overhead.receipt, overhead.receipt_every)?)?
        .checked_add(share(overhead.per_second, rate)?)?;
    u64::try_from(parts.div_ceil(1_000)).ok()
}

/// How long `bytes` last at `rate` bytes per second; `None` at rate zero.
pub fn time_for(bytes: ByteCount, rate: ByteCount) -> Option<Duration> {
    let micros = (u128::from(bytes.value()) * 1_000_000).checked_div(u128::from(rate.value()))?;
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
}

/// Bytes per second, when `bytes` passed in `time`; `None` for no time.
pub fn rate_of(bytes: ByteCount, time: Duration) -> Option<ByteCount> {
    let rate = (u128::from(bytes.value()) * 1_000_000).checked_div(u128::from(time.as_micros()))?;
    Some(ByteCount::new(u64::try_from(rate).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sheet() -> PriceSheet {
        PriceSheet {
            version: 1,
            valid_until: BlockHeight::new(1_100),
            up: Msat::new(200),
            down: Msat::new(1_000),
            per_second: Msat::ZERO,
            free: ByteCount::ZERO,
            window_min: ByteCount::new(MIN_WINDOW),
            window_max: ByteCount::new(64 * MIB),
            class: BindingClass::Address,
        }
    }

    fn prices(sheet: PriceSheet) -> Prices {
        Prices::check(&sheet, BlockHeight::new(1_000)).unwrap()
    }

    #[test]
    fn a_sheet_outside_the_bounds_is_refused_with_its_reason() {
        let height = BlockHeight::new(1_000);
        let refused = |change: fn(&mut PriceSheet)| {
            let mut s = sheet();
            change(&mut s);
            Prices::check(&s, height).err()
        };
        assert_eq!(refused(|_| ()), None);
        assert_eq!(
            refused(|s| s.up = Msat::new(MAX_PRICE_MSAT + 1)),
            Some(SheetError::PriceTooHigh)
        );
        assert_eq!(
            refused(|s| s.per_second = Msat::MAX),
            Some(SheetError::PriceTooHigh)
        );
        assert_eq!(
            refused(|s| s.down = Msat::new(MAX_PRICE_MSAT)),
            Some(SheetError::WindowUnaffordable)
        );
        assert_eq!(
            refused(|s| s.free = ByteCount::new(MAX_FREE + 1)),
            Some(SheetError::FreeTooLarge)
        );
        assert_eq!(
            refused(|s| s.window_min = ByteCount::new(MIN_WINDOW - 1)),
            Some(SheetError::WindowBounds)
        );
        assert_eq!(
            refused(|s| s.window_min = ByteCount::new(65 * MIB)),
            Some(SheetError::WindowBounds)
        );
        assert_eq!(
            refused(|s| s.window_max = ByteCount::MAX),
            Some(SheetError::WindowBounds)
        );
        assert_eq!(
            refused(|s| s.valid_until = BlockHeight::new(999)),
            Some(SheetError::Expired)
        );
        assert_eq!(
            refused(|s| s.valid_until = BlockHeight::new(2_009)),
            Some(SheetError::TooLong)
        );
    }

    #[test]
    fn cost_is_rounded_up_once() {
        let p = prices(sheet());
        let used = |up, down| Quantity {
            up: ByteCount::new(up),
            down: ByteCount::new(down),
            seconds: 0,
        };
        assert_eq!(p.cost(&used(0, 0)), Some(Msat::ZERO));
        assert_eq!(p.cost(&used(1, 0)), Some(Msat::new(1)));
        assert_eq!(p.cost(&used(MIB, MIB)), Some(Msat::new(1_200)));
        assert_eq!(p.cost(&used(MIB, MIB + 1)), Some(Msat::new(1_201)));
    }

    #[test]
    fn a_cost_that_does_not_fit_is_none() {
        let mut s = sheet();
        s.per_second = Msat::new(MAX_PRICE_MSAT / 100);
        let used = Quantity {
            seconds: u64::MAX,
            ..Quantity::default()
        };
        assert_eq!(prices(s).cost(&used), None);
    }

    #[test]
    fn a_free_sheet_sells_without_limit() {
        let mut s = sheet();
        (s.up, s.down) = (Msat::ZERO, Msat::ZERO);
        assert_eq!(prices(s).room(Msat::ZERO, &Quantity::default()), Some(UNLIMITED));
        assert_eq!(prices(s).window_cost(UNLIMITED, 5), Some(Msat::ZERO));
    }

    #[test]
    fn the_default_window_is_one_second_within_the_bounds() {
        let p = prices(sheet());
        assert_eq!(p.default_window(ByteCount::ZERO), ByteCount::new(DEFAULT_WINDOW));
        assert_eq!(
            p.default_window(ByteCount::new(6_250_000)),
            ByteCount::new(6_250_000)
        );
        assert_eq!(
            p.default_window(ByteCount::new(1 << 40)),
            ByteCount::new(64 * MIB)
        );
    }

    #[test]
    fn the_default_window_keeps_payments_under_one_in_ten_thousand() {
        // A payment of 100 bytes and an acknowledgement of 40, each with 80 bytes of headers for itself and for the
        // segment that confirms it; 900 bytes for a receipt both ways; one liveness of 120 bytes in ten seconds.
        let overhead = Overhead {
            payment: 300,
            receipt: 900,
            receipt_every: ByteCount::new(64 * MIB),
            per_second: 12,
        };
        let rate = ByteCount::new(6_250_000);
        assert!(overhead_ppm(ByteCount::new(DEFAULT_WINDOW), rate, &overhead).unwrap() <= 100);
        assert!(overhead_ppm(ByteCount::new(MIB), rate, &overhead).unwrap() > 100);
        assert_eq!(overhead_ppm(ByteCount::ZERO, rate, &overhead), None);
    }

    prop_compose! {
        fn any_prices()(up in 0..1u64 << 36, down in 0..1u64 << 36, per_second in 0..1u64 << 36) -> Prices {
            let mut s = sheet();
            (s.up, s.down, s.per_second) = (Msat::new(up), Msat::new(down), Msat::new(per_second));
            // The bound on a window's cost is not what is tested here.
            Prices { sheet: s }
        }
    }

    proptest! {
        #[test]
        fn the_inverse_never_grants_an_unpaid_byte(
            p in any_prices(), credit in 0..u64::MAX, up in 0..1u64 << 40, down in 0..1u64 << 40, seconds in 0..1u64 << 20,
        ) {
            let credit = Msat::new(credit);
            let used = Quantity { up: ByteCount::new(up), down: ByteCount::new(down), seconds };
            match p.room(credit, &used) {
                None => prop_assert!(p.cost(&used).is_none_or(|c| c > credit)),
                Some(UNLIMITED) => prop_assert_eq!(p.dearest(), Msat::ZERO),
                Some(room) => {
                    let dear = |n: ByteCount| if p.sheet.up >= p.sheet.down {
                        Quantity { up: used.up.checked_add(n).unwrap(), ..used }
                    } else {
                        Quantity { down: used.down.checked_add(n).unwrap(), ..used }
                    };
                    if room.value() < 1 << 62 {
                        prop_assert!(p.cost(&dear(room)).unwrap() <= credit);
                        let more = room.checked_add(ByteCount::new(1)).unwrap();
                        prop_assert!(p.cost(&dear(more)).is_none_or(|c| c > credit));
                    }
                }
            }
        }

        #[test]
        fn seconds_bought_are_paid_and_one_more_is_not(
            p in any_prices(), credit in 0..1u64 << 50, up in 0..1u64 << 30, aside in 0..1u64 << 30,
        ) {
            let credit = Msat::new(credit);
            let used = Quantity { up: ByteCount::new(up), ..Quantity::default() };
            let n = p.seconds_room(credit, &used, ByteCount::new(aside));
            prop_assume!(n < u64::MAX);
            let fits = |seconds| p
                .room(credit, &Quantity { seconds, ..used })
                .is_some_and(|room| room.value() >= aside);
            prop_assert!(n == 0 || fits(n));
            prop_assert!(p.per_second() == Msat::ZERO || !fits(n + 1));
        }

        #[test]
        fn rounding_is_below_one_millisatoshi_per_stretch(p in any_prices(), parts in prop::collection::vec(0..1u64 << 24, 1..50)) {
            let mut used = Quantity::default();
            for part in &parts {
                used.down = used.down.checked_add(ByteCount::new(*part)).unwrap();
            }
            let exact = u128::from(used.down.value()) * u128::from(p.sheet.down.value());
            let cost = u128::from(p.cost(&used).unwrap().value()) * u128::from(MIB);
            prop_assert!(cost >= exact && cost - exact < u128::from(MIB));
        }
    }
}
