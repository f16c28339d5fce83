//! A payer and a payee, without any shell between them. Names say which rule of the money page a test holds.

use super::*;
use crate::base::limits::{DEEP, MARGIN};
use crate::base::{BlockHeight, Msat, NodeId, Outpoint, Sat, Slot, Txid};
use crate::crypto::{CoinType, Keys, Role, Seed, Verifier};
use crate::wire::{ErrorCode, Signature};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, transaction};
use std::vec::Vec;

const NOW: BlockHeight = BlockHeight::new(1_000);
const EXPIRY: BlockHeight = BlockHeight::new(2_008);
const CAPACITY: Sat = Sat::new(50_000);
const SLOT: Slot = Slot(0);
const ALL: Msat = Msat::MAX;

struct Pair {
    verifier: Verifier,
    policy: PayeePolicy,
    payer_keys: Keys,
    payer: Payer,
    payee: Payee,
    outpoint: Outpoint,
}

fn keys(byte: u8) -> Keys {
    Keys::new(&Seed::from_entropy(&[byte; 32]), CoinType::Test).unwrap()
}

fn funding(terms: &tx::Terms, verifier: &Verifier) -> Transaction {
    let script = terms.funding_output(verifier.context()).unwrap().to_script_buf();
    let output = TxOut {
        value: Amount::from_sat(terms.capacity.value()),
        script_pubkey: script,
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: Vec::new(),
        output: [output].into(),
    }
}

impl Pair {
    /// Accepted, funding built, nothing seen on the chain yet.
    fn new() -> Pair {
        let (payer_keys, payee_keys, verifier) = (keys(1), keys(2), Verifier::new());
        let key = |k: &Keys, role| {
            k.channel(role, 0)
                .unwrap()
                .funding
                .x_only_public_key()
                .0
                .serialize()
        };
        let terms = tx::Terms {
            payer_key: key(&payer_keys, Role::Payer),
            payee_key: key(&payee_keys, Role::Payee),
            capacity: CAPACITY,
            expiry: EXPIRY,
        };
        let policy = PayeePolicy::default();
        let until = policy
            .accept(&terms, NOW, 205, crate::base::FeeRate::MIN_RELAY)
            .unwrap();
        let payee = Payee::accept(SLOT, payer_keys.node(), terms, 0, NOW, until).unwrap();
        let accepted = Acceptance {
            terms,
            accept_until: until,
        };
        let mut payer = Payer::fund(
            SLOT,
            payee_keys.node(),
            accepted,
            Signature([0; 64]),
            0,
            NOW,
            &verifier,
        )
        .unwrap();
        let tx = funding(&terms, &verifier);
        let outpoint = Outpoint {
            txid: tx::txid(&tx),
            vout: 0,
        };
        payer
            .handle(
                &verifier,
                PayerInput::FundingBuilt {
                    outpoint,
                    fee: Sat::new(150),
                    tx: &serialize(&tx),
                },
            )
            .unwrap();
        let mut pair = Pair {
            verifier,
            policy,
            payer_keys,
            payer,
            payee,
            outpoint,
        };
        pair.payee(PayeeInput::Lit).unwrap();
        pair.payee(PayeeInput::Declared { outpoint }).unwrap();
        pair.drain();
        pair
    }

    /// With the funding deep.
    fn open() -> Pair {
        let mut pair = Pair::new();
        pair.confirm(1_001);
        pair.height(1_001 + DEEP - 1);
        pair.drain();
        pair
    }

    fn confirm(&mut self, height: u32) {
        let height = Some(BlockHeight::new(height));
        self.payee(PayeeInput::Funded {
            outpoint: self.outpoint,
            value: CAPACITY,
            height,
        })
        .unwrap();
        self.payer
            .handle(
                &self.verifier,
                PayerInput::Funded {
                    outpoint: self.outpoint,
                    height,
                },
            )
            .unwrap();
    }

    fn height(&mut self, height: u32) {
        let height = BlockHeight::new(height);
        self.payee(PayeeInput::Height { height }).unwrap();
        self.payer
            .handle(&self.verifier, PayerInput::Height { height })
            .unwrap();
    }

    fn payee(&mut self, input: PayeeInput) -> Result<(), ErrorCode> {
        self.payee
            .handle(&self.policy, &self.verifier, input)
            .map_err(|PayeeError::Refused(code)| code)
    }

