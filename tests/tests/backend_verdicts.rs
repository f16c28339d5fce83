//! The play chain is judged by a real node: for every transaction of a table both must give the same verdict, and
//! it must be the one that the table says.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CLTV, OP_CSV, OP_DROP};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, Txid, absolute, transaction};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::node::{Coin, Node, Purse, coin_of};
use turnpike_tests::playchain::PlayChain;

/// A chain, a purse, and a stock of confirmed coins of 100,000 sat.
struct Bench {
    node: Box<dyn Node>,
    purse: Purse,
    coins: Vec<Coin>,
    verdicts: Vec<Verdict>,
}

/// A line of the table: what should be said, and what was.
struct Verdict {
    name: String,
    expected: Result<(), String>,
    found: Result<(), String>,
}

const COIN: u64 = 100_000;

impl Bench {
    fn new(node: Box<dyn Node>) -> Self {
        let purse = Purse::new(1);
        let coins = purse.coins(node.as_ref(), 20, COIN);
        Bench {
            node,
            purse,
            coins,
            verdicts: Vec::new(),
        }
    }

    fn coin(&mut self) -> Coin {
        if self.coins.is_empty() {
            self.coins = self.purse.coins(self.node.as_ref(), 20, COIN);
        }
        self.coins.remove(0)
    }

    /// Notes what the node says to a transaction beside what it should say.
    fn judge(&mut self, name: impl Into<String>, expected: Result<(), &str>, tx: &Transaction) {
        let (name, expected) = (name.into(), expected.map_err(str::to_owned));
        self.verdicts.push(Verdict {
            name,
            expected,
            found: self.node.judge(tx),
        });
    }

    /// A one-input transaction to the given outputs and a change that leaves `fee`.
    fn paying(&mut self, mut outputs: Vec<TxOut>, fee: u64) -> Transaction {
        let coin = self.coin();
        let out: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
        outputs.push(self.purse.output(COIN - out - fee));
        self.purse
            .sign(self.purse.draft(std::slice::from_ref(&coin), outputs), &[coin])
    }

    /// A one-input, one-output transaction, changed before it is signed.
    fn changed(&mut self, coin: Coin, change: impl FnOnce(&mut Transaction)) -> Transaction {
        let value = coin.output.value.to_sat() - 1_000;
        let mut tx = self
            .purse
            .draft(std::slice::from_ref(&coin), vec![self.purse.output(value)]);
        change(&mut tx);
        self.purse.sign(tx, &[coin])
    }
}

fn op_return(bytes: usize) -> TxOut {
    let data = PushBytesBuf::try_from(vec![7; bytes]).expect("short data");
    TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::new_op_return(data),
    }
}

fn to(script: ScriptBuf, value: u64) -> TxOut {
    TxOut {
        value: Amount::from_sat(value),
        script_pubkey: script,
    }
}

/// The fees: 1 sat/vB is the least.
fn fees(b: &mut Bench) {
    let coin = b.coin();
    let size = b.purse.spend(std::slice::from_ref(&coin), 1_000).vsize() as u64;
    b.judge(
        "fee of 1 sat/vB",
        Ok(()),
        &b.purse.spend(std::slice::from_ref(&coin), size),
    );
    b.judge(
        "fee 1 sat below",
        Err("min relay fee not met"),
        &b.purse.spend(std::slice::from_ref(&coin), size - 1),
    );
    b.judge(
        "no fee",
        Err("min relay fee not met"),
        &b.purse.spend(std::slice::from_ref(&coin), 0),
    );
}

