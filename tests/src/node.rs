//! What tests ask of a chain, whoever runs it: so that a scenario can be played on a real node and on the play chain,
//! and their verdicts compared.

use crate::bitcoind::Bitcoind;
use crate::playchain::PlayChain;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::taproot::{LeafVersion, TaprootBuilder, TaprootSpendInfo};
use bitcoin::{
    Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, TapLeafHash, TapSighashType,
    Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use turnpike_firmware::chain::{Auth, ChainName};

/// A chain that a test controls.
pub trait Node {
    /// Which chain it is.
    fn chain(&self) -> ChainName;
    /// Where its JSON-RPC is.
    fn url(&self) -> String;
    /// Its cookie file.
    fn cookie(&self) -> PathBuf;
    /// Calls an RPC method.
    fn call(&self, method: &str, params: Value) -> Result<Value, String>;
    /// Pays to an address, unconfirmed.
    fn pay(&self, address: &Address, amount: Amount) -> OutPoint;
    /// Ends it in an orderly way.
    fn stop(&mut self);
    /// Starts it again where it stopped.
    fn launch(&mut self);

    /// The firmware's client for it.
    fn client(&self) -> turnpike_firmware::chain::Bitcoind {
        let patience = Duration::from_secs(20);
        turnpike_firmware::chain::Bitcoind::new(&self.url(), Auth::Cookie(self.cookie()), patience)
            .expect("client")
    }

    /// Mines blocks to nobody in particular.
    fn mine(&self, blocks: u32) -> Vec<BlockHash> {
        let nobody = Purse::new(0x7f).address().to_string();
        self.mine_to(blocks, &nobody)
    }

    /// Mines blocks to an address.
    fn mine_to(&self, blocks: u32, address: &str) -> Vec<BlockHash> {
        let mined = self
            .call("generatetoaddress", json!([blocks, address]))
            .expect("generatetoaddress");
        mined
            .as_array()
            .expect("hashes")
            .iter()
            .map(|h| h.as_str().expect("hash").parse().expect("hash"))
            .collect()
    }

    /// Height of the best block.
    fn height(&self) -> u32 {
        let height = self.call("getblockcount", json!([])).expect("getblockcount");
        height.as_u64().expect("height") as u32
    }

    /// Takes the last `depth` blocks off the best chain.
    fn forget_blocks(&self, depth: u32) {
        let first = self.height() - depth + 1;
        let hash = self.call("getblockhash", json!([first])).expect("getblockhash");
        self.call("invalidateblock", json!([hash]))
            .expect("invalidateblock");
    }

    /// Takes the last `depth` blocks off and mines one more than that in their place.
    fn reorganise(&self, depth: u32) {
        self.forget_blocks(depth);
        self.mine(depth + 1);
    }

    /// Offers a transaction to the mempool.
    fn send(&self, tx: &Transaction) -> Result<Txid, String> {
        let sent = self.call("sendrawtransaction", json!([serialize_hex(tx), 0]))?;
        Ok(sent.as_str().expect("txid").parse().expect("txid"))
    }

    /// Whether the mempool would take the transaction; the error is the reason without its details, in the words of
    /// Bitcoin Core 29 whichever node answers.
    fn judge(&self, tx: &Transaction) -> Result<(), String> {
        let verdict = self
            .call("testmempoolaccept", json!([[serialize_hex(tx)], 0]))
            .expect("testmempoolaccept");
        match verdict[0]["allowed"].as_bool() {
            Some(true) => Ok(()),
            _ => {
                let reason = verdict[0]["reject-reason"].as_str().expect("reject-reason");
                let short = reason.split(['(', ',']).next().unwrap_or_default().trim();
                Err(rule_of(short).to_owned())
            }
        }
    }

    /// The block at a height.
    fn block(&self, height: u32) -> Block {
        let hash = self.call("getblockhash", json!([height])).expect("getblockhash");
        let raw = self.call("getblock", json!([hash, 0])).expect("getblock");
        deserialize_hex(raw.as_str().expect("hex")).expect("block")
    }
}

/// One name for one rule: Knots, and Core from version 30 on, have other words for some.
fn rule_of(reason: &str) -> &str {
    match reason {
        "mempool-script-verify-flag-failed" => "mandatory-script-verify-flag-failed",
        "bad-witness-taproot-annex" => "bad-witness-nonstandard",
        dust if dust.starts_with("dust-") => "dust",
        truc if truc.starts_with("truc-") => "TRUC-violation",
        other => other,
    }
}

impl Node for Bitcoind {
    fn chain(&self) -> ChainName {
        ChainName::Regtest
    }
    fn url(&self) -> String {
        Bitcoind::url(self)
    }
    fn cookie(&self) -> PathBuf {
        Bitcoind::cookie(self)
    }
    fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        Bitcoind::call(self, method, params)
    }
    fn pay(&self, address: &Address, amount: Amount) -> OutPoint {
        Bitcoind::pay(self, address, amount)
    }
    fn stop(&mut self) {
        Bitcoind::stop(self);
    }
    fn launch(&mut self) {
        Bitcoind::launch(self);
    }
}

