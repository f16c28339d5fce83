//! bitcoind's JSON-RPC methods, as far as a node asks for them, with its error codes and words.

use super::node::PlayNode;
use crate::chain::ChainName;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, BlockHash, OutPoint, Transaction, Txid};
use serde_json::{Value, json};
use std::str::FromStr;

/// `RPC_INVALID_ADDRESS_OR_KEY`.
const NOT_FOUND: i64 = -5;
/// `RPC_INVALID_PARAMETER`.
const INVALID_PARAMETER: i64 = -8;
/// `RPC_DESERIALIZATION_ERROR`.
const NOT_DECODED: i64 = -22;
/// `RPC_METHOD_NOT_FOUND`.
const NO_METHOD: i64 = -32601;
/// `RPC_MISC_ERROR`.
const MISC: i64 = -1;

/// Most blocks in one call, so that a call stays short.
const MAX_BLOCKS: u64 = 10_000;
/// The relay fee as bitcoind writes it, coins per 1,000 vB.
const RELAY_FEE: f64 = 0.00001;

type Answer = Result<Value, (i64, String)>;

/// Answers one question or an array of them. The second value says whether the process is to end.
pub(super) fn answer(node: &mut PlayNode, request: &Value) -> (Value, bool) {
    match request {
        Value::Array(all) => {
            let answers: Vec<(Value, bool)> = all.iter().map(|one| answer_one(node, one)).collect();
            let stop = answers.iter().any(|(_, stop)| *stop);
            (answers.into_iter().map(|(a, _)| a).collect(), stop)
        }
        one => answer_one(node, one),
    }
}

fn answer_one(node: &mut PlayNode, request: &Value) -> (Value, bool) {
    let method = request["method"].as_str().unwrap_or_default();
    let id = &request["id"];
    let answer = match carry_out(node, method, &request["params"]) {
        Ok(result) => json!({"result": result, "error": null, "id": id}),
        Err((code, message)) => {
            json!({"result": null, "error": {"code": code, "message": message}, "id": id})
        }
    };
    (answer, method == "stop")
}

fn carry_out(node: &mut PlayNode, method: &str, params: &Value) -> Answer {
    match method {
        "getblockchaininfo" => Ok(chain_info(node)),
        "getblockcount" => Ok(json!(node.height())),
        "getbestblockhash" => Ok(json!(node.blocks.tip().to_string())),
        "getblockhash" => block_hash(node, params),
        "getblock" => block(node, params),
        "getrawmempool" => Ok(node
            .pool
            .in_order()
            .iter()
            .map(|tx| json!(tx.compute_txid().to_string()))
            .collect()),
        "getmempoolinfo" => Ok(mempool_info(node)),
        "getrawtransaction" => raw_transaction(node, params),
        "gettxspendingprevout" => spenders(node, params),
        "gettxout" => output(node, params),
        "estimatesmartfee" => Ok(
            json!({"errors": ["Insufficient data or no feerate found"], "blocks": params[0].as_u64().unwrap_or(0)}),
        ),
        "sendrawtransaction" => {
            let tx = transaction(&params[0])?;
            node.send(tx)
                .map(|txid| json!(txid.to_string()))
                .map_err(|r| (r.code, r.reason))
        }
        "testmempoolaccept" => test_accept(node, params),
        "generatetoaddress" => generate(node, params),
        "invalidateblock" => {
            let hash = parse::<BlockHash>(&params[0], "blockhash")?;
            match node.invalidate(&hash).map_err(internal)? {
                true => Ok(Value::Null),
                false => Err((
                    NOT_FOUND,
                    "Block not found in the best chain, or the first block".into(),
                )),
            }
        }
        "faucet" => faucet(node, params),
        "mine" => mine(node, params),
        "stop" => Ok(json!("Play chain stopping")),
        _ => Err((
            NO_METHOD,
            format!("Method not found: the play chain has no {method}"),
        )),
    }
}

