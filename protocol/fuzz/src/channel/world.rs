//! Payer, payee, what each has on disk, and what is under way.

use super::chain::Chain;
use crate::parties::{self, VERIFIER};
use bitcoin::ScriptBuf;
use bitcoin::consensus::encode::serialize;
use std::collections::VecDeque;
use std::sync::LazyLock;
use turnpike_protocol::base::{BlockHeight, FeeRate, Msat, Sat, Slot};
use turnpike_protocol::crypto::Role;
use turnpike_protocol::money::channel::tx::Terms;
use turnpike_protocol::money::channel::{
    Acceptance, Payee, PayeePolicy, PayeeRecord, PayeeState, Payer, PayerInput, PayerRecord, Settler,
};
use turnpike_protocol::wire::{self, Signature};

pub(super) const NOW: u32 = 1_000;
pub(super) const EXPIRY: u32 = 2_008;
pub(super) const CAPACITY: Sat = Sat::new(50_000);
pub(super) const SLOT: Slot = Slot(0);
/// The party that pays, and the one that is paid.
pub(super) const PAYER: usize = 0;
pub(super) const PAYEE: usize = 1;

/// The terms of the only channel: keys of both sides, derived once.
pub(super) static TERMS: LazyLock<Terms> = LazyLock::new(|| {
    let key = |who: usize, role| {
        let keys = parties::of(who).channel(role, 0).expect("index 0 has keys");
        keys.funding.x_only_public_key().0.serialize()
    };
    Terms {
        payer_key: key(PAYER, Role::Payer),
        payee_key: key(PAYEE, Role::Payee),
        capacity: CAPACITY,
        expiry: BlockHeight::new(EXPIRY),
    }
});

/// The payer's key of the channel.
pub(super) static PAYER_PAIR: LazyLock<bitcoin::key::Keypair> = LazyLock::new(|| {
    parties::of(PAYER)
        .channel(Role::Payer, 0)
        .expect("index 0 has keys")
        .funding
});

/// Where each side's money goes.
pub(super) fn payout(who: usize) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &[who as u8 + 1; 32]].concat())
}

/// A message on its way to the payee.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    Payment { total: Msat, signature: Signature },
    Close,
}

/// What a payee has on disk: its row, and the journal of payments.
#[derive(Clone)]
pub(super) struct PayeeDisk {
    pub row: Vec<u8>,
    pub journal: Vec<(Msat, Signature)>,
}

impl PayeeDisk {
    /// The row with its journal applied, as a node loads it.
    pub fn read(&self) -> PayeeRecord {
        let mut record: PayeeRecord = wire::decode(&self.row).expect("a row that was written can be read");
        for (total, signature) in &self.journal {
            if *total > record.total && record.state != PayeeState::Over {
                record.total = *total;
                record.signature = *signature;
            }
        }
        record
    }
}

pub(super) struct World {
    pub policy: PayeePolicy,
    pub payer: Payer,
    pub payee: Payee,
    pub settler: Settler,
    pub payer_disk: Vec<u8>,
    pub payee_disk: PayeeDisk,
    pub backup: Option<(Vec<u8>, PayeeDisk)>,
    pub chain: Chain,
    pub flight: VecDeque<Sent>,
    pub rate: FeeRate,
    /// Actions that are still done before the power goes, per side.
    pub cut: [Option<u8>; 2],
    /// The payer may have signed up to here: the highest total that was on its disk.
    pub written: Msat,
    /// The highest total whose signature left the payer.
    pub signed: Msat,
    /// The highest total that the payee credited.
    pub credited: Msat,
    /// The payee runs on an old backup: what it forgot is its own loss.
    pub forgot: bool,
    /// The payee's newest payment that was verified.
    pub verified: Option<(Msat, Signature)>,
}

impl World {
    /// Accepted, funding built and broadcast, in no block yet.
    pub fn new() -> World {
        let (terms, policy, now) = (*TERMS, PayeePolicy::default(), BlockHeight::new(NOW));
        let until = policy
            .accept(&terms, now, 205, FeeRate::MIN_RELAY)
            .expect("good terms are accepted");
        let [payer_id, payee_id] = [PAYER, PAYEE].map(|w| parties::of(w).node());
        let mut payee = Payee::accept(SLOT, payer_id, terms, 0, now, until).expect("good terms");
        let accepted = Acceptance {
            terms,
            accept_until: until,
        };
        let mut payer =
            Payer::fund(SLOT, payee_id, accepted, Signature([0; 64]), 0, now, &VERIFIER).expect("good terms");
        let chain = Chain::new();
        let built = PayerInput::FundingBuilt {
            outpoint: chain.outpoint,
            fee: Sat::new(150),
            tx: &serialize(&chain.funding),
        };
        payer
            .handle(&VERIFIER, built)
            .expect("the funding pays the channel");
        while payer.poll_action().is_some() || payee.poll_action().is_some() {}
        World {
            policy,
            settler: Settler::new(payout(PAYEE)),
            payer_disk: wire::encode(payer.record()),
            payee_disk: PayeeDisk {
                row: wire::encode(payee.record()),
                journal: Vec::new(),
            },
            payer,
            payee,
            backup: None,
            chain,
            flight: VecDeque::new(),
            rate: FeeRate::MIN_RELAY,
            cut: [None; 2],
            written: Msat::ZERO,
            signed: Msat::ZERO,
            credited: Msat::ZERO,
            forgot: false,
            verified: None,
        }
    }

    /// What holds between any two operations.
    pub fn check(&mut self) {
        let (payer, payee) = (self.payer.record(), self.payee.record());
        let signed = self.signed.to_sat_ceil();
        assert!(
            payee.total.to_sat_ceil() <= signed,
            "the payee holds {} of {signed} signed",
            payee.total
        );
        assert!(
            payer.total.to_sat_ceil() <= self.written.to_sat_ceil(),
            "the payer owes what it never wrote"
        );
        assert_eq!(
            self.payer.exposure(),
            Msat::ZERO,
            "publishing an old state would bring the payer something"
        );
        // Acknowledgements cost nothing to forget.
        let written = PayerRecord {
            acknowledged: payer.acknowledged,
            ..self.read_payer()
        };
        assert_eq!(*payer, written, "the payer's state is not on its disk");
        assert_eq!(
            *payee,
            self.payee_disk.read(),
            "the payee's state is not on its disk"
        );
        let newest = (payee.total, payee.signature);
        if payee.total > Msat::ZERO && self.verified != Some(newest) {
            let paid = payee.total.to_sat_ceil();
            let digest = self.payer.digest().expect("the payer is funded");
            digest
                .verify_payment(VERIFIER.context(), paid, &payee.signature.0)
                .expect("the payee keeps the signature of its newest total");
            self.verified = Some(newest);
        }
    }

    pub fn read_payer(&self) -> PayerRecord {
        wire::decode(&self.payer_disk).expect("a row that was written can be read")
    }
}
