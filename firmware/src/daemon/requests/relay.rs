//! Finding a relay: by its identity, by where it is, by what is configured, or on the link.

use super::news::{News, show};
use super::{Desk, refusal};
use crate::config::DEFAULT_PORT;
use crate::control::{Discovered, Failed, Hex, Prices, Progress, Responder, Response, Target};
use crate::transport::{Beacon, awkwardness, discover};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::PoisonError;
use std::time::Duration;
use turnpike_protocol::base::limits::MAX_CONNECTIONS;
use turnpike_protocol::base::{ConnectionId, NodeId};
use turnpike_protocol::crypto::Verifier;
use turnpike_protocol::node::{Command, Event, Offer, read_sheet};
use turnpike_protocol::wire::{ErrorCode, Kind};

/// How long one address may take to answer, handshake included.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long a peer may take to say hello after the handshake, and a relay to say what it sells.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the link is asked for relays where a request needs one and none was named.
const LOOK_AROUND: Duration = Duration::from_secs(3);
/// Longest search that can be asked for.
const MAX_SEARCH_SECONDS: u32 = 600;
/// One round of a longer search; each asks the link again, for relays that missed the question before.
const ROUND: Duration = Duration::from_secs(1);

/// A relay with a live session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    /// Its session.
    pub connection: ConnectionId,
    /// Who it is.
    pub node: NodeId,
    /// Where it is, if we called it.
    pub address: Option<SocketAddr>,
}

impl Desk {
    pub(super) async fn connect(&self, address: &str, pinned: Option<NodeId>) -> Result<Response, Failed> {
        let relay = self.call(address, pinned).await?;
        Ok(Response::Connected {
            peer: Hex(relay.node),
            connection: relay.connection.0,
        })
    }

    pub(super) async fn discover(&self, seconds: u32, responder: &Responder) -> Result<Response, Failed> {
        let mut found: BTreeMap<_, Discovered> = BTreeMap::new();
        let end =
            tokio::time::Instant::now() + Duration::from_secs(seconds.clamp(1, MAX_SEARCH_SECONDS).into());
        loop {
            let rest = end.saturating_duration_since(tokio::time::Instant::now());
            if rest.is_zero() {
                return Ok(Response::Relays {
                    relays: found.into_values().collect(),
                });
            }
            for relay in self.look_around(ROUND.min(rest)).await? {
                // One row for each relay. A better address of one that was found before is worth another line.
                if found
                    .get(&relay.node)
                    .is_none_or(|known| is_better(&relay, known))
                {
                    found.insert(relay.node, relay.clone());
                    show(responder, Progress::Relay(relay));
                }
            }
        }
    }

    /// The relay that is meant: a session that is there, or a new one. Without a target: the configured one, the only
    /// session, or the only relay on the link; with `cheapest` the one that asks least, where there are several.
    pub(super) async fn find(&self, target: Option<Target>, cheapest: bool) -> Result<Relay, Failed> {
        let configured = self.config.client.relay.clone();
        let identity = self.config.client.identity;
        match target {
            Some(Target {
                node,
                address: Some(address),
            }) => self.session_at(&address, node.map(|n| n.0)).await,
            Some(Target {
                node: Some(Hex(node)),
                address: None,
            }) => {
                if let Some(relay) = self.session_with(node).await? {
                    return Ok(relay);
                }
                match configured.filter(|_| identity == Some(node)) {
                    Some(address) => self.call(&address, Some(node)).await,
                    None => self.call_on_link(Some(node), cheapest).await,
                }
            }
            Some(Target {
                node: None,
                address: None,
            })
            | None => match (configured, identity) {
                (Some(address), pinned) => self.session_at(&address, pinned).await,
                (None, Some(node)) => match self.session_with(node).await? {
                    Some(relay) => Ok(relay),
                    None => self.call_on_link(Some(node), cheapest).await,
                },
                (None, None) => match self.only_session().await? {
                    Some(relay) => Ok(relay),
                    None => self.call_on_link(None, cheapest).await,
                },
            },
        }
    }

