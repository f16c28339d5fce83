//! An update whose power goes at every write.

use super::*;
use crate::card::{ATTEMPTS, BootChoice, Disk, Medium, Places, Slot, SlotFiles, TRIAL_BYTES, Trial};
use bitcoin::base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// The slot's partition, bytes.
const PARTITION: usize = 3 * MIB;
const BOARD: &str = "linux,dummy-virt";

/// Files of the card by their names below its folder.
type Image = BTreeMap<PathBuf, Vec<u8>>;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length / 8 + 1).flatten().take(length).collect()
}

/// In memory where there is such a place: the tests write some hundred cards.
fn folder() -> TempDir {
    match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new(seed: u8) -> Signer {
        Signer(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn public(&self) -> String {
        let bytes = [b"Ed".as_slice(), &[7; 8], self.0.public_key().as_ref()].concat();
        BASE64_STANDARD.encode(bytes)
    }

    fn sign(&self, message: &[u8]) -> String {
        let signature = self.0.sign(message);
        let comment = "timestamp:1";
        let global = self.0.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let whole = [b"Ed".as_slice(), &[7; 8], signature.as_ref()].concat();
        format!(
            "untrusted comment: x\n{}\ntrusted comment: {comment}\n{}\n",
            BASE64_STANDARD.encode(whole),
            BASE64_STANDARD.encode(global.as_ref())
        )
    }
}

/// A bundle of this version, and its manifest.
fn bundle(at: &Path, version: u64) -> (Layout, Manifest) {
    let files = [
        ("kernel", MIB + 5_000),
        ("initrd.img", 9_000),
        ("root.img", 2 * MIB + 4_096),
    ];
    let paths = files.map(|(name, _)| at.join(format!("{version}-{name}")));
    for ((_, length), (i, path)) in files.iter().zip(paths.iter().enumerate()) {
        fs::write(path, noise(version * 10 + i as u64, *length)).unwrap();
    }
    let facts = ManifestFacts {
        version,
        name: format!("0.{version}.0"),
        boards: vec![BOARD.to_owned()],
        store_reads: [1, 1],
        store_writes: 1,
        root_hash: "ab".repeat(32),
        root_salt: "cd".to_owned(),
        root_data_blocks: 500,
    };
    let [kernel, initrd, root] = &paths;
    let manifest = Manifest::make(facts, kernel, initrd, root).unwrap();
    let text = manifest.to_text();
    let signature = Signer::new(1).sign(text.as_bytes());
    let layout = Layout::new(text.as_bytes(), &[signature], [kernel, initrd, root]).unwrap();
    layout.check(&manifest).unwrap();
    (layout, manifest)
}

/// A firmware as it is in a slot.
fn fill(image: &mut Image, slot: Slot, version: u64) {
    let name = slot.name();
    let env = format!("root_hash=ab\nroot_salt=cd\nroot_data_blocks=5\nversion={version}\n");
    for (file, bytes) in [
        ("kernel", noise(version, 2_000)),
        ("initrd.img", noise(version + 1, MIB + 1)),
        ("slot.env", env.into_bytes()),
    ] {
        image.insert(format!("boot/{name}/{file}").into(), bytes);
    }
    image.insert(format!("root-{name}").into(), noise(version + 2, PARTITION));
}

/// A card that runs `running` with version 41.
fn card(running: Slot) -> Image {
    let mut image = Image::new();
    fill(&mut image, running, 41);
    // As short as the tests like it: nothing reads a root that runs.
    image.insert(format!("root-{}", running.name()).into(), noise(7, 70_000));
    image.insert(
        format!("root-{}", running.other().name()).into(),
        vec![0; PARTITION],
    );
    image.insert("compatible".into(), format!("{BOARD}\0").into_bytes());
    let keys = format!("keys = [\"{}\"]\n", Signer::new(1).public());
    image.insert("update-keys.toml".into(), keys.into_bytes());
    image.insert(
        "cmdline".into(),
        format!("turnpike.slot={}\n", running.name()).into_bytes(),
    );
    image
}

fn mark(image: &mut Image, name: &str) {
    image.insert(name.into(), b"mark\n".to_vec());
}

fn lay(image: &Image, folder: &Path) -> Places {
    for (name, bytes) in image {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    Places::under(folder)
}

/// What was done to the card, in order.
#[derive(Clone, Debug)]
enum Op {
    Put(PathBuf, Vec<u8>),
    Write(PathBuf, usize, Vec<u8>),
    Truncate(PathBuf, usize),
    Remove(PathBuf),
    Sync,
}

/// The real medium, which remembers.
struct Recorder {
    folder: PathBuf,
    ops: Vec<Op>,
}

impl Recorder {
    fn name(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.folder).unwrap().to_owned()
    }
}

impl Medium for Recorder {
    fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.ops.push(Op::Put(self.name(path), bytes.to_vec()));
        Disk.put(path, bytes)
    }

    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.ops
            .push(Op::Write(self.name(path), offset as usize, bytes.to_vec()));
        Disk.write_at(path, offset, bytes)
    }

    fn truncate(&mut self, path: &Path, length: u64) -> io::Result<()> {
        // A partition is not cut.
        if path.starts_with(self.folder.join("boot")) {
            self.ops.push(Op::Truncate(self.name(path), length as usize));
            Disk.truncate(path, length)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.ops.push(Op::Remove(self.name(path)));
        Disk.remove(path)
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.ops.push(Op::Sync);
        Disk.sync(path)
    }
}

/// Applies an operation, of a write only the first `kept` bytes.
fn play(image: &mut Image, op: &Op, kept: usize) {
    match op {
        Op::Put(name, bytes) => {
            image.insert(name.clone(), bytes.clone());
        }
        Op::Write(name, offset, bytes) => {
            let kept = kept.min(bytes.len());
            let file = image.entry(name.clone()).or_default();
            if file.len() < offset + kept {
                file.resize(offset + kept, 0);
            }
            file[*offset..offset + kept].copy_from_slice(&bytes[..kept]);
        }
        Op::Truncate(name, length) => {
            let file = image.get_mut(name).unwrap();
            file.truncate(*length);
        }
        Op::Remove(name) => {
            image.remove(name);
        }
        Op::Sync => {}
    }
}

/// Every state of the card that a cut may leave: what is durable, and of what was written since any prefix, each write
/// alone missing or alone there, each one torn; a small file old, new, or gone, as FAT does it.
fn states(before: &Image, ops: &[Op], mut visit: impl FnMut(&str, Image)) {
    let mut durable = before.clone();
    let mut pending: Vec<Op> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let here = |what: &str| format!("cut at write {i} of {}, {what}", ops.len());
        match op {
            Op::Put(name, bytes) => {
                assert!(pending.is_empty(), "a name changes while bytes are not durable");
                visit(&here("before"), durable.clone());
                let mut gone = durable.clone();
                gone.remove(name);
                let mut unfinished = name.clone().into_os_string();
                unfinished.push(".new");
                gone.insert(unfinished.into(), bytes[..bytes.len() / 2].to_vec());
                visit(&here("the name is gone"), gone);
                play(&mut durable, op, usize::MAX);
            }
            Op::Remove(_) => {
                assert!(pending.is_empty(), "a name changes while bytes are not durable");
                visit(&here("before"), durable.clone());
                play(&mut durable, op, usize::MAX);
            }
            Op::Write(..) | Op::Truncate(..) => pending.push(op.clone()),
            Op::Sync => {
                for count in 0..=pending.len() {
                    visit(
                        &here(&format!("{count} reached the card")),
                        partly(&durable, &pending, |n| if n < count { usize::MAX } else { 0 }),
                    );
                }
                for (n, op) in pending.iter().enumerate() {
                    visit(
                        &here(&format!("all but {n}")),
                        partly(&durable, &pending, |m| if m == n { 0 } else { usize::MAX }),
                    );
                    let Op::Write(_, _, bytes) = op else { continue };
                    let tears = [bytes.len() / 2, 1, 300, 512];
                    // One is enough of a chunk: it is the hash that notices.
                    let count = if bytes.len() > TRIAL_BYTES { 1 } else { tears.len() };
                    for tear in tears.into_iter().take(count) {
                        visit(
                            &here(&format!("{n} torn after {tear}")),
                            partly(&durable, &pending, |m| if m == n { tear } else { usize::MAX }),
                        );
                    }
                }
                for op in pending.drain(..) {
                    play(&mut durable, &op, usize::MAX);
                }
            }
        }
    }
    assert!(pending.is_empty(), "something is never made durable");
    visit("not cut", durable);
}

