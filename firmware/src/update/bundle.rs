//! Reading a bundle: a tar file whose members, order and sizes are known before it is opened.
//!
//! A reader of our own, because an update asks for member and offset, not for the next entry: what is in the slot already is
//! never fetched, over HTTP too. It takes no path from the file, follows no link, and holds one header at a time.

use super::manifest::Manifest;
use super::{
    MAX_BOOT_FILE, MAX_MANIFEST, MAX_ROOT, MAX_SIGNATURE, MAX_SIGNATURES, Refusal, Source, UpdateError,
};
use crate::card::MANIFEST;

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;
/// Zeros that end a bundle, at least; stock tar pads to 20 blocks and more.
pub(super) const END: u64 = 2 * BLOCK;
const MAX_PADDING: u64 = 1024 * 1024;
/// No bundle is longer.
const MAX_BUNDLE: u64 =
    MAX_ROOT + 2 * MAX_BOOT_FILE + MAX_MANIFEST + MAX_SIGNATURES as u64 * 4 * BLOCK + MAX_PADDING;

/// The signed part of a bundle, not yet judged.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) manifest: Vec<u8>,
    /// Texts of the signatures.
    pub(super) signatures: Vec<String>,
    /// Header of the first file.
    first: Head,
}

impl Signed {
    /// Reads manifest and signatures.
    pub(super) fn read(source: &mut dyn Source) -> Result<Signed, UpdateError> {
        if source.length().is_some_and(|length| length > MAX_BUNDLE) {
            return Err(damaged(format!("no bundle has more than {MAX_BUNDLE} bytes")));
        }
        let first = header(source, 0)?;
        if first.name != MANIFEST {
            return Err(damaged(format!("it does not begin with {MANIFEST}")));
        }
        if first.size == 0 || first.size > MAX_MANIFEST {
            return Err(damaged(format!("its manifest has {} bytes", first.size)));
        }
        let manifest = member(source, &first)?;
        let mut signatures = Vec::new();
        let mut next = first.end();
        loop {
            let head = header(source, next)?;
            if !is_signature(&head.name) {
                return Ok(Signed {
                    manifest,
                    signatures,
                    first: head,
                });
            }
            if head.size > MAX_SIGNATURE || signatures.len() == MAX_SIGNATURES {
                return Err(damaged("it has too many or too long signatures"));
            }
            let text = member(source, &head)?;
            signatures.push(String::from_utf8_lossy(&text).into_owned());
            next = head.end();
        }
    }

    /// Where the files' bytes begin, in the manifest's order, for a source of this length. Nothing else may be in the bundle.
    pub(super) fn locate(&self, length: Option<u64>, manifest: &Manifest) -> Result<[u64; 3], UpdateError> {
        let mut starts = [0; 3];
        let mut next = self.first.data - BLOCK;
        for (start, file) in starts.iter_mut().zip(&manifest.files) {
            let data = next + BLOCK;
            *start = data;
            next = data + padded(file.size);
        }
        // Known now, so a source that ends early or goes on is refused before anything is written.
        if let Some(length) = length {
            if !(next + END..=next + MAX_PADDING).contains(&length) {
                return Err(damaged(format!(
                    "it has {length} bytes and its manifest speaks of {}",
                    next + END
                )));
            }
        }
        let [kernel, ..] = &manifest.files;
        expect(&self.first, kernel.name, kernel.size)?;
        Ok(starts)
    }
}

/// The header in front of a file's bytes at `start` is that of this file.
pub(super) fn expect_at(
    source: &mut dyn Source,
    start: u64,
    name: &str,
    size: u64,
) -> Result<(), UpdateError> {
    let head = header(source, start.saturating_sub(BLOCK))?;
    expect(&head, name, size)
}

/// Zeros follow after the last file.
pub(super) fn expect_end(source: &mut dyn Source, end: u64) -> Result<(), UpdateError> {
    let mut blocks = [0xff; END as usize];
    source.read_at(end, &mut blocks)?;
    if blocks.iter().any(|byte| *byte != 0) {
        return Err(damaged("more follows after root.img"));
    }
    Ok(())
}

/// `manifest.toml.KEYID.minisig`
pub(super) fn is_signature(name: &str) -> bool {
    name.strip_prefix(MANIFEST)
        .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".minisig"))
        .is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Bytes up to the end of the last block.
