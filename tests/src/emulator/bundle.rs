//! Update bundles, made of the built one by the tools that a community has: tar, `turnpike update`, minisign.

use super::image;
use crate::site::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Emulators' board, as its device tree names it.
const BOARD: &str = "linux,dummy-virt";
const FILES: [&str; 3] = ["kernel", "initrd.img", "root.img"];

/// The bundle that was built with the image, taken apart, and three people who can sign.
pub struct Workshop {
    folder: TempDir,
    keys: Vec<String>,
    manifest: String,
}

/// What a bundle says of itself, and who signs it.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// Above the image's version, or below.
    pub above: i64,
    /// Of the device tree.
    pub board: &'a str,
    /// Signers, from 0.
    pub signers: &'a [usize],
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish {
            above: 1,
            board: BOARD,
            signers: &[0, 1],
        }
    }
}

impl Workshop {
    /// Takes the bundle beside the image apart and makes keys. The owner trusts signers 0 and 1, both of them.
    ///
    /// # Panics
    /// There is no bundle, or a tool is missing.
    pub fn open() -> Workshop {
        let folder = tempfile::Builder::new().prefix("turnpike-bundle-").tempdir();
        let folder = folder.expect("temporary directory");
        run(Command::new("tar")
            .arg("-C")
            .arg(folder.path())
            .arg("-xf")
            .arg(built()));
        let mut keys = Vec::new();
        for number in 0..3 {
            let (public, secret) = (
                folder.path().join(format!("{number}.pub")),
                folder.path().join(format!("{number}.key")),
            );
            run(Command::new("minisign")
                .args(["-G", "-W", "-p"])
                .arg(&public)
                .arg("-s")
                .arg(secret));
            let text = fs::read_to_string(public).expect("a public key");
            keys.push(text.lines().nth(1).expect("the key's line").to_owned());
        }
        let manifest = fs::read_to_string(folder.path().join("manifest.toml")).expect("its manifest");
        Workshop {
            folder,
            keys,
            manifest,
        }
    }

    /// The owner's lines for `turnpike.toml`.
    pub fn settings(&self) -> String {
        format!(
            "\n[update]\nkeys = [\"{}\", \"{}\"]\nthreshold = 2\n",
            self.keys[0], self.keys[1]
        )
    }

    /// The image's version.
    pub fn version(&self) -> i64 {
        self.fact("version").parse().expect("a version")
    }

    /// Makes a bundle of the built files.
    pub fn bundle(&self, name: &str, wish: Wish<'_>) -> PathBuf {
        let facts = ["root_hash", "root_salt", "root_data_blocks"].map(|fact| self.fact(fact));
        self.pack(name, wish, &facts, &FILES.map(|file| self.path(file)))
    }

    /// The same with other files: kernel, initramfs, root; the facts are the root's hash, salt and number of data blocks.
    pub fn pack(&self, name: &str, wish: Wish<'_>, facts: &[String; 3], files: &[PathBuf; 3]) -> PathBuf {
        let manifest = self.path(&format!("{name}.toml"));
        let bundle = self.path(&format!("{name}.tpu"));
        let with_files = |command: &mut Command| {
            for (option, file) in ["--kernel", "--initrd", "--root"].iter().zip(files) {
                command.arg(option).arg(file);
            }
        };
        let mut command = Command::new(program("turnpike"));
        command.args(["update", "manifest", "--name", name, "--board", wish.board]);
        command
            .arg("--version")
            .arg((self.version() + wish.above).to_string());
        for (option, fact) in ["--root-hash", "--root-salt", "--root-data-blocks"]
            .iter()
            .zip(facts)
        {
            command.arg(option).arg(fact);
        }
        with_files(&mut command);
        run(command.arg(&manifest));
        let mut command = Command::new(program("turnpike"));
        command.args(["update", "pack", "--manifest"]).arg(&manifest);
        for signer in wish.signers {
            let signature = self.path(&format!("{name}.{signer}.minisig"));
            run(Command::new("minisign")
                .args(["-S", "-s"])
                .arg(self.path(&format!("{signer}.key")))
                .arg("-m")
                .arg(&manifest)
                .arg("-x")
                .arg(&signature));
            command.arg("--signature").arg(signature);
        }
        with_files(&mut command);
        run(command.arg(&bundle));
        bundle
    }

    /// The built initramfs with another first program: what follows in a second archive takes the place of the first's.
    pub fn initramfs(&self, name: &str, init: &str) -> PathBuf {
        let (folder, path) = (self.path(name), self.path(&format!("{name}.img")));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("init"), init).expect("a program");
        let line = "chmod 755 init && echo init | cpio --quiet --create --format=newc --owner=0:0 >init.cpio";
        run(Command::new("sh").args(["-c", line]).current_dir(&folder));
        let mut bytes = fs::read(self.path("initrd.img")).expect("the initramfs");
        // The kernel looks for the next archive at a multiple of four.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(fs::read(folder.join("init.cpio")).expect("the archive"));
        fs::write(&path, bytes).expect("the initramfs");
        path
    }

    /// The built initramfs's first program.
    pub fn init(&self) -> String {
        let line = "xz -dc initrd.img | cpio --quiet --extract --to-stdout init";
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.folder.path())
            .output();
        let output = output.expect("sh");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("a script")
    }

    /// The built bundle with another initramfs.
    pub fn bundle_with(&self, name: &str, initramfs: PathBuf) -> PathBuf {
        let facts = ["root_hash", "root_salt", "root_data_blocks"].map(|fact| self.fact(fact));
        let files = [self.path("kernel"), initramfs, self.path("root.img")];
        self.pack(name, Wish::default(), &facts, &files)
    }

    /// A file in the workshop's folder: one of the built `kernel`, `initrd.img`, `root.img`, or a new one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One value of the built manifest.
    pub fn fact(&self, name: &str) -> String {
        let start = format!("{name} = ");
        let line = self.manifest.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("the manifest has no {name}"));
        line.trim_matches('"').to_owned()
    }
}

/// The bundle beside the image.
fn built() -> PathBuf {
    let image = image().unwrap_or_else(|words| panic!("{words}"));
    let folder = image.parent().unwrap_or(Path::new("."));
    let files = fs::read_dir(folder).expect("the image's folder").flatten();
    let mut bundles: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "tpu"))
        .collect();
    bundles.sort();
    bundles.pop().unwrap_or_else(|| {
        panic!(
            "there is no turnpike-arm64-VERSION.tpu in {}: run `make image`",
            folder.display()
        )
    })
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().to_string_lossy()));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