    /// What the relay sells now.
    pub(super) async fn ask_offer(&self, relay: &Relay) -> Result<Offer, Failed> {
        let mut news = News::of(&self.core);
        let connection = relay.connection;
        self.core
            .command(Command::AskOffer { connection })
            .await?
            .map_err(refusal::command)?;
        let offer = async {
            loop {
                match news.next().await? {
                    Some(Event::Offer { connection: c, offer }) if c == connection => return Ok(offer),
                    // A node that does not sell has nothing else to say to the question.
                    Some(Event::PeerProblem {
                        connection: c,
                        code: ErrorCode::OutOfOrder,
                        ..
                    }) if c == connection => {
                        let error = format!("node {} sells nothing", Hex(relay.node));
                        return Err(Failed::refused(
                            error,
                            "name another relay, see `turnpike discover`",
                        ));
                    }
                    Some(event) => trouble(&event, relay)?,
                    None => {}
                }
            }
        };
        let late = || {
            let error = format!(
                "relay {} did not say what it sells within {} s",
                Hex(relay.node),
                ANSWER_WITHIN.as_secs()
            );
            Failed::refused(error, "try again, or another relay")
        };
        refusal::within(ANSWER_WITHIN, offer, late).await
    }

    /// A live session with this node; the newest, as an older one is dying.
    pub(super) async fn session_with(&self, node: NodeId) -> Result<Option<Relay>, Failed> {
        let sessions = self.core.look(|n| n.view().sessions).await?;
        let newest = sessions
            .into_iter()
            .filter(|(_, peer)| *peer == node)
            .map(|(c, _)| c)
            .max();
        Ok(newest.map(|connection| Relay {
            connection,
            node,
            address: self.called_at(connection),
        }))
    }

    /// Makes a session, and waits until the peer said hello on our chain.
    pub(super) async fn call(&self, address: &str, pinned: Option<NodeId>) -> Result<Relay, Failed> {
        let mut last = None;
        for address in resolve(address).await? {
            match self.call_at(address, pinned).await {
                Ok(relay) => return Ok(relay),
                Err(failed) => last = Some(failed),
            }
        }
        Err(last.unwrap_or_else(|| Failed::refused(format!("{address} has no address"), "name another")))
    }

    async fn call_at(&self, address: SocketAddr, pinned: Option<NodeId>) -> Result<Relay, Failed> {
        let mut news = News::of(&self.core);
        let connecting = async {
            self.links
                .connect(address, pinned)
                .await
                .map_err(Failed::from_error)
        };
        let late = || {
            let error = format!("{address} does not answer");
            Failed::refused(
                error,
                "check the address, and that the relay runs and is reached over this network",
            )
        };
        let connection = refusal::within(CONNECT_WITHIN, connecting, late).await?;
        self.remember(connection, address);
        let hello = async {
            loop {
                // Looked at first: the hello may have come before we could wait for it.
                let sessions = self.core.look(|n| n.view().sessions).await?;
                if let Some((_, node)) = sessions.into_iter().find(|(c, _)| *c == connection) {
                    return Ok(Relay {
                        connection,
                        node,
                        address: Some(address),
                    });
                }
                match news.next().await? {
                    Some(Event::PeerProblem {
                        connection: c,
                        code,
                        detail,
                        ..
                    }) if c == connection => {
                        return Err(refusal::peer(code, detail));
                    }
                    Some(Event::PeerGone { connection: c, .. }) if c == connection => {
                        let error = format!("{address} ended the session at once");
                        return Err(Failed::refused(error, "look at the relay's log"));
                    }
                    _ => {}
                }
            }
        };
        let late = || {
            let error = format!("{address} made a session and did not say hello on this chain");
            Failed::refused(error, "check that both use the same chain in their configuration")
        };
        refusal::within(ANSWER_WITHIN, hello, late).await
    }

    /// A session that we made to this address, or a new one.
    async fn session_at(&self, address: &str, pinned: Option<NodeId>) -> Result<Relay, Failed> {
        let places = resolve(address).await?;
        let sessions = self.core.look(|n| n.view().sessions).await?;
        let there = sessions.into_iter().rev().find(|(c, node)| {
            pinned.is_none_or(|p| p == *node) && self.called_at(*c).is_some_and(|a| places.contains(&a))
        });
        match there {
            Some((connection, node)) => Ok(Relay {
                connection,
                node,
                address: self.called_at(connection),
            }),
            None => self.call(address, pinned).await,
        }
    }

