//! Where chain events meet channels, and what channels want is turned into actions.

use super::record::{JournalEntry, Table, journal, put, slot_key};
use super::{Action, Event, Node};
use crate::base::limits::LOOK_GAP;
use crate::base::{BlockHeight, ConnectionId, Instant, Msat, NodeId, Outpoint, Slot};
use crate::crypto::Role;
use crate::money::chain::{ChainAction, ChainEvent};
use crate::money::channel::tx::{Claim, RecoveryData, Refund, RemainderScript, is_refund};
use crate::money::channel::{
    Candidate, PayeeAction, PayeeError, PayeeInput, PayeeRecord, PayeeState, Payer, PayerAction, PayerError,
    PayerInput, PayerState, SettlerAction, TakenBack,
};
use crate::wire::{CloseNotice, CloseRequest, Ext, Funded, Payment, Signature};
use alloc::vec::Vec;
use bitcoin::consensus::encode::serialize;
use heapless::Vec as Bounded;

impl Node {
    pub(super) fn chain_event(&mut self, now: Instant, event: ChainEvent) {
        match event {
            ChainEvent::Tip { height } => self.tip(now, height),
            ChainEvent::Reorg { height } => {
                self.height = self.height.min(height);
                self.every_payee(now, PayeeInput::Reorg { height });
                self.every_payer(|| PayerInput::Reorg { height });
            }
            ChainEvent::Dark => {
                self.lit = false;
                self.every_payee(now, PayeeInput::Dark);
                self.say_ready(None);
            }
            ChainEvent::FeeRate { rate } => self.rate = rate,
            ChainEvent::Funded {
                slot,
                outpoint,
                value,
                height,
            } => {
                let before = self.ceilings(slot);
                let funded = PayeeInput::Funded {
                    outpoint,
                    value,
                    height,
                };
                if height.is_none() || self.is_free(slot, outpoint, true) {
                    let _ = self.payee(now, slot, funded);
                }
                if let Some(payee) = self.payees.get(&slot).filter(|p| p.is_seen()) {
                    let peer = payee.record().peer;
                    self.remember(&peer);
                }
                let _ = self.payer(slot, PayerInput::Funded { outpoint, height });
                if self.ceilings(slot) != before {
                    self.say_ready(Some(slot));
                }
            }
            ChainEvent::Unfunded { slot, outpoint } => {
                let _ = self.payee(now, slot, PayeeInput::Unfunded { outpoint });
            }
            ChainEvent::Spent {
                slot,
                outpoint,
                txid,
                tx,
                height,
            } => self.spent(now, slot, outpoint, txid, &tx, height),
            ChainEvent::Recovery { tx, height } => self.recover(&tx, height),
            ChainEvent::FundingBuilt {
                slot,
                outpoint,
                fee,
                tx,
            } => {
                match self.payer(
                    slot,
                    PayerInput::FundingBuilt {
                        outpoint,
                        fee,
                        tx: &tx,
                    },
                ) {
                    Ok(()) => self.notify(Event::Funded {
                        slot,
                        txid: outpoint.txid,
                        fee,
                    }),
                    Err(_) => {
                        let _ = self.payer(slot, PayerInput::Abandon);
                    }
                }
            }
            ChainEvent::FundingFailed {
                slot,
                available,
                needed,
            } => {
                let _ = self.payer(slot, PayerInput::Abandon);
                self.notify(Event::FundingFailed {
                    slot,
                    available,
                    needed,
                });
            }
            ChainEvent::Broadcast { slot, txid, accepted } => {
                if !accepted {
                    self.notify(Event::BroadcastRefused { slot, txid });
                }
            }
        }
    }

    fn tip(&mut self, now: Instant, height: BlockHeight) {
        self.height = height;
        self.lit = true;
        self.every_payee(now, PayeeInput::Lit);
        self.every_payee(now, PayeeInput::Height { height });
        self.every_payer(|| PayerInput::Height { height });
        if self
            .settler
            .height(&self.keys, &self.verifier, self.rate, height)
            .is_err()
        {
            crate::warn!("a settlement could not be raised; it stays as it was broadcast");
        }
        self.drain_settler();
        self.say_ready(None);
        self.renew_sheet(now);
    }

    /// The height that a peer's headers prove: payees settle earlier by it, and stay dark (money.md rule 15).
    pub(super) fn minimum_height(&mut self, now: Instant, height: BlockHeight) {
        if height > self.height {
            self.height = height;
            self.every_payee(now, PayeeInput::Height { height });
        }
    }

