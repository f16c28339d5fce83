//! money.md rule 6: nothing that a payer can do with its own outputs keeps a settlement of 20 guests from confirming.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{All, Message};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness, absolute,
    transaction,
};
use serde_json::json;
use turnpike_protocol::base::FeeRate;
use turnpike_protocol::money::channel::tx::{Claim, Form, Settlement};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::simplex::{
    self, Simplex, assert_outputs_in_chain, confirm, force_into_block, in_mempool, key, payout, policies,
};

const CAPACITY: u64 = 50_000;
const EXPIRY: u32 = 150;

/// What a payer tries, its name, and how the node must refuse it.
struct Attempt {
    what: &'static str,
    tx: Transaction,
    refusal: &'static str,
}

const BY_FINALITY: &str = "non-final";
const BY_RELATIVE_LOCK: &str = "non-BIP68-final";
const BY_SCRIPT_LOCK: &str = "Locktime requirement not satisfied";
const BY_SIGNATURE: &str = "Invalid Schnorr signature";
const BY_EMPTY_SIGNATURE: &str = "false/empty top stack element";

/// Twenty channels, paid so that both forms occur, and their settlement at the lowest fee rate.
fn batch(node: &Bitcoind, secp: &Secp256k1<All>) -> (Vec<Simplex>, Settlement) {
    let channels = simplex::open(node, secp, 20, CAPACITY, EXPIRY);
    let claims: Vec<Claim> = channels
        .iter()
        .enumerate()
        .map(|(n, c)| c.pay(secp, if n % 5 == 4 { CAPACITY } else { 2_000 + n as u64 }))
        .collect();
    let wallet = payout(secp, &key(secp, "payee's wallet"));
    let settlement = Settlement::new(secp, &claims, vec![], wallet, FeeRate::MIN_RELAY).unwrap();
    assert!(settlement.left_out().is_empty());
    (channels, settlement)
}

fn spend_of(outpoint: OutPoint, version: i32, sequence: u32, to: &ScriptBuf, value: u64) -> Transaction {
    Transaction {
        version: transaction::Version(version),
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            sequence: Sequence(sequence),
            ..TxIn::default()
        }],
        output: vec![TxOut {
            value: Amount::from_sat(value),
            script_pubkey: to.clone(),
        }],
    }
}

fn leaf_signature(
    secp: &Secp256k1<All>,
    signer: &Keypair,
    tx: &Transaction,
    prevout: &TxOut,
    leaf: bitcoin::TapLeafHash,
) -> [u8; 64] {
    let hash = SighashCache::new(tx)
        .taproot_script_spend_signature_hash(0, &Prevouts::All(&[prevout]), leaf, TapSighashType::Default)
        .unwrap();
    secp.sign_schnorr_no_aux_rand(&Message::from(hash), signer)
        .serialize()
}

fn funding_prevout(secp: &Secp256k1<All>, channel: &Simplex) -> TxOut {
    let funding = channel.terms.funding_output(secp).unwrap();
    TxOut {
        value: Amount::from_sat(CAPACITY),
        script_pubkey: funding.to_script_buf(),
    }
}

