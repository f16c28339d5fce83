//! money.md rules 5 and 8: settlements before a real node's mempool, in blocks, to the satoshi.

use bitcoin::key::{Keypair, Secp256k1};
use bitcoin::{Amount, OutPoint, TxOut};
use serde_json::json;
use turnpike_protocol::base::{FeeRate, Sat};
use turnpike_protocol::money::channel::tx::{Claim, LeftOutReason, Settlement, costs};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::simplex::{
    self, Coin, Simplex, assert_mempool_fee, assert_outputs_in_chain, confirm, in_mempool, key, payout,
    policies,
};

const CAPACITY: u64 = 50_000;
const EXPIRY: u32 = 1_000;

fn wallet() -> Keypair {
    key(&Secp256k1::new(), "payee's wallet")
}

/// Pays, settles at `rate`, and gives the settlement and what all the payee's outputs must add up to with its fee.
fn settle(channels: &[Simplex], paid: &[u64], rate: FeeRate) -> (Settlement, u64) {
    let secp = Secp256k1::new();
    let claims: Vec<Claim> = channels
        .iter()
        .zip(paid)
        .map(|(c, paid)| c.pay(&secp, *paid))
        .collect();
    let settlement = Settlement::new(&secp, &claims, vec![], payout(&secp, &wallet()), rate).unwrap();
    let due = paid
        .iter()
        .map(|p| if CAPACITY - p < 330 { CAPACITY } else { *p })
        .sum();
    (settlement, due)
}

/// Through `testmempoolaccept`, the mempool and a block, with every balance.
fn goes_through(node: &Bitcoind, channels: &[Simplex], paid: &[u64]) {
    let secp = Secp256k1::new();
    let (settlement, due) = settle(channels, paid, FeeRate::new(2_000));
    assert!(settlement.left_out().is_empty());
    let tx = simplex::sign(&secp, &settlement, channels);
    assert_eq!(node.judge(&tx), Ok(()));
    node.send(&tx).unwrap();
    assert_mempool_fee(node, &tx, settlement.fee());
    assert_eq!(tx.vsize() as u64, settlement.vbytes());
    confirm(node, &tx);

    assert_outputs_in_chain(node, &tx);
    for (channel, paid) in channels.iter().zip(paid) {
        assert_eq!(simplex::unspent(node, channel.outpoint), None);
        let remainder = channel.remainder(&secp).find(&tx).map(|(_, value)| value.value());
        assert_eq!(remainder, Some(CAPACITY - paid).filter(|left| *left >= 330));
    }
    let payee = tx.output.last().unwrap();
    assert_eq!(payee.script_pubkey, payout(&secp, &wallet()));
    assert_eq!(payee.value.to_sat(), due - settlement.fee().value());
    assert_eq!(
        settlement.fee(),
        FeeRate::new(2_000).fee(settlement.vbytes()).unwrap()
    );
}

#[test]
fn one_guest_settles_to_the_satoshi_at_every_edge() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        // Each edge: the least that leaves the payee an output, the last remainder above dust, the first below,
        // everything. One channel alone pays for the overhead too.
        let least = 330 + 2 * costs::SETTLEMENT_VB;
        for (n, paid) in (0..).zip([least, 20_000, CAPACITY - 330, CAPACITY - 329, CAPACITY]) {
            let channel = simplex::open(&node, &secp, 1, CAPACITY, EXPIRY + n);
            goes_through(&node, &channel, &[paid]);
        }
    }
}

#[test]
fn the_remainder_is_the_payers_one_block_after_the_settlement() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let channels = simplex::open(&node, &secp, 1, CAPACITY, EXPIRY);
        let (settlement, _) = settle(&channels, &[20_000], FeeRate::new(2_000));
        let tx = simplex::sign(&secp, &settlement, &channels);
        let home = payout(&secp, &key(&secp, "payer's home"));
        let spend = channels[0].spend_remainder(&secp, &tx, &home);
        node.send(&tx).unwrap();
        assert_eq!(node.judge(&spend), Err("non-BIP68-final".into()));
        confirm(&node, &tx);
        assert_eq!(node.judge(&spend), Ok(()));
        node.send(&spend).unwrap();
        confirm(&node, &spend);
        let kept = simplex::unspent(&node, OutPoint::new(spend.compute_txid(), 0));
        assert_eq!(kept, Some(30_000 - 2 * costs::REMAINDER_SPEND_VB));
    }
}