fn partly(durable: &Image, pending: &[Op], mut kept: impl FnMut(usize) -> usize) -> Image {
    let mut image = durable.clone();
    for (n, op) in pending.iter().enumerate() {
        match (op, kept(n)) {
            (_, 0) => {}
            // A file that was never made cannot be cut.
            (Op::Truncate(name, _), _) if !image.contains_key(name) => {}
            (op, kept) => play(&mut image, op, kept),
        }
    }
    image
}

/// The slot's files are those of before the update; markers apart.
fn as_before(places: &Places, slot: Slot, before: &Image) -> bool {
    let folder = places.boot.parent().unwrap();
    let name = slot.name();
    before.iter().all(|(file, bytes)| {
        let own = file.starts_with(format!("boot/{name}")) || file == Path::new(&format!("root-{name}"));
        let marker = file.ends_with("good") || file.ends_with("bad");
        !own || marker || fs::read(folder.join(file)).is_ok_and(|now| now == *bytes)
    })
}

/// The slot holds the whole new firmware.
fn as_signed(places: &Places, slot: Slot, manifest: &Manifest) -> bool {
    let holds = |entry: &FileEntry| {
        let file = fs::File::open(super::apply::place(places, slot, entry));
        file.is_ok_and(|file| super::apply::holds(&file, entry).unwrap())
    };
    manifest.files.iter().all(holds) && SlotFiles::of(places, slot).env() == Some(manifest.slot_env())
}

