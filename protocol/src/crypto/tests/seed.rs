//! Seeds against the published BIP39 vectors.

use crate::crypto::{Seed, SeedError};
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec::Vec;

const ABANDON: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

#[test]
fn entropy_gives_the_words_of_bip39() {
    let cases: [([u8; 32], String); 3] = [
        ([0; 32], format!("{}art", "abandon ".repeat(23))),
        (
            [0x7f; 32],
            format!(
                "{}title",
                "legal winner thank year wave sausage worth useful ".repeat(3)
            )
            .replace("useful title", "title"),
        ),
        ([0xff; 32], format!("{}vote", "zoo ".repeat(23))),
    ];
    for (entropy, words) in cases {
        let seed = Seed::from_entropy(&entropy);
        assert_eq!(*seed.words(), words);
        assert_eq!(*Seed::from_words(&words).unwrap().stretched(), *seed.stretched());
    }
}

#[test]
fn words_stretch_to_the_published_seed() {
    let seed = Seed::from_words(ABANDON).unwrap();
    let expected = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1\
                    9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4";
    assert_eq!(hex::encode(*seed.stretched()), expected);
}

#[test]
fn every_length_of_bip39_is_read_and_no_other() {
    // "zoo" n−1 times and the word that completes the checksum, as in the published vectors for 12, 18 and 24.
    for (count, last) in [(12, "wrong"), (18, "when"), (24, "vote")] {
        let words = format!("{}{last}", "zoo ".repeat(count - 1));
        assert_eq!(*Seed::from_words(&words).unwrap().words(), words);
    }
    for count in [0, 1, 11, 13, 23, 25] {
        let words = "zoo ".repeat(count);
        assert_eq!(Seed::from_words(&words).unwrap_err(), SeedError::WordCount(count));
    }
}

#[test]
fn a_mistyped_phrase_is_refused_by_place_and_never_repeated() {
    let typo = ABANDON.replace("about", "abuot");
    let error = Seed::from_words(&typo).unwrap_err();
    assert_eq!(error, SeedError::UnknownWord(12));
    assert!(!format!("{error} {error:?}").contains("abuot"));
    let swapped = ABANDON.replace("about", "zoo");
    assert_eq!(Seed::from_words(&swapped).unwrap_err(), SeedError::Checksum);
}

#[test]
fn case_and_white_space_are_forgiven() {
    let shouted = format!("  {} \n", ABANDON.to_uppercase().replace(' ', "\t "));
    assert_eq!(*Seed::from_words(&shouted).unwrap().words(), ABANDON);
}

#[test]
fn debug_shows_no_word() {
    assert_eq!(
        format!("{:?}", Seed::from_words(ABANDON).unwrap()),
        "Seed(secret)"
    );
}

proptest! {
    #[test]
    fn words_bring_the_seed_back(entropy in any::<[u8; 32]>()) {
        let seed = Seed::from_entropy(&entropy);
        let words = seed.words();
        prop_assert_eq!(words.split(' ').count(), 24);
        let again = Seed::from_words(&words).unwrap();
        prop_assert_eq!(again.words(), words);
    }

    #[test]
    fn any_text_is_refused_or_read_without_a_panic(text in "\\PC{0,300}") {
        let _ = Seed::from_words(&text);
    }

    #[test]
    fn swapping_two_words_is_nearly_always_noticed(entropy in any::<[u8; 32]>(), a in 0..24_usize, b in 0..24_usize) {
        let words = Seed::from_entropy(&entropy).words();
        let mut list: Vec<&str> = words.split(' ').collect();
        list.swap(a, b);
        let swapped = list.join(" ");
        // 8 bits of checksum: the rare hit must at least be another phrase, read as typed.
        match Seed::from_words(&swapped) {
            Ok(seed) => prop_assert_eq!(&*seed.words(), &swapped),
            Err(e) => prop_assert_eq!(e, SeedError::Checksum),
        }
    }
}
