//! Doing what payer and payee want, action by action, with the power going where the input says.

use super::world::{CAPACITY, PAYEE, PAYER, PAYER_PAIR, SLOT, Sent, TERMS, World, payout};
use crate::parties::{self, VERIFIER};
use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use turnpike_protocol::base::{BlockHeight, Msat, Sat};
use turnpike_protocol::money::channel::tx::{Claim, Refund, RemainderScript};
use turnpike_protocol::money::channel::{
    Candidate, Payee, PayeeAction, PayeeError, PayeeInput, PayeeState, Payer, PayerAction, PayerError,
    PayerInput, SettlerAction, TakenBack,
};
use turnpike_protocol::wire::{self, Signature};

impl World {
    /// Feeds the payer and does what it wants. A cut ends that, and it starts again from its disk.
    pub fn payer(&mut self, input: PayerInput<'_>) -> Result<(), PayerError> {
        let result = self.payer.handle(&VERIFIER, input);
        while let Some(action) = self.payer.poll_action() {
            if self.goes_out(PAYER) {
                self.restart_payer();
                break;
            }
            self.payer_action(action);
        }
        result
    }

    /// The same for the payee.
    pub fn payee(&mut self, input: PayeeInput) -> Result<(), PayeeError> {
        let before = self.payee.record().clone();
        let result = self.payee.handle(&self.policy, &VERIFIER, input);
        if result.is_err() {
            assert_eq!(*self.payee.record(), before, "a refused input changed the payee");
        }
        while let Some(action) = self.payee.poll_action() {
            if self.goes_out(PAYEE) {
                self.restart_payee();
                break;
            }
            self.payee_action(action, before.state, before.total);
        }
        result
    }