fn next(places: &Places) -> (Option<Slot>, Option<u8>) {
    let choice = BootChoice::of(places);
    (choice.slot, choice.trial)
}

/// The machine starts: U-Boot counts, and tells the kernel.
fn boot(places: &Places) -> Slot {
    let choice = BootChoice::of(places);
    let slot = choice.slot.unwrap();
    let mut line = format!("turnpike.slot={}", slot.name());
    if let (Some(left), Some(trial)) = (choice.trial, Trial::read(places)) {
        Trial::write(Some(Trial { left, ..trial }), places, &mut Disk).unwrap();
        line += &format!(" turnpike.trial={left}");
        assert_eq!(slot, trial.slot);
    }
    if let Some(failed) = choice.failed {
        line += &format!(" turnpike.failed={}", failed.name());
    }
    fs::write(&places.cmdline, line).unwrap();
    slot
}

fn apply_quietly(
    places: &Places,
    layout: &mut Layout,
    medium: &mut dyn Medium,
) -> Result<Applied, UpdateError> {
    apply(places, "a test", layout, medium, &mut |_| {})
}

/// Cuts an update of this card at every write; gives the number of states.
fn cut_everywhere(before: &Image, running: Slot) -> usize {
    let work = folder();
    let (mut layout, manifest) = bundle(work.path(), 42);
    let first = folder();
    let places = lay(before, first.path());
    let mut recorder = Recorder {
        folder: first.path().to_owned(),
        ops: Vec::new(),
    };
    apply_quietly(&places, &mut layout, &mut recorder).unwrap();
    let target = running.other();
    let mut count = 0;
    states(before, &recorder.ops, |what, image| {
        count += 1;
        let cut = folder();
        let places = lay(&image, cut.path());
        let (slot, trial) = next(&places);
        let slot = slot.unwrap_or_else(|| panic!("{what}: nothing boots"));
        assert!(
            as_before(&places, running, before),
            "{what}: the running slot was written to"
        );
        let whole = as_signed(&places, target, &manifest);
        assert!(slot == running || whole, "{what}: the new one is not whole");
        // Not even as a last resort.
        let loadable = SlotFiles::of(&places, target).facts().loadable;
        assert!(
            !loadable || whole || as_before(&places, target, before),
            "{what}: half of it could start"
        );
        // The new one only ever on trial.
        assert_eq!(trial.is_some(), slot == target, "{what}");
        // The first boot after the cut is the old one, or already the new one on trial, after which the old one comes.
        if slot == target {
            for left in (0..ATTEMPTS).rev() {
                assert_eq!(boot(&places), target, "{what}");
                assert_eq!(Trial::read(&places), Some(Trial { slot: target, left }));
            }
        }
        assert_eq!(boot(&places), running, "{what}: the way back");
        settle(&places, &mut Disk).unwrap();
        let applied =
            apply_quietly(&places, &mut layout, &mut Disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            applied.fetched_bytes + applied.kept_bytes,
            layout_bytes(&manifest)
        );
        assert_eq!(next(&places), (Some(target), Some(ATTEMPTS - 1)), "{what}");
        assert!(as_signed(&places, target, &manifest), "{what}");
        if slot == target {
            assert_eq!(applied.fetched_bytes, 0, "{what}: it was all there");
        }
        boot(&places);
        commit(&places, &mut Disk).unwrap();
        assert_eq!(next(&places), (Some(target), None), "{what}");
    });
    count
}

