use super::amount::{bytes, grouped, msat, parse_mib, parse_rate, rate, seconds};
use super::arguments::{Arguments, ChannelCommand, Command};
use super::receipt::Signed;
use super::{price, purchase, receipt};
use crate::config::{Config, example};
use crate::control::{BindingClass, Hex, Prices, ReceiptCopy};
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use clap::{CommandFactory, Parser};
use std::path::Path;
use turnpike_protocol::base::{
    BlockHeight, ByteCount, ChannelId, FeeRate, GenesisHash, Msat, NodeId, Sat, SheetHash,
};
use turnpike_protocol::crypto::{Signer, Verifier};
use turnpike_protocol::market::receipt_digest;
use turnpike_protocol::wire::{self, Receipt};

fn parse(words: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(std::iter::once("turnpike").chain(words.split_whitespace()))
}

#[test]
fn the_words_of_the_command_line_do_not_contradict_each_other() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_of_the_manual_is_understood() {
    let id = "ab".repeat(32);
    let card = "0000-0000-0000-001Y";
    for words in [
        "init",
        "init --restore --show-words --json",
        "status --json",
        "--json status",
        "discover --seconds 5",
        &format!("connect {id}@10.0.0.1:7473"),
        "price show",
        "price set --up 5msat/MiB --temporary",
        "price reload",
        "buy --mib 50 --max-sat 20",
        "buy --max-sat 20 --auto",
        &format!("buy --mib 0.5 --max-sat 20 --relay {id}@10.0.0.1:7473 --yes"),
        "stop",
        "channel list",
        "channel open --capacity-sat 50000 --lifetime-blocks 1008 -y",
        "channel close 3",
        "channel close --all --wait 0",
        "channel raise 3 2.5",
        "wallet address",
        "wallet balance",
        "wallet send bcrt1qxyz 5000 --rate 2",
        "receipts",
        "receipts list",
        "receipts verify receipts.json",
        "receipts verify 3",
        "exposure",
        "clients",
        "clients list",
        "clients sales --days 7",
        &format!("clients block {id}"),
        &format!("clients unblock {id}"),
        &format!("clients exempt {id}"),
        "clients block abcd",
        "refund export",
        "backup /media/card/backup",
        &format!("backup --move-to {card} /media/card/move"),
        "backup --undo-move",
        "card id",
        "restore /media/card/backup --data-dir /media/x",
        "update status --json",
        "update apply bundle.tpu",
        "update rollback",
        "update commit",
        "update fail no-answer",
        "update boot",
        "update serve --listen 127.0.0.1:0",
        "update manifest --version 4 --name 0.2.0 --board x,y --root-hash 00 --root-salt 00 --root-data-blocks 5 --kernel k --initrd j --root r out",
        "update pack --manifest m --signature s --signature t --kernel k --initrd j --root r out",
        "update slot-env manifest.toml slot.env",
        "doctor",
        "events --json",
        "completions bash",
    ] {
        parse(words).unwrap_or_else(|error| panic!("{words}: {error}"));
    }
}

#[test]
fn what_would_cost_money_by_mistake_is_not_understood() {
    for words in [
        "buy",
        "buy --mib 50",
        "buy --mib 50 --max-sat 0",
        "buy --mib 0 --max-sat 5",
        "buy --mib -1 --max-sat 5",
        "buy --mib 50 --max-sat 1.5",
        "buy --max-sat 5 --relay nobody",
        "channel close",
        "channel close 3 --all",
        "channel raise 3",
        "channel raise 3 0",
        "wallet send bcrt1qxyz",
        "wallet send bcrt1qxyz 0",
        "clients block abc",
        "clients block nobody",
        "channel close -1",
        "discover --seconds 0",
        "completions klingon",
    ] {
        assert!(parse(words).is_err(), "{words}");
    }
    let Command::Channel(ChannelCommand::Close {
        slot: None,
        all: true,
        ..
    }) = parse("channel close --all").unwrap().command
    else {
        panic!("not all");
    };
}