impl Node for PlayChain {
    fn chain(&self) -> ChainName {
        ChainName::Play
    }
    fn url(&self) -> String {
        PlayChain::url(self)
    }
    fn cookie(&self) -> PathBuf {
        PlayChain::cookie(self)
    }
    fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        PlayChain::call(self, method, params)
    }
    fn pay(&self, address: &Address, amount: Amount) -> OutPoint {
        let drawn = self
            .call("faucet", json!([address.to_string(), amount.to_sat()]))
            .expect("faucet");
        let txid = drawn["txid"].as_str().expect("txid").parse().expect("txid");
        OutPoint::new(txid, drawn["vout"].as_u64().expect("vout") as u32)
    }
    fn stop(&mut self) {
        PlayChain::stop(self);
    }
    fn launch(&mut self) {
        PlayChain::launch(self);
    }
}

/// A coin that a purse can spend.
#[derive(Clone, Debug)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub output: TxOut,
}

/// A key with plain taproot coins, and the means to spend them in any way that a test wants.
pub struct Purse {
    secp: Secp256k1<All>,
    key: Keypair,
}

impl Purse {
    /// A purse by a number; the same number is the same key.
    pub fn new(number: u8) -> Self {
        let secp = Secp256k1::new();
        let key = SecretKey::from_slice(&[number.max(1); 32])
            .expect("secret key")
            .keypair(&secp);
        Purse { secp, key }
    }

    /// Its taproot address (key path only).
    pub fn address(&self) -> Address {
        Address::p2tr(&self.secp, self.key.x_only_public_key().0, None, Network::Regtest)
    }

    /// The BIP341 output key of its address.
    pub fn output_key(&self) -> [u8; 32] {
        let script = self.address().script_pubkey();
        script.as_bytes()[2..].try_into().expect("taproot output")
    }

    /// Its x-only key, for scripts.
    pub fn script_key(&self) -> [u8; 32] {
        self.key.x_only_public_key().0.serialize()
    }

    /// Confirmed coins of `value` each.
    pub fn coins(&self, node: &dyn Node, count: usize, value: u64) -> Vec<Coin> {
        let amount = Amount::from_sat(value);
        let coins: Vec<Coin> = (0..count)
            .map(|_| Coin {
                outpoint: node.pay(&self.address(), amount),
                output: TxOut {
                    value: amount,
                    script_pubkey: self.address().script_pubkey(),
                },
            })
            .collect();
        node.mine(1);
        coins
    }

    /// An output of an address of this purse.
    pub fn output(&self, value: u64) -> TxOut {
        TxOut {
            value: Amount::from_sat(value),
            script_pubkey: self.address().script_pubkey(),
        }
    }

    /// An unsigned version-2 transaction with replaceable inputs and nLockTime 0.
    pub fn draft(&self, coins: &[Coin], output: Vec<TxOut>) -> Transaction {
        let input = coins.iter().map(|c| TxIn {
            previous_output: c.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: input.collect(),
            output,
        }
    }

    /// Signs all inputs by the key path; `coins` are what they spend.
    pub fn sign(&self, mut tx: Transaction, coins: &[Coin]) -> Transaction {
        let prevouts: Vec<TxOut> = coins.iter().map(|c| c.output.clone()).collect();
        let tweaked = self.key.tap_tweak(&self.secp, None).to_keypair();
        for index in 0..tx.input.len() {
            let sighash = SighashCache::new(&tx)
                .taproot_key_spend_signature_hash(index, &Prevouts::All(&prevouts), TapSighashType::Default)
                .expect("sighash");
            let message = Message::from_digest(sighash.to_byte_array());
            let signature = self.secp.sign_schnorr_no_aux_rand(&message, &tweaked);
            tx.input[index].witness = Witness::from_slice(&[signature.as_ref()]);
        }
        tx
    }

    /// Spends coins to one output of this purse, with `fee` satoshi.
    pub fn spend(&self, coins: &[Coin], fee: u64) -> Transaction {
        let sum: u64 = coins.iter().map(|c| c.output.value.to_sat()).sum();
        self.sign(self.draft(coins, vec![self.output(sum - fee)]), coins)
    }

    /// The address of a single tapscript under this key, and what is needed to spend it.
    pub fn tapscript(&self, script: &ScriptBuf) -> (Address, TaprootSpendInfo) {
        let tree = TaprootBuilder::new().add_leaf(0, script.clone()).expect("leaf");
        let info = tree
            .finalize(&self.secp, self.key.x_only_public_key().0)
            .expect("tree");
        (Address::p2tr_tweaked(info.output_key(), Network::Regtest), info)
    }

    /// Signs input 0 by a tapscript that ends in a signature check of this key.
    pub fn sign_tapscript(
        &self,
        mut tx: Transaction,
        coin: &Coin,
        script: &ScriptBuf,
        info: &TaprootSpendInfo,
    ) -> Transaction {
        let leaf = TapLeafHash::from_script(script, LeafVersion::TapScript);
        let sighash = SighashCache::new(&tx)
            .taproot_script_spend_signature_hash(
                0,
                &Prevouts::All(&[&coin.output]),
                leaf,
                TapSighashType::Default,
            )
            .expect("sighash");
        let message = Message::from_digest(sighash.to_byte_array());
        let signature = self.secp.sign_schnorr_no_aux_rand(&message, &self.key);
        let control = info
            .control_block(&(script.clone(), LeafVersion::TapScript))
            .expect("control block");
        tx.input[0].witness =
            Witness::from_slice(&[&signature.as_ref()[..], script.as_bytes(), &control.serialize()]);
        tx
    }
}

/// The output `vout` of a transaction as a coin.
pub fn coin_of(tx: &Transaction, vout: u32) -> Coin {
    Coin {
        outpoint: OutPoint::new(tx.compute_txid(), vout),
        output: tx.output[vout as usize].clone(),
    }
}