pub(super) fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK) * BLOCK
}

/// The header of one file; equal names and sizes give equal bytes.
pub(super) fn header_of(name: &str, size: u64) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(text) {
            *to = *from;
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is made over spaces in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let mut put = |at: usize, text: &[u8]| {
        for (to, from) in block.iter_mut().skip(at).zip(text) {
            *to = *from;
        }
    };
    put(148, format!("{sum:06o}\0 ").as_bytes());
    block
}

#[derive(Debug)]
struct Head {
    name: String,
    size: u64,
    /// Where its bytes begin.
    data: u64,
}

impl Head {
    fn end(&self) -> u64 {
        self.data + padded(self.size)
    }
}

fn expect(head: &Head, name: &str, size: u64) -> Result<(), UpdateError> {
    if head.name != name {
        return Err(damaged(format!("{name} is expected where {} stands", head.name)));
    }
    if head.size != size {
        return Err(damaged(format!(
            "{name} has {} bytes there and {size} in the manifest",
            head.size
        )));
    }
    Ok(())
}

fn member(source: &mut dyn Source, head: &Head) -> Result<Vec<u8>, UpdateError> {
    let mut bytes = vec![0; head.size as usize];
    source.read_at(head.data, &mut bytes)?;
    Ok(bytes)
}

fn header(source: &mut dyn Source, at: u64) -> Result<Head, UpdateError> {
    let mut block = [0; BLOCK as usize];
    source.read_at(at, &mut block)?;
    parse(&block, at).ok_or_else(|| damaged(format!("no plain tar header at byte {at}")))
}

/// A ustar header, or GNU tar's own kind, of a plain file without folder.
fn parse(block: &[u8; BLOCK as usize], at: u64) -> Option<Head> {
    let field = |from: usize, length: usize| block.get(from..from + length);
    let sum = octal(field(148, 8)?)?;
    let counted = block.iter().enumerate().map(|(i, byte)| match i {
        148..156 => u64::from(b' '),
        _ => u64::from(*byte),
    });
    let magic = field(257, 6)?;
    let plain = matches!(field(156, 1)?, b"0" | b"\0");
    let prefix = field(345, 155)?.iter().all(|byte| *byte == 0);
    if counted.sum::<u64>() != sum || !(magic == b"ustar\0" || magic == b"ustar ") || !plain || !prefix {
        return None;
    }
    let name = field(0, 100)?.split(|byte| *byte == 0).next()?;
    let printable = name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/');
    if name.is_empty() || !printable {
        return None;
    }
    let size = octal(field(124, 12)?)?;
    if size > MAX_ROOT {
        return None;
    }
    Some(Head {
        name: String::from_utf8(name.to_vec()).ok()?,
        size,
        data: at + BLOCK,
    })
}

/// Octal digits, ended by a zero or a space.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_end_matches(['\0', ' ']).trim_start_matches(' ');
    let digits = !text.is_empty() && text.bytes().all(|byte| (b'0'..b'8').contains(&byte));
    digits.then(|| u64::from_str_radix(text, 8).ok()).flatten()
}

fn damaged(reason: impl ToString) -> UpdateError {
    Refusal::Bundle {
        reason: reason.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_any_changed_byte_of_it_is_noticed() {
        let block = header_of("root.img", 12_345_678);
        let head = parse(&block, 1_024).unwrap();
        assert_eq!(
            (head.name.as_str(), head.size, head.data),
            ("root.img", 12_345_678, 1_536)
        );
        assert_eq!(head.end() % BLOCK, 0);
        assert_eq!(head.end(), 1_536 + 12_345_856);
        for i in 0..block.len() {
            let mut changed = block;
            changed[i] ^= 0x01;
            assert!(parse(&changed, 0).is_none(), "byte {i}");
        }
    }

    #[test]
    fn numbers_that_are_not_octal_are_no_numbers() {
        for field in [
            &b"        "[..],
            b"\x80\0\0\0\0\0\0\x01",
            b"-1\0",
            b"08\0",
            b"1 1\0",
            b"\0\0",
        ] {
            assert_eq!(octal(field), None, "{field:?}");
        }
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b" 17 \0"), Some(0o17));
    }
}
