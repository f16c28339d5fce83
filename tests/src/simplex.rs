//! Both sides of a simplex in one hand, for tests that let a real node judge the protocol's transactions.

use crate::bitcoind::{Bitcoind, bitcoind_path};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{All, Message};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction,
    TxIn, TxOut, Txid, Witness, absolute, transaction,
};
use serde_json::{Value, json};
use std::process::Command;
use turnpike_protocol::base::{BlockHeight, FeeRate, Sat};
use turnpike_protocol::money::channel::tx::{
    Claim, PaymentDigest, Refund, RemainderScript, Settlement, Terms, WalletInput, costs,
};

/// A channel with the keys of both sides, funded in a block.
pub struct Simplex {
    /// Its terms.
    pub terms: Terms,
    /// Its funding output.
    pub outpoint: OutPoint,
    /// The payer's channel key.
    pub payer: Keypair,
    /// The payee's channel key.
    pub payee: Keypair,
}

/// The policies that a settlement must pass: the node's own, and Bitcoin Core's where that differs.
pub fn policies() -> Vec<&'static [&'static str]> {
    let version = Command::new(bitcoind_path())
        .arg("--version")
        .output()
        .expect("bitcoind --version");
    if String::from_utf8_lossy(&version.stdout).contains("Knots") {
        vec![&[], &["-corepolicy"]]
    } else {
        println!("this bitcoind is Core's own: its default policy is Core's");
        vec![&[]]
    }
}

/// A key made from a name.
pub fn key(secp: &Secp256k1<All>, name: &str) -> Keypair {
    Keypair::from_seckey_slice(secp, sha256::Hash::hash(name.as_bytes()).as_byte_array()).expect("secret key")
}

/// The x-only public key in the form that terms hold.
pub fn xonly(key: &Keypair) -> [u8; 32] {
    key.x_only_public_key().0.serialize()
}

/// A plain taproot output script (BIP86) of this key.
pub fn payout(secp: &Secp256k1<All>, key: &Keypair) -> ScriptBuf {
    ScriptBuf::new_p2tr(secp, key.x_only_public_key().0, None)
}

/// The regtest address of a script.
pub fn address(script: &ScriptBuf) -> Address {
    Address::from_script(script, Network::Regtest).expect("a standard script")
}

/// Pays all these outputs from the node's wallet in one transaction, and confirms it.
pub fn fund_all(node: &Bitcoind, outputs: &[(ScriptBuf, u64)]) -> Vec<OutPoint> {
    let amounts: serde_json::Map<String, Value> = outputs
        .iter()
        .map(|(script, sat)| {
            let btc = Amount::from_sat(*sat).to_string_in(bitcoin::Denomination::Bitcoin);
            (address(script).to_string(), json!(btc))
        })
        .collect();
    let sent = node.call("sendmany", json!(["", amounts])).expect("sendmany");
    let txid: Txid = sent.as_str().expect("txid").parse().expect("txid");
    let tx = node.transaction(txid);
    node.mine(1);
    let place = |script: &ScriptBuf| {
        tx.output
            .iter()
            .position(|o| o.script_pubkey == *script)
            .expect("paid")
    };
    outputs
        .iter()
        .map(|(script, _)| OutPoint::new(txid, place(script) as u32))
        .collect()
}

/// Opens `count` channels of one capacity and expiry, with keys of their own each.
pub fn open(
    node: &Bitcoind,
    secp: &Secp256k1<All>,
    count: usize,
    capacity: u64,
    expiry: u32,
) -> Vec<Simplex> {
    let sides: Vec<(Keypair, Keypair)> = (0..count)
        .map(|n| {
            (
                key(secp, &format!("payer {n} {expiry}")),
                key(secp, &format!("payee {n} {expiry}")),
            )
        })
        .collect();
    let terms: Vec<Terms> = sides
        .iter()
        .map(|(payer, payee)| Terms {
            payer_key: xonly(payer),
            payee_key: xonly(payee),
            capacity: Sat::new(capacity),
            expiry: BlockHeight::new(expiry),
        })
        .collect();
    let outputs: Vec<(ScriptBuf, u64)> = terms
        .iter()
        .map(|t| (t.funding_output(secp).expect("terms").to_script_buf(), capacity))
        .collect();
    let outpoints = fund_all(node, &outputs);
    let channels = terms.into_iter().zip(sides).zip(outpoints);
    channels
        .map(|((terms, (payer, payee)), outpoint)| Simplex {
            terms,
            outpoint,
            payer,
            payee,
        })
        .collect()
}

