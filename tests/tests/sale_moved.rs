//! A device that changes while it is served.

use turnpike_tests::in_lab;
use turnpike_tests::lab::Lab;
use turnpike_tests::sale::{MIB, Sale, end, total};
use turnpike_tests::site::{ChainKind, wait_for};

const FRESH_MAC: &str = "02:00:00:00:77:77";

in_lab! {
    fn a_device_that_changes_its_mac_is_bound_anew_and_uses_the_credit_that_it_paid_for() {
        let sale = Sale::start(ChainKind::Play, "");
        let mut buy = sale.buy(3);
        sale.confirm();
        sale.servers.curl(&sale.site, false, MIB).unwrap();
        let (client, relay) = (sale.site.lab.client(0), sale.site.lab.relay());
        client.run(&format!("ip link set eth0 address {FRESH_MAC}"));
        for address in [sale.site.lab.client4(0).to_string(), sale.site.lab.client6(0).to_string()] {
            let known = format!("ip neigh replace {address} lladdr {FRESH_MAC} dev {} nud reachable", Lab::GUEST);
            relay.run(&known);
        }
        // A flow that is new has to show the new address; within a sign of life it is bound.
        wait_for("service on the new address", || sale.servers.curl(&sale.site, false, MIB / 8).is_ok());
        sale.assert_cut();
        end(&mut buy).unwrap();
        sale.assert_paid(3);
        assert_eq!(total(sale.client()), total(&sale.site.relay));
    }
}
