//! The chain follower and the wallet against a real node and against the play chain: the same scenarios on both.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Transaction};
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use turnpike_firmware::chain::{
    Auth, Backend, ChainHandle, ChainTask, Fault, FollowerConfig, OrderError, Report, Verdict,
};
use turnpike_firmware::wallet::{Wallet, WalletKeys};
use turnpike_protocol::base::{BlockHeight, FeeRate, Outpoint, Sat, Slot};
use turnpike_protocol::crypto::{CoinType, Keys, Seed};
use turnpike_protocol::money::chain::{ChainAction, ChainEvent};
use turnpike_protocol::money::channel::tx::{RecoveryData, recover};
use turnpike_tests::bitcoind::Bitcoind;
use turnpike_tests::node::{Node, Purse, coin_of};
use turnpike_tests::playchain::PlayChain;

const SLOT: Slot = Slot(3);

/// A running chain task, and everything that it reported.
struct Observer {
    task: JoinHandle<()>,
    handle: ChainHandle,
    reports: mpsc::Receiver<Report>,
    events: Vec<ChainEvent>,
    /// Events before this one were looked at.
    cursor: usize,
    state: Option<Vec<u8>>,
    journal: Vec<Vec<u8>>,
    keys: Option<Keys>,
}

impl Observer {
    /// A new follower of `node` from its first block on, with a wallet if there are keys for it.
    fn start(node: &dyn Node, keys: Option<Keys>) -> Self {
        Self::resume(node, keys, None, Vec::new())
    }

    fn resume(node: &dyn Node, keys: Option<Keys>, state: Option<Vec<u8>>, journal: Vec<Vec<u8>>) -> Self {
        let chain = node.chain();
        let mut config = FollowerConfig::new(chain.genesis(), true);
        config.poll = Duration::from_millis(50);
        config.longest_wait = Duration::from_millis(200);
        config.first_block = Some(0);
        let wallet = keys.as_ref().map(|keys| {
            let account = keys.account();
            let keys = WalletKeys {
                external: &account.external,
                internal: &account.internal,
                network: chain.network(),
                genesis: chain.genesis(),
                recovery: keys.recovery().as_bytes(),
            };
            Wallet::open(&keys, &journal).expect("wallet")
        });
        let (task, handle, reports) =
            ChainTask::new(node.client(), config, state.as_deref(), wallet).expect("stored state");
        let task = tokio::spawn(task.run());
        Observer {
            task,
            handle,
            reports,
            events: Vec::new(),
            cursor: 0,
            state,
            journal,
            keys,
        }
    }

    /// Cuts the power and starts again with what was persisted.
    async fn restart(self, node: &dyn Node) -> Self {
        self.task.abort();
        let _ = self.task.await;
        Self::resume(node, self.keys, self.state, self.journal)
    }

    async fn act(&self, action: ChainAction) {
        self.handle.act(action).await.expect("the task runs");
    }

    async fn watch(&self, purse: &Purse, from: u32) {
        self.act(ChainAction::Watch {
            slot: SLOT,
            output_key: purse.output_key(),
            from: BlockHeight::new(from),
        })
        .await;
    }

    /// The next event that `wanted` takes; the ones before it are skipped.
    async fn until(&mut self, what: &str, wanted: impl Fn(&ChainEvent) -> bool) -> ChainEvent {
        loop {
            if let Some(index) = self.events[self.cursor..].iter().position(&wanted) {
                self.cursor += index + 1;
                return self.events[self.cursor - 1].clone();
            }
            let report = tokio::time::timeout(Duration::from_secs(30), self.reports.recv()).await;
            let Ok(Some(report)) = report else {
                panic!("no {what} among {:#?}", self.events)
            };
            self.state = report.state.or(self.state.take());
            self.journal.extend(report.wallet);
            self.events.extend(report.events);
        }
    }

    async fn tip(&mut self, height: u32) {
        let tip = ChainEvent::Tip {
            height: BlockHeight::new(height),
        };
        self.until(&format!("tip {height}"), |e| *e == tip).await;
    }

    async fn funded(&mut self, height: Option<u32>) -> Outpoint {
        let wanted = height.map(BlockHeight::new);
        let what = format!("funding at {height:?}");
        let found = self
            .until(
                &what,
                |e| matches!(e, ChainEvent::Funded { height, .. } if *height == wanted),
            )
            .await;
        let ChainEvent::Funded {
            slot: SLOT, outpoint, ..
        } = found
        else {
            panic!("{found:?}")
        };
        outpoint
    }

