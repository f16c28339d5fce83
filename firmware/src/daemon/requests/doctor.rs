//! What the daemon finds wrong with itself and its surroundings. Changes nothing.

use super::Desk;
use crate::config::ConfigError;
use crate::control::{Check, CheckState, Failed, Hex, Response, amount};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use turnpike_protocol::base::{BlockHeight, FeeRate, Sat};
use turnpike_protocol::node::{ChannelView, NodeView, Role};

/// A clock that shows less was never set: 2026-01-01, seconds since 1970.
const CLOCK_MIN: u64 = 1_767_225_600;
/// Fee rate from which small channels are not worth opening, 25 sat/vB: a fifth of the default capacity.
const DEAR: FeeRate = FeeRate::new(25_000);

impl Desk {
    pub(super) async fn doctor(&self) -> Result<Response, Failed> {
        let (view, rate, channels, restored) = {
            let (view, rate, channels) = self.core.look(|n| (n.view(), n.fee_rate(), n.channels())).await?;
            (view, rate, channels, self.core.store(|s| s.restored()).await?)
        };
        let wallet = self.spendable().await;
        let mut checks = vec![
            configured("data folder", self.config.check_data_dir()),
            match restored {
                Ok(false) => good("store", "readable".to_owned()),
                Ok(true) => poor(
                    "store",
                    "restored from a backup",
                    "its channels are being settled; keep the daemon running",
                ),
                Err(error) => bad("store", error, "restore it from a backup"),
            },
            chain(&view),
            match rate {
                rate if rate >= DEAR => poor(
                    "fees",
                    amount::rate(rate),
                    "wait with opening and closing small channels",
                ),
                rate => good("fees", amount::rate(rate)),
            },
            match &wallet {
                Ok(Some(Sat::ZERO)) if self.config.relay.enabled => {
                    good("wallet", "empty, which selling does not need")
                }
                Ok(Some(Sat::ZERO)) => poor("wallet", "empty", "send coins to `turnpike wallet address`"),
                Ok(Some(balance)) => good("wallet", format!("{} can be spent", amount::sat(*balance))),
                Ok(None) => poor("wallet", "none", "start with a seed: `turnpike init`"),
                Err(failed) => bad("wallet", &failed.error, &failed.remedy),
            },
            clock(SystemTime::now()),
            settled_in_time(&channels, view.height),
        ];
        if self.config.relay.enabled {
            checks.push(configured("interfaces", self.config.check_interfaces()));
            checks.push(configured("firewall", self.config.check_gate()));
            checks.push(gate(&view));
        } else {
            if !self.config.client.auto {
                checks.push(good(
                    "market",
                    "sells nothing, and buys when `turnpike buy` says so; to sell, set enabled = true under [relay]",
                ));
            }
            checks.push(match view.sessions.len() {
                0 => poor(
                    "relay",
                    "no session with any",
                    "see `turnpike discover`, or connect with `turnpike connect`",
                ),
                n => good("relay", format!("{n} sessions")),
            });
        }
        Ok(Response::Checks { checks })
    }
}

fn chain(view: &NodeView) -> Check {
    match (view.lit, view.height) {
        (true, height) => good("chain", format!("answers, height {height}")),
        (false, BlockHeight::ZERO) => bad(
            "chain",
            "never answered since the start",
            "check url and cookie, or user and password, in [chain] of turnpike.toml, and that the back end runs",
        ),
        (false, height) => bad(
            "chain",
            format!("does not answer since height {height}"),
            "start the back end, or look at its log",
        ),
    }
}

fn gate(view: &NodeView) -> Check {
    match (view.gate_down, view.uncounted.len()) {
        (true, _) => bad(
            "gate",
            "cannot be read or set, so nobody is served",
            "see the daemon's log, then restart it",
        ),
        (false, 0) => good("gate", "can be read and set"),
        (false, n) => bad(
            "gate",
            format!(
                "could not close {n} bindings, so their last bytes are not billed yet: {}",
                names(view)
            ),
            "it is tried again every minute; see the daemon's log for what nft says, a restart counts them too",
        ),
    }
}

fn names(view: &NodeView) -> String {
    let names: Vec<String> = view.uncounted.iter().map(|c| Hex(*c).to_string()).collect();
    names.join(", ")
}