    /// The session that is meant where none was named: we called it. `None` if there is none.
    async fn only_session(&self) -> Result<Option<Relay>, Failed> {
        let sessions = self.core.look(|n| n.view().sessions).await?;
        let called = |(connection, node): (ConnectionId, NodeId)| {
            Some(Relay {
                connection,
                node,
                address: Some(self.called_at(connection)?),
            })
        };
        // By node: the newest session to each.
        let relays: BTreeMap<NodeId, Relay> = sessions
            .into_iter()
            .filter_map(called)
            .map(|r| (r.node, r))
            .collect();
        match relays.len() {
            0 => Ok(None),
            1 => Ok(relays.into_values().next()),
            n => {
                let error = format!("there are sessions with {n} relays");
                Err(Failed::usage(
                    error,
                    "say which one, by its identity: see `turnpike status`",
                ))
            }
        }
    }

    async fn call_on_link(&self, wanted: Option<NodeId>, cheapest: bool) -> Result<Relay, Failed> {
        let found = self.look_around(LOOK_AROUND).await?;
        let chosen = choose(found, wanted, cheapest)?;
        self.call(&chosen.address, Some(chosen.node.0)).await
    }

    async fn look_around(&self, wait: Duration) -> Result<Vec<Discovered>, Failed> {
        let interface = self.config.client.interface.as_ref().map(|i| i.as_str());
        let beacons = discover(interface, self.genesis, wait).await.map_err(|error| {
            Failed::refused(
                format!("the link cannot be searched ({error})"),
                "name the relay's address",
            )
        })?;
        let verifier = Verifier::new();
        Ok(beacons
            .iter()
            .filter_map(|b| self.discovered(&verifier, b))
            .collect())
    }

    /// A beacon whose price sheet its node signed; anything else is noise.
    fn discovered(&self, verifier: &Verifier, beacon: &Beacon) -> Option<Discovered> {
        let sheet = read_sheet(
            verifier,
            self.genesis,
            beacon.node,
            &beacon.sheet,
            &beacon.signature,
        )?;
        Some(Discovered {
            node: Hex(beacon.node),
            address: beacon.address.to_string(),
            name: beacon.name.clone(),
            prices: Prices::from(&sheet),
        })
    }

    /// Where a session goes that was made from here.
    pub(super) fn called_at(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.called
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&connection)
            .copied()
    }

    /// Where the peers of all sessions are: for those that we called, where they can be called again.
    pub(super) async fn addresses(&self) -> Result<BTreeMap<ConnectionId, SocketAddr>, Failed> {
        let mut addresses = self.core.remotes().await?;
        for (connection, address) in &mut addresses {
            // An IPv4 peer of a socket for both families; a scope stays as it is.
            if let IpAddr::V4(plain) = address.ip().to_canonical() {
                *address = SocketAddr::new(plain.into(), address.port());
            }
            *address = self.called_at(*connection).unwrap_or(*address);
        }
        Ok(addresses)
    }

    fn remember(&self, connection: ConnectionId, address: SocketAddr) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.insert(connection, address);
        // Numbers only rise: the lowest are those of sessions that are long gone.
        while called.len() > MAX_CONNECTIONS {
            called.pop_first();
        }
    }
}

/// Turns what goes wrong on this session into the failure of a request that waits for it.
pub(super) fn trouble(event: &Event, relay: &Relay) -> Result<(), Failed> {
    match event {
        // What becomes of another channel is not what the request waits for.
        Event::PeerProblem { about, .. }
            if [Kind::Resume, Kind::CloseRequest]
                .map(Kind::number)
                .contains(about) =>
        {
            Ok(())
        }
        Event::PeerProblem {
            connection,
            code,
            detail,
            ..
        } if *connection == relay.connection => Err(refusal::peer(*code, *detail)),
        Event::PeerGone { connection, .. } if *connection == relay.connection => {
            let error = format!("the session with relay {} ended", Hex(relay.node));
            Err(Failed::refused(
                error,
                "connect again; what was paid stays credited",
            ))
        }
        _ => Ok(()),
    }
}

/// The relay that is meant among those on the link.
fn choose(mut found: Vec<Discovered>, wanted: Option<NodeId>, cheapest: bool) -> Result<Discovered, Failed> {
    if let Some(wanted) = wanted {
        found.retain(|r| r.node.0 == wanted);
    }
    // One relay may answer from several addresses.
    let nodes: std::collections::BTreeSet<_> = found.iter().map(|r| r.node).collect();
    if nodes.len() > 1 && !cheapest {
        let error = format!("there are {} relays on the link", nodes.len());
        return Err(Failed::usage(error, "see `turnpike discover`, and name one"));
    }
    let price = |r: &Discovered| {
        let p = &r.prices;
        (
            p.up_msat_per_mib.max(p.down_msat_per_mib),
            p.msat_per_second,
            r.node,
        )
    };
    found.into_iter().min_by_key(price).ok_or_else(|| match wanted {
        Some(node) => Failed::refused(
            format!("relay {} was not found on the link", Hex(node)),
            "name its address as IDENTITY@HOST:PORT",
        ),
        None => Failed::refused(
            "no relay was found on the link",
            "name one as HOST:PORT, or set relay in [client] of turnpike.toml",
        ),
    })
}

