//! A chain that is down, slow, restarted, or takes a funding back; a clock that lies: clear words, bounded credit,
//! nothing lost.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use turnpike_tests::in_lab;
use turnpike_tests::lab::Plan;
use turnpike_tests::sale::{MIB, PRICE, Sale, channel, end, purchase, total};
use turnpike_tests::site::{ChainKind, Node, Site, wait_for};

fn status(node: &Node) -> Value {
    node.ask(&["status"])
}

fn warns(node: &Node, of: &str) -> bool {
    status(node)["warnings"]
        .as_array()
        .is_some_and(|w| w.iter().any(|w| w.as_str().is_some_and(|w| w.contains(of))))
}

/// Hands every connection on, each answer late.
fn slow_proxy(to: String, late: Duration) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(&to).expect("the chain");
            let pairs = [
                (near.try_clone(), far.try_clone(), Duration::ZERO),
                (far.try_clone(), near.try_clone(), late),
            ];
            for (from, to, late) in pairs {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                std::thread::spawn(move || {
                    let mut bytes = [0; 65_536];
                    while let Ok(n @ 1..) = from.read(&mut bytes) {
                        std::thread::sleep(late);
                        if to.write_all(&bytes[..n]).is_err() {
                            return;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

in_lab! {
    fn a_chain_that_is_down_at_start_is_said_and_the_sale_begins_once_it_is_up() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        site.chain_down();
        site.start();
        for node in [&site.relay, &site.clients[0]] {
            assert_eq!(status(node)["lit"], false);
            wait_for("a warning", || warns(node, "chain"));
            wait_for("a line in the log", || node.log().contains("dark: "));
        }
        let refused = site.clients[0].try_ask(&["buy", "--mib", "1", "--max-sat", "5000", "--yes"]).unwrap_err();
        assert!(refused.contains("chain") || refused.contains("height"), "{refused}");
        site.chain_up();
        wait_for("the chain", || [&site.relay, &site.clients[0]].iter().all(|n| status(n)["lit"] == true));
        let sale = Sale::at(site);
        let mut buy = sale.buy(1);
        sale.confirm();
        sale.assert_cut();
        end(&mut buy).unwrap();
    }

    fn while_the_chain_is_down_credit_stops_at_the_configured_exposure_and_goes_on_with_a_new_cookie() {
        let dark = 500_000;
        let mut sale = Sale::start(ChainKind::Play, "[channel]\ndark = \"500 sat\"\n");
        let mut buy = sale.buy(12);
        sale.confirm();
        let funding = sale.funding();
        sale.servers.curl(&sale.site, false, MIB / 2).unwrap();
        let lit = total(&sale.site.relay);
        sale.site.chain_down();
        wait_for("darkness", || status(&sale.site.relay)["lit"] == false);
        let at_dark = total(&sale.site.relay);
        assert!(warns(&sale.site.relay, "chain"), "the relay says why");
        sale.assert_cut();
        let paid = total(&sale.site.relay);
        assert!(paid >= lit && paid <= at_dark + dark, "{paid} msat paid, {at_dark} at dark, {dark} more allowed");
        assert!(paid < 12 * PRICE, "the purchase is not over");

        let cookie = std::fs::read(sale.site.folder().join("playchain/.cookie")).unwrap_or_default();
        sale.site.chain_up();
        assert_ne!(std::fs::read(sale.site.folder().join("playchain/.cookie")).unwrap(), cookie);
        sale.paid_more_than(paid);
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.assert_paid(12);
        sale.close();
        sale.assert_settled(&funding);
    }

    fn a_chain_that_answers_late_delays_a_sale_and_loses_nothing() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        let straight = site.chain_address();
        let port = slow_proxy(straight.clone(), Duration::from_millis(300));
        let (host, _) = straight.split_once(':').unwrap();
        for node in [&site.relay, &site.clients[0]] {
            node.replace_config(&node.read_config().replace(&straight, &format!("{host}:{port}")));
        }
        site.start();
        let sale = Sale::at(site);
        let mut buy = sale.buy(1);
        sale.confirm();
        let funding = sale.funding();
        sale.assert_cut();
        end(&mut buy).unwrap();
        assert_eq!(status(&sale.site.relay)["lit"], true);
        sale.close();
        sale.assert_settled(&funding);
    }

    fn a_funding_that_is_reorganised_away_comes_back_and_what_was_paid_counts() {
        let sale = Sale::start(ChainKind::Play, "");
        let mut buy = sale.buy(1);
        sale.confirm();
        let funding = sale.funding();
        sale.assert_cut();
        end(&mut buy).unwrap();
        let paid = total(&sale.site.relay);
        let block = channel(&sale.site.relay).unwrap()["funded_at_height"].as_u64().unwrap();
        let hash = sale.site.rpc("getblockhash", json!([block])).unwrap();
        sale.site.rpc("invalidateblock", json!([hash])).unwrap();
        for node in [&sale.site.relay, sale.client()] {
            wait_for("the news", || channel(node).unwrap()["state"] == "unconfirmed");
            assert!(node.log().contains("reorganised"), "the log says so");
            assert_eq!(total(node), paid);
        }
        // Above the bound for what is unconfirmed nothing is accepted, until the funding is deep again.
        sale.confirm();
        let mut buy = purchase(sale.client(), 1);
        sale.paid_more_than(paid);
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.close();
        sale.assert_settled(&funding);
    }

    fn a_wall_clock_that_jumps_to_1970_and_back_changes_nothing_in_a_sale() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        let clock = WallClock::build(&site);
        for node in [&mut site.clients[0]].into_iter().chain([&mut site.relay]) {
            node.preload(&clock.library);
        }
        site.start();
        let sale = Sale::at(site);
        let mut buy = sale.buy(3);
        sale.confirm();
        let funding = sale.funding();
        clock.set(Some(0));
        sale.servers.curl(&sale.site, false, MIB).unwrap();
        assert!(sale.site.relay.ask(&["clients", "sales"]).is_object());
        clock.set(None);
        sale.servers.curl(&sale.site, false, MIB).unwrap();
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.assert_paid(3);
        sale.close();
        sale.assert_settled(&funding);
    }
}

/// A wall clock for preloading, that tells the time which stands in a file.
struct WallClock {
    library: std::path::PathBuf,
    file: std::path::PathBuf,
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, t);
    long seconds;
    FILE *file = id == CLOCK_REALTIME ? fopen(WHERE, "r") : NULL;
    if (!file) return answer;
    if (fscanf(file, "%ld", &seconds) == 1) { t->tv_sec = seconds; FILE *seen = fopen(WHERE ".seen", "w"); if (seen) fclose(seen); }
    fclose(file);
    return answer;
}
"#;

impl WallClock {
    fn build(site: &Site) -> WallClock {
        let [source, library, file] = ["clock.c", "clock.so", "seconds"].map(|n| site.folder().join(n));
        std::fs::write(&source, SOURCE).unwrap();
        let place = format!("-DWHERE=\"{}\"", file.display());
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(place)
            .arg(&source)
            .arg("-ldl")
            .output();
        let built = built.expect("cc, which Rust links with");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        WallClock { library, file }
    }

    /// Seconds since 1970 from now on; `None`: as it is.
    fn set(&self, seconds: Option<u64>) {
        match seconds {
            Some(seconds) => std::fs::write(&self.file, seconds.to_string()).unwrap(),
            None => {
                assert!(
                    self.file.with_extension("seen").exists(),
                    "no daemon looked at the clock meanwhile"
                );
                std::fs::remove_file(&self.file).unwrap();
            }
        }
    }
}
