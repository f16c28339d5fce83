//! Recovery data: what a funding transaction carries so that seed words alone find and refund a channel
//! (money.md rule 3).

use super::terms::Terms;
use crate::base::{BlockHeight, Outpoint, Sat, limits};
use crate::crypto::tagged_hash;
use alloc::vec::Vec;
use bitcoin::key::{Secp256k1, Verification};
use bitcoin::{Script, ScriptBuf, Transaction};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

/// What a payer needs besides its seed to rebuild the script of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveryData {
    /// The payee's key, x-only.
    pub payee_key: [u8; 32],
    /// The expiry height.
    pub expiry: BlockHeight,
    /// Index of the payer's channel key under its seed, below 2^31 (a hardened BIP32 index without its top bit).
    pub key_index: u32,
}

/// Whose half of an OP_RETURN it is: a renewal carries the data of two payers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// Bytes 0 to 39, and the only ones of a plain funding.
    First,
    /// Bytes 40 to 79.
    Second,
}

/// A funding output that was found again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The channel's terms; the capacity is what the output holds.
    pub terms: Terms,
    /// The funding output.
    pub outpoint: Outpoint,
    /// Index of the payer's channel key.
    pub key_index: u32,
}

/// Bytes of one payer's recovery data.
const LEN: usize = 40;
/// Tag of the hash that turns the first input's outpoint into a nonce.
const NONCE_TAG: &str = "turnpike/recovery-nonce/v1";
/// First key index that BIP32 has no hardened form of.
const INDEX_END: u32 = 1 << 31;

const OP_RETURN: u8 = 0x6a;
const OP_PUSHDATA1: u8 = 0x4c;

impl RecoveryData {
    /// The data in the clear: payee key 32, expiry 4, key index 4, both little-endian.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let numbers = [self.expiry.value().to_le_bytes(), self.key_index.to_le_bytes()];
        for (slot, byte) in bytes
            .iter_mut()
            .zip(self.payee_key.iter().chain(numbers.iter().flatten()))
        {
            *slot = *byte;
        }
        bytes
    }

    /// Reads the data in the clear; `None` if the expiry or the key index is out of range, as nearly all
    /// foreign bytes are.
    pub fn from_bytes(bytes: &[u8; LEN]) -> Option<Self> {
        let (payee_key, rest) = bytes.split_first_chunk::<32>()?;
        let (expiry, rest) = rest.split_first_chunk::<4>()?;
        let key_index = u32::from_le_bytes(*rest.first_chunk::<4>()?);
        let expiry = u32::from_le_bytes(*expiry);
        if expiry == 0 || expiry > limits::MAX_HEIGHT || key_index >= INDEX_END {
            return None;
        }
        Some(RecoveryData {
            payee_key: *payee_key,
            expiry: BlockHeight::new(expiry),
            key_index,
        })
    }

    /// Encrypts the data under the seed's recovery key for the transaction whose first input spends
    /// `first_input`. No tag is added: the rebuilt script authenticates it.
    ///
    /// Two fundings that spend the same first input (only one of them can confirm) share a keystream: who sees
    /// both learns how their data differ. That costs privacy, never money.
    pub fn seal(&self, recovery_key: &[u8; 32], first_input: Outpoint, position: Position) -> [u8; LEN] {
        crypt(recovery_key, first_input, position, self.to_bytes())
    }

    /// Decrypts what [`RecoveryData::seal`] made; `None` if these bytes cannot be of this seed.
    pub fn open(
        recovery_key: &[u8; 32],
        first_input: Outpoint,
        position: Position,
        sealed: &[u8; LEN],
    ) -> Option<Self> {
        Self::from_bytes(&crypt(recovery_key, first_input, position, *sealed))
    }

    /// The output script that carries sealed data: of one payer, or of both sides of a renewal.
    pub fn script(first: &[u8; LEN], second: Option<&[u8; LEN]>) -> ScriptBuf {
        let mut bytes = Vec::with_capacity(83);
        match second {
            None => bytes.extend([OP_RETURN, 40]),
            Some(_) => bytes.extend([OP_RETURN, OP_PUSHDATA1, 80]),
        }
        bytes.extend(first);
        bytes.extend(second.into_iter().flatten());
        ScriptBuf::from_bytes(bytes)
    }
}

