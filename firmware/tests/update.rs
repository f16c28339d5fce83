//! The built `turnpike update` on a folder that stands for a card. Judges: `minisign` signs, `tar` takes bundles apart,
//! `mkenvimage` makes U-Boot's environments.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SALT: &str = "5a17";
const BOARD: &str = "raspberrypi,3-model-b";

/// Tools that a test needs; a machine without them says which judge was missing.
fn judges(names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| Command::new(name).arg("-h").output().is_err())
        .collect();
    if !missing.is_empty() {
        println!("NOT JUDGED: {missing:?} are not installed");
    }
    missing.is_empty()
}

fn run(program: &str, folder: &Path, words: &[&str]) -> Output {
    let output = Command::new(program)
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    output
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bytes that differ from seed to seed and are nowhere alike.
fn noise(seed: u64, length: usize) -> Vec<u8> {
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
struct Card {
    folder: TempDir,
}

impl Card {
    fn new() -> Card {
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

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As after a restart with these words on the kernel command line.
    fn boots(&self, words: &str) {
        fs::write(self.at("cmdline"), format!("console=tty0 panic=5 {words}\n")).unwrap();
        let _ = fs::remove_dir_all(self.at("run/problems"));
    }

    fn update(&self, words: &[&str]) -> Output {
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
    fn ok(&self, words: &[&str]) -> Value {
        let output = self.update(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Must end with status 1; its one line.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.update(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        let last = line.lines().last().unwrap().to_owned();
        assert!(last.starts_with("turnpike: "), "{line}");
        last
    }

    fn status(&self) -> Value {
        self.ok(&["status"])
    }

    fn stage(&self) -> Value {
        self.status()["update"]["stage"].clone()
    }

    /// Makes a minisign key without a passphrase; gives its public text.
    fn key(&self, name: &str) -> String {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.key"));
        run(
            "minisign",
            self.folder.path(),
            &["-G", "-W", "-f", "-p", &public, "-s", &secret],
        );
        let text = fs::read_to_string(self.at(&public)).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    }

    fn trust(&self, keys: &[&str], threshold: usize) {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let text = format!(
            "[node]\nname = \"x\"\n[update]\nkeys = [{}]\nthreshold = {threshold}\n",
            keys.join(", ")
        );
        fs::write(self.at("boot/turnpike.toml"), text).unwrap();
    }

    /// Writes files, manifest and signatures into `build/` and packs them; gives the bundle's path.
    fn bundle(&self, bundle: &Bundle<'_>) -> PathBuf {
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
    fn holds(&self, slot: &str) -> bool {
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

struct Bundle<'a> {
    version: u64,
    board: &'a str,
    keys: &'a [&'a str],
    legacy: bool,
    root: usize,
    more: &'a [&'a str],
}

const PLAIN: Bundle<'static> = Bundle {
    version: 42,
    board: BOARD,
    keys: &["one", "two"],
    legacy: false,
    root: 3 * MIB + 4_096,
    more: &[],
};

/// A card with three keys, of which two have to sign.
fn trusting() -> Card {
    let card = Card::new();
    let keys = ["one", "two", "three"].map(|name| card.key(name));
    card.trust(&[&keys[0], &keys[1], &keys[2]], 2);
    card
}

#[test]
fn an_update_goes_into_the_other_slot_is_tried_and_committed() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let applied = card.ok(&["apply", path(&bundle)]);
    assert_eq!((&applied["version"], &applied["slot"]), (&42.into(), &"b".into()));
    assert_eq!(applied["kept_bytes"], 0);
    assert!(card.holds("b"));
    let env = fs::read_to_string(card.at("boot/b/slot.env")).unwrap();
    assert_eq!(
        env,
        format!("root_hash={HASH}\nroot_salt={SALT}\nroot_data_blocks=100\nversion=42\n")
    );
    let status = card.status();
    assert_eq!((&status["running"], &status["next"]), (&"a".into(), &"b".into()));
    assert_eq!(status["update"]["stage"], "trial");
    // What lies in the slot is signed as the bundle was.
    for entry in fs::read_dir(card.at("boot/b")).unwrap() {
        let signature = entry.unwrap().path();
        if signature
            .extension()
            .is_some_and(|extension| extension == "minisig")
        {
            let key = ["one.pub", "two.pub"].iter().find(|key| {
                let words = [
                    "-V",
                    "-p",
                    key,
                    "-m",
                    "boot/b/manifest.toml",
                    "-x",
                    path(&signature),
                ];
                let verified = Command::new("minisign")
                    .args(words)
                    .current_dir(card.folder.path())
                    .output();
                verified.unwrap().status.success()
            });
            assert!(key.is_some(), "{signature:?}");
        }
    }

    card.boots("turnpike.slot=b turnpike.trial=2");
    assert_eq!(card.status()["trial_left"], 2);
    assert!(card.refused(&["apply", path(&bundle)]).contains("on trial"));
    assert_eq!(card.ok(&["commit"])["committed"], "b");
    assert!(card.at("boot/b/good").exists() && !card.at("boot/a/good").exists());
    card.boots("turnpike.slot=b");
    let status = card.status();
    assert_eq!(status["update"]["stage"], "committed");
    assert_eq!(status["next"], "b");
    assert_eq!(card.ok(&["commit"])["committed"], Value::Null);
    assert!(card.refused(&["apply", path(&bundle)]).contains("not above 42"));
    assert_eq!(card.stage(), "refused");
}

#[test]
fn what_is_wrong_is_refused_before_anything_is_written_and_the_reason_stays() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    card.key("stranger");
    let good = fs::read(card.bundle(&PLAIN)).unwrap();
    let untouched = |why: &str| {
        assert_eq!(fs::read_dir(card.at("boot/b")).unwrap().count(), 0, "{why}");
        assert!(
            fs::read(card.at("root-b")).unwrap().iter().all(|byte| *byte == 0),
            "{why}"
        );
        assert!(!card.at("boot/trial.env").exists(), "{why}");
        assert_eq!(card.status()["next"], "a", "{why}");
    };
    let refuse = |bundle: &Path, why: &str| {
        let line = card.refused(&["apply", path(bundle)]);
        assert!(line.contains(why), "{line}");
        let status = card.status();
        assert_eq!(status["update"]["stage"], "refused", "{why}");
        assert!(
            status["update"]["reason"].as_str().unwrap().contains(why),
            "{status}"
        );
        let problem = fs::read_to_string(card.at("run/problems/update-refused")).unwrap();
        assert!(problem.contains(why), "{problem}");
        untouched(why);
    };
    let cases: [(&str, Bundle<'_>); 10] = [
        ("0 of the 2 signatures", Bundle { keys: &[], ..PLAIN }),
        (
            "1 of the 2 signatures",
            Bundle {
                keys: &["one"],
                ..PLAIN
            },
        ),
        (
            "1 of the 2 signatures",
            Bundle {
                keys: &["one", "one"],
                ..PLAIN
            },
        ),
        (
            "1 of the 2 signatures",
            Bundle {
                keys: &["one", "stranger"],
                ..PLAIN
            },
        ),
        ("not above 41", Bundle { version: 40, ..PLAIN }),
        ("not above 41", Bundle { version: 41, ..PLAIN }),
        (
            "other boards (acme,toaster)",
            Bundle {
                board: "acme,toaster",
                ..PLAIN
            },
        ),
        (
            "root.img needs",
            Bundle {
                root: 8 * MIB + 1,
                ..PLAIN
            },
        ),
        (
            "the one here has 1",
            Bundle {
                more: &[
                    "--store-oldest",
                    "2",
                    "--store-newest",
                    "3",
                    "--store-writes",
                    "2",
                ],
                ..PLAIN
            },
        ),
        (
            "no way back",
            Bundle {
                more: &["--store-newest", "2", "--store-writes", "2"],
                ..PLAIN
            },
        ),
    ];
    for (why, bundle) in cases {
        refuse(&card.bundle(&bundle), why);
    }
    let damaged = card.at("damaged.tpu");
    let write = |why: &str, bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        refuse(&damaged, why);
    };
    // One bit of the manifest, its name, and the version in it.
    for at in [600, 0] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        write(
            if at == 0 {
                "tar header"
            } else {
                "0 of the 2 signatures"
            },
            &bytes,
        );
    }
    write("ends after 0 bytes", b"");
    write("ends after 700 bytes", &good[..700]);
    write("and its manifest speaks of", &good[..good.len() - 1_024 - 512]);
    write("and its manifest speaks of", &good[..good.len() / 2]);
    let longer = [&good[..], &vec![0; 3 * MIB]].concat();
    write("more follows", &longer);
    write("tar header", &noise(5, 5_000));

    fs::write(
        card.at("boot/turnpike.toml"),
        "[update]\nkeys = [\"RWnonsense\"]\n",
    )
    .unwrap();
    let bundle = card.bundle(&PLAIN);
    refuse(&bundle, "no minisign public key");
    fs::write(card.at("boot/turnpike.toml"), "[node]\nname = \"x\"\n").unwrap();
    refuse(&bundle, "no update keys are known");
}

#[test]
fn a_changed_file_is_noticed_before_it_is_written_and_the_rest_is_taken_later() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let good = fs::read(&bundle).unwrap();
    // The root's last chunk, from the end: end blocks, then 4,096 bytes.
    let mut bad = good.clone();
    let at = bad.len() - 1_024 - 4_096 + 17;
    bad[at] ^= 0x20;
    fs::write(&bundle, &bad).unwrap();
    let line = card.refused(&["apply", path(&bundle)]);
    assert!(line.contains("root.img is not what was signed (MiB 3)"), "{line}");
    assert_eq!(card.status()["next"], "a");
    let written = fs::read(card.at("root-b")).unwrap();
    assert!(
        written[3 * MIB..].iter().all(|byte| *byte == 0),
        "the bad chunk was not written"
    );

    fs::write(&bundle, &good).unwrap();
    let applied = card.ok(&["apply", path(&bundle)]);
    assert_eq!(applied["fetched_bytes"], 4_096, "the rest was there");
    assert!(card.holds("b"));
    assert_eq!(card.status()["next"], "b");
    assert!(!card.at("run/problems/update-refused").exists());
}

#[test]
fn both_kinds_of_signature_count_and_a_changed_trusted_comment_does_not() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let legacy = card.bundle(&Bundle {
        legacy: true,
        ..PLAIN
    });
    assert_eq!(card.ok(&["apply", path(&legacy)])["version"], 42);

    let bundle = card.bundle(&Bundle { version: 43, ..PLAIN });
    let mut bytes = fs::read(&bundle).unwrap();
    let comment = b"trusted comment: timestamp:";
    let at = (0..bytes.len())
        .find(|at| bytes[*at..].starts_with(comment) && bytes[at - 2] != b'n')
        .unwrap();
    let digit = at + comment.len();
    bytes[digit] = if bytes[digit] == b'1' { b'2' } else { b'1' };
    fs::write(&bundle, &bytes).unwrap();
    assert!(
        card.refused(&["apply", path(&bundle)])
            .contains("1 of the 2 signatures")
    );
}

