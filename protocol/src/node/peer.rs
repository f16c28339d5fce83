//! What a node knows of one live session. Nothing here survives it.

use super::Offer;
use crate::base::{BlockHeight, Instant, Msat, NodeId, Slot};
use crate::money::channel::tx::Terms;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One session.
pub(super) struct Peer {
    /// Who is at the other end, authenticated.
    pub id: NodeId,
    /// Its hello was good.
    pub greeted: bool,
    /// The store generation that it showed.
    pub generation: u64,
    /// The funding of ours that was handed on last, and at which height: once a block is enough.
    pub relayed: Option<(Slot, BlockHeight)>,
    /// Channels by short name: the place in this list.
    pub shorts: Vec<Slot>,
    /// What it was told last of these: totals taken, and whether any more are.
    pub told: BTreeMap<Slot, (Msat, bool)>,
    /// What it sells, if we asked.
    pub offer: Option<Offer>,
    /// What we asked it to accept.
    pub asked: Option<Asked>,
    /// How much its payee side takes now, of channels in which we pay.
    pub ready: Vec<Ready>,
    /// The service account is open on its side.
    pub bound: bool,
    /// The question to open the service account, until it did.
    pub bind_asked: Option<BindAsked>,
    /// Questions since the moment beside them.
    pub binds: (Instant, u8),
}

/// A channel that we asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Terms so far; the payee's key is still missing.
    pub terms: Terms,
    /// Index of our keys.
    pub key_index: u32,
}

/// A binding that we asked for.
#[derive(Clone, Copy)]
pub(super) struct BindAsked {
    /// The channel that pays.
    pub slot: Slot,
    /// When.
    pub at: Instant,
    /// It was refused.
    pub refused: bool,
}

/// A channel that the peer said it is ready for.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    /// Our row.
    pub slot: Slot,
    /// The peer's short name.
    pub short: u16,
    /// Totals above this it refuses now.
    pub ceiling: Msat,
}

impl Peer {
    pub fn new(id: NodeId) -> Peer {
        Peer {
            id,
            greeted: false,
            generation: 0,
            relayed: None,
            shorts: Vec::new(),
            told: BTreeMap::new(),
            offer: None,
            asked: None,
            ready: Vec::new(),
            bound: false,
            bind_asked: None,
            binds: (Instant::default(), 0),
        }
    }

    /// The short name of a channel in which the peer pays us.
    pub fn short(&mut self, slot: Slot) -> u16 {
        let place = self.shorts.iter().position(|s| *s == slot).unwrap_or_else(|| {
            self.shorts.push(slot);
            self.shorts.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// The channel with this short name.
    pub fn slot(&self, short: u16) -> Option<Slot> {
        self.shorts.get(usize::from(short)).copied()
    }

    /// How the peer names a channel in which we pay, and its price sheet.
    pub fn payment_names(&self, slot: Slot) -> Option<(u16, u8)> {
        let ready = self.ready.iter().find(|r| r.slot == slot)?;
        Some((ready.short, self.offer.as_ref()?.sheet_id))
    }

    /// What the peer takes now on a channel in which we pay.
    pub fn ceiling(&self, slot: Slot) -> Msat {
        self.ready
            .iter()
            .find(|r| r.slot == slot)
            .map_or(Msat::ZERO, |r| r.ceiling)
    }
}