/// Whether one address of a relay is to be preferred to another.
fn is_better(new: &Discovered, known: &Discovered) -> bool {
    let rank = |relay: &Discovered| relay.address.parse().map_or(u8::MAX, awkwardness);
    rank(new) < rank(known)
}

/// The addresses of `HOST:PORT` or `HOST`, those first that everything works over.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, Failed> {
    let found = tokio::time::timeout(ANSWER_WITHIN, tokio::net::lookup_host(with_port(address))).await;
    let unknown = |why: String| {
        Failed::refused(
            format!("{address} is not known ({why})"),
            "write HOST:PORT, or check the name",
        )
    };
    let places: Vec<SocketAddr> = match found {
        Ok(Ok(places)) => {
            let mut places: Vec<SocketAddr> = places.collect();
            places.sort_by_key(|place| awkwardness(*place));
            places
        }
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Err(_) => return Err(unknown("no name server answers".to_owned())),
    };
    if places.is_empty() {
        Err(unknown("it has no address".to_owned()))
    } else {
        Ok(places)
    }
}

/// Adds the usual port where none is named.
fn with_port(address: &str) -> String {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return SocketAddr::new(ip, DEFAULT_PORT).to_string();
    }
    if address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        return address.to_owned();
    }
    format!("{address}:{DEFAULT_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::BindingClass;
    use turnpike_protocol::base::{BlockHeight, ByteCount, Msat};

    fn relay(node: u8, price: u64) -> Discovered {
        Discovered {
            node: Hex(NodeId::from_bytes([node; 32])),
            address: format!("192.0.2.{node}:7473"),
            name: String::new(),
            prices: Prices {
                version: 1,
                valid_until_height: BlockHeight::new(100),
                up_msat_per_mib: Msat::new(1),
                down_msat_per_mib: Msat::new(price),
                msat_per_second: Msat::ZERO,
                free_bytes: ByteCount::ZERO,
                free_total_bytes: None,
                window_min_bytes: ByteCount::ZERO,
                window_max_bytes: ByteCount::ZERO,
                class: BindingClass::Address,
            },
        }
    }

    #[test]
    fn an_address_without_a_port_gets_the_usual_one() {
        assert_eq!(with_port("192.0.2.1"), "192.0.2.1:7473");
        assert_eq!(with_port("192.0.2.1:80"), "192.0.2.1:80");
        assert_eq!(with_port("fd00::1"), "[fd00::1]:7473");
        assert_eq!(with_port("[fd00::1]"), "[fd00::1]:7473");
        assert_eq!(with_port("[fd00::1]:80"), "[fd00::1]:80");
        assert_eq!(with_port("relay.example"), "relay.example:7473");
        assert_eq!(with_port("relay.example:80"), "relay.example:80");
    }

    #[test]
    fn nobody_is_chosen_among_several_unless_the_cheapest_will_do() {
        let found = vec![relay(1, 70), relay(2, 50), relay(3, 60)];
        assert!(choose(found.clone(), None, false).is_err());
        assert_eq!(
            choose(found.clone(), None, true).unwrap().node.0,
            NodeId::from_bytes([2; 32])
        );
        let third = NodeId::from_bytes([3; 32]);
        assert_eq!(choose(found, Some(third), false).unwrap().node.0, third);
    }

    #[test]
    fn an_address_of_the_link_alone_gives_way_to_another() {
        let at = |address: &str| Discovered {
            address: address.to_owned(),
            ..relay(1, 70)
        };
        let (scoped, plain) = (at("[fe80::1%2]:7473"), at("10.0.0.1:7473"));
        assert!(is_better(&plain, &scoped));
        assert!(!is_better(&scoped, &plain) && !is_better(&plain, &plain));
    }

    #[test]
    fn one_relay_with_two_addresses_is_one_relay() {
        let two = vec![
            relay(1, 70),
            Discovered {
                address: "[fd00::1]:7473".to_owned(),
                ..relay(1, 70)
            },
        ];
        assert!(choose(two, None, false).is_ok());
        assert!(choose(Vec::new(), None, true).is_err());
    }
}