/// Dust by output type, Core's formula.
fn dust(b: &mut Bench) {
    let key = b.purse.script_key();
    let wpkh = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_slice(&key[..20]).expect("hash"));
    let wsh = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_slice(&key).expect("hash"));
    let pkh = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_slice(&key[..20]).expect("hash"));
    let sh = ScriptBuf::new_p2sh(&bitcoin::ScriptHash::from_slice(&key[..20]).expect("hash"));
    let anchor = ScriptBuf::from_bytes(vec![0x51, 0x02, 0x4e, 0x73]);
    let table = [
        ("P2TR", b.purse.address().script_pubkey(), 330),
        ("P2WPKH", wpkh, 294),
        ("P2WSH", wsh, 330),
        ("P2PKH", pkh, 546),
        ("P2SH", sh, 540),
        ("P2A", anchor, 240),
    ];
    for (name, script, limit) in table {
        let tx = b.paying(vec![to(script.clone(), limit)], 1_000);
        b.judge(format!("{name} of {limit} sat"), Ok(()), &tx);
        let tx = b.paying(vec![to(script, limit - 1)], 1_000);
        b.judge(format!("{name} of {} sat", limit - 1), Err("dust"), &tx);
    }
}

/// OP_RETURN: one, 83 bytes with its opcodes. Other outputs: the usual types only.
fn outputs(b: &mut Bench) {
    let tx = b.paying(vec![op_return(80)], 1_000);
    b.judge("OP_RETURN with 80 bytes", Ok(()), &tx);
    let tx = b.paying(vec![op_return(81)], 1_000);
    b.judge("OP_RETURN with 81 bytes", Err("scriptpubkey"), &tx);
    let tx = b.paying(vec![op_return(10), op_return(10)], 1_000);
    b.judge("two OP_RETURNs", Err("multi-op-return"), &tx);
    let tx = b.paying(vec![to(Builder::new().push_int(1).into_script(), 1_000)], 1_000);
    b.judge("an output anyone can spend", Err("scriptpubkey"), &tx);
}

/// nLockTime and what makes it void.
fn finality(b: &mut Bench) {
    let tip = b.node.height();
    let at = |height: u32| absolute::LockTime::from_consensus(height);
    let coin = b.coin();
    let tx = b.changed(coin.clone(), |tx| tx.lock_time = at(tip));
    b.judge("nLockTime at the tip", Ok(()), &tx);
    let tx = b.changed(coin.clone(), |tx| tx.lock_time = at(tip + 1));
    b.judge("nLockTime above the tip", Err("non-final"), &tx);
    let tx = b.changed(coin.clone(), |tx| {
        tx.lock_time = at(tip + 1);
        tx.input[0].sequence = Sequence::MAX;
    });
    b.judge("nLockTime above the tip, all sequences final", Ok(()), &tx);
    let tx = b.changed(coin.clone(), |tx| tx.lock_time = at(1_500_000_000));
    b.judge("nLockTime in the past by the clock", Ok(()), &tx);
    let tx = b.changed(coin, |tx| tx.lock_time = at(u32::MAX));
    b.judge("nLockTime in the far future by the clock", Err("non-final"), &tx);
}

/// BIP68: from version 2 on, unless bit 31 is set; the coin's own block counts as 1.
fn relative_locks(b: &mut Bench) {
    let coin = b.purse.coins(b.node.as_ref(), 1, COIN).remove(0);
    let table = [
        (2, 1, Ok(())),
        (2, 2, Err("non-BIP68-final")),
        (3, 1, Ok(())),
        (3, 2, Err("non-BIP68-final")),
        (1, 2, Ok(())),
        (2, 2 | 1 << 31, Ok(())),
        (2, 5 | 1 << 22, Err("non-BIP68-final")),
        (2, 1 << 22, Ok(())),
        (2, 2 | 1 << 20, Err("non-BIP68-final")),
    ];
    for (version, sequence, expected) in table {
        let tx = b.changed(coin.clone(), |tx| {
            tx.version = transaction::Version(version);
            tx.input[0].sequence = Sequence::from_consensus(sequence);
        });
        b.judge(
            format!("version {version}, sequence {sequence:#x}, 1 confirmation"),
            expected,
            &tx,
        );
    }
    b.node.mine(1);
    let tx = b.changed(coin.clone(), |tx| tx.input[0].sequence = Sequence::from_height(2));
    b.judge("sequence 2, 2 confirmations", Ok(()), &tx);
    let parent = b.changed(coin, |_| {});
    b.node.send(&parent).expect("parent");
    let child = b.changed(coin_of(&parent, 0), |tx| {
        tx.input[0].sequence = Sequence::from_height(1)
    });
    b.judge(
        "sequence 1 on an unconfirmed coin",
        Err("non-BIP68-final"),
        &child,
    );
    let child = b.changed(coin_of(&parent, 0), |tx| {
        tx.input[0].sequence = Sequence::from_height(0)
    });
    b.judge("sequence 0 on an unconfirmed coin", Ok(()), &child);
}

