//! Twenty guests of one relay, closed by one command in one settlement on a real node, its fee raised while it waits.

use std::process::Child;
use turnpike_tests::in_lab;
use turnpike_tests::judge;
use turnpike_tests::lab::Plan;
use turnpike_tests::sale::{PRICE, purchase};
use turnpike_tests::site::{ChainKind, Site, wait_for};

const GUESTS: usize = 20;
/// What each guest buys, MiB.
const MIB_EACH: u64 = 4;

fn channels(site: &Site) -> Vec<serde_json::Value> {
    site.relay.ask(&["channel", "list"])["channels"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

in_lab! {
    fn twenty_guests_are_closed_in_one_settlement_whose_fee_is_raised_and_each_gets_the_rest_to_the_satoshi() {
        let plan = Plan { clients: GUESTS, ..Plan::default() };
        let mut site = Site::new(plan, ChainKind::Bitcoind, PRICE, "");
        site.start();
        for guest in 0..GUESTS {
            site.fund(guest, 100_000);
        }
        let mut orders: Vec<Child> = site.clients.iter().map(|c| purchase(c, MIB_EACH)).collect();
        wait_for("twenty fundings", || site.mempool().len() == GUESTS);
        site.mine(7);
        wait_for("twenty payments", || {
            channels(&site).iter().filter(|c| c["total_msat"].as_u64() >= Some(MIB_EACH * PRICE)).count() == GUESTS
        });
        let open = channels(&site);
        assert_eq!(open.len(), GUESTS);

        site.relay.ask(&["channel", "close", "--all"]);
        wait_for("the settlement", || site.mempool().len() == 1);
        let cheap = site.mempool();
        let slot = open[0]["slot"].to_string();
        site.relay.ask(&["channel", "raise", &slot, "10"]);
        wait_for("its replacement", || site.mempool().len() == 1 && site.mempool() != cheap);
        let raised = site.mempool();
        site.mine(1);
        let funding = open[0]["outpoint"].as_str().unwrap();
        let settlement = judge::spend(&site, funding).unwrap().expect("a settlement in a block");
        assert_eq!(settlement.compute_txid().to_string(), raised[0].as_str().unwrap());
        assert_eq!((settlement.input.len(), settlement.output.len()), (GUESTS, GUESTS + 1));

        let of = |name: &str| open.iter().map(|c| c[name].as_u64().unwrap()).collect::<Vec<u64>>();
        let paid: Vec<u64> = of("total_msat").iter().map(|t| t.div_ceil(1_000)).collect();
        let mut rests: Vec<u64> = of("capacity_sat").iter().zip(&paid).map(|(capacity, paid)| capacity - paid).collect();
        let mut values: Vec<u64> = settlement.output.iter().map(|o| o.value.to_sat()).collect();
        let earned = values.pop().unwrap();
        values.sort_unstable();
        rests.sort_unstable();
        assert_eq!(values, rests, "what the guests get back");
        let fee = paid.iter().sum::<u64>() - earned;
        let vbytes = settlement.vsize() as u64;
        assert!((10 * vbytes..=10 * vbytes + 100).contains(&fee), "{fee} sat for {vbytes} vB at 10 sat/vB");
        wait_for("the relay's coins", || {
            site.mine(1);
            site.relay.ask(&["wallet", "balance"])["confirmed_sat"] == earned
        });
        for order in &mut orders {
            let _ = (order.kill(), order.wait());
        }
    }
}