fn clock(now: SystemTime) -> Check {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    if seconds >= CLOCK_MIN {
        good("clock", "set")
    } else {
        poor(
            "clock",
            "was never set",
            "nothing but the dates of sales needs it; sales are listed by height meanwhile",
        )
    }
}

/// A payee that does not settle before the expiry loses what it was paid.
fn settled_in_time(channels: &[ChannelView], height: BlockHeight) -> Check {
    let open =
        |c: &&ChannelView| c.role == Role::Payee && c.outpoint.is_some() && !super::channel::is_settled(c);
    let late: Vec<String> = channels
        .iter()
        .filter(open)
        .filter(|c| height >= c.settle_by)
        .map(|c| c.slot.0.to_string())
        .collect();
    match late.len() {
        0 => good("channels", "none has to be settled at once"),
        _ => bad(
            "channels",
            format!(
                "past the height by which they must be settled: {}",
                late.join(", ")
            ),
            "raise the fee of their settlement: `turnpike channel raise`",
        ),
    }
}

fn configured(name: &str, result: Result<(), ConfigError>) -> Check {
    match result {
        Ok(()) => good(name, "as configured"),
        Err(error) => {
            let Failed { error, remedy, .. } = Failed::from_error(error);
            bad(name, error, remedy)
        }
    }
}

fn good(name: &str, found: impl ToString) -> Check {
    check(name, CheckState::Good, found, "")
}

fn poor(name: &str, found: impl ToString, remedy: impl ToString) -> Check {
    check(name, CheckState::Poor, found, remedy)
}

fn bad(name: &str, found: impl ToString, remedy: impl ToString) -> Check {
    check(name, CheckState::Bad, found, remedy)
}

fn check(name: &str, state: CheckState, found: impl ToString, remedy: impl ToString) -> Check {
    Check {
        name: name.to_owned(),
        state,
        found: found.to_string(),
        remedy: remedy.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::{Msat, NodeId, Outpoint, Slot, Txid};

    #[test]
    fn a_payee_past_its_height_is_told_to_hurry() {
        let channel = ChannelView {
            slot: Slot(7),
            id: None,
            role: Role::Payee,
            peer: NodeId::from_bytes([1; 32]),
            capacity: Sat::new(50_000),
            total: Msat::ZERO,
            expiry: BlockHeight::new(1_000),
            settle_by: BlockHeight::new(892),
            outpoint: Some(Outpoint {
                txid: Txid::from_bytes([2; 32]),
                vout: 0,
            }),
            funded_at: None,
            state: "closing",
            outcome: None,
            ended_at: None,
            spent_by: None,
            funding_fee: Sat::ZERO,
            ceiling: Msat::ZERO,
        };
        let state = |channel: &ChannelView, height| {
            settled_in_time(std::slice::from_ref(channel), BlockHeight::new(height)).state
        };
        assert_eq!(state(&channel, 891), CheckState::Good);
        assert_eq!(state(&channel, 892), CheckState::Bad);
        assert_eq!(
            state(
                &ChannelView {
                    state: "settled",
                    ..channel.clone()
                },
                892
            ),
            CheckState::Good
        );
        assert_eq!(
            state(
                &ChannelView {
                    role: Role::Payer,
                    ..channel
                },
                892
            ),
            CheckState::Good
        );
    }

    #[test]
    fn a_gate_that_cannot_close_a_binding_is_named_with_the_client() {
        let client = NodeId::from_bytes([7; 32]);
        let mut view = NodeView {
            id: NodeId::from_bytes([1; 32]),
            height: BlockHeight::new(100),
            lit: true,
            generation: 1,
            sessions: Vec::new(),
            gate_down: false,
            uncounted: Vec::new(),
        };
        assert_eq!(gate(&view).state, CheckState::Good);
        view.uncounted.push(client);
        let check = gate(&view);
        assert_eq!(check.state, CheckState::Bad);
        assert!(check.found.contains(&Hex(client).to_string()), "{}", check.found);
        view.gate_down = true;
        assert!(gate(&view).found.contains("nobody is served"));
    }

    #[test]
    fn a_clock_in_1970_is_noticed() {
        assert_eq!(clock(UNIX_EPOCH).state, CheckState::Poor);
        assert_eq!(
            clock(UNIX_EPOCH + Duration::from_secs(CLOCK_MIN)).state,
            CheckState::Good
        );
    }
}