#[test]
fn rule_5_twenty_guests_settle_at_once_single_and_none_forms_mixed() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let channels = simplex::open(&node, &secp, 20, CAPACITY, EXPIRY);
        let paid: Vec<u64> = (0..20)
            .map(|n| match n % 4 {
                0 => CAPACITY,
                1 => CAPACITY - 329 + n,
                _ => 1_000 * n + 7,
            })
            .collect();
        goes_through(&node, &channels, &paid);
    }
}

#[test]
fn rule_5_sixty_guests_settle_at_once_within_the_size_of_version_3() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let channels = simplex::open(&node, &secp, 60, CAPACITY, EXPIRY);
        let paid: Vec<u64> = (0..60).map(|n| 1_000 + n).collect();
        goes_through(&node, &channels, &paid);
        assert!(costs::settlement_vbytes(60, 0) < 10_000);
    }
}

#[test]
fn rule_5_a_batch_with_coins_of_the_payees_wallet_is_accepted() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let channels = simplex::open(&node, &secp, 3, CAPACITY, EXPIRY);
        let coin = Coin::new(&node, &secp, wallet(), 30_000);
        let claims: Vec<Claim> = channels.iter().map(|c| c.pay(&secp, 2_000)).collect();
        let to = payout(&secp, &wallet());
        let rate = FeeRate::new(10_000);
        let settlement = Settlement::new(&secp, &claims, vec![coin.as_input()], to, rate).unwrap();
        let mut tx = simplex::sign(&secp, &settlement, &channels);
        coin.sign(&secp, &mut tx, 3, &settlement.prevouts());
        assert_eq!(node.judge(&tx), Ok(()));
        node.send(&tx).unwrap();
        assert_eq!(tx.vsize() as u64, settlement.vbytes());
        assert_mempool_fee(&node, &tx, settlement.fee());
        confirm(&node, &tx);
        assert_eq!(
            tx.output[3].value.to_sat(),
            6_000 + 30_000 - settlement.fee().value()
        );
        assert_outputs_in_chain(&node, &tx);
    }
}

#[test]
fn rule_5_a_channel_not_worth_its_size_stays_out_and_settles_when_fees_are_low() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let channels = simplex::open(&node, &secp, 2, CAPACITY, EXPIRY);
    let claims = [channels[0].pay(&secp, 40_000), channels[1].pay(&secp, 1_500)];
    let to = payout(&secp, &wallet());
    let dear = Settlement::new(&secp, &claims, vec![], to.clone(), FeeRate::new(20_000)).unwrap();
    assert_eq!(dear.settled().collect::<Vec<_>>(), [0]);
    assert!(matches!(
        dear.left_out()[0].reason,
        LeftOutReason::Worthless { .. }
    ));
    let tx = simplex::sign(&secp, &dear, &channels);
    node.send(&tx).unwrap();
    confirm(&node, &tx);

    let cheap = Settlement::new(&secp, &claims[1..], vec![], to, FeeRate::MIN_RELAY).unwrap();
    let tx = cheap.sign(&secp, |_| channels[1].payee).unwrap();
    node.send(&tx).unwrap();
    confirm(&node, &tx);
    assert_outputs_in_chain(&node, &tx);
}

