//! Hostile bytes into every decoder.
//!
//! Promises: no decoder panics; whatever decodes has one encoding, which is the bytes that were read.

use bitcoin::Target;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::pow::CompactTarget;
use std::sync::LazyLock;
use turnpike_protocol::base::limits;
use turnpike_protocol::base::{BlockHeight, GenesisHash, NodeId, Outpoint, Sat, Slot, Txid};
use turnpike_protocol::crypto::{Seed, Verifier};
use turnpike_protocol::market::{BuyerRecord, FreeRecord};
use turnpike_protocol::money::channel::tx::{
    RecoveryData, RemainderScript, Terms, carries_recovery, recover, txid,
};
use turnpike_protocol::money::channel::{Payee, PayeeRecord, Payer, PayerInput, PayerRecord};
use turnpike_protocol::money::headers::MinimumHeight;
use turnpike_protocol::node::read_sheet;
use turnpike_protocol::node::record::{ClientRecord, JournalEntry, Meta, PeerRecord, ReceiptRecord};
use turnpike_protocol::talk::session::route;
use turnpike_protocol::wire::{
    ErrorCode, FrameError, HeaderBytes, Kind, Message, PriceSheet, Receipt, decode, encode, golden,
    read_frame, write_frame,
};

/// The easiest target that consensus knows, so that headers get past the work and reach the rest.
const EASY: u32 = 0x207f_ffff;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(Verifier::new);
/// A point of the curve: the generator's x coordinate (SEC 2, secp256k1).
const KEY: [u8; 32] = [
    0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07, 0x02,
    0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98,
];

/// The decoders; the first byte of an input picks one, so that each run compares little and libFuzzer sees it.
const DECODERS: [fn(&[u8]); 13] = [
    frame,
    canonical::<PriceSheet>,
    canonical::<Receipt>,
    transaction,
    headers,
    |b| {
        let _ = route(b);
    },
    words,
    payee,
    payer,
    canonical::<ClientRecord>,
    canonical::<BuyerRecord>,
    canonical::<ReceiptRecord>,
    small_rows,
];

/// The golden frames, what is signed or carried inside them, and a record of each kind that is not trivial.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<(u8, Vec<u8>)> = Vec::new();
    for message in golden::samples() {
        let mut frame = Vec::new();
        write_frame(&message, &mut frame);
        seeds.push((0, frame));
        if let Message::Headers(m) = message {
            seeds.push((4, m.headers.iter().flat_map(|h| h.0).collect()));
        }
    }
    seeds.push((1, encode(&golden::sheet())));
    seeds.push((2, encode(&golden::receipt())));
    seeds.push((3, serialize(&recoverable())));
    seeds.push((5, [4].repeat(29)));
    seeds.push((6, Seed::from_entropy(&[1; 32]).words().as_bytes().to_vec()));
    seeds.push((10, encode(&BuyerRecord::default())));
    seeds.push((12, encode(&Meta::default())));
    seeds
        .into_iter()
        .map(|(decoder, bytes)| [[decoder].as_slice(), &bytes].concat())
        .collect()
}

/// One input: the decoder, and what it is to read.
pub fn run(input: &[u8]) {
    if let Some((decoder, bytes)) = input.split_first() {
        if let Some(decode) = DECODERS.get(usize::from(*decoder)) {
            decode(bytes);
        }
    }
}

fn words(bytes: &[u8]) {
    let Ok(seed) = std::str::from_utf8(bytes)
        .map_err(drop)
        .and_then(|t| Seed::from_words(t).map_err(drop))
    else {
        return;
    };
    let again = Seed::from_words(&seed.words()).expect("a seed's own words are a seed");
    assert_eq!(
        *seed.words(),
        *again.words(),
        "a seed's words change when they are read back"
    );
}

fn canonical<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let _ = row::<T>(bytes);
}

fn row<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = decode::<T>(bytes).ok()?;
    assert_eq!(
        encode(&value),
        bytes,
        "{} has two encodings",
        std::any::type_name::<T>()
    );
    Some(value)
}

fn frame(bytes: &[u8]) {
    let message = match read_frame(bytes) {
        Ok(message) => message,
        Err(FrameError::UnknownKind(number)) => {
            assert!(
                Kind::from_number(number).is_none(),
                "kind {number} is known and was skipped"
            );
            return;
        }
        Err(_) => return,
    };
    let mut again = Vec::new();
    write_frame(&message, &mut again);
    assert_eq!(
        again,
        bytes,
        "a frame of kind {} has two encodings",
        message.kind().number()
    );
    match &message {
        Message::Offer(m) => {
            canonical::<PriceSheet>(&m.sheet);
            let relay = NodeId::from_bytes(KEY);
            let genesis = GenesisHash::from_bytes([0; 32]);
            let sheet = read_sheet(&VERIFIER, genesis, relay, &m.sheet, &m.signature.0);
            assert_eq!(sheet, None, "a sheet was signed without its key");
        }
        Message::ReceiptOffer(m) => canonical::<Receipt>(&m.receipt),
        Message::Funded(m) => transaction(&m.tx),
        Message::Headers(m) => extend(m.first, &m.headers),
        Message::Problem(m) => {
            assert_eq!(
                ErrorCode::from_number(m.code.number()),
                m.code,
                "a code has two numbers"
            );
            let _ = (m.code.consequence(), m.code.text());
        }
        _ => {}
    }
}