impl Simplex {
    /// What the payee holds after the payer paid `paid` satoshi in total.
    pub fn pay(&self, secp: &Secp256k1<All>, paid: u64) -> Claim {
        let paid = Sat::new(paid);
        let payments = PaymentDigest::new(secp, &self.terms, self.outpoint.into()).expect("terms");
        let signature = payments
            .sign_payment(secp, &self.payer, paid)
            .expect("within the capacity");
        payments
            .verify_payment(secp, paid, &signature)
            .expect("the payee takes it");
        Claim {
            terms: self.terms,
            outpoint: self.outpoint.into(),
            paid,
            signature,
        }
    }

    /// The payer's refund at the expiry.
    pub fn refund(&self, secp: &Secp256k1<All>, to: &ScriptBuf, rate: FeeRate) -> Transaction {
        Refund::new(secp, &self.terms, self.outpoint.into(), self.terms.capacity)
            .expect("terms")
            .sign(secp, &self.payer, to.clone(), rate)
            .expect("worth its fee")
    }

    /// The payer's remainder in a settlement, and its spend, which needs one block more.
    pub fn spend_remainder(
        &self,
        secp: &Secp256k1<All>,
        settlement: &Transaction,
        to: &ScriptBuf,
    ) -> Transaction {
        let script = self.remainder(secp);
        let (outpoint, value) = script.find(settlement).expect("a remainder");
        script
            .spend(
                secp,
                &self.payer,
                outpoint,
                value,
                to.clone(),
                FeeRate::new(2_000),
            )
            .expect("worth its fee")
    }

    /// The script of the payer's remainder.
    pub fn remainder(&self, secp: &Secp256k1<All>) -> RemainderScript {
        RemainderScript::new(secp, &self.terms.payer_key).expect("terms")
    }
}

/// The channels' settlement without wallet inputs, signed by their payees.
pub fn sign(secp: &Secp256k1<All>, settlement: &Settlement, channels: &[Simplex]) -> Transaction {
    settlement
        .sign(secp, |index| channels[index].payee)
        .expect("the payees' own keys")
}

/// A confirmed plain taproot coin (BIP86) of a key that the test holds.
pub struct Coin {
    key: Keypair,
    outpoint: OutPoint,
    prevout: TxOut,
}

impl Coin {
    /// Has the node's wallet pay it, in a block of its own.
    pub fn new(node: &Bitcoind, secp: &Secp256k1<All>, key: Keypair, sat: u64) -> Coin {
        let script_pubkey = payout(secp, &key);
        let outpoint = node.fund(&address(&script_pubkey), Amount::from_sat(sat));
        Coin {
            key,
            outpoint,
            prevout: TxOut {
                value: Amount::from_sat(sat),
                script_pubkey,
            },
        }
    }

    /// The coin's place.
    pub fn outpoint(&self) -> OutPoint {
        self.outpoint
    }

    /// The coin as a help for a settlement's fee.
    pub fn as_input(&self) -> WalletInput {
        WalletInput {
            outpoint: self.outpoint.into(),
            prevout: self.prevout.clone(),
            witness_wu: costs::KEY_SPEND_WITNESS_WU,
        }
    }