#[test]
fn rule_8_the_fee_is_raised_from_the_same_payer_signatures_and_one_satoshi_more_is_refused() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let channels = simplex::open(&node, &secp, 20, CAPACITY, EXPIRY);
        let paid: Vec<u64> = (0..20)
            .map(|n| if n < 5 { CAPACITY } else { 3_000 + n })
            .collect();
        let (settlement, due) = settle(&channels, &paid, FeeRate::MIN_RELAY);
        let first = simplex::sign(&secp, &settlement, &channels);
        node.send(&first).unwrap();

        let one_more = settlement
            .with_fee(settlement.fee().checked_add(Sat::new(1)).unwrap())
            .unwrap();
        let one_more = simplex::sign(&secp, &one_more, &channels);
        assert_eq!(node.judge(&one_more), Err("insufficient fee".into()));
        // To the satoshi: a replacement pays the node's own increment for its whole size.
        let info = node.call("getmempoolinfo", json!([])).unwrap();
        let increment = Amount::from_btc(info["incrementalrelayfee"].as_f64().unwrap())
            .unwrap()
            .to_sat();
        let own = FeeRate::new(increment).fee(settlement.vbytes()).unwrap();
        let least = settlement.fee().checked_add(own).unwrap();
        let at = |fee| simplex::sign(&secp, &settlement.with_fee(fee).unwrap(), &channels);
        let just_short = least.checked_sub(Sat::new(1)).unwrap();
        assert_eq!(
            node.judge(&at(just_short)),
            Err("insufficient fee".into()),
            "{policy:?}"
        );
        assert_eq!(node.judge(&at(least)), Ok(()), "{policy:?}");

        // The least that the builder offers is enough for both policies.
        let raised = settlement.raise(FeeRate::MIN_RELAY, vec![]).unwrap();
        assert!(raised.fee() >= least);
        assert_eq!(raised.fee(), settlement.least_replacement_fee());
        let second = simplex::sign(&secp, &raised, &channels);
        assert_eq!(node.judge(&second), Ok(()));
        node.send(&second).unwrap();
        assert!(!in_mempool(&node, &first));
        assert_mempool_fee(&node, &second, raised.fee());

        // Again with a coin of the wallet, and in the end the most that the payee can afford.
        let coin = Coin::new(&node, &secp, wallet(), 100_000);
        let channels = simplex::open(&node, &secp, 20, CAPACITY, EXPIRY + 1);
        let (settlement, due_again) = settle(&channels, &paid, FeeRate::MIN_RELAY);
        assert_eq!(due, due_again);
        node.send(&simplex::sign(&secp, &settlement, &channels)).unwrap();
        let helped = settlement
            .raise(FeeRate::new(20_000), vec![coin.as_input()])
            .unwrap();
        let mut tx = simplex::sign(&secp, &helped, &channels);
        coin.sign(&secp, &mut tx, 20, &helped.prevouts());
        node.send(&tx).unwrap();
        assert_mempool_fee(&node, &tx, helped.fee());
        let most = helped.with_fee(helped.largest_fee()).unwrap();
        assert_eq!(most.payee_value(), Sat::new(330));
        assert!(
            helped
                .with_fee(helped.largest_fee().checked_add(Sat::new(1)).unwrap())
                .is_err()
        );
        let mut last = simplex::sign(&secp, &most, &channels);
        coin.sign(&secp, &mut last, 20, &most.prevouts());
        node.send(&last).unwrap();
        confirm(&node, &last);
        assert_outputs_in_chain(&node, &last);
        assert_eq!(most.fee().value() + 330, due + 100_000);
    }
}

#[test]
fn rule_1_an_unconfirmed_funding_in_a_batch_would_let_its_payer_withdraw_the_whole_batch() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let mut channels = simplex::open(&node, &secp, 2, CAPACITY, EXPIRY);
        // The second channel's funding is moved to an output that its payer can still replace.
        let coin = Coin::new(&node, &secp, key(&secp, "purse"), 200_000);
        let script_pubkey = channels[1].terms.funding_output(&secp).unwrap().to_script_buf();
        let output = TxOut {
            value: Amount::from_sat(CAPACITY),
            script_pubkey,
        };
        let funding = coin.pay(&secp, vec![output]);
        node.send(&funding).unwrap();
        channels[1].outpoint = OutPoint::new(funding.compute_txid(), 0);

        let (settlement, _) = settle(&channels, &[10_000, 10_000], FeeRate::new(2_000));
        let tx = simplex::sign(&secp, &settlement, &channels);
        // Core's policy for version 3 refuses it outright; where it is taken, its payer takes it back.
        if let Err(reason) = node.judge(&tx) {
            assert_eq!(reason, "truc-spends-nontruc", "{policy:?}");
        } else {
            node.send(&tx).unwrap();
            let home = payout(&secp, &key(&secp, "payer's home"));
            let dear = TxOut {
                value: Amount::from_sat(190_000),
                script_pubkey: home,
            };
            let mut instead = coin.pay(&secp, vec![dear]);
            instead.output.pop();
            coin.sign(&secp, &mut instead, 0, &[coin.as_input().prevout]);
            node.send(&instead).unwrap();
            assert!(!in_mempool(&node, &tx), "the batch went with the funding");
        }
    }
}
