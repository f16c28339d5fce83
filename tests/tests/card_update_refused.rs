//! Bad updates that a card refuses before it writes anything; the owner sees why, and the node goes on selling.

use std::fs;
use std::path::Path;
use turnpike_tests::emulator::{Board, Depot, Region, Stand, Wish, Workshop};
use turnpike_tests::in_lab;

const BOARD: Board = Board::Virt { memory: 512 };
/// MiB.
const SALE: u64 = 2;

/// Everything on the card that a boot needs and an update might change.
fn firmware(stand: &mut Stand) -> Vec<Option<Vec<u8>>> {
    let card = stand.machine.card();
    let mut all: Vec<_> = ["kernel", "initrd.img", "slot.env", "manifest.toml", "good", "bad"]
        .iter()
        .flat_map(|file| [card.read(&format!("a/{file}")), card.read(&format!("b/{file}"))])
        .collect();
    all.push(card.read("trial.env"));
    for region in [Region::RootA, Region::RootB] {
        all.push(Some(card.bytes(region.start(), region.bytes() as usize)));
    }
    all
}

/// The built bundle with a good signature and one that its key did not make for it.
fn forged(workshop: &Workshop) -> std::path::PathBuf {
    let other = workshop.bundle(
        "another",
        Wish {
            above: 2,
            ..Wish::default()
        },
    );
    let (bundle, end) = (workshop.bundle("forged", Wish::default()), 256 * 1_024);
    let mut bytes = fs::read(&bundle).expect("a bundle");
    let from = fs::read(other).expect("the other bundle");
    // The second signature of a bundle that says something else: same key, same length.
    let place = |bytes: &[u8]| {
        let head = &bytes[..bytes.len().min(end)];
        let mark = b"untrusted comment";
        let found = (0..head.len()).rev().find(|at| head[*at..].starts_with(mark));
        found.expect("a signature")
    };
    let (to, of) = (place(&bytes), place(&from));
    // The comment's line, and the line with the signature.
    let length = from[of..]
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .nth(1)
        .expect("two lines")
        .0;
    bytes[to..to + length].copy_from_slice(&from[of..of + length]);
    assert_ne!(bytes, fs::read(&bundle).expect("a bundle"));
    fs::write(&bundle, bytes).expect("the forged bundle");
    bundle
}

fn truncated(workshop: &Workshop) -> std::path::PathBuf {
    let bundle = workshop.bundle("truncated", Wish::default());
    let length = fs::metadata(&bundle).expect("a bundle").len();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&bundle)
        .expect("a bundle");
    file.set_len(length / 2).expect("its half");
    bundle
}

in_lab! {
    #[ignore = "needs the card image: make update-test"]
    fn forged_unsigned_older_truncated_and_foreign_updates_are_refused_and_the_node_goes_on_selling() {
        let workshop = Workshop::open();
        let bundles = [
            ("a forged signature", forged(&workshop), "1 of the 2 signatures"),
            (
                "a signature of somebody unknown",
                workshop.bundle("unknown", Wish { signers: &[0, 2], ..Wish::default() }),
                "1 of the 2 signatures",
            ),
            (
                "too few signatures",
                workshop.bundle("few", Wish { signers: &[1], ..Wish::default() }),
                "1 of the 2 signatures",
            ),
            (
                "an older version",
                workshop.bundle("older", Wish { above: -1, ..Wish::default() }),
                "is not above",
            ),
            ("half a bundle", truncated(&workshop), "not a whole update bundle"),
            (
                "another board",
                workshop.bundle("foreign", Wish { board: "vendor,other", ..Wish::default() }),
                "for other boards (vendor,other)",
            ),
        ];
        let depot = Depot::open(&workshop.path(""));
        let mut stand = Stand::with(BOARD, |settings| settings.more(&workshop.settings()));
        stand.client.start();
        stand.fund();
        let before = firmware(&mut stand);
        stand.boot().expect("a first boot");
        for (what, bundle, words) in &bundles {
            let (status, said) = stand.update(&depot.address(bundle)).expect(what);
            assert_eq!(status, "1", "{what}: {said}");
            let update = stand.update_status().expect("a status");
            let reason = update["update"]["reason"].as_str().unwrap_or_default();
            println!("{what}: {reason}");
            assert_eq!(update["update"]["stage"], "refused", "{what}: {update}");
            assert!(reason.contains(words), "{what}: {reason}");
            assert!(update["update"]["source"].as_str().is_some_and(|s| s.contains(name(bundle))), "{what}: {update}");
            assert_eq!([&update["running"], &update["next"]], ["a", "a"], "{what}: {update}");
        }
        stand.first_prices().expect("prices");
        let sold = stand.sale(SALE).expect("a sale");
        println!("sold {sold:?}");
        stand.machine.cut();
        assert!(before == firmware(&mut stand), "the card's firmware is not as it was");
    }
}

fn name(bundle: &Path) -> &str {
    bundle.file_name().and_then(|name| name.to_str()).expect("a name")
}
