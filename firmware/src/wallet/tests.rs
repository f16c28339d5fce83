use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{
    Address, Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxMerkleNode, TxOut, Txid, Witness, transaction,
};
use turnpike_protocol::base::{BlockHeight, FeeRate, Sat, Slot};
use turnpike_protocol::money::channel::tx::{Position, RecoveryData};

const RECOVERY: [u8; 32] = [5; 32];
const RATE: FeeRate = FeeRate::new(2_000);

// The master key of BIP32's first test vector, as a test key.
const EXTERNAL: &str = "tr(tprv8ZgxMBicQKsPeDgjzdC36fs6bMjGApWDNLR9erAXMs5skhMv36j9MV5ecvfavji5khqjWaWSFhN3YcCUUdiKH6isR4Pwy3U5y5egddBr16m/86'/1'/0'/0/*)";
const INTERNAL: &str = "tr(tprv8ZgxMBicQKsPeDgjzdC36fs6bMjGApWDNLR9erAXMs5skhMv36j9MV5ecvfavji5khqjWaWSFhN3YcCUUdiKH6isR4Pwy3U5y5egddBr16m/86'/1'/0'/1/*)";

fn keys() -> WalletKeys<'static> {
    WalletKeys {
        external: EXTERNAL,
        internal: INTERNAL,
        network: Network::Regtest,
        genesis: genesis_block(Network::Regtest).block_hash(),
        recovery: &RECOVERY,
    }
}

/// A wallet with its chain of synthetic blocks and its journal.
struct Bench {
    wallet: Wallet,
    journal: Vec<Vec<u8>>,
    tip: BlockHash,
    height: u32,
    coins: u32,
}

impl Bench {
    fn new() -> Self {
        let wallet = Wallet::open(&keys(), &[] as &[Vec<u8>]).unwrap();
        Bench {
            wallet,
            journal: Vec::new(),
            tip: keys().genesis,
            height: 0,
            coins: 0,
        }
    }

    fn block(&mut self, txdata: Vec<Transaction>) {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.tip,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.coins,
            bits: CompactTarget::from_consensus(0),
            nonce: 0,
        };
        self.tip = header.block_hash();
        self.height += 1;
        self.wallet
            .apply_block(&Block { header, txdata }, self.height)
            .unwrap();
    }

    fn coin(&mut self, value: u64) -> Transaction {
        self.coins += 1;
        pay(&self.wallet.address(), value, self.coins)
    }

    fn restart(&mut self) {
        self.journal.extend(self.wallet.take_changes().unwrap());
        self.wallet = Wallet::open(&keys(), &self.journal).unwrap();
    }
}

/// A payment out of nowhere; `salt` makes it unique.
fn pay(address: &Address, value: u64, salt: u32) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::all_zeros(), salt),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(value),
            script_pubkey: address.script_pubkey(),
        }],
    }
}

fn recovery() -> RecoveryData {
    RecoveryData {
        payee_key: [2; 32],
        expiry: BlockHeight::new(900),
        key_index: 4,
    }
}

/// An x-only key that is on the curve: BIP341's unspendable point.
fn output_key() -> [u8; 32] {
    turnpike_protocol::money::channel::tx::UNSPENDABLE_KEY
}

fn fund(bench: &mut Bench, slot: u32, value: u64) -> Result<FundingTransaction, WalletError> {
    bench.wallet.fund(
        Slot(slot),
        output_key(),
        Sat::new(value),
        RATE,
        recovery().to_bytes(),
    )
}

#[test]
fn only_confirmed_coins_fund_a_channel() {
    let mut bench = Bench::new();
    let tx = bench.coin(100_000);
    bench.wallet.apply_unconfirmed(&tx);
    assert_eq!(
        bench.wallet.balance(),
        Balance {
            unconfirmed: Sat::new(100_000),
            ..Balance::default()
        }
    );
    let refused = fund(&mut bench, 1, 50_000);
    let available = Sat::ZERO;
    assert!(
        matches!(refused, Err(WalletError::Insufficient { available: a, .. }) if a == available),
        "{refused:?}"
    );
    bench.block(vec![tx]);
    assert_eq!(bench.wallet.balance().confirmed, Sat::new(100_000));
    fund(&mut bench, 1, 50_000).unwrap();
}

#[test]
fn a_funding_carries_its_recovery_data_sealed_under_its_first_input() {
    let mut bench = Bench::new();
    let coins = vec![bench.coin(60_000), bench.coin(30_000)];
    bench.block(coins);
    let told = bench.wallet.funding_fee(Sat::new(70_000), RATE).unwrap();
    let funding = fund(&mut bench, 1, 70_000).unwrap();
    assert_eq!(funding.fee, told, "what was told before is what it costs");
    assert_eq!(funding.outpoint, OutPoint::new(funding.tx.compute_txid(), 0));
    assert_eq!(funding.tx.output[0].value, Amount::from_sat(70_000));
    assert_eq!(funding.tx.lock_time, LockTime::ZERO);
    let script = funding.tx.output[1].script_pubkey.as_bytes();
    let sealed: [u8; 40] = script[2..].try_into().unwrap();
    let first = funding.tx.input[0].previous_output.into();
    assert_eq!(
        RecoveryData::open(&RECOVERY, first, Position::First, &sealed),
        Some(recovery())
    );
    let sum: u64 = funding.tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert_eq!(sum + funding.fee.value(), 90_000);
    let size = funding.tx.vsize() as u64;
    assert!(
        (2 * size..=2 * size + 4).contains(&funding.fee.value()),
        "{} for {size} vB",
        funding.fee
    );
}

