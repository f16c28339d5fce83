//! A boot partition that is mounted read-only, as on the card: in a namespace of the test's own.

use super::card::{PLAIN, judges, path, trusting};
use std::process::Command;

const SCRIPT: &str = r#"
set -e
cp -a boot kept
mount -t tmpfs -o nosuid,noexec tmpfs boot
cp -a kept/. boot
mount -o remount,ro boot
! touch boot/x 2>/dev/null
"$1" update apply "$2"
! touch boot/x 2>/dev/null
grep " $PWD/boot " /proc/mounts
ls boot boot/b
"#;

#[test]
fn a_boot_partition_is_writable_only_while_it_is_written_to() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    let possible = Command::new("unshare").args(namespace).arg("true").output();
    if !judges(&["minisign"]) || !possible.is_ok_and(|output| output.status.success()) {
        println!("NOT JUDGED: no namespace of one's own is allowed here");
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let output = Command::new("unshare")
        .args(namespace)
        .args([
            "sh",
            "-c",
            SCRIPT,
            "sh",
            env!("CARGO_BIN_EXE_turnpike"),
            path(&bundle),
        ])
        .env("TURNPIKE_CARD", card.folder.path())
        .current_dir(card.folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mount = text.lines().find(|line| line.contains("/boot tmpfs")).unwrap();
    let options = mount.split(' ').nth(3).unwrap();
    for option in ["ro", "nosuid", "noexec"] {
        assert!(options.split(',').any(|one| one == option), "{mount}");
    }
    assert!(text.contains("trial.env") && text.contains("slot.env"), "{text}");
}