    fn drain(&mut self) -> (Vec<PayerAction>, Vec<PayeeAction>) {
        (
            std::iter::from_fn(|| self.payer.poll_action()).collect(),
            std::iter::from_fn(|| self.payee.poll_action()).collect(),
        )
    }

    fn sign(&self, total: Msat) -> Signature {
        let keys = self.payer_keys.channel(Role::Payer, 0).unwrap();
        let digest = self.payer.digest().unwrap();
        Signature(
            digest
                .sign_payment(
                    self.payer_keys.signer().context(),
                    &keys.funding,
                    total.to_sat_ceil(),
                )
                .unwrap(),
        )
    }

    fn send(&mut self, total: u64) -> Result<(), ErrorCode> {
        let total = Msat::new(total);
        let signature = self.sign(total);
        self.payee(PayeeInput::Payment {
            total,
            signature,
            room: ALL,
        })
    }
}

#[test]
fn rule_1_no_credit_before_the_funding_is_seen_and_only_the_exposure_before_it_is_deep() {
    let mut pair = Pair::new();
    assert_eq!(pair.send(1_000), Err(ErrorCode::ExposureFull));
    pair.payee(PayeeInput::Funded {
        outpoint: pair.outpoint,
        value: CAPACITY,
        height: None,
    })
    .unwrap();
    let exposure = pair.policy.unconfirmed.value();
    assert_eq!(pair.send(exposure), Ok(()));
    assert_eq!(pair.send(exposure + 1), Err(ErrorCode::ExposureFull));
    pair.confirm(1_001);
    pair.height(1_001 + DEEP - 2);
    assert_eq!(
        pair.send(exposure + 1),
        Err(ErrorCode::ExposureFull),
        "one block short of deep"
    );
    pair.height(1_001 + DEEP - 1);
    assert_eq!(pair.send(exposure + 1), Ok(()));
}

#[test]
fn rule_1_a_funding_that_was_seen_before_it_was_named_counts_until_it_is_gone() {
    let mut pair = Pair::new();
    let outpoint = Outpoint {
        txid: Txid::from_bytes([9; 32]),
        vout: 0,
    };
    let seen = PayeeInput::Funded {
        outpoint,
        value: CAPACITY,
        height: None,
    };
    pair.payee(seen).unwrap();
    let ceiling = |pair: &Pair| pair.payee.ceiling(&pair.policy, ALL);
    assert_eq!(ceiling(&pair), Msat::ZERO, "another one is named");
    pair.payee(PayeeInput::Declared { outpoint }).unwrap();
    assert_eq!(ceiling(&pair), pair.policy.unconfirmed);
    let first = pair.outpoint;
    pair.payee(PayeeInput::Declared { outpoint: first }).unwrap();
    assert_eq!(ceiling(&pair), Msat::ZERO, "one that nobody saw");
    pair.payee(PayeeInput::Unfunded { outpoint }).unwrap();
    pair.payee(PayeeInput::Declared { outpoint }).unwrap();
    assert_eq!(ceiling(&pair), Msat::ZERO, "one that is gone");
}

#[test]
fn rule_1_unconfirmed_credit_is_limited_by_what_the_owner_has_left_for_all_keys() {
    let mut pair = Pair::new();
    pair.payee(PayeeInput::Funded {
        outpoint: pair.outpoint,
        value: CAPACITY,
        height: None,
    })
    .unwrap();
    let (total, signature) = (Msat::new(1_001), pair.sign(Msat::new(1_001)));
    let room = Msat::new(1_000);
    assert_eq!(
        pair.payee(PayeeInput::Payment {
            total,
            signature,
            room
        }),
        Err(ErrorCode::ExposureFull)
    );
    assert_eq!(
        pair.payee(PayeeInput::Payment {
            total,
            signature,
            room: total
        }),
        Ok(())
    );
}

