//! The builders against rust-bitcoin's own script builder, taproot tree, sighash and weight.

use super::*;
use crate::base::{BlockHeight, FeeRate, Sat, limits};
use alloc::vec;
use alloc::vec::Vec;
use bitcoin::hashes::{HashEngine, sha256};
use bitcoin::key::{Keypair, Secp256k1, XOnlyPublicKey};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{All, Message, SecretKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{Amount, ScriptBuf, TapSighashType, Transaction, TxOut, absolute};
use proptest::prelude::*;

fn key(secp: &Secp256k1<All>, n: u64) -> Keypair {
    let mut engine = sha256::Hash::engine();
    engine.input(&n.to_le_bytes());
    Keypair::from_seckey_slice(secp, sha256::Hash::from_engine(engine).as_byte_array()).unwrap()
}

fn xonly(k: &Keypair) -> [u8; 32] {
    k.x_only_public_key().0.serialize()
}

fn terms(secp: &Secp256k1<All>, n: u64, capacity: u64) -> Terms {
    Terms {
        payer_key: xonly(&key(secp, 2 * n)),
        payee_key: xonly(&key(secp, 2 * n + 1)),
        capacity: Sat::new(capacity),
        expiry: BlockHeight::new(800_000),
    }
}

fn outpoint(n: u8) -> Outpoint {
    Outpoint {
        txid: Txid::from_bytes([n; 32]),
        vout: u32::from(n),
    }
}

fn claim(secp: &Secp256k1<All>, n: u8, capacity: u64, paid: u64) -> Claim {
    let terms = terms(secp, u64::from(n), capacity);
    let payments = PaymentDigest::new(secp, &terms, outpoint(n)).unwrap();
    let signature = payments
        .sign_payment(secp, &key(secp, 2 * u64::from(n)), Sat::new(paid))
        .unwrap();
    Claim {
        terms,
        outpoint: outpoint(n),
        paid: Sat::new(paid),
        signature,
    }
}

fn payout(secp: &Secp256k1<All>) -> ScriptBuf {
    ScriptBuf::new_p2tr(secp, key(secp, 9_999).x_only_public_key().0, None)
}

fn payee_key(secp: &Secp256k1<All>, claims: &[Claim]) -> impl FnMut(usize) -> Keypair {
    let keys: Vec<Keypair> = claims
        .iter()
        .map(|c| {
            (0..200)
                .map(|n| key(secp, 2 * n + 1))
                .find(|k| xonly(k) == c.terms.payee_key)
                .unwrap()
        })
        .collect();
    move |i| keys[i]
}

/// Checks both signatures of every channel input the slow way, by rust-bitcoin's sighash.
fn signatures_hold(secp: &Secp256k1<All>, tx: &Transaction, prevouts: &[TxOut], claims: usize) {
    let mut cache = SighashCache::new(tx);
    for i in 0..claims {
        let witness: Vec<&[u8]> = tx.input[i].witness.iter().collect();
        let script = bitcoin::Script::from_bytes(witness[2]);
        let leaf = bitcoin::TapLeafHash::from_script(script, LeafVersion::TapScript);
        for (sig, at) in [(witness[1], 1), (witness[0], 35)] {
            let sighash_type = match sig.len() {
                64 => TapSighashType::Default,
                _ => TapSighashType::from_consensus_u8(sig[64]).unwrap(),
            };
            let hash = cache
                .taproot_script_spend_signature_hash(i, &Prevouts::All(prevouts), leaf, sighash_type)
                .unwrap();
            let key = XOnlyPublicKey::from_slice(&witness[2][at..at + 32]).unwrap();
            secp.verify_schnorr(
                &schnorr::Signature::from_slice(&sig[..64]).unwrap(),
                &Message::from(hash),
                &key,
            )
            .unwrap();
        }
    }
}

#[test]
fn rule_2_the_scripts_of_funding_and_remainder_are_what_rust_bitcoin_builds() {
    let secp = Secp256k1::new();
    for expiry in [
        1,
        16,
        17,
        127,
        128,
        255,
        256,
        32_767,
        32_768,
        65_536,
        8_388_607,
        8_388_608,
        499_999_999,
    ] {
        let t = Terms {
            expiry: BlockHeight::new(expiry),
            ..terms(&secp, 1, 50_000)
        };
        let payer = XOnlyPublicKey::from_slice(&t.payer_key).unwrap();
        let payee = XOnlyPublicKey::from_slice(&t.payee_key).unwrap();
        let both = Builder::new()
            .push_x_only_key(&payer)
            .push_opcode(op::OP_CHECKSIGVERIFY)
            .push_x_only_key(&payee)
            .push_opcode(op::OP_CHECKSIG)
            .into_script();
        let refund = Builder::new()
            .push_lock_time(absolute::LockTime::from_height(expiry).unwrap())
            .push_opcode(op::OP_CLTV)
            .push_opcode(op::OP_DROP)
            .push_x_only_key(&payer)
            .push_opcode(op::OP_CHECKSIG)
            .into_script();
        let h = XOnlyPublicKey::from_slice(&UNSPENDABLE_KEY).unwrap();
        let spend = TaprootBuilder::new()
            .add_leaf(1, both.clone())
            .unwrap()
            .add_leaf(1, refund.clone())
            .unwrap()
            .finalize(&secp, h)
            .unwrap();
        let ours = t.funding_output(&secp).unwrap();
        assert_eq!(ours.both.as_bytes(), both.as_bytes());
        assert_eq!(ours.refund.as_bytes(), refund.as_bytes());
        assert_eq!(Some(ours.merkle_root), spend.merkle_root());
        assert_eq!(
            ours.output_key,
            spend.output_key().to_x_only_public_key().serialize()
        );
        assert_eq!(
            ours.to_script_buf(),
            ScriptBuf::new_p2tr_tweaked(spend.output_key())
        );
        let control = |s| {
            spend
                .control_block(&(s, LeafVersion::TapScript))
                .unwrap()
                .serialize()
        };
        assert_eq!(ours.both_control.to_vec(), control(both));
        assert_eq!(ours.refund_control.to_vec(), control(refund));

        let remainder = Builder::new()
            .push_int(1)
            .push_opcode(op::OP_CSV)
            .push_opcode(op::OP_DROP)
            .push_x_only_key(&payer)
            .push_opcode(op::OP_CHECKSIG)
            .into_script();
        let spend = TaprootBuilder::new()
            .add_leaf(0, remainder.clone())
            .unwrap()
            .finalize(&secp, h)
            .unwrap();
        let ours = RemainderScript::new(&secp, &t.payer_key).unwrap();
        assert_eq!(ours.leaf.as_bytes(), remainder.as_bytes());
        assert_eq!(
            ours.to_script_buf(),
            ScriptBuf::new_p2tr_tweaked(spend.output_key())
        );
        let control = spend
            .control_block(&(remainder, LeafVersion::TapScript))
            .unwrap()
            .serialize();
        assert_eq!(ours.control.to_vec(), control);
    }
}

#[test]
fn rule_2_the_internal_key_is_bip341s_unspendable_point() {
    let mut one = [0; 32];
    one[31] = 1;
    let one = SecretKey::from_slice(&one).unwrap();
    let g = one.public_key(&Secp256k1::new()).serialize_uncompressed();
    assert_eq!(sha256::Hash::hash(&g).to_byte_array(), UNSPENDABLE_KEY);
}

#[test]
fn terms_that_could_never_be_spent_are_refused() {
    let secp = Secp256k1::new();
    let good = terms(&secp, 1, 50_000);
    assert_eq!(good.check(), Ok(()));
    // 0xff… is above the field's prime; BIP340 has it fail.
    for (bad, error) in [
        (
            Terms {
                payer_key: [0xff; 32],
                ..good
            },
            TermsError::PayerKey,
        ),
        (
            Terms {
                payee_key: [0xff; 32],
                ..good
            },
            TermsError::PayeeKey,
        ),
        (
            Terms {
                payee_key: good.payer_key,
                ..good
            },
            TermsError::SameKey,
        ),
        (
            Terms {
                expiry: BlockHeight::ZERO,
                ..good
            },
            TermsError::Expiry,
        ),
        (
            Terms {
                expiry: BlockHeight::new(500_000_000),
                ..good
            },
            TermsError::Expiry,
        ),
        (
            Terms {
                capacity: Sat::new(329),
                ..good
            },
            TermsError::Capacity,
        ),
        (
            Terms {
                capacity: Sat::MAX,
                ..good
            },
            TermsError::Capacity,
        ),
    ] {
        assert_eq!(bad.check(), Err(error));
        assert_eq!(PaymentDigest::new(&secp, &bad, outpoint(1)).err(), Some(error));
        assert!(bad.funding_output(&secp).is_err() || error == TermsError::Capacity);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The digest from the midstate is rust-bitcoin's, for any terms, outpoint and total.
    #[test]
    fn a_payments_digest_is_rust_bitcoins(
        n in 0u64..1_000_000,
        txid: [u8; 32],
        vout: u32,
        capacity in 330u64..10_000_000,
        expiry in 1u32..limits::MAX_HEIGHT,
        share in 0u64..=1_000,
        near_end in 0u64..700,
    ) {
        let secp = Secp256k1::new();
        let t = Terms { expiry: BlockHeight::new(expiry), ..terms(&secp, n, capacity) };
        let o = Outpoint { txid: Txid::from_bytes(txid), vout };
        let payments = PaymentDigest::new(&secp, &t, o).unwrap();
        let funding = t.funding_output(&secp).unwrap();
        let prevout = TxOut { value: Amount::from_sat(capacity), script_pubkey: funding.to_script_buf() };
        for paid in [capacity * share / 1_000, capacity.saturating_sub(near_end)] {
            let (form, digest) = payments.digest(Sat::new(paid)).unwrap();
            prop_assert_eq!(form == Form::None, capacity - paid < 330);
            let remainder = TxOut {
                value: Amount::from_sat(capacity - paid),
                script_pubkey: RemainderScript::new(&secp, &t.payer_key).unwrap().to_script_buf(),
            };
            let tx = Transaction {
                version: bitcoin::transaction::Version(3),
                lock_time: absolute::LockTime::ZERO,
                input: vec![bitcoin::TxIn {
                    previous_output: o.into(),
                    sequence: bitcoin::Sequence(0xFFFF_FFFD),
                    ..Default::default()
                }],
                output: vec![remainder],
            };
            let expected = SighashCache::new(&tx)
                .taproot_script_spend_signature_hash(
                    0,
                    &Prevouts::One(0, &prevout),
                    funding.both.hash(),
                    TapSighashType::from_consensus_u8(form.hash_type()).unwrap(),
                )
                .unwrap();
            prop_assert_eq!(digest, expected.to_byte_array());
        }
    }

    /// A signature is good for its own total, outpoint and terms, and for no other.
    #[test]
    fn a_payment_holds_for_its_own_total_only(paid in 0u64..50_000, other in 0u64..50_000, flip in 0usize..512) {
        let secp = Secp256k1::new();
        let t = terms(&secp, 1, 50_000);
        let payments = PaymentDigest::new(&secp, &t, outpoint(1)).unwrap();
        let payer = key(&secp, 2);
        let sig = payments.sign_payment(&secp, &payer, Sat::new(paid)).unwrap();
        prop_assert_eq!(payments.verify_payment(&secp, Sat::new(paid), &sig), Ok(()));
        let same = payments.digest(Sat::new(paid)) == payments.digest(Sat::new(other));
        prop_assert_eq!(payments.verify_payment(&secp, Sat::new(other), &sig).is_ok(), same);
        let elsewhere = PaymentDigest::new(&secp, &t, outpoint(2)).unwrap();
        prop_assert!(elsewhere.verify_payment(&secp, Sat::new(paid), &sig).is_err());
        let mut broken = sig;
        broken[flip / 8] ^= 1 << (flip % 8);
        prop_assert_eq!(
            payments.verify_payment(&secp, Sat::new(paid), &broken),
            Err(PaymentError::BadSignature)
        );
    }

    /// Whatever the batch, its weight is as predicted, signatures hold, and no satoshi appears or is lost.
    #[test]
    fn a_settlement_weighs_what_was_predicted(
        paid in proptest::collection::vec(0u64..=50_000, 1..8),
        coins in 0u8..3,
        rate in 1_000u64..20_000,
    ) {
        let secp = Secp256k1::new();
        let claims: Vec<Claim> =
            (0u8..).zip(&paid).map(|(n, paid)| claim(&secp, n, 50_000, *paid)).collect();
        let wallet: Vec<WalletInput> = (0..coins).map(|n| coin(&secp, 100 + n)).collect();
        let rate = FeeRate::new(rate);
        let Ok(s) = Settlement::new(&secp, &claims, wallet, payout(&secp), rate) else {
            // Only where nothing is worth its size: the smallest marginal cost is 107.75 vB.
            prop_assert!(paid.iter().all(|p| *p < rate.value() * 603 / 4_000 + 1_000));
            return Ok(());
        };
        let mut tx = s.sign(&secp, payee_key(&secp, &claims)).unwrap();
        let settled: Vec<usize> = s.settled().collect();
        signatures_hold(&secp, &tx, &s.prevouts(), settled.len());
        for input in tx.input.iter_mut().skip(settled.len()) {
            input.witness.push([0u8; 64]);
        }
        prop_assert_eq!(s.weight(), tx.weight().to_wu());
        prop_assert_eq!(s.vbytes(), tx.vsize() as u64);
        prop_assert_eq!(Some(s.fee()), rate.fee(s.vbytes()));

        let total_in: u64 = s.prevouts().iter().map(|o| o.value.to_sat()).sum();
        let total_out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        prop_assert_eq!(total_in - total_out, s.fee().value());
        for (at, index) in settled.iter().enumerate() {
            let remainder = 50_000 - paid[*index];
            if remainder >= 330 {
                prop_assert_eq!(tx.output[at].value.to_sat(), remainder);
            }
        }
        for left in s.left_out() {
            let worth = if 50_000 - paid[left.index] < 330 { 50_000 } else { paid[left.index] };
            prop_assert!(worth * 4_000 < rate.value() * 603);
        }
        prop_assert_eq!(settled.len() + s.left_out().len(), claims.len());
    }
}

fn coin(secp: &Secp256k1<All>, n: u8) -> WalletInput {
    WalletInput {
        outpoint: outpoint(n),
        prevout: TxOut {
            value: Amount::from_sat(5_000),
            script_pubkey: payout(secp),
        },
        witness_wu: costs::KEY_SPEND_WITNESS_WU,
    }
}

#[test]
fn sizes_are_the_measured_ones() {
    let secp = Secp256k1::new();
    let batch = |n: u8, paid: u64| {
        let claims: Vec<Claim> = (0..n).map(|i| claim(&secp, i, 50_000, paid)).collect();
        let s = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY).unwrap();
        let tx = s.sign(&secp, payee_key(&secp, &claims)).unwrap();
        assert_eq!(tx.vsize() as u64, s.vbytes());
        tx.vsize() as u64
    };
    assert_eq!(batch(1, 1_000), costs::SETTLEMENT_VB);
    assert_eq!(batch(3, 1_000), 506);
    assert_eq!(batch(60, 1_000), 9_099);
    assert_eq!(batch(60, 1_000), costs::settlement_vbytes(60, 0));
    assert_eq!(batch(3, 50_000), costs::settlement_vbytes(0, 3));
    assert_eq!(costs::NONE_CLAIM_WU.div_ceil(4), 108);

    let t = terms(&secp, 1, 50_000);
    let refund = Refund::new(&secp, &t, outpoint(1), t.capacity)
        .unwrap()
        .sign(&secp, &key(&secp, 2), payout(&secp), FeeRate::MIN_RELAY)
        .unwrap();
    assert_eq!(refund.vsize() as u64, costs::REFUND_VB);
    let spend = RemainderScript::new(&secp, &t.payer_key)
        .unwrap()
        .spend(
            &secp,
            &key(&secp, 2),
            outpoint(1),
            Sat::new(1_000),
            payout(&secp),
            FeeRate::MIN_RELAY,
        )
        .unwrap();
    assert_eq!(spend.vsize() as u64, costs::REMAINDER_SPEND_VB);
    assert_eq!(spend.output[0].value.to_sat(), 1_000 - costs::REMAINDER_SPEND_VB);
}

#[test]
fn single_inputs_stand_before_none_inputs() {
    let secp = Secp256k1::new();
    let claims: Vec<Claim> = [50_000, 1_000, 49_800, 2_000]
        .iter()
        .zip(0..)
        .map(|(p, n)| claim(&secp, n, 50_000, *p))
        .collect();
    let s = Settlement::new(
        &secp,
        &claims,
        vec![coin(&secp, 100)],
        payout(&secp),
        FeeRate::MIN_RELAY,
    )
    .unwrap();
    assert_eq!(s.settled().collect::<Vec<_>>(), [1, 3, 0, 2]);
    let tx = s.sign(&secp, payee_key(&secp, &claims)).unwrap();
    assert_eq!(tx.output.len(), 3);
    assert_eq!(tx.output[0].value.to_sat(), 49_000);
    assert_eq!(tx.output[1].value.to_sat(), 48_000);
    assert_eq!(
        tx.output[2].value.to_sat(),
        50_000 + 1_000 + 50_000 + 2_000 + 5_000 - s.fee().value()
    );
    assert_eq!((tx.version.0, tx.lock_time), (3, absolute::LockTime::ZERO));
}

#[test]
fn claims_that_would_cost_or_sink_the_batch_are_left_out() {
    let secp = Secp256k1::new();
    let mut claims = vec![
        claim(&secp, 0, 50_000, 10_000),
        claim(&secp, 1, 50_000, 150),
        claim(&secp, 2, 50_000, 151),
        claim(&secp, 3, 50_000, 10_000),
        claim(&secp, 0, 50_000, 11_000),
        claim(&secp, 5, 50_000, 10_000),
    ];
    claims[3].signature[5] ^= 1;
    claims[5].paid = Sat::new(60_000);
    let s = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY).unwrap();
    assert_eq!(s.settled().collect::<Vec<_>>(), [0, 2]);
    let reasons: Vec<_> = s.left_out().iter().map(|l| (l.index, l.reason)).collect();
    assert_eq!(
        reasons,
        [
            (
                1,
                LeftOutReason::Worthless {
                    worth: Sat::new(150),
                    cost: Sat::new(151)
                }
            ),
            (3, LeftOutReason::BadSignature),
            (4, LeftOutReason::Repeated),
            (5, LeftOutReason::Terms),
        ]
    );
    let nothing = Settlement::new(&secp, &claims[1..2], vec![], payout(&secp), FeeRate::MIN_RELAY);
    assert_eq!(nothing.err(), Some(SettlementError::Nothing));
}

