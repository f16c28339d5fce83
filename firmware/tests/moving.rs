//! A node moves to a new card, with the built programs.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use turnpike_firmware::store::{Store, StoreError, Table, Write as Change};

struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node {
            folder: tempfile::tempdir().unwrap(),
        };
        let made = node.run(&["init", "--network", "regtest"], "");
        assert!(made.status.success(), "{made:?}");
        node
    }

    fn run(&self, words: &[&str], input: &str) -> Output {
        let config = self.folder.path().join("turnpike.toml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .args(words)
            .arg("--json")
            .args([Path::new("--config"), &config])
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TURNPIKE_CARD", self.folder.path().join("card"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn says(&self, words: &[&str], input: &str) -> Value {
        let output = self.run(words, input);
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// One line on standard error, with this in it.
    fn refuses(&self, words: &[&str], input: &str, why: &str) {
        let output = self.run(words, input);
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(
            !output.status.success() && said.contains(why),
            "{words:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    fn card(&self) -> String {
        self.says(&["card", "id"], "")["card"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn store(&self) -> Result<Store, StoreError> {
        Store::open(&self.data("store.redb"))
    }

    /// The daemon's words when it does not start.
    fn daemon_refuses(&self) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_turnpiked"))
            .arg("--config")
            .arg(self.folder.path().join("turnpike.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A node with a channel, one that is new, and what the first wrote for the second.
fn moved() -> (Node, Node, Value) {
    let (old, new) = (Node::new(), Node::new());
    let store = old.store().unwrap();
    let row = Change::Put {
        table: Table::Receipt,
        key: &[1],
        value: &[1, 2, 3],
    };
    store.commit(&[row]).unwrap();
    drop(store);
    let file = new.folder.path().join("move");
    let left = old.says(&["backup", "--move-to", &new.card(), file.to_str().unwrap()], "");
    (old, new, left)
}

#[test]
fn a_node_goes_on_on_the_new_card_and_nowhere_else() {
    let (old, new, left) = moved();
    let (file, code) = (text(&left["path"]), text(&left["code"]));
    let sum = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(
        String::from_utf8(sum.stdout)
            .unwrap()
            .starts_with(text(&left["sha256"]))
    );
    // The old one stops, and says so to the daemon, too.
    let said = old.daemon_refuses();
    assert!(said.contains(&format!("moved to card {}", new.card())), "{said}");
    assert!(said.contains("--undo-move"), "{said}");
    assert!(old.run(&["card", "init"], "").status.success());
    let listed = std::fs::read_to_string(old.folder.path().join("card/run/problems/store-moved")).unwrap();
    assert!(listed.contains(&new.card()), "{listed}");

    let words = std::fs::read_to_string(old.data("seed")).unwrap();
    let own = std::fs::read_to_string(new.data("seed")).unwrap();
    let third = Node::new();
    third.refuses(&["restore", file], code, "is for card");
    old.refuses(&["restore", file], code, "never overwritten");
    new.refuses(&["restore", file], "0000-1111", "no code of a move");
    let wrong = text(&moved().2["code"]).to_owned();
    new.refuses(&["restore", file], &wrong, "does not open with this code");
    assert_eq!(
        std::fs::read_to_string(new.data("seed")).unwrap(),
        own,
        "nothing changed"
    );

    let came = new.says(&["restore", file], &code.to_lowercase());
    assert_eq!((&came["rows"], &came["sha256"]), (&left["rows"], &left["sha256"]));
    assert_eq!(std::fs::read_to_string(new.data("seed")).unwrap(), words);
    let store = new.store().unwrap();
    assert!(!store.restored().unwrap());
    assert_eq!(store.read(Table::Receipt, &[1]).unwrap().unwrap(), [1, 2, 3]);
    drop(store);

    new.refuses(&["restore", file], code, "never overwritten");
    // Not even where the money was thrown away: the id that the file is for is used up.
    std::fs::remove_file(new.data("store.redb")).unwrap();
    assert!(new.run(&["init"], "").status.success());
    new.refuses(&["restore", file], code, "is for card");
}

#[test]
fn a_move_is_given_again_and_undone_only_by_who_types_it() {
    let (old, new, left) = moved();
    let (file, code) = (text(&left["path"]), text(&left["code"]));
    std::fs::remove_file(file).unwrap();
    let again = old.says(&["backup", "--move-to", &new.card(), file], "");
    assert_eq!(text(&again["code"]), code);
    let other = Node::new();
    let elsewhere = other.folder.path().join("move");
    old.refuses(
        &["backup", "--move-to", &other.card(), elsewhere.to_str().unwrap()],
        "",
        "moved to card",
    );
    old.refuses(&["backup", "--undo-move"], "yes\n", "nothing was changed");
    assert!(matches!(old.store(), Err(StoreError::Moved { .. })));
    old.says(&["backup", "--undo-move"], "the new card never ran\n");
    assert!(old.store().unwrap().restored().unwrap());
    old.refuses(
        &["backup", "--undo-move"],
        "the new card never ran\n",
        "nothing to undo",
    );
}

#[test]
fn nothing_moves_while_a_daemon_has_the_store() {
    let (old, new) = (Node::new(), Node::new());
    let store = old.store().unwrap();
    let file = new.folder.path().join("move");
    let words = ["backup", "--move-to", &new.card(), file.to_str().unwrap()];
    old.refuses(&words, "", "stop it first");
    assert!(!file.exists() && store.moved().unwrap().is_none());
}
