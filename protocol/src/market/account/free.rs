//! The free allowance of a whole relay: what it gives away in a period of 24 hours, over all keys.

use crate::base::{ByteCount, Duration, Instant};
use serde::{Deserialize, Serialize};

/// Length of a period: 24 hours of monotonic time. A node may have no clock, so a period is not a date; time that
/// the node is switched off does not count.
pub const FREE_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// What must survive a restart, so that switching the node off and on never refills the allowance. Persist it with
/// every lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FreeRecord {
    /// Number of the period, from 0.
    pub period: u32,
    /// How much of the period has gone.
    pub elapsed: Duration,
    /// Bytes leased to all keys in this period.
    pub leased: ByteCount,
}

/// What one key has of it. Part of the account's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FreeUse {
    /// The period that `leased` counts in.
    pub period: u32,
    /// Bytes leased to this key in that period.
    pub leased: ByteCount,
    /// Bytes of them that it has not used.
    pub left: ByteCount,
}

/// Hands out free bytes in small leases, bounded per key and for the relay as a whole.
#[derive(Clone, Debug)]
pub struct FreeAllowance {
    record: FreeRecord,
    total: ByteCount,
    since: Instant,
}

impl FreeAllowance {
    /// Goes on from `record` (the default one on a new node). `total` is what the relay gives away per period.
    pub fn restore(record: FreeRecord, total: ByteCount, now: Instant) -> Self {
        FreeAllowance {
            record,
            total,
            since: now,
        }
    }

    /// Starts a new period if the present one is over; then returns its number, to be told to every account.
    pub fn tick(&mut self, now: Instant) -> Option<u32> {
        self.record.elapsed = self.record.elapsed + now.since(self.since);
        self.since = self.since.max(now);
        if self.record.elapsed < FREE_PERIOD {
            return None;
        }
        self.record = FreeRecord {
            period: self.record.period.saturating_add(1),
            ..FreeRecord::default()
        };
        Some(self.record.period)
    }

    /// Leases up to `want` more bytes to a key that has `key`, where one key may have `per_key` per period.
    /// Returns the period and all that the key has leased in it now; persist [`Self::record`] before telling it.
    pub fn lease(&mut self, key: &FreeUse, per_key: ByteCount, want: ByteCount) -> (u32, ByteCount) {
        let taken = if key.period == self.record.period {
            key.leased
        } else {
            key.left
        };
        let bytes = want
            .min(per_key.saturating_sub(taken))
            .min(self.total.saturating_sub(self.record.leased));
        self.record.leased = self.record.leased.saturating_add(bytes);
        (self.record.period, taken.saturating_add(bytes))
    }

    /// What must be persisted.
    pub const fn record(&self) -> &FreeRecord {
        &self.record
    }

    /// When the period ends.
    pub fn next_timeout(&self) -> Instant {
        let left = FREE_PERIOD
            .as_micros()
            .saturating_sub(self.record.elapsed.as_micros());
        self.since + Duration::from_micros(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: ByteCount = ByteCount::new(1 << 20);
    const TEN: ByteCount = ByteCount::new(10 << 20);

    #[test]
    fn neither_a_key_nor_all_of_them_get_more_than_their_share() {
        let mut pool = FreeAllowance::restore(
            FreeRecord::default(),
            ByteCount::new(15 << 20),
            Instant::default(),
        );
        let mut one = FreeUse::default();
        for _ in 0..20 {
            one.leased = pool.lease(&one, TEN, MIB).1;
        }
        assert_eq!(one.leased, TEN);
        let (_, two) = pool.lease(&FreeUse::default(), TEN, TEN);
        assert_eq!(two, ByteCount::new(5 << 20));
    }

    #[test]
    fn a_restart_does_not_refill_and_a_day_does() {
        let start = Instant::default();
        let mut pool = FreeAllowance::restore(FreeRecord::default(), TEN, start);
        let (period, leased) = pool.lease(&FreeUse::default(), TEN, TEN);
        let key = FreeUse {
            period,
            leased,
            left: ByteCount::ZERO,
        };
        assert_eq!(pool.tick(start + Duration::from_secs(3_600)), None);
        let mut pool = FreeAllowance::restore(*pool.record(), TEN, start);
        assert_eq!(pool.lease(&key, TEN, TEN), (0, TEN));
        assert_eq!(pool.next_timeout(), start + Duration::from_secs(23 * 3_600));
        assert_eq!(pool.tick(start + Duration::from_secs(23 * 3_600)), Some(1));
        assert_eq!(pool.lease(&key, TEN, MIB), (1, MIB));
    }
}
