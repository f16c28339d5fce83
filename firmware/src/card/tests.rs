use super::*;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

fn card() -> (TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let places = Places::under(folder.path());
    for slot in Slot::ALL {
        fs::create_dir_all(places.slot(slot)).unwrap();
    }
    (folder, places)
}

#[test]
fn a_trial_is_read_as_it_was_written_and_a_torn_file_is_none() {
    for slot in Slot::ALL {
        for left in 0..=ATTEMPTS {
            let trial = Trial { slot, left };
            let bytes = Trial::to_bytes(Some(trial));
            assert_eq!(Trial::from_bytes(&bytes), Some(trial));
            for at in 0..64 {
                let mut torn = bytes;
                torn[at] ^= 0x10;
                assert_eq!(Trial::from_bytes(&torn), None, "byte {at}");
            }
            // Two sectors, of which only one was written over a file of zeros or of an older trial.
            let before = Trial::to_bytes(Some(Trial {
                slot: slot.other(),
                left: ATTEMPTS - left,
            }));
            let torn = [&bytes[..512], &before[512..]].concat();
            assert_eq!(
                Trial::from_bytes(&torn),
                Some(trial),
                "the second sector is zeros in both"
            );
        }
    }
    assert_eq!(Trial::from_bytes(&Trial::to_bytes(None)), None);
    for bytes in [&[][..], &[0; 1_024], &[0xff; 1_024], &[0; 1_023], &[0; 4]] {
        assert_eq!(Trial::from_bytes(bytes), None);
    }
}

#[test]
fn trials_that_make_no_sense_are_none() {
    let of = |texts: &str| {
        let mut bytes = [0; TRIAL_BYTES];
        bytes[4..4 + texts.len()].copy_from_slice(texts.as_bytes());
        let sum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        Trial::from_bytes(&bytes)
    };
    let b = Some(Trial {
        slot: Slot::B,
        left: 2,
    });
    assert_eq!(of("trial_left=2\0trial_slot=b\0"), b);
    assert_eq!(of("arch=arm\0trial_slot=b\0trial_left=2\0"), b);
    for texts in [
        "",
        "trial_left=2\0",
        "trial_slot=b\0",
        "trial_left=4\0trial_slot=b\0",
        "trial_left=2\0trial_slot=c\0",
        "x\0",
    ] {
        assert_eq!(of(texts), None, "{texts}");
    }
    // Two zeros end the list.
    assert_eq!(of("trial_left=2\0\0trial_slot=b\0"), None);
}

#[test]
fn uboots_tool_writes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (trial, text) in [
        (
            Some(Trial {
                slot: Slot::A,
                left: 1,
            }),
            "trial_left=1\ntrial_slot=a\n",
        ),
        (None, "trial=none\n"),
    ] {
        fs::write(folder.path().join("text"), text).unwrap();
        let made = Command::new("mkenvimage")
            .args(["-s", "0x400", "-p", "0x00", "-o", "env", "text"])
            .current_dir(folder.path())
            .output();
        let Ok(made) = made else {
            println!("NOT JUDGED: mkenvimage is not installed");
            return;
        };
        assert!(made.status.success(), "{made:?}");
        assert_eq!(
            fs::read(folder.path().join("env")).unwrap(),
            Trial::to_bytes(trial)
        );
    }
}

#[test]
fn the_kernels_command_line_is_read_and_nonsense_in_it_is_passed_over() {
    let line =
        KernelLine::parse("console=tty0 turnpike.slot=b turnpike.root=ab,cd,7 turnpike.trial=2 panic=5\n");
    assert_eq!(line.slot, Some(Slot::B));
    assert_eq!(line.on_trial(), Some(Slot::B));
    let root = line.root.unwrap();
    assert_eq!(
        (root.hash.as_str(), root.salt.as_str(), root.data_blocks),
        ("ab", "cd", 7)
    );
    let line =
        KernelLine::parse("turnpike.slot=a turnpike.trial=1 turnpike.unbootable=b turnpike.unbootable=a");
    assert_eq!((line.on_trial(), line.unbootable), (None, Some(Slot::B)));
    let line = KernelLine::parse(
        "turnpike.slot=c turnpike.trial=x turnpike.failed= turnpike.root=a,b turnpike.root turnpike.",
    );
    assert_eq!(line, KernelLine::default());
}

