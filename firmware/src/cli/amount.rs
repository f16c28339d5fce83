//! Numbers as people write them, and as they read them.

pub(super) use crate::control::amount::{bytes, grouped, msat, rate, sat, seconds};
use std::ops::RangeInclusive;
use turnpike_protocol::base::FeeRate;

/// `2.5` sat/vB.
pub(super) fn parse_rate(text: &str) -> Result<FeeRate, String> {
    let wrong = || "a fee rate in sat/vB with at most three decimals is expected, such as 2.5".to_owned();
    let value = decimal(text, 3, 1_000).ok_or_else(wrong)?;
    if value == 0 {
        Err(wrong())
    } else {
        Ok(FeeRate::new(value))
    }
}

/// MiB, into bytes; cut off to whole bytes.
pub(super) fn parse_mib(text: &str) -> Result<u64, String> {
    let wrong = || "a number of MiB with at most six decimals is expected, such as 50 or 0.5".to_owned();
    let millionths = decimal(text, 6, 1_000_000).ok_or_else(wrong)?;
    let bytes = (u128::from(millionths) << 20) / 1_000_000;
    u64::try_from(bytes).ok().filter(|b| *b > 0).ok_or_else(wrong)
}

/// A whole number of satoshi, from 1 on.
pub(super) fn parse_sat(text: &str) -> Result<u64, String> {
    whole(text, 1..=u64::MAX, "satoshi", 2_000)
}

/// A whole number of blocks.
pub(super) fn parse_blocks(text: &str) -> Result<u32, String> {
    small(text, 1..=u32::MAX.into(), "blocks", 1_008)
}

/// Seconds to search, at most an hour.
pub(super) fn parse_search(text: &str) -> Result<u32, String> {
    small(text, 1..=3_600, "seconds", 5)
}

/// Seconds to wait, none too.
pub(super) fn parse_wait(text: &str) -> Result<u32, String> {
    small(text, 0..=u32::MAX.into(), "seconds", 10)
}

/// A number of days.
pub(super) fn parse_days(text: &str) -> Result<u32, String> {
    small(text, 1..=u32::MAX.into(), "days", 7)
}

/// A channel's number.
pub(super) fn parse_slot(text: &str) -> Result<u32, String> {
    let wrong = || "the number of a channel is expected, as in `turnpike channel list`".to_owned();
    whole(text, 0..=u32::MAX.into(), "", 0)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(wrong)
}

fn small(text: &str, bounds: RangeInclusive<u64>, of: &str, such_as: u64) -> Result<u32, String> {
    u32::try_from(whole(text, bounds, of, such_as)?).map_err(|error| error.to_string())
}

fn whole(text: &str, bounds: RangeInclusive<u64>, of: &str, such_as: u64) -> Result<u64, String> {
    let upper = if *bounds.end() >= u32::MAX.into() {
        String::new()
    } else {
        format!(" to {}", bounds.end())
    };
    // A sign is no digit here.
    let number = text
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse::<u64>().ok())
        .flatten();
    number.filter(|n| bounds.contains(n)).ok_or_else(|| {
        format!(
            "a whole number of {of} from {}{upper} is expected, such as {such_as}",
            bounds.start()
        )
    })
}

/// A decimal number in units of one `scale`th, with at most `places` decimals.
fn decimal(text: &str, places: usize, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty()
        || !digits(whole)
        || !digits(fraction)
        || fraction.len() > places
        || text.ends_with('.')
    {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<places$}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(fraction)
}