#[test]
fn a_fee_that_leaves_dust_is_refused_with_the_largest_one() {
    let secp = Secp256k1::new();
    let claims = [claim(&secp, 0, 50_000, 600)];
    let s = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY).unwrap();
    assert_eq!((s.fee(), s.payee_value()), (Sat::new(205), Sat::new(395)));
    assert_eq!(s.largest_fee(), Sat::new(270));
    assert_eq!(s.with_fee(Sat::new(270)).unwrap().payee_value(), Sat::new(330));
    let dust = SettlementError::Dust {
        fee: Sat::new(271),
        largest: Sat::new(270),
    };
    assert_eq!(s.with_fee(Sat::new(271)).err(), Some(dust));
    assert!(matches!(
        s.raise(FeeRate::MIN_RELAY, vec![]).err(),
        Some(SettlementError::Dust { .. })
    ));
    let helped = s.raise(FeeRate::MIN_RELAY, vec![coin(&secp, 100)]).unwrap();
    assert_eq!(helped.fee(), Sat::new(205 + 262));
}

#[test]
fn a_raised_fee_pays_for_its_own_relay_and_keeps_the_payers_signatures() {
    let secp = Secp256k1::new();
    let claims: Vec<Claim> = (0..3).map(|n| claim(&secp, n, 50_000, 10_000)).collect();
    let s = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY).unwrap();
    assert_eq!(
        s.raise(FeeRate::new(1_001), vec![]).unwrap().fee(),
        s.least_replacement_fee()
    );
    let raised = s.raise(FeeRate::new(5_000), vec![]).unwrap();
    assert_eq!(Some(raised.fee()), FeeRate::new(5_000).fee(506));
    let old = s.sign(&secp, payee_key(&secp, &claims)).unwrap();
    let new = raised.sign(&secp, payee_key(&secp, &claims)).unwrap();
    for (a, b) in old.input.iter().zip(&new.input) {
        assert_eq!(a.witness.nth(1), b.witness.nth(1));
        assert_ne!(a.witness.nth(0), b.witness.nth(0));
    }
    assert_eq!(old.output[..3], new.output[..3]);
    signatures_hold(&secp, &new, &raised.prevouts(), 3);
}

