//! The back end that speaks bitcoind's JSON-RPC: Bitcoin Core or Knots from version 24 on, or the play chain.

use super::backend::{Backend, BackendError, Fault, FeeEstimate, MAX_BATCH, Tip, UnspentOutput, Verdict};
use super::http::Endpoint;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid, base64};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use turnpike_protocol::base::FeeRate;
use turnpike_protocol::base::limits::LOOK_GAP;

/// Longest answer, bytes: a full block in hex is 8 MB, the ids of a full mempool about 15 MB.
const MAX_ANSWER: usize = 20 * 1024 * 1024;

/// Default longest wait for an answer. A Pi-class bitcoind needs seconds for a block while it verifies others.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

/// `RPC_INVALID_ADDRESS_OR_KEY`: no such transaction, block or wallet.
const NOT_FOUND: i64 = -5;
/// `RPC_INVALID_PARAMETER`: also a height above the tip.
const INVALID_PARAMETER: i64 = -8;
/// `RPC_MISC_ERROR`: also a block that was pruned.
const MISC: i64 = -1;
/// `RPC_IN_WARMUP`: the node is starting.
const WARMING_UP: i64 = -28;
/// `RPC_VERIFY_ERROR`, `RPC_VERIFY_REJECTED`: the transaction is refused.
const TX_REFUSED: [i64; 2] = [-25, -26];
/// `RPC_VERIFY_ALREADY_IN_UTXO_SET` (formerly `…_IN_CHAIN`).
const TX_CONFIRMED: i64 = -27;

/// How to prove to bitcoind that one may ask.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// bitcoind's cookie file; it is new after every start of bitcoind and read again when refused.
    Cookie(PathBuf),
    /// `rpcuser` and `rpcpassword`, or a line of `rpcauth`.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Cookie(path) => write!(f, "Cookie({})", path.display()),
            Auth::Password { user, .. } => write!(f, "Password({user}, ***)"),
        }
    }
}

/// A bitcoind reached by JSON-RPC over HTTP.
pub struct Bitcoind {
    url: String,
    endpoint: Endpoint,
    auth: Auth,
    patience: Duration,
    /// The last cookie that was read, as an `Authorization` value.
    token: Mutex<Option<String>>,
}

impl Bitcoind {
    /// A client for the node at `url` (`http://HOST:PORT`). Nothing is sent yet.
    ///
    /// # Errors
    /// [`Fault::Address`] if the address cannot be used.
    pub fn new(url: &str, auth: Auth, patience: Duration) -> Result<Self, BackendError> {
        let endpoint = Endpoint::parse(url).map_err(|fault| BackendError {
            url: url.to_owned(),
            method: "configuration",
            fault,
        })?;
        Ok(Bitcoind {
            url: url.to_owned(),
            endpoint,
            auth,
            patience,
            token: Mutex::new(None),
        })
    }

