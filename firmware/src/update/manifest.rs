//! The manifest: what a bundle holds, and for whom.

use super::{CHUNK, Digest, Hashing, MAX_BOOT_FILE, MAX_ROOT, Refusal};
use crate::card::{INITRD, KERNEL, SlotEnv};
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;

/// The root's name in a bundle.
pub(super) const ROOT: &str = "root.img";
/// Version of the manifest.
const FORMAT: u32 = 1;
/// Most boards that a manifest names, and bytes of each name.
const MAX_BOARDS: usize = 64;
const MAX_BOARD: usize = 128;
/// Longest name of a firmware, bytes.
const MAX_NAME: usize = 64;
/// Longest salt, hex digits: 256 bytes, dm-verity's own limit.
const MAX_SALT: usize = 512;
/// TOML has no larger integers.
const MAX_VERSION: u64 = i64::MAX as u64;

/// One file of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// Its name in the bundle.
    pub name: &'static str,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
    /// Of each [`CHUNK`].
    pub chunks: Vec<Digest>,
}

impl FileEntry {
    /// Bytes of chunk number `index`.
    pub fn chunk_length(&self, index: usize) -> u64 {
        self.size.saturating_sub(index as u64 * CHUNK).min(CHUNK)
    }
}

/// What the manifest says beside its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestFacts {
    /// Only rises; 1 at least.
    pub version: u64,
    /// For people, such as `0.2.0`.
    pub name: String,
    /// `compatible` texts of device trees.
    pub boards: Vec<String>,
    /// Oldest and newest store format that this firmware reads.
    pub store_reads: [u32; 2],
    /// The store format that it writes.
    pub store_writes: u32,
    /// Hash at the top of the root's tree, 64 hex digits.
    pub root_hash: String,
    /// Salt of the tree, hex.
    pub root_salt: String,
    /// Blocks of 4,096 bytes before the tree.
    pub root_data_blocks: u64,
}

/// A manifest whose every field makes sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// What it says beside its files.
    pub facts: ManifestFacts,
    /// Kernel, initramfs and root, in the order of the bundle.
    pub files: [FileEntry; 3],
}