    fn spent(
        &mut self,
        now: Instant,
        slot: Slot,
        outpoint: Outpoint,
        txid: crate::base::Txid,
        tx: &[u8],
        height: Option<BlockHeight>,
    ) {
        let payee = self
            .payees
            .get(&slot)
            .filter(|p| p.record().outpoint == Some(outpoint));
        if let Some(payee) = payee {
            let back = self.taken_back(payee.record(), outpoint, tx);
            self.settler.spent(slot, txid, height.is_some());
            let _ = self.payee(now, slot, PayeeInput::Spent { txid, height, back });
        }
        let is_remainder = |p: &Payer| match (p.record().state, p.record().remainder) {
            (PayerState::Sweeping { txid, .. }, Some((vout, _))) => outpoint == Outpoint { txid, vout },
            _ => false,
        };
        if self.payers.get(&slot).is_some_and(is_remainder) {
            let _ = self.payer(slot, PayerInput::Swept { height });
            return;
        }
        if self
            .payers
            .get(&slot)
            .is_some_and(|p| p.record().outpoint == Some(outpoint))
        {
            let _ = self.payer(slot, PayerInput::Spent { txid, tx, height });
            self.buyer_left(now, slot);
        }
        self.notify(Event::Spent { slot, txid, height });
    }

    /// What becomes of the use if this spend is the payer's refund: only possible from the expiry on, where we failed
    /// to settle in time, or where that would have brought nothing.
    fn taken_back(&self, record: &PayeeRecord, outpoint: Outpoint, tx: &[u8]) -> Option<TakenBack> {
        let tx = bitcoin::consensus::encode::deserialize(tx).ok()?;
        is_refund(&record.terms, outpoint, &tx).then_some(())?;
        let worth_it = record.total.to_sat_ceil() >= self.least_settlement();
        Some(if worth_it {
            TakenBack::Owed
        } else {
            TakenBack::GivenUp
        })
    }

    fn every_payee(&mut self, now: Instant, input: PayeeInput) {
        let slots: Vec<Slot> = self.payees.keys().copied().collect();
        for slot in slots {
            let _ = self.payee(now, slot, input);
        }
    }

