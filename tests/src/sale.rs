//! A sale at a site, step by step, as its owners drive it: buy, wait, be cut, close.

use crate::judge::{self, Kernel};
use crate::lab::Plan;
use crate::servers::Servers;
use crate::site::{ChainKind, Node, PATIENCE, Site, wait_for};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Price of the sales here, millisatoshi per MiB: 1,000 sat, so that one MiB is worth a settlement.
pub const PRICE: u64 = 1_000_000;
/// One MiB.
pub const MIB: u64 = 1 << 20;
/// Largest packet that may be stranded, bytes: an Ethernet frame's worth (offload is off on the guest link).
pub const PACKET: u64 = 1_514;
/// Satoshi that the client begins with.
pub const COINS: u64 = 200_000;

/// One client, one relay, their daemons, the judge and servers on the uplink.
pub struct Sale {
    /// What the kernel counts.
    pub kernel: Kernel,
    /// Web server and iperf3.
    pub servers: Servers,
    /// Where it happens. Last, so that it goes last.
    pub site: Site,
}

impl Sale {
    /// Everything runs, the client has coins, nothing is bought. `more` is appended to the relay's configuration.
    pub fn start(kind: ChainKind, more: &str) -> Sale {
        let mut site = Site::new(Plan::default(), kind, PRICE, more);
        site.start();
        Sale::at(site)
    }

    /// The same at a site whose daemons run already.
    pub fn at(site: Site) -> Sale {
        let kernel = Kernel::watch(&site);
        let servers = Servers::start(&site);
        site.fund(0, COINS);
        Sale {
            kernel,
            servers,
            site,
        }
    }

    /// The client's daemon.
    pub fn client(&self) -> &Node {
        &self.site.clients[0]
    }

    /// Starts to buy and waits for the first window.
    pub fn buy(&self, mib: u64) -> Child {
        let before = total(self.client());
        let buy = purchase(self.client(), mib);
        self.paid_more_than(before);
        buy
    }

    /// Waits until the relay has been paid more than this.
    pub fn paid_more_than(&self, msat: u64) {
        wait_for("a payment", || total(&self.site.relay) > msat);
    }

    /// Confirmations lift the limit on credit.
    pub fn confirm(&self) {
        self.site.mine(7);
        wait_for("a deep channel at both sides", || {
            [self.client(), &self.site.relay]
                .iter()
                .all(|n| channel(n).is_some_and(|c| c["state"] == "open"))
        });
    }

    /// The funding's output, `TXID:VOUT`.
    pub fn funding(&self) -> String {
        let channel = channel(self.client()).expect("a channel");
        channel["outpoint"].as_str().expect("a funded channel").to_owned()
    }

    /// Downloads until nothing moves any more; gives unpaid and stranded bytes by the kernel's count.
    pub fn use_up(&self) -> (u64, u64) {
        let forwarded = self
            .servers
            .until_cut(&self.site, &self.kernel)
            .expect("a download");
        judge::at_cut(forwarded, self.paid_bytes())
    }

    /// Bytes that are paid for, by the relay's total: all prices here are the same both ways.
    pub fn paid_bytes(&self) -> u64 {
        total(&self.site.relay) * MIB / PRICE
    }

    /// Uses up what is paid for. At most one packet of it is stranded, and nothing else passed.
    ///
    /// # Panics
    /// Otherwise.
    pub fn assert_cut(&self) {
        let (unpaid, stranded) = self.use_up();
        assert_eq!(
            unpaid,
            0,
            "unpaid bytes passed; {} were paid for",
            self.paid_bytes()
        );
        assert!(
            stranded <= PACKET,
            "{stranded} of {} paid bytes did not pass",
            self.paid_bytes()
        );
    }

    /// So many MiB were paid for; each payment may round up by a millisatoshi.
    ///
    /// # Panics
    /// Otherwise.
    pub fn assert_paid(&self, mib: u64) {
        let (paid, price) = (total(&self.site.relay), mib * PRICE);
        assert!(
            (price..=price + 16).contains(&paid),
            "{paid} msat paid for {mib} MiB"
        );
    }

    /// The client asks for the end of its channel.
    pub fn close(&self) {
        let slot = channel(self.client()).expect("a channel")["slot"].to_string();
        self.client().ask(&["channel", "close", &slot]);
    }

    /// Mines until the channel that `funding` opened is settled, and holds the block against both sides' totals: the
    /// relay gets what was paid and not a satoshi more, the client the rest.
    ///
    /// # Panics
    /// Otherwise.
    pub fn assert_settled(&self, funding: &str) {
        let settlement = judge::settled(&self.site, funding).expect("a settlement");
        let of = |node: &Node| {
            let channels = node.ask(&["channel", "list"]);
            let all = channels["channels"].as_array().cloned().unwrap_or_default();
            let one = all.iter().find(|c| c["outpoint"] == funding);
            one.and_then(|c| c["total_msat"].as_u64())
                .expect("the channel's total")
        };
        let (paid, earned) = (of(self.client()), of(&self.site.relay));
        assert_eq!(paid, earned, "the sides disagree about what was paid");
        let sat = paid.div_ceil(1_000);
        assert_eq!(
            settlement.payee + settlement.fee,
            sat,
            "what the relay got and its fee"
        );
        assert_eq!(
            settlement.remainder,
            settlement.capacity - sat,
            "what the client got back"
        );
        wait_for("the relay's coins", || {
            self.site.mine(1);
            self.site.relay.ask(&["wallet", "balance"])["confirmed_sat"] == settlement.payee
        });
    }
}

/// `turnpike buy`, as a process of its own that ends when everything is used.
pub fn purchase(client: &Node, mib: u64) -> Child {
    let mib = mib.to_string();
    let words = ["buy", "--mib", &mib, "--max-sat", "20000", "--yes"];
    client
        .command(&words)
        .stdout(Stdio::null())
        .spawn()
        .expect("turnpike")
}

/// Waits for the end of a purchase whose credit is used.
///
/// # Errors
/// It failed, or goes on.
pub fn end(buy: &mut Child) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Ok(Some(status)) = buy.try_wait() {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("turnpike buy ended with {status}"))
            };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = buy.kill();
    Err("turnpike buy did not end although everything was used".to_owned())
}

/// The node's newest channel.
pub fn channel(node: &Node) -> Option<Value> {
    node.ask(&["channel", "list"])["channels"]
        .as_array()
        .and_then(|c| c.last())
        .cloned()
}

/// Paid so far over the node's newest channel, millisatoshi.
pub fn total(node: &Node) -> u64 {
    channel(node).and_then(|c| c["total_msat"].as_u64()).unwrap_or(0)
}