    async fn spent(&mut self, by: &Transaction, height: Option<u32>) {
        let wanted = height.map(BlockHeight::new);
        let what = format!("spend at {height:?}");
        let found = self
            .until(
                &what,
                |e| matches!(e, ChainEvent::Spent { height, .. } if *height == wanted),
            )
            .await;
        let ChainEvent::Spent { slot: SLOT, tx, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!(deserialize::<Transaction>(&tx).expect("raw transaction"), *by);
    }

    /// Waits until the wallet has `confirmed` satoshi.
    async fn confirmed(&mut self, confirmed: u64) {
        for _ in 0..600 {
            if self.handle.balance().await.expect("balance").confirmed == Sat::new(confirmed) {
                return;
            }
            // Takes reports, so that the task is never held up.
            while let Ok(report) = self.reports.try_recv() {
                self.state = report.state.or(self.state.take());
                self.journal.extend(report.wallet);
                self.events.extend(report.events);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{:?} instead of {confirmed} sat confirmed",
            self.handle.balance().await
        );
    }
}

fn keys(number: u8) -> Keys {
    Keys::new(&Seed::from_entropy(&[number; 32]), CoinType::Test).expect("keys")
}

fn both(scenario: impl AsyncFn(Box<dyn Node>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(scenario(Box::new(PlayChain::start())));
    runtime.block_on(scenario(Box::new(Bitcoind::start())));
}

#[test]
fn a_funding_and_its_spend_are_seen_waiting_then_confirmed_and_again_after_a_restart() {
    both(async |node| {
        let node = node.as_ref();
        let mut observer = Observer::start(node, None);
        let purse = Purse::new(2);
        observer.watch(&purse, node.height()).await;
        let paid = node.pay(&purse.address(), Amount::from_sat(50_000));
        assert_eq!(observer.funded(None).await, paid.into());
        node.mine(1);
        let height = node.height();
        assert_eq!(observer.funded(Some(height)).await, paid.into());
        observer.tip(height).await;

        let coin = turnpike_tests::node::Coin {
            outpoint: paid,
            output: purse.output(50_000),
        };
        let spend = purse.spend(&[coin], 1_000);
        node.send(&spend).expect("spend");
        observer.spent(&spend, None).await;
        node.mine(1);
        observer.spent(&spend, Some(height + 1)).await;
        observer.tip(height + 1).await;

        let mut observer = observer.restart(node).await;
        observer.watch(&purse, 0).await;
        assert_eq!(observer.funded(Some(height)).await, paid.into());
        observer.spent(&spend, Some(height + 1)).await;
        observer.tip(height + 1).await;
    });
}

#[test]
fn a_watch_that_comes_late_finds_what_older_blocks_hold() {
    both(async |node| {
        let node = node.as_ref();
        let purse = Purse::new(2);
        let coin = purse.coins(node, 1, 50_000).remove(0);
        let height = node.height();
        let spend = purse.spend(std::slice::from_ref(&coin), 1_000);
        node.send(&spend).expect("spend");
        node.mine(40);
        let mut observer = Observer::start(node, None);
        observer.tip(height + 40).await;
        observer.watch(&purse, height).await;
        assert_eq!(observer.funded(Some(height)).await, coin.outpoint.into());
        observer.spent(&spend, Some(height + 1)).await;
    });
}

#[test]
fn a_funding_that_is_reorganised_away_and_replaced_is_reported_gone() {
    both(async |node| {
        let node = node.as_ref();
        let (payer, channel) = (Purse::new(4), Purse::new(5));
        let coins = payer.coins(node, 1, 100_000);
        let mut observer = Observer::start(node, None);
        observer.watch(&channel, node.height()).await;
        let funding = payer.sign(
            payer.draft(&coins, vec![channel.output(50_000), payer.output(49_000)]),
            &coins,
        );
        node.send(&funding).expect("funding");
        node.mine(3);
        let tip = node.height();
        let outpoint = observer.funded(Some(tip - 2)).await;
        assert_eq!(outpoint, coin_of(&funding, 0).outpoint.into());
        observer.tip(tip).await;

        node.forget_blocks(3);
        let fork = BlockHeight::new(tip - 3);
        observer
            .until("reorganisation", |e| *e == ChainEvent::Reorg { height: fork })
            .await;
        assert_eq!(
            observer.funded(None).await,
            outpoint,
            "it waits in the mempool again"
        );
        let replacement = payer.spend(&coins, 5_000);
        node.send(&replacement).expect("replacement");
        let gone = ChainEvent::Unfunded { slot: SLOT, outpoint };
        observer.until("Unfunded", |e| *e == gone).await;

        // A longer branch in one go, then the funding comes after all in a block of it.
        node.mine(5);
        observer.tip(tip + 2).await;
        let coins = [coin_of(&replacement, 0)];
        let second = payer.sign(
            payer.draft(&coins, vec![channel.output(60_000), payer.output(30_000)]),
            &coins,
        );
        node.send(&second).expect("second funding");
        node.mine(1);
        let outpoint = observer.funded(Some(tip + 3)).await;
        node.reorganise(2);
        observer
            .until("reorganisation", |e| matches!(e, ChainEvent::Reorg { .. }))
            .await;
        let confirmed_again = observer
            .until(
                "the funding in the new branch",
                |e| matches!(e, ChainEvent::Funded { height: Some(h), .. } if h.value() > tip),
            )
            .await;
        assert!(matches!(confirmed_again, ChainEvent::Funded { outpoint: o, .. } if o == outpoint));
        observer.tip(tip + 4).await;
    });
}

#[test]
fn the_back_end_goes_down_and_comes_back_with_a_new_cookie_and_nothing_is_lost() {
    both(async |mut node| {
        let purse = Purse::new(2);
        let coins = purse.coins(node.as_ref(), 1, 50_000);
        let cookie = std::fs::read_to_string(node.cookie()).expect("cookie");
        let mut observer = Observer::start(node.as_ref(), None);
        let height = node.height();
        observer.watch(&purse, height).await;
        let funding = observer.funded(Some(height)).await;
        observer.tip(height).await;

        node.stop();
        observer.until("Dark", |e| *e == ChainEvent::Dark).await;
        let spend = purse.spend(&coins, 1_000);
        let tx = bitcoin::consensus::serialize(&spend);
        observer.act(ChainAction::Broadcast { slot: SLOT, tx }).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(
            observer.reports.try_recv().is_err(),
            "darkness is told once, and nothing is claimed meanwhile"
        );

        node.launch();
        assert_ne!(std::fs::read_to_string(node.cookie()).expect("cookie"), cookie);
        let sent = observer
            .until("an answer", |e| matches!(e, ChainEvent::Broadcast { .. }))
            .await;
        assert!(
            matches!(
                sent,
                ChainEvent::Broadcast {
                    slot: SLOT,
                    accepted: true,
                    ..
                }
            ),
            "{sent:?}"
        );
        // The sightings come again, and only then the tip ends the darkness.
        assert_eq!(observer.funded(Some(height)).await, funding);
        observer.tip(height).await;
        node.mine(1);
        observer.spent(&spend, Some(height + 1)).await;
    });
}

#[test]
fn a_channel_is_funded_from_confirmed_coins_and_found_again_by_the_seed() {
    both(async |node| {
        let node = node.as_ref();
        let mut observer = Observer::start(node, Some(keys(1)));
        let address = observer.handle.address().await.expect("address");
        node.pay(&address, Amount::from_sat(200_000));
        observer.confirmed(0).await;
        node.mine(1);
        observer.confirmed(200_000).await;

        let recovery = RecoveryData {
            payee_key: keys(2)
                .channel(turnpike_protocol::crypto::Role::Payee, 0)
                .expect("key")
                .funding
                .x_only_public_key()
                .0
                .serialize(),
            expiry: BlockHeight::new(2_000),
            key_index: 6,
        };
        let payer_key = |index| {
            let channel = keys(1)
                .channel(turnpike_protocol::crypto::Role::Payer, index)
                .expect("key");
            channel.funding.x_only_public_key().0.serialize()
        };
        let terms = turnpike_protocol::money::channel::tx::Terms {
            payer_key: payer_key(6),
            payee_key: recovery.payee_key,
            capacity: Sat::new(50_000),
            expiry: recovery.expiry,
        };
        let secp = bitcoin::secp256k1::Secp256k1::new();
        let output_key: [u8; 32] = terms.funding_output(&secp).expect("terms").script_pubkey[2..]
            .try_into()
            .expect("taproot");
        let value = Sat::new(50_000);
        let fund = |value| ChainAction::Fund {
            slot: SLOT,
            output_key,
            value,
            rate: FeeRate::new(2_000),
            recovery: recovery.to_bytes(),
        };
        observer.act(fund(Sat::new(1_000_000))).await;
        let failed = observer
            .until("FundingFailed", |e| matches!(e, ChainEvent::FundingFailed { .. }))
            .await;
        let available = Sat::new(200_000);
        assert!(
            matches!(failed, ChainEvent::FundingFailed { available: a, needed, .. }
            if a == available && needed > Sat::new(1_000_000)),
            "{failed:?}"
        );

        observer.act(fund(value)).await;
        let built = observer
            .until("FundingBuilt", |e| matches!(e, ChainEvent::FundingBuilt { .. }))
            .await;
        let ChainEvent::FundingBuilt { outpoint, tx, .. } = built else {
            unreachable!()
        };
        observer.confirmed(0).await;

        // The power fails before it is sent: the coins stay reserved, the stored transaction is still good.
        let mut observer = observer.restart(node).await;
        observer
            .act(ChainAction::Watch {
                slot: SLOT,
                output_key,
                from: BlockHeight::new(node.height()),
            })
            .await;
        assert_eq!(
            observer.handle.balance().await.expect("balance").reserved,
            Sat::new(200_000)
        );
        observer
            .act(ChainAction::Broadcast {
                slot: SLOT,
                tx: tx.clone(),
            })
            .await;
        let sent = observer
            .until("an answer", |e| matches!(e, ChainEvent::Broadcast { .. }))
            .await;
        assert!(
            matches!(sent, ChainEvent::Broadcast { accepted: true, .. }),
            "{sent:?}"
        );
        node.mine(1);
        assert_eq!(observer.funded(Some(node.height())).await, outpoint);
        // Sent again when it is confirmed: harmless, and the answer is yes.
        observer
            .act(ChainAction::Broadcast {
                slot: SLOT,
                tx: tx.clone(),
            })
            .await;
        let sent = observer
            .until("an answer", |e| matches!(e, ChainEvent::Broadcast { .. }))
            .await;
        assert!(
            matches!(sent, ChainEvent::Broadcast { accepted: true, .. }),
            "{sent:?}"
        );
        let funding: Transaction = deserialize(&tx).expect("funding");
        observer.confirmed(funding.output[2].value.to_sat()).await;

        let found = recover(&secp, keys(1).recovery().as_bytes(), &funding, payer_key);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].outpoint, found[0].key_index, found[0].terms.capacity),
            (outpoint, 6, value)
        );
    });
}

