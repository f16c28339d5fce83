//! The own clock of a service that is paid by time: never behind the relay's.

use super::Buyer;
use crate::base::{ByteCount, Duration, Instant};

/// So long a relay keeps an account open whose client fell silent (the default of
/// [`crate::market::AccountConfig::liveness`]).
pub(super) const SILENT_SECONDS: u64 = 30;

impl Buyer {
    /// The time between a session that broke and the next one, as far as the relay's clock may have gone on.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if let Some(since) = self.away.take().filter(|_| self.is_open()) {
            let silent = Duration::from_secs(SILENT_SECONDS);
            self.record.open = self.record.open + now.since(since).min(silent);
        }
    }

    fn is_open(&self) -> bool {
        self.left() > ByteCount::ZERO || self.record.acknowledged > self.own_cost()
    }

    pub(super) fn run_clock(&mut self, now: Instant) {
        // The relay's clock runs while there is credit; so does ours, which thus is never behind it.
        let open = self.is_open();
        if let Some(binding) = self.bound.as_mut() {
            if open {
                self.record.open = self.record.open + now.since(binding.clock);
            }
            binding.clock = binding.clock.max(now);
        }
    }
}
