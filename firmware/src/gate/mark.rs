//! Flow marks: what connection tracking writes on the flows of one address of one device.
//!
//! A mark is made of interface, MAC and address, under a key that lasts as long as the kernel remembers flows. So a
//! device that is bound again, after a while, a crash or a restart of the daemon, has its flows back, and nobody else
//! has them: another device with the same address has another mark.

use super::binding::{Address, Binding};
use super::error::GateError;
use bitcoin::hashes::siphash24;
use std::collections::BTreeSet;

/// Connection mark of flows that an exempt device began ("TPKE"). No flow mark is this.
pub const EXEMPT_MARK: u32 = 0x5450_4b45;
/// A random UUID that the kernel draws at boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What connection tracking writes on a flow; never 0 and never [`EXEMPT_MARK`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FlowMark(pub(super) u32);

/// An address of a binding with the mark of its flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marked {
    pub address: Address,
    pub mark: FlowMark,
}

/// Makes flow marks.
#[derive(Debug)]
pub struct FlowMarks {
    key: (u64, u64),
}

impl FlowMarks {
    /// With the key of this boot. Where the kernel tells none, with one of this run: flows from before it then wait for
    /// the next packet that their client sends.
    pub fn of_this_boot() -> Result<FlowMarks, GateError> {
        let told = std::fs::read_to_string(BOOT_ID).ok();
        let key = match told.as_deref().and_then(parse_uuid) {
            Some(key) => key,
            None => (random()?, random()?),
        };
        Ok(FlowMarks { key })
    }

    /// The marks of a binding's addresses. None is in `taken` and none comes twice.
    ///
    /// Two addresses are given one mark with a chance of 2^-32. Of two that are bound at once the later one then takes
    /// its next choice.
    pub fn of(&self, binding: &Binding, mut taken: BTreeSet<FlowMark>) -> Vec<Marked> {
        let mut marks = Vec::new();
        for address in binding.addresses() {
            let choices = (0u32..).map(|nth| self.choice(binding, address, nth));
            let free = |mark: &FlowMark| !matches!(mark.0, 0 | EXEMPT_MARK) && !taken.contains(mark);
            marks.extend(
                choices
                    .take(1 << 16)
                    .find(free)
                    .map(|mark| Marked { address, mark }),
            );
            taken.extend(marks.last().map(|m| m.mark));
        }
        marks
    }

    fn choice(&self, binding: &Binding, address: Address, nth: u32) -> FlowMark {
        // A rule's text of the address has no space at its end, and an interface name has none at all.
        let text = format!("{} {} {} {nth}", binding.interface, binding.mac, address.source());
        let hash = siphash24::Hash::hash_to_u64_with_keys(self.key.0, self.key.1, text.as_bytes());
        FlowMark(hash as u32)
    }
}

fn parse_uuid(text: &str) -> Option<(u64, u64)> {
    let digits = text.trim().replace('-', "");
    let (high, low) = digits.split_at_checked(16)?;
    let half = |hex: &str| u64::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 16);
    Some((half(high)?, half(low)?))
}

fn random() -> Result<u64, GateError> {
    getrandom::u64().map_err(|e| GateError::Kernel {
        doing: "a request for a random number",
        source: std::io::Error::other(e.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Mac;
    use super::*;

    fn binding(mac: u8) -> Binding {
        let mut binding = Binding::new("g0".parse().unwrap(), Mac([2, 0, 0, 0, 0, mac]));
        binding.ipv4 = Some([10, 0, 0, 2].into());
        binding.ipv6_prefix = Some("fd00:1:2:3::".parse().unwrap());
        binding
    }

    fn marks(binding: &Binding) -> Vec<FlowMark> {
        let key = FlowMarks { key: (1, 2) };
        key.of(binding, BTreeSet::new()).iter().map(|m| m.mark).collect()
    }

    #[test]
    fn a_device_has_its_marks_back_and_another_one_with_its_addresses_has_others() {
        let first = marks(&binding(1));
        assert_eq!(first, marks(&binding(1)));
        assert_eq!(first.len(), 2);
        assert!(marks(&binding(2)).iter().all(|m| !first.contains(m)));
        let elsewhere = Binding {
            interface: "g1".parse().unwrap(),
            ..binding(1)
        };
        assert!(marks(&elsewhere).iter().all(|m| !first.contains(m)));
    }

    #[test]
    fn an_address_that_comes_or_goes_leaves_the_others_their_marks() {
        let mut more = binding(1);
        more.ipv6.push("fd00:9::1".parse().unwrap());
        assert_eq!(marks(&more)[..2], marks(&binding(1))[..]);
    }

    #[test]
    fn two_that_are_bound_at_once_never_share_a_mark() {
        let key = FlowMarks { key: (1, 2) };
        let taken = BTreeSet::from([marks(&binding(1))[0]]);
        let given = key.of(&binding(1), taken.clone());
        assert_eq!(given.len(), 2);
        assert!(given.iter().all(|m| !taken.contains(&m.mark)));
    }

    #[test]
    fn the_key_of_a_boot_is_all_of_its_uuid() {
        assert_eq!(
            parse_uuid("6d7f0a5e-0001-4bcd-8000-00000000000f\n"),
            Some((0x6d7f_0a5e_0001_4bcd, 0x8000_0000_0000_000f))
        );
        for bad in ["", "6d7f0a5e", "6d7f0a5e-0001-4bcd-8000-00000000000g"] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }
}
