//! A short whole sale: TCP down, UDP up, IPv6; cut at the end of credit, topped up, closed. The kernel's counters at
//! both ends and the chain's blocks are the judges.

use std::io::Write;
use std::process::Stdio;
use turnpike_tests::in_lab;
use turnpike_tests::judge;
use turnpike_tests::lab::{Lab, Plan};
use turnpike_tests::sale::{MIB, PRICE, Sale, channel, end, purchase};
use turnpike_tests::site::{ChainKind, Site, wait_for};

fn short_sale(kind: ChainKind) {
    let sale = Sale::start(kind, "");
    let mut buy = sale.buy(3);
    sale.confirm();
    let funding = sale.funding();
    sale.servers.curl(&sale.site, false, MIB).unwrap();
    sale.servers
        .iperf(&sale.site, &["-u", "-n", "256K", "-b", "10M"])
        .unwrap();
    sale.servers.curl(&sale.site, true, MIB / 2).unwrap();
    sale.assert_cut();
    end(&mut buy).unwrap();
    sale.assert_paid(3);

    // Whoever called whom: both know where the other is.
    let client = std::net::IpAddr::from(sale.site.lab.client4(0));
    let place = |answer: &serde_json::Value| {
        let address: std::net::SocketAddr = answer["address"]
            .as_str()
            .expect("an address")
            .parse()
            .expect("host and port");
        address
    };
    let relay = &sale.site.relay;
    assert_eq!(place(&relay.ask(&["status"])["sessions"][0]).ip(), client);
    assert_eq!(place(&relay.ask(&["clients"])["clients"][0]).ip(), client);
    let called = &sale.client().ask(&["status"])["sessions"][0];
    assert_eq!(place(called), sale.site.relay_address());

    let mut buy = purchase(sale.client(), 1);
    sale.assert_cut();
    end(&mut buy).unwrap();
    sale.assert_paid(4);
    let (sold, forwarded) = judge::billed_and_forwarded(&sale.site, &sale.kernel).unwrap();
    assert_eq!(
        sold.billed, forwarded,
        "what the relay billed, and what the kernel forwarded"
    );
    sale.close();
    sale.assert_settled(&funding);
    // The remainder goes home in a block of its own; what is left of the channel says how it ended.
    wait_for("the channel's end on both sides", || {
        sale.site.mine(1);
        [&sale.site.relay, sale.client()]
            .iter()
            .all(|node| channel(node).is_some_and(|c| c["state"] == "over" && c["outcome"] == "settled"))
    });
}

/// `turnpike channel open`, without `--yes`; gives what was shown before the question.
fn ask_to_open(sale: &Sale, answer: &str) -> (bool, String) {
    let mut open = sale
        .client()
        .command(&["channel", "open", "--capacity-sat", "50000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("turnpike");
    let mut stdin = open.stdin.take().expect("a pipe");
    stdin.write_all(answer.as_bytes()).expect("an answer");
    drop(stdin);
    let output = open.wait_with_output().expect("turnpike");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

in_lab! {
    fn rule_4_lock_height_fees_and_dust_are_shown_before_funding_and_a_no_funds_nothing() {
        let sale = Sale::start(ChainKind::Play, "");
        for no in ["n\n", "", "maybe\n"] {
            let (opened, shown) = ask_to_open(&sale, no);
            assert!(!opened, "{no:?}: {shown}");
            for said in ["50,000 sat", "until height", "if the relay falls silent", "funding", "refund", "dust"] {
                assert!(shown.contains(said), "{said} is not in {shown}");
            }
            assert!(sale.site.mempool().is_empty(), "{no:?} funded a channel");
            assert!(channel(sale.client()).is_none(), "{no:?} opened a channel");
        }
        let before = sale.client().ask(&["wallet", "balance"])["confirmed_sat"].as_u64().unwrap();
        let (opened, shown) = ask_to_open(&sale, "y\n");
        assert!(opened, "{shown}");
        let opened = channel(sale.client()).expect("a channel");
        let expiry = opened["expiry_height"].as_u64().expect("an expiry height");
        let grouped = format!("{},{:03}", expiry / 1_000, expiry % 1_000);
        assert!(shown.contains(&format!("until height {grouped} at worst")), "{shown}");
        // What the funding really costs is what was said.
        sale.site.mine(1);
        let after = || sale.client().ask(&["wallet", "balance"])["confirmed_sat"].as_u64().unwrap();
        wait_for("the change", || after() != before && after() > 0);
        let fee = before - after() - 50_000;
        assert!(shown.contains(&format!("{fee} sat fee, at ")), "{fee} sat of fee; {shown}");
    }

    fn a_short_sale_is_cut_topped_up_and_settled_to_the_satoshi_on_the_play_chain() {
        short_sale(ChainKind::Play);
    }

    fn a_sale_over_a_link_local_session_binds_the_addresses_that_packets_come_from() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        let shown = site.lab.client(0).run(&format!("ip -o link show {}", Lab::ETH));
        let (index, _) = shown.split_once(':').expect("an index");
        let relay = format!("[{}%{}]:{}", Lab::RELAY6_LINK, index.trim(), site.relay_address().port());
        let listen = format!("listen = \"{}\"", site.relay_address());
        let config = site.relay.read_config();
        assert!(config.contains(&listen), "{config}");
        let all = format!("listen = \"[::]:{}\"", site.relay_address().port());
        site.relay.replace_config(&config.replace(&listen, &all));
        let client = &site.clients[0];
        let config = client.read_config();
        let named = |line: &&str| line.starts_with("relay = ") || line.starts_with("interface = ");
        let rest: Vec<&str> = config.lines().filter(|line| !named(line)).collect();
        client.replace_config(&rest.join("\n").replace("[client]", &format!("[client]\nrelay = \"{relay}\"")));
        site.start();
        let sale = Sale::at(site);
        let mut buy = sale.buy(2);
        sale.confirm();
        assert_eq!(sale.client().ask(&["status"])["sessions"][0]["address"], relay.as_str());
        sale.servers.curl(&sale.site, false, MIB).unwrap();
        sale.servers.curl(&sale.site, true, MIB / 4).unwrap();
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.assert_paid(2);
        // Found on the link, it is one relay, and not at that address.
        let found = sale.client().ask(&["discover", "--seconds", "2"])["relays"].clone();
        let found = found.as_array().expect("relays");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0]["address"].as_str().expect("an address").starts_with("[fe80"), "{found:?}");
    }

    fn a_short_sale_is_cut_topped_up_and_settled_to_the_satoshi_on_a_real_node() {
        short_sale(ChainKind::Bitcoind);
    }
}