#[test]
fn the_boot_rule_is_that_of_the_page() {
    let there = SlotFacts {
        loadable: true,
        ..SlotFacts::default()
    };
    let good = SlotFacts { good: true, ..there };
    let bad = SlotFacts { bad: true, ..there };
    let good_bad = SlotFacts { bad: true, ..good };
    let none = SlotFacts::default();
    let (a, b) = (Some(Slot::A), Some(Slot::B));
    let trial = |slot, left| Some(Trial { slot, left });
    for (facts, trial, slot) in [
        ((there, none), None, a),
        ((there, there), None, a),
        ((good, there), None, a),
        ((there, good), None, b),
        ((good, good), None, b),
        ((good, good_bad), None, a),
        // Bad, and nothing that was ever good beside it.
        ((there, good_bad), None, b),
        ((bad, there), None, a),
        ((good_bad, good_bad), None, b),
        ((good, there), trial(Slot::B, 3), b),
        ((good, there), trial(Slot::B, 1), b),
        ((good, there), trial(Slot::B, 0), a),
        ((good, none), trial(Slot::B, 3), a),
        ((there, good), trial(Slot::A, 2), a),
        ((none, there), None, b),
        ((none, none), trial(Slot::B, 3), None),
    ] {
        let choice = boot_choice(facts.0, facts.1, trial);
        assert_eq!(choice.slot, slot, "{facts:?} {trial:?}");
        assert_eq!(choice.trial, trial.and_then(|trial| trial.left.checked_sub(1)));
        let failed = trial.filter(|trial| trial.left == 0).map(|trial| trial.slot);
        assert_eq!(choice.failed, failed);
    }
}

#[test]
fn markers_and_slot_env_are_read_as_they_were_written() {
    let (_folder, places) = card();
    let files = SlotFiles::of(&places, Slot::B);
    assert_eq!(files.facts(), SlotFacts::default());
    let env = SlotEnv {
        root_hash: "ab".repeat(32),
        root_salt: "cd".to_owned(),
        root_data_blocks: 9_000,
        version: 42,
    };
    files.write_env(&env, &mut Disk).unwrap();
    assert_eq!(files.env(), Some(env));
    files.mark_bad("block 7 does not verify", &mut Disk).unwrap();
    files.mark_good("version 42 was healthy", &mut Disk).unwrap();
    assert_eq!(files.bad().as_deref(), Some("block 7 does not verify"));
    let facts = files.facts();
    assert!(facts.good && facts.bad && !facts.loadable);
    files.unmark_bad(&mut Disk).unwrap();
    files.unmark_bad(&mut Disk).unwrap();
    files.remove_env(&mut Disk).unwrap();
    assert_eq!((files.bad(), files.env()), (None, None));
    // Nothing half-written stays beside them.
    let names: Vec<_> = fs::read_dir(places.slot(Slot::B))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn problems_are_listed_by_code_as_one_line_each() {
    let (_folder, places) = card();
    let problems = Problems::of(&places);
    assert!(problems.list().is_empty());
    problems.report(ProblemCode::UpdateRefused, "two\nlines").unwrap();
    problems
        .report(ProblemCode::DataFull, &"é".repeat(2_000))
        .unwrap();
    problems
        .report(ProblemCode::UpdateRefused, "the last word")
        .unwrap();
    let list = problems.list();
    assert_eq!(list.len(), 2);
    assert_eq!(
        (list[0].code.as_str(), list[1].code.as_str()),
        ("data-full", "update-refused")
    );
    assert_eq!(list[1].text, "the last word");
    assert!(list[0].text.len() <= 1_000 && list[0].text.chars().all(|c| c == 'é' || c == '\u{fffd}'));
    problems.clear(ProblemCode::DataFull).unwrap();
    problems.clear(ProblemCode::DataFull).unwrap();
    assert_eq!(problems.list().len(), 1);
    // The names in the files are the names in JSON.
    for code in ProblemCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
    }
}

#[test]
fn a_plain_folder_is_written_to_without_remounting_and_one_at_a_time() {
    let (_folder, places) = card();
    let first = Writable::open(&places).unwrap();
    let second = {
        let places = places.clone();
        std::thread::spawn(move || Writable::open(&places).map(drop))
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!second.is_finished(), "it waits");
    drop(first);
    second.join().unwrap().unwrap();
}

