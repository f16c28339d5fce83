//! A short whole sale: TCP down, UDP up, IPv6; cut at the end of credit, topped up, closed. The kernel's counters at
//! both ends and the chain's blocks are the judges.

use turnpike_tests::in_lab;
use turnpike_tests::judge;
use turnpike_tests::sale::{MIB, Sale, end, purchase};
use turnpike_tests::site::ChainKind;

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
}

in_lab! {
    fn a_short_sale_is_cut_topped_up_and_settled_to_the_satoshi_on_the_play_chain() {
        short_sale(ChainKind::Play);
    }

    fn a_short_sale_is_cut_topped_up_and_settled_to_the_satoshi_on_a_real_node() {
        short_sale(ChainKind::Bitcoind);
    }
}