#[test]
fn numbers_are_shown_for_people_and_never_rounded_up() {
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(999), "999");
    assert_eq!(grouped(1_000), "1,000");
    assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    assert_eq!(msat(Msat::new(1_234_500)), "1,234.5 sat");
    assert_eq!(msat(Msat::new(1)), "0.001 sat");
    assert_eq!(msat(Msat::new(5_000)), "5 sat");
    assert_eq!(bytes(ByteCount::new(1_023)), "1023 B");
    assert_eq!(bytes(ByteCount::new((1 << 20) - 1)), "1023.9 KiB");
    assert_eq!(bytes(ByteCount::new(1 << 20)), "1.0 MiB");
    assert_eq!(bytes(ByteCount::new(u64::MAX - 1)), "16383.9 PiB");
    assert_eq!(bytes(ByteCount::MAX), "unlimited");
    assert_eq!(rate(FeeRate::new(2_500)), "2.5 sat/vB");
    assert_eq!(seconds(59), "59 s");
    assert_eq!(seconds(604_800), "7 d 0 h");
}

#[test]
fn rates_and_sizes_are_read_exactly() {
    assert_eq!(parse_rate("1").unwrap(), FeeRate::new(1_000));
    assert_eq!(parse_rate("2.5").unwrap(), FeeRate::new(2_500));
    assert_eq!(parse_rate("0.001").unwrap(), FeeRate::new(1));
    assert_eq!(parse_mib("50").unwrap(), 50 << 20);
    assert_eq!(parse_mib("0.5").unwrap(), 1 << 19);
    assert_eq!(parse_mib("17592186044415").unwrap(), 17_592_186_044_415 << 20);
    for wrong in [
        "",
        "0",
        ".5",
        "5.",
        "1.2.3",
        "-1",
        "+1",
        "1e3",
        "0.0001",
        " 1",
        "99999999999999999999",
    ] {
        assert!(parse_rate(wrong).is_err(), "{wrong}");
    }
    for wrong in ["0", "0.0000001", "17592186044416", "x"] {
        assert!(parse_mib(wrong).is_err(), "{wrong}");
    }
}

fn edited(text: &str, changes: &[(&str, &str)]) -> (String, Config) {
    let changes: Vec<_> = changes
        .iter()
        .map(|(key, value)| (*key, format!("\"{value}\"")))
        .collect();
    let text = price::edit(text, &changes);
    let config = Config::parse(Path::new("/t.toml"), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (text, config)
}

#[test]
fn new_prices_take_the_places_of_the_old_ones_and_comments_stay() {
    let original = example(Path::new("/var/lib/turnpike"));
    let (once, config) = edited(&original, &[("up", "7 msat/MiB"), ("free", "3 MiB")]);
    assert_eq!(config.price.up, Msat::new(7));
    assert_eq!(config.price.free, ByteCount::new(3 << 20));
    assert_eq!(once.lines().count(), original.lines().count());
    let differ = original.lines().zip(once.lines()).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 2, "only the lines of the two prices");
    let (twice, config) = edited(&once, &[("up", "8 msat/MiB")]);
    assert_eq!(config.price.up, Msat::new(8));
    assert_eq!(config.price.free, ByteCount::new(3 << 20));
    assert_eq!(twice.matches("\nup =").count(), 1);
}

#[test]
fn prices_find_their_section_or_make_it() {
    let bare = "[chain]\nbackend = \"play\"\n[node]\ndata_dir = \"/d\"\n";
    assert_eq!(edited(bare, &[("down", "9 msat/MiB")]).1.price.down, Msat::new(9));
    let between = "[chain]\nbackend = \"play\"\n[price]\n[node]\ndata_dir = \"/d\"\n";
    let (text, config) = edited(between, &[("up", "1 msat/MiB"), ("down", "2 msat/MiB")]);
    assert_eq!(
        (config.price.up, config.price.down),
        (Msat::new(1), Msat::new(2)),
        "{text}"
    );
    // `up` of another section, and a key that only begins alike, are not it.
    let alike = "[chain]\nbackend = \"play\"\n[price]\nup = \"3 msat/MiB\"\nfree_total = \"1 GiB\"\n[node]\ndata_dir = \"/d\" # up = 1\n";
    let (text, config) = edited(alike, &[("free", "1 KiB")]);
    assert_eq!(
        (config.price.free, config.price.free_total.value()),
        (ByteCount::new(1_024), 1 << 30),
        "{text}"
    );
}

