//! What must hold, at every moment and in the end.

use super::world::{BOTH, CLIENT, FREE, MIB, RELAY, WINDOW_MAX, World, payout};
use turnpike_protocol::base::Msat;
use turnpike_protocol::node::{Input, Role};
use turnpike_protocol::wire::{Message, read_frame};

/// Something that has just left a node.
pub(super) enum Judged<'a> {
    Frame(&'a [u8]),
    Grant,
}

impl World {
    /// What leaves a node rests on its disk.
    pub fn judge(&self, who: usize, what: Judged<'_>) {
        let frame = match what {
            Judged::Grant => return self.check_gate(),
            Judged::Frame(frame) => frame,
        };
        let message = read_frame(frame).expect("a node sends frames that can be read");
        let total = |totals: &std::collections::BTreeMap<_, Msat>| {
            totals.values().copied().max().unwrap_or(Msat::ZERO)
        };
        match message {
            Message::Payment(m) => {
                let owed = total(&self.disks[who].owed);
                assert!(
                    m.total <= owed,
                    "a payment of {} leaves before it is on disk",
                    m.total
                );
            }
            Message::Resume(m) => {
                let owed = total(&self.disks[who].owed);
                assert!(
                    m.total <= owed,
                    "a total of {} leaves before it is on disk",
                    m.total
                );
            }
            Message::PaymentAck(m) => {
                let paid = total(&self.disks[who].paid);
                assert!(
                    m.total <= paid,
                    "{} is acknowledged before it is on disk",
                    m.total
                );
            }
            _ => {}
        }
    }

    /// Everything that holds between two operations.
    pub fn check(&mut self) {
        self.lost |= self.missing();
        self.check_gate();
        let signed: u64 = self.disks[CLIENT].owed.values().map(|t| t.value()).sum();
        assert!(
            signed <= self.allowed,
            "the client signed {signed} msat where {} were allowed",
            self.allowed
        );
        let window = price(200_000, WINDOW_MAX) + 1;
        let relay = self.nodes[RELAY].channels();
        for channel in self.nodes[CLIENT].channels() {
            let payee = relay.iter().find(|c| c.id.is_some() && c.id == channel.id);
            let Some(payee) = payee.filter(|c| c.role == Role::Payee) else {
                continue;
            };
            let (signed, held) = (channel.total.value(), payee.total.value());
            assert!(
                held.div_ceil(1_000) <= signed.div_ceil(1_000),
                "the payee holds {held} of {signed} signed"
            );
            let lost = matches!(payee.state, "over" | "refunded");
            assert!(
                self.lied[RELAY] || lost || signed <= held + window,
                "the client signed {signed}, the relay holds {held}: more than a window"
            );
        }
        for who in BOTH {
            let node = &self.nodes[who];
            let _ = (
                node.view(),
                node.exposures(),
                node.sold(),
                node.purchases(),
                node.unconfirmed(),
            );
            let _ = (node.accounts(self.now[who]), node.next_timeout());
        }
    }

    /// The gate is not open for more than was paid, given away, or forgotten.
    fn check_gate(&self) {
        if self.exempt {
            return;
        }
        let open: u64 = self.gate.values().map(|p| p.limit.max(p.up + p.down)).sum();
        let paid: u64 = self.disks[RELAY].paid.values().map(|t| t.value()).sum();
        let given = if self.free { FREE } else { 0 };
        let bought =
            u64::try_from(u128::from(paid) * u128::from(MIB) / u128::from(self.cheapest)).unwrap_or(u64::MAX);
        let most = bought
            .saturating_add(given)
            .saturating_add(self.forgotten * WINDOW_MAX);
        let granted = self.passed_before + open;
        assert!(
            granted <= most,
            "{granted} bytes are granted where {most} were paid ({paid} msat) or given"
        );
    }

    /// Whether money that was credited cannot be seen on the chain, so that nothing of it counts.
    pub fn missing(&self) -> bool {
        let relay = self.nodes[RELAY].channels();
        relay.iter().any(|c| c.state == "missing")
    }

    /// Whether at least 8 MiB were served, and a settlement is in a block.
    pub fn sold(&self) -> bool {
        let passed = self.passed_before + self.gate.values().map(|p| p.up + p.down).sum::<u64>();
        let settled = |tx: &bitcoin::Transaction| tx.output.iter().any(|o| o.script_pubkey == payout(RELAY));
        passed > 8 * MIB && self.confirmed.iter().any(|(tx, _)| settled(tx))
    }

    /// The end: both sides come up once more from their disks, meet, and every channel is brought to its end.
    pub fn finish(&mut self) {
        self.cut = None;
        self.hold = false;
        self.faults = Default::default();
        for who in BOTH {
            self.darken(who, false);
            self.restart(who, true, true);
        }
        self.check();
        self.link();
        self.give(RELAY, Input::GateRestored);
        self.check();
        self.mine(3, true);
        self.check();
    }
}

fn price(per_mib: u64, bytes: u64) -> u64 {
    per_mib * (bytes / MIB)
}