#[test]
fn too_many_and_too_large_batches_are_refused() {
    let secp = Secp256k1::new();
    let claims: Vec<Claim> = (0..61).map(|n| claim(&secp, n, 50_000, 10_000)).collect();
    let too_many = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY);
    assert_eq!(too_many.err(), Some(SettlementError::TooMany { given: 61 }));
    let coins = |n| (0..n).map(|n| coin(&secp, 100 + n)).collect();
    let full = Settlement::new(&secp, &claims[..60], coins(15), payout(&secp), FeeRate::MIN_RELAY).unwrap();
    assert_eq!(full.vbytes(), 9_961);
    assert_eq!(
        full.raise(FeeRate::MIN_RELAY, coins(1)).err(),
        Some(SettlementError::TooLarge { vbytes: 10_019 })
    );
}

#[test]
fn only_the_channels_own_keys_sign() {
    let secp = Secp256k1::new();
    let claims = [claim(&secp, 0, 50_000, 10_000)];
    let s = Settlement::new(&secp, &claims, vec![], payout(&secp), FeeRate::MIN_RELAY).unwrap();
    let wrong = key(&secp, 777);
    assert_eq!(
        s.sign(&secp, |_| wrong).err(),
        Some(SettlementError::WrongKey { index: 0 })
    );
    let payments = PaymentDigest::new(&secp, &claims[0].terms, outpoint(0)).unwrap();
    assert_eq!(
        payments.sign_payment(&secp, &wrong, Sat::new(1)),
        Err(PaymentError::WrongKey)
    );
    let refund = Refund::new(&secp, &claims[0].terms, outpoint(0), Sat::new(50_000)).unwrap();
    let error = refund
        .sign(&secp, &wrong, payout(&secp), FeeRate::MIN_RELAY)
        .err();
    assert_eq!(error, Some(SweepError::WrongKey));
    let dust = Refund::new(&secp, &claims[0].terms, outpoint(0), Sat::new(467)).unwrap();
    assert!(matches!(
        dust.sign(&secp, &key(&secp, 0), payout(&secp), FeeRate::MIN_RELAY)
            .err(),
        Some(SweepError::Dust { .. })
    ));
}

