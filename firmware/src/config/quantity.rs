//! Numbers with their units, as owners write them: `"4 MiB"`, `"50 msat/MiB"`, `"10 s"`.

/// A kind of quantity: its units, each with its size in the smallest one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// What it is, with its article: "a size".
    pub(super) noun: &'static str,
    /// Unit and factor, smallest first.
    units: &'static [(&'static str, u64)],
    /// What an owner may copy.
    pub(super) sample: &'static str,
}

pub(super) const SIZE: Kind = Kind {
    noun: "a size",
    units: &[
        ("B", 1),
        ("kB", 1_000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
        ("TB", 1_000_000_000_000),
        ("TiB", 1 << 40),
    ],
    sample: "4 MiB",
};
pub(super) const PRICE_PER_MIB: Kind = Kind {
    noun: "a price per byte",
    units: &[("msat/MiB", 1), ("sat/MiB", 1_000)],
    sample: "50 msat/MiB",
};
pub(super) const PRICE_PER_SECOND: Kind = Kind {
    noun: "a price per time",
    units: &[("msat/s", 1), ("sat/s", 1_000)],
    sample: "10 msat/s",
};
pub(super) const AMOUNT: Kind = Kind {
    noun: "an amount",
    units: &[("sat", 1)],
    sample: "50000 sat",
};
pub(super) const BLOCKS: Kind = Kind {
    noun: "a number of blocks",
    units: &[("blocks", 1), ("block", 1)],
    sample: "1008 blocks",
};
pub(super) const TIME: Kind = Kind {
    noun: "a time",
    units: &[("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)],
    sample: "10 s",
};

/// Why a text is no quantity of a kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum QuantityError {
    /// It does not begin with a whole number.
    NoNumber,
    /// Nothing follows the number.
    NoUnit,
    /// What follows the number is no unit of this kind.
    WrongUnit(String),
    /// Larger than any number here.
    TooLarge,
}

impl Kind {
    /// The quantity in the smallest unit. Digits may be grouped by `_`.
    pub(super) fn parse(&self, text: &str) -> Result<u64, QuantityError> {
        let text = text.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let digits = digits.replace('_', "");
        let unit = unit.trim();
        if digits.is_empty() || unit.starts_with(['.', ',']) {
            return Err(QuantityError::NoNumber);
        }
        if unit.is_empty() {
            return Err(QuantityError::NoUnit);
        }
        let factor = self
            .units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| QuantityError::WrongUnit(unit.to_owned()))?;
        let number: u64 = digits.parse().map_err(|_| QuantityError::TooLarge)?;
        number.checked_mul(factor).ok_or(QuantityError::TooLarge)
    }

    /// A number of the smallest unit as an owner would write it.
    pub(super) fn show(&self, value: u64) -> String {
        let best = self
            .units
            .iter()
            .rev()
            .filter(|(_, factor)| value != 0 && value % factor == 0)
            .max_by_key(|(_, factor)| *factor);
        let (unit, factor) = best.unwrap_or(&self.units[0]);
        format!("{} {unit}", value / factor)
    }

    /// "B, kB or MB".
    pub(super) fn unit_list(&self) -> String {
        let names: Vec<_> = self.units.iter().map(|(name, _)| *name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }
}

/// A percentage with at most four decimals, in parts per million.
pub(super) fn percent(text: &str) -> Option<u32> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || fraction.len() > 4 || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<4}").parse().ok()
}
