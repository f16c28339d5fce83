//! What owners write, and what the node makes of it.

mod power;
mod values;

use super::*;
use crate::config::Config;
use std::fs;

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
    assert!(
        wrong
            .out("REPORT.txt")
            .unwrap()
            .contains("turnpike.toml: passwords in it stay on this partition")
    );
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