fn chain_info(node: &PlayNode) -> Value {
    let height = node.height();
    json!({
        "chain": ChainName::Play.to_string(),
        "blocks": height,
        "headers": height,
        "bestblockhash": node.blocks.tip().to_string(),
        "mediantime": node.blocks.median_time(height),
        "initialblockdownload": false,
        "pruned": false,
        "warnings": ["play money: worthless"],
    })
}

fn block_hash(node: &PlayNode, params: &Value) -> Answer {
    let height = params[0].as_u64().and_then(|h| u32::try_from(h).ok());
    match height.and_then(|h| node.blocks.hash_at(h)) {
        Some(hash) => Ok(json!(hash.to_string())),
        None => Err((INVALID_PARAMETER, "Block height out of range".into())),
    }
}

fn block(node: &PlayNode, params: &Value) -> Answer {
    let hash = parse::<BlockHash>(&params[0], "blockhash")?;
    let block = node
        .blocks
        .block(&hash)
        .ok_or((NOT_FOUND, "Block not found".to_owned()))?;
    if params[1] == json!(0) {
        return Ok(json!(serialize_hex(block)));
    }
    let height = node.blocks.height_of(&hash);
    let confirmations = height.map_or(-1, |h| i64::from(node.height() - h) + 1);
    Ok(json!({
        "hash": hash.to_string(),
        "height": height,
        "confirmations": confirmations,
        "time": block.header.time,
        "previousblockhash": block.header.prev_blockhash.to_string(),
        "tx": block.txdata.iter().map(|tx| tx.compute_txid().to_string()).collect::<Vec<_>>(),
    }))
}

fn mempool_info(node: &PlayNode) -> Value {
    let (mut size, mut bytes) = (0, 0);
    for (_, entry) in node.pool.entries() {
        size += 1;
        bytes += entry.vsize;
    }
    json!({
        "loaded": true, "size": size, "bytes": bytes,
        "mempoolminfee": RELAY_FEE, "minrelaytxfee": RELAY_FEE, "incrementalrelayfee": RELAY_FEE,
    })
}

fn raw_transaction(node: &PlayNode, params: &Value) -> Answer {
    let txid = parse::<Txid>(&params[0], "txid")?;
    match node.pool.entry(&txid) {
        Some(entry) => Ok(json!(serialize_hex(&entry.tx))),
        None => Err((NOT_FOUND, "No such mempool transaction.".into())),
    }
}

fn spenders(node: &PlayNode, params: &Value) -> Answer {
    let asked = params[0].as_array().ok_or((
        INVALID_PARAMETER,
        "Invalid parameter, outputs are missing".to_owned(),
    ))?;
    let mut answers = Vec::new();
    for output in asked {
        let txid = parse::<Txid>(&output["txid"], "txid")?;
        let vout = number(&output["vout"], "vout")?;
        let mut answer = json!({"txid": txid.to_string(), "vout": vout});
        if let Some(spender) = node.pool.spender(&OutPoint::new(txid, vout)) {
            answer["spendingtxid"] = json!(spender.to_string());
        }
        answers.push(answer);
    }
    Ok(Value::Array(answers))
}

fn output(node: &PlayNode, params: &Value) -> Answer {
    let outpoint = OutPoint::new(parse(&params[0], "txid")?, number(&params[1], "n")?);
    let with_mempool = params[2].as_bool().unwrap_or(true);
    if with_mempool && node.pool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    let waiting = node.pool.entry(&outpoint.txid).filter(|_| with_mempool);
    let waiting = waiting.and_then(|e| e.tx.output.get(outpoint.vout as usize));
    let (output, confirmations, coinbase) = match (waiting, node.blocks.coin(&outpoint)) {
        (Some(output), _) => (output, 0, false),
        (None, Some(coin)) => (&coin.output, node.height() - coin.height + 1, coin.coinbase),
        (None, None) => return Ok(Value::Null),
    };
    Ok(json!({
        "bestblock": node.blocks.tip().to_string(),
        "confirmations": confirmations,
        "value": output.value.to_btc(),
        "scriptPubKey": {"hex": output.script_pubkey.to_hex_string()},
        "coinbase": coinbase,
    }))
}