fn funding(secp: &Secp256k1<All>, terms: &[(Terms, u64)], data: ScriptBuf) -> Transaction {
    let mut output: Vec<TxOut> = terms
        .iter()
        .map(|(t, value)| TxOut {
            value: Amount::from_sat(*value),
            script_pubkey: t.funding_output(secp).unwrap().to_script_buf(),
        })
        .collect();
    output.insert(
        1,
        TxOut {
            value: Amount::ZERO,
            script_pubkey: data,
        },
    );
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: outpoint(7).into(),
            ..Default::default()
        }],
        output,
    }
}

#[test]
fn the_seed_alone_finds_a_funding_again_and_a_stranger_finds_nothing() {
    let secp = Secp256k1::new();
    let seed = [5; 32];
    let t = terms(&secp, 21, 50_000);
    let data = RecoveryData {
        payee_key: t.payee_key,
        expiry: t.expiry,
        key_index: 42,
    };
    let sealed = data.seal(&seed, outpoint(7), Position::First);
    assert_ne!(sealed, data.to_bytes());
    let tx = funding(
        &secp,
        &[(t, 50_000), (t, 600)],
        RecoveryData::script(&sealed, None),
    );
    let index_of = |i: u32| xonly(&key(&secp, u64::from(i)));

    let found = recover(&secp, &seed, &tx, index_of);
    let places: Vec<_> = found
        .iter()
        .map(|f| (f.outpoint.vout, f.terms.capacity.value(), f.key_index))
        .collect();
    assert_eq!(places, [(0, 50_000, 42), (2, 600, 42)]);
    assert_eq!(found[0].terms, t);
    assert_eq!(bitcoin::OutPoint::from(found[0].outpoint).txid, tx.compute_txid());

    assert!(recover(&secp, &[6; 32], &tx, index_of).is_empty());
    let mut moved = tx.clone();
    moved.input[0].previous_output = outpoint(8).into();
    assert!(recover(&secp, &seed, &moved, index_of).is_empty());
    for bit in 0..320 {
        let mut broken = sealed;
        broken[bit / 8] ^= 1 << (bit % 8);
        let tx = funding(&secp, &[(t, 50_000)], RecoveryData::script(&broken, None));
        assert!(recover(&secp, &seed, &tx, index_of).is_empty());
    }
}