#[test]
fn reserved_coins_stay_reserved_over_a_restart_and_are_free_after_release() {
    let mut bench = Bench::new();
    let coins = vec![bench.coin(60_000)];
    bench.block(coins);
    let first = fund(&mut bench, 1, 50_000).unwrap();
    bench.restart();
    assert_eq!(
        bench.wallet.balance(),
        Balance {
            reserved: Sat::new(60_000),
            ..Balance::default()
        }
    );
    assert!(matches!(
        fund(&mut bench, 2, 50_000),
        Err(WalletError::Insufficient { .. })
    ));
    bench.wallet.release(Slot(1));
    bench.restart();
    assert_eq!(bench.wallet.balance().confirmed, Sat::new(60_000));
    let second = fund(&mut bench, 2, 50_000).unwrap();
    assert_eq!(
        first.tx.input[0].previous_output,
        second.tx.input[0].previous_output
    );
}

#[test]
fn funding_a_slot_again_frees_what_was_reserved_before() {
    let mut bench = Bench::new();
    let coins = vec![bench.coin(60_000)];
    bench.block(coins);
    fund(&mut bench, 1, 50_000).unwrap();
    fund(&mut bench, 1, 55_000).unwrap();
    assert_eq!(bench.wallet.balance().reserved, Sat::new(60_000));
}

#[test]
fn a_merged_journal_means_the_same_and_old_blocks_are_left_out() {
    let mut bench = Bench::new();
    let coins = vec![bench.coin(60_000)];
    bench.block(coins);
    for _ in 0..1_000 {
        bench.block(Vec::new());
        bench.journal.extend(bench.wallet.take_changes().unwrap());
    }
    let before = bench.wallet.balance();
    let merged = merge(&bench.journal).unwrap();
    let long: usize = bench.journal.iter().map(Vec::len).sum();
    assert!(merged.len() * 2 < long, "{} of {long}", merged.len());
    bench.journal = vec![merged];
    bench.restart();
    assert_eq!((bench.wallet.balance(), bench.wallet.height()), (before, 1_001));
    bench.block(Vec::new());
}

#[test]
fn a_journal_of_other_keys_or_with_damage_is_refused() {
    let mut bench = Bench::new();
    bench.restart();
    let mut other = keys();
    std::mem::swap(&mut other.external, &mut other.internal);
    assert!(matches!(
        Wallet::open(&other, &bench.journal),
        Err(WalletError::Journal(_))
    ));
    let mut cut = bench.journal.clone();
    cut[0].truncate(100);
    assert!(matches!(
        Wallet::open(&keys(), &cut),
        Err(WalletError::Journal(_))
    ));
    let mut public = keys();
    let descriptor = bench
        .wallet
        .bdk
        .public_descriptor(bdk_wallet::KeychainKind::External)
        .to_string();
    public.external = &descriptor;
    assert!(matches!(
        Wallet::open(&public, &[] as &[Vec<u8>]),
        Err(WalletError::Descriptor(_))
    ));
}

#[test]
fn a_reorganised_coin_is_unconfirmed_and_an_evicted_one_is_gone() {
    let mut bench = Bench::new();
    bench.block(Vec::new());
    let fork = bench.tip;
    let tx = bench.coin(60_000);
    bench.block(vec![tx.clone()]);
    bench.restart();
    (bench.tip, bench.height) = (fork, 1);
    let other = bench.coin(1_000);
    bench.block(vec![other]);
    assert_eq!(
        bench.wallet.balance(),
        Balance {
            confirmed: Sat::new(1_000),
            unconfirmed: Sat::new(60_000),
            reserved: Sat::ZERO
        }
    );
    bench.wallet.apply_unconfirmed(&tx);
    assert_eq!(bench.wallet.unconfirmed(), [tx.compute_txid()]);
    bench.wallet.drop_unconfirmed(&[tx.compute_txid()]);
    assert_eq!(bench.wallet.unconfirmed(), []);
    bench.restart();
    bench.wallet.apply_unconfirmed(&tx);
    assert_eq!(
        bench.wallet.balance().unconfirmed,
        Sat::new(60_000),
        "seen again after a restart"
    );
}

#[test]
fn a_wallet_can_begin_or_go_on_in_the_middle_of_the_chain() {
    let mut bench = Bench::new();
    bench.block(Vec::new());
    // Blocks that it never sees.
    (bench.tip, bench.height) = (BlockHash::from_byte_array([9; 32]), 500);
    let unseen = bench.coin(1_000);
    let header = genesis_block(Network::Regtest).header;
    let gap = Header {
        prev_blockhash: bench.tip,
        ..header
    };
    let next = Block {
        header: gap,
        txdata: vec![unseen],
    };
    assert!(matches!(
        bench.wallet.apply_block(&next, 501),
        Err(WalletError::Disconnected { height: 501 })
    ));
    assert_eq!(bench.wallet.balance(), Balance::default());

    bench.wallet.start_at(500, bench.tip).unwrap();
    let coin = bench.coin(60_000);
    bench.block(vec![coin]);
    bench.restart();
    assert_eq!(
        (bench.wallet.balance().confirmed, bench.wallet.height()),
        (Sat::new(60_000), 501)
    );
}
