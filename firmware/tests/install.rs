//! What `make install` puts on a machine: programs that start, a unit that systemd takes, completions.
#![cfg(feature = "playchain")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What systemd may find exposed at most, of 100. An unguarded service has 96.
const EXPOSURE: &str = "--threshold=25";

fn install(prefix: &Path, build: &Path) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install.sh"))
        .env("PREFIX", prefix)
        .env("BUILD", build)
        .env_remove("DESTDIR")
        .output()
        .expect("scripts/install.sh")
}

fn build() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_turnpike"));
    program.parent().expect("a folder").to_owned()
}

fn words(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[test]
fn installed_programs_start_and_the_unit_starts_the_installed_daemon() {
    let prefix = tempfile::tempdir().expect("folder");
    let done = install(prefix.path(), &build());
    assert!(done.status.success(), "{}", words(&done));
    for program in ["turnpike", "turnpiked", "turnpike-playchain"] {
        let output = Command::new(prefix.path().join("bin").join(program))
            .arg("--version")
            .output()
            .expect(program);
        assert!(
            output.status.success() && words(&output).starts_with(program),
            "{}",
            words(&output)
        );
    }
    for (file, word) in [
        ("bash-completion/completions/turnpike", "discover"),
        ("zsh/site-functions/_turnpike", "#compdef turnpike"),
        ("fish/vendor_completions.d/turnpike.fish", "complete -c turnpike"),
    ] {
        let text = std::fs::read_to_string(prefix.path().join("share").join(file)).expect(file);
        assert!(text.contains(word), "{word:?} is not in {file}");
    }
    let unit = prefix.path().join("lib/systemd/system/turnpiked.service");
    assert_eq!(
        std::fs::metadata(&unit).expect("unit").permissions().mode() & 0o777,
        0o644
    );
    let text = std::fs::read_to_string(&unit).expect("unit");
    let start = text
        .lines()
        .find_map(|l| l.strip_prefix("ExecStart="))
        .expect("ExecStart");
    let mut line = start.split_whitespace();
    let daemon = line.next().expect("a program");
    assert_eq!(Path::new(daemon), prefix.path().join("bin/turnpiked"));
    // The daemon knows these options: it gets as far as the file, which is not there.
    let missing = prefix.path().join("turnpike.toml");
    let words_of_unit: Vec<&str> = line.collect();
    let (file, options) = words_of_unit.split_last().expect("options");
    assert_eq!(*file, "/etc/turnpike/turnpike.toml");
    let output = Command::new(daemon)
        .args(options)
        .arg(&missing)
        .output()
        .expect("turnpiked");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words(&output).contains("run `turnpike init`"),
        "{}",
        words(&output)
    );
    // And that status is the one after which systemd is told not to try again.
    assert!(text.contains("\nRestartPreventExitStatus=2\n"));
}

#[test]
fn systemd_takes_the_unit_and_finds_it_well_guarded() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze");
        return;
    }
    let prefix = tempfile::tempdir().expect("folder");
    assert!(install(prefix.path(), &build()).status.success());
    let unit = prefix.path().join("lib/systemd/system/turnpiked.service");
    let verify = |unit: &Path| {
        let output = Command::new("systemd-analyze")
            .arg("verify")
            .arg(unit)
            .output()
            .expect("systemd-analyze");
        (output.status.success(), words(&output))
    };
    let (good, text) = verify(&unit);
    assert!(good && !text.contains("turnpiked"), "{text}");
    // It would have seen a mistake.
    let wrong = std::fs::read_to_string(&unit)
        .expect("unit")
        .replace("Restart=on-failure", "Restart=sometimes");
    std::fs::write(&unit, wrong).expect("write");
    let (_, text) = verify(&unit);
    assert!(text.contains("turnpiked"), "{text}");
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", EXPOSURE])
        .arg(&unit)
        .output()
        .expect("systemd-analyze");
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn what_was_not_built_is_not_installed_and_the_remedy_is_said() {
    let prefix = tempfile::tempdir().expect("folder");
    let done = install(prefix.path(), prefix.path());
    assert_eq!(done.status.code(), Some(2));
    assert!(words(&done).contains("run make build first"), "{}", words(&done));
    assert_eq!(std::fs::read_dir(prefix.path()).expect("folder").count(), 0);
}
