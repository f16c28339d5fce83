//! The one secret that an owner writes down.

use alloc::string::String;
use bip39::{Language, Mnemonic};
use core::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// A BIP39 seed without a passphrase: English words, checked. Wiped when dropped, never printed.
///
/// A passphrase is left out on purpose: words alone must find the money again.
#[derive(Clone)]
pub struct Seed(Mnemonic);

/// Why words are no seed. All three are the typist's mistake; no word is repeated in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SeedError {
    /// BIP39 knows 12, 15, 18, 21 and 24 words.
    #[error("{0} words are no seed: give 12, 15, 18, 21 or 24 words")]
    WordCount(usize),
    /// Position of the first unknown word, counted from 1.
    #[error("word {0} is not in the English BIP39 list: check its spelling")]
    UnknownWord(usize),
    /// All words are known, but they do not belong together.
    #[error("the words do not fit together (checksum): check their order and spelling")]
    Checksum,
}

impl Seed {
    /// The seed with these 32 random bytes as entropy: 24 words.
    pub fn from_entropy(entropy: &[u8; 32]) -> Seed {
        match Mnemonic::from_entropy_in(Language::English, entropy) {
            Ok(m) => Seed(m),
            // BIP39 takes any 256 bits.
            Err(_) => unreachable!("256 bits are a valid BIP39 entropy"),
        }
    }

    /// Reads a phrase. Upper case and any white space are forgiven.
    ///
    /// # Errors
    /// [`SeedError`] says what is wrong and where.
    pub fn from_words(words: &str) -> Result<Seed, SeedError> {
        let lower = Zeroizing::new(words.to_ascii_lowercase());
        match Mnemonic::parse_in_normalized(Language::English, &lower) {
            Ok(m) => Ok(Seed(m)),
            Err(bip39::Error::UnknownWord(at)) => Err(SeedError::UnknownWord(at.saturating_add(1))),
            Err(bip39::Error::BadWordCount(n)) => Err(SeedError::WordCount(n)),
            Err(_) => Err(SeedError::Checksum),
        }
    }

    /// The phrase, words separated by one space. Show it once, on paper's way only.
    pub fn words(&self) -> Zeroizing<String> {
        // 24 words of at most 8 letters: no reallocation leaves a copy behind.
        let mut phrase = Zeroizing::new(String::with_capacity(24 * 9));
        for word in self.0.words() {
            if !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(word);
        }
        phrase
    }

    /// The 64 bytes that BIP32 starts from, with an empty passphrase. Slow on purpose (2,048 rounds of PBKDF2).
    pub(super) fn stretched(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed_normalized(""))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}
