//! Single values, and what they come to.

use super::*;

#[test]
fn the_example_says_nothing_and_knows_every_key() {
    let interfaces = Interfaces::new(["eth0", "wlan0", "wlan1"]);
    assert_eq!(check(OWN, example().as_bytes(), &interfaces), []);
    let card = Card::with(example());
    let told = card.boot();
    assert_eq!(lines(&told), "");
    assert_eq!(card.setting("network"), "uplink=eth0");
    // It does not stand in the way of Imager's file, nor of one with the wrong name.
    card.write(PRESEED, "config_version = \"1.0\"\n[wlan]\nssid = \"Home\"\n");
    card.write("turnpike.toml.txt", "[node]\nname = \"win\"\n");
    card.boot();
    assert!(card.setting("wifi/wpa_supplicant.conf").contains("486f6d65"));
    assert_eq!(card.config().node.name, "win");
    // With every line set, what is left to say is about values that are only shapes.
    let set: String = example()
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let set = set
        .replace("ssh-ed25519 AAAA… you@home", KEY)
        .replace(
            "[\"RW…\", \"RW…\"]",
            "[\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]",
        )
        .replace("threshold = 2", "threshold = 1")
        .replacen("\"…\"", "\"password\"", 1)
        .replace(
            "security = \"open\"\npassword = \"…\"",
            "security = \"wpa3\"\npassword = \"password\"",
        );
    assert_eq!(
        lines(&Told {
            findings: check(OWN, set.as_bytes(), &interfaces),
            report: String::new()
        }),
        ""
    );
    assert!(set.matches(" = ").count() > 20);
}

#[test]
fn interfaces_get_their_roles() {
    let sell = "[chain]\nurl = \"http://h:1\"\nuser = \"u\"\npassword = \"p\"\n[relay]\nenabled = true\n";
    let wifi = "[wifi]\nssid = \"N\"\npassword = \"12345678\"\n";
    for (text, interfaces, network, sells, says) in [
        (String::new(), "wlan0 eth0 eth1", "uplink=eth0", false, ""),
        (
            sell.into(),
            "eth0 wlan0",
            "uplink=eth0 guest=wlan0 access_point=wlan0",
            true,
            "",
        ),
        (
            sell.into(),
            "end0",
            "uplink=end0",
            false,
            "an interface for guests is missing",
        ),
        (
            sell.into(),
            "wlan0",
            "guest=wlan0 access_point=wlan0",
            false,
            "towards the world is missing",
        ),
        (
            format!("{sell}guest_interface = \"eth1\"\n"),
            "eth0 eth1",
            "uplink=eth0 guest=eth1",
            true,
            "",
        ),
        (
            format!("{sell}guest_interface = \"eth0\"\n"),
            "eth0 eth1",
            "uplink=eth1 guest=eth0",
            true,
            "",
        ),
        (
            format!("{sell}guest_interface = [\"eth1\", \"eth7\"]\n"),
            "eth0 eth1",
            "uplink=eth0 guest=eth1",
            false,
            "there is no interface eth7 on this machine: there are eth0, eth1",
        ),
        (
            format!("{sell}uplink_interface = \"ppp0\"\n"),
            "eth0 wlan0",
            "uplink=eth0 guest=wlan0 access_point=wlan0",
            true,
            "there is no interface ppp0",
        ),
        (
            format!("{sell}{wifi}"),
            "eth0 wlan0 wlan1",
            "uplink=eth0 uplink=wlan1 guest=wlan0 station=wlan1 access_point=wlan0",
            true,
            "",
        ),
        (
            format!("{sell}{wifi}interface = \"wlan0\"\n"),
            "wlan0 wlan1",
            "uplink=wlan0 guest=wlan1 station=wlan0 access_point=wlan1",
            true,
            "",
        ),
        (
            format!("{sell}{wifi}"),
            "eth0 wlan0",
            "uplink=eth0 uplink=wlan0 station=wlan0",
            false,
            "so it cannot offer one, too",
        ),
        (
            wifi.into(),
            "eth0",
            "uplink=eth0",
            false,
            "no wireless interface to join",
        ),
        (
            "[access_point]\nssid = \"x\"\n".into(),
            "eth0",
            "uplink=eth0",
            false,
            "no wireless interface to offer",
        ),
        (
            "[access_point]\ninterface = \"wlan7\"\n".into(),
            "wlan0",
            "",
            false,
            "access_point.interface: there is no interface wlan7",
        ),
        (
            "[relay]\nenabled = true\n".into(),
            "eth0 wlan0",
            "uplink=eth0 guest=wlan0 access_point=wlan0",
            false,
            "no chain to be paid on",
        ),
    ] {
        let card = Card::with(&format!("# settings\n{text}"));
        let told = card.boot_on(interfaces);
        assert_eq!(card.setting("network").replace('\n', " "), network, "{text}");
        assert_eq!(card.config().relay.enabled, sells, "{text}: {}", lines(&told));
        assert!(
            lines(&told).contains(says) && (lines(&told).is_empty() == says.is_empty()),
            "{text}: {}",
            lines(&told)
        );
        assert_eq!(
            card.out("settings/wifi/hostapd.conf").is_some(),
            network.contains("access_point")
        );
        assert_eq!(
            card.out("settings/wifi/wpa_supplicant.conf").is_some(),
            network.contains("station")
        );
    }
}

