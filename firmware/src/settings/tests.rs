//! What owners write, and what the node makes of it.

use super::disk::Disk;
use super::*;
use crate::config::Config;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJf5Df4u5bIJjCUtxZxW8bJuvQhUeuK2I4yJX0kXl1eH me";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB";

/// A card in a folder.
struct Card {
    folder: tempfile::TempDir,
}

impl Card {
    fn new() -> Card {
        // A folder that remembers: /tmp may be in RAM, where nothing is moved to.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        for name in ["boot", "data"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Card { folder }
    }

    fn with(text: &str) -> Card {
        let card = Card::new();
        card.write(OWN, text);
        card
    }

    fn place(&self) -> Places {
        Places::under(self.folder.path())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.place().boot.join(name), content).unwrap();
    }

    fn boot(&self) -> Told {
        self.boot_on("eth0 wlan0")
    }

    fn boot_on(&self, interfaces: &str) -> Told {
        let told = apply(&self.place(), &Interfaces::new(interfaces.split(' '))).unwrap();
        // Whatever happened, the daemon gets what it reads.
        self.config();
        told
    }

    fn config(&self) -> Config {
        Config::read(&self.place().run.join(OWN)).unwrap()
    }

    fn out(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.place().run.join(name)).ok()
    }

    fn setting(&self, name: &str) -> String {
        let text = self.out(&format!("settings/{name}")).unwrap_or_default();
        text.trim_end().to_owned()
    }

    fn on_boot(&self, name: &str) -> String {
        fs::read_to_string(self.place().boot.join(name)).unwrap()
    }
}

