//! money.md rules 2 and 3: the funding transaction before a real node.

use bitcoin::key::Secp256k1;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use turnpike_protocol::base::{BlockHeight, Sat};
use turnpike_protocol::money::channel::tx::{Position, RecoveryData, Terms, costs};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::simplex::{self, Coin, confirm, key, policies, xonly};

const CAPACITY: u64 = 50_000;

fn terms(name: &str) -> Terms {
    let secp = Secp256k1::new();
    Terms {
        payer_key: xonly(&key(&secp, &format!("payer {name}"))),
        payee_key: xonly(&key(&secp, &format!("payee {name}"))),
        capacity: Sat::new(CAPACITY),
        expiry: BlockHeight::new(700),
    }
}

fn sealed(coin: &Coin, terms: &Terms, position: Position) -> [u8; 40] {
    let data = RecoveryData {
        payee_key: terms.payee_key,
        expiry: terms.expiry,
        key_index: 3,
    };
    data.seal(&[7; 32], coin.outpoint().into(), position)
}

fn funding(coin: &Coin, terms: &[Terms], data: ScriptBuf) -> Transaction {
    let secp = Secp256k1::new();
    let mut outputs: Vec<TxOut> = terms
        .iter()
        .map(|t| TxOut {
            value: Amount::from_sat(CAPACITY),
            script_pubkey: t.funding_output(&secp).unwrap().to_script_buf(),
        })
        .collect();
    outputs.push(TxOut {
        value: Amount::ZERO,
        script_pubkey: data,
    });
    coin.pay(&secp, outputs)
}

#[test]
fn rule_3_a_funding_with_recovery_data_is_accepted_and_confirms() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let coin = Coin::new(&node, &secp, key(&secp, "purse"), 200_000);
        let terms = terms("alone");
        let data = RecoveryData::script(&sealed(&coin, &terms, Position::First), None);
        let tx = funding(&coin, &[terms], data);
        assert_eq!(tx.vsize() as u64, costs::OPENING_VB);
        assert_eq!(node.judge(&tx), Ok(()), "{policy:?}");
        node.send(&tx).unwrap();
        confirm(&node, &tx);
        assert_eq!(
            simplex::unspent(&node, bitcoin::OutPoint::new(tx.compute_txid(), 0)),
            Some(CAPACITY)
        );
    }
}

#[test]
fn rule_3_one_op_return_of_two_payers_is_accepted() {
    let secp = Secp256k1::new();
    for policy in policies() {
        let node = Bitcoind::start_with(policy);
        let coin = Coin::new(&node, &secp, key(&secp, "purse"), 200_000);
        let (a, b) = (terms("a"), terms("b"));
        let first = sealed(&coin, &a, Position::First);
        let second = sealed(&coin, &b, Position::Second);
        let both = funding(&coin, &[a, b], RecoveryData::script(&first, Some(&second)));
        assert_eq!(node.judge(&both), Ok(()), "{policy:?}");

        let mut outputs = both.output.clone();
        outputs.pop();
        outputs.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: RecoveryData::script(&second, None),
        });
        let two = coin.pay(&secp, outputs);
        // Core takes several from version 30 on; the others are why there is never more than one.
        if let Err(reason) = node.judge(&two) {
            assert_eq!(reason, "multi-op-return", "{policy:?}");
        }

        node.send(&both).unwrap();
        confirm(&node, &both);
    }
}
