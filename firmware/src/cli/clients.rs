//! Clients by the beginning of their identities.

use super::arguments::Beginning;
use super::{Failure, Place, daemon};
use crate::control::{Hex, Request, Response};
use turnpike_protocol::base::NodeId;

/// The client that is meant. A whole identity is taken at its word, so that somebody can be blocked who was never here.
pub(super) fn find(place: &Place, named: &Beginning) -> Result<Hex<NodeId>, Failure> {
    if let Ok(client) = named.0.parse() {
        return Ok(client);
    }
    let Response::Clients { clients } = daemon::ask(place, Request::ClientList)? else {
        return Err(daemon::unexpected());
    };
    let known: Vec<Hex<NodeId>> = clients.iter().map(|c| c.client).collect();
    only(&known, &named.0)
}

fn only(known: &[Hex<NodeId>], beginning: &str) -> Result<Hex<NodeId>, Failure> {
    let mut meant = known
        .iter()
        .filter(|client| client.to_string().starts_with(beginning));
    match (meant.next(), meant.count()) {
        (Some(client), 0) => Ok(*client),
        (Some(_), more) => Err(Failure::usage(format!(
            "{} clients begin with {beginning}: say more of it, see `turnpike clients`",
            more + 1
        ))),
        (None, _) => Err(Failure::usage(format!(
            "no client begins with {beginning}: see `turnpike clients`, or say the whole identity"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_has_to_be_one_clients_alone() {
        let known: Vec<Hex<NodeId>> = ["ab01", "ab02", "cd00"]
            .map(|text| format!("{text}{}", "0".repeat(60)).parse().unwrap())
            .to_vec();
        assert_eq!(only(&known, "ab02").unwrap(), known[1]);
        assert_eq!(only(&known, "cd0").unwrap(), known[2]);
        assert!(only(&known, "ab0").is_err() && only(&known, "ef00").is_err());
    }
}