#[test]
fn the_images_own_keys_count_where_the_owner_names_none() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let owner = card.at("boot/turnpike.toml");
    fs::rename(&owner, card.at("update-keys.toml")).unwrap();
    fs::write(&owner, "[node]\nname = \"x\"\n").unwrap();
    assert_eq!(card.status()["keys"], serde_json::json!([2, 3]));
    card.ok(&["apply", path(&bundle)]);

    // Garbage in the owner's file does not take the owner's keys away.
    let stranger = card.key("stranger");
    fs::write(
        card.at("data/settings/turnpike.toml"),
        format!("[update]\nkeys = [\"{stranger}\"]\n"),
    )
    .unwrap();
    fs::write(&owner, [0xff, 0x00, b'[']).unwrap();
    assert_eq!(card.status()["keys"], serde_json::json!([1, 1]));
    assert!(
        card.refused(&["apply", path(&bundle)])
            .contains("0 of the 1 signatures")
    );
}

#[test]
fn packing_twice_gives_the_same_bytes_and_stock_tar_takes_them_apart() {
    if !judges(&["minisign", "tar"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let manifest = fs::read(card.at("build/manifest.toml")).unwrap();
    let first = fs::read(&bundle).unwrap();
    let apart = card.at("apart");
    fs::create_dir(&apart).unwrap();
    let listed = run("tar", &apart, &["-xvf", path(&bundle)]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names.len(), 6);
    assert_eq!(
        (names[0], &names[3..]),
        ("manifest.toml", &["kernel", "initrd.img", "root.img"][..])
    );
    for name in ["kernel", "initrd.img", "root.img", "manifest.toml"] {
        assert_eq!(
            fs::read(apart.join(name)).unwrap(),
            fs::read(card.at("build").join(name)).unwrap()
        );
    }
    for (name, key) in names[1..3].iter().zip(["one", "two"]) {
        let keys = [key, if key == "one" { "two" } else { "one" }];
        let good = keys.iter().any(|key| {
            let public = card.at(&format!("{key}.pub"));
            let words = ["-V", "-p", path(&public), "-m", "manifest.toml", "-x", name];
            Command::new("minisign")
                .args(words)
                .current_dir(&apart)
                .output()
                .unwrap()
                .status
                .success()
        });
        assert!(good, "{name}");
    }

    // The order in which signatures are named does not matter; a changed file does.
    let files = [
        "--kernel",
        "build/kernel",
        "--initrd",
        "build/initrd.img",
        "--root",
        "build/root.img",
    ];
    let mut words = vec![
        "pack",
        "--manifest",
        "build/manifest.toml",
        "--signature",
        "build/two.minisig",
    ];
    words.extend(["--signature", "build/one.minisig"]);
    words.extend(files);
    words.push("again.tpu");
    card.ok(&words);
    assert_eq!(fs::read(card.at("again.tpu")).unwrap(), first);
    // Packed by stock tar it is as good.
    let mut tar = vec!["--format=ustar", "-cf", "../stock.tpu"];
    tar.extend(&names);
    run("tar", &apart, &tar);
    assert_eq!(card.ok(&["apply", "stock.tpu"])["version"], 42);
    fs::write(card.at("build/root.img"), noise(1, 3 * MIB + 4_096)).unwrap();
    assert!(card.refused(&words).contains("not the root.img of the manifest"));
    assert_eq!(fs::read(card.at("build/manifest.toml")).unwrap(), manifest);
}

#[test]
fn a_trial_that_fails_is_told_with_its_reason() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    card.ok(&["apply", path(&bundle)]);
    card.boots("turnpike.slot=b turnpike.trial=2");
    assert_eq!(card.ok(&["fail", "the daemon does not answer"])["failed"], "b");
    assert_eq!(card.status()["next"], "a");
    card.boots("turnpike.slot=a turnpike.failed=b");
    let status = card.status();
    assert_eq!(status["update"]["stage"], "rolled-back");
    assert_eq!(
        (&status["update"]["version"], &status["update"]["from_version"]),
        (&42.into(), &41.into())
    );
    assert_eq!(status["update"]["reason"], "the daemon does not answer");
    let settled = card.ok(&["settle"]);
    assert_eq!(settled["settled"]["stage"], "rolled-back");
    let problem = fs::read_to_string(card.at("run/problems/slot-rolled-back")).unwrap();
    assert!(
        problem.contains("version 42") && problem.contains("does not answer"),
        "{problem}"
    );
    // The trial is off the card; what happened stays known.
    card.boots("turnpike.slot=a");
    assert_eq!(card.ok(&["settle"])["settled"], Value::Null);
    assert_eq!(card.stage(), "rolled-back");
    assert!(
        card.at("run/problems/slot-rolled-back").exists(),
        "reported after every boot until the next update"
    );

    // Again, and now nobody says why it ends.
    card.ok(&["apply", path(&bundle)]);
    assert!(!card.at("run/problems/slot-rolled-back").exists());
    card.boots("turnpike.slot=a turnpike.failed=b");
    let reason = card.status()["update"]["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("panicked, the node hung, or the power was cut"),
        "{reason}"
    );
    card.ok(&["apply", path(&bundle)]);
    card.boots("turnpike.slot=a turnpike.trial=2 turnpike.unbootable=b");
    assert_eq!(card.ok(&["commit"])["committed"], Value::Null);
    assert_eq!(
        card.ok(&["settle"])["settled"]["reason"],
        "its kernel could not be loaded"
    );
    assert_eq!(card.status()["next"], "a");
}

#[test]
fn rollback_takes_a_slot_that_is_good_or_intact_and_no_other() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let line = card.refused(&["rollback"]);
    assert!(
        line.contains("slot b cannot be gone back to (it holds no whole firmware)"),
        "{line}"
    );
    card.ok(&["apply", path(&card.bundle(&PLAIN))]);
    card.boots("turnpike.slot=b turnpike.trial=2");
    assert!(card.refused(&["rollback"]).contains("on trial"));
    card.ok(&["commit"]);
    card.boots("turnpike.slot=b");
    // Slot a was flashed without a manifest and is no longer good.
    assert!(card.refused(&["rollback"]).contains("manifest.toml"));
    card.ok(&["apply", path(&card.bundle(&Bundle { version: 43, ..PLAIN }))]);
    card.boots("turnpike.slot=a turnpike.trial=2");
    card.ok(&["commit"]);
    card.boots("turnpike.slot=a");
    let back = card.ok(&["rollback"]);
    assert_eq!((&back["slot"], &back["version"]), (&"b".into(), &42.into()));
    let status = card.status();
    assert_eq!(
        (&status["next"], &status["update"]["source"]),
        (&"b".into(), &"rollback".into())
    );
    // It does not get healthy either.
    card.boots("turnpike.slot=a turnpike.failed=b");
    card.ok(&["settle"]);
    assert_eq!(card.stage(), "rolled-back");
    let mut root = fs::read(card.at("root-b")).unwrap();
    root[2 * MIB] ^= 1;
    fs::write(card.at("root-b"), root).unwrap();
    assert!(card.refused(&["rollback"]).contains("root.img is damaged"));
    fs::write(card.at("boot/b/bad"), "block 7 does not verify\n").unwrap();
    assert!(card.refused(&["rollback"]).contains("block 7 does not verify"));
}