impl Manifest {
    /// Hashes the three files and makes the manifest of them.
    ///
    /// # Errors
    /// A file that cannot be read, named in the text, or facts that [`Manifest::parse`] would refuse.
    pub fn make(facts: ManifestFacts, kernel: &Path, initrd: &Path, root: &Path) -> io::Result<Manifest> {
        let entry = |name: &'static str, path: &Path| -> io::Result<FileEntry> {
            let said = |error| io::Error::other(format!("{}: {error}", path.display()));
            let hashing = Hashing::read(File::open(path).map_err(said)?, limit(name)).map_err(said)?;
            let size = hashing.size();
            let (sha256, chunks) = hashing.finish();
            Ok(FileEntry {
                name,
                size,
                sha256,
                chunks,
            })
        };
        let manifest = Manifest {
            facts,
            files: [entry(KERNEL, kernel)?, entry(INITRD, initrd)?, entry(ROOT, root)?],
        };
        match Manifest::parse(manifest.to_text().as_bytes()) {
            Ok(_) => Ok(manifest),
            Err(refusal) => Err(io::Error::other(refusal)),
        }
    }

    /// Reads and checks a manifest. It was signed, which does not make it sensible.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| fault("it is not text"))?;
        let raw: Raw = toml::from_str(text).map_err(|error| fault(error.message()))?;
        if raw.format != FORMAT {
            return Err(Refusal::Format {
                found: raw.format,
                known: FORMAT,
            });
        }
        let facts = ManifestFacts {
            version: raw.version,
            name: raw.name,
            boards: raw.boards,
            store_reads: raw.store_reads,
            store_writes: raw.store_writes,
            root_hash: raw.root_hash,
            root_salt: raw.root_salt,
            root_data_blocks: raw.root_data_blocks,
        };
        check_facts(&facts)?;
        let [kernel, initrd, root]: [RawFile; 3] = raw
            .file
            .try_into()
            .map_err(|_| fault("it has to list three files"))?;
        let manifest = Manifest {
            facts,
            files: [entry(KERNEL, kernel)?, entry(INITRD, initrd)?, entry(ROOT, root)?],
        };
        let [_, _, root] = &manifest.files;
        let data = manifest.facts.root_data_blocks.checked_mul(4_096);
        if data.is_none_or(|data| data == 0 || data > root.size) {
            return Err(fault("root_data_blocks does not fit root.img"));
        }
        Ok(manifest)
    }

    /// The text of the file. Equal manifests give equal bytes.
    pub fn to_text(&self) -> String {
        let facts = &self.facts;
        let boards: Vec<String> = facts.boards.iter().map(|board| format!("\"{board}\"")).collect();
        let [oldest, newest] = facts.store_reads;
        let mut text = format!(
            "format = {FORMAT}\nversion = {}\nname = \"{}\"\nboards = [{}]\nstore_reads = [{oldest}, {newest}]\nstore_writes = {}\n\
             root_hash = \"{}\"\nroot_salt = \"{}\"\nroot_data_blocks = {}\n",
            facts.version,
            facts.name,
            boards.join(", "),
            facts.store_writes,
            facts.root_hash,
            facts.root_salt,
            facts.root_data_blocks,
        );
        for file in &self.files {
            let FileEntry {
                name, size, sha256, ..
            } = file;
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n[[file]]\nname = \"{name}\"\nsize = {size}\nsha256 = \"{sha256}\"\nchunks = [\n"
            );
            for chunk in &file.chunks {
                let _ = writeln!(text, "    \"{chunk}\",");
            }
            text.push_str("]\n");
        }
        text
    }

    /// What U-Boot needs to know.
    pub fn slot_env(&self) -> SlotEnv {
        SlotEnv {
            root_hash: self.facts.root_hash.clone(),
            root_salt: self.facts.root_salt.clone(),
            root_data_blocks: self.facts.root_data_blocks,
            version: self.facts.version,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    version: u64,
    name: String,
    boards: Vec<String>,
    store_reads: [u32; 2],
    store_writes: u32,
    root_hash: String,
    root_salt: String,
    root_data_blocks: u64,
    file: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    size: u64,
    sha256: String,
    chunks: Vec<String>,
}

/// Texts go into `slot.env`, into messages and back into TOML: nothing in them may mean anything there.
fn check_facts(facts: &ManifestFacts) -> Result<(), Refusal> {
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let word = |text: &str, most: usize| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-,".contains(&byte);
        (1..=most).contains(&text.len()) && text.bytes().all(plain)
    };
    let [oldest, newest] = facts.store_reads;
    let rules = [
        (
            (1..=MAX_VERSION).contains(&facts.version),
            "version has to be 1 or more",
        ),
        (
            word(&facts.name, MAX_NAME),
            "name has to be 1 to 64 letters, digits or . _ + ~ -",
        ),
        (
            (1..=MAX_BOARDS).contains(&facts.boards.len())
                && facts.boards.iter().all(|board| word(board, MAX_BOARD)),
            "boards has to name 1 to 64 boards as device trees do",
        ),
        (
            facts.root_hash.len() == 64 && hex(&facts.root_hash),
            "root_hash has to be 64 hex digits",
        ),
        (
            facts.root_salt.len() <= MAX_SALT
                && facts.root_salt.len() % 2 == 0
                && !facts.root_salt.is_empty()
                && hex(&facts.root_salt),
            "root_salt has to be 2 to 512 hex digits",
        ),
        (
            oldest <= newest && (oldest..=newest).contains(&facts.store_writes),
            "it has to read the store that it writes",
        ),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, text)) => Err(fault(text)),
        None => Ok(()),
    }
}

fn entry(name: &'static str, raw: RawFile) -> Result<FileEntry, Refusal> {
    if raw.name != name {
        return Err(fault("its files have to be kernel, initrd.img and root.img"));
    }
    if raw.size == 0 || raw.size > limit(name) {
        return Err(fault(format!(
            "{name} has {} bytes, and 1 to {} are possible",
            raw.size,
            limit(name)
        )));
    }
    if raw.chunks.len() as u64 != raw.size.div_ceil(CHUNK) {
        return Err(fault(format!("{name} has to have one hash per MiB")));
    }
    let digest = |text: &String| {
        Digest::from_hex(text).ok_or_else(|| fault(format!("a hash of {name} is not 64 hex digits")))
    };
    Ok(FileEntry {
        name,
        size: raw.size,
        sha256: digest(&raw.sha256)?,
        chunks: raw.chunks.iter().map(digest).collect::<Result<_, _>>()?,
    })
}

fn limit(name: &str) -> u64 {
    if name == ROOT { MAX_ROOT } else { MAX_BOOT_FILE }
}

fn fault(reason: impl ToString) -> Refusal {
    Refusal::Manifest {
        reason: reason.to_string(),
    }
}