#[test]
fn rule_1_a_funding_that_is_late_wrong_or_second_gives_no_channel() {
    let at = |height| Some(BlockHeight::new(height));
    let mut pair = Pair::new();
    let outpoint = pair.outpoint;
    let wrong = PayeeInput::Funded {
        outpoint,
        value: Sat::new(49_999),
        height: at(1_001),
    };
    assert_eq!(pair.payee(wrong), Err(ErrorCode::FundingMismatch));
    let late = PayeeInput::Funded {
        outpoint,
        value: CAPACITY,
        height: at(1_145),
    };
    assert_eq!(pair.payee(late), Err(ErrorCode::NotAccepted));
    pair.confirm(1_010);
    let second = Outpoint {
        txid: Txid::from_bytes([9; 32]),
        vout: 0,
    };
    let again = PayeeInput::Funded {
        outpoint: second,
        value: CAPACITY,
        height: at(1_011),
    };
    assert_eq!(pair.payee(again), Err(ErrorCode::FundingMismatch));
    assert_eq!(
        pair.payee.record().outpoint,
        Some(outpoint),
        "the first confirmed output names the channel"
    );
}

#[test]
fn rule_1_a_double_spent_funding_costs_at_most_the_unconfirmed_exposure() {
    let mut pair = Pair::new();
    pair.payee(PayeeInput::Funded {
        outpoint: pair.outpoint,
        value: CAPACITY,
        height: None,
    })
    .unwrap();
    let exposure = pair.policy.unconfirmed;
    pair.send(exposure.value()).unwrap();
    pair.drain();
    let other = Outpoint {
        txid: Txid::from_bytes([9; 32]),
        vout: 0,
    };
    pair.payee(PayeeInput::Funded {
        outpoint: other,
        value: CAPACITY,
        height: Some(BlockHeight::new(1_001)),
    })
    .unwrap();
    assert_eq!(pair.drain().1, [PayeeAction::Persist]);
    assert_eq!(pair.payee.record().state, PayeeState::Missing);
    assert_eq!(
        (pair.payee.counted(), pair.payee.lately_lost()),
        (Msat::ZERO, exposure)
    );
    assert_eq!(pair.send(exposure.value() + 1_000), Err(ErrorCode::Closing));
    pair.height(EXPIRY.value() - 1);
    assert_eq!(pair.drain().1, []);
    pair.height(EXPIRY.value());
    let lost = PayeeAction::Lost {
        amount: exposure,
        back: TakenBack::Owed,
    };
    assert!(pair.drain().1.contains(&lost));
    assert_eq!(pair.payee.record().state, PayeeState::Over);
}

/// Paid on an unconfirmed funding, which then is in no block in time.
fn missing() -> Pair {
    let mut pair = Pair::new();
    pair.payee(PayeeInput::Funded {
        outpoint: pair.outpoint,
        value: CAPACITY,
        height: None,
    })
    .unwrap();
    pair.send(500_000).unwrap();
    pair.height(1_144 + DEEP - 1);
    assert_eq!(pair.payee.record().state, PayeeState::Open);
    pair.height(1_144 + DEEP);
    assert_eq!(pair.payee.record().state, PayeeState::Missing);
    pair.drain();
    pair
}

#[test]
fn rule_1_a_funding_that_confirms_late_is_settled_with_its_newest_signature() {
    for late in [1_145, 1_144 + DEEP + 1, EXPIRY.value() - 1] {
        let mut pair = if late == 1_145 { Pair::new() } else { missing() };
        if late == 1_145 {
            pair.payee(PayeeInput::Funded {
                outpoint: pair.outpoint,
                value: CAPACITY,
                height: None,
            })
            .unwrap();
            pair.send(500_000).unwrap();
        }
        pair.height(late - 1);
        pair.drain();
        pair.confirm(late);
        assert_eq!(
            pair.drain().1,
            [PayeeAction::Persist, PayeeAction::Settle],
            "{late}"
        );
        let record = pair.payee.record();
        assert_eq!(
            (record.state, record.total),
            (PayeeState::Closing, Msat::new(500_000))
        );
        assert_eq!(record.signature, pair.sign(Msat::new(500_000)));
        assert_eq!(pair.payee.counted(), record.total);
        assert_eq!(pair.send(500_001), Err(ErrorCode::Closing), "it takes no more");
        pair.height(late + DEEP - 2);
        assert!(!pair.payee.is_buried());
        pair.height(late + DEEP - 1);
        assert!(pair.payee.is_buried());
        assert!(pair.drain().1.ends_with(&[PayeeAction::Settle]));
        // A block that is taken away again leaves it where it was.
        pair.payee(PayeeInput::Reorg {
            height: BlockHeight::new(late - 1),
        })
        .unwrap();
        pair.height(late.max(1_144 + DEEP));
        assert_eq!(pair.payee.record().state, PayeeState::Missing);
    }
}

