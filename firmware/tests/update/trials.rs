//! Trials, how they end, and the way back.

use super::card::{Bundle, MIB, PLAIN, judges, path, run, trusting};
use serde_json::Value;
use std::fs;

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
    let settled = card.ok(&["boot"]);
    assert_eq!(settled["settled"]["stage"], "rolled-back");
    let problem = fs::read_to_string(card.at("run/problems/slot-rolled-back")).unwrap();
    assert!(
        problem.contains("version 42") && problem.contains("does not answer"),
        "{problem}"
    );
    // The trial is off the card; what happened stays known.
    card.boots("turnpike.slot=a");
    assert_eq!(card.ok(&["boot"])["settled"], Value::Null);
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
        card.ok(&["boot"])["settled"]["reason"],
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
    card.ok(&["boot"]);
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
fn a_bundle_on_the_boot_partition_is_taken_at_boot_once() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let inbox = card.at("boot/from-a-friend.TPU");
    fs::rename(card.bundle(&PLAIN), &inbox).unwrap();
    let old = card.bundle(&Bundle { version: 40, ..PLAIN });
    fs::rename(old, card.at("boot/a-first.tpu")).unwrap();
    let boot = || {
        let output = card.update(&["boot", "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), document)
    };
    let (status, told) = boot();
    assert_eq!(status, 3, "{told}");
    assert_eq!(told["applied"]["version"], 42);
    assert!(!inbox.exists());
    assert!(card.at("boot/a-first.tpu.refused").exists());
    // On trial, and then as what runs, the same file is no reason for anything.
    fs::copy(card.at("turnpike-arm64-42.tpu"), &inbox).unwrap_or_else(|_| {
        fs::rename(card.bundle(&PLAIN), &inbox).unwrap();
        0
    });
    card.boots("turnpike.slot=b turnpike.trial=2");
    assert_eq!(boot().0, 0);
    assert!(inbox.exists());
    card.ok(&["commit"]);
    card.boots("turnpike.slot=b");
    assert_eq!(boot().0, 0);
    assert!(!inbox.exists());
    assert_eq!(card.stage(), "committed");
    // Garbage is set aside, and said.
    fs::write(&inbox, "garbage").unwrap();
    let (status, told) = boot();
    assert_eq!((status, card.stage()), (0, "refused".into()));
    assert!(
        told["refused"]
            .as_str()
            .unwrap()
            .contains("not a whole update bundle"),
        "{told}"
    );
    assert!(card.at("run/problems/update-refused").exists());
    assert!(!inbox.exists());
    assert_eq!(boot().1["refused"], Value::Null);
}
