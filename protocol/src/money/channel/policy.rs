//! What a payee takes: bounds that its owner configures, checked once.

use crate::base::limits::{
    ACCEPT_BLOCKS, DEEP, DEEP_CAPACITY_SAT, DEFAULT_CAPACITY_SAT, DEFAULT_LIFETIME, MARGIN, MAX_CAPACITY_SAT,
    MAX_LIFETIME, MIN_CAPACITY_SAT, MIN_LIFETIME, MIN_PAYMENT_MSAT,
};
use crate::base::{BlockHeight, FeeRate, Msat, Sat};
use crate::money::channel::tx::Terms;
use crate::wire::ErrorCode;
use thiserror::Error;

/// Confirmations after which a funding of this capacity counts as deep.
pub const fn deep(capacity: Sat) -> u32 {
    if capacity.value() < DEEP_CAPACITY_SAT {
        DEEP
    } else {
        MARGIN
    }
}

/// What a payee takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayeePolicy {
    /// Smallest capacity, [`MIN_CAPACITY_SAT`] or more.
    pub capacity_min: Sat,
    /// Largest capacity, [`MAX_CAPACITY_SAT`] or less.
    pub capacity_max: Sat,
    /// Shortest lifetime in blocks, [`MIN_LIFETIME`] or more.
    pub lifetime_min: u32,
    /// Longest lifetime in blocks, [`MAX_LIFETIME`] or less.
    pub lifetime_max: u32,
    /// Credit that one key gets before its funding is deep: what a double spend can cost.
    pub unconfirmed: Msat,
    /// The same for all keys together.
    pub unconfirmed_total: Msat,
    /// Credit that one channel gets while the chain cannot be seen.
    pub dark: Msat,
    /// Smallest step of a payment, [`MIN_PAYMENT_MSAT`] or more.
    pub payment_min: Msat,
    /// Largest step of a payment: bounds what a faulty payer can lose at once.
    pub payment_max: Msat,
}

impl Default for PayeePolicy {
    fn default() -> Self {
        PayeePolicy {
            capacity_min: Sat::new(MIN_CAPACITY_SAT),
            capacity_max: Sat::new(MAX_CAPACITY_SAT),
            lifetime_min: MIN_LIFETIME,
            lifetime_max: MAX_LIFETIME,
            // A hundredth of a default channel: enough to browse for the hour that six blocks take.
            unconfirmed: Msat::new(DEFAULT_CAPACITY_SAT * 10),
            unconfirmed_total: Msat::new(DEFAULT_CAPACITY_SAT * 1_000),
            dark: Msat::new(DEFAULT_CAPACITY_SAT * 1_000),
            payment_min: Msat::new(MIN_PAYMENT_MSAT),
            payment_max: Msat::new(MAX_CAPACITY_SAT * 1_000),
        }
    }
}

/// A policy that contradicts itself or the protocol's bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Capacity bounds.
    #[error(
        "channel capacity must lie between {MIN_CAPACITY_SAT} and {MAX_CAPACITY_SAT} sat, smallest first"
    )]
    Capacity,
    /// Lifetime bounds.
    #[error("channel lifetime must lie between {MIN_LIFETIME} and {MAX_LIFETIME} blocks, shortest first")]
    Lifetime,
    /// Payment bounds.
    #[error("the smallest payment must be at least {MIN_PAYMENT_MSAT} msat and not above the largest")]
    Payment,
    /// One key may not get more than all together.
    #[error("unconfirmed credit of one key must not exceed that of all keys together")]
    Exposure,
}

impl PayeePolicy {
    /// The lifetime that a payer asks for when it has no wish of its own, blocks.
    pub const DEFAULT_LIFETIME: u32 = DEFAULT_LIFETIME;

