//! The rule by which `boot.scr` picks a slot, for `status` and for tests.

use super::{Places, Slot, SlotFiles, Trial};

/// What the rule looks at in a slot's folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotFacts {
    /// `good` is there.
    pub good: bool,
    /// `bad` is there.
    pub bad: bool,
    /// `slot.env`, kernel and initramfs are there.
    pub loadable: bool,
}

/// What the next start does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootChoice {
    /// The slot that starts; `None` if neither can be loaded.
    pub slot: Option<Slot>,
    /// Attempts left after this one, if it is a trial.
    pub trial: Option<u8>,
    /// The slot whose trial ran out.
    pub failed: Option<Slot>,
}

impl BootChoice {
    /// Of the card as it is now.
    pub fn of(places: &Places) -> BootChoice {
        let facts = |slot| SlotFiles::of(places, slot).facts();
        boot_choice(facts(Slot::A), facts(Slot::B), Trial::read(places))
    }
}

/// `boot.scr`'s rule (card.md, "Which slot boots"). The two are kept alike by hand; the card's tests run the real one.
pub fn boot_choice(a: SlotFacts, b: SlotFacts, trial: Option<Trial>) -> BootChoice {
    let facts = |slot| match slot {
        Slot::A => a,
        Slot::B => b,
    };
    let mut chosen = if b.good { Slot::B } else { Slot::A };
    let other = facts(chosen.other());
    if facts(chosen).bad && other.good && !other.bad {
        chosen = chosen.other();
    }
    let mut spare = chosen.other();
    let mut choice = BootChoice {
        slot: None,
        trial: None,
        failed: None,
    };
    match trial {
        Some(Trial { slot, left: 0 }) => choice.failed = Some(slot),
        Some(Trial { slot, left }) => {
            choice.trial = Some(left - 1);
            spare = chosen;
            chosen = slot;
        }
        None => {}
    }
    choice.slot = [chosen, spare].into_iter().find(|slot| facts(*slot).loadable);
    choice
}