/// The two locks that channels use, in tapscript.
fn script_locks(b: &mut Bench) {
    let expiry = b.node.height() + 3;
    let key = b.purse.script_key();
    let after = Builder::new()
        .push_int(i64::from(expiry))
        .push_opcode(OP_CLTV)
        .push_opcode(OP_DROP);
    let after = after.push_slice(key).push_opcode(OP_CHECKSIG).into_script();
    let later = Builder::new()
        .push_int(2)
        .push_opcode(OP_CSV)
        .push_opcode(OP_DROP);
    let later = later.push_slice(key).push_opcode(OP_CHECKSIG).into_script();
    for (name, script) in [("CLTV", after), ("CSV", later)] {
        let (address, info) = b.purse.tapscript(&script);
        let outpoint = b.node.pay(&address, Amount::from_sat(COIN));
        b.node.mine(1);
        let coin = Coin {
            outpoint,
            output: to(address.script_pubkey(), COIN),
        };
        let spend = |b: &Bench, lock: u32, sequence: u32| {
            let mut tx = b
                .purse
                .draft(std::slice::from_ref(&coin), vec![b.purse.output(COIN - 1_000)]);
            tx.lock_time = absolute::LockTime::from_consensus(lock);
            tx.input[0].sequence = Sequence::from_consensus(sequence);
            b.purse.sign_tapscript(tx, &coin, &script, &info)
        };
        let failed = Err("mandatory-script-verify-flag-failed");
        match name {
            "CLTV" => {
                // The tip is at E - 2.
                b.judge(
                    "refund with nLockTime below E",
                    failed,
                    &spend(b, expiry - 2, 0xffff_fffd),
                );
                b.judge(
                    "refund with a final sequence",
                    failed,
                    &spend(b, expiry, u32::MAX),
                );
                b.node.mine(1);
                b.judge(
                    "refund at tip E - 1",
                    Err("non-final"),
                    &spend(b, expiry, 0xffff_fffd),
                );
                b.node.mine(1);
                b.judge("refund at tip E", Ok(()), &spend(b, expiry, 0xffff_fffd));
            }
            _ => {
                b.judge("CSV 2 with sequence 1", failed, &spend(b, 0, 1));
                b.judge("CSV 2 with the lock off", failed, &spend(b, 0, 0xffff_fffd));
                b.judge("CSV 2 at 1 confirmation", Err("non-BIP68-final"), &spend(b, 0, 2));
                b.node.mine(1);
                b.judge("CSV 2 at 2 confirmations", Ok(()), &spend(b, 0, 2));
                let mut forged = spend(b, 0, 2);
                forged.output[0].value -= Amount::ONE_SAT;
                b.judge("a signature for another amount", failed, &forged);
            }
        }
    }
}

