//! Bundles that stock tar makes and that are none: nothing in them is ever a path, and nothing of them boots.

use super::card::{Card, PLAIN, judges, path, run, trusting};
use std::fs;
use std::path::{Path, PathBuf};

/// A card, and the members of a good bundle in its folder `apart`, in their order.
fn members() -> (Card, Vec<String>) {
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    fs::create_dir(card.at("apart")).unwrap();
    let listed = run("tar", &card.at("apart"), &["-xvf", path(&bundle)]);
    let names = String::from_utf8(listed.stdout).unwrap();
    (card, names.lines().map(str::to_owned).collect())
}

fn tar(card: &Card, options: &[&str], names: &[&str]) -> PathBuf {
    let words = [options, &["-cf", "../made.tpu"], names].concat();
    run("tar", &card.at("apart"), &words);
    card.at("made.tpu")
}

fn refuse(card: &Card, bundle: &Path, why: &str) {
    let line = card.refused(&["apply", path(bundle)]);
    assert!(line.contains(why), "{why}: {line}");
    let status = card.status();
    assert_eq!(
        (&status["next"], &status["update"]["stage"]),
        (&"a".into(), &"refused".into()),
        "{why}"
    );
    assert!(!card.at("boot/b/slot.env").exists(), "{why}");
}

#[test]
fn members_that_are_twice_more_or_in_another_order_are_refused() {
    if !judges(&["minisign", "tar"]) {
        return;
    }
    let (card, names) = members();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ustar = ["--format=ustar"];
    let [manifest, one, two, kernel, initrd, root] = names[..] else {
        panic!("{names:?}");
    };
    fs::write(card.at("apart/extra"), "x").unwrap();
    let cases: [(&str, &[&str]); 8] = [
        (
            "its manifest speaks of",
            &[manifest, one, two, kernel, kernel, initrd, root],
        ),
        (
            "its manifest speaks of",
            &[manifest, one, two, kernel, initrd, root, root],
        ),
        (
            "more follows",
            &[manifest, one, two, kernel, initrd, root, "extra"],
        ),
        (
            "kernel is expected where extra stands",
            &[manifest, one, two, "extra", kernel, initrd, root],
        ),
        (
            "kernel is expected where manifest.toml stands",
            &[manifest, one, two, manifest, kernel, initrd, root],
        ),
        (
            "kernel is expected where root.img stands",
            &[manifest, one, two, root, kernel, initrd],
        ),
        (
            "does not begin with manifest.toml",
            &[one, two, manifest, kernel, initrd, root],
        ),
        ("its manifest speaks of", &[manifest, one, two, kernel, initrd]),
    ];
    for (why, names) in cases {
        // Hard links are what tar makes of a file that comes twice.
        let bundle = tar(&card, &[&ustar[..], &["--hard-dereference"]].concat(), names);
        refuse(&card, &bundle, why);
    }
    // Seventeen signatures, all of them good.
    let text = fs::read(card.at("apart").join(one)).unwrap();
    let mut many = vec![manifest.to_owned()];
    for n in 0..17 {
        let name = format!("manifest.toml.{n:016X}.minisig");
        fs::write(card.at("apart").join(&name), &text).unwrap();
        many.push(name);
    }
    many.extend([kernel, initrd, root].map(str::to_owned));
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refuse(
        &card,
        &tar(&card, &ustar, &many),
        "too many or too long signatures",
    );
    let stock = tar(&card, &ustar, &names);
    assert_eq!(
        card.ok(&["apply", path(&stock)])["version"],
        42,
        "and the real one is taken"
    );
}

#[test]
fn links_paths_and_other_kinds_of_tar_are_refused() {
    if !judges(&["minisign", "tar"]) {
        return;
    }
    let (card, names) = members();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let owner = fs::read(card.at("compatible")).unwrap();
    refuse(
        &card,
        &tar(&card, &["--format=pax"], &names),
        "no plain tar header",
    );
    let dotted: Vec<String> = names.iter().map(|name| format!("./{name}")).collect();
    let dotted: Vec<&str> = dotted.iter().map(String::as_str).collect();
    refuse(
        &card,
        &tar(&card, &["--format=ustar"], &dotted),
        "no plain tar header",
    );
    refuse(
        &card,
        &tar(
            &card,
            &["--format=ustar", "-P", "--transform=s,^kernel$,../../compatible,"],
            &names,
        ),
        "no plain tar header",
    );
    fs::rename(card.at("apart/kernel"), card.at("apart/real")).unwrap();
    std::os::unix::fs::symlink("../compatible", card.at("apart/kernel")).unwrap();
    refuse(
        &card,
        &tar(&card, &["--format=ustar"], &names),
        "no plain tar header",
    );
    fs::remove_file(card.at("apart/kernel")).unwrap();
    fs::create_dir(card.at("apart/kernel")).unwrap();
    refuse(
        &card,
        &tar(&card, &["--format=ustar"], &names),
        "no plain tar header",
    );
    // A file that is shorter or longer than was signed.
    fs::remove_dir(card.at("apart/kernel")).unwrap();
    for length in [1_000, 3_000_000] {
        fs::write(card.at("apart/kernel"), vec![1; length]).unwrap();
        names.retain(|name| *name != "extra");
        let bundle = tar(&card, &["--format=ustar"], &names);
        let line = card.refused(&["apply", path(&bundle)]);
        assert!(
            line.contains("in the manifest")
                || line.contains("manifest speaks of")
                || line.contains("more follows"),
            "{line}"
        );
    }
    assert_eq!(fs::read(card.at("compatible")).unwrap(), owner);
    assert_eq!(card.status()["next"], "a");
}
