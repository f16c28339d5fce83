//! Whose signatures count.

use super::{MAX_SIGNATURES, Refusal};
use crate::card::Places;
use bitcoin::base64::{Engine, prelude::BASE64_STANDARD};
use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

/// Largest file of keys that is read, bytes: 16 keys need a tenth.
const MAX_KEYS_FILE: u64 = 16 * 1024;
/// Bytes of a minisign public key: kind (2), id (8), Ed25519 key.
const KEY_BYTES: usize = 42;
const KEY_START: usize = 10;

/// Distinct keys, and how many of them have to sign.
#[derive(Clone, Debug)]
pub struct Keys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl Keys {
    /// The owner's, as the settings of this boot name them; else the image's.
    pub fn find(places: &Places) -> Result<Keys, Refusal> {
        for path in [&places.owner_keys(), &places.keys] {
            let keys = match read(path)? {
                Some(text) => Keys::parse(&text),
                None => Ok(None),
            };
            let keys = keys.map_err(|reason| Refusal::Keys {
                path: path.clone(),
                reason,
            })?;
            if let Some(keys) = keys {
                return Ok(keys);
            }
        }
        Err(Refusal::NoKeys)
    }

    /// Reads `keys` and `threshold`; `None` where there are no keys.
    fn parse(text: &str) -> Result<Option<Keys>, String> {
        let file: KeysFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        match file.keys.is_empty() {
            true => Ok(None),
            false => Keys::new(&file.keys, file.threshold).map(Some),
        }
    }

    /// Keys as minisign prints them (`RW…`). The same key counts once, under whatever id. Without a threshold all have
    /// to sign.
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
        let threshold = threshold.unwrap_or(keys.len());
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
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
    file.take(MAX_KEYS_FILE).read_to_end(&mut bytes).map_err(said)?;
    // What is no text is no TOML either.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
