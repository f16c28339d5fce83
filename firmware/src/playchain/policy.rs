//! The rules that make a transaction worth relaying: Bitcoin Core 29's defaults as far as channels rely on them, with
//! its words for a refusal (`policy/policy.cpp`, `policy/truc_policy.cpp`, `policy/rbf.cpp`).

use super::blocks::Coin;
use super::consensus::Refusal;
use super::mempool::Mempool;
use bitcoin::policy::MAX_STANDARD_TX_WEIGHT;
use bitcoin::{Amount, Script, Transaction, Txid, Weight, Witness};
use std::collections::BTreeSet;

/// Longest signature script, bytes (15-of-15 P2SH multisig).
const MAX_SCRIPT_SIG: usize = 1_650;
/// Longest OP_RETURN output script, bytes.
const MAX_OP_RETURN: usize = 83;
/// Smallest transaction without witness, bytes (CVE-2017-12842).
const MIN_BASE_SIZE: usize = 65;
/// Longest tapscript stack item, bytes.
const MAX_TAPSCRIPT_ITEM: usize = 80;
/// Fee for 1,000 vB below which nothing is relayed, and which a replacement pays for its own size on top.
const RELAY_FEE_PER_KVB: u64 = 1_000;
/// Most unconfirmed transactions in a chain, the new one included.
const MAX_CHAIN: usize = 25;
/// Most transactions that one replacement may throw out.
const MAX_REPLACED: usize = 100;
/// Largest version-3 transaction, vB (BIP431).
const TRUC_MAX: u64 = 10_000;
/// Largest version-3 transaction with an unconfirmed parent, vB (BIP431).
const TRUC_CHILD_MAX: u64 = 1_000;
/// The version with tight topology rules (BIP431).
const TRUC: i32 = 3;

/// What holds for a transaction by itself.
pub(super) fn check_standard(tx: &Transaction) -> Result<(), Refusal> {
    let fail = |reason: &str| Err(Refusal::rule(reason));
    if !(1..=TRUC).contains(&tx.version.0) {
        return fail("version");
    }
    if tx.weight() > Weight::from_wu(u64::from(MAX_STANDARD_TX_WEIGHT)) {
        return fail("tx-size");
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_SCRIPT_SIG {
            return fail("scriptsig-size");
        }
        if !input.script_sig.is_push_only() {
            return fail("scriptsig-not-pushonly");
        }
    }
    let mut data_outputs = 0;
    for output in &tx.output {
        if !is_standard(&output.script_pubkey) {
            return fail("scriptpubkey");
        }
        if output.script_pubkey.is_op_return() {
            data_outputs += 1;
        } else if output.value < output.script_pubkey.minimal_non_dust() {
            return fail("dust");
        }
    }
    if data_outputs > 1 {
        return fail("multi-op-return");
    }
    if tx.base_size() < MIN_BASE_SIZE {
        return fail("tx-size-small");
    }
    Ok(())
}

/// What holds for the coins that it spends and the witnesses that it brings.
pub(super) fn check_inputs(tx: &Transaction, coins: &[Coin]) -> Result<(), Refusal> {
    for (input, coin) in tx.input.iter().zip(coins) {
        let script = &coin.output.script_pubkey;
        if !is_standard(script) || is_future_witness(script) {
            return Err(Refusal::rule("bad-txns-nonstandard-inputs"));
        }
        if script.is_p2tr() && !is_standard_taproot(&input.witness) {
            return Err(Refusal::rule("bad-witness-nonstandard"));
        }
    }
    Ok(())
}

/// Whether the fee is enough to be relayed at all.
pub(super) fn check_fee(fee: Amount, vsize: u64) -> Result<(), Refusal> {
    let needed = relay_fee(vsize);
    match fee >= needed {
        true => Ok(()),
        false => Err(Refusal::rule(format!(
            "min relay fee not met, {} < {}",
            fee.to_sat(),
            needed.to_sat()
        ))),
    }
}

/// Chains of unconfirmed transactions: 25 of them, or parent and child with version 3 (BIP431). A version-3 child may
/// take its sibling's place, which is then returned.
pub(super) fn check_chain(
    tx: &Transaction,
    vsize: u64,
    pool: &Mempool,
    replaced: &BTreeSet<Txid>,
) -> Result<Option<Txid>, Refusal> {
    let parents = pool.parents(tx);
    let ancestors = pool.ancestors(tx);
    let truc = |what: String| Refusal::rule(format!("TRUC-violation, {what}"));
    if tx.version.0 == TRUC && vsize > TRUC_MAX {
        return Err(truc(format!(
            "version=3 tx is too big: {vsize} > {TRUC_MAX} virtual bytes"
        )));
    }
    for parent in parents.iter().filter_map(|p| pool.entry(p)) {
        if (parent.tx.version.0 == TRUC) != (tx.version.0 == TRUC) {
            return Err(truc(
                "version 3 and other versions cannot spend each other unconfirmed".into(),
            ));
        }
    }
    let mut sibling = None;
    if tx.version.0 == TRUC && !ancestors.is_empty() {
        if ancestors.len() > 1 {
            return Err(truc("tx would have too many ancestors".into()));
        }
        if vsize > TRUC_CHILD_MAX {
            return Err(truc(format!(
                "version=3 child tx is too big: {vsize} > {TRUC_CHILD_MAX} virtual bytes"
            )));
        }
        let siblings = ancestors.iter().flat_map(|a| pool.descendants(a));
        let mut siblings = siblings.filter(|s| !ancestors.contains(s) && !replaced.contains(s));
        sibling = siblings.next();
        if siblings.next().is_some() {
            return Err(truc("tx would exceed descendant count limit".into()));
        }
    }
    let too_long = ancestors.len() + 1 > MAX_CHAIN
        || ancestors.iter().any(|a| {
            let kept = pool
                .descendants(a)
                .into_iter()
                .filter(|d| !replaced.contains(d))
                .count();
            kept + 1 > MAX_CHAIN
        });
    match too_long {
        true => Err(Refusal::rule("too-long-mempool-chain")),
        false => Ok(sibling),
    }
}

