//! The judges: kernel counters at client and uplink, and the chain's own blocks.

use crate::lab::{Host, Lab};
use crate::playchain::PlayChain;
use crate::site::{PATIENCE, Site};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Block, OutPoint, Transaction};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A chain whose blocks can be read, and made.
pub trait Blocks {
    /// Asks it.
    ///
    /// # Errors
    /// Its own words.
    fn rpc(&self, method: &str, params: Value) -> Result<Value, String>;
    /// Makes so many.
    fn mine(&self, blocks: u32);
}

impl Blocks for Site {
    fn rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        Site::rpc(self, method, params)
    }
    fn mine(&self, blocks: u32) {
        Site::mine(self, blocks);
    }
}

impl Blocks for PlayChain {
    fn rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        self.call(method, params)
    }
    fn mine(&self, blocks: u32) {
        crate::node::Node::mine(self, blocks);
    }
}

/// nftables counters of what arrived at both ends: up at the uplink, down at the client. Neighbour discovery is not
/// forwarded, so it is not counted.
#[derive(Clone)]
pub struct Kernel {
    client: Host,
    uplink: Host,
}

const TABLE: &str = "table inet judge {
  counter arrived { }
  chain in {
    type filter hook prerouting priority -400; policy accept;
    icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname \"eth0\" PEER counter name arrived
  }
}";

impl Kernel {
    /// Starts to count.
    pub fn watch(site: &Site) -> Kernel {
        let (client, uplink) = (site.lab.client(0).clone(), site.lab.uplink().clone());
        let far = [
            format!("ip saddr {}", Lab::UPLINK4),
            format!("ip6 saddr {}", Lab::UPLINK6),
        ];
        install(site, &client, &far);
        install(
            site,
            &uplink,
            &["meta nfproto ipv4".to_owned(), "meta nfproto ipv6".to_owned()],
        );
        Kernel { client, uplink }
    }

    /// Layer-3 bytes that were forwarded for the client so far.
    pub fn counted(&self) -> u64 {
        arrived(&self.client) + arrived(&self.uplink)
    }

    /// Waits until nothing has moved for `quiet`.
    pub fn settled(&self, quiet: Duration) -> u64 {
        let (mut last, mut since, end) = (self.counted(), Instant::now(), Instant::now() + PATIENCE);
        while since.elapsed() < quiet && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.counted();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }
}

fn install(site: &Site, host: &Host, peers: &[String]) {
    let rules: Vec<String> = peers
        .iter()
        .map(|p| format!("    iifname \"eth0\" {p} counter name arrived\n"))
        .collect();
    let text = TABLE.replace(
        "    iifname \"eth0\" PEER counter name arrived\n",
        &rules.concat(),
    );
    let path = site.folder().join(format!("judge-{}.nft", host.name()));
    std::fs::write(&path, text).expect("the judge's rules");
    host.run(&format!("nft -f {}", path.display()));
}

fn arrived(host: &Host) -> u64 {
    counter(host, "arrived", "bytes")
}

/// Layer-3 `bytes`, or `packets`, that a counter of the judge's table has seen.
pub(crate) fn counter(host: &Host, name: &str, unit: &str) -> u64 {
    let text = host.run(&format!("nft -j list counter inet judge {name}"));
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let objects = value["nftables"].as_array().cloned().unwrap_or_default();
    objects
        .iter()
        .find_map(|o| o["counter"][unit].as_u64())
        .expect("the judge's counter")
}

/// Unpaid and stranded bytes where service stopped.
pub fn at_cut(forwarded: u64, paid: u64) -> (u64, u64) {
    (forwarded.saturating_sub(paid), paid.saturating_sub(forwarded))
}

/// What the relay says that it sold.
pub struct Sold {
    /// Bytes that it billed.
    pub billed: u64,
    /// What it was paid.
    pub paid_msat: u64,
}