    /// Checks the bounds against the protocol's.
    pub fn check(&self) -> Result<(), PolicyError> {
        let capacity = self.capacity_min.value()..=self.capacity_max.value();
        if *capacity.start() < MIN_CAPACITY_SAT || *capacity.end() > MAX_CAPACITY_SAT || capacity.is_empty() {
            return Err(PolicyError::Capacity);
        }
        let lifetime = self.lifetime_min..=self.lifetime_max;
        if *lifetime.start() < MIN_LIFETIME || *lifetime.end() > MAX_LIFETIME || lifetime.is_empty() {
            return Err(PolicyError::Lifetime);
        }
        if self.payment_min.value() < MIN_PAYMENT_MSAT || self.payment_min > self.payment_max {
            return Err(PolicyError::Payment);
        }
        if self.unconfirmed > self.unconfirmed_total {
            return Err(PolicyError::Exposure);
        }
        Ok(())
    }

    /// Whether a channel on these terms is worth having, asked for at height `now`. Gives the last height at which
    /// its funding may confirm: early enough to be deep before expiry − 4 margins (money.md rule 1).
    pub fn accept(
        &self,
        terms: &Terms,
        now: BlockHeight,
        settle_vbytes: u64,
        rate: FeeRate,
    ) -> Result<BlockHeight, ErrorCode> {
        if terms.capacity < self.capacity_min || terms.capacity > self.capacity_max {
            return Err(ErrorCode::Capacity);
        }
        if terms.expiry < now.plus(self.lifetime_min) || terms.expiry > now.plus(self.lifetime_max) {
            return Err(ErrorCode::Lifetime);
        }
        // Settling must not eat more than a fifth of what the channel can bring (DESIGN §4, planner).
        let cost = rate.fee(settle_vbytes).ok_or(ErrorCode::FeesTooHigh)?;
        if cost.value().saturating_mul(5) > terms.capacity.value() {
            return Err(ErrorCode::FeesTooHigh);
        }
        let latest = terms.expiry.minus(4 * MARGIN + deep(terms.capacity));
        Ok(latest.min(now.plus(ACCEPT_BLOCKS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(capacity: u64, expiry: u32) -> Terms {
        Terms {
            payer_key: [1; 32],
            payee_key: [2; 32],
            capacity: Sat::new(capacity),
            expiry: BlockHeight::new(expiry),
        }
    }

    #[test]
    fn the_default_policy_is_within_the_bounds_and_each_bound_is_checked() {
        let good = PayeePolicy::default();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(
            PayeePolicy {
                capacity_min: Sat::new(1),
                ..good
            }
            .check(),
            Err(PolicyError::Capacity)
        );
        assert_eq!(
            PayeePolicy {
                capacity_min: Sat::new(20_000),
                capacity_max: Sat::new(10_000),
                ..good
            }
            .check(),
            Err(PolicyError::Capacity)
        );
        assert_eq!(
            PayeePolicy {
                lifetime_min: 10,
                ..good
            }
            .check(),
            Err(PolicyError::Lifetime)
        );
        assert_eq!(
            PayeePolicy {
                payment_min: Msat::ZERO,
                ..good
            }
            .check(),
            Err(PolicyError::Payment)
        );
        assert_eq!(
            PayeePolicy {
                unconfirmed_total: Msat::ZERO,
                ..good
            }
            .check(),
            Err(PolicyError::Exposure)
        );
    }

    #[test]
    fn a_channel_that_fees_would_eat_is_refused() {
        let now = BlockHeight::new(1_000);
        let policy = PayeePolicy::default();
        let ask = |capacity: u64, life: u32, rate: u64| {
            policy.accept(&terms(capacity, 1_000 + life), now, 205, FeeRate::new(rate))
        };
        assert_eq!(ask(10_000, 1_008, 100_000), Err(ErrorCode::FeesTooHigh));
        assert_eq!(ask(10_000, 1_008, u64::MAX), Err(ErrorCode::FeesTooHigh));
        assert_eq!(ask(10_000, 1_008, 5_000), Ok(BlockHeight::new(1_144)));
        assert_eq!(ask(10_000, 216, 1_000), Ok(BlockHeight::new(1_066)));
        assert_eq!(ask(9_999, 1_008, 1_000), Err(ErrorCode::Capacity));
        assert_eq!(ask(10_000, 215, 1_000), Err(ErrorCode::Lifetime));
        assert_eq!(ask(10_000, 4_033, 1_000), Err(ErrorCode::Lifetime));
    }
}
