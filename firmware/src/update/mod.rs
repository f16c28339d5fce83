//! Updates: a signed bundle into the slot that does not run, its trial, and the way back.
//!
//! What it does: builds bundles; checks one against the owner's keys, the board, the running version and the store;
//! streams it into the inactive slot, each chunk checked before it is written; switches to it on trial; makes it good, or
//! gives it up and says why.
//! What comes in: a bundle by file or HTTP, the card's state, the health service's verdict. What goes out: files of a
//! slot, `trial.env`, the outcome, problems.
//! What it never does: write to the running slot's files, take a path from a bundle, trust a source: only the manifest
//! under enough signatures counts. It does not restart the machine.
//! Spec pages: `protocol/spec/update.md`, `protocol/spec/card.md`.

mod apply;
mod bundle;
mod checks;
mod error;
mod hash;
mod http;
mod inbox;
mod keys;
mod layout;
mod manifest;
mod outcome;
mod rollback;
mod serve;
mod source;
mod status;
#[cfg(test)]
mod tests;
mod verdict;

pub use apply::{Applied, Step, apply, inspect};
pub use error::{NotNow, Refusal, UpdateError};
pub use hash::{Digest, Hashing};
pub use http::HttpSource;
pub use inbox::{Taken, take_from_boot};
pub use keys::Keys;
pub use layout::Layout;
pub use manifest::{FileEntry, Manifest, ManifestFacts};
pub use outcome::{Outcome, Stage};
pub use rollback::rollback;
pub use serve::Serve;
pub use source::{FileSource, Source, SourceError};
pub use status::{SlotStatus, Status, update_line};
pub use verdict::{Commit, Verdict, commit, fail, settle};

/// Bytes of one chunk: small enough to hold in memory on every board, large enough that its hash costs little in the manifest.
pub const CHUNK: u64 = 1024 * 1024;
/// Largest manifest, bytes.
pub const MAX_MANIFEST: u64 = 256 * 1024;
/// Largest signature file, bytes: a stock one has about 300.
pub const MAX_SIGNATURE: u64 = 1_024;
/// Most signatures in a bundle, and most keys that are asked for.
pub const MAX_SIGNATURES: usize = 16;
/// Largest kernel or initramfs, bytes: both slots' fit into the boot partition.
pub const MAX_BOOT_FILE: u64 = 64 * 1024 * 1024;
/// Largest root, bytes: a slot's partition on today's cards has an eighth of it, and its chunks' hashes fit into the manifest.
pub const MAX_ROOT: u64 = 1024 * 1024 * 1024;
