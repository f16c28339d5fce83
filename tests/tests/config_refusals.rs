//! A daemon that cannot do what its configuration asks for says so in one line that names file, key and remedy, ends
//! with status 2, and has changed nothing on the system.

use std::net::TcpListener;
use std::process::Command;
use turnpike_tests::in_lab;
use turnpike_tests::lab::{Lab, Plan};
use turnpike_tests::site::{ChainKind, Site};

/// Everything on the relay that a daemon could change.
fn system(site: &Site) -> (String, Vec<String>) {
    let files = std::fs::read_dir(site.relay.data_dir()).unwrap();
    let mut files: Vec<String> = files
        .map(|f| f.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    (site.lab.relay().run("nft list ruleset"), files)
}

/// Starts the daemon through `wrapper` and holds its one line against `words`.
fn refused(site: &Site, wrapper: &[&str], words: &[&str]) {
    let before = system(site);
    let daemon = site.relay.daemon();
    let mut line = wrapper
        .iter()
        .map(Into::into)
        .chain(daemon.get_args().skip(2).map(ToOwned::to_owned));
    // The lab's own prefix first: into the relay's network, then whatever the case adds.
    let mut command = Command::new(daemon.get_program());
    command
        .args(daemon.get_args().take(2))
        .args(&mut line)
        .env_remove("RUST_LOG");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    for word in words.iter().chain(&["turnpike.toml"]) {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert_eq!(system(site), before, "something was changed: {text}");
}

fn in_file(site: &Site, from: &str, to: &str, words: &[&str]) {
    let good = site.relay.read_config();
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "{from:?} is not in the file");
    site.relay.replace_config(&bad);
    refused(site, &[], words);
    site.relay.replace_config(&good);
}

in_lab! {
    fn a_bad_configuration_gives_one_line_and_status_2_and_changes_nothing() {
        let site = Site::new(Plan::default(), ChainKind::Play, 1_000, "");
        site.lab.relay().run("nft add table inet of_the_owner");
        // Unknown key, unknown section, wrong unit, a price that overflows, a name that is no interface.
        in_file(&site, "[relay]\n", "[relay]\ncolour = \"red\"\n", &["colour", "turnpike.toml:"]);
        in_file(&site, "[relay]\n", "[paint]\ncolour = \"red\"\n[relay]\n", &["paint"]);
        in_file(&site, "up = \"1000 msat/MiB\"", "up = \"1000 msat/KiB\"", &["price.up", "msat/MiB"]);
        in_file(&site, "up = \"1000 msat/MiB\"", "up = 1000", &["price.up", "msat/MiB"]);
        for price in ["18446744073709551616", "18446744073709551615"] {
            in_file(&site, "up = \"1000 msat/MiB\"", &format!("up = \"{price} msat/MiB\""), &["price.up"]);
        }
        in_file(&site, Lab::UP, "nosuch0", &["relay.uplink_interface", "nosuch0", "use one of"]);
        let holder = site.lab.relay().within(|| TcpListener::bind((Lab::RELAY4, 7_473)).unwrap());
        refused(&site, &[], &["relay.listen", "7473", "in use", "choose another port"]);
        drop(holder);

        let hidden = "for nft in /usr/sbin/nft /sbin/nft /usr/bin/nft /bin/nft /usr/local/sbin/nft; do \
                      if [ -e $nft ]; then mount --bind /dev/null $nft; fi; done; exec \"$0\" \"$@\"";
        refused(&site, &["unshare", "--mount", "sh", "-c", hidden], &["nftables", "install the package nftables"]);
        let powerless = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
        refused(&site, &powerless, &["permission", "CAP_NET_ADMIN"]);
        site.lab.relay().run("sysctl -qw net.ipv4.ip_forward=0");
        refused(&site, &[], &["sysctl -w net.ipv4.ip_forward=1"]);
    }
}
