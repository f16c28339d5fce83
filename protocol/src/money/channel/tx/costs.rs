//! What the transactions of a simplex weigh and cost, for planning and for what is shown before funding
//! (money.md rule 4). Weights are exact for taproot payouts and are compared with real transactions in the tests.

use super::terms::Terms;
use crate::base::{BlockHeight, FeeRate, Sat, limits};

/// Version, nLockTime, the counts of inputs and outputs, segwit marker and flag, weight units.
pub const OVERHEAD_WU: u64 = 42;
/// An input without its witness: outpoint, empty script, sequence. Weight units.
pub const INPUT_WU: u64 = 164;
/// A taproot output, weight units.
pub const P2TR_OUTPUT_WU: u64 = 172;
/// Witness of a taproot key-path spend, weight units: count, length, signature.
pub const KEY_SPEND_WITNESS_WU: u64 = 66;
/// Witness of leaf A: count; payee's signature; payer's signature with its hash type; script; control block.
pub const CLAIM_WITNESS_WU: u64 = 1 + 65 + 66 + 69 + 66;

/// What a channel adds to a settlement if its payer keeps nothing (NONE form), weight units.
pub const NONE_CLAIM_WU: u64 = INPUT_WU + CLAIM_WITNESS_WU;
/// What a channel adds to a settlement if its payer keeps a remainder (SINGLE form), weight units.
pub const SINGLE_CLAIM_WU: u64 = NONE_CLAIM_WU + P2TR_OUTPUT_WU;

/// Largest weight of a version-3 transaction that policy relays: 10,000 vB (BIP431).
pub const MAX_SETTLEMENT_WU: u64 = 40_000;

/// Funding from one taproot coin, with recovery data of one payer and change, virtual bytes.
pub const OPENING_VB: u64 = 205;
/// Each further taproot coin that the funding spends, virtual bytes.
pub const OPENING_INPUT_VB: u64 = 58;
/// Settling one channel with a remainder, virtual bytes.
pub const SETTLEMENT_VB: u64 = 205;
/// The refund at the expiry to a taproot output, virtual bytes (expiry from 32,768 on).
pub const REFUND_VB: u64 = 138;
/// Spending the remainder to a taproot output, virtual bytes.
pub const REMAINDER_SPEND_VB: u64 = 129;

/// Virtual bytes of a settlement of this many channels into one taproot output, without wallet inputs.
pub const fn settlement_vbytes(single: u64, none: u64) -> u64 {
    let weight = OVERHEAD_WU
        .saturating_add(P2TR_OUTPUT_WU)
        .saturating_add(single.saturating_mul(SINGLE_CLAIM_WU))
        .saturating_add(none.saturating_mul(NONE_CLAIM_WU));
    weight.div_ceil(4)
}

/// What opening a channel locks and costs its payer at worst, at today's fee rate (money.md rule 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorstCase {
    /// Satoshi that a silent payee keeps locked: the whole capacity.
    pub locked: Sat,
    /// The height until which they are locked.
    pub until: BlockHeight,
    /// Fee of the funding transaction.
    pub opening_fee: Sat,
    /// Fee of taking the capacity back at the expiry, if the payee never settles.
    pub refund_fee: Sat,
    /// Fee of spending the remainder, if the payee settles.
    pub remainder_fee: Sat,
    /// What is left to the payee because it is too small for an output.
    pub dust: Sat,
}

impl WorstCase {
    /// The worst case of these terms, with what the funding transaction costs and one `rate` for the rest; `None` if a
    /// fee is beyond all money. Fees may have risen by the expiry: say so beside it.
    pub fn new(terms: &Terms, opening_fee: Sat, rate: FeeRate) -> Option<WorstCase> {
        Some(WorstCase {
            locked: terms.capacity,
            until: terms.expiry,
            opening_fee,
            refund_fee: rate.fee(REFUND_VB)?,
            remainder_fee: rate.fee(REMAINDER_SPEND_VB)?,
            dust: Sat::new(limits::DUST_P2TR_SAT - 1),
        })
    }

    /// The most that the channel can cost its payer beyond what it pays for service: opening, the dearer of the
    /// two ways out, and dust. `None` if the sum does not fit.
    pub fn overhead(&self) -> Option<Sat> {
        let out = self.refund_fee.max(self.remainder_fee.checked_add(self.dust)?);
        self.opening_fee.checked_add(out)
    }
}
