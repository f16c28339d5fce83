//! The refund of DESIGN §4 before a real node: the payer alone, from the expiry height on, and not one block earlier.

use bitcoin::key::{Keypair, Secp256k1};
use bitcoin::secp256k1::{All, Message};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{Amount, OutPoint, Sequence, TapSighashType, Transaction, TxOut, Witness, absolute};
use turnpike_protocol::base::{FeeRate, Sat};
use turnpike_protocol::money::channel::tx::{Claim, Refund, Settlement, costs};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::simplex::{self, Simplex, confirm, force_into_block, key, payout, policies};

const CAPACITY: u64 = 50_000;

fn mine_to_height(node: &Bitcoind, height: u32) {
    node.mine(height - node.height());
    assert_eq!(node.height(), height);
}

/// Signs the refund leaf again after a test has bent the transaction.
fn sign_refund_leaf(secp: &Secp256k1<All>, channel: &Simplex, payer: &Keypair, tx: &mut Transaction) {
    let funding = channel.terms.funding_output(secp).unwrap();
    let prevout = TxOut {
        value: Amount::from_sat(CAPACITY),
        script_pubkey: funding.to_script_buf(),
    };
    let hash = SighashCache::new(&*tx)
        .taproot_script_spend_signature_hash(
            0,
            &Prevouts::All(&[prevout]),
            funding.refund.hash(),
            TapSighashType::Default,
        )
        .unwrap();
    let signature = secp
        .sign_schnorr_no_aux_rand(&Message::from(hash), payer)
        .serialize();
    tx.input[0].witness =
        Witness::from_slice(&[&signature[..], funding.refund.as_bytes(), &funding.refund_control]);
}

#[test]
fn the_refund_is_accepted_at_its_height_and_not_one_block_earlier() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let expiry = 120;
        let channel = &simplex::open(&node, &secp, 1, CAPACITY, expiry)[0];
        let home = payout(&secp, &key(&secp, "payer's home"));
        let refund = channel.refund(&secp, &home, FeeRate::new(2_000));

        assert_eq!(node.judge(&refund), Err("non-final".into()));
        mine_to_height(&node, expiry - 1);
        assert_eq!(node.judge(&refund), Err("non-final".into()));
        assert!(
            force_into_block(&node, &refund)
                .unwrap_err()
                .contains("bad-txns-nonfinal")
        );
        assert_eq!(node.height(), expiry - 1);

        mine_to_height(&node, expiry);
        assert_eq!(node.judge(&refund), Ok(()));
        node.send(&refund).unwrap();
        confirm(&node, &refund);
        assert_eq!(node.height(), expiry + 1);
        let kept = simplex::unspent(&node, OutPoint::new(refund.compute_txid(), 0));
        assert_eq!(kept, Some(CAPACITY - 2 * refund.vsize() as u64));
        // Heights below 32,768 are a byte shorter than on a grown chain.
        assert!(refund.weight().to_wu() <= costs::REFUND_VB * 4);
    }
}

#[test]
fn no_twin_of_the_refund_passes_before_the_expiry() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let expiry = 120;
    let channel = &simplex::open(&node, &secp, 1, CAPACITY, expiry)[0];
    let home = payout(&secp, &key(&secp, "payer's home"));
    let good = channel.refund(&secp, &home, FeeRate::new(2_000));
    mine_to_height(&node, expiry - 1);

    let bent = |bend: &dyn Fn(&mut Transaction)| {
        let mut tx = good.clone();
        bend(&mut tx);
        sign_refund_leaf(&secp, channel, &channel.payer, &mut tx);
        tx
    };
    // An earlier nLockTime does not reach what the leaf asks for.
    let earlier = bent(&|tx| tx.lock_time = absolute::LockTime::from_height(expiry - 1).unwrap());
    // A final sequence makes nLockTime void, which the leaf refuses.
    let all_final = bent(&|tx| tx.input[0].sequence = Sequence::MAX);
    // Seconds are not blocks.
    let seconds = bent(&|tx| tx.lock_time = absolute::LockTime::from_time(1_600_000_000).unwrap());
    for tx in [earlier, all_final, seconds] {
        let reason = node.judge(&tx).unwrap_err();
        assert!(reason.contains("Locktime requirement not satisfied"), "{reason}");
        assert!(force_into_block(&node, &tx).is_err());
    }

    mine_to_height(&node, expiry);
    let mut stranger = good.clone();
    sign_refund_leaf(&secp, channel, &channel.payee, &mut stranger);
    let reason = node.judge(&stranger).unwrap_err();
    assert!(reason.contains("Invalid Schnorr signature"), "{reason}");
    // A small sequence would be read as a relative lock (BIP68) by version 2; the builder's has bit 31 set.
    assert_eq!(good.input[0].sequence.to_relative_lock_time(), None);
    assert_eq!(node.judge(&good), Ok(()));
}