    fn every_payer<'a>(&mut self, input: impl Fn() -> PayerInput<'a>) {
        let slots: Vec<Slot> = self.payers.keys().copied().collect();
        for slot in slots {
            let _ = self.payer(slot, input());
        }
    }

    /// Feeds a payee and turns what it wants into actions. Gives the newest total if it was credited.
    pub(super) fn payee(
        &mut self,
        now: Instant,
        slot: Slot,
        input: PayeeInput,
    ) -> Result<Option<Msat>, PayeeError> {
        let Some(policy) = self
            .selling
            .as_ref()
            .map(|s| s.config.policy)
            .or(Some(Default::default()))
        else {
            return Ok(None);
        };
        let Some(payee) = self.payees.get_mut(&slot) else {
            return Ok(None);
        };
        let (before, was) = (payee.counted(), payee.record().state);
        let mut lost = None;
        let result = payee.handle(&policy, &self.verifier, input);
        let mut credited = None;
        while let Some(action) = payee.poll_action() {
            let record = payee.record();
            match action {
                PayeeAction::Persist => {
                    self.actions
                        .push_back(Action::Persist(put(Table::Payee, &slot_key(slot), record)));
                }
                PayeeAction::PersistPayment => {
                    let entry = JournalEntry {
                        slot,
                        total: record.total,
                        signature: record.signature,
                    };
                    self.actions.push_back(Action::Persist(journal(&entry)));
                    self.journalled.insert(slot);
                }
                PayeeAction::Credited { total } => credited = Some(total),
                PayeeAction::Settle => self.settle_queue.push(slot),
                PayeeAction::Lost { amount, back } => {
                    lost = Some((amount, back));
                    self.actions
                        .push_back(Action::Notify(Event::Lost { slot, amount }));
                }
                PayeeAction::Forget => self
                    .actions
                    .push_back(Action::Chain(ChainAction::Unwatch { slot })),
            }
        }
        let over = payee.record().state == PayeeState::Over && was != PayeeState::Over;
        let record = payee.record();
        if over && record.funded_at.is_none() && record.total == Msat::ZERO && lost.is_none() {
            // Nothing was ever paid or funded: strangers leave no row behind.
            self.drop_acceptance(slot);
            return result.map(|()| credited);
        }
        if payee.counted() != before || over {
            self.total_changed(now, slot);
        }
        if let Some((amount, back)) = lost {
            self.money_lost(now, slot, amount, back);
        }
        if over {
            self.retire_payee(slot, was, lost);
        }
        result.map(|()| credited)
    }

    /// Feeds a payer and turns what it wants into actions.
    pub(super) fn payer(&mut self, slot: Slot, input: PayerInput<'_>) -> Result<(), PayerError> {
        let Some(payer) = self.payers.get_mut(&slot) else {
            return Ok(());
        };
        let was = payer.record().state;
        let result = payer.handle(&self.verifier, input);
        self.drain_payer(slot);
        if self
            .payers
            .get(&slot)
            .is_some_and(|p| p.record().state == PayerState::Over)
        {
            self.retire_payer(slot, was);
        }
        result
    }

    pub(super) fn drain_payer(&mut self, slot: Slot) {
        let Some(payer) = self.payers.get_mut(&slot) else {
            return;
        };
        let mut wants = Bounded::<PayerAction, 8>::new();
        while let Some(action) = payer.poll_action() {
            let _ = wants.push(action);
        }
        for action in wants {
            self.payer_action(slot, action);
        }
    }

    fn payer_action(&mut self, slot: Slot, action: PayerAction) {
        let Some(payer) = self.payers.get(&slot) else {
            return;
        };
        let record = payer.record();
        match action {
            PayerAction::Persist => {
                let write = put(Table::Payer, &slot_key(slot), record);
                self.persist(write);
            }
            PayerAction::Fund => {
                let Ok(script) = record.terms.funding_output(self.verifier.context()) else {
                    return;
                };
                let data = RecoveryData {
                    payee_key: record.terms.payee_key,
                    expiry: record.terms.expiry,
                    key_index: record.key_index,
                };
                let fund = ChainAction::Fund {
                    slot,
                    output_key: script.output_key,
                    value: record.terms.capacity,
                    rate: self.rate,
                    recovery: data.to_bytes(),
                };
                self.watch_payer(slot);
                self.chain(fund);
            }
            PayerAction::Broadcast => {
                let tx = record.funding_tx.clone();
                let peer = record.peer;
                self.chain(ChainAction::Broadcast { slot, tx });
                if let Some(connection) = self.connection_of(&peer) {
                    self.send_funded(connection, slot);
                }
            }
            PayerAction::SendPayment => self.send_payment(slot),
            PayerAction::SendClose => {
                if let (Some(connection), Some(channel)) = (self.connection_of(&record.peer), payer.id()) {
                    self.send(
                        connection,
                        CloseRequest {
                            channel,
                            ext: Ext::default(),
                        },
                    );
                }
            }
            PayerAction::Refund => self.refund(slot),
            PayerAction::SweepRemainder => self.sweep(slot),
            PayerAction::WatchRemainder => self.watch_payer(slot),
            PayerAction::Forget => self.chain(ChainAction::Unwatch { slot }),
        }
    }

    pub(super) fn send_funded(&mut self, connection: ConnectionId, slot: Slot) {
        let Some(record) = self.payers.get(&slot).map(|p| p.record()) else {
            return;
        };
        let Some(outpoint) = record.outpoint else { return };
        // A funding too large for one frame goes to the chain only; the payee sees it there.
        let tx = Bounded::from_slice(&record.funding_tx).unwrap_or_default();
        let payer_key = NodeId::from_bytes(record.terms.payer_key);
        self.send(
            connection,
            Funded {
                payer_key,
                outpoint,
                tx,
                ext: Ext::default(),
            },
        );
    }

    /// The newest payment's signature: deterministic, so saying it again is the same payment.
    pub(super) fn payment_signature(&self, slot: Slot) -> Option<Signature> {
        let payer = self.payers.get(&slot)?;
        let record = payer.record();
        let keys = self.keys.channel(Role::Payer, record.key_index).ok()?;
        let signed = payer.digest()?.sign_payment(
            self.keys.signer().context(),
            &keys.funding,
            record.total.to_sat_ceil(),
        );
        signed.ok().map(Signature)
    }

    pub(super) fn send_payment(&mut self, slot: Slot) {
        let Some(record) = self.payers.get(&slot).map(|p| p.record()) else {
            return;
        };
        let (peer, total) = (record.peer, record.total);
        let Some(connection) = self.connection_of(&peer) else {
            return;
        };
        let Some((short, sheet)) = self
            .connections
            .get(&connection)
            .and_then(|p| p.payment_names(slot))
        else {
            return;
        };
        let Some(signature) = self.payment_signature(slot) else {
            return;
        };
        self.send(
            connection,
            Payment {
                channel: short,
                account: super::ACCESS,
                sheet,
                total,
                signature,
            },
        );
    }

    fn refund(&mut self, slot: Slot) {
        let Some(tx) = self.refund_transaction(slot, self.rate) else {
            return;
        };
        self.chain(ChainAction::Broadcast { slot, tx });
    }

    /// The signed refund of a funded channel, for broadcast at its expiry or for `refund export`.
    pub fn refund_transaction(&self, slot: Slot, rate: crate::base::FeeRate) -> Option<Vec<u8>> {
        let record = self.payers.get(&slot)?.record();
        let context = self.verifier.context();
        let refund = Refund::new(context, &record.terms, record.outpoint?, record.terms.capacity).ok()?;
        let keys = self.keys.channel(Role::Payer, record.key_index).ok()?;
        let tx = refund
            .sign(
                self.keys.signer().context(),
                &keys.funding,
                self.config.payout.clone(),
                rate,
            )
            .ok()?;
        Some(serialize(&tx))
    }

    fn sweep(&mut self, slot: Slot) {
        let Some(record) = self.payers.get(&slot).map(|p| p.record()) else {
            return;
        };
        let (Some((vout, value)), PayerState::Spent { txid, .. } | PayerState::Sweeping { txid, .. }) =
            (record.remainder, record.state)
        else {
            return;
        };
        let Ok(keys) = self.keys.channel(Role::Payer, record.key_index) else {
            return;
        };
        let Ok(script) = RemainderScript::new(self.verifier.context(), &record.terms.payer_key) else {
            return;
        };
        let outpoint = Outpoint { txid, vout };
        let context = self.keys.signer().context();
        // A remainder that is worth less than its own fee stays where it is: the seed words still find it.
        let Ok(tx) = script.spend(
            context,
            &keys.funding,
            outpoint,
            value,
            self.config.payout.clone(),
            self.rate,
        ) else {
            return;
        };
        self.chain(ChainAction::Broadcast {
            slot,
            tx: serialize(&tx),
        });
    }

    pub(super) fn watch_payer(&mut self, slot: Slot) {
        let Some(record) = self.payers.get(&slot).map(|p| p.record()) else {
            return;
        };
        if let PayerState::Sweeping { height, .. } = record.state {
            if let Ok(script) = RemainderScript::new(self.verifier.context(), &record.terms.payer_key) {
                self.chain(ChainAction::Watch {
                    slot,
                    output_key: script.output_key,
                    from: height,
                });
            }
            return;
        }
        // A reorganisation may take a few of the blocks that were there when it was accepted.
        let from = record.accepted_at.minus(LOOK_GAP);
        if let Ok(script) = record.terms.funding_output(self.verifier.context()) {
            self.chain(ChainAction::Watch {
                slot,
                output_key: script.output_key,
                from,
            });
        }
    }

    pub(super) fn watch_payee(&mut self, slot: Slot) {
        let Some(record) = self.payees.get(&slot).map(|p| p.record()) else {
            return;
        };
        let from = record.accepted_at;
        if let Ok(script) = record.terms.funding_output(self.verifier.context()) {
            self.chain(ChainAction::Watch {
                slot,
                output_key: script.output_key,
                from,
            });
        }
    }

    /// Settles together what became ready together.
    pub(super) fn flush_settlements(&mut self) {
        if self.settle_queue.is_empty() {
            return;
        }
        let queue = core::mem::take(&mut self.settle_queue);
        let candidates: Vec<Candidate> = queue
            .iter()
            .filter_map(|slot| {
                let payee = self.payees.get(slot)?;
                let record = payee.record();
                // One funding that a reorganisation takes away would block a whole batch: only deep ones go in, unless
                // the expiry presses. The others are asked for again at every block.
                let safe = payee.is_buried() || self.height >= payee.settle_at();
                let outpoint = record.outpoint.filter(|_| record.funded_at.is_some() && safe)?;
                let claim = Claim {
                    terms: record.terms,
                    outpoint,
                    paid: record.total.to_sat_ceil(),
                    signature: record.signature.0,
                };
                (record.total > Msat::ZERO).then_some(Candidate {
                    slot: *slot,
                    claim,
                    key_index: record.key_index,
                })
            })
            .collect();
        if self
            .settler
            .settle(&self.keys, &self.verifier, &candidates, self.rate, self.height)
            .is_err()
        {
            crate::warn!("some channels could not be settled now; they are tried again with the next block");
        }
        self.drain_settler();
    }

    pub(super) fn drain_settler(&mut self) {
        while let Some(action) = self.settler.poll_action() {
            match action {
                SettlerAction::Broadcast { slots, txid, tx, fee } => {
                    let first = slots.first().copied().unwrap_or(Slot(0));
                    for slot in &slots {
                        self.send_close_notice(*slot, txid);
                    }
                    self.chain(ChainAction::Broadcast { slot: first, tx });
                    self.notify(Event::Settling { slots, txid, fee });
                }
                SettlerAction::LeftOut {
                    slot,
                    paid,
                    last_call,
                } => self.notify(Event::LeftOut {
                    slot,
                    paid,
                    last_call,
                }),
            }
        }
    }

    fn send_close_notice(&mut self, slot: Slot, txid: crate::base::Txid) {
        let Some(payee) = self.payees.get(&slot) else {
            return;
        };
        let (paid, peer) = (payee.record().total.to_sat_ceil(), payee.record().peer);
        if let (Some(channel), Some(connection)) = (payee.id(), self.connection_of(&peer)) {
            self.send(
                connection,
                CloseNotice {
                    channel,
                    txid,
                    paid,
                    ext: Ext::default(),
                },
            );
        }
    }
}
