//! Tagged hashes and statements, against digests that another program computed from the spec page.

use crate::base::{GenesisHash, NodeId, Outpoint, Txid};
use crate::crypto::{CoinType, Keys, Seed, Statement, Verifier, VerifyError, channel_id, tagged_hash};
use proptest::prelude::*;

const PLAIN: Statement<'static> = Statement {
    kind: "test",
    genesis: GenesisHash::from_bytes([1; 32]),
    signer: NodeId::from_bytes([2; 32]),
    peer: [3; 32],
    instance: [4; 32],
    body: b"body",
};

#[test]
fn a_statement_hashes_as_the_spec_page_says() {
    assert_eq!(
        hex::encode(PLAIN.digest().as_bytes()),
        "1452aed09cf56eefc91bd63a1951a06a5c0ee7b67e0208d66fd651e79604bae9"
    );
    let long = tagged_hash(
        "turnpike/test/v1",
        &[&[1; 32], &[2; 32], &[3; 32], &[4; 32], b"body"],
    );
    assert_eq!(PLAIN.digest().as_bytes(), &long);
}

#[test]
fn a_channel_is_named_by_its_outpoint() {
    let txid = Txid::from_bytes(core::array::from_fn(|i| i as u8));
    let name = channel_id(&Outpoint { txid, vout: 258 });
    assert_eq!(
        hex::encode(name.as_bytes()),
        "5177afd4551d747fcf3a3b1dc66fd5f50d6cde801f5cbeb3267c1560af6cbbab"
    );
    assert_ne!(
        name,
        channel_id(&Outpoint {
            txid,
            vout: 0x0201_0000
        })
    );
}

#[test]
fn a_signature_counts_in_its_own_context_only() {
    let keys = Keys::new(&Seed::from_entropy(&[9; 32]), CoinType::Test).unwrap();
    let verifier = Verifier::new();
    let good = Statement {
        signer: keys.node(),
        ..PLAIN
    };
    let signature = keys.sign(&good.digest());
    assert_eq!(verifier.verify(&keys.node(), &good.digest(), &signature), Ok(()));
    let others = [
        Statement {
            kind: "tests",
            ..good
        },
        Statement {
            genesis: GenesisHash::from_bytes([0; 32]),
            ..good
        },
        Statement {
            signer: NodeId::from_bytes([0; 32]),
            ..good
        },
        Statement {
            peer: [0; 32],
            ..good
        },
        Statement {
            instance: [0; 32],
            ..good
        },
        Statement {
            body: b"bodx",
            ..good
        },
        Statement {
            body: b"body\0",
            ..good
        },
    ];
    for other in others {
        let refused = verifier.verify(&keys.node(), &other.digest(), &signature);
        assert_eq!(refused, Err(VerifyError::Signature), "{other:?}");
    }
    // 5 is the x coordinate of no point.
    let mut nowhere = [0; 32];
    nowhere[31] = 5;
    let refused = verifier.verify(&NodeId::from_bytes(nowhere), &good.digest(), &signature);
    assert_eq!(refused, Err(VerifyError::Key));
}

proptest! {
    #[test]
    fn a_flipped_bit_voids_a_signature(bit in 0..512_usize, body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let keys = Keys::new(&Seed::from_entropy(&[9; 32]), CoinType::Test).unwrap();
        let digest = Statement { signer: keys.node(), body: &body, ..PLAIN }.digest();
        let mut bytes = keys.sign(&digest).serialize();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = crate::crypto::Signature::from_slice(&bytes).unwrap();
        prop_assert_eq!(Verifier::new().verify(&keys.node(), &digest, &flipped), Err(VerifyError::Signature));
    }
}