/// Whether a transaction carries what has the form of recovery data, of whatever seed. Cheap enough for every
/// transaction of every block.
pub fn carries_recovery(transaction: &Transaction) -> bool {
    transaction
        .output
        .iter()
        .any(|o| parse(&o.script_pubkey).is_some())
}

/// Finds the channels that `transaction` funds and this seed can refund.
///
/// `payer_key_of` gives the payer's channel key (x-only) of an index; it may be called with an index that was
/// never used, where a foreign OP_RETURN of the same length happens to decrypt to one (about one in 17).
pub fn recover(
    secp: &Secp256k1<impl Verification>,
    recovery_key: &[u8; 32],
    transaction: &Transaction,
    mut payer_key_of: impl FnMut(u32) -> [u8; 32],
) -> Vec<Found> {
    let mut found = Vec::new();
    let Some(first_input) = transaction.input.first() else {
        return found;
    };
    let first_input = Outpoint::from(first_input.previous_output);
    let halves = transaction
        .output
        .iter()
        .filter_map(|o| parse(&o.script_pubkey))
        .flat_map(|(first, second)| {
            [
                Some((Position::First, first)),
                second.map(|s| (Position::Second, s)),
            ]
            .into_iter()
            .flatten()
        });
    for (position, sealed) in halves {
        let Some(data) = RecoveryData::open(recovery_key, first_input, position, &sealed) else {
            continue;
        };
        let terms = Terms {
            payer_key: payer_key_of(data.key_index),
            payee_key: data.payee_key,
            capacity: Sat::ZERO,
            expiry: data.expiry,
        };
        let Ok(funding) = terms.funding_output(secp) else {
            continue;
        };
        let txid = transaction.compute_txid();
        for (vout, output) in (0u32..).zip(&transaction.output) {
            if output.script_pubkey.as_bytes() == funding.script_pubkey {
                found.push(Found {
                    terms: Terms {
                        capacity: Sat::new(output.value.to_sat()),
                        ..terms
                    },
                    outpoint: bitcoin::OutPoint { txid, vout }.into(),
                    key_index: data.key_index,
                });
            }
        }
    }
    found
}

/// The sealed data in an output script, if it has exactly the form that [`RecoveryData::script`] writes.
fn parse(script: &Script) -> Option<([u8; LEN], Option<[u8; LEN]>)> {
    match script.as_bytes() {
        [OP_RETURN, 40, rest @ ..] => Some((rest.try_into().ok()?, None)),
        [OP_RETURN, OP_PUSHDATA1, 80, rest @ ..] => {
            let (first, second) = rest.split_first_chunk::<LEN>()?;
            Some((*first, Some(second.try_into().ok()?)))
        }
        _ => None,
    }
}

/// ChaCha20 (RFC 8439, block counter 0); each position has its own 40 bytes of the keystream.
fn crypt(key: &[u8; 32], first_input: Outpoint, position: Position, data: [u8; LEN]) -> [u8; LEN] {
    let vout = first_input.vout.to_le_bytes();
    let hash = tagged_hash(NONCE_TAG, &[first_input.txid.as_bytes(), &vout]);
    let mut nonce = [0; 12];
    for (slot, byte) in nonce.iter_mut().zip(&hash) {
        *slot = *byte;
    }

    let skipped = match position {
        Position::First => 0,
        Position::Second => LEN,
    };
    let mut stream = [0u8; 2 * LEN];
    ChaCha20::new(key.into(), &nonce.into()).apply_keystream(&mut stream);
    let mut out = data;
    for (byte, key) in out.iter_mut().zip(stream.iter().skip(skipped)) {
        *byte ^= key;
    }
    out
}
