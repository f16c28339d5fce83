//! Every message that an owner can meet, and the defaults that the example promises.

use super::*;
use crate::chain::Auth;
use crate::control::Target;
use std::net::TcpListener;

const HEAD: &str = "[node]\ndata_dir = \"data\"\n[chain]\nbackend = \"play\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("dir/turnpike.toml"), text)
}

fn error(text: &str) -> String {
    let error = parse(text).expect_err(text).to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

#[test]
fn every_mistake_gives_one_line_with_file_line_key_and_remedy() {
    let table: &[(&str, &str)] = &[
        // Text that is no TOML.
        (
            "[node",
            "1: this is not TOML (unclosed table, expected `]`): write KEY = \"VALUE\" under a [SECTION]",
        ),
        (
            "@x = 1\nx = 2",
            "6: this is not TOML (duplicate key): write KEY = \"VALUE\" under a [SECTION]",
        ),
        // Two ways to prove oneself, or half of one.
        (
            "@user = \"u\"",
            " chain.password: user is there, and this key is missing: write both, as in bitcoind's rpcauth, or remove user",
        ),
        (
            "@password = \"p\"",
            " chain.user: password is there, and this key is missing: write both, as in bitcoind's rpcauth, or remove password",
        ),
        (
            "@user = \"u:v\"\npassword = \"p\"",
            "5: chain.user: a user has no colon and is one line: copy it from bitcoind's rpcauth",
        ),
        (
            "@user = \"u\"\npassword = \"p\"\ncookie = \"c\"",
            "7: chain.cookie: user and password are there, too: remove the cookie, or user and password",
        ),
        (
            "@url = \"http://u:p\\u0040h:1\"",
            "5: chain.url: user and password do not belong into the address: write them as user and password",
        ),
        (
            "@url = \"http://a b:1\"",
            "5: chain.url: \"http://a b:1\" is no address of a chain back end: write it such as \"http://127.0.0.1:8332\"",
        ),
        // Missing, unknown and misplaced keys.
        (
            "[chain]\nbackend = \"play\"",
            " node.data_dir: this key is missing: add data_dir = \"data\" under [node]",
        ),
        (
            "[node]\ndata_dir = \"d\"",
            " chain.backend: this key is missing: add backend = \"bitcoind\" under [chain]",
        ),
        (
            "@[price]\nfre = \"1 MiB\"",
            "6: price.fre: there is no such key: did you mean free?",
        ),
        (
            "@[price]\nper_sec = \"1 msat/s\"",
            "6: price.per_sec: there is no such key: did you mean per_second?",
        ),
        (
            "@[log]\nfile = \"x\"",
            "6: log.file: there is no such key: use one of level",
        ),
        (
            "@[prices]\nup = 1",
            "5: prices: there is no such section: did you mean price?",
        ),
        (
            "nam = 1\n@",
            "1: nam: there is no such key outside of a section: use one of node, chain, relay, price, channel, client, log",
        ),
        (
            "node = 1",
            "1: node: this is a section, not a key: write [node] on a line of its own and its keys below",
        ),
        // Wrong types.
        (
            "@[node.x]",
            "5: node.x: there is no such key: use one of data_dir, name",
        ),
        (
            "[node]\ndata_dir = 5",
            "2: node.data_dir: a text in quotes is wanted, this is a number: write data_dir = \"…\"",
        ),
        (
            "@[relay]\nenabled = \"yes\"",
            "6: relay.enabled: true or false is wanted: write enabled = true",
        ),
        (
            "@[price]\nfree = true",
            "6: price.free: a size in quotes is wanted, this is true or false: write free = \"4 MiB\"",
        ),
        (
            "@[relay]\nguest_interface = [1]",
            "6: relay.guest_interface: a list of texts is wanted: write guest_interface = [\"…\", \"…\"]",
        ),
        // Wrong units.
        (
            "@[price]\nfree = 1048576",
            "6: price.free: wrong unit: a plain number is not a size: write it with its unit, such as \"4 MiB\"",
        ),
        (
            "@[price]\nfree = \"1048576\"",
            "6: price.free: wrong unit: \"1048576\" has none: add B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as \"4 MiB\"",
        ),
        (
            "@[price]\nfree = \"1 Mbit\"",
            "6: price.free: wrong unit: \"Mbit\" is no unit of a size: use B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as \"4 MiB\"",
        ),
        (
            "@[price]\nup = \"5 sat/GiB\"",
            "6: price.up: wrong unit: \"sat/GiB\" is no unit of a price per byte: use msat/MiB or sat/MiB, such as \"50 msat/MiB\"",
        ),
        (
            "@[price]\nup = 0.5",
            "6: price.up: wrong unit: a plain number is not a price per byte: write it with its unit, such as \"50 msat/MiB\"",
        ),
        (
            "@[price]\nper_second = \"1 msat/MiB\"",
            "6: price.per_second: wrong unit: \"msat/MiB\" is no unit of a price per time: use msat/s or sat/s, such as \"10 msat/s\"",
        ),
        (
            "@[channel]\ndark = \"1 BTC\"",
            "6: channel.dark: wrong unit: \"BTC\" is no unit of an amount: use sat, such as \"50000 sat\"",
        ),
        (
            "@[channel]\nlifetime_max = \"7 days\"",
            "6: channel.lifetime_max: wrong unit: \"days\" is no unit of a number of blocks: use blocks or block, such as \"1008 blocks\"",
        ),
        (
            "@poll = 10",
            "5: chain.poll: wrong unit: a plain number is not a time: write it with its unit, such as \"10 s\"",
        ),
        (
            "@[client]\nloss_tolerance = 0.02",
            "6: client.loss_tolerance: wrong unit: this is no percentage: write a percentage up to 50 %, such as \"1 %\"",
        ),
        // Numbers that are none, overflow, or lie out of bounds.
        (
            "@[price]\nup = \"0.5 msat/MiB\"",
            "6: price.up: \"0.5 msat/MiB\" does not begin with a whole number: write it such as \"50 msat/MiB\"",
        ),
        (
            "@[price]\nup = \"-1 msat/MiB\"",
            "6: price.up: \"-1 msat/MiB\" does not begin with a whole number: write it such as \"50 msat/MiB\"",
        ),
        (
            "@[price]\nup = \"99999999999999999999 msat/MiB\"",
            "6: price.up: \"99999999999999999999 msat/MiB\" overflows: use 0 msat/MiB to 100000000 sat/MiB",
        ),
        (
            "@[price]\nup = \"20000000000000000 sat/MiB\"",
            "6: price.up: \"20000000000000000 sat/MiB\" overflows: use 0 msat/MiB to 100000000 sat/MiB",
        ),
        (
            "@[price]\ndown = \"100000001 sat/MiB\"",
            "6: price.down: \"100000001 sat/MiB\" is above 100000000 sat/MiB: use 0 msat/MiB to 100000000 sat/MiB",
        ),
        (
            "@[price]\ndown = \"100000000 sat/MiB\"",
            "6: price.down: this price overflows: the smallest window costs more than the 10000000 sat that a channel can hold: lower the price or window_min",
        ),
        (
            "@[price]\nwindow_min = \"1 kB\"",
            "6: price.window_min: \"1 kB\" is below 128 KiB: use 128 KiB to 4 GiB",
        ),
        (
            "@[price]\nwindow_min = \"2 MiB\"\nwindow_max = \"1 MiB\"",
            "6: price.window_min: 2 MiB is above window_max, which is 1 MiB: raise window_max or lower window_min",
        ),
        (
            "@[price]\nfree = \"2 TiB\"",
            "6: price.free: \"2 TiB\" is above 1 TiB: use 0 B to 1 TiB",
        ),
        (
            "@[channel]\ncapacity_min = \"9999 sat\"",
            "6: channel.capacity_min: \"9999 sat\" is below 10000 sat: use 10000 sat to 10000000 sat",
        ),
        (
            "@[channel]\ncapacity_max = \"20000 sat\"\ncapacity_min = \"30000 sat\"",
            "7: channel.capacity_min: 30000 sat is above capacity_max, which is 20000 sat: raise capacity_max or lower capacity_min",
        ),
        (
            "@[channel]\nlifetime_min = \"10 blocks\"",
            "6: channel.lifetime_min: \"10 blocks\" is below 216 blocks: use 216 blocks to 4032 blocks",
        ),
        (
            "@[channel]\nunconfirmed = \"60000 sat\"",
            "6: channel.unconfirmed: 60000 sat is above unconfirmed_total, which is 50000 sat: raise unconfirmed_total or lower unconfirmed",
        ),
        (
            "@[client]\nloss_tolerance = \"60 %\"",
            "6: client.loss_tolerance: this is too much: write a percentage up to 50 %, such as \"1 %\"",
        ),
        // Choices and addresses.
        (
            "[node]\ndata_dir = \"d\"\n[chain]\nbackend = \"bitcoin\"",
            "4: chain.backend: \"bitcoin\" is none of the choices: did you mean bitcoind?",
        ),
        (
            "@network = \"mainnet\"",
            "5: chain.network: the play chain has no real money: remove this line, or set backend = \"bitcoind\"",
        ),
        (
            "@network = \"liquid\"",
            "5: chain.network: \"liquid\" is none of the choices: use one of mainnet, testnet4, signet, regtest",
        ),
        (
            "@url = \"https://example.org\"",
            "5: chain.url: \"https://example.org\" is no address of a chain back end: write it such as \"http://127.0.0.1:8332\"",
        ),
        (
            "@[log]\nlevel = \"verbose\"",
            "6: log.level: \"verbose\" is none of the choices: use one of error, warn, info, debug, trace",
        ),
        (
            "@[relay]\nlisten = \"7473\"",
            "6: relay.listen: \"7473\" cannot be used here: write an address and a port, such as \"[::]:7473\" or \"0.0.0.0:7473\"",
        ),
        (
            "@[relay]\nenabled = true",
            " relay.guest_interface: a relay needs this key: add guest_interface = \"NAME\" under [relay] (`ip link` lists names), or set enabled = false",
        ),
        (
            "@[relay]\nguest_interface = \"a\"\nuplink_interface = [\"b\", \"a\"]",
            "7: relay.uplink_interface: a is also a guest interface: name two different interfaces",
        ),
        (
            "@[relay]\nguest_interface = \"no/slash\"",
            "6: relay.guest_interface: not the name of an interface: \"no/slash\" is no interface name: 1 to 15 letters, digits, dots, dashes or underscores",
        ),
        (
            "@[client]\nrelay = \"a b\"",
            "6: client.relay: \"a b\" is no address: write HOST:PORT, such as \"192.0.2.1:7473\" or \"[2001:db8::1]:7473\", or IDENTITY@HOST:PORT",
        ),
        (
            "@[client]\nrelay = \"foo\"",
            "6: client.relay: \"foo\" is no address: write HOST:PORT, such as \"192.0.2.1:7473\" or \"[2001:db8::1]:7473\", or IDENTITY@HOST:PORT",
        ),
        (
            "@[client]\nidentity = \"12\"",
            "6: client.identity: this is no identity: copy the 64 hexadecimal digits that `turnpike discover` shows",
        ),
        (
            "@[client]\nauto = true",
            "6: client.auto: buying without being asked needs to know from whom: add identity = \"…\" under [client] (`turnpike discover` shows it), or set auto = false",
        ),
        (
            "@[log]\nlevel = \"a\\nb\"",
            "6: log.level: \"a b\" is none of the choices: use one of error, warn, info, debug, trace",
        ),
    ];
    for (text, wanted) in table {
        let found = error(&text.replace('@', HEAD));
        let found = found
            .strip_prefix("dir/turnpike.toml:")
            .expect("the file is named");
        assert_eq!(found, *wanted, "in {text:?}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnpike.toml");
    let error = Config::read(&path).unwrap_err().to_string();
    let remedy = "there is no such file: run `turnpike init`, or name the file with --config";
    assert_eq!(error, format!("{}: {remedy}", path.display()));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = Config::read(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: it is not UTF-8 text: save it as UTF-8", path.display())
    );
}

#[test]
fn the_play_chain_is_found_where_it_is_started_without_options() {
    let chain = parse(HEAD).unwrap().chain;
    assert_eq!(chain.url, "http://127.0.0.1:18555");
    assert_eq!(chain.auth, Auth::Cookie("dir/playchain/.cookie".into()));
    assert_eq!(chain.network, bitcoin::Network::Regtest);
}

#[test]
fn every_value_arrives() {
    let identity = "0a".repeat(32);
    let text = format!(
        "[node]\ndata_dir = \"/var/lib/turnpike\"\nname = \"café\"\n[chain]\nbackend = \"bitcoind\"\n\
         url = \"http://10.0.0.1:18443\"\ncookie = \"/c\"\nnetwork = \"regtest\"\npoll = \"1 min\"\n[relay]\n\
         enabled = true\nlisten = \"0.0.0.0:80\"\nguest_interface = [\"wlan0\", \"wlan1\"]\n\
         uplink_interface = \"eth0\"\nmasquerade = false\nprefix_per_guest = true\ndiscoverable = false\n[price]\nup = \"1 sat/MiB\"\n\
         down = \"7 msat/MiB\"\nper_second = \"3 msat/s\"\nfree = \"1_500 kB\"\nfree_total = \"2 GiB\"\n\
         window_min = \"1 MiB\"\nwindow_max = \"1 GiB\"\n[channel]\ncapacity_min = \"20_000 sat\"\n\
         capacity_max = \"90000 sat\"\nlifetime_min = \"300 blocks\"\nlifetime_max = \"400 blocks\"\n\
         unconfirmed = \"0 sat\"\nunconfirmed_total = \"5 sat\"\ndark = \"6 sat\"\n[client]\nrelay = \"relay.example\"\n\
         identity = \"{identity}\"\ninterface = \"wlan2\"\nauto = true\nmax = \"5 sat\"\ncapacity = \"10000 sat\"\n\
         lifetime = \"300 blocks\"\nloss_tolerance = \"0.25 %\"\nloss_allowance = \"64 KiB\"\n[log]\nlevel = \"debug\"\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.node.data_dir, Path::new("/var/lib/turnpike"));
    assert_eq!(config.node.name, "café");
    assert_eq!(config.chain.backend, ChainBackend::Bitcoind);
    assert_eq!(config.chain.url, "http://10.0.0.1:18443");
    assert_eq!(config.chain.auth, Auth::Cookie("/c".into()));
    let passwords = text.replace("cookie = \"/c\"", "user = \"u\"\npassword = \"p:w\"");
    let auth = parse(&passwords).unwrap().chain.auth;
    assert_eq!(
        auth,
        Auth::Password {
            user: "u".into(),
            password: "p:w".into()
        }
    );
    assert!(!format!("{auth:?}").contains("p:w"));
    assert_eq!(config.chain.network, bitcoin::Network::Regtest);
    assert_eq!(config.chain.poll, Duration::from_secs(60));
    assert!(config.relay.enabled && !config.relay.masquerade && !config.relay.discoverable);
    assert!(config.relay.prefix_per_guest);
    assert_eq!(config.relay.listen.port(), 80);
    assert_eq!(config.relay.guest_interface.len(), 2);
    assert_eq!(config.relay.uplink_interface[0].as_str(), "eth0");
    let price = &config.price;
    assert_eq!(
        [price.up, price.down, price.per_second].map(Msat::value),
        [1_000, 7, 3]
    );
    assert_eq!(price.free.value(), 1_500_000);
    assert_eq!(price.free_total.value(), 2 << 30);
    assert_eq!(
        (price.window_min.value(), price.window_max.value()),
        (1 << 20, 1 << 30)
    );
    let channel = &config.channel;
    assert_eq!(
        (channel.capacity_min.value(), channel.capacity_max.value()),
        (20_000, 90_000)
    );
    assert_eq!((channel.lifetime_min, channel.lifetime_max), (300, 400));
    assert_eq!(
        [channel.unconfirmed, channel.unconfirmed_total, channel.dark].map(Sat::value),
        [0, 5, 6]
    );
    let client = &config.client;
    assert_eq!(client.relay.as_deref(), Some("relay.example:7473"));
    assert_eq!(client.identity.unwrap().to_string(), identity);
    assert_eq!(client.interface.as_ref().unwrap().as_str(), "wlan2");
    assert!(client.auto);
    assert_eq!(
        (client.max.value(), client.capacity.value(), client.lifetime),
        (5, 10_000, 300)
    );
    assert_eq!(client.loss_tolerance_ppm, 2_500);
    assert_eq!(client.loss_allowance.value(), 64 * 1024);
    assert_eq!(config.log_level, tracing::Level::DEBUG);
}

#[test]
fn the_example_shows_the_defaults() {
    let folder = Path::new("/var/lib/a \"quoted\" \\ folder");
    let commented = example(folder);
    let plain = Config::parse(Path::new("t.toml"), &commented).unwrap();
    assert_eq!(plain.node.data_dir, folder);
    // With every comment removed each key is there and says what it is anyway; these have no default to say.
    let no_default = [
        "relay = ",
        "identity = ",
        "interface = ",
        "guest_interface",
        "uplink_interface",
        "cookie = ",
        "user = ",
        "password = ",
    ];
    let written: String = commented
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(' ') => None,
            Some(rest) => (!no_default.iter().any(|key| rest.starts_with(key))).then_some(rest),
            None => Some(line),
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let mut full = Config::parse(Path::new("t.toml"), &written).unwrap();
    assert!(full.lines.len() > 25);
    full.lines.clone_from(&plain.lines);
    assert_eq!(full, plain);
    // And no key is left out of the example.
    let every_key: usize = commented
        .lines()
        .filter(|line| {
            line.trim_start_matches('#')
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
        })
        .count();
    assert_eq!(every_key, 2 + 7 + 7 + 7 + 7 + 9 + 1);
}

#[test]
fn addresses_get_the_default_port() {
    for (text, wanted) in [
        ("relay", None),
        ("relay:80", Some("relay:80")),
        ("relay.example", Some("relay.example:7473")),
        ("[fe80::1%3]:7337", Some("[fe80::1%3]:7337")),
        ("relay.example:80", Some("relay.example:80")),
        ("10.0.0.1", Some("10.0.0.1:7473")),
        ("10.0.0.1:5", Some("10.0.0.1:5")),
        ("2001:db8::1", Some("[2001:db8::1]:7473")),
        ("[2001:db8::1]:99", Some("[2001:db8::1]:99")),
        ("10.0.0.1:0", None),
        ("relay:99999", None),
        ("", None),
        ("a/b", None),
    ] {
        // The configuration and `--relay` take the same.
        let target = text.parse::<Target>().ok().and_then(|target| target.address);
        assert_eq!(target.as_deref(), wanted, "{text}");
        let config = parse(&format!("{HEAD}[client]\nrelay = \"{text}\"\n"));
        assert_eq!(
            config.ok().and_then(|c| c.client.relay).as_deref(),
            wanted,
            "{text}"
        );
    }
    assert_eq!(read::node_id(&"+f".repeat(32)), None);
    assert_eq!(read::node_id(&"é".repeat(32)), None);
}

#[test]
fn a_port_in_use_and_a_missing_folder_are_named_with_key_and_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = parse(&format!("{HEAD}[relay]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
    assert_eq!(
        config.check_listen().unwrap_err().to_string(),
        format!(
            "dir/turnpike.toml:6: relay.listen: port {port} is in use by another program: stop that program, or choose another port"
        )
    );
    drop(taken);
    config.check_listen().unwrap();

    let config = parse(HEAD).unwrap();
    assert_eq!(
        config.preflight().unwrap_err().to_string(),
        "dir/turnpike.toml:2: node.data_dir: dir/data does not exist: run `turnpike init`, which makes it"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnpike.toml");
    let config = Config::parse(&path, &HEAD.replace("\"data\"", "\"\"")).unwrap();
    config.preflight().unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "looking leaves no trace"
    );
    let config = Config::parse(&path, &HEAD.replace("\"data\"", "\"/proc\"")).unwrap();
    assert_eq!(
        config.preflight().unwrap_err().to_string(),
        format!(
            "{}:2: node.data_dir: no permission to write in /proc: run as the user who owns it, or name another folder",
            path.display()
        )
    );
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let config = parse(&format!(
        "{HEAD}[relay]\nenabled = true\nguest_interface = \"nosuch0\"\nuplink_interface = \"lo\"\n"
    ))
    .unwrap();
    let error = config.check_interfaces().unwrap_err().to_string();
    let wanted =
        "dir/turnpike.toml:7: relay.guest_interface: there is no network interface nosuch0: use one of ";
    assert!(error.starts_with(wanted), "{error}");
    assert!(
        error[wanted.len()..].split(", ").any(|name| name == "lo"),
        "{error}"
    );
}

#[test]
fn without_nft_the_relay_is_refused_by_name() {
    let config = parse(&format!(
        "{HEAD}[relay]\nenabled = true\nguest_interface = \"a\"\nuplink_interface = \"b\"\n"
    ))
    .unwrap();
    // Whatever this machine lacks: one line with the key, or nothing at all.
    if let Err(error) = config.check_gate() {
        let error = error.to_string();
        assert!(
            error.starts_with("dir/turnpike.toml:6: relay.enabled: "),
            "{error}"
        );
        assert!(
            error.ends_with("set enabled = false") && !error.contains('\n'),
            "{error}"
        );
    }
}