/// Inputs that are not there, not ripe, or not enough.
fn inputs(b: &mut Bench) {
    let mut coin = b.coin();
    let tx = b.changed(coin.clone(), |tx| tx.output[0].value += Amount::from_sat(1_001));
    b.judge("more out than in", Err("bad-txns-in-belowout"), &tx);
    let mut twice = b.changed(coin.clone(), |_| {});
    twice.input.push(twice.input[0].clone());
    b.judge("the same input twice", Err("bad-txns-inputs-duplicate"), &twice);
    let tx = b.changed(coin.clone(), |_| {});
    let mut forged = tx.clone();
    forged.output[0].value -= Amount::ONE_SAT;
    b.judge(
        "a key-path signature for another amount",
        Err("mandatory-script-verify-flag-failed"),
        &forged,
    );
    let mut annexed = tx.clone();
    annexed.input[0].witness.push([0x50, 1]);
    b.judge("an annex", Err("bad-witness-nonstandard"), &annexed);

    coin.outpoint = OutPoint::new(Txid::all_zeros(), 7);
    let unknown = b.changed(coin, |_| {});
    b.judge("an unknown input", Err("missing-inputs"), &unknown);
    b.node.send(&tx).expect("send");
    b.judge(
        "the same again while it waits",
        Err("txn-already-in-mempool"),
        &tx,
    );
    b.node.mine(1);
    b.judge(
        "the same again when it is confirmed",
        Err("txn-already-known"),
        &tx,
    );

    let payee = b.purse.address();
    b.node.mine_to(1, &payee.to_string());
    let height = b.node.height();
    let coinbase = b.node.block(height).txdata.remove(0);
    let coin = coin_of(&coinbase, 0);
    b.node.mine(98);
    let young = b.changed(coin.clone(), |_| {});
    b.judge(
        "new money after 99 blocks",
        Err("bad-txns-premature-spend-of-coinbase"),
        &young,
    );
    b.node.mine(1);
    b.judge("new money after 100 blocks", Ok(()), &young);
}

/// Versions, and the version-3 rules that settlements rely on (BIP431).
fn versions(b: &mut Bench) {
    let coin = b.coin();
    for (version, expected) in [(0, Err("version")), (1, Ok(())), (3, Ok(())), (4, Err("version"))] {
        let tx = b.changed(coin.clone(), |tx| tx.version = transaction::Version(version));
        b.judge(format!("version {version}"), expected, &tx);
    }
    let v3 = |tx: &mut Transaction| tx.version = transaction::Version(3);
    let fat = |tx: &mut Transaction, outputs: usize| {
        let output = TxOut {
            value: Amount::from_sat(330),
            ..tx.output[0].clone()
        };
        tx.output[0].value -= Amount::from_sat(330 * outputs as u64 + 43 * outputs as u64);
        tx.output.extend(vec![output; outputs]);
    };
    let tx = b.changed(coin.clone(), |tx| {
        v3(tx);
        fat(tx, 228);
    });
    assert!((9_800..=10_000).contains(&tx.vsize()), "{}", tx.vsize());
    b.judge("version 3 just below 10,000 vB", Ok(()), &tx);
    let tx = b.changed(coin.clone(), |tx| {
        v3(tx);
        fat(tx, 235);
    });
    b.judge("version 3 above 10,000 vB", Err("TRUC-violation"), &tx);

    let parent = b.changed(coin, |tx| {
        v3(tx);
        tx.output[0].value = Amount::from_sat(49_000);
        tx.output.push(tx.output[0].clone());
    });
    b.node.send(&parent).expect("version-3 parent");
    let plain = b.changed(coin_of(&parent, 0), |_| {});
    b.judge("a version-2 child of version 3", Err("TRUC-violation"), &plain);
    let child = b.changed(coin_of(&parent, 0), v3);
    b.judge("a version-3 child", Ok(()), &child);
    let big = b.changed(coin_of(&parent, 0), |tx| {
        v3(tx);
        fat(tx, 24);
    });
    b.judge("a version-3 child above 1,000 vB", Err("TRUC-violation"), &big);
    b.node.send(&child).expect("version-3 child");
    let grandchild = b.changed(coin_of(&child, 0), v3);
    b.judge("a version-3 grandchild", Err("TRUC-violation"), &grandchild);
    let sibling = b.changed(coin_of(&parent, 1), |tx| {
        v3(tx);
        tx.output[0].value -= Amount::from_sat(2_000);
    });
    b.judge("a version-3 sibling that pays more", Ok(()), &sibling);
    let cheap = b.changed(coin_of(&parent, 1), v3);
    b.judge(
        "a version-3 sibling that pays the same",
        Err("insufficient fee"),
        &cheap,
    );
    let v2_parent = b.coin();
    let v2_parent = b.changed(v2_parent, |_| {});
    b.node.send(&v2_parent).expect("version-2 parent");
    let tx = b.changed(coin_of(&v2_parent, 0), v3);
    b.judge("a version-3 child of version 2", Err("TRUC-violation"), &tx);
}