/// All that a payer can try with its funding output before the expiry; none may be accepted or mined.
fn spends_of_the_funding(secp: &Secp256k1<All>, channel: &Simplex) -> Vec<Attempt> {
    let home = payout(secp, &key(secp, "payer's home"));
    let funding = channel.terms.funding_output(secp).unwrap();
    let prevout = funding_prevout(secp, channel);
    let plain = |lock: u32, sequence: u32| {
        let mut tx = spend_of(channel.outpoint, 2, sequence, &home, 10_000);
        tx.lock_time = absolute::LockTime::from_height(lock).unwrap();
        tx
    };
    let by_refund = |mut tx: Transaction| {
        let signature = leaf_signature(secp, &channel.payer, &tx, &prevout, funding.refund.hash());
        tx.input[0].witness =
            Witness::from_slice(&[&signature[..], funding.refund.as_bytes(), &funding.refund_control]);
        tx
    };
    let by_both = |payee: &dyn Fn(&Transaction) -> Vec<u8>| {
        let mut tx = plain(0, 0xFFFF_FFFD);
        let payer = leaf_signature(secp, &channel.payer, &tx, &prevout, funding.both.hash());
        let payee = payee(&tx);
        tx.input[0].witness =
            Witness::from_slice(&[&payee[..], &payer, funding.both.as_bytes(), &funding.both_control]);
        tx
    };
    let mut by_key = plain(0, 0xFFFF_FFFD);
    let hash = SighashCache::new(&by_key)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[&prevout]), TapSighashType::Default)
        .unwrap();
    let tweaked = channel
        .payer
        .tap_tweak(secp, Some(funding.merkle_root))
        .to_keypair();
    let signature = secp
        .sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked)
        .serialize();
    by_key.input[0].witness = Witness::from_slice(&[signature]);

    let payer_twice =
        by_both(&|tx| leaf_signature(secp, &channel.payer, tx, &prevout, funding.both.hash()).to_vec());
    [
        (
            "refund before its height",
            by_refund(plain(EXPIRY, 0xFFFF_FFFD)),
            BY_FINALITY,
        ),
        (
            "refund with an earlier nLockTime",
            by_refund(plain(1, 0xFFFF_FFFD)),
            BY_SCRIPT_LOCK,
        ),
        (
            "refund with a final sequence",
            by_refund(plain(EXPIRY, 0xFFFF_FFFF)),
            BY_SCRIPT_LOCK,
        ),
        ("both leaf, payer signing for both", payer_twice, BY_SIGNATURE),
        (
            "both leaf, no payee signature",
            by_both(&|_| Vec::new()),
            BY_EMPTY_SIGNATURE,
        ),
        ("key path with the payer's key", by_key, BY_SIGNATURE),
    ]
    .map(|(what, tx, refusal)| Attempt { what, tx, refusal })
    .into()
}

/// All that a payer can try with its remainder while the settlement is unconfirmed.
fn children_of_the_remainder(
    secp: &Secp256k1<All>,
    channel: &Simplex,
    settlement: &Transaction,
) -> Vec<Attempt> {
    let home = payout(secp, &key(secp, "payer's home"));
    let script = channel.remainder(secp);
    let Some((outpoint, value)) = script.find(settlement) else {
        return Vec::new();
    };
    let prevout = TxOut {
        value: Amount::from_sat(value.value()),
        script_pubkey: script.to_script_buf(),
    };
    let child = |version: i32, sequence: u32| {
        let mut tx = spend_of(outpoint.into(), version, sequence, &home, value.value() / 2);
        let signature = leaf_signature(secp, &channel.payer, &tx, &prevout, script.leaf.hash());
        tx.input[0].witness = Witness::from_slice(&[&signature[..], script.leaf.as_bytes(), &script.control]);
        tx
    };
    [
        ("child of version 2 with the lock", child(2, 1), BY_RELATIVE_LOCK),
        ("child of version 3 with the lock", child(3, 1), BY_RELATIVE_LOCK),
        ("child of version 3 with no lock", child(3, 0), BY_SCRIPT_LOCK),
        (
            "child of version 3 with the lock switched off",
            child(3, 0xFFFF_FFFD),
            BY_SCRIPT_LOCK,
        ),
        (
            "child of version 1, which knows no locks",
            child(1, 1),
            BY_SCRIPT_LOCK,
        ),
    ]
    .map(|(what, tx, refusal)| Attempt { what, tx, refusal })
    .into()
}

/// The settlement as it stands, with one thing changed and the payees' signatures made again; the payers' stay.
fn twin(
    secp: &Secp256k1<All>,
    channels: &[Simplex],
    settlement: &Settlement,
    change: impl Fn(&mut Transaction),
) -> Transaction {
    let mut tx = simplex::sign(secp, settlement, channels);
    change(&mut tx);
    let prevouts = settlement.prevouts();
    for (at, index) in settlement.settled().enumerate() {
        let leaf = channels[index].terms.funding_output(secp).unwrap().both.hash();
        let hash = SighashCache::new(&tx)
            .taproot_script_spend_signature_hash(at, &Prevouts::All(&prevouts), leaf, TapSighashType::Default)
            .unwrap();
        let payee = secp
            .sign_schnorr_no_aux_rand(&Message::from(hash), &channels[index].payee)
            .serialize();
        let mut parts: Vec<Vec<u8>> = tx.input[at].witness.to_vec();
        parts[0] = payee.to_vec();
        tx.input[at].witness = Witness::from_slice(&parts);
    }
    tx
}

