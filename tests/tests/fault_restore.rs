//! Backups and seed words (money.md rules 3 and 16): an old backup costs nobody anything, and the words alone bring
//! back what is locked in channels.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use turnpike_tests::in_lab;
use turnpike_tests::judge;
use turnpike_tests::lab::{Lab, Plan};
use turnpike_tests::sale::{COINS, PRICE, Sale, channel, end, purchase, total};
use turnpike_tests::site::{ChainKind, Node, Site, wait_for};

fn restore(node: &mut Node, backup: &std::path::Path) {
    node.kill();
    fs::remove_file(node.data_dir().join("store.redb")).unwrap();
    node.ask(&["restore", backup.to_str().unwrap()]);
    node.start();
}

fn connect(sale: &Sale) {
    let relay = format!("{}:7473", Lab::RELAY4);
    wait_for("a session", || {
        sale.client().try_ask(&["connect", &relay]).is_ok()
    });
}

in_lab! {
    fn a_relay_restored_from_an_old_backup_takes_the_newest_signature_settles_it_and_accepts_nothing_more() {
        let mut sale = Sale::start(ChainKind::Play, "");
        let mut buy = sale.buy(1);
        sale.confirm();
        let funding = sale.funding();
        sale.assert_cut();
        end(&mut buy).unwrap();
        let backup = sale.site.folder().join("relay.backup");
        sale.site.relay.ask(&["backup", backup.to_str().unwrap()]);
        let mut buy = sale.buy(2);
        sale.assert_cut();
        end(&mut buy).unwrap();
        let newest = total(sale.client());

        restore(&mut sale.site.relay, &backup);
        assert!(total(&sale.site.relay) < newest, "the backup is old");
        assert_eq!(channel(&sale.site.relay).unwrap()["state"], "restored");
        connect(&sale);
        wait_for("the newest signature", || total(&sale.site.relay) == newest);
        wait_for("the settlement", || !sale.site.mempool().is_empty());
        let state = channel(&sale.site.relay).unwrap()["state"].clone();
        assert!(state == "closing" || state == "settled", "{state}");
        sale.assert_settled(&funding);
        let channels = sale.client().ask(&["channel", "list"]);
        assert_eq!(channels["channels"][0]["total_msat"], newest, "nothing more was paid on it");
    }

    fn a_client_restored_from_an_old_backup_pays_nothing_twice() {
        let mut sale = Sale::start(ChainKind::Play, "");
        let mut buy = sale.buy(1);
        sale.confirm();
        let funding = sale.funding();
        sale.assert_cut();
        end(&mut buy).unwrap();
        let backup = sale.site.folder().join("client.backup");
        sale.client().ask(&["backup", backup.to_str().unwrap()]);
        let mut buy = sale.buy(2);
        sale.assert_cut();
        end(&mut buy).unwrap();
        let newest = total(sale.client());

        restore(&mut sale.site.clients[0], &backup);
        assert!(total(sale.client()) < newest, "the backup is old");
        connect(&sale);
        wait_for("its own newest signature", || total(sale.client()) == newest);
        let mut buy = purchase(sale.client(), 1);
        sale.assert_cut();
        end(&mut buy).unwrap();
        let paid = total(sale.client());
        // What was left of the last packet is used first.
        let more = PRICE - 2_000..=PRICE + 16;
        assert!(more.contains(&(paid - newest)), "{paid} msat after {newest} for one MiB more");
        sale.close();
        sale.assert_settled(&funding);
    }

    fn the_seed_words_alone_find_a_channel_whose_payee_vanished_and_refund_it_at_its_expiry_and_not_before() {
        let mut site = Site::new(Plan::default(), ChainKind::Play, PRICE, "");
        let client = &site.clients[0];
        client.replace_config(&format!("{}lifetime = \"216 blocks\"\n", client.read_config()));
        site.start();
        let mut sale = Sale::at(site);
        let mut buy = sale.buy(1);
        sale.confirm();
        let funding = sale.funding();
        let known = channel(sale.client()).unwrap();
        let (capacity, expiry) = (known["capacity_sat"].as_u64().unwrap(), known["expiry_height"].as_u64().unwrap());
        sale.site.relay.kill();
        let _ = (buy.kill(), buy.wait());
        let client = &mut sale.site.clients[0];
        client.kill();
        let words = fs::read_to_string(client.data_dir().join("seed")).unwrap();
        fs::remove_dir_all(client.data_dir()).unwrap();

        let mut init = client.command(&["init", "--restore"]);
        let mut init = init.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        init.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        assert!(init.wait().unwrap().success());
        client.start();
        wait_for("the channel", || channel(sale.client()).is_some_and(|c| c["outpoint"] == funding));
        let found = channel(sale.client()).unwrap();
        assert_eq!((&found["capacity_sat"], &found["expiry_height"]), (&known["capacity_sat"], &known["expiry_height"]));
        let rest = COINS - capacity - known["funding_fee_sat"].as_u64().unwrap();
        wait_for("the coins beside it", || sale.client().ask(&["wallet", "balance"])["confirmed_sat"] == rest);

        let to_expiry = expiry - sale.site.height();
        sale.site.mine(to_expiry as u32 - 1);
        wait_for("the height before", || sale.client().ask(&["status"])["height"] == expiry - 1);
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(sale.site.mempool().is_empty(), "refunded before its expiry");
        sale.site.mine(1);
        wait_for("the refund", || sale.site.mempool().len() == 1);
        sale.site.mine(1);
        let refund = judge::spend(&sale.site, &funding).unwrap().expect("a refund in a block");
        let back: u64 = refund.output.iter().map(|o| o.value.to_sat()).sum();
        assert_eq!((refund.input.len(), refund.output.len()), (1, 1));
        assert!((capacity - 1_000..capacity).contains(&back), "{back} sat came back of {capacity}");
        wait_for("its end", || channel(sale.client()).unwrap()["state"] == "settled");
    }
}