fn test_accept(node: &PlayNode, params: &Value) -> Answer {
    let [raw] = params[0].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err((
            INVALID_PARAMETER,
            "The play chain judges one transaction at a time".into(),
        ));
    };
    let tx = transaction(raw)?;
    let (txid, wtxid) = (tx.compute_txid().to_string(), tx.compute_wtxid().to_string());
    Ok(json!([match node.judge(&tx) {
        Ok(accepted) => json!({
            "txid": txid, "wtxid": wtxid, "allowed": true, "vsize": accepted.vsize,
            "fees": {"base": accepted.fee.to_btc()},
        }),
        Err(refusal) => {
            // bitcoind's two words for the two cases of unknown inputs, apart from sendrawtransaction's.
            let reason = match refusal.code {
                -25 => "missing-inputs".to_owned(),
                -27 => "txn-already-known".to_owned(),
                // The short reason ends where the details begin.
                _ => refusal
                    .reason
                    .split([',', '('])
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            };
            json!({"txid": txid, "wtxid": wtxid, "allowed": false, "reject-reason": reason, "reject-details": refusal.reason})
        }
    }]))
}

fn generate(node: &mut PlayNode, params: &Value) -> Answer {
    let count = blocks(&params[0])?;
    let payee = address(&params[1])?.script_pubkey();
    let made = node.mine(count, &payee).map_err(internal)?;
    Ok(made.iter().map(|h| json!(h.to_string())).collect())
}

/// `mine BLOCKS`: as `generatetoaddress`, the new coins for the faucet; answers the height.
fn mine(node: &mut PlayNode, params: &Value) -> Answer {
    let count = blocks(&params[0])?;
    let payee = node.faucet_address().script_pubkey();
    node.mine(count, &payee).map_err(internal)?;
    Ok(json!(node.height()))
}

fn blocks(value: &Value) -> Result<u32, (i64, String)> {
    let count = value.as_u64().filter(|c| *c <= MAX_BLOCKS);
    count.and_then(|c| u32::try_from(c).ok()).ok_or((
        INVALID_PARAMETER,
        format!("from 0 to {MAX_BLOCKS} blocks at once"),
    ))
}

/// `faucet ADDRESS AMOUNT_IN_SAT`: play coins, unconfirmed.
fn faucet(node: &mut PlayNode, params: &Value) -> Answer {
    let payee = address(&params[0])?;
    let amount = params[1]
        .as_u64()
        .ok_or((INVALID_PARAMETER, "the amount is a number of satoshi".to_owned()))?;
    let outpoint = node
        .draw(&payee, Amount::from_sat(amount))
        .map_err(|e| (MISC, e.to_string()))?;
    Ok(json!({"txid": outpoint.txid.to_string(), "vout": outpoint.vout}))
}

fn address(value: &Value) -> Result<Address, (i64, String)> {
    let parsed = value.as_str().and_then(|a| Address::from_str(a).ok());
    let parsed = parsed.and_then(|a| a.require_network(ChainName::Play.network()).ok());
    parsed.ok_or((
        NOT_FOUND,
        "Error: Invalid address; the play chain's begin with bcrt1".to_owned(),
    ))
}

fn transaction(value: &Value) -> Result<Transaction, (i64, String)> {
    let tx = value.as_str().and_then(|h| deserialize_hex(h).ok());
    tx.ok_or((
        NOT_DECODED,
        "TX decode failed. Make sure the tx has at least one input.".to_owned(),
    ))
}

fn parse<T: FromStr>(value: &Value, name: &str) -> Result<T, (i64, String)> {
    let parsed = value.as_str().and_then(|s| s.parse().ok());
    parsed.ok_or_else(|| (INVALID_PARAMETER, format!("{name} must be 64 hexadecimal digits")))
}

fn number(value: &Value, name: &str) -> Result<u32, (i64, String)> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.ok_or_else(|| (INVALID_PARAMETER, format!("{name} must be a number")))
}

fn internal(e: std::io::Error) -> (i64, String) {
    (MISC, format!("cannot write the play chain down: {e}"))
}
