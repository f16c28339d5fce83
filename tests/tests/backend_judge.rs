//! The judge itself: a real node that starts, mines, pays and comes back with a new cookie.

use bitcoin::{Address, Amount, Network};
use serde_json::json;
use turnpike_tests::bitcoind::Bitcoind;

#[test]
fn the_node_mines_pays_and_comes_back_with_a_new_cookie() {
    let mut node = Bitcoind::start();
    assert_eq!(node.height(), 101);

    let address: Address = "bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqvg32hk"
        .parse::<Address<_>>()
        .expect("address")
        .require_network(Network::Regtest)
        .expect("regtest");
    let outpoint = node.fund(&address, Amount::from_sat(50_000));
    let found = node
        .call("gettxout", json!([outpoint.txid.to_string(), outpoint.vout]))
        .expect("gettxout");
    assert_eq!(found["confirmations"], 1);

    let cookie = std::fs::read_to_string(node.cookie()).expect("cookie");
    node.stop();
    assert!(
        node.call("getblockcount", json!([])).is_err(),
        "a stopped node must not answer"
    );
    node.launch();
    assert_ne!(cookie, std::fs::read_to_string(node.cookie()).expect("cookie"));
    assert_eq!(node.height(), 102);
}
