//! Receipts: listed by the daemon, verified by anybody.

use super::{Failure, Output, Place, daemon, show};
use crate::control::{Hex, MAX_RECEIPTS, ReceiptCopy, Request, Response};
use std::fmt::Write as _;
use std::io::Read;
use turnpike_protocol::crypto::Verifier;
use turnpike_protocol::market::SignedReceipt;
use turnpike_protocol::wire::Signature;

/// Longest file that is read, bytes: 60,000 receipts.
const MAX_FILE: u64 = 64 * 1024 * 1024;

pub(super) fn list(place: &Place, output: &Output) -> Result<(), Failure> {
    let receipts = all(place)?;
    let text = show::receipts(&receipts);
    output.line(&serde_json::json!({ "receipts": receipts }), &text)
}

/// Checks the receipts in a file, or the one with this number in the daemon's list.
pub(super) fn verify(place: &Place, output: &Output, what: &str) -> Result<(), Failure> {
    let receipts = match what.parse::<u32>() {
        Ok(number) => vec![numbered(place, number)?],
        Err(_) => read(what)?,
    };
    let verifier = Verifier::new();
    let mut text = String::new();
    let mut claim = None;
    let mut claims = 0_usize;
    for receipt in &receipts {
        let name = format!("receipt {} of channel {}", receipt.sequence, receipt.channel);
        match check(&verifier, receipt).map_err(|why| Failure::new(format!("{name}: {why}")))? {
            Signed::Both => {
                let _ = writeln!(text, "{name}: signed by relay and client");
            }
            Signed::RelayOnly => {
                let line = format!(
                    "{name}: genuine, but only the relay signed it: it is the relay's claim, not an agreement"
                );
                let _ = writeln!(text, "{line}");
                claims += 1;
                claim = claim.or(Some(line));
            }
        }
    }
    let document = serde_json::json!({
        "verified": receipts.len() - claims,
        "claims": claims,
        "receipts": receipts,
    });
    output.line(&document, &text)?;
    claim.map_or(Ok(()), |line| Err(Failure::claim(line)))
}

/// By whom a receipt is signed, if it is genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signed {
    /// An agreement.
    Both,
    /// What the relay claims, as far as that binds the relay.
    RelayOnly,
}

/// Every signature that is there, and that the fields say what the signed bytes say.
pub(super) fn check(verifier: &Verifier, copy: &ReceiptCopy) -> Result<Signed, String> {
    let bytes = copy.receipt.0.as_slice().try_into();
    let signed = SignedReceipt {
        bytes: bytes.map_err(|_| "its bytes are no receipt: nobody signed it".to_owned())?,
        relay: Signature(copy.relay_signature.0),
        client: copy.client_signature.map(|s| Signature(s.0)),
    };
    let receipt = signed
        .verify(verifier, copy.genesis.0)
        .map_err(|error| error.to_string())?;
    let read = ReceiptCopy {
        relay: Hex(receipt.relay),
        client: Hex(receipt.client),
        channel: Hex(receipt.channel),
        sequence: receipt.sequence,
        sheet: Hex(receipt.sheet),
        height: receipt.height,
        up_bytes: receipt.up,
        down_bytes: receipt.down,
        seconds: receipt.seconds,
        cost_msat: receipt.cost,
        paid_msat: receipt.paid,
        ..copy.clone()
    };
    if read != *copy {
        return Err("its fields differ from the bytes that were signed: believe only the bytes".to_owned());
    }
    Ok(match copy.client_signature {
        Some(_) => Signed::Both,
        None => Signed::RelayOnly,
    })
}

fn all(place: &Place) -> Result<Vec<ReceiptCopy>, Failure> {
    let mut found = Vec::new();
    loop {
        let skip = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let page = daemon::ask(
            place,
            Request::ReceiptList {
                skip,
                limit: MAX_RECEIPTS,
            },
        )?;
        let Response::Receipts { total, receipts } = page else {
            return Err(daemon::unexpected());
        };
        let end = receipts.is_empty();
        found.extend(receipts);
        if end || found.len() >= total as usize {
            return Ok(found);
        }
    }
}

fn numbered(place: &Place, number: u32) -> Result<ReceiptCopy, Failure> {
    let none = || Failure::usage(format!("there is no receipt {number}: see `turnpike receipts`"));
    let skip = number.checked_sub(1).ok_or_else(none)?;
    match daemon::ask(place, Request::ReceiptList { skip, limit: 1 })? {
        Response::Receipts { receipts, .. } => receipts.into_iter().next().ok_or_else(none),
        _ => Err(daemon::unexpected()),
    }
}

fn read(name: &str) -> Result<Vec<ReceiptCopy>, Failure> {
    let mut text = String::new();
    let read = match name {
        "-" => std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)),
    };
    read.map_err(|error| {
        Failure::usage(format!(
            "{name}: {error}: name a file of `turnpike --json receipts`"
        ))
    })?;
    // A list as it was printed, its receipts, or one of them.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Document {
        Printed { receipts: Vec<ReceiptCopy> },
        Many(Vec<ReceiptCopy>),
        One(Box<ReceiptCopy>),
    }
    match serde_json::from_str(&text) {
        Ok(Document::Printed { receipts } | Document::Many(receipts)) if receipts.is_empty() => Err(
            Failure::new(format!("{name}: there is no receipt in it: nothing was verified")),
        ),
        Ok(Document::Printed { receipts } | Document::Many(receipts)) => Ok(receipts),
        Ok(Document::One(receipt)) => Ok(vec![*receipt]),
        Err(_) => Err(Failure::usage(format!(
            "{name}: it holds no receipts: print them with `turnpike --json receipts`"
        ))),
    }
}
