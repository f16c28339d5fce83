//! Who may connect: bounds in all, per source and per identity, and what is half open.

use super::LinkLimits;
use super::bucket::Bucket;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;
use turnpike_protocol::base::{ConnectionId, NodeId};

/// Sources without connections that are remembered for their handshake rate before the settled ones are forgotten.
const REMEMBERED: usize = 4_096;

/// Why a connection is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many connections as there may be.
    #[error("all connections are taken: try again later")]
    Full,
    /// As many as one source may have.
    #[error("this source has as many connections as one may have")]
    SourceFull,
    /// Too many handshakes at once or in a short time.
    #[error("too many handshakes: try again in a few seconds")]
    TooFast,
}

/// Where a connection comes from, as coarse as an address is cheap to change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Source([u8; 16]);

impl Source {
    pub(super) fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(v4.to_ipv6_mapped().octets()),
            // All neighbours share the prefix of link-local addresses.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Source(v6.octets()),
            IpAddr::V6(v6) => {
                let mut octets = v6.octets();
                octets[8..].fill(0);
                Source(Ipv6Addr::from(octets).octets())
            }
        }
    }
}

/// Books of who is connected. Decides, and leaves the doing to its owner.
#[derive(Debug)]
pub(super) struct Admission {
    limits: LinkLimits,
    handshakes: Bucket,
    /// Incoming, oldest first.
    half_open: VecDeque<(ConnectionId, Source)>,
    connections: HashMap<ConnectionId, Source>,
    /// How many of them this node made.
    outgoing: usize,
    sources: HashMap<Source, SourceBook>,
    /// Sessions per identity, oldest first.
    peers: HashMap<NodeId, VecDeque<ConnectionId>>,
}

#[derive(Debug)]
struct SourceBook {
    connections: usize,
    half_open: usize,
    handshakes: Bucket,
}

