//! money.md rule 3: the seed words alone, and the chain, give a payer back what it paid in.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::key::Secp256k1;
use bitcoin::{Amount, Block, OutPoint, TxOut};
use serde_json::json;
use turnpike_protocol::base::{BlockHeight, FeeRate, Sat};
use turnpike_protocol::crypto::{CoinType, Keys, Role, Seed};
use turnpike_protocol::money::channel::tx::{
    Claim, Found, PaymentDigest, Position, RecoveryData, Refund, Settlement, Terms, costs, recover,
};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::simplex::{Coin, confirm, key, payout, unspent, xonly};

const CAPACITY: u64 = 50_000;

fn keys(seed: u8) -> Keys {
    Keys::new(&Seed::from_entropy(&[seed; 32]), CoinType::Test).unwrap()
}

/// Opens a channel as its payer's wallet does: one coin, the funding, the recovery data, change.
fn open(node: &Bitcoind, payer: &Keys, index: u32, expiry: u32) -> (Terms, OutPoint) {
    let secp = Secp256k1::new();
    let coin = Coin::new(
        node,
        &secp,
        key(&secp, &format!("coin {index} {expiry}")),
        100_000,
    );
    let terms = Terms {
        payer_key: xonly(&payer.channel(Role::Payer, index).unwrap().funding),
        payee_key: xonly(&key(&secp, &format!("payee {index}"))),
        capacity: Sat::new(CAPACITY),
        expiry: BlockHeight::new(expiry),
    };
    let data = RecoveryData {
        payee_key: terms.payee_key,
        expiry: terms.expiry,
        key_index: index,
    };
    let sealed = data.seal(
        payer.recovery().as_bytes(),
        coin.outpoint().into(),
        Position::First,
    );
    let outputs = vec![
        TxOut {
            value: Amount::ZERO,
            script_pubkey: RecoveryData::script(&sealed, None),
        },
        TxOut {
            value: Amount::from_sat(CAPACITY),
            script_pubkey: terms.funding_output(&secp).unwrap().to_script_buf(),
        },
    ];
    let tx = coin.pay(&secp, outputs);
    node.send(&tx).unwrap();
    confirm(node, &tx);
    (terms, OutPoint::new(tx.compute_txid(), 1))
}

/// What these words find in the whole chain.
fn scan(node: &Bitcoind, keys: &Keys) -> Vec<Found> {
    let secp = Secp256k1::new();
    let mut found = Vec::new();
    for height in 1..=node.height() {
        let hash = node.call("getblockhash", json!([height])).unwrap();
        let raw = node.call("getblock", json!([hash, 0])).unwrap();
        let block: Block = deserialize_hex(raw.as_str().unwrap()).unwrap();
        for tx in &block.txdata {
            found.extend(recover(&secp, keys.recovery().as_bytes(), tx, |index| {
                xonly(&keys.channel(Role::Payer, index).unwrap().funding)
            }));
        }
    }
    found
}

#[test]
fn rule_3_seed_words_alone_find_and_refund_what_was_paid_in() {
    let secp = Secp256k1::new();
    let node = Bitcoind::start();
    let expiry = 125;
    let words = Seed::from_entropy(&[11; 32]).words();
    let payer = keys(11);
    let mine = [
        open(&node, &payer, 0, expiry),
        open(&node, &payer, 41, expiry + 2),
        open(&node, &payer, 5, expiry),
    ];
    let other = open(&node, &keys(12), 0, expiry);

    // One of them settles: its funding is found, but spent.
    let (terms, outpoint) = mine[2];
    let payments = PaymentDigest::new(&secp, &terms, outpoint.into()).unwrap();
    let funding_key = payer.channel(Role::Payer, 5).unwrap().funding;
    let paid = Sat::new(10_000);
    let signature = payments
        .sign_payment(payer.signer().context(), &funding_key, paid)
        .unwrap();
    let claim = Claim {
        terms,
        outpoint: outpoint.into(),
        paid,
        signature,
    };
    let wallet = payout(&secp, &key(&secp, "payee's wallet"));
    let settlement = Settlement::new(&secp, &[claim], vec![], wallet, FeeRate::new(2_000))
        .unwrap()
        .sign(&secp, |_| key(&secp, "payee 5"))
        .unwrap();
    node.send(&settlement).unwrap();
    confirm(&node, &settlement);
    drop(payer);

    // From here on: the words, and the chain.
    let restored = Keys::new(&Seed::from_words(&words).unwrap(), CoinType::Test).unwrap();
    let found = scan(&node, &restored);
    let expected = [(mine[0], 0), (mine[1], 41), (mine[2], 5)];
    assert_eq!(found.len(), expected.len());
    for ((terms, outpoint), key_index) in expected {
        assert!(found.contains(&Found {
            terms,
            outpoint: outpoint.into(),
            key_index
        }));
    }
    assert!(scan(&node, &keys(13)).is_empty());
    let theirs = scan(&node, &keys(12));
    assert_eq!(
        theirs
            .iter()
            .map(|f| f.outpoint.into())
            .collect::<Vec<OutPoint>>(),
        [other.1]
    );

    node.mine(expiry + 2 - node.height());
    let home = payout(&secp, &key(&secp, "payer's home"));
    let mut refunded = 0;
    for f in found
        .iter()
        .filter(|f| unspent(&node, f.outpoint.into()).is_some())
    {
        let keypair = restored.channel(Role::Payer, f.key_index).unwrap().funding;
        let tx = Refund::new(&secp, &f.terms, f.outpoint, f.terms.capacity)
            .unwrap()
            .sign(
                restored.signer().context(),
                &keypair,
                home.clone(),
                FeeRate::new(1_000),
            )
            .unwrap();
        node.send(&tx).unwrap();
        confirm(&node, &tx);
        let kept = unspent(&node, OutPoint::new(tx.compute_txid(), 0)).unwrap();
        assert_eq!(kept, CAPACITY - tx.vsize() as u64);
        assert!(kept >= CAPACITY - costs::REFUND_VB);
        refunded += 1;
    }
    assert_eq!(refunded, 2);

    // And the settled one: its remainder is found by the same words in the transaction that spent the funding.
    let settled = found.iter().find(|f| f.key_index == 5).unwrap();
    let remainder =
        turnpike_protocol::money::channel::tx::RemainderScript::new(&secp, &settled.terms.payer_key).unwrap();
    let (outpoint, value) = remainder.find(&settlement).unwrap();
    assert_eq!(value, Sat::new(CAPACITY - 10_000));
    let keypair = restored.channel(Role::Payer, settled.key_index).unwrap().funding;
    let spend = remainder
        .spend(
            restored.signer().context(),
            &keypair,
            outpoint,
            value,
            home,
            FeeRate::new(1_000),
        )
        .unwrap();
    node.send(&spend).unwrap();
    confirm(&node, &spend);
}