/// Asks the relay.
pub fn sold(site: &Site) -> Result<Sold, String> {
    let clients = site.relay.ask(&["clients"]);
    let client = &clients["clients"][0];
    let figure = |name: &str| {
        client[name]
            .as_u64()
            .ok_or_else(|| format!("no {name} in {clients}"))
    };
    Ok(Sold {
        billed: figure("up_bytes")? + figure("down_bytes")?,
        paid_msat: figure("paid_msat")?,
    })
}

/// What the relay billed and what the kernel forwarded, from a moment in which nothing moved. Strays pass long after a
/// cut, as long as they fit into what is stranded: the last word of a TCP flow, say. So both are read until the kernel
/// counts the same before and after, and once more while they differ: the relay may have been asked too early.
///
/// # Errors
/// The relay's own words.
pub fn billed_and_forwarded(site: &Site, kernel: &Kernel) -> Result<(Sold, u64), String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let before = kernel.counted();
        let sold = sold(site)?;
        let quiet = kernel.counted() == before;
        if quiet && sold.billed == before || Instant::now() > end {
            return Ok((sold, before));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The settlement, as a block has it.
pub struct Settled {
    /// Its id.
    pub txid: String,
    /// The funding output's value.
    pub capacity: u64,
    /// What the payer got back.
    pub remainder: u64,
    /// What the payee got.
    pub payee: u64,
    /// What the miner got.
    pub fee: u64,
}

/// Mines until a block spends the funding output, and reads that block.
pub fn settled(chain: &impl Blocks, funding: &str) -> Result<Settled, String> {
    let funding: OutPoint = funding.parse().map_err(|e| format!("{funding}: {e}"))?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        chain.mine(1);
        let blocks = blocks(chain)?;
        let spend = blocks
            .iter()
            .flat_map(|b| &b.txdata)
            .find(|t| t.input.iter().any(|i| i.previous_output == funding));
        if let Some(tx) = spend {
            return read(&blocks, tx, funding);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Err("no block holds a settlement".to_owned())
}

/// The transaction that spends this output, where one of the last blocks holds it.
///
/// # Errors
/// The chain's own words.
pub fn spend(chain: &impl Blocks, output: &str) -> Result<Option<Transaction>, String> {
    let output: OutPoint = output.parse().map_err(|e| format!("{output}: {e}"))?;
    let mut all = blocks(chain)?.into_iter().flat_map(|b| b.txdata);
    Ok(all.find(|t| t.input.iter().any(|i| i.previous_output == output)))
}

fn blocks(chain: &impl Blocks) -> Result<Vec<Block>, String> {
    let height = chain.rpc("getblockcount", json!([]))?;
    let height = height.as_u64().ok_or("getblockcount gives no number")?;
    let from = height.saturating_sub(60);
    let block = |h: u64| {
        let hash = chain.rpc("getblockhash", json!([h]))?;
        let raw = chain.rpc("getblock", json!([hash, 0]))?;
        deserialize_hex(raw.as_str().unwrap_or_default()).map_err(|e| e.to_string())
    };
    (from..=height).map(block).collect()
}

fn read(blocks: &[Block], tx: &Transaction, funding: OutPoint) -> Result<Settled, String> {
    let funded = blocks
        .iter()
        .flat_map(|b| &b.txdata)
        .find(|t| t.compute_txid() == funding.txid);
    let capacity = funded
        .map(|t| t.output[funding.vout as usize].value.to_sat())
        .ok_or("the funding is in no block")?;
    let values: Vec<u64> = tx.output.iter().map(|o| o.value.to_sat()).collect();
    let [remainder, payee] = values[..] else {
        return Err(format!(
            "the settlement has outputs of {values:?} sat, two were expected"
        ));
    };
    let fee = capacity - remainder - payee;
    Ok(Settled {
        txid: tx.compute_txid().to_string(),
        capacity,
        remainder,
        payee,
        fee,
    })
}