/// Whether it may take the place of what it conflicts with (BIP125, whether or not that signalled). `all` are the
/// conflicting transactions and everything that spends them.
pub(super) fn check_replacement(
    tx: &Transaction,
    fee: Amount,
    vsize: u64,
    direct: &BTreeSet<Txid>,
    all: &BTreeSet<Txid>,
    pool: &Mempool,
) -> Result<(), Refusal> {
    if direct.is_empty() {
        return Ok(());
    }
    let txid = tx.compute_txid();
    if pool.ancestors(tx).iter().any(|a| direct.contains(a)) {
        return Err(Refusal::rule(format!(
            "bad-txns-spends-conflicting-tx, {txid} spends conflicting transaction"
        )));
    }
    let refuse = |why: String| {
        Err(Refusal::rule(format!(
            "insufficient fee, rejecting replacement {txid}{why}"
        )))
    };
    for entry in direct.iter().filter_map(|d| pool.entry(d)) {
        // Fee rates are compared by cross products, so that nothing is rounded.
        let new = u128::from(fee.to_sat()) * u128::from(entry.vsize);
        let old = u128::from(entry.fee.to_sat()) * u128::from(vsize);
        if new <= old {
            return refuse("; new feerate is not higher than the old one".into());
        }
    }
    if all.len() > MAX_REPLACED {
        return Err(Refusal::rule("too many potential replacements"));
    }
    let spent: BTreeSet<Txid> = pool.parents(tx);
    let spent_before: BTreeSet<Txid> = direct
        .iter()
        .filter_map(|d| pool.entry(d))
        .flat_map(|e| pool.parents(&e.tx))
        .collect();
    if spent.iter().any(|p| !spent_before.contains(p)) {
        return Err(Refusal::rule("replacement-adds-unconfirmed"));
    }
    let old: u64 = all
        .iter()
        .filter_map(|a| pool.entry(a))
        .map(|e| e.fee.to_sat())
        .sum();
    let fee = fee.to_sat();
    if fee < old {
        return refuse(format!(", less fees than conflicting txs; {fee} < {old}"));
    }
    let needed = relay_fee(vsize).to_sat();
    if fee - old < needed {
        return refuse(format!(
            ", not enough additional fees to relay; {} < {needed}",
            fee - old
        ));
    }
    Ok(())
}

fn relay_fee(vsize: u64) -> Amount {
    Amount::from_sat((vsize * RELAY_FEE_PER_KVB).div_ceil(1_000))
}

/// Output scripts that are relayed. Bare multisig is standard up to three keys.
fn is_standard(script: &Script) -> bool {
    if script.is_op_return() {
        let rest = script.as_bytes().get(1..).map(Script::from_bytes);
        return script.len() <= MAX_OP_RETURN && rest.is_some_and(Script::is_push_only);
    }
    script.is_p2pk()
        || script.is_p2pkh()
        || script.is_p2sh()
        || script.is_witness_program()
        || (script.is_multisig() && script.count_sigops_legacy() <= 60 && keys_of_multisig(script) <= 3)
}

fn keys_of_multisig(script: &Script) -> usize {
    script
        .instructions()
        .filter(|i| matches!(i, Ok(bitcoin::script::Instruction::PushBytes(_))))
        .count()
}

/// Witness versions whose meaning is not fixed yet: fine to pay to, not to spend. `OP_1 <4e73>` is the anchor.
fn is_future_witness(script: &Script) -> bool {
    let known = script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr();
    let anchor = script.as_bytes() == [0x51, 0x02, 0x4e, 0x73];
    script.is_witness_program() && !known && !anchor
}

/// No annex, and no tapscript stack item over 80 bytes.
fn is_standard_taproot(witness: &Witness) -> bool {
    if witness.taproot_annex().is_some() {
        return false;
    }
    if witness.len() < 2 {
        return true;
    }
    let control = witness.last().unwrap_or_default();
    let tapscript = control.first().is_some_and(|b| b & 0xfe == 0xc0);
    !tapscript
        || witness
            .iter()
            .take(witness.len() - 2)
            .all(|item| item.len() <= MAX_TAPSCRIPT_ITEM)
}