fn lines(told: &Told) -> String {
    told.findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

#[test]
fn a_card_without_settings_asks_for_an_address_and_says_what_to_write() {
    let card = Card::new();
    let told = card.boot();
    assert_eq!(lines(&told), "");
    assert_eq!(card.setting("hostname"), "turnpike");
    assert_eq!(card.setting("authorized_keys"), "");
    assert_eq!(card.setting("network"), "uplink=eth0");
    assert!(!card.config().relay.enabled);
    for word in [
        "[system]\r\nssh_keys",
        "[chain]\r\n",
        "[relay]\r\nenabled = true",
        "sells     no",
    ] {
        assert!(told.report.contains(word), "{word}: {}", told.report);
    }
    assert!(card.out("problems/settings").is_none());
    assert!(card.out("settings/country").is_none());
}

#[test]
fn what_the_owner_writes_reaches_the_daemon_and_the_scripts() {
    let card = Card::with(&format!(
        "[system]\nhostname = \"roof-1\"\ncountry = \"de\"\nssh_keys = [\"{KEY}\", \"ssh-rsa AAAA\"]\n\
         [node]\nname = \"Roof\"\ndata_dir = \"/elsewhere\"\n[chain]\nurl = \"http://10.0.0.1:8332\"\nuser = \"u\"\npassword = \"p\\\"w\"\n\
         [relay]\nenabled = true\n[price]\nup = \"20 msat/MiB\"\ndwn = \"1 msat/MiB\"\n[access_point]\nssid = \"Café\"\nchannel = 13\n\
         [update]\nkeys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\nserve = true\n[extra]\n"
    ));
    let told = card.boot_on("lo eth0 wlan0");
    assert_eq!(
        lines(&told),
        "turnpike.toml:4: system.ssh_keys: key 2: this key is cut or mistyped: copy the one line of a file that ends in .pub\n\
         turnpike.toml:16: price.dwn: there is no such key: did you mean down?\n\
         turnpike.toml:23: extra: there is no such section: use one of system, wifi, access_point, update, node, chain, relay, price, channel, client, log\n\
         turnpike.toml:7: node.data_dir: not used: remove this line: on a card it is always the data partition\n"
    );
    assert_eq!(card.setting("hostname"), "roof-1");
    assert_eq!(card.setting("country"), "DE");
    assert_eq!(card.setting("authorized_keys"), KEY);
    assert_eq!(
        card.setting("network"),
        "uplink=eth0\nguest=wlan0\naccess_point=wlan0"
    );
    assert!(card.setting("update-keys.toml").ends_with("threshold = 1"));
    assert_eq!(card.setting("update-serve"), "true");
    let config = card.config();
    assert!(config.relay.enabled);
    assert_eq!(config.node.name, "Roof");
    assert_eq!(config.node.data_dir, card.place().data.join("turnpike"));
    assert_eq!(config.price.up.value(), 20);
    assert_eq!(config.relay.guest_interface[0].as_str(), "wlan0");
    let auth = crate::chain::Auth::Password {
        user: "u".into(),
        password: "p\"w".into(),
    };
    assert_eq!(config.chain.auth, auth);
    let problem = card.out("problems/settings").unwrap();
    assert!(
        problem.contains("key 2") && problem.ends_with("(and 2 more: see REPORT.txt)\n"),
        "{problem}"
    );
    // The next boot says the same and writes nothing new.
    let report = card.out("REPORT.txt").unwrap();
    assert_eq!(card.boot_on("lo eth0 wlan0").report, report);
}

#[test]
fn imagers_file_is_read_and_the_owners_wins() {
    let card = Card::new();
    let psk = "ab".repeat(32);
    card.write(
        PRESEED,
        format!(
            "config_version = \"1.0\"\n\n[system]\nhostname = \"imager\"\n\n[user]\nname = \"alice\"\npassword = \"$5$x\"\n\
             password_encrypted = true\ngroups = [\"sudo\"]\n\n[ssh]\nenabled = true\npassword_authentication = true\n\
             authorized_keys = [\n  \"{KEY}\",\n]\n\n[wlan]\nssid = \"Home\"\npassword = \"{psk}\"\npassword_encrypted = true\n\
             hidden = true\ncountry = \"GB\"\n\n[locale]\nkeymap = \"gb\"\n\n[mesh.price]\nup = \"7 msat/MiB\"\ndown = \"8 msat/MiB\"\n\
             [mesh.node]\nnam = \"x\"\n"
        ),
    );
    let told = card.boot_on("wlan0");
    let said = lines(&told);
    assert_eq!(
        said.lines().next().unwrap(),
        "rpi-preseed.toml:33: mesh.node.nam: there is no such key: did you mean name?"
    );
    assert!(
        said.contains("rpi-preseed.toml:6: user: not used: this node has no passwords"),
        "{said}"
    );
    assert!(
        said.contains("rpi-preseed.toml:14: ssh.password_authentication: not used: SSH is by key only"),
        "{said}"
    );
    assert!(!said.contains("$5$x") && !told.report.contains("$5$x"));
    assert_eq!(card.setting("hostname"), "imager");
    assert_eq!(card.setting("authorized_keys"), KEY);
    assert_eq!(card.setting("network"), "uplink=wlan0\nstation=wlan0");
    let supplicant = card.setting("wifi/wpa_supplicant.conf");
    for line in [
        "country=GB",
        "\tssid=486f6d65",
        "\tscan_ssid=1",
        &format!("\tpsk={psk}"),
    ] {
        assert!(
            supplicant.lines().any(|there| there == line),
            "{line}: {supplicant}"
        );
    }
    // Nothing secret is left on the open partition, and the next boot still has it.
    assert!(!card.on_boot(PRESEED).contains(&psk) && !card.on_boot(PRESEED).contains("$5$x"));
    card.boot_on("wlan0");
    assert_eq!(card.setting("wifi/wpa_supplicant.conf"), supplicant);

    card.write(
        OWN,
        format!("[system]\nhostname = \"mine\"\nssh_keys = \"{OTHER_KEY}\"\n[wifi]\nssid = \"Cafe\"\n[price]\nup = \"9 msat/MiB\"\n"),
    );
    card.boot_on("wlan0");
    assert_eq!(card.setting("hostname"), "mine");
    assert_eq!(card.setting("authorized_keys"), OTHER_KEY);
    assert_eq!(card.setting("country"), "GB");
    let supplicant = card.setting("wifi/wpa_supplicant.conf");
    assert!(
        supplicant.contains("key_mgmt=NONE") && !supplicant.contains("psk"),
        "{supplicant}"
    );
    let price = card.config().price;
    assert_eq!((price.up.value(), price.down.value()), (9, 8));
}

#[test]
fn a_wrong_value_costs_the_whole_file_and_nothing_else() {
    let good =
        format!("[system]\nssh_keys = [\"{KEY}\"]\n[price]\nup = \"20 msat/MiB\"\ndown = \"21 msat/MiB\"\n");
    let bad = good
        .replace("20 msat/MiB", "30 msat")
        .replace("21", "31")
        .replace("[system]", "[system]\nhostname = \"new\"");
    // With a last good text, that one, whole.
    let card = Card::with(&good);
    card.boot();
    card.write(OWN, &bad);
    let told = card.boot();
    assert!(
        lines(&told).starts_with("turnpike.toml:5: price.up: wrong unit:"),
        "{}",
        lines(&told)
    );
    assert!(
        told.report
            .contains("turnpike.toml: not used; the node goes on with the last good one")
    );
    let price = card.config().price;
    assert_eq!((price.up.value(), price.down.value()), (20, 21));
    assert_eq!(
        (card.setting("hostname"), card.setting("authorized_keys")),
        ("turnpike".into(), KEY.into())
    );
    // Every wrong value is said at once, in both files.
    card.write(OWN, bad.replace("31 msat/MiB", "cheap"));
    card.write(
        PRESEED,
        "config_version = \"1.0\"\n[system]\nhostname = \"-\"\n[mesh.price]\nper_second = 1\n",
    );
    let said = lines(&card.boot());
    assert_eq!(said.lines().count(), 4, "{said}");
    // Corrected, it counts, and the problem is over.
    card.write(OWN, bad.replace("30 msat", "30 msat/MiB"));
    card.write(PRESEED, "# none\n");
    assert_eq!(lines(&card.boot()), "");
    assert_eq!(card.config().price.up.value(), 30);
    assert!(card.out("problems/settings").is_none());
    // Without one, the owner gets in, and everything else is as it is by default.
    let card = Card::with(&bad);
    let told = card.boot();
    assert!(
        told.report
            .contains("apart from what the owner reaches the node by"),
        "{}",
        told.report
    );
    assert_eq!(
        (card.setting("hostname"), card.setting("authorized_keys")),
        ("new".into(), KEY.into())
    );
    assert_eq!(card.config().price.down.value(), 50);
}

#[test]
fn garbage_gives_the_last_good_settings() {
    let good = "[node]\nname = \"good\"\n";
    let garbage: [(&[u8], &str); 7] = [
        (b"", "it is empty"),
        (&[0; 4096], "it is empty"),
        (b"\0\x01\xff\xfe\x80", "it is no text"),
        (b"name = \"caf\xe9\"", "it is not UTF-8"),
        (b"\xff\xfe[\0n\0", "it is UTF-16"),
        (b"[node\nname", "this is not TOML"),
        (&[b'#'; MAX_FILE + 1], "larger than 64 KiB"),
    ];
    for (bytes, word) in garbage {
        let card = Card::with(good);
        card.boot();
        card.write(OWN, bytes);
        let told = card.boot();
        let said = lines(&told);
        assert!(
            said.contains(word) && said.starts_with("turnpike.toml:"),
            "{said}"
        );
        assert_eq!(card.config().node.name, "good", "{word}");
        assert!(card.out("problems/settings-garbage").unwrap().contains(word));
        assert!(card.out("problems/settings").is_none());
        // Nor does it become the last good text, or go away.
        assert_eq!(fs::read(card.place().boot.join(OWN)).unwrap(), bytes);
        fs::remove_file(card.place().boot.join(OWN)).unwrap();
        let told = card.boot();
        assert_eq!(card.config().node.name, "good");
        assert!(lines(&told).contains("there is no such file; the last good one counts"));
        assert!(card.out("problems/settings-garbage").is_none());
        card.write(OWN, "# anew\n");
        card.boot();
        assert_eq!(card.config().node.name, "turnpike");
    }
    let card = Card::with("\0\0\x07");
    card.boot();
    assert_eq!(card.config().node.name, "turnpike");
}

#[test]
fn names_and_line_ends_of_windows_are_taken() {
    let card = Card::new();
    card.write(
        "turnpike.toml.txt",
        "\u{feff}[node]\r\nname = \"win\"\r\n[access_point]\r\npassword = \"abc def gh\"\r\n",
    );
    let told = card.boot();
    assert!(
        lines(&told).starts_with("turnpike.toml.txt: the name has .txt at its end"),
        "{}",
        lines(&told)
    );
    assert_eq!(card.config().node.name, "win");
    let text = format!("\u{feff}[node]\r\nname = \"win\"\r\n[access_point]\r\npassword = \"{MOVED}\"\r\n");
    assert_eq!(card.on_boot("turnpike.toml.txt"), text);
    card.boot();
    assert!(
        card.setting("wifi/hostapd.conf")
            .contains("wpa_passphrase=abc def gh")
    );
    // The right name wins, and the other one is pointed at.
    card.write(OWN, "[node]\nname = \"right\"\n");
    let told = card.boot();
    assert_eq!(card.config().node.name, "right");
    assert!(lines(&told).contains("turnpike.toml.txt: another file of its kind is here"));
}

#[test]
fn seed_words_are_refused_wherever_they_stand() {
    let words =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
    let list = words
        .split(' ')
        .map(|word| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(", ");
    for text in [
        format!("[node]\nseed = \"{words}\"\n"),
        format!("[node]\nname = \"{words}\"\n"),
        format!("[wallet]\nmine = [{list}]\n"),
        format!("[restore]\nx = \"{}\"\n", words.to_uppercase()),
    ] {
        let card = Card::with(&text);
        let told = card.boot();
        assert!(
            lines(&told).contains("seed words are not taken from this partition"),
            "{text}: {}",
            lines(&told)
        );
        assert!(!told.report.contains("abandon"));
        assert!(
            fs::read_dir(card.place().data.join("settings"))
                .unwrap()
                .next()
                .is_none()
        );
    }
}

#[test]
fn a_secret_that_was_moved_counts_until_another_one_is_written() {
    let own = "# keep me\n[wifi]\nssid = 'Net' # and me\npassword = 'first secret' # and me\n[chain]\nurl=\"http://h:1\"\nuser=\"u\"\npassword=\"\"\"\nlong\nsecret\"\"\"\n";
    let card = Card::with(own);
    card.boot();
    let moved = card.on_boot(OWN);
    assert_eq!(
        moved,
        format!(
            "# keep me\n[wifi]\nssid = 'Net' # and me\npassword = \"{MOVED}\" # and me\n[chain]\nurl=\"http://h:1\"\nuser=\"u\"\npassword=\"{MOVED}\"\n"
        )
    );
    let stored = card.place().data.join("settings").join(OWN);
    assert_eq!(fs::read_to_string(&stored).unwrap(), own);
    let before = fs::metadata(&stored).unwrap().modified().unwrap();
    card.boot();
    assert_eq!(
        fs::metadata(&stored).unwrap().modified().unwrap(),
        before,
        "no write without need"
    );
    // Another setting changes, the secret stays.
    card.write(OWN, moved.replace("'Net'", "'Other'"));
    assert_eq!(lines(&card.boot()), "");
    let supplicant = card.setting("wifi/wpa_supplicant.conf");
    assert!(
        supplicant.contains("psk=\"first secret\"") && supplicant.contains("4f74686572"),
        "{supplicant}"
    );
    // A new one takes its place.
    card.write(OWN, moved.replacen(MOVED, "second secret", 1));
    card.boot();
    assert!(
        card.setting("wifi/wpa_supplicant.conf")
            .contains("psk=\"second secret\"")
    );
    assert_eq!(card.on_boot(OWN), moved);
    // A node that never had it says so, and is not without everything else.
    let other = Card::with(&moved);
    let said = lines(&other.boot());
    assert!(
        said.starts_with("turnpike.toml:4: wifi.password: it says that this secret was moved"),
        "{said}"
    );
    assert_eq!(other.on_boot(OWN), moved);
    // What does not count is not touched.
    let wrong = Card::with("[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n[price]\nup = 1\n");
    wrong.boot();
    assert!(wrong.on_boot(OWN).contains("first secret"));
    assert!(wrong.setting("wifi/wpa_supplicant.conf").contains("first secret"));
}

#[test]
fn a_data_partition_that_cannot_be_written_costs_nothing_but_the_memory() {
    let card = Card::with("[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n");
    fs::remove_dir(card.place().data).unwrap();
    fs::write(card.place().data, "a file").unwrap();
    let told = card.boot();
    assert!(
        lines(&told).contains("these settings could not be kept"),
        "{}",
        lines(&told)
    );
    assert!(card.on_boot(OWN).contains("first secret"));
    assert!(card.setting("wifi/wpa_supplicant.conf").contains("first secret"));
}

/// A disk whose power goes after a number of steps. What was not made durable may be there, or not, or half.
#[derive(Clone, Default)]
struct Fragile {
    files: RefCell<Vec<[Vec<u8>; 2]>>,
    /// Names as they are now, and as they were at each step since they were last made durable.
    names: RefCell<Vec<BTreeMap<PathBuf, usize>>>,
    left: Cell<usize>,
    forgets: bool,
}

const NOW: usize = 0;
const DURABLE: usize = 1;

impl Fragile {
    fn with(files: &[(&str, &str)]) -> Fragile {
        let disk = Fragile::default();
        disk.left.set(usize::MAX);
        disk.names.borrow_mut().push(BTreeMap::new());
        for (path, text) in files {
            disk.create(Path::new(path), text.as_bytes(), 0).unwrap();
            disk.sync(Path::new(path)).unwrap();
        }
        disk.sync_folder(Path::new("")).unwrap();
        disk
    }

    fn step(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(io::Error::other("the power is gone")),
        }
    }

    fn at(&self, path: &Path) -> io::Result<usize> {
        let names = self.names.borrow();
        let found = names.last().unwrap().get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename_now(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) {
        let mut names = self.names.borrow().last().unwrap().clone();
        change(&mut names);
        self.names.borrow_mut().push(names);
    }

    /// Every disk that may be found when the power is back.
    fn after(&self) -> Vec<Fragile> {
        let names = self.names.borrow().clone();
        let mut found = Vec::new();
        for names in names {
            for keep in 0..3 {
                let files = self.files.borrow().clone();
                let files = files.into_iter().map(|[now, durable]| {
                    let content = match keep {
                        0 => durable,
                        // It was on the way.
                        1 if durable != now => now[..now.len() / 2].to_vec(),
                        _ => now,
                    };
                    [content.clone(), content]
                });
                found.push(Fragile {
                    files: RefCell::new(files.collect()),
                    names: RefCell::new(vec![names.clone()]),
                    left: Cell::new(usize::MAX),
                    forgets: self.forgets,
                });
            }
        }
        found
    }

    fn text(&self, path: &str) -> Option<String> {
        let at = self.at(Path::new(path)).ok()?;
        Some(String::from_utf8(self.files.borrow()[at][NOW].clone()).unwrap())
    }
}

impl Disk for Fragile {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let at = self.at(path)?;
        let bytes = &self.files.borrow()[at][NOW];
        Ok(bytes[..bytes.len().min(limit)].to_vec())
    }
    fn make_folder(&self, _: &Path) -> io::Result<()> {
        self.step()
    }
    fn create(&self, path: &Path, bytes: &[u8], _: u32) -> io::Result<()> {
        self.step()?;
        if self.at(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut files = self.files.borrow_mut();
        files.push([bytes.to_vec(), Vec::new()]);
        let at = files.len() - 1;
        self.rename_now(|names| {
            names.insert(path.to_owned(), at);
        });
        Ok(())
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let at = self.at(path)?;
        let file = &mut self.files.borrow_mut()[at];
        file[DURABLE] = file[NOW].clone();
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let at = self.at(from)?;
        // FAT writes the new name before it removes the old one.
        self.rename_now(|names| {
            names.insert(to.to_owned(), at);
        });
        self.rename_now(|names| {
            names.remove(from);
        });
        Ok(())
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        let mut names = self.names.borrow_mut();
        let last = names.pop().unwrap();
        *names = vec![last];
        Ok(())
    }
    fn rename_and_wipe(&self, from: &Path, to: &Path) -> io::Result<()> {
        let old = self.at(to)?;
        self.rename(from, to)?;
        self.sync_folder(to)?;
        self.step()?;
        let length = self.files.borrow()[old][NOW].len();
        self.files.borrow_mut()[old] = [vec![0; length], vec![0; length / 2]];
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.rename_now(|names| {
            names.remove(path);
        });
        Ok(())
    }
    fn remembers(&self, _: &Path) -> bool {
        !self.forgets
    }
    fn while_writable(&self, write: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        write()
    }
}

/// Boots from `disk` with the power cut after every number of steps, and boots again from every disk that may be found
/// then. Gives the number of these second boots.
fn cut_everywhere(disk: &Fragile, wanted: &str, unwanted: Option<&str>) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    let interfaces = Interfaces::new(["eth0", "wlan0"]);
    let whole = disk.text("/boot/turnpike.toml").unwrap();
    let without = whole.replace(wanted, MOVED);
    let stored = disk.text("/data/settings/turnpike.toml");
    let supplicant = || fs::read_to_string(place.run.join("settings/wifi/wpa_supplicant.conf")).unwrap();
    let mut boots = 0;
    for steps in 0.. {
        let cut = disk.clone();
        cut.left.set(steps);
        apply_on(&cut, &place, &interfaces).unwrap();
        let finished = cut.left.get() > 0;
        for found in cut.after() {
            boots += 1;
            let boot = found.text("/boot/turnpike.toml").unwrap();
            let data = found.text("/data/settings/turnpike.toml");
            assert!(
                boot == whole || boot == without,
                "a whole file, after {steps} steps: {boot}"
            );
            assert!(
                data == stored || data.as_deref() == Some(&whole),
                "a whole file, after {steps} steps: {data:?}"
            );
            assert!(
                boot == whole || data.as_deref() == Some(&whole),
                "the secret is lost after {steps} steps"
            );
            let told = apply_on(&found, &place, &interfaces).unwrap();
            assert_eq!(lines(&told), "", "after {steps} steps");
            assert!(supplicant().contains(wanted), "after {steps} steps");
            assert!(unwanted.is_none_or(|old| !supplicant().contains(old)));
            assert_eq!(found.text("/boot/turnpike.toml").unwrap(), without);
            assert_eq!(found.text("/data/settings/turnpike.toml").unwrap(), whole);
        }
        if finished {
            // The old file's bytes are gone, too.
            let files = cut.files.borrow();
            let left = files
                .iter()
                .filter(|file| String::from_utf8_lossy(&file[NOW]).contains(wanted));
            assert_eq!(left.count(), 1, "only in the data partition");
            return boots;
        }
    }
    boots
}

#[test]
fn a_power_cut_at_any_step_loses_no_secret_and_leaves_no_half_file() {
    let first = "[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n[node]\nname = \"a\"\n";
    let boots = cut_everywhere(
        &Fragile::with(&[("/boot/turnpike.toml", first)]),
        "first secret",
        None,
    );
    assert!(boots > 50, "{boots}");
    // A later boot, with another secret in place of the one that was moved.
    let second = first.replace("first", "second").replace("\"a\"", "\"b\"");
    let disk = Fragile::with(&[
        ("/boot/turnpike.toml", &second),
        ("/data/settings/turnpike.toml", first),
        // What an earlier cut left.
        ("/boot/turnpike.new", "[wi"),
        ("/data/settings/turnpike.new", "[wi"),
    ]);
    let boots = cut_everywhere(&disk, "second secret", Some("first secret"));
    assert!(boots > 50, "{boots}");
}

#[test]
fn nothing_is_moved_into_ram() {
    let first = "[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n";
    let disk = Fragile {
        forgets: true,
        ..Fragile::with(&[("/boot/turnpike.toml", first)])
    };
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    apply_on(&disk, &place, &Interfaces::new(["wlan0"])).unwrap();
    assert_eq!(disk.text("/boot/turnpike.toml").unwrap(), first);
    assert_eq!(disk.text("/data/settings/turnpike.toml"), None);
}

/// A generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

#[test]
fn whatever_stands_in_the_files_there_is_a_configuration() {
    let seeds = [
        include_str!("../config/example.toml")
            .replace("@data_dir@", "/d")
            .replace("\n#", "\n"),
        format!(
            "config_version = \"1.0\"\n[system]\nhostname = \"i\"\n[ssh]\nenabled = true\nauthorized_keys = [\"{KEY}\"]\n[wlan]\n\
             ssid = \"Home\"\npassword = \"12345678\"\ncountry = \"GB\"\n[mesh.relay]\nenabled = true\n[mesh.chain]\nuser = \"u\"\npassword = \"p\"\n"
        ),
        format!(
            "[system]\nssh_keys = [\"{KEY}\"]\ncountry = \"DE\"\n[wifi]\nssid = \"N\"\npassword = \"12345678\"\n[access_point]\nchannel = 36\n\
             security = \"wpa2\"\npassword = \"{MOVED}\"\n[update]\nkeys = [\"x\"]\nthreshold = 1\n[relay]\nenabled = true\nguest_interface = \"eth0\"\n"
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    let mut dice = Dice(0x7470_696b);
    for round in 0..400 {
        let file = |dice: &mut Dice| {
            let mut bytes = seeds[dice.roll(seeds.len())].clone().into_bytes();
            match dice.roll(5) {
                0 => bytes = (0..dice.roll(300)).map(|_| dice.roll(256) as u8).collect(),
                1 => bytes.truncate(dice.roll(bytes.len())),
                _ => {}
            }
            for _ in 0..dice.roll(6) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 if at < bytes.len() => bytes[at] = b"\"[]{}=.#\n\\0x\xc3 "[dice.roll(14)],
                    1 if at < bytes.len() => drop(bytes.drain(at..(at + dice.roll(20)).min(bytes.len()))),
                    _ => {
                        let from = dice.roll(bytes.len());
                        let piece = bytes[from..(from + dice.roll(40)).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            bytes
        };
        let disk = Fragile::with(&[]);
        for path in [
            "/boot/turnpike.toml",
            "/boot/rpi-preseed.toml",
            "/data/settings/turnpike.toml",
        ] {
            if dice.roll(4) > 0 {
                disk.create(Path::new(path), &file(&mut dice), 0).unwrap();
            }
        }
        let told = apply_on(&disk, &place, &Interfaces::new(["eth0", "wlan0"])).unwrap();
        let config = Config::read(&place.run.join(OWN));
        assert!(config.is_ok(), "round {round}: {config:?}");
        let again = apply_on(&disk, &place, &Interfaces::new(["eth0", "wlan0"])).unwrap();
        assert_eq!(again.findings.len(), told.findings.len(), "round {round}");
        let at = disk.at(Path::new("/boot/turnpike.toml"));
        if let Ok(at) = at {
            check(OWN, &disk.files.borrow()[at][NOW], &Interfaces::default());
        }
    }
}
