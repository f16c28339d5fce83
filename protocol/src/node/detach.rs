//! Closing attachments of the gate: each is counted for the last time before its place is free again.
//!
//! A gate that fails to close one may still let its packets pass, up to what was granted, and still counts them. So
//! the attachment stands, and is tried again with growing pauses for as long as the node runs: a reading error is
//! never zero use. Only when the kernel knows nothing of it any more is the rest given up and the owner told.

use super::record::{Table, put};
use super::{Action, GateReading, Node};
use crate::base::{Duration, Instant, NodeId};
use crate::market::AccountInput;
use alloc::vec::Vec;

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: what starts a program once a minute wears nothing out, and the owner sees a repair soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An attachment that could not be closed.
#[derive(Clone, Copy)]
pub(super) struct Detaching {
    /// When it is tried again.
    at: Instant,
    /// The pause before that.
    pause: Duration,
}

impl Node {
    /// The gate closed an attachment: its last reading, or none if the kernel knows nothing of it any more.
    pub(super) fn detached(&mut self, now: Instant, number: u16, last: Option<GateReading>) {
        let Some(id) = self.attachments.get(&number).copied() else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (attachment, read) = (client.attachments, core::mem::take(&mut client.reading));
        let input = match last {
            Some(r) => AccountInput::Reading {
                attachment,
                read,
                up: r.up,
                down: r.down,
                exhausted: r.exhausted,
            },
            None => AccountInput::ReadFailed { attachment, read },
        };
        self.account(now, id, input);
        // What the last reading would grant goes to the next attachment: this one is gone.
        self.actions
            .retain(|a| !matches!(a, Action::Grant { client, .. } if *client == number));
        self.attachments.remove(&number);
        self.detaching.remove(&number);
        if let Some(client) = self.clients.get_mut(&id) {
            client.gate = None;
            client.attached = false;
            let write = put(Table::Client, id.as_bytes(), &client.record());
            self.persist(write);
            self.attach_or_refuse(id);
        }
    }

    /// The gate could not close an attachment: nothing is known of its use since the reading before.
    pub(super) fn detach_failed(&mut self, now: Instant, number: u16) {
        if !self.attachments.contains_key(&number) {
            return;
        }
        let pause = self
            .detaching
            .get(&number)
            .map_or(FIRST_PAUSE, |d| (d.pause + d.pause).min(LONGEST_PAUSE));
        self.detaching.insert(
            number,
            Detaching {
                at: now + pause,
                pause,
            },
        );
    }

    pub(super) fn next_detach(&self) -> Option<Instant> {
        self.detaching.values().map(|d| d.at).min()
    }

    pub(super) fn tick_detaches(&mut self, now: Instant) {
        for (number, detaching) in self.detaching.iter_mut().filter(|(_, d)| d.at <= now) {
            // The answer sets the next time; should it never come, the pause before it holds.
            detaching.at = now + detaching.pause;
            self.actions.push_back(Action::Detach { client: *number });
        }
    }

    pub(super) fn uncounted(&self) -> Vec<NodeId> {
        self.detaching
            .keys()
            .filter_map(|number| self.attachments.get(number).copied())
            .collect()
    }
}
