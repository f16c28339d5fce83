//! A folder that stands for a card, and bundles for it.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub const MIB: usize = 1 << 20;
pub const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const SALT: &str = "5a17";
pub const OWNER_KEYS: &str = "run/settings/update-keys.toml";
pub const BOARD: &str = "raspberrypi,3-model-b";

/// Tools that a test needs; a machine without them says which judge was missing.
pub fn judges(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| Command::new(name).arg("-h").output().is_err())
        .collect();
    if !missing.is_empty() {
        println!("NOT JUDGED: {missing:?} are not installed");
    }
    missing.is_empty()
}

pub fn run(program: &str, folder: &Path, words: &[&str]) -> Output {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    output
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes that differ from seed to seed and are nowhere alike.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A card whose slot a runs version 41, in a folder, with tools beside it.
pub struct Card {
    pub folder: TempDir,
}

impl Card {
    pub fn new() -> Card {
        let card = Card {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in ["boot/a", "boot/b", "data/settings", "data/turnpike", "run"] {
            fs::create_dir_all(card.at(folder)).unwrap();
        }
        for root in ["root-a", "root-b"] {
            fs::File::create(card.at(root)).unwrap().set_len(8 << 20).unwrap();
        }
        fs::write(card.at("compatible"), format!("{BOARD}\0brcm,bcm2837\0")).unwrap();
        for name in ["boot/a/kernel", "boot/a/initrd.img"] {
            fs::write(card.at(name), name).unwrap();
        }
        fs::write(
            card.at("boot/a/slot.env"),
            format!("root_hash={HASH}\nroot_salt={SALT}\nroot_data_blocks=7\nversion=41\n"),
        )
        .unwrap();
        card.boots("turnpike.slot=a");
        card
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As after a restart with these words on the kernel command line.
    pub fn boots(&self, words: &str) {
        fs::write(self.at("cmdline"), format!("console=tty0 panic=5 {words}\n")).unwrap();
        let _ = fs::remove_dir_all(self.at("run/problems"));
    }

    pub fn update(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .arg("update")
            .args(words)
            .env_clear()
            .env("TURNPIKE_CARD", self.folder.path())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// Must succeed; its document.
    pub fn ok(&self, words: &[&str]) -> Value {
        let output = self.update(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Must end with status 1; its one line.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.update(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        let last = line.lines().last().unwrap().to_owned();
        assert!(last.starts_with("turnpike: "), "{line}");
        last
    }

    pub fn status(&self) -> Value {
        self.ok(&["status"])
    }

    pub fn stage(&self) -> Value {
        self.status()["update"]["stage"].clone()
    }

    /// Makes a minisign key without a passphrase; gives its public text.
    pub fn key(&self, name: &str) -> String {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        run(
            "minisign",
            self.folder.path(),
            &["-G", "-W", "-f", "-p", &public, "-s", &secret],
        );
        let text = fs::read_to_string(self.at(&public)).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    }

    /// As the settings of this boot name the owner's keys.
    pub fn trust(&self, keys: &[&str], threshold: usize) {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let text = format!("keys = [{}]\nthreshold = {threshold}\n", keys.join(", "));
        fs::create_dir_all(self.at("run/settings")).unwrap();
        fs::write(self.at(OWNER_KEYS), text).unwrap();
    }

    /// Writes files, manifest and signatures into `build/` and packs them; gives the bundle's path.
    pub fn bundle(&self, bundle: &Bundle<'_>) -> PathBuf {
        let build = self.at("build");
        fs::create_dir_all(&build).unwrap();
        let seed = bundle.version * 10;
        fs::write(build.join("kernel"), noise(seed, MIB + 77_777)).unwrap();
        fs::write(build.join("initrd.img"), noise(seed + 1, 300_001)).unwrap();
        fs::write(build.join("root.img"), noise(seed + 2, bundle.root)).unwrap();
        let version = bundle.version.to_string();
        let (manifest, root, kernel) = ("build/manifest.toml", "build/root.img", "build/kernel");
        let files = ["--kernel", kernel, "--initrd", "build/initrd.img", "--root", root];
        let mut words = vec![
            "manifest",
            "--version",
            &version,
            "--name",
            "0.2.0",
            "--board",
            bundle.board,
        ];
        words.extend([
            "--root-hash",
            HASH,
            "--root-salt",
            SALT,
            "--root-data-blocks",
            "100",
        ]);
        words.extend(bundle.more);
        words.extend(files);
        words.push(manifest);
        self.ok(&words);
        let mut words = vec!["pack", "--manifest", manifest];
        let signatures: Vec<String> = bundle
            .keys
            .iter()
            .map(|key| format!("build/{key}.minisig"))
            .collect();
        for (i, key) in bundle.keys.iter().enumerate() {
            let secret = format!("{key}.key");
            let mut sign = vec!["-S", "-s", &secret, "-m", manifest, "-x", &signatures[i]];
            if bundle.legacy {
                sign.push("-l");
            }
            run("minisign", self.folder.path(), &sign);
            words.extend(["--signature", &signatures[i]]);
        }
        words.extend(files);
        let out = format!("turnpike-arm64-{version}.tpu");
        words.push(&out);
        self.ok(&words);
        self.at(&out)
    }

    /// The slot holds what was packed last.
    pub fn holds(&self, slot: &str) -> bool {
        let same = |name: &str, there: String| {
            let packed = fs::read(self.at("build").join(name)).unwrap();
            fs::read(self.at(&there)).is_ok_and(|bytes| bytes.get(..packed.len()) == Some(&packed[..]))
        };
        same("kernel", format!("boot/{slot}/kernel"))
            && same("initrd.img", format!("boot/{slot}/initrd.img"))
            && same("root.img", format!("root-{slot}"))
            && fs::metadata(self.at(&format!("boot/{slot}/initrd.img")))
                .unwrap()
                .len()
                == 300_001
    }
}

pub struct Bundle<'a> {
    pub version: u64,
    pub board: &'a str,
    pub keys: &'a [&'a str],
    pub legacy: bool,
    pub root: usize,
    pub more: &'a [&'a str],
}

pub const PLAIN: Bundle<'static> = Bundle {
    version: 42,
    board: BOARD,
    keys: &["one", "two"],
    legacy: false,
    root: 3 * MIB + 4_096,
    more: &[],
};

/// A card with three keys, of which two have to sign.
pub fn trusting() -> Card {
    let card = Card::new();
    let keys = ["one", "two", "three"].map(|name| card.key(name));
    card.trust(&[&keys[0], &keys[1], &keys[2]], 2);
    card
}
