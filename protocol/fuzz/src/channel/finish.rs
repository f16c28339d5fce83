//! The end of every input: the chain runs without a fault, and both sides must get what is theirs.

use super::world::{CAPACITY, EXPIRY, World, payout};
use super::world::{PAYEE, PAYER};
use turnpike_protocol::base::{FeeRate, Msat};
use turnpike_protocol::money::channel::tx::RemainderScript;
use turnpike_protocol::money::channel::{PayeeState, PayerState};

/// Blocks in every one of which what waits is taken.
const TAKE_ALL: u8 = 1 | 2;
/// The smallest total that a settlement at the lowest fee rate can bring home: its size and an output.
const WORTH: u64 = 205 + 330;

impl World {
    pub fn finish(&mut self) {
        self.cut = [None; 2];
        self.rate = FeeRate::MIN_RELAY;
        self.chain.dark = false;
        self.show(PAYEE);
        self.mine(1, 1);
        let before = self.payee.record().clone();
        let (owed, in_time) = (
            before.total,
            self.chain.height < EXPIRY - 40 && self.chain.spent.is_none(),
        );
        let counted =
            self.payee_lives() && before.outpoint == Some(self.chain.outpoint) && before.funded_at.is_some();
        self.mine(EXPIRY.saturating_sub(self.chain.height) + 60, TAKE_ALL);
        self.check();

        if self.chain.funded_at.is_none() {
            assert_eq!(
                self.payer.record().total,
                self.payer.record().total.min(self.written)
            );
            return;
        }
        let (tx, _) = self
            .chain
            .spent
            .as_ref()
            .expect("a funded channel is spent in the end");
        let to = |script: &bitcoin::ScriptBuf| -> u64 {
            tx.output
                .iter()
                .filter(|o| o.script_pubkey == *script)
                .map(|o| o.value.to_sat())
                .sum()
        };
        let remainder =
            RemainderScript::new(crate::parties::VERIFIER.context(), &super::world::TERMS.payer_key)
                .expect("the key is on the curve")
                .to_script_buf();
        let refunded = to(&payout(PAYER)) > 0;
        if counted && in_time && owed.to_sat_ceil().value() >= WORTH {
            assert!(
                !refunded,
                "the payer took back {owed} that it had paid, though the payee had the time"
            );
            let left = CAPACITY.value() - owed.to_sat_ceil().value();
            let kept = to(&remainder);
            // A payee on an old backup may have sent a settlement of more before it forgot, or of less: then a block may
            // hold that one, and what the payer says again comes too late (rule 16).
            let least = CAPACITY.value() - self.signed.to_sat_ceil().value();
            let right = kept == left || (self.forgot && kept >= least);
            assert!(
                right || (kept == 0 && least < 330),
                "the payer keeps {kept} of {left}"
            );
            assert!(to(&payout(PAYEE)) > 0, "the payee got nothing");
        }
        if self.signed == Msat::ZERO {
            assert!(refunded, "a payee that was paid nothing took something");
        }
        assert_eq!(
            self.payer.record().state,
            PayerState::Over,
            "the payer is not through"
        );
        assert_eq!(
            self.payee.record().state,
            PayeeState::Over,
            "the payee is not through"
        );
    }
}