#[test]
fn each_side_of_a_renewal_finds_its_own_half() {
    let secp = Secp256k1::new();
    let (a, b) = (terms(&secp, 21, 50_000), terms(&secp, 22, 60_000));
    let first = RecoveryData {
        payee_key: a.payee_key,
        expiry: a.expiry,
        key_index: 42,
    };
    let second = RecoveryData {
        payee_key: b.payee_key,
        expiry: b.expiry,
        key_index: 44,
    };
    let script = RecoveryData::script(
        &first.seal(&[5; 32], outpoint(7), Position::First),
        Some(&second.seal(&[6; 32], outpoint(7), Position::Second)),
    );
    assert_eq!(script.len(), 83);
    assert!(script.is_op_return());
    let tx = funding(&secp, &[(a, 50_000), (b, 60_000)], script);
    let index_of = |i: u32| xonly(&key(&secp, u64::from(i)));
    let terms_of = |seed| {
        recover(&secp, seed, &tx, index_of)
            .iter()
            .map(|f| f.terms)
            .collect::<Vec<_>>()
    };
    assert_eq!(terms_of(&[5; 32]), [a]);
    assert_eq!(terms_of(&[6; 32]), [b]);
}

proptest! {
    /// Foreign OP_RETURNs of any length and content are no error and no find.
    #[test]
    fn foreign_data_recovers_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..100), pushed: bool) {
        let secp = Secp256k1::new();
        let t = terms(&secp, 21, 50_000);
        let mut script = vec![0x6a];
        if pushed && bytes.len() < 76 {
            script.push(bytes.len() as u8);
        }
        script.extend(&bytes);
        let tx = funding(&secp, &[(t, 50_000)], ScriptBuf::from_bytes(script));
        prop_assert!(recover(&secp, &[5; 32], &tx, |i| xonly(&key(&secp, u64::from(i)))).is_empty());
    }
}

