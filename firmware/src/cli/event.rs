//! News for people: a sentence each. Programs take `--json`.

use super::amount::{bytes, grouped, msat, sat};
use super::show::short;
use crate::control::Event;
use std::collections::BTreeMap;

/// What was told last, so that nothing is told twice in a row.
#[derive(Default)]
pub(super) struct Told(BTreeMap<&'static str, String>);

impl Told {
    /// The line for this event; `None` if it says what was said before.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        let line = line(event);
        let Some(topic) = topic(event) else {
            return Some(line);
        };
        let before = self.0.insert(topic, line.clone());
        (before.as_ref() != Some(&line)).then_some(line)
    }
}

/// Events that are repeated while nothing changes, such as with every block.
fn topic(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Offer { .. } => "offer",
        Event::ChannelReady { .. } => "ready",
        Event::NeedChannel { .. } => "need",
        Event::Settling { .. } => "settling",
        Event::LeftOut { .. } => "left out",
        Event::Spent { .. } => "spent",
        Event::BroadcastRefused { .. } => "refused",
        Event::FundingFailed { .. } => "funding failed",
        Event::Chain { .. } => "chain",
        Event::Gate { .. } => "gate",
        _ => return None,
    })
}

/// One event, in one line.
pub(super) fn line(event: &Event) -> String {
    match event {
        Event::PeerReady { peer, .. } => format!("session with {peer}"),
        Event::PeerGone { peer, .. } => format!("the session with {peer} ended"),
        Event::PeerProblem { text, .. } => format!("the other side says: {}", quiet(text)),
        Event::Offer { relay, version } => {
            format!("relay {} told its prices, version {version}", short(relay))
        }
        Event::Funding { slot } => format!("channel {slot} was accepted and is being funded"),
        Event::Funded { slot, txid, fee_sat } => {
            format!(
                "channel {slot} is funded by {txid}, with a fee of {}",
                sat(*fee_sat)
            )
        }
        Event::FundingFailed {
            slot,
            available_sat,
            needed_sat,
        } => format!(
            "channel {slot} cannot be funded: the wallet has {} that can be spent, {} are needed with the fee",
            sat(*available_sat),
            sat(*needed_sat)
        ),
        Event::ChannelReady { slot, ceiling_msat } => format!(
            "the relay takes payments in channel {slot}, up to {} for now",
            msat(*ceiling_msat)
        ),
        Event::NeedChannel { relay, amount_msat } => format!(
            "the channel to relay {} is used up; what is left to buy costs {}",
            short(relay),
            msat(*amount_msat)
        ),
        Event::OverClaim {
            relay,
            claimed_bytes,
            counted_bytes,
        } => format!(
            "relay {} claims {} where {} were counted here, beyond the tolerance: nothing more is paid to it, and the \
             proof is kept",
            short(relay),
            bytes(*claimed_bytes),
            bytes(*counted_bytes)
        ),
        Event::Lost { slot, amount_msat } => {
            format!(
                "{} credited in channel {slot} will never come",
                msat(*amount_msat)
            )
        }
        Event::Settling { slots, txid, fee_sat } => {
            let list: Vec<String> = slots.iter().map(u32::to_string).collect();
            let many = if slots.len() == 1 { "" } else { "s" };
            format!(
                "the settlement of channel{many} {} is broadcast: {txid}, with a fee of {}",
                list.join(", "),
                sat(*fee_sat)
            )
        }
        Event::LeftOut {
            slot,
            paid_sat,
            last_call,
        } => {
            let what = if *last_call {
                "and is given up unless fees fall at once"
            } else {
                "and waits for lower fees"
            };
            format!(
                "channel {slot} would bring {}, less than its settlement costs now, {what}",
                sat(*paid_sat)
            )
        }
        Event::Spent {
            slot,
            txid,
            height: Some(height),
        } => format!(
            "channel {slot} is spent by {txid} at height {}",
            grouped(u64::from(height.value()))
        ),
        Event::Spent { slot, txid, .. } => {
            format!("channel {slot} is being spent by {txid}, not in a block yet")
        }
        Event::BroadcastRefused { slot, txid, text } => format!(
            "the chain back end refused {txid} of channel {slot}{}; it is sent again with the next block",
            text.as_ref()
                .map(|t| format!(" ({})", quiet(t)))
                .unwrap_or_default()
        ),
        Event::CopiedStore { peer } => format!(
            "{} knows a newer state of this store: this card is a copy, and its channels are being settled",
            short(peer)
        ),
        Event::Receipt { peer, sequence } => {
            format!("receipt {sequence} with {} is signed by both sides", short(peer))
        }
        Event::Chain { lit: true, height } => format!(
            "the chain back end answers, at height {}",
            grouped(u64::from(height.value()))
        ),
        Event::Chain { lit: false, .. } => "the chain back end does not answer".to_owned(),
        Event::Gate { works: true } => "the gate works".to_owned(),
        Event::Gate { works: false } => "the gate cannot be read or set: nobody is served".to_owned(),
        Event::Note { text } => quiet(text),
    }
}

/// Whatever a peer wrote stays on its line.
fn quiet(text: &str) -> String {
    text.replace(char::is_control, " ")
}