fn layout_bytes(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.size).sum()
}

#[test]
fn a_cut_at_any_write_of_an_update_leaves_a_whole_slot_to_boot_and_the_update_goes_on() {
    // Flashed: a runs, b is empty.
    let mut flashed = card(Slot::A);
    mark(&mut flashed, "boot/a/good");
    let count = cut_everywhere(&flashed, Slot::A);
    assert!(count > 40, "{count}");
    // The way back from b to a, with an older firmware in a.
    let mut other = card(Slot::B);
    fill(&mut other, Slot::A, 40);
    mark(&mut other, "boot/b/good");
    println!("{count} and {} states", cut_everywhere(&other, Slot::B));
}

#[test]
fn also_where_the_slots_marks_are_odd() {
    // a cannot be loaded, so b runs without ever having been good.
    let mut odd = card(Slot::B);
    fill(&mut odd, Slot::A, 40);
    odd.remove(Path::new("boot/a/kernel"));
    cut_everywhere(&odd, Slot::B);
    // b is good and bad, so a runs.
    let mut odd = card(Slot::A);
    fill(&mut odd, Slot::B, 40);
    for name in ["boot/a/good", "boot/b/good", "boot/b/bad"] {
        mark(&mut odd, name);
    }
    cut_everywhere(&odd, Slot::A);
    // b failed its trial, and nobody cleared that.
    let mut odd = card(Slot::A);
    fill(&mut odd, Slot::B, 40);
    let failed = Trial {
        slot: Slot::B,
        left: 0,
    };
    odd.insert("boot/trial.env".into(), Trial::to_bytes(Some(failed)).to_vec());
    cut_everywhere(&odd, Slot::A);
}

#[test]
fn a_cut_at_any_write_of_a_commit_ends_as_committed_or_as_rolled_back_and_says_which() {
    for running in Slot::ALL {
        let target = running.other();
        for boots in 1..=ATTEMPTS {
            let mut before = card(running);
            mark(&mut before, &format!("boot/{}/good", running.name()));
            let work = folder();
            let (mut layout, _) = bundle(work.path(), 42);
            let first = folder();
            let places = lay(&before, first.path());
            apply_quietly(&places, &mut layout, &mut Disk).unwrap();
            for _ in 0..boots {
                assert_eq!(boot(&places), target);
            }
            let before = read_all(first.path());
            let mut recorder = Recorder {
                folder: first.path().to_owned(),
                ops: Vec::new(),
            };
            assert_eq!(commit(&places, &mut recorder).unwrap(), Commit::Done(target));
            states(&before, &recorder.ops, |what, image| {
                let what = format!("into {target:?} at boot {boots}: {what}");
                let cut = folder();
                let places = lay(&image, cut.path());
                let slot = boot(&places);
                settle(&places, &mut Disk).unwrap();
                commit(&places, &mut Disk).unwrap();
                let stage = Outcome::read(&places).unwrap().stage;
                let expected = if slot == target {
                    Stage::Committed
                } else {
                    Stage::RolledBack
                };
                assert_eq!(stage, expected, "{what}");
                // Without a way to lose the last attempt, no cut loses the update.
                assert!(slot == target || boots == ATTEMPTS, "{what}");
                assert_eq!(next(&places), (Some(slot), None), "{what}: it stays so");
                assert_eq!(boot(&places), slot);
                assert_eq!(settle(&places, &mut Disk).unwrap(), Verdict::Nothing, "{what}");
            });
        }
    }
}

fn read_all(folder: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                image.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    image
}

#[test]
fn a_card_that_loses_writes_is_not_switched() {
    /// Confirms everything, and keeps nothing of the root.
    struct Liar;
    impl Medium for Liar {
        fn put(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            Disk.put(path, bytes)
        }
        fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
            match path.ends_with("root-b") && offset > 0 {
                true => Ok(()),
                false => Disk.write_at(path, offset, bytes),
            }
        }
        fn truncate(&mut self, path: &Path, length: u64) -> io::Result<()> {
            match path.ends_with("root-b") {
                true => Ok(()),
                false => Disk.truncate(path, length),
            }
        }
        fn remove(&mut self, path: &Path) -> io::Result<()> {
            Disk.remove(path)
        }
        fn sync(&mut self, path: &Path) -> io::Result<()> {
            Disk.sync(path)
        }
    }
    let work = folder();
    let (mut layout, _) = bundle(work.path(), 42);
    let places = lay(&card(Slot::A), work.path());
    let error = apply_quietly(&places, &mut layout, &mut Liar).unwrap_err();
    assert!(
        matches!(error, UpdateError::ReadBack { file: "root.img" }),
        "{error}"
    );
    assert_eq!(next(&places), (Some(Slot::A), None));
    let problems = crate::card::Problems::of(&places).list();
    assert_eq!(problems[0].code, "card-drops-writes");
    assert_eq!(Outcome::read(&places).unwrap().stage, Stage::Fetching);
}