#[test]
fn rule_1_what_was_lost_lately_is_remembered_for_a_day() {
    let mut pair = missing();
    let until = 1_144 + DEEP + 4 * MARGIN;
    pair.height(until - 1);
    assert_eq!(pair.payee.lately_lost(), Msat::new(500_000));
    pair.height(until);
    assert_eq!(pair.payee.lately_lost(), Msat::ZERO);
    assert_eq!(pair.payee.counted(), Msat::ZERO, "it is owed all the same");
}

#[test]
fn rule_1_credit_beyond_the_exposure_needs_a_funding_that_is_deep_before_expiry_less_four_margins() {
    let last = EXPIRY.value() - 4 * MARGIN - DEEP;
    for (at, full) in [(last, true), (last + 1, false)] {
        let mut pair = Pair::new();
        let record = PayeeRecord {
            accept_until: EXPIRY,
            ..pair.payee.record().clone()
        };
        pair.payee = Payee::load(SLOT, record, &pair.verifier).unwrap();
        pair.payee(PayeeInput::Lit).unwrap();
        pair.confirm(at);
        pair.height(at + DEEP + 10);
        let exposure = pair.policy.unconfirmed.value();
        assert_eq!(pair.send(exposure), Ok(()));
        let more = pair.send(exposure + 1);
        assert_eq!(more.is_ok(), full, "{at}: {more:?}");
    }
}

#[test]
fn rule_8_from_two_margins_before_the_expiry_on_the_fee_rises_with_every_block() {
    let mut pair = Pair::open();
    pair.send(20_000_000).unwrap();
    let record = pair.payee.record();
    let claim = tx::Claim {
        terms: record.terms,
        outpoint: pair.outpoint,
        paid: record.total.to_sat_ceil(),
        signature: record.signature.0,
    };
    let candidate = Candidate {
        slot: SLOT,
        claim,
        key_index: 0,
    };
    let (keys, rate) = (keys(2), crate::base::FeeRate::MIN_RELAY);
    let mut settler = Settler::new(ScriptBuf::from_bytes([&[0x51, 0x20][..], &[9; 32]].concat()));
    settler
        .settle(&keys, &pair.verifier, &[candidate], rate, NOW)
        .unwrap();
    let mut fee = |height: u32| {
        settler
            .height(&keys, &pair.verifier, rate, BlockHeight::new(height))
            .unwrap();
        let fees = std::iter::from_fn(|| settler.poll_action()).filter_map(|a| match a {
            SettlerAction::Broadcast { fee, .. } => Some(fee.value()),
            SettlerAction::LeftOut { .. } => None,
        });
        fees.last().unwrap()
    };
    let from = EXPIRY.value() - 2 * MARGIN;
    let least = fee(from - 10);
    assert_eq!(fee(from - 1), least, "before that it waits for a block");
    let mut before = least;
    for height in from..from + 10 {
        let now = fee(height);
        assert!(now > before, "{now} after {before} at {height}");
        before = now;
    }
    assert!(before > 5 * least, "{before} after {least}");
}

#[test]
fn a_reorganisation_that_takes_the_funding_away_stops_credit_until_it_is_deep_again() {
    let mut pair = Pair::open();
    pair.send(10_000_000).unwrap();
    pair.payee(PayeeInput::Reorg {
        height: BlockHeight::new(1_000),
    })
    .unwrap();
    assert_eq!(pair.send(10_001_000), Err(ErrorCode::ExposureFull));
    assert_eq!(
        pair.payee.record().total,
        Msat::new(10_000_000),
        "what was paid is not forgotten"
    );
    pair.confirm(1_003);
    pair.height(1_003 + DEEP - 1);
    assert_eq!(pair.send(10_001_000), Ok(()));
}

#[test]
fn a_settlement_that_a_reorganisation_took_away_is_settled_again_once_the_funding_is_back() {
    let mut pair = Pair::open();
    pair.send(10_000_000).unwrap();
    pair.payee(PayeeInput::Close).unwrap();
    let txid = Txid::from_bytes([3; 32]);
    pair.payee(PayeeInput::Spent {
        txid,
        height: Some(BlockHeight::new(1_010)),
        back: None,
    })
    .unwrap();
    pair.payee(PayeeInput::Reorg {
        height: BlockHeight::new(1_000),
    })
    .unwrap();
    pair.drain();
    assert_eq!(pair.payee.record().funded_at, None);
    pair.confirm(1_002);
    pair.height(1_003);
    assert_eq!(pair.payee.record().funded_at, Some(BlockHeight::new(1_002)));
    assert!(pair.drain().1.contains(&PayeeAction::Settle));
}

