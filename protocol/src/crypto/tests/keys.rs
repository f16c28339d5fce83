//! Keys against BIP86's published vectors, and our own branches against an independent derivation
//! (own curve arithmetic, HMAC and PBKDF2 of another language's standard library).

use crate::crypto::{CoinType, KeyError, Keys, Role, Seed, descriptor_checksum, tagged_hash};
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, KnownHrp};
use std::format;
use std::string::ToString;

const ABANDON: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

fn keys(coin: CoinType) -> Keys {
    Keys::new(&Seed::from_words(ABANDON).unwrap(), coin).unwrap()
}

#[test]
fn the_wallet_account_is_that_of_bip86() {
    let account = keys(CoinType::Bitcoin).account();
    let xprv = "xprv9xgqHN7yz9MwCkxsBPN5qetuNdQSUttZNKw1dcYTV4mkaAFiBVGQziHs3NRSWMkCzvgjEe3n9xV8oYywvM8at9yRqyaZVz6TYYhX98VjsUk";
    assert_eq!(account.xprv.to_string(), xprv);
    assert!(
        account
            .external
            .starts_with(&format!("tr([73c5da0a/86'/0'/0']{xprv}/0/*)#"))
    );
    assert!(
        account
            .internal
            .starts_with(&format!("tr([73c5da0a/86'/0'/0']{xprv}/1/*)#"))
    );
    assert_eq!(
        address(&account.xprv, 0, 0),
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    );
    assert_eq!(
        address(&account.xprv, 0, 1),
        "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"
    );
    assert_eq!(
        address(&account.xprv, 1, 0),
        "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"
    );
}

fn address(account: &Xpriv, chain: u32, index: u32) -> std::string::String {
    let secp = Secp256k1::new();
    let path = [chain, index].map(|i| ChildNumber::from_normal_idx(i).unwrap());
    let key = account
        .derive_priv(&secp, &path)
        .unwrap()
        .to_keypair(&secp)
        .x_only_public_key()
        .0;
    Address::p2tr(&secp, key, None, KnownHrp::Mainnet).to_string()
}

#[test]
fn descriptor_checksums_are_those_of_bip380() {
    assert_eq!(descriptor_checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
    assert_ne!(descriptor_checksum("raw(deadbeee)").as_deref(), Some("89f8spxm"));
    assert_eq!(descriptor_checksum("raw(Ü)"), None);
}

#[test]
fn our_branches_match_an_independent_derivation() {
    let main = keys(CoinType::Bitcoin);
    let is = |expected: &str, got: &[u8]| assert_eq!(hex::encode(got), expected);
    is(
        "99ab44e5897e5ccf29e7b185f7df522574a0b584593f74484ef66aabdd961b53",
        main.node().as_bytes(),
    );
    is(
        "00a6f138b213ba001b6fb943a7cdeb6a10841f0e9fbad1b5fa15cc1d6e98ac28",
        keys(CoinType::Test).node().as_bytes(),
    );
    is(
        "97444314aeadd589e659b68202fc18ba5a6bbc3919725f3074171c2b7af1e122",
        main.session_static().secret(),
    );
    is(
        "1bbd60e37802b8352009d7b74dc6a9502a3a7acbbf23cc662e159ccac16ff842",
        main.recovery().as_bytes(),
    );
    let table = [
        (
            Role::Payer,
            0,
            "ccf86ebca46a8cc212246f07c018037b2526e9a3156cf739506e44f21c4c360e",
        ),
        (
            Role::Payer,
            0x7fff_ffff,
            "e2ee51cb0675f88d44c46f4d3f7014028df056c66eadd4d48f3c5b252266ea88",
        ),
        (
            Role::Payee,
            7,
            "ebfc1295e04c99415803e11e1eec5b88533a36e77d35defd5eddb32bdf7ac65b",
        ),
    ];
    for (role, index, funding) in table {
        let channel = main.channel(role, index).unwrap();
        is(funding, &channel.funding.x_only_public_key().0.serialize());
    }
}

#[test]
fn no_two_branches_share_a_key() {
    let main = keys(CoinType::Bitcoin);
    let mut seen = std::collections::BTreeSet::new();
    assert!(seen.insert(*main.node().as_bytes()));
    for role in [Role::Payer, Role::Payee] {
        for index in 0..50 {
            let channel = main.channel(role, index).unwrap();
            assert!(seen.insert(channel.funding.x_only_public_key().0.serialize()));
        }
    }
}

#[test]
fn an_index_beyond_the_hardened_range_is_our_mistake() {
    let main = keys(CoinType::Bitcoin);
    assert_eq!(
        main.channel(Role::Payee, 1 << 31).unwrap_err(),
        KeyError::Index(1 << 31)
    );
    assert_eq!(
        main.channel(Role::Payer, u32::MAX).unwrap_err(),
        KeyError::Index(u32::MAX)
    );
}

#[test]
fn debug_shows_no_secret() {
    let main = keys(CoinType::Bitcoin);
    let channel = main.channel(Role::Payer, 0).unwrap();
    let shown = format!(
        "{main:?} {channel:?} {:?} {:?} {:?} {:?}",
        main.session_static(),
        main.recovery(),
        main.account(),
        main.signer()
    );
    assert_eq!(
        shown,
        "Keys(secret) ChannelKeys(secret) SessionStatic(secret) RecoveryKey(secret) Account(secret) Signer"
    );
}

#[test]
fn identity_is_not_the_hash_of_anything_public() {
    // The x25519 secret hangs on its own hardened branch: knowing the node's name does not lead to it.
    let main = keys(CoinType::Bitcoin);
    assert_ne!(
        *main.session_static().secret(),
        tagged_hash("turnpike/session-static/v1", &[main.node().as_bytes()])
    );
}
