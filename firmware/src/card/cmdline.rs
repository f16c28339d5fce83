//! What U-Boot told the kernel, and so the node.

use super::{Places, Slot};
use std::fs::File;
use std::io::{self, Read};

/// Longest command line that is read, bytes: the kernel's own limit on arm64 is 2,048.
const MAX_LINE: u64 = 4_096;

/// The root that this boot verifies its blocks against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootFacts {
    /// Hash at the top of the tree, hex.
    pub hash: String,
    /// Salt, hex.
    pub salt: String,
    /// Blocks of 4,096 bytes before the tree.
    pub data_blocks: u64,
}

/// The words of the kernel command line that begin with `turnpike.`; others and malformed ones are passed over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelLine {
    /// The slot that runs.
    pub slot: Option<Slot>,
    /// Attempts left after this one, while a trial is under way.
    pub trial: Option<u8>,
    /// The slot whose trial ran out.
    pub failed: Option<Slot>,
    /// The slot that was to boot, but whose files could not be loaded.
    pub unbootable: Option<Slot>,
    /// The root.
    pub root: Option<RootFacts>,
}

impl KernelLine {
    /// Reads the running kernel's.
    pub fn read(places: &Places) -> io::Result<KernelLine> {
        let mut line = Vec::new();
        File::open(&places.cmdline)?
            .take(MAX_LINE)
            .read_to_end(&mut line)?;
        Ok(KernelLine::parse(&String::from_utf8_lossy(&line)))
    }

    /// Reads one line.
    pub fn parse(line: &str) -> KernelLine {
        let mut facts = KernelLine::default();
        for word in line.split_ascii_whitespace() {
            let Some((name, value)) = word
                .strip_prefix("turnpike.")
                .and_then(|word| word.split_once('='))
            else {
                continue;
            };
            match name {
                "slot" => facts.slot = Slot::named(value),
                "trial" => facts.trial = value.parse().ok(),
                "failed" => facts.failed = Slot::named(value),
                // The first one: it is the slot that was chosen.
                "unbootable" => facts.unbootable = facts.unbootable.or(Slot::named(value)),
                "root" => facts.root = root_facts(value),
                _ => {}
            }
        }
        facts
    }

    /// The slot on trial, if it is the one that runs: U-Boot falls back to the other where its kernel cannot be loaded.
    pub fn on_trial(&self) -> Option<Slot> {
        let slot = self.slot?;
        (self.trial.is_some() && self.unbootable.is_none()).then_some(slot)
    }
}

fn root_facts(value: &str) -> Option<RootFacts> {
    let mut parts = value.split(',');
    let facts = RootFacts {
        hash: parts.next()?.to_owned(),
        salt: parts.next()?.to_owned(),
        data_blocks: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(facts)
}