#[test]
fn rule_5_a_payment_must_rise_stay_in_the_capacity_and_carry_the_payers_signature() {
    let mut pair = Pair::open();
    assert_eq!(pair.send(5_000), Ok(()));
    assert_eq!(pair.send(4_999), Err(ErrorCode::TotalTooLow));
    assert_eq!(
        pair.send(CAPACITY.value() * 1_000),
        Ok(()),
        "all of the capacity, in the NONE form"
    );
    let total = Msat::new(CAPACITY.value() * 1_000 + 1);
    let signature = Signature([1; 64]);
    assert_eq!(
        pair.payee(PayeeInput::Payment {
            total,
            signature,
            room: ALL
        }),
        Err(ErrorCode::TotalTooHigh)
    );

    let mut pair = Pair::open();
    let mut signature = pair.sign(Msat::new(6_000));
    signature.0[63] ^= 1;
    let bad = PayeeInput::Payment {
        total: Msat::new(6_000),
        signature,
        room: ALL,
    };
    assert_eq!(pair.payee(bad), Err(ErrorCode::BadSignature));
    // A good signature for less, said to be for more.
    let signature = pair.sign(Msat::new(6_000));
    let inflated = PayeeInput::Payment {
        total: Msat::new(7_000),
        signature,
        room: ALL,
    };
    assert_eq!(pair.payee(inflated), Err(ErrorCode::BadSignature));
    assert_eq!(pair.payee.record().total, Msat::ZERO);
    assert!(
        pair.drain().1.is_empty(),
        "nothing is written or credited for a refused payment"
    );
}

#[test]
fn a_payment_is_persisted_before_it_is_credited_and_before_it_is_sent() {
    let mut pair = Pair::open();
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Pay {
                step: Msat::new(2_000),
                ceiling: ALL,
            },
        )
        .unwrap();
    assert_eq!(pair.drain().0, [PayerAction::Persist, PayerAction::SendPayment]);
    pair.send(2_000).unwrap();
    let (_, actions) = pair.drain();
    assert_eq!(
        actions,
        [
            PayeeAction::PersistPayment,
            PayeeAction::Credited {
                total: Msat::new(2_000)
            }
        ]
    );
}

#[test]
fn a_replayed_payment_is_answered_and_credited_once() {
    let mut pair = Pair::open();
    for _ in 0..3 {
        pair.send(2_000).unwrap();
    }
    let (_, actions) = pair.drain();
    assert_eq!(
        actions
            .iter()
            .filter(|a| **a == PayeeAction::PersistPayment)
            .count(),
        1
    );
    assert_eq!(pair.payee.record().total, Msat::new(2_000));
}

#[test]
fn rule_7_once_closing_nothing_is_accepted_and_closing_is_persisted_before_settling() {
    let mut pair = Pair::open();
    pair.send(2_000).unwrap();
    pair.drain();
    pair.payee(PayeeInput::Close).unwrap();
    assert_eq!(pair.drain().1, [PayeeAction::Persist, PayeeAction::Settle]);
    assert_eq!(pair.payee.record().state, PayeeState::Closing);
    assert_eq!(pair.send(3_000), Err(ErrorCode::Closing));
    let signature = pair.sign(Msat::new(3_000));
    let resume = PayeeInput::Resume {
        total: Msat::new(3_000),
        signature,
        room: ALL,
    };
    assert_eq!(
        pair.payee(resume),
        Err(ErrorCode::Closing),
        "not by the reconnect path either"
    );
    assert_eq!(pair.payee.record().total, Msat::new(2_000));
}

#[test]
fn rule_8_the_payee_settles_three_margins_before_expiry_even_when_dark() {
    for dark in [false, true] {
        let mut pair = Pair::open();
        pair.send(2_000).unwrap();
        pair.drain();
        if dark {
            pair.payee(PayeeInput::Dark).unwrap();
        }
        pair.height(EXPIRY.value() - 3 * MARGIN - 1);
        assert!(pair.payee.is_open());
        pair.height(EXPIRY.value() - 3 * MARGIN);
        assert_eq!(pair.payee.record().state, PayeeState::Closing);
        assert!(pair.drain().1.ends_with(&[PayeeAction::Settle]));
    }
}

