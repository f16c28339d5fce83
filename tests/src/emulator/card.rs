//! The card: a copy of the image, and what can be done to it while no machine uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

/// Names the image, raw or packed by xz.
const VARIABLE: &str = "TURNPIKE_IMAGE";
/// Where `make image` puts it.
const DEFAULT: &str = "target/image/turnpike-arm64.img.xz";
const MIB: u64 = 1 << 20;
/// An emulated SD card's size has to be a power of two; the image is smaller than this.
const CARD_BYTES: u64 = 1 << 30;
/// Where the boot partition begins (card.md).
const BOOT_OFFSET: &str = "4M";

/// A part of the card (card.md, "Layout").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The boot ledger.
    Ledger,
    /// The root of slot a.
    RootA,
    /// The root of slot b.
    RootB,
    /// The data partition, to the end of the card.
    Data,
}

impl Region {
    /// Its first byte on the card.
    pub fn start(self) -> u64 {
        match self {
            Region::Ledger => 260 * MIB,
            Region::RootA => 264 * MIB,
            Region::RootB => 392 * MIB,
            Region::Data => 520 * MIB,
        }
    }

    /// Its length on a card of this size.
    pub fn bytes(self) -> u64 {
        match self {
            Region::Ledger => 4 * MIB,
            Region::RootA | Region::RootB => 128 * MIB,
            Region::Data => CARD_BYTES - 520 * MIB,
        }
    }
}

/// The built image.
///
/// # Errors
/// There is none; the one line says what to run.
pub fn image() -> Result<PathBuf, String> {
    let path = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => workspace().join(DEFAULT),
    };
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "there is no card image at {}: run `make image` (or set {VARIABLE})",
        path.display()
    ))
}

fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("a workspace").to_owned()
}

/// The image unpacked, beside the other build results; made once for each image.
fn unpacked() -> PathBuf {
    let image = image().unwrap_or_else(|words| panic!("{words}"));
    if image.extension().is_none_or(|end| end != "xz") {
        return image;
    }
    let facts = fs::metadata(&image).expect("the image's facts");
    let since = facts.modified().expect("a time").duration_since(UNIX_EPOCH);
    let name = format!("{}-{}.img", since.map_or(0, |s| s.as_nanos()), facts.len());
    let folder = workspace().join("target/emulator");
    let path = folder.join(name);
    if path.exists() {
        return path;
    }
    fs::create_dir_all(&folder).expect("target/emulator");
    for old in fs::read_dir(&folder).expect("target/emulator").flatten() {
        let _ = fs::remove_file(old.path());
    }
    // Two tests may do this at once: each its own file, the last one stays.
    let unfinished = tempfile::NamedTempFile::new_in(&folder).expect("a file");
    let status = Command::new("xz")
        .args(["--decompress", "--stdout", "--threads=0"])
        .arg(&image)
        .stdout(unfinished.reopen().expect("the file"))
        .status();
    assert!(
        status.expect("xz").success(),
        "{} cannot be unpacked",
        image.display()
    );
    unfinished.persist(&path).expect("the unpacked image");
    path
}

/// A flashed card.
pub struct Card {
    folder: TempDir,
}

impl Card {
    /// Flashes the image onto a new card of 1 GiB.
    pub fn flash() -> Card {
        let folder = tempfile::Builder::new().prefix("turnpike-card-").tempdir();
        let card = Card {
            folder: folder.expect("temporary directory"),
        };
        run(Command::new("cp")
            .args(["--sparse=always"])
            .arg(unpacked())
            .arg(card.path()));
        let file = card.open();
        assert!(
            file.metadata().expect("the card's size").len() <= CARD_BYTES,
            "the image is larger than the card"
        );
        file.set_len(CARD_BYTES).expect("the card's size");
        card
    }