    fn goes_out(&mut self, who: usize) -> bool {
        match &mut self.cut[who] {
            Some(0) => {
                self.cut[who] = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    pub fn restart_payer(&mut self) {
        self.payer = Payer::load(SLOT, self.read_payer(), &VERIFIER).expect("its own record loads");
        self.show(PAYER);
    }

    pub fn restart_payee(&mut self) {
        self.payee = Payee::load(SLOT, self.payee_disk.read(), &VERIFIER).expect("its own record loads");
        self.settler = turnpike_protocol::money::channel::Settler::new(payout(PAYEE));
        self.show(PAYEE);
        if matches!(
            self.payee.record().state,
            PayeeState::Closing | PayeeState::Spent { height: None, .. }
        ) {
            self.settle();
        }
    }

    fn payer_action(&mut self, action: PayerAction) {
        let record = self.payer.record();
        match action {
            PayerAction::Persist => {
                self.payer_disk = wire::encode(record);
                self.written = self.written.max(record.total);
            }
            PayerAction::SendPayment => {
                let total = record.total;
                assert_eq!(
                    self.read_payer().total,
                    total,
                    "a payment leaves before it is on disk"
                );
                let signature = self.sign(total);
                self.flight.push_back(Sent::Payment { total, signature });
            }
            PayerAction::SendClose => self.flight.push_back(Sent::Close),
            PayerAction::Refund => self.refund(),
            PayerAction::SweepRemainder => self.sweep(),
            PayerAction::Fund
            | PayerAction::Broadcast
            | PayerAction::WatchRemainder
            | PayerAction::Forget => {}
        }
    }

    /// Signs the newest total, which must be on disk by then; it counts as sent.
    pub fn sign(&mut self, total: Msat) -> Signature {
        self.signed = self.signed.max(total);
        let digest = self.payer.digest().expect("the payer is funded");
        let context = parties::of(PAYER).signer().context();
        Signature(
            digest
                .sign_payment(context, &PAYER_PAIR, total.to_sat_ceil())
                .expect("within the capacity"),
        )
    }

    fn refund(&mut self) {
        let height = self.chain.height;
        assert!(
            self.chain.expired(),
            "a refund is made at {height}, before the expiry"
        );
        let refund =
            Refund::new(VERIFIER.context(), &TERMS, self.chain.outpoint, CAPACITY).expect("good terms");
        let context = parties::of(PAYER).signer().context();
        if let Ok(tx) = refund.sign(context, &PAYER_PAIR, payout(PAYER), self.rate) {
            self.chain.broadcast(tx);
        }
    }

    /// The remainder goes home: what the payer found is what the settlement holds.
    fn sweep(&mut self) {
        self.chain.sweeping = true;
        let record = self.payer.record();
        let (Some((vout, value)), Some((tx, _))) = (record.remainder, &self.chain.spent) else {
            panic!("a remainder is swept that is not there");
        };
        let script =
            RemainderScript::new(VERIFIER.context(), &TERMS.payer_key).expect("the key is on the curve");
        let output = &tx.output[vout as usize];
        assert_eq!(
            output.value.to_sat(),
            value.value(),
            "the payer counts on another remainder"
        );
        assert_eq!(output.script_pubkey, script.to_script_buf());
    }

    fn payee_action(&mut self, action: PayeeAction, state: PayeeState, before: Msat) {
        let record = self.payee.record();
        match action {
            PayeeAction::Persist => self.payee_disk.row = wire::encode(record),
            PayeeAction::PersistPayment => self.payee_disk.journal.push((record.total, record.signature)),
            PayeeAction::Credited { total } => {
                assert!(
                    self.payee_disk.read().total >= total,
                    "{total} is credited before it is on disk"
                );
                let open = matches!(state, PayeeState::Open | PayeeState::Restored);
                assert!(open || total <= before, "{total} is credited in state {state:?}");
                self.credited = self.credited.max(total);
            }
            PayeeAction::Settle => self.settle(),
            PayeeAction::Lost { amount, back } => {
                let deep = self.chain.funded_at.is_some();
                let allowed = back == TakenBack::GivenUp || self.chain.expired() || !deep || self.chain.void;
                assert!(allowed, "{amount} counts as lost while the funding stands");
                assert!(
                    self.chain.expired() || amount <= self.policy.unconfirmed,
                    "{amount} was lost, more than the unconfirmed credit"
                );
            }
            PayeeAction::Forget => {}
        }
    }

    /// As a node settles: only a funding that is deep, unless the expiry presses.
    pub fn settle(&mut self) {
        let record = self.payee.record();
        let safe = self.payee.is_buried() || self.chain.height >= self.payee.settle_at().value();
        let Some(outpoint) = record.outpoint.filter(|_| record.funded_at.is_some() && safe) else {
            return;
        };
        if record.total == Msat::ZERO {
            return;
        }
        let claim = Claim {
            terms: record.terms,
            outpoint,
            paid: record.total.to_sat_ceil(),
            signature: record.signature.0,
        };
        let candidate = Candidate {
            slot: SLOT,
            claim,
            key_index: record.key_index,
        };
        let height = BlockHeight::new(self.chain.height);
        self.settler
            .settle(parties::of(PAYEE), &VERIFIER, &[candidate], self.rate, height)
            .expect("one good claim can be settled or left out");
        self.drain_settler();
    }

    pub fn drain_settler(&mut self) {
        while let Some(action) = self.settler.poll_action() {
            let SettlerAction::Broadcast { tx, fee, .. } = action else {
                continue;
            };
            let state = self.payee_disk.read().state;
            assert!(
                !matches!(state, PayeeState::Open | PayeeState::Restored),
                "a settlement leaves in state {state:?}"
            );
            let tx: Transaction = deserialize(&tx).expect("a settlement is a transaction");
            self.judge(&tx, fee);
            self.chain.broadcast(tx);
        }
    }

    /// A settlement takes what the payer signed, and no more.
    fn judge(&self, tx: &Transaction, fee: Sat) {
        let script =
            RemainderScript::new(VERIFIER.context(), &TERMS.payer_key).expect("the key is on the curve");
        let remainder = script.find(tx).map_or(0, |(_, value)| value.value());
        let signed = self.signed.to_sat_ceil();
        let least = CAPACITY.value() - signed.value();
        // Below the dust limit the remainder is the payee's.
        assert!(
            remainder >= least || (remainder == 0 && least < 330),
            "the payer gets {remainder}, not {least}"
        );
        let taken: u64 = tx
            .output
            .iter()
            .filter(|o| o.script_pubkey == payout(PAYEE))
            .map(|o| o.value.to_sat())
            .sum();
        assert_eq!(
            taken + remainder + fee.value(),
            CAPACITY.value(),
            "money came from nowhere or went there"
        );
        let paid = self.payee.record().total.to_sat_ceil();
        let expected = CAPACITY.value() - paid.value();
        assert!(
            remainder == expected || (remainder == 0 && expected < 330),
            "another total is settled"
        );
    }
}