#[test]
fn rule_4_the_worst_case_counts_every_fee_once() {
    let secp = Secp256k1::new();
    let t = terms(&secp, 1, 50_000);
    let worst = costs::WorstCase::new(&t, Sat::new(410), FeeRate::new(2_000)).unwrap();
    assert_eq!((worst.locked, worst.until), (t.capacity, t.expiry));
    assert_eq!(
        (worst.opening_fee, worst.refund_fee),
        (Sat::new(410), Sat::new(276))
    );
    assert_eq!(worst.overhead(), Some(Sat::new(410 + 258 + 329)));
    assert_eq!(costs::WorstCase::new(&t, Sat::new(410), FeeRate::MAX), None);
}

/// Judged by OpenSSL's ChaCha20 and another SHA-256, 2026-11: the bytes in funding transactions may never change.
#[test]
fn sealed_recovery_data_is_what_openssl_makes_of_it() {
    let mut txid = [0; 32];
    (0u8..)
        .zip(&mut txid)
        .for_each(|(n, slot): (u8, &mut u8)| *slot = n);
    let at = |txid, vout| Outpoint {
        txid: Txid::from_bytes(txid),
        vout,
    };
    let data = RecoveryData {
        payee_key: [0x11; 32],
        expiry: BlockHeight::new(800_000),
        key_index: 42,
    };
    let seal = |outpoint, position| data.seal(&[9; 32], outpoint, position);
    let first = "790f52e80403b671da73e9b4b76f4e05409c53a9c428beaf6a4ee2e9de57d3c45510fa82f75c246d";
    let second = "da47afccec3b10e15b6e3b0f36af9db42b97c8acbac524169944c79a7904ac2f6f36d809afb4d1ba";
    assert_eq!(hex::encode(seal(at(txid, 5), Position::First)), first);
    assert_eq!(hex::encode(seal(at(txid, 5), Position::Second)), second);
    assert_eq!(
        RecoveryData::open(
            &[9; 32],
            at(txid, 5),
            Position::Second,
            &seal(at(txid, 5), Position::Second)
        ),
        Some(data)
    );
    assert_ne!(hex::encode(seal(at(txid, 6), Position::First)), first);
    assert_ne!(hex::encode(seal(at([3; 32], 5), Position::First)), first);
}

#[test]
fn the_form_changes_exactly_at_the_dust_limit() {
    let secp = Secp256k1::new();
    let payments = PaymentDigest::new(&secp, &terms(&secp, 1, 50_000), outpoint(1)).unwrap();
    let form = |remainder: u64| payments.digest(Sat::new(50_000 - remainder)).unwrap().0;
    assert_eq!(
        (form(330), form(329), form(0)),
        (Form::Single, Form::None, Form::None)
    );
    let left = |remainder: u64| payments.remainder(Sat::new(50_000 - remainder));
    assert_eq!((left(330), left(329)), (Some(Sat::new(330)), Some(Sat::ZERO)));
    let over = Sat::new(50_001);
    let capacity = Sat::new(50_000);
    assert_eq!(
        payments.digest(over),
        Err(PaymentError::OverCapacity { paid: over, capacity })
    );
    assert_eq!(payments.remainder(over), None);
}
