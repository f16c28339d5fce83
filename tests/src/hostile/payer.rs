//! A client without a daemon: it opens a channel in earnest, binds, pays, and may then do as it likes.

use super::{Identity, Line, PORT, height};
use crate::lab::{Host, Lab};
use crate::site::{PATIENCE, Site};
use bitcoin::key::Secp256k1;
use bitcoin::{Address, Network};
use serde_json::json;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turnpike_protocol::base::{AccountId, ByteCount, ChannelId, Msat, NodeId, Outpoint, Sat, Txid};
use turnpike_protocol::crypto::{ChannelKeys, Role, channel_id};
use turnpike_protocol::money::channel::tx::{PaymentDigest, Terms};
use turnpike_protocol::wire::{
    BindRequest, BindingClass, Ext, Funded, Message, OfferRequest, OpenRequest, Payment, Resume, Signature,
};

/// The one service account.
const ACCESS: AccountId = AccountId(0);
/// Lifetime of the channels here, blocks.
const LIFETIME: u32 = 1_008;

/// A funded channel to the relay.
pub struct Payer {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// Its terms.
    pub terms: Terms,
    /// Its funding output.
    pub outpoint: Outpoint,
    /// The relay's short name for it in the session that was last.
    pub short: u16,
    /// The relay's short name of its prices.
    pub sheet: u8,
    keys: ChannelKeys,
    digest: PaymentDigest,
}

impl Payer {
    /// Connects from client `i`'s host.
    ///
    /// # Errors
    /// The relay does not take the session.
    pub fn call(identity: &Arc<Identity>, site: &Site, i: usize) -> io::Result<Line> {
        Line::call(
            identity,
            site.lab.client(i),
            SocketAddr::from((Lab::RELAY4, PORT)),
        )
    }

    /// Opens a channel, pays its funding from the faucet and waits until the relay takes all of it. `index` numbers the
    /// identity's channels.
    pub fn open(site: &Site, line: &mut Line, index: u32, capacity: Sat) -> Payer {
        let mut payer = Payer::accepted(site, line, index, capacity);
        let address =
            Address::from_script(&payer.terms_script(), Network::Regtest).expect("a taproot output");
        let paid = site
            .rpc("faucet", json!([address.to_string(), capacity.value()]))
            .expect("faucet");
        let mut txid = super::bytes(paid["txid"].as_str().expect("a txid"));
        txid.reverse();
        let vout = u32::try_from(paid["vout"].as_u64().expect("an index")).expect("an index");
        payer.name(Outpoint {
            txid: Txid::from_bytes(txid),
            vout,
        });
        line.say(payer.funded());
        site.mine(7);
        let whole = capacity.to_msat().expect("a channel's worth");
        payer.short = line.await_one("a channel that takes all", |m| match m {
            Message::ChannelReady(r) if r.ceiling >= whole && r.channel == payer.channel() => Some(r.short),
            _ => None,
        });
        payer
    }

    /// A channel that the relay accepted, and that nothing funds.
    pub fn accepted(site: &Site, line: &mut Line, index: u32, capacity: Sat) -> Payer {
        let identity = line.identity.clone();
        line.say(OfferRequest { ext: Ext::default() });
        let sheet = line.await_one("an offer", |m| match m {
            Message::Offer(o) => Some(o.sheet_id),
            _ => None,
        });
        let keys = identity.keys.channel(Role::Payer, index).expect("channel keys");
        let payer_key = keys.funding.x_only_public_key().0.serialize();
        let expiry = height(site).plus(LIFETIME);
        line.say(OpenRequest {
            payer_key: NodeId::from_bytes(payer_key),
            capacity,
            expiry,
            ext: Ext::default(),
        });
        let payee_key = line.await_one("an acceptance", |m| match m {
            Message::OpenAccept(a) => Some(*a.payee_key.as_bytes()),
            _ => None,
        });
        let terms = Terms {
            payer_key,
            payee_key,
            capacity,
            expiry,
        };
        let outpoint = Outpoint {
            txid: Txid::from_bytes([0; 32]),
            vout: 0,
        };
        let digest =
            PaymentDigest::new(&Secp256k1::verification_only(), &terms, outpoint).expect("accepted terms");
        Payer {
            identity,
            terms,
            outpoint,
            short: 0,
            sheet,
            keys,
            digest,
        }
    }

    /// Says that this output funds the channel.
    pub fn name(&mut self, outpoint: Outpoint) {
        self.outpoint = outpoint;
        self.digest = PaymentDigest::new(&Secp256k1::verification_only(), &self.terms, outpoint)
            .expect("accepted terms");
    }

    fn terms_script(&self) -> bitcoin::ScriptBuf {
        self.terms
            .funding_output(&Secp256k1::verification_only())
            .expect("accepted terms")
            .to_script_buf()
    }

