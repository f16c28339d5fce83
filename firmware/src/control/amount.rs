//! Numbers as people read them. No floats: what is shown is cut off, never rounded up.

use turnpike_protocol::base::{ByteCount, FeeRate, Msat, Sat};
use turnpike_protocol::market::UNLIMITED;

/// `12,345 sat`.
pub fn sat(amount: Sat) -> String {
    format!("{} sat", grouped(amount.value()))
}

/// `12,345.678 sat`, without zeros at the end.
pub fn msat(amount: Msat) -> String {
    let (whole, rest) = (amount.value() / 1_000, amount.value() % 1_000);
    let fraction = format!("{rest:03}");
    match fraction.trim_end_matches('0') {
        "" => format!("{} sat", grouped(whole)),
        fraction => format!("{}.{fraction} sat", grouped(whole)),
    }
}

/// `999 B`, `12.3 MiB`.
pub fn bytes(count: ByteCount) -> String {
    if count == UNLIMITED {
        return "unlimited".to_owned();
    }
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let count = u128::from(count.value());
    if count < 1_024 {
        return format!("{count} B");
    }
    let unit = UNITS
        .iter()
        .enumerate()
        .rev()
        .find(|(n, _)| count >> (10 * (n + 1)) > 0);
    let (n, unit) = unit.unwrap_or((0, &UNITS[0]));
    let tenths = (count * 10) >> (10 * (n + 1));
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `2.5 sat/vB`.
pub fn rate(rate: FeeRate) -> String {
    msat(Msat::new(rate.value())).replace(" sat", " sat/vB")
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 d 4 h`, `12 min`, `5 s`.
pub fn seconds(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}
