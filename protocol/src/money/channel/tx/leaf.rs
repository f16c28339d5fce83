//! Leaf scripts of a simplex, built without a heap.

use crate::base::BlockHeight;
use bitcoin::Script;
use bitcoin::key::{Secp256k1, TapTweak, Verification, XOnlyPublicKey};
use bitcoin::secp256k1::Parity;
use bitcoin::taproot::{LeafVersion, TapLeafHash, TapNodeHash};
use core::fmt;

/// Internal key of every output of a simplex: the point of BIP341 whose discrete logarithm nobody knows
/// ("Constructing and spending Taproot outputs", H = lift_x(0x50929b74…)), so the key path is closed.
pub const UNSPENDABLE_KEY: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e, 0x07,
    0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// Longest leaf: two pushed keys and their two opcodes.
const MAX_LEAF: usize = 68;

const OP_1: u8 = 0x51;
const OP_DROP: u8 = 0x75;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKSIGVERIFY: u8 = 0xad;
const OP_CLTV: u8 = 0xb1;
const OP_CSV: u8 = 0xb2;
const PUSH_32: u8 = 0x20;

/// First byte of a control block without the parity bit: leaf version 0xc0 (BIP342).
const TAPSCRIPT: u8 = 0xc0;

/// A tapscript leaf, at most 68 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LeafScript {
    bytes: [u8; MAX_LEAF],
    len: usize,
}

impl LeafScript {
    /// `<payer> CHECKSIGVERIFY <payee> CHECKSIG`: both together, at any time.
    pub(super) fn both(payer: &[u8; 32], payee: &[u8; 32]) -> Self {
        Self::join(&[
            &[PUSH_32],
            payer,
            &[OP_CHECKSIGVERIFY, PUSH_32],
            payee,
            &[OP_CHECKSIG],
        ])
    }

    /// `<expiry> CLTV DROP <payer> CHECKSIG`: the payer alone from the expiry height on.
    pub(super) fn refund(payer: &[u8; 32], expiry: BlockHeight) -> Self {
        let (push, len) = push_height(expiry);
        let push = push.get(..len).unwrap_or(&push);
        Self::join(&[push, &[OP_CLTV, OP_DROP, PUSH_32], payer, &[OP_CHECKSIG]])
    }

    /// `1 CSV DROP <payer> CHECKSIG`: the payer alone, from the block after the settlement's (money.md rule 6).
    pub(super) fn remainder(payer: &[u8; 32]) -> Self {
        Self::join(&[&[OP_1, OP_CSV, OP_DROP, PUSH_32], payer, &[OP_CHECKSIG]])
    }

    fn join(parts: &[&[u8]]) -> Self {
        let mut leaf = LeafScript {
            bytes: [0; MAX_LEAF],
            len: 0,
        };
        for (slot, byte) in leaf.bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *slot = *byte;
            leaf.len += 1;
        }
        leaf
    }

    /// The script's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    /// BIP341 hash of this leaf.
    pub fn hash(&self) -> TapLeafHash {
        TapLeafHash::from_script(Script::from_bytes(self.as_bytes()), LeafVersion::TapScript)
    }
}

impl fmt::Debug for LeafScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeafScript({})", Script::from_bytes(self.as_bytes()))
    }
}

/// A taproot output under the unspendable key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TreeOutput {
    pub(super) output_key: [u8; 32],
    pub(super) script_pubkey: [u8; 34],
    /// First byte of its control blocks: leaf version and parity of the output key.
    control: u8,
}

impl TreeOutput {
    /// The output whose script tree has this root; `None` only if BIP341's point could not be tweaked, which no
    /// known root does.
    pub(super) fn new(secp: &Secp256k1<impl Verification>, root: TapNodeHash) -> Option<Self> {
        let internal = XOnlyPublicKey::from_slice(&UNSPENDABLE_KEY).ok()?;
        let (tweaked, parity) = internal.tap_tweak(secp, Some(root));
        let output_key = tweaked.to_x_only_public_key().serialize();
        let mut script_pubkey = [0; 34];
        let program = [OP_1, PUSH_32].iter().chain(&output_key);
        for (slot, byte) in script_pubkey.iter_mut().zip(program) {
            *slot = *byte;
        }
        Some(TreeOutput {
            output_key,
            script_pubkey,
            control: TAPSCRIPT | u8::from(parity == Parity::Odd),
        })
    }

    /// Control block of a tree that is one leaf.
    pub(super) fn control_alone(&self) -> [u8; 33] {
        let mut block = [0; 33];
        for (slot, byte) in block
            .iter_mut()
            .zip([self.control].iter().chain(&UNSPENDABLE_KEY))
        {
            *slot = *byte;
        }
        block
    }

    /// Control block of a leaf beside `sibling`.
    pub(super) fn control_beside(&self, sibling: &TapLeafHash) -> [u8; 65] {
        let mut block = [0; 65];
        let path: &[u8; 32] = sibling.as_ref();
        for (slot, byte) in block.iter_mut().zip(self.control_alone().iter().chain(path)) {
            *slot = *byte;
        }
        block
    }
}

/// The minimal push of a height (BIP62 numbers: little-endian, the top bit is the sign; 1 to 16 have opcodes).
fn push_height(height: BlockHeight) -> ([u8; 5], usize) {
    let n = height.value();
    let [a, b, c, d] = n.to_le_bytes();
    match n {
        0 => ([0; 5], 1),
        1..=16 => ([OP_1 + a - 1, 0, 0, 0, 0], 1),
        17..=0x7f => ([1, a, 0, 0, 0], 2),
        0x80..=0x7fff => ([2, a, b, 0, 0], 3),
        0x8000..=0x7f_ffff => ([3, a, b, c, 0], 4),
        _ => ([4, a, b, c, d], 5),
    }
}