/// What a store holds: its rows may be damaged, and must then be refused.
fn payee(bytes: &[u8]) {
    if let Some(record) = row::<PayeeRecord>(bytes) {
        let _ = Payee::load(Slot(0), record, &VERIFIER);
    }
}

fn payer(bytes: &[u8]) {
    if let Some(record) = row::<PayerRecord>(bytes) {
        let _ = Payer::load(Slot(0), record, &VERIFIER);
    }
}

fn small_rows(bytes: &[u8]) {
    canonical::<Meta>(bytes);
    canonical::<FreeRecord>(bytes);
    canonical::<PeerRecord>(bytes);
    canonical::<JournalEntry>(bytes);
    canonical::<ErrorCode>(bytes);
}

/// A transaction as a peer or a chain back end shows it: what the channels read out of it.
fn transaction(bytes: &[u8]) {
    let Ok(tx) = deserialize::<bitcoin::Transaction>(bytes) else {
        return;
    };
    let remainder = RemainderScript::new(VERIFIER.context(), &KEY).expect("the key is on the curve");
    let _ = remainder.find(&tx);
    let found = recover(VERIFIER.context(), &[7; 32], &tx, |_| KEY);
    assert!(
        found.is_empty() || carries_recovery(&tx),
        "a channel was found where nothing is carried"
    );
    // An output can hold what no coin does, or dust: those are found, and no payer takes them up.
    for channel in found.into_iter().filter(|f| f.terms.check().is_ok()) {
        let record = PayerRecord {
            peer: NodeId::from_bytes(KEY),
            terms: channel.terms,
            key_index: channel.key_index,
            accepted_at: BlockHeight::ZERO,
            accept_until: BlockHeight::ZERO,
            acceptance: turnpike_protocol::wire::Signature([0; 64]),
            outpoint: None,
            funding_tx: Vec::new(),
            funding_fee: Sat::ZERO,
            funded_at: None,
            total: Default::default(),
            acknowledged: Default::default(),
            remainder: None,
            state: turnpike_protocol::money::channel::PayerState::Accepted,
        };
        let mut payer = Payer::load(Slot(0), record, &VERIFIER).expect("found terms can be loaded");
        let built = PayerInput::FundingBuilt {
            outpoint: channel.outpoint,
            fee: Sat::ZERO,
            tx: bytes,
        };
        payer
            .handle(&VERIFIER, built)
            .expect("a channel that was found is funded by what it was found in");
    }
    let _ = txid(&tx);
}

fn headers(bytes: &[u8]) {
    let (first, rest) = bytes.split_at(bytes.len() % 80);
    let first = first
        .iter()
        .fold(0u32, |n, b| n.wrapping_mul(256).wrapping_add(u32::from(*b)));
    let headers: Vec<HeaderBytes> = rest
        .chunks_exact(80)
        .map(|c| HeaderBytes(c.try_into().expect("chunks of 80")))
        .collect();
    extend(BlockHeight::new(first), &headers);
}

fn extend(first: BlockHeight, headers: &[HeaderBytes]) {
    let floor = Target::from_compact(CompactTarget::from_consensus(EASY));
    for known in [100, limits::MAX_HEIGHT] {
        let before = MinimumHeight::new(BlockHeight::new(known), [7; 32], floor);
        let mut minimum = before;
        match minimum.extend(first, headers) {
            Ok(height) => assert!(height >= before.height(), "headers lowered the height"),
            Err(_) => assert_eq!(minimum, before, "refused headers counted"),
        }
    }
}

/// A funding that carries recovery data of the seed that [`transaction`] looks for.
fn recoverable() -> bitcoin::Transaction {
    use bitcoin::{Amount, OutPoint, TxIn, TxOut, absolute::LockTime, transaction::Version};
    let first = Outpoint {
        txid: Txid::from_bytes([3; 32]),
        vout: 1,
    };
    let data = RecoveryData {
        payee_key: other_key(),
        expiry: BlockHeight::new(2_000),
        key_index: 5,
    };
    let terms = Terms {
        payer_key: KEY,
        payee_key: data.payee_key,
        capacity: Sat::new(50_000),
        expiry: data.expiry,
    };
    let script = terms
        .funding_output(VERIFIER.context())
        .expect("good terms")
        .to_script_buf();
    let sealed = data.seal(
        &[7; 32],
        first,
        turnpike_protocol::money::channel::tx::Position::First,
    );
    let output = |value, script_pubkey| TxOut {
        value: Amount::from_sat(value),
        script_pubkey,
    };
    bitcoin::Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::from(first),
            ..TxIn::default()
        }],
        output: vec![
            output(50_000, script),
            output(0, RecoveryData::script(&sealed, None)),
        ],
    }
}

/// Another point: twice the generator.
fn other_key() -> [u8; 32] {
    use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
    let secret = SecretKey::from_slice(&[[0; 31].as_slice(), &[2]].concat()).expect("two is a secret");
    PublicKey::from_secret_key(&Secp256k1::new(), &secret)
        .x_only_public_key()
        .0
        .serialize()
}
