//! The node's figures as the control protocol has them.

use crate::control::{self, Hex};
use turnpike_protocol::market::BuyerState;
use turnpike_protocol::node::{AccountView, ChannelView, Role};

/// A channel.
pub(super) fn channel(view: &ChannelView) -> control::Channel {
    control::Channel {
        slot: view.slot.0,
        channel: view.id.map(Hex),
        role: role(view.role),
        peer: Hex(view.peer),
        state: view.state.to_owned(),
        outcome: view.outcome.map(str::to_owned),
        ended_at_height: view.ended_at,
        capacity_sat: view.capacity,
        total_msat: view.total,
        expiry_height: view.expiry,
        settle_by_height: view.settle_by,
        outpoint: view.outpoint.map(Hex),
        funded_at_height: view.funded_at,
        spent_by: view.spent_by.map(Hex),
        funding_fee_sat: view.funding_fee,
        ceiling_msat: view.ceiling,
    }
}

/// Which side of a channel.
pub(super) fn role(role: Role) -> control::Role {
    match role {
        Role::Payer => control::Role::Payer,
        Role::Payee => control::Role::Payee,
    }
}

/// Whether a purchase is over, whatever came of it.
pub(super) fn is_over(state: BuyerState) -> bool {
    matches!(
        state,
        BuyerState::Idle | BuyerState::Done | BuyerState::Stopped(_)
    )
}

/// A client of this relay.
pub(super) fn client(view: &AccountView, address: Option<String>) -> control::Client {
    control::Client {
        client: Hex(view.client),
        standing: view.standing.into(),
        slot: view.paying.map(|s| s.0),
        serving: view.gate.is_some(),
        address,
        up_bytes: view.usage.up,
        down_bytes: view.usage.down,
        seconds: view.usage.seconds,
        cost_msat: view.usage.cost,
        paid_msat: view.usage.paid,
        granted_bytes: view.usage.granted,
        cut: view.usage.exhausted,
        debt_msat: view.debt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::market::StopReason;

    #[test]
    fn a_purchase_that_waits_is_not_over() {
        for state in [
            BuyerState::Preparing,
            BuyerState::Buying,
            BuyerState::Paid,
            BuyerState::Ceiling,
            BuyerState::ChannelUsedUp,
        ] {
            assert!(!is_over(state), "{state:?}");
        }
        assert!(is_over(BuyerState::Done) && is_over(BuyerState::Stopped(StopReason::User)));
    }
}
