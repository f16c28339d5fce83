//! All nineteen vectors of BIP340. Our signer and verifier take digests, so they are asked the fifteen with a message
//! of 32 bytes; a second implementation, written here from the BIP over our tagged hash, is asked all nineteen.

use crate::base::NodeId;
use crate::crypto::{Digest, Signature, Signer, Verifier, tagged_hash};
use bitcoin::secp256k1::{Keypair, Parity, PublicKey, Scalar, Secp256k1, SecretKey, XOnlyPublicKey};
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;
use std::{env, fs, println};

#[test]
fn bip340_vectors_both_directions() {
    let Some(text) = vectors() else {
        println!("skipped: no vectors");
        return;
    };
    let (mut cases, mut signed, mut refused, mut ours) = (0, 0, 0, 0);
    for line in text.lines().skip(1) {
        let case = Case::read(line);
        cases += 1;
        refused += u32::from(!case.valid);
        assert_eq!(
            reference_verify(&case.key, &case.message, &case.signature),
            case.valid,
            "{line}"
        );
        if let Some(secret) = &case.secret {
            signed += 1;
            assert_eq!(
                reference_sign(secret, &case.aux, &case.message),
                case.signature,
                "{line}"
            );
        }
        if let Ok(digest) = <[u8; 32]>::try_from(case.message.as_slice()) {
            ours += 1;
            ask_ours(&case, &Digest::from_bytes(digest), line);
        }
    }
    assert_eq!(
        (cases, signed, refused, ours),
        (19, 8, 10, 15),
        "the vectors file changed"
    );
}

fn ask_ours(case: &Case, digest: &Digest, line: &str) {
    let signature = Signature::from_slice(&case.signature).unwrap();
    let verdict = Verifier::new().verify(&NodeId::from_bytes(case.key), digest, &signature);
    assert_eq!(verdict.is_ok(), case.valid, "{line}");
    let Some(secret) = &case.secret else { return };
    let signer = Signer::new(&[0x5a; 32]);
    let key = Keypair::from_secret_key(signer.context(), secret);
    assert_eq!(key.x_only_public_key().0.serialize(), case.key, "{line}");
    assert_eq!(
        signer.sign_with_aux(&key, digest, &case.aux).serialize(),
        case.signature,
        "{line}"
    );
    if case.aux == [0; 32] {
        assert_eq!(signer.sign(&key, digest).serialize(), case.signature, "{line}");
    }
}

struct Case {
    secret: Option<SecretKey>,
    key: [u8; 32],
    aux: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
    valid: bool,
}

impl Case {
    fn read(line: &str) -> Case {
        let column: Vec<&str> = line.splitn(8, ',').collect();
        let bytes = |i: usize| hex::decode(column[i]).unwrap();
        Case {
            secret: (!column[1].is_empty()).then(|| SecretKey::from_slice(&bytes(1)).unwrap()),
            key: bytes(2).try_into().unwrap(),
            aux: bytes(3).try_into().unwrap_or([0; 32]),
            message: bytes(4),
            signature: bytes(5).try_into().unwrap(),
            valid: column[6] == "TRUE",
        }
    }
}

fn reference_verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let secp = Secp256k1::new();
    let (r, s) = signature.split_at(32);
    let Ok(x_only) = XOnlyPublicKey::from_slice(key) else {
        return false;
    };
    let Ok(s) = SecretKey::from_slice(s) else {
        return false;
    };
    let point = x_only.public_key(Parity::Even);
    let minus_ep = point
        .mul_tweak(&secp, &challenge(r, key, message))
        .unwrap()
        .negate(&secp);
    let Ok(sum) = PublicKey::from_secret_key(&secp, &s).combine(&minus_ep) else {
        return false;
    };
    let (x, parity) = sum.x_only_public_key();
    parity == Parity::Even && x.serialize() == r
}

fn reference_sign(secret: &SecretKey, aux: &[u8; 32], message: &[u8]) -> [u8; 64] {
    let secp = Secp256k1::new();
    let even = |k: &SecretKey| match PublicKey::from_secret_key(&secp, k).x_only_public_key() {
        (x, Parity::Even) => (*k, x.serialize()),
        (x, Parity::Odd) => (k.negate(), x.serialize()),
    };
    let (d, key) = even(secret);
    let mask = tagged_hash("BIP0340/aux", &[aux]);
    let masked: [u8; 32] = core::array::from_fn(|i| d.secret_bytes()[i] ^ mask[i]);
    let nonce = tagged_hash("BIP0340/nonce", &[&masked, &key, message]);
    let (k, r) = even(&SecretKey::from_slice(&nonce).unwrap());
    let s = d
        .mul_tweak(&challenge(&r, &key, message))
        .unwrap()
        .add_tweak(&k.into())
        .unwrap();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s.secret_bytes());
    signature
}

fn challenge(r: &[u8], key: &[u8; 32], message: &[u8]) -> Scalar {
    Scalar::from_be_bytes(tagged_hash("BIP0340/challenge", &[r, key, message])).unwrap()
}

fn vectors() -> Option<String> {
    let folder = env::var_os("TURNPIKE_VECTORS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"));
    fs::read_to_string(folder.join("bips/bip-0340/test-vectors.csv")).ok()
}