#[test]
fn trial_env_is_what_uboots_own_tool_writes() {
    if !judges(&["minisign", "mkenvimage"]) {
        return;
    }
    let card = trusting();
    card.ok(&["apply", path(&card.bundle(&PLAIN))]);
    let theirs = |text: &str| {
        fs::write(card.at("text"), text).unwrap();
        run(
            "mkenvimage",
            card.folder.path(),
            &["-s", "1024", "-p", "0", "-o", "env", "text"],
        );
        fs::read(card.at("env")).unwrap()
    };
    assert_eq!(
        fs::read(card.at("boot/trial.env")).unwrap(),
        theirs("trial_left=3\ntrial_slot=b\n")
    );
    // And the other way: what U-Boot counted down.
    fs::write(card.at("boot/trial.env"), theirs("trial_left=0\ntrial_slot=b\n")).unwrap();
    assert_eq!(card.status()["next"], "a");
    fs::write(card.at("boot/trial.env"), theirs("trial_left=1\ntrial_slot=b\n")).unwrap();
    assert_eq!(card.status()["next"], "b");
}

#[test]
fn without_a_card_nothing_is_done_and_status_says_so() {
    let card = Card::new();
    fs::write(card.at("cmdline"), "quiet splash\n").unwrap();
    assert_eq!(card.status()["running"], Value::Null);
    for words in [&["apply", "cmdline"][..], &["rollback"]] {
        assert!(card.refused(words).contains("does not run from a Turnpike card"));
    }
    assert_eq!(card.update(&["apply"]).status.code(), Some(2));
    assert_eq!(card.update(&["fly"]).status.code(), Some(2));
}
