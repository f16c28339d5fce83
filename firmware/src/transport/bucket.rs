//! A token bucket that may go below zero: what has been read is charged in full, and the next read waits.

use super::Rate;
use std::time::{Duration, Instant};

/// So many per second, with a burst. Counts in millionths, so that slow rates lose nothing to rounding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    millionths: i64,
    at: Instant,
}

const ONE: i64 = 1_000_000;

impl Bucket {
    pub(super) fn full(rate: Rate, now: Instant) -> Bucket {
        Bucket {
            rate,
            millionths: i64::from(rate.burst) * ONE,
            at: now,
        }
    }

    /// Takes one if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let there = self.millionths >= ONE;
        if there {
            self.millionths -= ONE;
        }
        there
    }

    /// Charges what was used, there or not.
    pub(super) fn charge(&mut self, amount: usize, now: Instant) {
        self.refill(now);
        let amount = i64::try_from(amount).unwrap_or(i64::MAX / ONE);
        self.millionths = self.millionths.saturating_sub(amount.saturating_mul(ONE));
    }

    /// When something is there again; `None` if it is now.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        if self.millionths > 0 {
            return None;
        }
        let missing = ONE.saturating_sub(self.millionths).unsigned_abs();
        let micros = missing.div_ceil(u64::from(self.rate.per_second.max(1)));
        Some(self.at + Duration::from_micros(micros))
    }

    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.millionths >= i64::from(self.rate.burst) * ONE
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_micros();
        self.at = self.at.max(now);
        let gained =
            i64::try_from(passed.saturating_mul(u128::from(self.rate.per_second))).unwrap_or(i64::MAX);
        let most = i64::from(self.rate.burst) * ONE;
        self.millionths = self.millionths.saturating_add(gained).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(
            Rate {
                per_second: 2,
                burst: 3,
            },
            start,
        );
        assert_eq!((0..9).filter(|_| bucket.take(start)).count(), 3);
        let later = |ms| start + Duration::from_millis(ms);
        assert!(!bucket.take(later(499)));
        assert!(bucket.take(later(500)));
        assert!(!bucket.take(later(500)));
        assert_eq!((0..9).filter(|_| bucket.take(later(100_000))).count(), 3);
    }

    #[test]
    fn a_debt_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::full(
            Rate {
                per_second: 100,
                burst: 10,
            },
            start,
        );
        assert_eq!(bucket.ready_at(), None);
        bucket.charge(30, start);
        // 20 below zero, and one to go on with.
        assert_eq!(bucket.ready_at(), Some(start + Duration::from_millis(210)));
        bucket.charge(usize::MAX, start);
        assert!(bucket.ready_at().is_some());
        // A clock that does not move, or an instant before the last, gives nothing.
        bucket.charge(0, start - Duration::from_secs(0));
        assert!(bucket.ready_at().is_some());
    }
}