#[test]
fn the_wallet_pays_and_frees_what_is_refused() {
    both(async |node| {
        let node = node.as_ref();
        let mut observer = Observer::start(node, Some(keys(1)));
        let address = observer.handle.address().await.expect("address");
        node.pay(&address, Amount::from_sat(100_000));
        node.mine(1);
        observer.confirmed(100_000).await;

        let other = Purse::new(6);
        let sent = observer
            .handle
            .pay(other.address(), Sat::new(30_000), FeeRate::new(1_000))
            .await
            .expect("pay");
        assert_eq!(
            node.call("getrawmempool", json!([])).expect("list"),
            json!([sent.to_string()])
        );
        let tx = node
            .client()
            .mempool_transactions(&[sent])
            .await
            .expect("transactions")
            .remove(0);
        let fee = 100_000 - tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
        // A rate that no mempool takes: nothing is paid, and the coins are free again.
        node.mine(1);
        let left = 70_000 - fee;
        observer.confirmed(left).await;
        let refused = observer
            .handle
            .pay(other.address(), Sat::new(30_000), FeeRate::new(100))
            .await;
        assert!(matches!(refused, Err(OrderError::Refused { .. })), "{refused:?}");
        observer.confirmed(left).await;
    });
}

#[test]
fn every_question_of_the_trait_has_the_same_kind_of_answer() {
    both(async |node| {
        let node = node.as_ref();
        let client = node.client();
        let tip = client.tip().await.expect("tip");
        assert_eq!(tip.height, node.height());
        assert_eq!(client.block_hash(tip.height).await.expect("hash"), Some(tip.hash));
        assert_eq!(
            client.block_hash(tip.height + 1).await.expect("above the tip"),
            None
        );
        assert_eq!(
            client.block_hash(0).await.expect("genesis"),
            Some(node.chain().genesis())
        );
        assert_eq!(
            client.block(tip.hash).await.expect("block").block_hash(),
            tip.hash
        );
        let unknown = client
            .block(bitcoin::hashes::Hash::all_zeros())
            .await
            .expect_err("no such block");
        assert!(
            matches!(unknown.fault, Fault::Refused { code: -5, .. }),
            "{unknown}"
        );

        let purse = Purse::new(2);
        let coin = purse.coins(node, 1, 50_000).remove(0);
        let unspent = client
            .output(coin.outpoint)
            .await
            .expect("output")
            .expect("unspent");
        assert_eq!((unspent.value.to_sat(), unspent.confirmations), (50_000, 1));
        assert_eq!(unspent.script, coin.output.script_pubkey);
        let spend = purse.spend(std::slice::from_ref(&coin), 1_000);
        let txid = spend.compute_txid();
        assert_eq!(
            client.mempool_spenders(&[coin.outpoint]).await.expect("spenders"),
            [None]
        );
        assert_eq!(client.send(&spend).await.expect("send"), Verdict::Accepted);
        assert_eq!(client.send(&spend).await.expect("send again"), Verdict::Accepted);
        assert_eq!(client.output(coin.outpoint).await.expect("output"), None);
        assert_eq!(
            client.mempool_spenders(&[coin.outpoint]).await.expect("spenders"),
            [Some(txid)]
        );
        assert_eq!(client.mempool().await.expect("mempool"), [txid]);
        let ids = [txid, bitcoin::hashes::Hash::all_zeros()];
        assert_eq!(
            client.mempool_transactions(&ids).await.expect("transactions"),
            std::slice::from_ref(&spend)
        );
        let twin = purse.spend(&[coin], 1_001);
        let refused = client.send(&twin).await.expect("an answer");
        assert!(
            matches!(&refused, Verdict::Refused { reason } if reason.contains("insufficient fee")),
            "{refused:?}"
        );
        node.mine(1);
        assert_eq!(
            client.send(&spend).await.expect("send when confirmed"),
            Verdict::Confirmed
        );
        let fee = client.fee(6).await.expect("fee");
        assert_eq!((fee.rate, fee.floor), (None, FeeRate::new(1_000)));
    });
}