#[test]
fn rule_6_nothing_a_payer_can_do_with_its_outputs_keeps_a_settlement_of_20_from_confirming() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let (channels, settlement) = batch(&node, &secp);
        let tx = simplex::sign(&secp, &settlement, &channels);
        let refused = |Attempt { what, tx, refusal }: &Attempt| {
            let reason = node.judge(tx).expect_err(what);
            // Core's policy for version 3 refuses children of other versions before it looks at their scripts.
            assert!(
                reason.contains(refusal) || reason == "truc-spent-by-nontruc",
                "{policy:?}: {what}: {reason}"
            );
            assert!(node.send(tx).is_err(), "{policy:?}: {what} was accepted");
            assert!(!in_mempool(&node, tx));
        };

        // Before the settlement is broadcast, into an empty mempool and past it into a block.
        for channel in &channels {
            spends_of_the_funding(&secp, channel).iter().for_each(refused);
        }
        for attempt in spends_of_the_funding(&secp, &channels[0]) {
            assert!(
                force_into_block(&node, &attempt.tx).is_err(),
                "{} was mined",
                attempt.what
            );
        }

        // While it waits: double spends of the funding and children of the remainder, alone and as a package.
        node.send(&tx).unwrap();
        let mut children = 0;
        for channel in &channels {
            spends_of_the_funding(&secp, channel).iter().for_each(refused);
            for attempt in children_of_the_remainder(&secp, channel, &tx) {
                refused(&attempt);
                let package = json!([[serialize_hex(&tx), serialize_hex(&attempt.tx)]]);
                let answer = node.call("submitpackage", package);
                assert!(
                    answer.is_err() || answer.is_ok_and(|a| a["package_msg"] != json!("success")),
                    "{policy:?}: {} was accepted as a package",
                    attempt.what
                );
                assert!(!in_mempool(&node, &attempt.tx));
                children += 1;
            }
        }
        assert_eq!(children, 16 * 5);
        let entry = node
            .call("getmempoolentry", json!([tx.compute_txid().to_string()]))
            .unwrap();
        assert_eq!(entry["descendantcount"], json!(1));

        // So the payee's fee bump costs what its own size costs, and both confirm as if nobody had tried.
        let raised = settlement.raise(FeeRate::MIN_RELAY, vec![]).unwrap();
        let bumped = simplex::sign(&secp, &raised, &channels);
        node.send(&bumped).unwrap();
        confirm(&node, &bumped);
        assert_outputs_in_chain(&node, &bumped);

        // Once it is in a block, the remainder is the payer's.
        let home = payout(&secp, &key(&secp, "payer's home"));
        let spend = channels[0].spend_remainder(&secp, &bumped, &home);
        assert_eq!(node.judge(&spend), Ok(()));
    }
}

#[test]
fn rule_5_the_payers_signature_is_good_for_no_twin_of_the_settlement() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let (channels, settlement) = batch(&node, &secp);
        // The harness itself is sound: an unchanged twin is the settlement.
        let same = twin(&secp, &channels, &settlement, |_| {});
        assert_eq!(node.judge(&same), Ok(()));
        let twins = [
            (
                "version 2",
                twin(&secp, &channels, &settlement, |tx| {
                    tx.version = transaction::Version::TWO
                }),
            ),
            (
                "an nLockTime",
                twin(&secp, &channels, &settlement, |tx| {
                    tx.lock_time = absolute::LockTime::from_height(1).unwrap();
                }),
            ),
            (
                "another sequence",
                twin(&secp, &channels, &settlement, |tx| {
                    tx.input[0].sequence = Sequence(0xFFFF_FFFC)
                }),
            ),
            (
                "a satoshi off the remainder",
                twin(&secp, &channels, &settlement, |tx| {
                    tx.output[0].value -= Amount::from_sat(1)
                }),
            ),
            (
                "another's remainder script",
                twin(&secp, &channels, &settlement, |tx| {
                    tx.output[0].script_pubkey = tx.output[1].script_pubkey.clone();
                }),
            ),
            (
                "remainders swapped",
                twin(&secp, &channels, &settlement, |tx| tx.output.swap(0, 1)),
            ),
            (
                "the other hash type",
                twin(&secp, &channels, &settlement, |tx| {
                    let mut parts = tx.input[0].witness.to_vec();
                    parts[1][64] = Form::None.hash_type();
                    tx.input[0].witness = Witness::from_slice(&parts);
                }),
            ),
        ];
        for (what, tx) in twins {
            let reason = node.judge(&tx).unwrap_err();
            assert!(
                reason.contains("Invalid Schnorr signature"),
                "{policy:?}: {what}: {reason}"
            );
            let reason = force_into_block(&node, &tx).unwrap_err();
            assert!(
                reason.contains("Invalid Schnorr signature"),
                "{policy:?}: {what}: {reason}"
            );
        }
    }
}