#[test]
fn rule_9_the_payers_exposure_is_zero_in_every_state_it_can_reach() {
    let mut pair = Pair::open();
    for total in [1_000, 9_000, 50_000_000] {
        let step = Msat::new(total - pair.payer.record().total.value());
        pair.payer
            .handle(&pair.verifier, PayerInput::Pay { step, ceiling: ALL })
            .unwrap();
        assert_eq!(pair.payer.exposure(), Msat::ZERO);
        pair.payer
            .handle(&pair.verifier, PayerInput::Acknowledged { total: Msat::MAX })
            .unwrap();
        assert_eq!(
            pair.payer.exposure(),
            Msat::ZERO,
            "a lying acknowledgement changes nothing"
        );
    }
}

#[test]
fn rule_15_in_the_dark_only_the_configured_exposure_is_accepted() {
    let mut pair = Pair::open();
    pair.policy.dark = Msat::new(3_000);
    pair.send(10_000).unwrap();
    pair.payee(PayeeInput::Dark).unwrap();
    assert_eq!(pair.send(13_001), Err(ErrorCode::ExposureFull));
    assert_eq!(pair.send(13_000), Ok(()));
    assert_eq!(
        pair.send(13_001),
        Err(ErrorCode::ExposureFull),
        "the bound does not move along"
    );
    // A height proved by headers does not light it again; only its own back end does.
    pair.payee(PayeeInput::Height {
        height: BlockHeight::new(1_100),
    })
    .unwrap();
    assert_eq!(pair.send(13_001), Err(ErrorCode::ExposureFull));
    pair.payee(PayeeInput::Lit).unwrap();
    assert_eq!(pair.send(13_001), Ok(()));
}

#[test]
fn rule_16_a_restored_payee_takes_the_newest_signature_once_and_settles() {
    let mut pair = Pair::open();
    pair.send(2_000).unwrap();
    let backup = pair.payee.record().clone();
    pair.send(9_000).unwrap();
    let signature = pair.sign(Msat::new(9_000));

    pair.payee = Payee::load(SLOT, Payee::restored(backup), &pair.verifier).unwrap();
    assert_eq!(pair.payee.record().state, PayeeState::Restored);
    assert_eq!(
        pair.send(9_000),
        Err(ErrorCode::Closing),
        "no service on a restored channel"
    );
    pair.payee(PayeeInput::Height {
        height: BlockHeight::new(1_001 + DEEP - 1),
    })
    .unwrap();
    pair.payee(PayeeInput::Resume {
        total: Msat::new(9_000),
        signature,
        room: Msat::ZERO,
    })
    .unwrap();
    assert_eq!(
        pair.payee.record().total,
        Msat::new(9_000),
        "repaired by the payer's next message"
    );
    assert_eq!(pair.payee.record().state, PayeeState::Closing);
    assert!(pair.drain().1.contains(&PayeeAction::Settle));
    let signature = pair.sign(Msat::new(10_000));
    let more = PayeeInput::Resume {
        total: Msat::new(10_000),
        signature,
        room: ALL,
    };
    assert_eq!(pair.payee(more), Err(ErrorCode::Closing));
}

#[test]
fn rule_16_a_restored_payee_credits_nothing_that_is_not_deep() {
    let mut pair = Pair::new();
    pair.payee(PayeeInput::Funded {
        outpoint: pair.outpoint,
        value: CAPACITY,
        height: None,
    })
    .unwrap();
    assert!(pair.payee.mark_restored());
    let total = Msat::new(40_000_000);
    let signature = pair.sign(total);
    let resume = PayeeInput::Resume {
        total,
        signature,
        room: Msat::ZERO,
    };
    assert_eq!(pair.payee(resume), Err(ErrorCode::ExposureFull));
    assert_eq!(pair.payee.record().total, Msat::ZERO);
    assert_eq!(
        pair.payee.record().state,
        PayeeState::Restored,
        "it waits for the payer to say it again"
    );
}