impl Admission {
    pub(super) fn new(limits: LinkLimits, now: Instant) -> Admission {
        Admission {
            limits,
            handshakes: Bucket::full(limits.handshakes, now),
            half_open: VecDeque::new(),
            connections: HashMap::new(),
            outgoing: 0,
            sources: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// An incoming connection. When it may stay, another may have to go for it.
    pub(super) fn incoming(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        source: Source,
    ) -> Result<Option<ConnectionId>, Refusal> {
        let limits = self.limits;
        if self.sources.len() >= REMEMBERED {
            self.sources
                .retain(|_, book| book.connections > 0 || !book.handshakes.is_full(now));
        }
        let book = self.sources.entry(source).or_insert_with(|| SourceBook {
            connections: 0,
            half_open: 0,
            handshakes: Bucket::full(limits.handshakes_per_source, now),
        });
        if book.connections >= limits.connections_per_source || book.half_open >= limits.half_open_per_source
        {
            return Err(Refusal::SourceFull);
        }
        let kept = limits.outgoing.saturating_sub(self.outgoing);
        if self.connections.len().saturating_add(kept) >= limits.connections {
            return Err(Refusal::Full);
        }
        // The source first: one that floods must not use up what is there for all.
        if !book.handshakes.take(now) || !self.handshakes.take(now) {
            return Err(Refusal::TooFast);
        }
        book.connections += 1;
        book.half_open += 1;
        self.connections.insert(connection, source);
        let evicted = match self.half_open.len() >= limits.half_open {
            true => self.half_open.front().map(|(oldest, _)| *oldest),
            false => None,
        };
        if let Some(evicted) = evicted {
            self.settled(evicted);
        }
        self.half_open.push_back((connection, source));
        Ok(evicted)
    }

    /// A connection that this node makes.
    pub(super) fn outgoing(&mut self, connection: ConnectionId, source: Source) -> Result<(), Refusal> {
        if self.connections.len() >= self.limits.connections {
            return Err(Refusal::Full);
        }
        self.connections.insert(connection, source);
        self.outgoing += 1;
        Ok(())
    }

    /// The peer has proven who it is. Its oldest session has to go if it has too many.
    pub(super) fn established(&mut self, connection: ConnectionId, peer: NodeId) -> Option<ConnectionId> {
        self.settled(connection);
        let sessions = self.peers.entry(peer).or_default();
        sessions.push_back(connection);
        match sessions.len() > self.limits.sessions_per_peer {
            true => sessions.pop_front(),
            false => None,
        }
    }

    /// The connection is over.
    pub(super) fn gone(&mut self, connection: ConnectionId, incoming: bool, peer: Option<NodeId>) {
        self.settled(connection);
        let source = self.connections.remove(&connection);
        if source.is_some() && !incoming {
            self.outgoing = self.outgoing.saturating_sub(1);
        }
        if let (Some(source), true) = (source, incoming) {
            if let Some(book) = self.sources.get_mut(&source) {
                book.connections = book.connections.saturating_sub(1);
            }
        }
        if let Some(peer) = peer {
            if let Some(sessions) = self.peers.get_mut(&peer) {
                sessions.retain(|session| *session != connection);
                if sessions.is_empty() {
                    self.peers.remove(&peer);
                }
            }
        }
    }

    fn settled(&mut self, connection: ConnectionId) {
        let Some(at) = self.half_open.iter().position(|(id, _)| *id == connection) else {
            return;
        };
        let Some((_, source)) = self.half_open.remove(at) else {
            return;
        };
        if let Some(book) = self.sources.get_mut(&source) {
            book.half_open = book.half_open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::*;
    use std::net::Ipv4Addr;

    fn limits() -> LinkLimits {
        LinkLimits {
            connections: 10,
            outgoing: 0,
            connections_per_source: 4,
            half_open: 3,
            half_open_per_source: 2,
            handshakes_per_source: Rate {
                per_second: 1,
                burst: 5,
            },
            ..LinkLimits::default()
        }
    }

    fn source(n: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))
    }

    #[test]
    fn a_source_cannot_take_more_than_its_share() {
        let now = Instant::now();
        let mut books = Admission::new(limits(), now);
        let id = ConnectionId;
        assert_eq!(books.incoming(now, id(1), source(1)), Ok(None));
        assert_eq!(books.incoming(now, id(2), source(1)), Ok(None));
        assert_eq!(books.incoming(now, id(3), source(1)), Err(Refusal::SourceFull));
        books.established(id(1), NodeId::from_bytes([1; 32]));
        books.established(id(2), NodeId::from_bytes([2; 32]));
        assert_eq!(books.incoming(now, id(4), source(1)), Ok(None));
        assert_eq!(books.incoming(now, id(5), source(1)), Ok(None));
        books.established(id(4), NodeId::from_bytes([3; 32]));
        assert_eq!(books.incoming(now, id(6), source(1)), Err(Refusal::SourceFull));
        books.gone(id(1), true, Some(NodeId::from_bytes([1; 32])));
        // There is room again, and one handshake left of five.
        assert_eq!(books.incoming(now, id(7), source(1)), Ok(None));
        books.gone(id(7), true, None);
        assert_eq!(books.incoming(now, id(8), source(1)), Err(Refusal::TooFast));
        assert_eq!(books.incoming(now, id(9), source(2)), Ok(None));
    }

    #[test]
    fn the_oldest_half_open_one_makes_room() {
        let now = Instant::now();
        let mut books = Admission::new(limits(), now);
        for n in 1..=3 {
            assert_eq!(books.incoming(now, ConnectionId(n), source(n as u8)), Ok(None));
        }
        books.established(ConnectionId(2), NodeId::from_bytes([2; 32]));
        assert_eq!(books.incoming(now, ConnectionId(4), source(4)), Ok(None));
        assert_eq!(
            books.incoming(now, ConnectionId(5), source(5)),
            Ok(Some(ConnectionId(1)))
        );
        assert_eq!(
            books.incoming(now, ConnectionId(6), source(6)),
            Ok(Some(ConnectionId(3)))
        );
    }

    #[test]
    fn strangers_cannot_take_the_places_of_this_nodes_own_connections() {
        let now = Instant::now();
        let mut books = Admission::new(
            LinkLimits {
                outgoing: 2,
                half_open: 10,
                ..limits()
            },
            now,
        );
        for n in 1..=8 {
            assert_eq!(books.incoming(now, ConnectionId(n), source(n as u8)), Ok(None));
        }
        assert_eq!(
            books.incoming(now, ConnectionId(9), source(9)),
            Err(Refusal::Full)
        );
        for n in 10..=11 {
            assert_eq!(books.outgoing(ConnectionId(n), source(1)), Ok(()));
        }
        assert_eq!(books.outgoing(ConnectionId(12), source(1)), Err(Refusal::Full));
        books.gone(ConnectionId(10), false, None);
        assert_eq!(
            books.incoming(now, ConnectionId(13), source(13)),
            Err(Refusal::Full),
            "its place stays this node's"
        );
        assert_eq!(books.outgoing(ConnectionId(14), source(1)), Ok(()));
    }

    #[test]
    fn a_third_session_of_an_identity_ends_the_first() {
        let now = Instant::now();
        let mut books = Admission::new(LinkLimits::default(), now);
        let peer = NodeId::from_bytes([7; 32]);
        for n in 1..=3 {
            books.incoming(now, ConnectionId(n), source(n as u8)).unwrap();
            let ended = books.established(ConnectionId(n), peer);
            assert_eq!(ended, (n == 3).then_some(ConnectionId(1)));
        }
    }

    #[test]
    fn the_books_forget_sources_that_have_settled() {
        let now = Instant::now();
        let mut books = Admission::new(
            LinkLimits {
                handshakes: Rate {
                    per_second: 1_000_000,
                    burst: 1_000_000,
                },
                ..LinkLimits::default()
            },
            now,
        );
        for n in 0..20_000u32 {
            let address = IpAddr::V4(Ipv4Addr::from(n));
            let later = now + std::time::Duration::from_millis(u64::from(n) * 10);
            books
                .incoming(later, ConnectionId(n.into()), Source::of(address))
                .unwrap();
            books.gone(ConnectionId(n.into()), true, None);
        }
        assert!(books.sources.len() <= REMEMBERED + 1);
        assert!(books.connections.is_empty() && books.half_open.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_source_but_neighbours_are_not() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("fe80::1"), of("fe80::2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