/// U-Boot's commands for bash, as far as `boot.cmd` uses them: the script's own lines are run.
const UBOOT: &str = r#"
setenv() { local name=$1; shift; if [ $# = 0 ]; then unset "$name"; else printf -v "$name" %s "$*"; fi; }
test() { if [ "$1" = -e ]; then [ -e "$card/$4" ]; else [ "$@" ]; fi; }
load() { [ -e "$card/$4" ] || return 1; loaded=$card/$4; filesize=$(stat -c %s "$loaded"); }
take() { # take NAMES: lines of standard input, until an empty one
    local line
    while IFS= read -r line && [ -n "$line" ]; do
        case " $* " in *" ${line%%=*} "*) printf -v "${line%%=*}" %s "${line#*=}" ;; esac
    done
}
env() {
    case "$1 $2" in
        "import -c")
            [ "$(head -c 4 "$loaded" | od -An -tx1)" = "$(tail -c +5 "$loaded" | gzip -c | tail -c 8 | head -c 4 | od -An -tx1)" ] || return 1
            take "${@:5}" < <(tail -c +5 "$loaded" | tr '\0' '\n') ;;
        "import -t") take "${@:5}" <"$loaded" ;;
        export*) printf 'trial_left=%s\ntrial_slot=%s\n' "$trial_left" "$trial_slot" >"$card/text" ;;
    esac
}
fatwrite() { mkenvimage -s 1024 -p 0 -o "$card/$4" "$card/text"; }
booti() { echo "bootargs=$bootargs"; exit; }
reset() { echo nothing boots; exit; }
mw.b() { :; }
fdt() { :; }
sleep() { :; }
devtype=mmc devnum=0 distro_bootpart=1
"#;

#[test]
fn the_boot_rule_is_what_the_script_on_the_card_does() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/boot/boot.cmd");
    let tools = ["bash", "mkenvimage"].map(|tool| Command::new(tool).arg("-h").output().is_ok());
    let (Ok(script), [true, true]) = (fs::read_to_string(script), tools) else {
        println!("NOT JUDGED: boot.cmd, bash or mkenvimage is missing");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("boot.bash");
    fs::write(&program, format!("card=$1\n{UBOOT}\n{script}")).unwrap();
    let all = [0, 1, 2, 3, 4, 5, 6, 7].map(|bits| SlotFacts {
        good: bits & 1 != 0,
        bad: bits & 2 != 0,
        loadable: bits & 4 != 0,
    });
    // What the update leaves: the slot on trial is never the one that boots without it.
    let trial = |slot, left| Some(Trial { slot, left });
    let mut count = 0;
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
        for (record, trial) in [
            (None, None),
            (Some(Trial::to_bytes(None).to_vec()), None),
            (Some(vec![0xff; TRIAL_BYTES]), None),
            (
                Some(Trial::to_bytes(trial(Slot::A, 1)).to_vec()),
                trial(Slot::A, 1),
            ),
            (
                Some(Trial::to_bytes(trial(Slot::B, 3)).to_vec()),
                trial(Slot::B, 3),
            ),
            (
                Some(Trial::to_bytes(trial(Slot::B, 0)).to_vec()),
                trial(Slot::B, 0),
            ),
        ] {
            // Garbage and "none" are like no file; a few cards show it.
            if trial.is_none() && record.is_some() && !(a.loadable && b.loadable) {
                continue;
            }
            count += 1;
            let card = folder.path().join("boot");
            let _ = fs::remove_dir_all(&card);
            for (slot, facts) in [("a", a), ("b", b)] {
                fs::create_dir_all(card.join(slot)).unwrap();
                let there = [
                    ("good", facts.good),
                    ("bad", facts.bad),
                    ("kernel", facts.loadable),
                ];
                for (name, _) in there.iter().filter(|(_, there)| *there) {
                    fs::write(card.join(slot).join(name), "x").unwrap();
                }
                fs::write(card.join(slot).join("initrd.img"), "x").unwrap();
                fs::write(
                    card.join(slot).join("slot.env"),
                    "root_hash=ab\nroot_salt=cd\nroot_data_blocks=7\nversion=4\n",
                )
                .unwrap();
            }
            if let Some(record) = &record {
                fs::write(card.join("trial.env"), record).unwrap();
            }
            let output = Command::new("bash").arg(&program).arg(&card).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let what = format!(
                "{a:?} {b:?} {trial:?}: {text} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let places = Places::under(folder.path());
            let args = text.lines().find_map(|line| line.strip_prefix("bootargs="));
            let line = KernelLine::parse(args.unwrap_or_default());
            let choice = boot_choice(a, b, trial);
            assert_eq!(line.slot, choice.slot, "{what}");
            if let Some(slot) = choice.slot {
                assert_eq!((line.trial, line.failed), (choice.trial, choice.failed), "{what}");
                assert_eq!(line.root.as_ref().unwrap().data_blocks, 7, "{what}");
                let on_trial = choice.trial.and(trial).map(|trial| trial.slot);
                assert_eq!(line.on_trial(), on_trial.filter(|on| *on == slot), "{what}");
            }
            // Counted down before anything is started.
            let after = trial.map(|trial| Trial {
                left: trial.left.saturating_sub(1),
                ..trial
            });
            assert_eq!(Trial::read(&places), after, "{what}");
        }
    }
    assert!(count > 250, "{count}");
}
