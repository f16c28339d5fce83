//! Integers with units. Arithmetic on them is checked: `None` means "does not fit", never a wrapped number.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty), $suffix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Nothing of it.
            pub const ZERO: $name = $name(0);
            /// The most that the type holds.
            pub const MAX: $name = $name(<$inner>::MAX);

            /// Wraps a plain number of this unit.
            pub const fn new(value: $inner) -> Self {
                $name(value)
            }

            /// The plain number.
            pub const fn value(self) -> $inner {
                self.0
            }

            /// The sum, or `None` if it does not fit.
            pub const fn checked_add(self, other: $name) -> Option<$name> {
                match self.0.checked_add(other.0) {
                    Some(v) => Some($name(v)),
                    None => None,
                }
            }

            /// The difference, or `None` if `other` is larger.
            pub const fn checked_sub(self, other: $name) -> Option<$name> {
                match self.0.checked_sub(other.0) {
                    Some(v) => Some($name(v)),
                    None => None,
                }
            }

            /// The sum, or the largest value there is. For limits and displays, never for balances.
            pub const fn saturating_add(self, other: $name) -> $name {
                $name(self.0.saturating_add(other.0))
            }

            /// The difference, or zero. For limits and displays, never for balances.
            pub const fn saturating_sub(self, other: $name) -> $name {
                $name(self.0.saturating_sub(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $suffix), self.0)
            }
        }
    };
}

unit!(
    /// Millisatoshi, 1/1000 of a satoshi: the unit of prices and of cumulative totals off chain.
    Msat(u64), " msat"
);
unit!(
    /// Satoshi: the unit of everything on chain.
    Sat(u64), " sat"
);
unit!(
    /// A number of layer-3 bytes.
    ByteCount(u64), " B"
);
unit!(
    /// Height of a block; always below 500,000,000, where nLockTime starts to mean seconds (BIP65).
    BlockHeight(u32), ""
);
unit!(
    /// Fee rate in satoshi per 1,000 virtual bytes, so that 1 sat/vB is 1,000.
    FeeRate(u64), " sat/kvB"
);

impl Msat {
    /// The smallest whole number of satoshi that covers this amount.
    pub const fn to_sat_ceil(self) -> Sat {
        Sat(self.0.div_ceil(1_000))
    }

    /// The whole satoshi in this amount.
    pub const fn to_sat_floor(self) -> Sat {
        Sat(self.0 / 1_000)
    }
}

impl Sat {
    /// The amount in millisatoshi, or `None` if it does not fit.
    pub const fn to_msat(self) -> Option<Msat> {
        match self.0.checked_mul(1_000) {
            Some(v) => Some(Msat(v)),
            None => None,
        }
    }
}

impl BlockHeight {
    /// The height `blocks` later; saturates below the point where nLockTime starts to mean seconds.
    pub const fn plus(self, blocks: u32) -> BlockHeight {
        let h = self.0.saturating_add(blocks);
        BlockHeight(if h > super::limits::MAX_HEIGHT {
            super::limits::MAX_HEIGHT
        } else {
            h
        })
    }

    /// The height `blocks` earlier, or zero.
    pub const fn minus(self, blocks: u32) -> BlockHeight {
        BlockHeight(self.0.saturating_sub(blocks))
    }
}

impl FeeRate {
    /// The usual floor for relaying, 1 sat/vB (Bitcoin Core's `-minrelaytxfee` default up to version 29).
    pub const MIN_RELAY: FeeRate = FeeRate(1_000);

    /// The fee for `vbytes` virtual bytes, rounded up; `None` if it does not fit.
    pub const fn fee(self, vbytes: u64) -> Option<Sat> {
        match self.0.checked_mul(vbytes) {
            Some(v) => Some(Sat(v.div_ceil(1_000))),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msat_rounds_to_whole_satoshi_both_ways() {
        assert_eq!(Msat::new(1_001).to_sat_ceil(), Sat::new(2));
        assert_eq!(Msat::new(1_999).to_sat_floor(), Sat::new(1));
        assert_eq!(
            Msat::new(u64::MAX).to_sat_ceil(),
            Sat::new(18_446_744_073_709_552)
        );
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Sat::MAX.checked_add(Sat::new(1)), None);
        assert_eq!(Sat::ZERO.checked_sub(Sat::new(1)), None);
        assert_eq!(Sat::MAX.to_msat(), None);
        assert_eq!(FeeRate::MAX.fee(2), None);
        assert_eq!(BlockHeight::MAX.plus(1).value(), super::super::limits::MAX_HEIGHT);
    }

    #[test]
    fn fee_is_rounded_up() {
        assert_eq!(FeeRate::new(1_001).fee(1), Some(Sat::new(2)));
        assert_eq!(FeeRate::MIN_RELAY.fee(205), Some(Sat::new(205)));
    }
}