#[test]
fn every_wrong_value_is_named_with_its_line() {
    let cases = [
        (
            "[system]\nhostname = \"a b\"",
            "2: system.hostname: this is no name of a host",
        ),
        ("[system]\nhostname = \"-a\"", "2: system.hostname"),
        (
            "[system]\nhostname = 7",
            "2: system.hostname: a text in quotes is wanted",
        ),
        (
            "[system]\ncountry = \"Germany\"",
            "2: system.country: this is no country",
        ),
        (
            "[system]\nssh_keys = 1",
            "2: system.ssh_keys: a list of texts is wanted",
        ),
        ("system = 1", "1: system: this is a section, not a key"),
        ("[[system]]\n", "1: system: this is a section, not a key"),
        (
            "[wifi]\nssid = \"\"",
            "2: wifi.ssid: a network's name has 1 to 32 bytes, this has 0",
        ),
        (
            "[wifi]\nssid = \"ééééééééééééééééé\"",
            "2: wifi.ssid: a network's name has 1 to 32 bytes, this has 34",
        ),
        (
            "[wifi]\nssid_hex = \"abc\"",
            "2: wifi.ssid_hex: this is no network's name",
        ),
        (
            "[wifi]\npassword = \"12345678\"",
            "2: wifi.password: the network's name is missing",
        ),
        (
            "[wifi]\nssid = \"a\"\npassword = \"1234567\"",
            "3: wifi.password: a password of Wi-Fi has 8 to 63",
        ),
        (
            "[wifi]\nssid = \"a\"\nsecurity = \"wep\"",
            "3: wifi.security: \"wep\" is none of the choices: use one of open, owe, wpa2, wpa3",
        ),
        (
            "[wifi]\nssid = \"a\"\nsecurity = \"wpa3\"",
            "3: wifi.security: a network with a password needs one",
        ),
        (
            "[wifi]\nssid = \"a\"\nsecurity = \"owe\"\npassword = \"12345678\"",
            ": a network without a password has one here",
        ),
        (
            "[wifi]\nssid = \"a\"\nhidden = \"yes\"",
            "3: wifi.hidden: true or false is wanted",
        ),
        (
            "[wifi]\nssid = \"a\"\ninterface = \"a b\"",
            "3: wifi.interface: not the name of an interface",
        ),
        (
            "[access_point]\nchannel = 14",
            "2: access_point.channel: an access point cannot use this channel",
        ),
        (
            "[access_point]\nchannel = 36",
            "2: access_point.channel: this channel is allowed in some countries only",
        ),
        (
            "[access_point]\nchannel = \"6\"",
            "2: access_point.channel: a whole number is wanted",
        ),
        (
            "[update]\nkeys = [\"x\"]",
            "2: update.keys: \"x\" is no minisign public key",
        ),
        (
            "[update]\nthreshold = 1",
            "2: update.threshold: there are no keys",
        ),
        ("[update]\nkeys = []", "2: update.keys: 1 to 16 keys are possible"),
        (
            "[chain]\nurl = \"http://u:hidden@h:1\"",
            "2: chain.url: user and password do not belong",
        ),
        (
            "[chain]\nuser = \"u\"",
            "chain.password: user is there, and this key is missing",
        ),
        ("[price]\nup = \"1 sat\"", "2: price.up: wrong unit"),
        (
            "[price]\nwindow_max = \"128 KiB\"\nwindow_min = \"1 MiB\"",
            "3: price.window_min: 1 MiB is above window_max",
        ),
        (
            "[relay]\nguest_interface = \"eth0\"\nuplink_interface = \"eth0\"\n",
            "3: relay.uplink_interface: eth0 is also a guest interface",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "2: log.level: \"loud\" is none of the choices",
        ),
    ];
    for (text, says) in cases {
        let findings = check(OWN, text.as_bytes(), &Interfaces::new(["eth0", "wlan0"]));
        let said: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        assert!(said.contains(says), "{text}: {said}");
        assert!(
            findings.iter().any(|finding| finding.weight == Weight::Wrong),
            "{text}: {said}"
        );
        assert!(!said.contains("hidden@") && !said.contains("12345678"), "{said}");
    }
    let cases = [
        (
            "config_version = \"2.0\"",
            "1: config_version: this is a later format",
        ),
        ("config_version = 2", "1: config_version"),
        (
            "[wlan]\nssid = \"a\"\npassword = \"12345678\"\npassword_encrypted = true",
            "3: wlan.password: password_encrypted is true",
        ),
        (
            "[wlan]\nssid = \"a\"\nkey_mgmt = \"wep\"",
            "3: wlan.key_mgmt: this is none of the choices",
        ),
        (
            "[wlan]\nssid = \"a\"\nhidden = 1",
            "3: wlan.hidden: true or false",
        ),
        ("[ssh]\nenabled = \"no\"", "2: ssh.enabled: true or false"),
        ("wlan = 1", "1: wlan: this is a section, not a key"),
        ("[mesh.price]\nup = 1", "2: mesh.price.up: wrong unit"),
        ("[mesh]\nprice = 1", "2: mesh.price: there is no such key"),
        (
            "[mesh.prices]\nup = 1",
            "1: mesh.prices: there is no such section: did you mean price?",
        ),
        (
            "[wlann]\nssid = \"a\"",
            "1: wlann: there is no such section: did you mean wlan?",
        ),
        (
            "[wlan]\nsid = \"a\"",
            "2: wlan.sid: there is no such key: did you mean ssid?",
        ),
        (
            "[ssh]\nenabled = false\nauthorized_keys = [\"x\"]",
            "3: ssh.authorized_keys: not used, since ssh.enabled is false",
        ),
        ("[runcmd]\nearly = [\"reboot\"]", "1: runcmd: not used"),
    ];
    for (text, says) in cases {
        let findings = check(PRESEED, text.as_bytes(), &Interfaces::new(["eth0", "wlan0"]));
        let said: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        assert!(said.contains(&format!("{PRESEED}:{says}")), "{text}: {said}");
    }
}

#[test]
fn the_older_file_of_imager_is_read_where_the_newer_is_missing() {
    let card = Card::new();
    card.write("custom.toml", "config_version = 1\n[system]\nhostname = \"old\"\n[wlan]\nssid_hex = \"ff00\"\nkey_mgmt = \"sae\"\npassword = \"12345678\"\n");
    let told = card.boot();
    assert_eq!(lines(&told), "");
    assert_eq!(card.setting("hostname"), "old");
    let supplicant = card.setting("wifi/wpa_supplicant.conf");
    assert!(
        supplicant.contains("ssid=ff00\n\tkey_mgmt=SAE\n") && supplicant.contains("psk=\"12345678\""),
        "{supplicant}"
    );
    assert!(!card.on_boot("custom.toml").contains("12345678"));
    card.write(
        PRESEED,
        "config_version = \"1.0\"\n[system]\nhostname = \"new\"\n",
    );
    let told = card.boot();
    assert!(lines(&told).contains("custom.toml: another file of its kind is here"));
    assert_eq!(card.setting("hostname"), "new");
}
