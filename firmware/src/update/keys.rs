//! Whose signatures count.

use super::{MAX_SIGNATURES, Refusal};
use crate::card::Places;
use bitcoin::base64::{Engine, prelude::BASE64_STANDARD};
use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

/// Largest file of settings that is read, bytes.
const MAX_SETTINGS: u64 = 1024 * 1024;
/// Bytes of a minisign public key: kind (2), id (8), Ed25519 key.
const KEY_BYTES: usize = 42;
const KEY_START: usize = 10;
/// Signatures that are asked for where the owner does not say.
const THRESHOLD: usize = 2;

/// Distinct keys, and how many of them have to sign.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl Keys {
    /// The owner's: `[update]` in `turnpike.toml` on the boot partition, or in the last good settings where that file cannot
    /// be read as TOML; else the image's.
    pub fn find(places: &Places) -> Result<Keys, Refusal> {
        let owner = places.boot.join("turnpike.toml");
        let last_good = places.settings().join("turnpike.toml");
        for path in [&owner, &last_good, &places.keys] {
            let Some(text) = read(path)? else { continue };
            match Keys::parse(&text) {
                Ok(Some(keys)) => return Ok(keys),
                // A whole file without keys is the owner's word; the last good settings would be older.
                Ok(None) if path == &owner => return Keys::image(places),
                Ok(None) => {}
                // Settings that are garbage do not take the keys with them.
                Err(Fault::Toml(_)) if path == &owner => {}
                Err(Fault::Toml(reason) | Fault::Keys(reason)) => {
                    return Err(Refusal::Keys {
                        path: path.clone(),
                        reason,
                    });
                }
            }
        }
        Err(Refusal::NoKeys)
    }

    fn image(places: &Places) -> Result<Keys, Refusal> {
        let path = &places.keys;
        let parsed = match read(path)? {
            Some(text) => Keys::parse(&text),
            None => Ok(None),
        };
        match parsed {
            Ok(keys) => keys.ok_or(Refusal::NoKeys),
            Err(Fault::Toml(reason) | Fault::Keys(reason)) => Err(Refusal::Keys {
                path: path.clone(),
                reason,
            }),
        }
    }

    /// Reads `[update]`; `None` where it names no keys. Other sections are not looked at.
    fn parse(text: &str) -> Result<Option<Keys>, Fault> {
        let whole: toml::Table = toml::from_str(text).map_err(|error| Fault::Toml(error.message().into()))?;
        let Some(section) = whole.get("update") else {
            return Ok(None);
        };
        let section: Section = section
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| Fault::Keys(error.message().into()))?;
        if section.keys.is_empty() {
            return Ok(None);
        }
        Keys::new(&section.keys, section.threshold)
            .map(Some)
            .map_err(Fault::Keys)
    }

    /// Keys as minisign prints them (`RW…`). The same key counts once, under whatever id. Without a threshold two have to
    /// sign, or the only one.
    pub fn new(texts: &[String], threshold: Option<usize>) -> Result<Keys, String> {
        let mut known: Vec<Vec<u8>> = Vec::new();
        let mut keys = Vec::new();
        for text in texts {
            let text = text.trim();
            let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
            let (Some(key), KEY_BYTES, Ok(public)) =
                (bytes.get(KEY_START..), bytes.len(), PublicKey::from_base64(text))
            else {
                return Err(format!(
                    "\"{text}\" is no minisign public key (\"RW…\", 56 letters)"
                ));
            };
            if !known.iter().any(|other| other == key) {
                known.push(key.to_vec());
                keys.push(public);
            }
        }
        let threshold = threshold.unwrap_or(THRESHOLD.min(keys.len()));
        if keys.is_empty() || keys.len() > MAX_SIGNATURES {
            return Err(format!("1 to {MAX_SIGNATURES} keys are possible"));
        }
        if threshold == 0 || threshold > keys.len() {
            return Err(format!(
                "threshold = {threshold} does not fit {} different keys",
                keys.len()
            ));
        }
        Ok(Keys { keys, threshold })
    }

    /// Keys that are known.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Keys that have to sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Both kinds of signature, and the one over the trusted comment, by enough different keys. Signatures of other keys
    /// count for nothing and against nothing.
    pub fn verify(&self, manifest: &[u8], signatures: &[String]) -> Result<(), Refusal> {
        let signatures: Vec<Signature> = signatures
            .iter()
            .filter_map(|text| Signature::decode(text).ok())
            .collect();
        let signed = |key: &&PublicKey| {
            let mut signatures = signatures.iter();
            signatures.any(|signature| key.verify(manifest, signature, true).is_ok())
        };
        let valid = self.keys.iter().filter(signed).count();
        if valid < self.threshold {
            return Err(Refusal::Signatures {
                valid,
                threshold: self.threshold,
                keys: self.keys.len(),
            });
        }
        Ok(())
    }
}

/// Id of the key that made a signature, as minisign prints it; `None` for what is no signature.
pub(super) fn key_id(signature: &str) -> Option<String> {
    Signature::decode(signature).ok()?;
    let bytes = BASE64_STANDARD.decode(signature.lines().nth(1)?).ok()?;
    let id: [u8; 8] = bytes.get(2..KEY_START)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}

enum Fault {
    /// The file is no TOML.
    Toml(String),
    /// The section is there and wrong.
    Keys(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    keys: Vec<String>,
    threshold: Option<usize>,
}

fn read(path: &PathBuf) -> Result<Option<String>, Refusal> {
    let said = |error: io::Error| Refusal::Keys {
        path: path.clone(),
        reason: error.to_string(),
    };
    if fs::metadata(path).is_err() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(said)?;
    file.take(MAX_SETTINGS).read_to_end(&mut bytes).map_err(said)?;
    // What is no text is no TOML either.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
