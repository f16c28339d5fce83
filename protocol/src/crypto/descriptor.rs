//! BIP380 output descriptor checksums: wallets refuse to import a descriptor without one.

use alloc::string::String;

/// The eight checksum characters of a descriptor (without `#`), or `None` if a character is not allowed in one.
///
/// BIP380: a code over GF(32); each character gives five bits at once and two bits of its group every third time.
pub fn checksum(descriptor: &str) -> Option<String> {
    let mut code = 1_u64;
    let mut groups = 0_usize;
    let mut in_group = 0;
    for c in descriptor.chars() {
        let at = INPUT.find(c)?;
        code = step(code, at & 31);
        groups = groups * 3 + (at >> 5);
        in_group += 1;
        if in_group == 3 {
            code = step(code, groups);
            (groups, in_group) = (0, 0);
        }
    }
    if in_group > 0 {
        code = step(code, groups);
    }
    for _ in 0..8 {
        code = step(code, 0);
    }
    code ^= 1;
    (0..8)
        .map(|i| OUTPUT.chars().nth((code >> (5 * (7 - i))) as usize & 31))
        .collect()
}

/// The characters of descriptors in the order of BIP380.
const INPUT: &str =
    "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
/// The characters of checksums: those of bech32.
const OUTPUT: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// BIP380's generator.
const GENERATOR: [u64; 5] = [
    0xf5dee51989,
    0xa9fdca3312,
    0x1bab10e32d,
    0x3706b1677a,
    0x644d626ffd,
];

fn step(code: u64, value: usize) -> u64 {
    let top = code >> 35;
    let mut next = ((code & 0x7_ffff_ffff) << 5) ^ value as u64;
    for (bit, term) in GENERATOR.iter().enumerate() {
        if top >> bit & 1 == 1 {
            next ^= term;
        }
    }
    next
}