#[test]
fn an_order_says_what_it_costs_and_how_far_the_money_goes() {
    let prices = |up, down, second| Prices {
        version: 1,
        valid_until_height: BlockHeight::new(9),
        up_msat_per_mib: Msat::new(up),
        down_msat_per_mib: Msat::new(down),
        msat_per_second: Msat::new(second),
        free_bytes: ByteCount::ZERO,
        free_total_bytes: None,
        window_min_bytes: ByteCount::ZERO,
        window_max_bytes: ByteCount::ZERO,
        class: BindingClass::Address,
    };
    let order =
        |bytes: Option<u64>, max, prices| purchase::order(bytes.map(ByteCount::new), Sat::new(max), &prices);
    let fifty = Some(50 << 20);
    assert_eq!(
        order(fifty, 3, prices(50, 60, 0)),
        "order: 50.0 MiB cost 3 sat at most"
    );
    assert_eq!(
        order(fifty, 2, prices(50, 60, 0)),
        "order: 50.0 MiB cost 3 sat at most; --max-sat 2 is sure to buy only 33.3 MiB of that"
    );
    assert_eq!(order(None, 6, prices(50, 60, 0)), "order: 6 sat buys 100.0 MiB");
    assert_eq!(
        order(None, 6, prices(60, 50, 10)),
        "order: 6 sat buys 100.0 MiB; each second of open service costs 0.01 sat of it"
    );
    assert_eq!(order(fifty, 1, prices(0, 0, 0)), "order: the bytes cost nothing");
    // What overflows is the largest figure, not a small one.
    assert!(order(Some(u64::MAX), u64::MAX, prices(u64::MAX, 0, 0)).contains("18,446,744,073,709,551"));
}

/// Signed by keys of its own, not by the code that checks it.
pub(super) fn signed_receipt() -> ReceiptCopy {
    let secp = Secp256k1::new();
    let key = |n: u8| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).unwrap());
    let node = |key: &Keypair| NodeId::from_bytes(key.x_only_public_key().0.serialize());
    let (relay, client) = (key(1), key(2));
    let receipt = Receipt {
        relay: node(&relay),
        client: node(&client),
        channel: ChannelId::from_bytes([3; 32]),
        sequence: 4,
        sheet: SheetHash::from_bytes([5; 32]),
        height: BlockHeight::new(6),
        up: ByteCount::new(7),
        down: ByteCount::new(8),
        seconds: 9,
        cost: Msat::new(10),
        paid: Msat::new(11),
    };
    let genesis = GenesisHash::from_bytes([12; 32]);
    let bytes = wire::encode(&receipt);
    let signer = Signer::new(&[1; 32]);
    let sign = |key: &Keypair, me, peer| {
        signer
            .sign(key, &receipt_digest(genesis, me, peer, receipt.channel, &bytes))
            .serialize()
    };
    ReceiptCopy {
        genesis: Hex(genesis),
        relay_signature: Hex(sign(&relay, receipt.relay, receipt.client)),
        client_signature: Some(Hex(sign(&client, receipt.client, receipt.relay))),
        receipt: Hex(bytes.clone()),
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
    }
}

#[test]
fn a_receipt_holds_only_with_both_signatures_over_just_these_figures() {
    let verifier = Verifier::new();
    let good = signed_receipt();
    assert_eq!(receipt::check(&verifier, &good), Ok(Signed::Both));
    let claim = ReceiptCopy {
        client_signature: None,
        ..good.clone()
    };
    assert_eq!(receipt::check(&verifier, &claim), Ok(Signed::RelayOnly));
    let refused = |change: &dyn Fn(&mut ReceiptCopy)| {
        let mut copy = good.clone();
        change(&mut copy);
        receipt::check(&verifier, &copy).unwrap_err()
    };
    assert!(refused(&|r| r.cost_msat = Msat::new(1)).contains("fields differ"));
    refused(&|r| r.genesis = Hex(GenesisHash::from_bytes([0; 32])));
    refused(&|r| r.relay_signature.0[63] ^= 1);
    refused(&|r| r.client_signature.as_mut().unwrap().0[0] ^= 1);
    refused(&|r| r.client_signature = Some(r.relay_signature));
    refused(&|r| r.receipt.0.push(0));
    refused(&|r| r.receipt.0.clear());
    refused(&|r| r.receipt.0.resize(1_000, 0));
    refused(&|r| *r.receipt.0.last_mut().unwrap() ^= 1);
}
