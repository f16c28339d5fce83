//! `kill -9` of either side at every stage of a sale, and at moments spread over a purchase: it goes on after the restart, nobody pays twice, what is paid is
//! served, nothing unpaid passes.

use turnpike_tests::in_lab;
use turnpike_tests::lab::{Lab, Plan};
use turnpike_tests::sale::{MIB, PRICE, Sale, end, purchase, total};
use turnpike_tests::site::{ChainKind, Node, Site, wait_for};

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Relay,
}

impl Side {
    fn node(self, sale: &mut Sale) -> &mut Node {
        match self {
            Side::Client => &mut sale.site.clients[0],
            Side::Relay => &mut sale.site.relay,
        }
    }

    fn crash(self, sale: &mut Sale) {
        let node = self.node(sale);
        node.kill();
        node.start();
    }
}

/// As the owner does it after a crash: connect again, call off what is still ordered.
fn take_up(sale: &Sale) {
    let relay = format!("{}:7473", Lab::RELAY4);
    wait_for("a session", || {
        sale.client().try_ask(&["connect", &relay]).is_ok()
    });
    // The daemon notices within two seconds that the user of an order is gone.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let _ = sale.client().try_ask(&["stop"]);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
}

fn killed_at_every_stage(side: Side) {
    let mut sale = Sale::start(ChainKind::Play, "");

    // Before the funding.
    let mut buy = purchase(sale.client(), 2);
    std::thread::sleep(std::time::Duration::from_millis(30));
    side.crash(&mut sale);
    let _ = (buy.kill(), buy.wait());

    // The funding is broadcast, in no block.
    take_up(&sale);
    let mut buy = purchase(sale.client(), 2);
    wait_for("the funding", || !sale.site.mempool().is_empty());
    side.crash(&mut sale);
    let _ = (buy.kill(), buy.wait());
    assert_eq!(sale.site.mempool().len(), 1, "one channel is funded, and once");

    // In the first window.
    take_up(&sale);
    let mut buy = purchase(sale.client(), 2);
    // What is paid before the funding is deep may have been paid before the crash already.
    sale.paid_more_than(0);
    let funding = sale.funding();
    side.crash(&mut sale);
    let _ = (buy.kill(), buy.wait());
    sale.confirm();

    // While a window is being used.
    take_up(&sale);
    let mut buy = purchase(sale.client(), 2);
    let before = sale.kernel.counted();
    let mut download = sale.servers.download(&sale.site, 64 * MIB);
    wait_for("traffic", || sale.kernel.counted() > before + MIB / 4);
    side.crash(&mut sale);
    let _ = (download.kill(), download.wait(), buy.kill(), buy.wait());

    // At the cut: what is paid passes, nothing else, whether the daemons run or not.
    take_up(&sale);
    let mut buy = purchase(sale.client(), 1);
    sale.assert_cut();
    end(&mut buy).unwrap();
    let paid = sale.paid_bytes();
    side.node(&mut sale).kill();
    let mut download = sale.servers.download(&sale.site, MIB);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let _ = (download.kill(), download.wait());
    let passed = sale.kernel.counted();
    assert!(passed <= paid, "{passed} bytes passed of {paid} that are paid");
    side.node(&mut sale).start();
    take_up(&sale);
    let mut buy = purchase(sale.client(), 1);
    sale.assert_cut();
    end(&mut buy).unwrap();

    // While it closes, and after the settlement was broadcast.
    sale.close();
    side.crash(&mut sale);
    take_up(&sale);
    sale.close();
    wait_for("the settlement", || !sale.site.mempool().is_empty());
    side.crash(&mut sale);
    sale.assert_settled(&funding);
}

/// Kills at moments that lie this far apart, from the order to the end of its traffic.
const MOMENTS: u64 = 10;
const APART: std::time::Duration = std::time::Duration::from_millis(70);

fn killed_throughout_a_purchase(side: Side) {
    let mut sale = Sale::start(ChainKind::Play, "");
    let mut buy = sale.buy(1);
    sale.confirm();
    sale.assert_cut();
    end(&mut buy).unwrap();
    for moment in 0..MOMENTS {
        let mut download = sale.servers.download(&sale.site, 64 * MIB);
        let mut buy = purchase(sale.client(), 1);
        std::thread::sleep(APART * moment as u32);
        side.crash(&mut sale);
        let _ = (download.kill(), download.wait(), buy.kill(), buy.wait());
        take_up(&sale);
        let (client, relay) = (total(sale.client()), total(&sale.site.relay));
        assert!(
            relay <= client,
            "moment {moment}: {relay} msat taken of {client} signed"
        );
        // Each order adds its own MiB at most, and a millisatoshi of rounding for each of its payments.
        let most = (2 + moment) * (PRICE + 16);
        assert!(
            client <= most,
            "moment {moment}: {client} msat signed for at most {most}"
        );
        let passed = sale.kernel.counted();
        assert!(
            passed <= sale.paid_bytes(),
            "moment {moment}: {passed} bytes of {}",
            sale.paid_bytes()
        );
    }
    // What is paid passes, to the last packet, and the sides agree.
    let mut buy = purchase(sale.client(), 1);
    sale.assert_cut();
    end(&mut buy).unwrap();
    assert_eq!(total(sale.client()), total(&sale.site.relay));
}

in_lab! {
    fn a_client_killed_at_ten_moments_of_a_purchase_pays_nothing_twice_and_gets_what_it_paid_for() {
        killed_throughout_a_purchase(Side::Client);
    }

    fn a_relay_killed_at_ten_moments_of_a_purchase_takes_nothing_twice_and_serves_what_was_paid() {
        killed_throughout_a_purchase(Side::Relay);
    }

    fn a_client_killed_at_every_stage_of_a_sale_goes_on_and_nobody_pays_twice() {
        killed_at_every_stage(Side::Client);
    }

    fn a_relay_killed_at_every_stage_of_a_sale_goes_on_and_nobody_pays_twice() {
        killed_at_every_stage(Side::Relay);
    }

    fn a_relay_that_is_told_to_go_down_leaves_the_ruleset_as_it_was_and_keeps_the_credit() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        let rules = |site: &Site| site.lab.relay().run("nft list ruleset");
        site.lab.relay().run("nft add table inet of_the_owner");
        let before = rules(&site);
        site.start();
        assert_ne!(rules(&site), before, "the gate has a table");
        let mut sale = Sale::at(site);
        let mut buy = sale.buy(2);
        sale.confirm();
        sale.servers.curl(&sale.site, false, MIB).unwrap();
        let paid = total(sale.client());
        sale.site.relay.stop();
        assert_eq!(rules(&sale.site), before);
        sale.site.relay.start();
        assert!(total(&sale.site.relay) >= paid, "what was paid is known after the restart");
        // The running purchase calls the relay again, and what is left of it passes.
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.assert_paid(2);
    }
}