    /// The same card once more, byte for byte.
    pub fn copy(&self) -> Card {
        let folder = tempfile::Builder::new().prefix("turnpike-card-").tempdir();
        let copy = Card {
            folder: folder.expect("temporary directory"),
        };
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(self.path())
            .arg(copy.path()));
        copy
    }

    /// The card's file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("card.img")
    }

    /// A folder that goes with the card.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file on the boot partition, as an owner does on a desktop.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join("to-boot");
        fs::write(&file, bytes).expect("a file");
        run(self.mtools("mcopy").arg("-o").arg(&file).arg(format!("::{name}")));
    }

    /// Reads a file of the boot partition, if it is there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.folder.path().join("from-boot");
        let output = self
            .mtools("mcopy")
            .args(["-n", "-o"])
            .arg(format!("::{name}"))
            .arg(&file)
            .output();
        let there = output.expect("mcopy from mtools").status.success();
        there.then(|| fs::read(&file).expect("the copied file"))
    }

    /// Reads a text file of the boot partition.
    pub fn text(&self, name: &str) -> Option<String> {
        self.read(name)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Removes a file of the boot partition.
    pub fn remove(&self, name: &str) {
        run(self.mtools("mdel").arg(format!("::{name}")));
    }

    /// Asks fsck.vfat whether the boot partition is whole; its words otherwise. The flag that says that it is in use does not count.
    pub fn boot_faults(&self) -> Option<String> {
        let file = self.folder.path().join("boot.img");
        self.extract(4 * MIB, 256 * MIB, &file);
        let output = output(Command::new("fsck.vfat").arg("-n").arg(&file));
        let _ = fs::remove_file(&file);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let dirty_only = text.contains("Dirty bit is set") && !text.contains("cluster");
        (!output.status.success() && !dirty_only).then_some(text)
    }

    /// Bytes of the card.
    pub fn bytes(&self, from: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.open()
            .read_exact_at(&mut bytes, from)
            .expect("bytes of the card");
        bytes
    }

    /// Puts bytes onto the card.
    pub fn patch(&self, from: u64, bytes: &[u8]) {
        self.open().write_all_at(bytes, from).expect("bytes of the card");
    }

    /// Inverts one bit.
    pub fn flip(&self, at: u64) {
        let byte = self.bytes(at, 1)[0];
        self.patch(at, &[byte ^ 0x10]);
    }

    /// Copies a region over another one.
    pub fn duplicate(&self, from: Region, to: Region) {
        assert_eq!(from.bytes(), to.bytes(), "regions of one size");
        for place in (0..from.bytes()).step_by(MIB as usize) {
            let chunk = self.bytes(from.start() + place, MIB as usize);
            self.patch(to.start() + place, &chunk);
        }
    }

    /// Replays the data partition's journal on a copy, as a mount does, and then asks e2fsck whether anything is left to repair; its
    /// words if so.
    pub fn data_faults(&self) -> Option<String> {
        let file = self.folder.path().join("data.img");
        self.extract(Region::Data.start(), Region::Data.bytes(), &file);
        let journal = output(
            Command::new("e2fsck")
                .args(["-E", "journal_only", "-p"])
                .arg(&file),
        );
        let check = output(Command::new("e2fsck").args(["-f", "-n"]).arg(&file));
        let _ = fs::remove_file(&file);
        let words = format!(
            "{}{}",
            String::from_utf8_lossy(&journal.stdout),
            String::from_utf8_lossy(&check.stdout)
        );
        (!check.status.success()).then_some(words)
    }

    fn mtools(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("MTOOLS_SKIP_CHECK", "1")
            .arg("-i")
            .arg(format!("{}@@{BOOT_OFFSET}", self.path().display()));
        command
    }

    fn open(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path())
            .expect("the card's file")
    }

    fn extract(&self, from: u64, length: u64, to: &Path) {
        let mut card = self.open();
        let mut file = File::create(to).expect("a file");
        file.set_len(length).expect("its size");
        card.seek(SeekFrom::Start(from)).expect("the place");
        let mut chunk = vec![0; MIB as usize];
        for place in (0..length).step_by(MIB as usize) {
            card.read_exact(&mut chunk).expect("bytes of the card");
            if chunk.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(place)).expect("the place");
                file.write_all(&chunk).expect("the copy");
            }
        }
    }
}

fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().to_string_lossy()))
}

fn run(command: &mut Command) {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