    /// Signs the input `at` of a transaction that spends `prevouts`.
    pub fn sign(&self, secp: &Secp256k1<All>, tx: &mut Transaction, at: usize, prevouts: &[TxOut]) {
        let hash = SighashCache::new(&*tx)
            .taproot_key_spend_signature_hash(at, &Prevouts::All(prevouts), TapSighashType::Default)
            .expect("sighash");
        let tweaked = self.key.tap_tweak(secp, None).to_keypair();
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
        tx.input[at].witness = Witness::p2tr_key_spend(&bitcoin::taproot::Signature {
            signature,
            sighash_type: TapSighashType::Default,
        });
    }

    /// Pays `outputs` from this coin alone, with change to its own key, at 1 sat/vB or a little more.
    pub fn pay(&self, secp: &Secp256k1<All>, mut outputs: Vec<TxOut>) -> Transaction {
        let spent: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
        outputs.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: self.prevout.script_pubkey.clone(),
        });
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: self.outpoint,
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                ..TxIn::default()
            }],
            output: outputs,
        };
        let prevouts = [self.prevout.clone()];
        self.sign(secp, &mut tx, 0, &prevouts);
        let change = self.prevout.value.to_sat() - spent - tx.vsize() as u64;
        tx.output.last_mut().expect("change").value = Amount::from_sat(change);
        self.sign(secp, &mut tx, 0, &prevouts);
        tx
    }
}

/// The value of an unspent output in the chain (`mempool` unseen), if it is there.
pub fn unspent(node: &Bitcoind, outpoint: OutPoint) -> Option<u64> {
    let found = node
        .call(
            "gettxout",
            json!([outpoint.txid.to_string(), outpoint.vout, false]),
        )
        .expect("gettxout");
    let btc = found.get("value")?.as_f64()?;
    Some(Amount::from_btc(btc).expect("an amount").to_sat())
}

/// Every output of `tx` stands unspent in the chain with the value that the transaction gives it.
pub fn assert_outputs_in_chain(node: &Bitcoind, tx: &Transaction) {
    let txid = tx.compute_txid();
    for (vout, output) in (0..).zip(&tx.output) {
        let value = unspent(node, OutPoint::new(txid, vout));
        assert_eq!(value, Some(output.value.to_sat()), "output {vout} of {txid}");
    }
}

/// What the transaction's inputs hold, less its outputs, must be `fee`, by the mempool's own count.
pub fn assert_mempool_fee(node: &Bitcoind, tx: &Transaction, fee: Sat) {
    let entry = node
        .call("getmempoolentry", json!([tx.compute_txid().to_string()]))
        .expect("in the mempool");
    let base = entry["fees"]["base"].as_f64().expect("fee");
    assert_eq!(Amount::from_btc(base).expect("an amount").to_sat(), fee.value());
    assert_eq!(entry["vsize"].as_u64(), Some(tx.vsize() as u64));
}

/// Whether the transaction waits in the mempool.
pub fn in_mempool(node: &Bitcoind, tx: &Transaction) -> bool {
    node.call("getmempoolentry", json!([tx.compute_txid().to_string()]))
        .is_ok()
}

/// Mines one block and checks that the transaction is in it.
pub fn confirm(node: &Bitcoind, tx: &Transaction) {
    let hash = node.mine(1)[0];
    assert!(
        block(node, hash).txdata.contains(tx),
        "{} was not mined",
        tx.compute_txid()
    );
}

/// A block in full.
pub fn block(node: &Bitcoind, hash: BlockHash) -> Block {
    let raw = node
        .call("getblock", json!([hash.to_string(), 0]))
        .expect("getblock");
    bitcoin::consensus::encode::deserialize_hex(raw.as_str().expect("hex")).expect("a block")
}

/// Tries to put the transaction alone into a block, past all policy; the error is consensus speaking.
pub fn force_into_block(node: &Bitcoind, tx: &Transaction) -> Result<(), String> {
    let address = node.call("getnewaddress", json!([])).expect("getnewaddress");
    let raw = bitcoin::consensus::encode::serialize_hex(tx);
    node.call("generateblock", json!([address, [raw]])).map(|_| ())
}