#[test]
fn every_failure_names_the_address_and_what_to_do() {
    both(async |mut node| {
        let client = node.client();
        let wrong = Auth::Password {
            user: "user".into(),
            password: "hunter2".into(),
        };
        let patience = Duration::from_millis(300);
        let intruder =
            turnpike_firmware::chain::Bitcoind::new(&node.url(), wrong.clone(), patience).expect("client");
        let error = intruder.tip().await.expect_err("wrong password");
        assert!(matches!(error.fault, Fault::Unauthorised), "{error}");
        assert!(!format!("{error} {wrong:?}").contains("hunter2"));
        assert!(error.to_string().contains("check the cookie file"), "{error}");

        // A server that takes the question and never answers.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let url = format!("http://{}", silent.local_addr().expect("address"));
        let auth = Auth::Cookie(node.cookie());
        let slow = turnpike_firmware::chain::Bitcoind::new(&url, auth, patience).expect("client");
        let asked = std::time::Instant::now();
        let error = slow.tip().await.expect_err("silence");
        assert!(matches!(error.fault, Fault::Slow(_)) && error.passes(), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(5));

        let url = node.url();
        client.tip().await.expect("the cookie is known now");
        node.stop();
        let error = client.tip().await.expect_err("nobody there");
        assert!(
            matches!(error.fault, Fault::Unreachable(_)) && error.passes(),
            "{error}"
        );
        assert!(
            error.to_string().contains(&url) && error.to_string().contains("is bitcoind running"),
            "{error}"
        );
        let error = node.client().tip().await.expect_err("no cookie");
        assert!(
            matches!(error.fault, Fault::Cookie { .. }) && error.passes(),
            "{error}"
        );
        node.launch();
        client.tip().await.expect("the same client reads the new cookie");
    });
}

#[test]
fn a_back_end_on_another_chain_is_never_believed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let node = PlayChain::start();
        let genesis = turnpike_firmware::chain::ChainName::Regtest.genesis();
        let config = FollowerConfig::new(genesis, true);
        let (task, _handle, mut reports) = ChainTask::new(node.client(), config, None, None).expect("task");
        tokio::spawn(task.run());
        let report = tokio::time::timeout(Duration::from_secs(5), reports.recv())
            .await
            .expect("a report");
        assert_eq!(report.expect("a report").events, [ChainEvent::Dark]);
        let more = tokio::time::timeout(Duration::from_secs(1), reports.recv()).await;
        assert!(more.is_err(), "{more:?}");
    });
}
