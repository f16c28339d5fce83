//! The two datagrams by which relays are found, as bytes.
//!
//! Query, always 512 bytes: `TPK?` (4), version (1), genesis (32), nonce (16), zeros. Answer, never longer than the
//! query: `TPK!` (4), version (1), nonce (16), node (32), port (2, big endian), name (length 1, UTF-8), price sheet
//! (length 1, bytes), its signature (64), signature over everything before it (64, kind `beacon`, instance the nonce).

use std::net::SocketAddr;
use turnpike_protocol::base::{GenesisHash, NodeId};
use turnpike_protocol::crypto::{Digest, Keys, Signature, Statement, Verifier};
use turnpike_protocol::node::read_sheet;

/// Bytes of a query. An answer is never longer, so nobody can use relays to flood a third party.
pub(super) const QUERY: usize = 512;
/// Longest name, bytes: 32 characters.
pub(super) const MAX_NAME: usize = 128;
/// Longest price sheet, bytes: what an offer carries at most.
pub(super) const MAX_SHEET: usize = 96;

const VERSION: u8 = 1;
const ASK: &[u8; 4] = b"TPK?";
const ANSWER: &[u8; 4] = b"TPK!";
const SIGNATURE: usize = 64;

/// Names one query; the answer signs it, so that an old answer is worth nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nonce(pub(super) [u8; 16]);

/// A relay on the link, both of its signatures checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beacon {
    /// Who it is. Anybody can have an identity: pin the one that you mean.
    pub node: NodeId,
    /// Where to connect.
    pub address: SocketAddr,
    /// What its owner calls it; not to be trusted.
    pub name: String,
    /// Its [price sheet](turnpike_protocol::wire::PriceSheet) as signed.
    pub sheet: Vec<u8>,
    /// Its signature over the sheet.
    pub signature: [u8; 64],
}

/// Why a datagram is no answer to a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// Not one of ours, of another version, or to another query.
    #[error("not an answer to this query")]
    Other,
    /// Lengths that do not add up.
    #[error("a malformed answer")]
    Malformed,
    /// A signature that does not hold.
    #[error("an answer that its node did not sign")]
    Signature,
}

/// The bytes of a query.
pub(super) fn query(genesis: GenesisHash, nonce: Nonce) -> [u8; QUERY] {
    let mut bytes = [0; QUERY];
    let parts: [&[u8]; 4] = [ASK, &[VERSION], genesis.as_bytes(), &nonce.0];
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes
}

/// The nonce of a query that is for this chain.
pub(super) fn read_query(bytes: &[u8], genesis: GenesisHash) -> Option<Nonce> {
    if bytes.len() != QUERY {
        return None;
    }
    let rest = bytes
        .strip_prefix(ASK)?
        .strip_prefix(&[VERSION])?
        .strip_prefix(genesis.as_bytes())?;
    let (nonce, zeros) = rest.split_first_chunk()?;
    zeros.iter().all(|byte| *byte == 0).then_some(Nonce(*nonce))
}

/// The bytes of an answer. A name or sheet that is too long is cut or left out by the caller.
pub(super) fn answer(
    keys: &Keys,
    genesis: GenesisHash,
    nonce: Nonce,
    port: u16,
    name: &str,
    sheet: &[u8],
    sheet_signature: &[u8; 64],
) -> Option<Vec<u8>> {
    let name_length = u8::try_from(name.len())
        .ok()
        .filter(|n| usize::from(*n) <= MAX_NAME)?;
    let sheet_length = u8::try_from(sheet.len())
        .ok()
        .filter(|n| usize::from(*n) <= MAX_SHEET)?;
    let mut bytes = Vec::with_capacity(QUERY);
    bytes.extend_from_slice(ANSWER);
    bytes.push(VERSION);
    bytes.extend_from_slice(&nonce.0);
    bytes.extend_from_slice(keys.node().as_bytes());
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.push(name_length);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(sheet_length);
    bytes.extend_from_slice(sheet);
    bytes.extend_from_slice(sheet_signature);
    let signature = keys.sign(&digest(genesis, keys.node(), nonce, &bytes));
    bytes.extend_from_slice(&signature.serialize());
    (bytes.len() <= QUERY).then_some(bytes)
}

/// Reads and checks an answer that came from `from`.
pub(super) fn read_answer(
    bytes: &[u8],
    from: SocketAddr,
    verifier: &Verifier,
    genesis: GenesisHash,
    nonce: Nonce,
) -> Result<Beacon, BeaconError> {
    let rest = bytes
        .strip_prefix(ANSWER)
        .and_then(|rest| rest.strip_prefix(&[VERSION]))
        .and_then(|rest| rest.strip_prefix(&nonce.0))
        .ok_or(BeaconError::Other)?;
    let parts = || {
        let (node, rest) = rest.split_first_chunk::<32>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (name, rest) = field(rest, MAX_NAME)?;
        let (sheet, rest) = field(rest, MAX_SHEET)?;
        let (sheet_signature, rest) = rest.split_first_chunk::<SIGNATURE>()?;
        let signature: &[u8; SIGNATURE] = rest.try_into().ok()?;
        let name = std::str::from_utf8(name).ok()?;
        Some((
            NodeId::from_bytes(*node),
            u16::from_be_bytes(*port),
            name,
            sheet,
            sheet_signature,
            signature,
        ))
    };
    let (node, port, name, sheet, sheet_signature, signature) = parts().ok_or(BeaconError::Malformed)?;
    if port == 0 || !name.chars().all(is_plain) {
        return Err(BeaconError::Malformed);
    }
    let signed = bytes
        .get(..bytes.len() - SIGNATURE)
        .ok_or(BeaconError::Malformed)?;
    let own = Signature::from_slice(signature).map_err(|_| BeaconError::Signature)?;
    verifier
        .verify(&node, &digest(genesis, node, nonce, signed), &own)
        .map_err(|_| BeaconError::Signature)?;
    read_sheet(verifier, genesis, node, sheet, sheet_signature).ok_or(BeaconError::Signature)?;
    let mut address = from;
    address.set_port(port);
    Ok(Beacon {
        node,
        address,
        name: name.to_owned(),
        sheet: sheet.to_vec(),
        signature: *sheet_signature,
    })
}

/// Whether a character leaves the terminal, and the direction of the text beside it, as they are.
fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

fn digest(genesis: GenesisHash, signer: NodeId, nonce: Nonce, body: &[u8]) -> Digest {
    let mut instance = [0; 32];
    instance[..16].copy_from_slice(&nonce.0);
    Statement {
        kind: "beacon",
        genesis,
        signer,
        peer: [0; 32],
        instance,
        body,
    }
    .digest()
}

/// A field of one length byte and that many bytes.
fn field(bytes: &[u8], max: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length > max {
        None
    } else {
        rest.split_at_checked(length)
    }
}
