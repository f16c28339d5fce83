//! The card: where a node's slots, its trial and its problems are on disk.
//!
//! What it does: names the places, reads and writes `trial.env`, `slot.env` and the markers of slots, tells which slot
//! boots next, keeps the list of problems.
//! What comes in: files of the boot partition, the kernel command line. What goes out: the same files, each written so
//! that a power cut leaves the old one, the new one, or one that reads as "no trial".
//! What it never does: judge an update (`crate::update` does), make or repair a file system, restart the machine.
//! Spec page: `protocol/spec/card.md`.

mod choice;
mod cmdline;
mod medium;
mod places;
mod problems;
mod slot;
#[cfg(test)]
mod tests;
mod trial;
mod writable;

pub use choice::{BootChoice, SlotFacts, boot_choice};
pub use cmdline::{KernelLine, RootFacts};
pub use medium::{Disk, Medium};
pub use places::{CARD_VARIABLE, Places};
pub use problems::{Problem, ProblemCode, Problems};
pub use slot::{INITRD, KERNEL, MANIFEST, Slot, SlotEnv, SlotFiles};
pub use trial::{ATTEMPTS, TRIAL_BYTES, Trial};
pub use writable::Writable;