#[test]
fn manifests_that_make_no_sense_are_refused_whatever_is_signed() {
    let work = folder();
    let (_, manifest) = bundle(work.path(), 42);
    let good = manifest.to_text();
    assert_eq!(Manifest::parse(good.as_bytes()).unwrap(), manifest);
    let cases = [
        ("format = 1", "format = 2"),
        ("version = 42", "version = 0"),
        ("version = 42", "version = -1"),
        ("version = 42", "version = 42\nsurprise = 1"),
        ("name = \"0.42.0\"", "name = \"a\\nb\""),
        ("name = \"0.42.0\"", "name = \"\""),
        ("boards = [", "boards = [] #"),
        ("boards = [", "boards = [\"a b\", "),
        ("store_reads = [1, 1]", "store_reads = [2, 1]"),
        ("store_reads = [1, 1]", "store_reads = [1]"),
        ("store_writes = 1", "store_writes = 2"),
        ("root_salt = \"cd\"", "root_salt = \"c\""),
        ("root_salt = \"cd\"", "root_salt = \"cd\\nversion=9\""),
        ("root_data_blocks = 500", "root_data_blocks = 0"),
        ("root_data_blocks = 500", "root_data_blocks = 514"),
        ("root_data_blocks = 500", "root_data_blocks = 9223372036854775807"),
        ("name = \"kernel\"", "name = \"../kernel\""),
        ("name = \"kernel\"", "name = \"root.img\""),
        ("size = 9000", "size = 0"),
        ("size = 9000", "size = 10000000000"),
        ("size = 9000", "size = 1048577"),
        ("chunks = [", "chunks = [\"\", "),
        ("[[file]]", "[[file]]\nmode = 7"),
    ];
    for (from, to) in cases {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        assert!(Manifest::parse(text.as_bytes()).is_err(), "{to}");
    }
    let deep = format!("{}x = {}", good, "[".repeat(200_000));
    for bytes in [
        &b""[..],
        &[0xff; 100],
        deep.as_bytes(),
        &good.as_bytes()[..good.len() / 2],
    ] {
        assert!(Manifest::parse(bytes).is_err());
    }
}

#[test]
fn no_damage_to_a_bundles_beginning_is_taken_for_the_bundle() {
    let work = folder();
    let (layout, manifest) = bundle(work.path(), 42);
    let places = lay(&card(Slot::A), work.path());
    let path = work.path().join("x.tpu");
    let mut whole = Vec::new();
    layout.write_to(&mut whole).unwrap();
    fs::write(&path, &whole).unwrap();
    let inspected = |bytes: &[u8]| {
        // The end stays: only the length counts there.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
        inspect(&places, &mut FileSource::open(&path).unwrap())
    };
    // Manifest, its signature, and the first file's header.
    let beginning = &whole[..whole.len().min(4_096)];
    assert_eq!(inspected(beginning).unwrap(), manifest);
    let random = noise(99, 3_000 * 6);
    let mut taken = 0;
    for choice in random.chunks(6) {
        let mut bytes = beginning.to_vec();
        let at = usize::from(u16::from_le_bytes([choice[0], choice[1]])) % bytes.len();
        match choice[2] % 4 {
            0 => bytes[at] ^= 1 << (choice[3] % 8),
            1 => bytes[at] = choice[3],
            2 => bytes[at..].rotate_left(usize::from(choice[4]) % (beginning.len() - at).max(1)),
            _ => {
                let end = (at + usize::from(choice[4])).min(bytes.len());
                bytes[at..end].fill(choice[5]);
            }
        }
        match inspected(&bytes) {
            // Padding between members and a signature's first line are nobody's word.
            Ok(other) => {
                assert_eq!(other, manifest);
                taken += 1;
            }
            Err(UpdateError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    println!("{taken} of 3000 changed nothing that counts");
    assert!(taken < 1_500, "{taken}");
}
