//! The rules that make a transaction valid: what every Bitcoin node checks. Scripts are checked by Bitcoin Core's
//! own code; the rest follows `consensus/tx_check.cpp` and `consensus/tx_verify.cpp` of Bitcoin Core 29, whose words
//! for a refusal are used.

use super::blocks::{Blocks, Coin};
use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, Sequence, Transaction, Weight};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT};
use std::collections::HashSet;

/// Blocks until new money can be spent.
const COINBASE_MATURITY: u32 = 100;
/// Lock times below are heights, others seconds.
const LOCKTIME_THRESHOLD: u32 = 500_000_000;
/// Bit 31 of a sequence: no relative lock (BIP68).
const SEQUENCE_DISABLE: u32 = 1 << 31;
/// Bit 22 of a sequence: the lock counts 512-second units (BIP68).
const SEQUENCE_TIME: u32 = 1 << 22;
/// The bits of a sequence that count (BIP68).
const SEQUENCE_MASK: u32 = 0xffff;

/// Why a transaction is refused, in bitcoind's words and with its JSON-RPC error code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// `-25` unknown or spent inputs, `-26` a rule, `-27` confirmed already.
    pub code: i64,
    /// Such as `dust` or `min relay fee not met, 1 < 110`.
    pub reason: String,
}

impl Refusal {
    pub(super) fn rule(reason: impl Into<String>) -> Self {
        Refusal {
            code: -26,
            reason: reason.into(),
        }
    }
}

/// What holds for a transaction by itself.
pub(super) fn check_alone(tx: &Transaction) -> Result<(), Refusal> {
    let fail = |reason: &str| Err(Refusal::rule(reason));
    if tx.input.is_empty() {
        return fail("bad-txns-vin-empty");
    }
    if tx.output.is_empty() {
        return fail("bad-txns-vout-empty");
    }
    if Weight::from_non_witness_data_size(tx.base_size() as u64) > Weight::MAX_BLOCK {
        return fail("bad-txns-oversize");
    }
    let mut total = Amount::ZERO;
    for output in &tx.output {
        if output.value > Amount::MAX_MONEY {
            return fail("bad-txns-vout-toolarge");
        }
        total = match total.checked_add(output.value) {
            Some(sum) if sum <= Amount::MAX_MONEY => sum,
            _ => return fail("bad-txns-txouttotal-toolarge"),
        };
    }
    let mut seen = HashSet::new();
    if !tx.input.iter().all(|i| seen.insert(i.previous_output)) {
        return fail("bad-txns-inputs-duplicate");
    }
    if tx.is_coinbase() {
        return fail("coinbase");
    }
    if tx.input.iter().any(|i| i.previous_output.is_null()) {
        return fail("bad-txns-prevout-null");
    }
    Ok(())
}

/// Whether nLockTime lets the transaction into the next block: N is met from block N + 1 on, and is ignored where all
/// sequences are final.
pub(super) fn check_final(tx: &Transaction, blocks: &Blocks) -> Result<(), Refusal> {
    let lock = tx.lock_time.to_consensus_u32();
    let reached = if lock < LOCKTIME_THRESHOLD {
        lock < blocks.height().saturating_add(1)
    } else {
        lock < blocks.median_time(blocks.height())
    };
    match lock == 0 || reached || tx.input.iter().all(|i| i.sequence == Sequence::MAX) {
        true => Ok(()),
        false => Err(Refusal::rule("non-final")),
    }
}

/// Whether every relative lock is over in the next block (BIP68). `coins` are the inputs' coins, in order.
pub(super) fn check_relative_locks(tx: &Transaction, coins: &[Coin], blocks: &Blocks) -> Result<(), Refusal> {
    // BIP68 reads the version as an unsigned number.
    if (0..2).contains(&tx.version.0) {
        return Ok(());
    }
    let tip = blocks.height();
    let met = tx.input.iter().zip(coins).all(|(input, coin)| {
        let sequence = input.sequence.to_consensus_u32();
        let count = sequence & SEQUENCE_MASK;
        if sequence & SEQUENCE_DISABLE != 0 {
            true
        } else if sequence & SEQUENCE_TIME != 0 {
            let since = u64::from(blocks.median_time(coin.height.saturating_sub(1)));
            since + (u64::from(count) << 9) <= u64::from(blocks.median_time(tip))
        } else {
            u64::from(coin.height) + u64::from(count) <= u64::from(tip) + 1
        }
    });
    if met {
        Ok(())
    } else {
        Err(Refusal::rule("non-BIP68-final"))
    }
}

/// Checks maturity and sums, and returns the fee.
pub(super) fn check_values(tx: &Transaction, coins: &[Coin], blocks: &Blocks) -> Result<Amount, Refusal> {
    let next = blocks.height() + 1;
    if coins
        .iter()
        .any(|c| c.coinbase && next.saturating_sub(c.height) < COINBASE_MATURITY)
    {
        return Err(Refusal::rule("bad-txns-premature-spend-of-coinbase"));
    }
    let sum = |mut values: Box<dyn Iterator<Item = Amount> + '_>| {
        values
            .try_fold(Amount::ZERO, |a, v| a.checked_add(v))
            .filter(|s| *s <= Amount::MAX_MONEY)
    };
    let inputs = sum(Box::new(coins.iter().map(|c| c.output.value)));
    let outputs = sum(Box::new(tx.output.iter().map(|o| o.value)));
    match (inputs, outputs) {
        (Some(inputs), Some(outputs)) => inputs
            .checked_sub(outputs)
            .ok_or_else(|| Refusal::rule("bad-txns-in-belowout")),
        _ => Err(Refusal::rule("bad-txns-inputvalues-outofrange")),
    }
}

/// Runs every input's script in Bitcoin Core's verifier, taproot included.
pub(super) fn check_scripts(tx: &Transaction, coins: &[Coin]) -> Result<(), Refusal> {
    let raw = serialize(tx);
    let spent: Vec<Utxo> = coins
        .iter()
        .map(|c| Utxo {
            script_pubkey: c.output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: c.output.script_pubkey.len() as u32,
            value: c.output.value.to_sat() as i64,
        })
        .collect();
    for (index, coin) in coins.iter().enumerate() {
        let script = coin.output.script_pubkey.as_bytes();
        let value = coin.output.value.to_sat();
        let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
        bitcoinconsensus::verify_with_flags(script, value, &raw, Some(&spent), index, flags).map_err(
            |_| {
                Refusal::rule(format!(
                    "mandatory-script-verify-flag-failed (script of input {index} is not satisfied)"
                ))
            },
        )?;
    }
    Ok(())
}
