//! The curve code against BIP340's published signatures, with the little memory of `secp-lowmemory`.

use crate::{Disagreement, host_file};
use bitcoin::hex::FromHex;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, XOnlyPublicKey, schnorr::Signature};

/// Signs and verifies every vector of `bip340.csv` whose message has 32 bytes, as all of ours have; gives the
/// number of vectors, `None` where the file is missing.
pub fn replay() -> Result<Option<usize>, Disagreement> {
    let Some(file) = host_file::read(c"bip340.csv") else {
        return Ok(None);
    };
    let mut count = 0;
    for (place, line) in file.lines().enumerate().skip(1) {
        let wrong = |what| Disagreement { what, place };
        let mut fields = line.split(',').skip(1);
        let mut field = || fields.next().ok_or(wrong("too few fields in line"));
        let (secret, key, aux, message) = (field()?, field()?, field()?, field()?);
        let (signature, valid) = (field()?, field()? == "TRUE");
        let Ok(message) = <[u8; 32]>::from_hex(message) else {
            continue;
        };
        let message = Message::from_digest(message);
        let signature = <[u8; 64]>::from_hex(signature).map_err(|_| wrong("signature is not hex in line"))?;
        if !secret.is_empty() && sign(secret, aux, &message) != Some(signature) {
            return Err(wrong("this build signs otherwise in line"));
        }
        if verify(key, &message, &signature) != valid {
            return Err(wrong("this build judges otherwise in line"));
        }
        count += 1;
    }
    Ok(Some(count))
}

fn sign(secret: &str, aux: &str, message: &Message) -> Option<[u8; 64]> {
    let secp = Secp256k1::signing_only();
    let secret = <[u8; 32]>::from_hex(secret).ok()?;
    let aux = <[u8; 32]>::from_hex(aux).ok()?;
    let pair = Keypair::from_seckey_slice(&secp, &secret).ok()?;
    Some(*secp.sign_schnorr_with_aux_rand(message, &pair, &aux).as_ref())
}

fn verify(key: &str, message: &Message, signature: &[u8; 64]) -> bool {
    let key = <[u8; 32]>::from_hex(key).ok();
    let (Some(key), Ok(signature)) = (
        key.and_then(|k| XOnlyPublicKey::from_slice(&k).ok()),
        Signature::from_slice(signature),
    ) else {
        return false;
    };
    Secp256k1::verification_only()
        .verify_schnorr(&signature, message, &key)
        .is_ok()
}
