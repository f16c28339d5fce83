//! The built `turnpike update` on a folder that stands for a card. Judges: `minisign` signs, `tar` takes bundles apart,
//! `mkenvimage` makes U-Boot's environments.

mod card;
mod hostile;
mod http;
mod mounted;
mod trials;

use card::{Bundle, Card, HASH, MIB, OWNER_KEYS, PLAIN, SALT, judges, noise, path, run, trusting};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

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
    write("and its manifest speaks of", &longer);
    write("tar header", &noise(5, 5_000));

    let bundle = card.bundle(&PLAIN);
    fs::write(card.at(OWNER_KEYS), "keys = [\"RWnonsense\"]\n").unwrap();
    refuse(&bundle, "no minisign public key");
    fs::write(card.at(OWNER_KEYS), "keys = [\n").unwrap();
    refuse(&bundle, "no update can be trusted until");
    fs::write(card.at(OWNER_KEYS), "keys = []\n").unwrap();
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
    fs::rename(card.at(OWNER_KEYS), card.at("update-keys.toml")).unwrap();
    assert_eq!(card.status()["keys"], serde_json::json!([2, 3]));
    let stranger = card.key("stranger");
    card.trust(&[&stranger], 1);
    assert_eq!(card.status()["keys"], serde_json::json!([1, 1]));
    assert!(
        card.refused(&["apply", path(&bundle)])
            .contains("0 of the 1 signatures")
    );
    fs::remove_file(card.at(OWNER_KEYS)).unwrap();
    card.ok(&["apply", path(&bundle)]);
}

#[test]
fn one_key_under_two_names_counts_once() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let one = fs::read_to_string(card.at("one.pub")).unwrap();
    let one = one.lines().nth(1).unwrap().to_owned();
    let two = fs::read_to_string(card.at("two.pub")).unwrap();
    let two = two.lines().nth(1).unwrap().to_owned();
    // The same key, whose id differs in the last of its bits that stand in the fourth letter.
    let mut alias = one.clone().into_bytes();
    alias[4] = if alias[4] == b'A' { b'B' } else { b'A' };
    let alias = String::from_utf8(alias).unwrap();
    card.trust(&[&one, &alias, &two], 2);
    assert_eq!(card.status()["keys"], serde_json::json!([2, 2]));
    card.trust(&[&one, &alias], 2);
    let fault = card.status()["keys_fault"].as_str().unwrap().to_owned();
    assert!(
        fault.contains("threshold = 2 does not fit 1 different keys"),
        "{fault}"
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