    /// The channel's name.
    pub fn channel(&self) -> ChannelId {
        channel_id(&self.outpoint)
    }

    /// What tells the relay of the funding.
    pub fn funded(&self) -> Funded {
        let payer_key = NodeId::from_bytes(self.terms.payer_key);
        Funded {
            payer_key,
            outpoint: self.outpoint,
            tx: Default::default(),
            ext: Ext::default(),
        }
    }

    /// The payer's signature for a total.
    pub fn sign(&self, total: Msat) -> Signature {
        let secp = Secp256k1::signing_only();
        Signature(
            self.digest
                .sign_payment(&secp, &self.keys.funding, total.to_sat_ceil())
                .expect("within the capacity"),
        )
    }

    /// An honest payment.
    pub fn payment(&self, total: Msat) -> Payment {
        Payment {
            channel: self.short,
            account: ACCESS,
            sheet: self.sheet,
            total,
            signature: self.sign(total),
        }
    }

    /// Comes back to the channel in a new session, saying what was paid last.
    pub fn resume(&mut self, line: &mut Line, total: Msat) -> Msat {
        line.say(Resume {
            channel: self.channel(),
            total,
            signature: self.sign(total),
            ext: Ext::default(),
        });
        let channel = self.channel();
        let (short, total) = line.await_one("the channel", |m| match m {
            Message::ChannelReady(r) if r.channel == channel => Some((r.short, r.total)),
            _ => None,
        });
        self.short = short;
        total
    }

    /// Opens the service account and says what is granted.
    pub fn bind(&self, line: &mut Line) -> ByteCount {
        let class = BindingClass::Address;
        let addresses = Default::default();
        line.say(BindRequest {
            account: ACCESS,
            channel: self.short,
            class,
            addresses,
            ext: Ext::default(),
        });
        line.await_one("the account", |m| match m {
            Message::Bound(b) => Some(b.granted),
            _ => None,
        })
    }

    /// Pays honestly and says what is granted.
    pub fn pay(&self, line: &mut Line, total: Msat) -> ByteCount {
        line.say(self.payment(total));
        line.await_one("the acknowledgement", |m| match m {
            Message::PaymentAck(a) if a.total == total => Some(a.granted),
            _ => None,
        })
    }
}

/// Datagrams both ways between a client and the uplink host, counted by the kernel where they arrive.
pub struct Blast {
    client: Host,
    uplink: Host,
}

const UDP: u16 = 5_005;

impl Blast {
    /// Begins to count, and to answer on the uplink host with what comes.
    pub fn between(site: &Site, i: usize) -> Blast {
        let (client, uplink) = (site.lab.client(i).clone(), site.lab.uplink().clone());
        for (host, end) in [(&client, "sport"), (&uplink, "dport")] {
            let table = format!(
                "table inet blast {{\n counter arrived {{ }}\n chain in {{\n type filter hook prerouting priority -400; policy accept;\n \
                 iifname \"{}\" udp {end} {UDP} counter name arrived\n }}\n}}\n",
                Lab::ETH
            );
            let path = site.folder().join(format!("blast-{}.nft", host.name()));
            std::fs::write(&path, table).expect("the counter's rules");
            host.run(&format!("nft -f {}", path.display()));
        }
        let far = uplink.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, UDP)).expect("a port"));
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = far.recv_from(&mut buffer) {
                let _ = far.send_to(&buffer[..length], from);
            }
        });
        Blast { client, uplink }
    }

    /// Layer-3 bytes that arrived at both ends.
    pub fn counted(&self) -> u64 {
        [&self.client, &self.uplink].into_iter().map(arrived).sum()
    }

    /// Sends `bytes` from the client, waits until nothing moves, and gives what arrived at both ends in all.
    pub fn send(&self, bytes: u64) -> u64 {
        // Open to the end: answers to a closed socket would draw ICMP packets, which are billed too.
        let _near = self.client.within(|| {
            let near = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
            for n in 0..bytes / 1_400 {
                // An error is an ICMP answer to an earlier datagram; it is the arrivals that count.
                let _ = near.send_to(&[0x55; 1_400], (Lab::UPLINK4, UDP));
                if n % 8 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            near
        });
        let (mut last, mut since, end) = (self.counted(), Instant::now(), Instant::now() + PATIENCE);
        while since.elapsed() < Duration::from_millis(700) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.counted();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }
}

fn arrived(host: &Host) -> u64 {
    let text = host.run("nft -j list counter inet blast arrived");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let objects = value["nftables"].as_array().cloned().unwrap_or_default();
    objects
        .iter()
        .find_map(|o| o["counter"]["bytes"].as_u64())
        .expect("the counter")
}