    /// Asks one question that is not part of [`Backend`], such as the play chain's `faucet`.
    ///
    /// # Errors
    /// As all of [`Backend`]'s methods.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, BackendError> {
        let question = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        self.exchange(&question)
            .await
            .and_then(result_of)
            .map_err(|fault| self.error(method, fault))
    }

    /// Asks many questions at once; each has its own answer.
    async fn batch(
        &self,
        method: &'static str,
        params: impl Iterator<Item = Value>,
    ) -> Result<Vec<Result<Value, Fault>>, BackendError> {
        let questions: Vec<Value> = params
            .enumerate()
            .map(|(id, params)| json!({"jsonrpc": "1.0", "id": id, "method": method, "params": params}))
            .collect();
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self
            .exchange(&Value::Array(questions.clone()))
            .await
            .map_err(|f| self.error(method, f))?;
        match answers {
            Value::Array(mut answers) if answers.len() == questions.len() => {
                answers.sort_by_key(|a| a["id"].as_u64());
                Ok(answers.into_iter().map(result_of).collect())
            }
            // A node that is starting answers a batch with one error.
            other => {
                let fault = result_of(other).err();
                Err(self.error(
                    method,
                    fault.unwrap_or_else(|| garbled("not one answer for each question")),
                ))
            }
        }
    }

    async fn exchange(&self, question: &Value) -> Result<Value, Fault> {
        let (status, body) = self.post(question.to_string()).await?;
        serde_json::from_slice(&body).map_err(|_| Fault::Garbled(format!("HTTP status {status} and no JSON")))
    }

    /// POSTs a question or an array of them, with a fresh cookie if the one at hand is refused.
    async fn post(&self, body: String) -> Result<(u16, Vec<u8>), Fault> {
        let mut fresh = false;
        loop {
            let known = self.token.lock().map(|t| t.clone()).unwrap_or_default();
            let token = match known {
                Some(token) => token,
                None => {
                    fresh = true;
                    self.read_token()?
                }
            };
            let answer = self
                .endpoint
                .post(&token, body.as_bytes(), MAX_ANSWER, self.patience)
                .await?;
            match answer.status {
                401 | 403 if fresh => return Err(Fault::Unauthorised),
                401 | 403 => self.forget_token(),
                503 => {
                    return Err(Fault::NotReady(
                        "too many questions at once (work queue full)".into(),
                    ));
                }
                status => return Ok((status, answer.body)),
            }
        }
    }

    fn read_token(&self) -> Result<String, Fault> {
        use base64::Engine;
        let plain = match &self.auth {
            Auth::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|why| Fault::Cookie {
                    path: path.clone(),
                    why,
                })?
                .trim()
                .to_owned(),
            Auth::Password { user, password } => format!("{user}:{password}"),
        };
        let token = base64::engine::general_purpose::STANDARD.encode(plain);
        if let Ok(mut slot) = self.token.lock() {
            *slot = Some(token.clone());
        }
        Ok(token)
    }

    fn forget_token(&self) {
        if let Ok(mut slot) = self.token.lock() {
            *slot = None;
        }
    }

    fn error(&self, method: &'static str, fault: Fault) -> BackendError {
        BackendError {
            url: self.url.clone(),
            method,
            fault,
        }
    }
}

impl Backend for Bitcoind {
    async fn tip(&self) -> Result<Tip, BackendError> {
        const METHOD: &str = "getblockchaininfo";
        let info = self.call(METHOD, json!([])).await?;
        let height = info["blocks"].as_u64().and_then(|h| u32::try_from(h).ok());
        let hash = info["bestblockhash"].as_str().and_then(|h| h.parse().ok());
        let behind = info["headers"]
            .as_u64()
            .unwrap_or(0)
            .saturating_sub(info["blocks"].as_u64().unwrap_or(0));
        if behind > u64::from(LOOK_GAP) {
            let why = format!("it has still {behind} blocks to verify");
            return Err(self.error(METHOD, Fault::NotReady(why)));
        }
        match (height, hash) {
            (Some(height), Some(hash)) => Ok(Tip { height, hash }),
            _ => Err(self.error(METHOD, garbled("no blocks or no bestblockhash"))),
        }
    }