/// Replacement: the old fee, and the own size on top.
fn replacement(b: &mut Bench) {
    let coins = [b.coin()];
    let old = b.purse.spend(&coins, 500);
    let size = old.vsize() as u64;
    b.node.send(&old).expect("the first");
    let poor = "insufficient fee";
    b.judge(
        "replacement with the same fee",
        Err(poor),
        &b.purse.spend(&coins, 500 - 1),
    );
    b.judge(
        "replacement with 1 sat more",
        Err(poor),
        &b.purse.spend(&coins, 501),
    );
    b.judge(
        "replacement 1 sat short of its size",
        Err(poor),
        &b.purse.spend(&coins, 500 + size - 1),
    );
    b.judge(
        "replacement that pays its size",
        Ok(()),
        &b.purse.spend(&coins, 500 + size),
    );

    let child = b.purse.spend(&[coin_of(&old, 0)], 5_000);
    b.node.send(&child).expect("a child");
    b.judge(
        "replacement that forgets the child's fee",
        Err(poor),
        &b.purse.spend(&coins, 500 + size),
    );
    b.judge(
        "replacement of parent and child",
        Ok(()),
        &b.purse.spend(&coins, 5_500 + size),
    );
    let both = [coins[0].clone(), coin_of(&child, 0)];
    let spends_what_it_replaces = b.purse.spend(&both, 20_000);
    b.judge(
        "replacement that spends what it replaces",
        Err("bad-txns-spends-conflicting-tx"),
        &spends_what_it_replaces,
    );
    b.node
        .send(&b.purse.spend(&coins, 6_000))
        .expect("the replacement");
    assert_eq!(
        b.node
            .call("getrawmempool", serde_json::json!([]))
            .expect("list")
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

/// Chains of unconfirmed transactions: 25.
fn chains(b: &mut Bench) {
    let mut coin = b.coin();
    for number in 1..=26 {
        let tx = b.purse.spend(&[coin], 200);
        coin = coin_of(&tx, 0);
        match number {
            25 => b.judge("the 25th of a chain", Ok(()), &tx),
            26 => b.judge("the 26th of a chain", Err("too-long-mempool-chain"), &tx),
            _ => {}
        }
        if number < 26 {
            b.node.send(&tx).expect("a chain of 25");
        }
    }
}

fn verdicts(node: Box<dyn Node>) -> Vec<Verdict> {
    let mut bench = Bench::new(node);
    for scene in [
        fees,
        dust,
        outputs,
        finality,
        relative_locks,
        script_locks,
        inputs,
        versions,
        replacement,
        chains,
    ] {
        scene(&mut bench);
        // What a scene left in the mempool must not touch the next one.
        bench.node.mine(1);
    }
    bench.verdicts
}

#[test]
fn the_play_chain_judges_as_a_real_node_does() {
    let real = std::thread::spawn(|| verdicts(Box::new(Bitcoind::start_with(&["-mempooltruc=enforce"]))));
    let play = verdicts(Box::new(PlayChain::start()));
    let real = real.join().expect("the real node's table");
    assert_eq!(real.len(), play.len());
    let mut wrong = Vec::new();
    for (real, play) in real.iter().zip(&play) {
        if real.found != real.expected || play.found != real.expected {
            let Verdict {
                name,
                expected,
                found,
            } = real;
            wrong.push(format!(
                "{name}: expected {expected:?}, the node {found:?}, the play chain {:?}",
                play.found
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "of {} verdicts these differ:\n{}",
        real.len(),
        wrong.join("\n")
    );
    println!("{} verdicts agree", real.len());
}
