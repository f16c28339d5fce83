//! What has already arrived: each counter is accepted once, also when packets overtake one another.
//!
//! A ring of bits as in RFC 6479: moving on clears whole words, nothing is ever shifted.

use super::cipher::{Key, epoch};
use super::packet::Ignored;
use crate::base::limits::{MAX_EPOCH_JUMP, REPLAY_WINDOW};

/// Opens packets in any order, each once.
pub(super) struct Unordered {
    /// Key of the newest packet's epoch.
    key: Key,
    /// Key of the epoch before, for packets that were overtaken across a rekey.
    previous: Option<Key>,
    window: Window,
}

/// The newest counter, and which of those shortly before it were seen.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// One more than the newest counter seen; zero before the first.
    end: u64,
    bits: [u64; WORDS],
}

impl Unordered {
    pub(super) fn new(key: Key) -> Unordered {
        Unordered {
            key,
            previous: None,
            window: Window::new(),
        }
    }

    /// Opens `sealed` in place and returns the text's length. Replays and counters out of range are refused before
    /// anything is decrypted; a packet that does not authenticate changes nothing.
    pub(super) fn open(&mut self, counter: u64, sealed: &mut [u8]) -> Result<usize, Ignored> {
        self.window.check(counter)?;
        let now = epoch(self.window.end.saturating_sub(1));
        let wanted = epoch(counter);
        if wanted <= now {
            let key = match now.saturating_sub(wanted) {
                0 => Some(&self.key),
                1 => self.previous.as_ref(),
                _ => None,
            };
            let length = key
                .ok_or(Ignored::Old)?
                .open(counter, sealed)
                .ok_or(Ignored::Forged)?;
            self.window.mark(counter);
            return Ok(length);
        }
        let ahead = wanted.saturating_sub(now);
        if ahead > MAX_EPOCH_JUMP {
            return Err(Ignored::Ahead);
        }
        let mut key = self.key.next();
        let mut previous = None;
        for _ in 1..ahead {
            let next = key.next();
            previous = Some(core::mem::replace(&mut key, next));
        }
        let length = key.open(counter, sealed).ok_or(Ignored::Forged)?;
        let old = core::mem::replace(&mut self.key, key);
        self.previous = Some(previous.unwrap_or(old));
        self.window.mark(counter);
        Ok(length)
    }
}

impl Window {
    pub(super) fn new() -> Window {
        Window {
            end: 0,
            bits: [0; WORDS],
        }
    }

    /// Whether `counter` may still come.
    pub(super) fn check(&self, counter: u64) -> Result<(), Ignored> {
        if counter == u64::MAX {
            return Err(Ignored::Ahead);
        }
        if counter >= self.end {
            return Ok(());
        }
        if self.end.saturating_sub(counter) > REPLAY_WINDOW {
            return Err(Ignored::Old);
        }
        match self.bits.get(word(counter)) {
            Some(bits) if bits & bit(counter) == 0 => Ok(()),
            _ => Err(Ignored::Replayed),
        }
    }

    /// Remembers `counter`, which [`check`](Self::check) has passed.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            let newest = self.end.saturating_sub(1) / 64;
            let fresh = (counter / 64).saturating_sub(newest).min(WORDS as u64);
            for step in 0..fresh {
                let at = (counter / 64).saturating_sub(step) % WORDS as u64;
                if let Some(bits) = self.bits.get_mut(at as usize) {
                    *bits = 0;
                }
            }
            self.end = counter.saturating_add(1);
        }
        if let Some(bits) = self.bits.get_mut(word(counter)) {
            *bits |= bit(counter);
        }
    }
}

/// One word more than the window needs, so that the word being filled never holds bits of the past.
const WORDS: usize = 32;
const _: () = assert!(REPLAY_WINDOW == (WORDS as u64 - 1) * 64);
// An accepted counter lies in the newest packet's epoch or in the one before.
const _: () = assert!(REPLAY_WINDOW < 1 << super::cipher::EPOCH_BITS);

const fn word(counter: u64) -> usize {
    ((counter / 64) % WORDS as u64) as usize
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}