#[test]
fn rule_1_a_second_funding_of_another_value_is_refundable_at_the_expiry() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let expiry = 120;
    let channel = &simplex::open(&node, &secp, 1, CAPACITY, expiry)[0];
    let script = channel.terms.funding_output(&secp).unwrap().to_script_buf();
    let second = node.fund(&simplex::address(&script), Amount::from_sat(7_777));
    let home = payout(&secp, &key(&secp, "payer's home"));
    let refund = Refund::new(&secp, &channel.terms, second.into(), Sat::new(7_777))
        .unwrap()
        .sign(&secp, &channel.payer, home, FeeRate::MIN_RELAY)
        .unwrap();
    assert_eq!(node.judge(&refund), Err("non-final".into()));
    mine_to_height(&node, expiry);
    node.send(&refund).unwrap();
    confirm(&node, &refund);
    let kept = simplex::unspent(&node, OutPoint::new(refund.compute_txid(), 0));
    assert_eq!(kept, Some(7_777 - refund.vsize() as u64));
}

#[test]
fn a_settled_channel_has_no_refund_and_a_refunded_one_no_settlement() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let expiry = 120;
    let channels = simplex::open(&node, &secp, 2, CAPACITY, expiry);
    let home = payout(&secp, &key(&secp, "payer's home"));
    let settle = |channel: &Simplex| {
        let claim = channel.pay(&secp, 10_000);
        let wallet = payout(&secp, &key(&secp, "payee's wallet"));
        Settlement::new(&secp, &[claim], vec![], wallet, FeeRate::new(2_000))
            .unwrap()
            .sign(&secp, |_| channel.payee)
            .unwrap()
    };
    let settlement = settle(&channels[0]);
    node.send(&settlement).unwrap();
    confirm(&node, &settlement);
    mine_to_height(&node, expiry);
    let late = channels[0].refund(&secp, &home, FeeRate::new(5_000));
    assert_eq!(node.judge(&late), Err("missing-inputs".into()));

    let refund = channels[1].refund(&secp, &home, FeeRate::new(2_000));
    node.send(&refund).unwrap();
    confirm(&node, &refund);
    assert_eq!(node.judge(&settle(&channels[1])), Err("missing-inputs".into()));
}

#[test]
fn rule_8_a_refund_after_the_expiry_must_outbid_the_whole_waiting_batch() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let expiry = 120;
    let channels = simplex::open(&node, &secp, 20, CAPACITY, expiry);
    mine_to_height(&node, expiry);
    let claims: Vec<Claim> = channels.iter().map(|c| c.pay(&secp, 10_000)).collect();
    let wallet = payout(&secp, &key(&secp, "payee's wallet"));
    let batch = Settlement::new(&secp, &claims, vec![], wallet, FeeRate::new(2_000)).unwrap();
    let tx = simplex::sign(&secp, &batch, &channels);
    node.send(&tx).unwrap();
    let home = payout(&secp, &key(&secp, "payer's home"));
    // Eight times the batch's rate, but less than its fee.
    let refund = channels[7].refund(&secp, &home, FeeRate::new(16_000));
    assert_eq!(node.judge(&refund), Err("insufficient fee".into()));
    confirm(&node, &tx);
}