    async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, BackendError> {
        const METHOD: &str = "getblockhash";
        match self.call(METHOD, json!([height])).await {
            Ok(hash) => text(&hash).map(Some).map_err(|f| self.error(METHOD, f)),
            Err(BackendError {
                fault:
                    Fault::Refused {
                        code: INVALID_PARAMETER,
                        ..
                    },
                ..
            }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn block(&self, hash: BlockHash) -> Result<Block, BackendError> {
        const METHOD: &str = "getblock";
        match self.call(METHOD, json!([hash.to_string(), 0])).await {
            Ok(raw) => {
                let block: Block = hex(&raw).map_err(|f| self.error(METHOD, f))?;
                match block.block_hash() == hash && block.check_merkle_root() {
                    true => Ok(block),
                    false => Err(self.error(METHOD, garbled("a different block than was asked for"))),
                }
            }
            Err(BackendError {
                fault: Fault::Refused { code: MISC, message },
                ..
            }) => Err(self.error(METHOD, Fault::Pruned(message))),
            Err(e) => Err(e),
        }
    }

    async fn mempool(&self) -> Result<Vec<Txid>, BackendError> {
        const METHOD: &str = "getrawmempool";
        let question = json!({"jsonrpc": "1.0", "id": 0, "method": METHOD, "params": []});
        let read = async {
            let (_, body) = self.post(question.to_string()).await?;
            // The longest answer there is: read without a tree of values in between.
            match serde_json::from_slice::<Listing>(&body) {
                Ok(Listing { result: Some(ids) }) => Ok(ids),
                _ => {
                    let answer = serde_json::from_slice(&body).map_err(|_| garbled("not a list of ids"))?;
                    Err(result_of(answer)
                        .err()
                        .unwrap_or_else(|| garbled("not a list of ids")))
                }
            }
        };
        read.await.map_err(|f| self.error(METHOD, f))
    }

    async fn mempool_transactions(&self, txids: &[Txid]) -> Result<Vec<Transaction>, BackendError> {
        const METHOD: &str = "getrawtransaction";
        let mut found = Vec::with_capacity(txids.len());
        for chunk in txids.chunks(MAX_BATCH) {
            let answers = self
                .batch(METHOD, chunk.iter().map(|id| json!([id.to_string()])))
                .await?;
            for (txid, answer) in chunk.iter().zip(answers) {
                match answer {
                    Ok(raw) => {
                        let tx: Transaction = hex(&raw).map_err(|f| self.error(METHOD, f))?;
                        if tx.compute_txid() == *txid {
                            found.push(tx);
                        }
                    }
                    Err(Fault::Refused { code: NOT_FOUND, .. }) => {}
                    Err(fault) => return Err(self.error(METHOD, fault)),
                }
            }
        }
        Ok(found)
    }

    async fn mempool_spenders(&self, outputs: &[OutPoint]) -> Result<Vec<Option<Txid>>, BackendError> {
        const METHOD: &str = "gettxspendingprevout";
        let mut spenders = Vec::with_capacity(outputs.len());
        for chunk in outputs.chunks(MAX_BATCH) {
            let asked: Vec<Value> = chunk
                .iter()
                .map(|o| json!({"txid": o.txid.to_string(), "vout": o.vout}))
                .collect();
            let answers = self.call(METHOD, json!([asked])).await?;
            let answers = answers.as_array().filter(|a| a.len() == chunk.len());
            let answers =
                answers.ok_or_else(|| self.error(METHOD, garbled("not one answer for each output")))?;
            for answer in answers {
                spenders.push(match &answer["spendingtxid"] {
                    Value::Null => None,
                    id => Some(text(id).map_err(|f| self.error(METHOD, f))?),
                });
            }
        }
        Ok(spenders)
    }

    async fn send(&self, tx: &Transaction) -> Result<Verdict, BackendError> {
        // Fee rate limit 0 means none: what a transaction may cost was decided before it was signed.
        match self
            .call("sendrawtransaction", json!([serialize_hex(tx), 0]))
            .await
        {
            Ok(_) => Ok(Verdict::Accepted),
            Err(BackendError {
                fault: Fault::Refused { code, message },
                ..
            }) if TX_REFUSED.contains(&code) => Ok(Verdict::Refused { reason: message }),
            Err(BackendError {
                fault: Fault::Refused {
                    code: TX_CONFIRMED, ..
                },
                ..
            }) => Ok(Verdict::Confirmed),
            Err(e) => Err(e),
        }
    }

    async fn fee(&self, blocks: u16) -> Result<FeeEstimate, BackendError> {
        let estimate = self.call("estimatesmartfee", json!([blocks])).await?;
        let rate = match &estimate["feerate"] {
            Value::Null => None,
            rate => Some(fee_rate(rate).map_err(|f| self.error("estimatesmartfee", f))?),
        };
        let info = self.call("getmempoolinfo", json!([])).await?;
        let floor = fee_rate(&info["mempoolminfee"]).map_err(|f| self.error("getmempoolinfo", f))?;
        Ok(FeeEstimate { rate, floor })
    }

    async fn output(&self, output: OutPoint) -> Result<Option<UnspentOutput>, BackendError> {
        const METHOD: &str = "gettxout";
        let found = self
            .call(METHOD, json!([output.txid.to_string(), output.vout, true]))
            .await?;
        if found.is_null() {
            return Ok(None);
        }
        let read = || {
            let value = amount(&found["value"])?;
            let script = found["scriptPubKey"]["hex"]
                .as_str()
                .and_then(|h| ScriptBuf::from_hex(h).ok());
            let confirmations = found["confirmations"]
                .as_u64()
                .and_then(|c| u32::try_from(c).ok());
            match (script, confirmations) {
                (Some(script), Some(confirmations)) => Ok(UnspentOutput {
                    value,
                    script,
                    confirmations,
                }),
                _ => Err(garbled("no script or no confirmations")),
            }
        };
        read().map(Some).map_err(|f| self.error(METHOD, f))
    }
}

/// An answer to `getrawmempool`.
#[derive(Deserialize)]
struct Listing {
    result: Option<Vec<Txid>>,
}

/// The `result` of one answer, or its `error` as a fault.
fn result_of(mut answer: Value) -> Result<Value, Fault> {
    let error = &answer["error"];
    if error.is_null() {
        return match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(garbled("neither a result nor an error")),
        };
    }
    let code = error["code"].as_i64().unwrap_or_default();
    let message = error["message"].as_str().unwrap_or("no reason given").to_owned();
    match code {
        WARMING_UP => Err(Fault::NotReady(message)),
        code => Err(Fault::Refused { code, message }),
    }
}

fn garbled(what: &str) -> Fault {
    Fault::Garbled(what.to_owned())
}

fn text<T: std::str::FromStr>(value: &Value) -> Result<T, Fault> {
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| garbled("a hash was expected"))
}

fn hex<T: bitcoin::consensus::Decodable>(value: &Value) -> Result<T, Fault> {
    value
        .as_str()
        .and_then(|s| deserialize_hex(s).ok())
        .ok_or_else(|| garbled("raw bytes in hex were expected"))
}

/// Amounts come as decimal numbers of bitcoin with up to eight places. `from_btc` reads the shortest decimal form of
/// the number, which is what was sent, so that no rounding of binary fractions can creep in.
fn amount(value: &Value) -> Result<Amount, Fault> {
    let number = value.as_f64().ok_or_else(|| garbled("an amount was expected"))?;
    Amount::from_btc(number).map_err(|_| garbled("an amount with at most eight places was expected"))
}

fn fee_rate(value: &Value) -> Result<FeeRate, Fault> {
    amount(value).map(|a| FeeRate::new(a.to_sat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A client of a server that gives `body` to whatever it is asked, once.
    async fn scripted(body: &'static str) -> Bitcoind {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 2048]).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let auth = Auth::Password {
            user: "u".into(),
            password: "p".into(),
        };
        Bitcoind::new(&url, auth, Duration::from_secs(5)).unwrap()
    }

    const HASH: &str = "44054d4c069619e02dc6d08b579b2e85847f40ce3d47ae31c7513e8915bc4a9a";

    #[tokio::test]
    async fn the_height_of_a_node_that_is_behind_is_not_believed() {
        let behind = r#"{"result":{"blocks":10,"headers":17,"bestblockhash":"44054d4c069619e02dc6d08b579b2e85847f40ce3d47ae31c7513e8915bc4a9a"},"error":null,"id":0}"#;
        let error = scripted(behind).await.tip().await.unwrap_err();
        assert!(
            matches!(error.fault, Fault::NotReady(_)) && error.passes(),
            "{error}"
        );
        let near = r#"{"result":{"blocks":10,"headers":16,"bestblockhash":"44054d4c069619e02dc6d08b579b2e85847f40ce3d47ae31c7513e8915bc4a9a"},"error":null,"id":0}"#;
        assert_eq!(
            scripted(near).await.tip().await.unwrap(),
            Tip {
                height: 10,
                hash: HASH.parse().unwrap()
            }
        );
    }

    #[tokio::test]
    async fn a_starting_node_and_a_pruned_block_are_told_apart_from_nonsense() {
        let warming = r#"{"result":null,"error":{"code":-28,"message":"Loading block index"},"id":0}"#;
        let error = scripted(warming).await.mempool().await.unwrap_err();
        assert!(
            matches!(&error.fault, Fault::NotReady(why) if why == "Loading block index"),
            "{error}"
        );
        let error = scripted(warming)
            .await
            .mempool_transactions(&[Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros())])
            .await
            .unwrap_err();
        assert!(matches!(&error.fault, Fault::NotReady(_)), "{error}");
        let pruned =
            r#"{"result":null,"error":{"code":-1,"message":"Block not available (pruned data)"},"id":0}"#;
        let error = scripted(pruned)
            .await
            .block(HASH.parse().unwrap())
            .await
            .unwrap_err();
        assert!(
            matches!(&error.fault, Fault::Pruned(_)) && !error.passes(),
            "{error}"
        );
        let other = r#"{"result":"<html>","error":null,"id":0}"#;
        let error = scripted(other).await.mempool().await.unwrap_err();
        assert!(matches!(&error.fault, Fault::Garbled(_)), "{error}");
    }
}
