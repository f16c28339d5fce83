//! Random bytes as people read them aloud and type them: 32 digits and letters without I, L, O and U, in groups of four,
//! the last byte a check of the others.

use bitcoin::hashes::{Hash, sha256};
use std::fmt;

/// Crockford's base 32.
const SIGNS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// `N` bytes, the last one a check. `N` is a multiple of 5: eight signs are five bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Spoken<const N: usize>([u8; N]);

impl<const N: usize> Spoken<N> {
    /// Fresh ones of the system.
    pub(super) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        bytes[N - 1] = check(&bytes);
        Ok(Spoken(bytes))
    }

    /// Bytes that were random once; `None` if they were changed since.
    pub(super) fn from_bytes(bytes: [u8; N]) -> Option<Self> {
        (bytes[N - 1] == check(&bytes)).then_some(Spoken(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// As a person types it: small letters, spaces and hyphens do not matter, and O is 0, I and L are 1.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        let (mut held, mut bits, mut at) = (0_u32, 0, 0);
        for sign in text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-')
        {
            let sign = match sign.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                sign => sign,
            };
            held = held << 5 | SIGNS.iter().position(|known| *known == sign)? as u32;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                *bytes.get_mut(at)? = (held >> bits) as u8;
                held &= (1 << bits) - 1;
                at += 1;
            }
        }
        (at == N && bits == 0).then_some(())?;
        Spoken::from_bytes(bytes)
    }
}

fn check<const N: usize>(bytes: &[u8; N]) -> u8 {
    sha256::Hash::hash(&bytes[..N - 1]).to_byte_array()[0]
}

impl<const N: usize> fmt::Display for Spoken<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut held, mut bits, mut count) = (0_u32, 0, 0);
        for byte in self.0 {
            held = held << 8 | u32::from(byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                if count > 0 && count % 4 == 0 {
                    f.write_str("-")?;
                }
                write!(f, "{}", SIGNS[(held >> bits & 31) as usize] as char)?;
                held &= (1 << bits) - 1;
                count += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_however_it_is_typed() {
        for _ in 0..50 {
            let code = Spoken::<15>::random().unwrap();
            let text = code.to_string();
            assert_eq!(text.len(), 29);
            let typed = text
                .to_lowercase()
                .replace('-', " ")
                .replace('1', "l")
                .replace('0', "o");
            for text in [text, typed] {
                assert!(Spoken::<15>::read(&text) == Some(code), "{text}");
            }
        }
        assert_eq!(Spoken([0, 1, 2, 3, 4]).to_string(), "000G-40R4");
    }

    #[test]
    fn a_wrong_sign_is_noticed_nearly_always_and_a_wrong_length_always() {
        let text = Spoken::<10>::random().unwrap().to_string();
        let (mut wrong, mut taken) = (0, 0);
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for sign in SIGNS.iter().filter(|sign| **sign != text.as_bytes()[at]) {
                let mut typed = text.clone().into_bytes();
                typed[at] = *sign;
                wrong += 1;
                taken += usize::from(Spoken::<10>::read(std::str::from_utf8(&typed).unwrap()).is_some());
            }
        }
        assert!(taken * 50 < wrong, "{taken} of {wrong}");
        for text in ["", "0", "U", &text[1..], &format!("{text}0"), "not a code at all"] {
            assert!(Spoken::<10>::read(text).is_none(), "{text}");
        }
    }
}
