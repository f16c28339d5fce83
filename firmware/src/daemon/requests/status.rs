//! The node as a whole.

use super::{Desk, figures, price};
use crate::config::ChainBackend;
use crate::control::{Failed, Hex, Purchase, RelayStatus, Response, SessionStatus, Status, amount};
use std::time::Duration;
use turnpike_protocol::base::{BlockHeight, ConnectionId, Msat, NodeId};
use turnpike_protocol::node::NodeView;

/// How long the wallet is waited for: a status is wanted most when something hangs.
const WALLET_WITHIN: Duration = Duration::from_secs(2);

impl Desk {
    pub(super) async fn status(&self) -> Result<Response, Failed> {
        let wallet = tokio::time::timeout(WALLET_WITHIN, self.coins()).await;
        let wallet_hangs = !matches!(wallet, Ok(Ok(_)));
        let now = self.now();
        let look = self
            .core
            .look(move |n| {
                let clients = n.accounts(now);
                // A client whose credit is used up is bound, and nothing of it passes.
                let serving = clients
                    .iter()
                    .filter(|c| c.gate.is_some() && !c.usage.exhausted)
                    .count();
                let channels = n.channels().iter().filter(|c| c.state != "over").count();
                let selling = price::in_force(n).map(|prices| (prices, serving, clients.len()));
                (
                    n.view(),
                    n.fee_rate(),
                    selling,
                    channels,
                    n.purchases(),
                    n.unconfirmed(),
                )
            })
            .await?;
        let (view, fee_rate, selling, channels, purchases, unconfirmed) = look;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let relay = selling.map(|(prices, serving, clients)| RelayStatus {
            listen: self.config.relay.listen.to_string(),
            gate_works: !view.gate_down,
            serving: count(serving),
            clients: count(clients),
            prices,
        });
        let addresses = self.addresses().await?;
        let card = self.core.store(|s| s.card()).await?;
        let card = card.map_err(Failed::from_error)?;
        let session = |(connection, peer): &(ConnectionId, NodeId)| SessionStatus {
            connection: connection.0,
            peer: Hex(*peer),
            address: addresses.get(connection).map(ToString::to_string),
        };
        let coins = wallet.ok().and_then(Result::ok).flatten();
        let mut warnings = warnings(&view, relay.is_some(), unconfirmed);
        if wallet_hangs {
            warnings.push("the wallet does not answer: the chain back end is slow or down".to_owned());
        }
        Ok(Response::Status(Box::new(Status {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            node: Hex(view.id),
            network: self.config.chain.network.to_string(),
            genesis: Hex(self.genesis),
            play_money: self.config.chain.backend == ChainBackend::Play,
            height: view.height,
            lit: view.lit,
            fee_rate_sat_per_kvb: fee_rate,
            generation: view.generation,
            card: card.to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            wallet_sat: coins.map(|c| c.confirmed),
            wallet_unconfirmed_sat: coins.map(|c| c.unconfirmed),
            relay,
            sessions: view.sessions.iter().map(session).collect(),
            channels: count(channels),
            purchases: purchases
                .iter()
                .filter(|(_, v)| !figures::is_over(v.state))
                .map(|(relay, v)| Purchase::new(*relay, v))
                .collect(),
            warnings,
        })))
    }
}

/// What the owner should know.
fn warnings(view: &NodeView, sells: bool, (unconfirmed, bound): (Msat, Msat)) -> Vec<String> {
    let mut warnings = Vec::new();
    if view.height == BlockHeight::ZERO {
        warnings.push(
            "the chain's height is not known yet: channels can be neither opened nor accepted".to_owned(),
        );
    } else if !view.lit {
        warnings.push(
            "the chain back end does not answer: no channel is accepted, and credit is limited".to_owned(),
        );
    }
    if sells && view.gate_down {
        warnings.push("the gate cannot be read or set: nobody is served, run `turnpike doctor`".to_owned());
    }
    if sells && !view.uncounted.is_empty() {
        warnings.push(format!(
            "the gate could not close {} bindings, which are not billed to their end yet: run `turnpike doctor`",
            view.uncounted.len()
        ));
    }
    if sells && unconfirmed >= bound {
        warnings.push(format!(
            "unconfirmed credit is used up ({} of {}): new clients wait for blocks",
            amount::msat(unconfirmed),
            amount::msat(bound)
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_the_dark_says_so_and_a_healthy_one_is_silent() {
        let view = NodeView {
            id: NodeId::from_bytes([1; 32]),
            height: BlockHeight::new(100),
            lit: true,
            generation: 1,
            sessions: Vec::new(),
            gate_down: false,
            uncounted: Vec::new(),
        };
        let fine = (Msat::ZERO, Msat::new(1));
        assert!(warnings(&view, true, fine).is_empty());
        assert_eq!(
            warnings(
                &NodeView {
                    lit: false,
                    ..view.clone()
                },
                true,
                fine
            )
            .len(),
            1
        );
        let down = NodeView {
            gate_down: true,
            ..view.clone()
        };
        assert_eq!(
            (
                warnings(&down, true, fine).len(),
                warnings(&down, false, fine).len()
            ),
            (1, 0)
        );
        let uncounted = NodeView {
            uncounted: vec![view.id],
            ..view.clone()
        };
        assert_eq!(warnings(&uncounted, true, fine).len(), 1);
        assert_eq!(warnings(&view, true, (Msat::new(1), Msat::new(1))).len(), 1);
    }
}
