//! Noise's transport cipher with explicit counters: ChaCha20-Poly1305 without associated data, the counter as nonce.
//!
//! One rekeying rule for both bearers: message `n` is sealed under the key that was rekeyed (Noise §4.2)
//! `n >> EPOCH_BITS` times. Both sides know `n`, so nobody has to announce it.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, Tag};

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;
/// 2^16 messages per key: at most 256 MiB, far below ChaCha20-Poly1305's bounds, and a stolen key opens no more.
pub(super) const EPOCH_BITS: u32 = 16;

/// The epoch that a counter belongs to.
pub(super) const fn epoch(counter: u64) -> u64 {
    counter >> EPOCH_BITS
}

/// One direction's key during one epoch. The cipher wipes its key when dropped.
pub(super) struct Key(ChaCha20Poly1305);

impl Key {
    pub(super) fn new(bytes: &[u8; 32]) -> Key {
        Key(ChaCha20Poly1305::new(bytes.into()))
    }

    /// Noise's REKEY: the first 32 bytes of 32 zeros sealed under the reserved counter 2^64 − 1.
    pub(super) fn next(&self) -> Key {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        // Sealing 32 bytes cannot exceed the cipher's limit; the tag is not part of the key.
        let _ = self
            .0
            .encrypt_in_place_detached(&nonce(u64::MAX), &[], bytes.as_mut());
        Key::new(&bytes)
    }

    /// Encrypts in place and returns the tag; `None` if the text is too long for the cipher (256 GiB).
    pub(super) fn seal(&self, counter: u64, text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0
            .encrypt_in_place_detached(&nonce(counter), &[], text)
            .ok()
            .map(Into::into)
    }

    /// Decrypts `sealed` (text and tag) in place and returns the length of the text; `None`, with the bytes as they
    /// were, if it does not authenticate.
    pub(super) fn open(&self, counter: u64, sealed: &mut [u8]) -> Option<usize> {
        let length = sealed.len().checked_sub(TAG)?;
        let (text, tag) = sealed.split_at_mut_checked(length)?;
        let tag = Tag::clone_from_slice(tag);
        self.0
            .decrypt_in_place_detached(&nonce(counter), &[], text, &tag)
            .ok()?;
        Some(length)
    }
}

/// A key and its counter, where messages arrive in the order in which they were sealed.
pub(super) struct Ordered {
    key: Key,
    next: u64,
}

impl Ordered {
    pub(super) fn new(key: Key) -> Ordered {
        Ordered { key, next: 0 }
    }

    /// The counter of the next message.
    pub(super) fn counter(&self) -> u64 {
        self.next
    }

    /// Seals the next message; `None` when the counter is used up.
    pub(super) fn seal(&mut self, text: &mut [u8]) -> Option<[u8; TAG]> {
        let counter = self.next;
        let following = counter.checked_add(1)?;
        let tag = self.key.seal(counter, text)?;
        self.advance(following);
        Some(tag)
    }

    /// Opens the next message; `None` if it does not authenticate or the counter is used up.
    pub(super) fn open(&mut self, sealed: &mut [u8]) -> Option<usize> {
        let counter = self.next;
        let following = counter.checked_add(1)?;
        let length = self.key.open(counter, sealed)?;
        self.advance(following);
        Some(length)
    }

    /// Goes on to `counter` as if messages had been sealed or opened: tests cross a rekey without its 65,536 messages.
    #[cfg(test)]
    pub(super) fn skip_to(&mut self, counter: u64) {
        while self.next < counter {
            self.advance(self.next + 1);
        }
    }

    fn advance(&mut self, following: u64) {
        if epoch(following) != epoch(self.next) {
            self.key = self.key.next();
        }
        self.next = following;
    }
}

fn nonce(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h].into()
}