#[test]
fn a_payee_cannot_round_a_payers_total_up_time_and_again() {
    let mut pair = Pair::open();
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Pay {
                step: Msat::new(40),
                ceiling: ALL,
            },
        )
        .unwrap();
    let signature = pair.sign(Msat::new(40));
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Proof {
                total: Msat::new(1_000),
                signature,
            },
        )
        .unwrap();
    assert_eq!(pair.payer.record().total, Msat::new(40));
}

#[test]
fn rule_16_an_old_backup_costs_the_payer_nothing_since_the_payee_shows_the_payers_own_signature() {
    let mut pair = Pair::open();
    let backup = pair.payer.record().clone();
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Pay {
                step: Msat::new(8_000),
                ceiling: ALL,
            },
        )
        .unwrap();
    let signature = pair.sign(Msat::new(8_000));
    pair.payer = Payer::load(SLOT, backup, &pair.verifier).unwrap();
    let forged = PayerInput::Proof {
        total: Msat::new(9_000),
        signature,
    };
    assert_eq!(
        pair.payer.handle(&pair.verifier, forged),
        Err(PayerError::ForgedProof)
    );
    assert_eq!(pair.payer.record().total, Msat::ZERO);
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Proof {
                total: Msat::new(8_000),
                signature,
            },
        )
        .unwrap();
    assert_eq!(pair.payer.record().total, Msat::new(8_000));
    // It goes on from there: the same money is not paid twice.
    pair.payer
        .handle(
            &pair.verifier,
            PayerInput::Pay {
                step: Msat::new(1_000),
                ceiling: ALL,
            },
        )
        .unwrap();
    assert_eq!(pair.payer.record().total, Msat::new(9_000));
}

#[test]
fn the_payer_refuses_to_broadcast_a_funding_that_does_not_pay_the_channel() {
    let pair = Pair::open();
    let record = PayerRecord {
        state: PayerState::Accepted,
        outpoint: None,
        funding_tx: Vec::new(),
        ..pair.payer.record().clone()
    };
    let mut payer = Payer::load(SLOT, record, &pair.verifier).unwrap();
    let mut tx = funding(&pair.payer.record().terms, &pair.verifier);
    tx.output[0].script_pubkey = ScriptBuf::new();
    let outpoint = Outpoint {
        txid: tx::txid(&tx),
        vout: 0,
    };
    let built = PayerInput::FundingBuilt {
        outpoint,
        fee: Sat::ZERO,
        tx: &serialize(&tx),
    };
    assert_eq!(payer.handle(&pair.verifier, built), Err(PayerError::WrongFunding));
    assert_eq!(payer.poll_action(), None);
}

#[test]
fn at_expiry_and_not_before_the_payer_takes_its_refund() {
    let mut pair = Pair::open();
    pair.height(EXPIRY.value() - 1);
    assert!(!pair.drain().0.contains(&PayerAction::Refund));
    pair.height(EXPIRY.value());
    assert!(pair.drain().0.contains(&PayerAction::Refund));
}

#[test]
fn records_survive_the_disk_to_the_last_bit() {
    let mut pair = Pair::open();
    pair.send(2_000).unwrap();
    let bytes = crate::wire::encode(pair.payee.record());
    assert_eq!(
        &crate::wire::decode::<PayeeRecord>(&bytes).unwrap(),
        pair.payee.record()
    );
    let bytes = crate::wire::encode(pair.payer.record());
    assert_eq!(
        &crate::wire::decode::<PayerRecord>(&bytes).unwrap(),
        pair.payer.record()
    );
    let _ = NodeId::from_bytes([0; 32]);
}

proptest::proptest! {
    #[test]
    fn whatever_totals_arrive_the_payee_holds_the_highest_that_was_validly_signed(
        totals in proptest::collection::vec((0u64..60_000_000, proptest::bool::ANY), 1..20)
    ) {
        let mut pair = Pair::open();
        let mut best = 0;
        for (total, honest) in totals {
            let mut signature = if total <= 50_000_000 { pair.sign(Msat::new(total)) } else { Signature([7; 64]) };
            if !honest { signature.0[5] ^= 0x10; }
            let result = pair.payee(PayeeInput::Payment { total: Msat::new(total), signature, room: ALL });
            if honest && total <= 50_000_000 && total > best {
                proptest::prop_assert_eq!(result, Ok(()));
                best = total;
            } else if total != best {
                proptest::prop_assert!(result.is_err());
            }
            proptest::prop_assert_eq!(pair.payee.record().total, Msat::new(best));
            pair.drain();
        }
    }
}
