//! A bundle put together from its parts: to write it to a file, to serve it, to read it like any other source.

use super::bundle::{END, header_of, padded};
use super::keys::key_id;
use super::{Hashing, MAX_SIGNATURE, MAX_SIGNATURES, Manifest, Source, SourceError};
use crate::card::MANIFEST;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The parts of a bundle in their order. Equal parts give equal bytes.
#[derive(Debug)]
pub struct Layout {
    parts: Vec<Part>,
    length: u64,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    File { file: File, path: PathBuf, size: u64 },
    Zeros(u64),
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File { size, .. } => *size,
            Part::Zeros(count) => *count,
        }
    }
}

impl Layout {
    /// Of a manifest's text, texts of signatures, and the files that the manifest lists: kernel, initramfs, root. A file
    /// may be longer than the manifest says, as a partition is.
    ///
    /// # Errors
    /// What is no manifest, no signature, or cannot be opened, by name.
    pub fn new(manifest: &[u8], signatures: &[String], files: [&Path; 3]) -> io::Result<Layout> {
        let known = Manifest::parse(manifest).map_err(io::Error::other)?;
        let mut named = Vec::new();
        for text in signatures {
            let id = key_id(text).filter(|_| text.len() as u64 <= MAX_SIGNATURE);
            let id = id.ok_or_else(|| io::Error::other("a signature is not what `minisign -S` writes"))?;
            named.push((format!("{MANIFEST}.{id}.minisig"), text));
        }
        named.sort();
        named.dedup();
        if named.len() > MAX_SIGNATURES {
            return Err(io::Error::other(format!(
                "a bundle takes {MAX_SIGNATURES} signatures at most"
            )));
        }
        let mut parts = Vec::new();
        push_bytes(&mut parts, MANIFEST, manifest);
        for (name, text) in &named {
            push_bytes(&mut parts, name, text.as_bytes());
        }
        for (entry, path) in known.files.iter().zip(files) {
            let file =
                File::open(path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            parts.push(Part::Bytes(header_of(entry.name, entry.size).to_vec()));
            parts.push(Part::File {
                file,
                path: path.to_owned(),
                size: entry.size,
            });
            parts.push(Part::Zeros(padded(entry.size) - entry.size));
        }
        parts.push(Part::Zeros(END));
        let length = parts.iter().map(Part::length).sum();
        Ok(Layout { parts, length })
    }

    /// The files are what the manifest says, to their last byte.
    pub fn check(&self, manifest: &Manifest) -> io::Result<()> {
        let files = self.parts.iter().filter_map(|part| match part {
            Part::File { file, path, .. } => Some((file, path)),
            _ => None,
        });
        for ((file, path), entry) in files.zip(&manifest.files) {
            let hashing = Hashing::read(file.try_clone()?, entry.size)?;
            let size = hashing.size();
            if size != entry.size || hashing.finish() != (entry.sha256, entry.chunks.clone()) {
                return Err(io::Error::other(format!(
                    "{}: this is not the {} of the manifest: make the manifest anew and have it signed",
                    path.display(),
                    entry.name
                )));
            }
        }
        Ok(())
    }

    /// Bytes of the bundle.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the whole bundle.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.length {
            let count = (self.length - at).min(buffer.len() as u64) as usize;
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.fill(at, part)?;
            out.write_all(part)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Bytes from `offset` on; past the end is an error.
    pub fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut start = 0;
        let mut at = offset;
        let mut rest = out;
        for part in &self.parts {
            let length = part.length();
            let end = start + length;
            if at < end && !rest.is_empty() {
                let count = (end - at).min(rest.len() as u64) as usize;
                let (now, later) = rest.split_at_mut(count);
                let within = at - start;
                match part {
                    Part::Bytes(bytes) => bytes.get(within as usize..).unwrap_or_default().read_exact(now)?,
                    Part::File { file, .. } => file.read_exact_at(now, within)?,
                    Part::Zeros(_) => now.fill(0),
                }
                at += count as u64;
                rest = later;
            }
            start = end;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Source for Layout {
    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.fill(offset, out).map_err(|error| SourceError::Failed {
            source_name: "the bundle".to_owned(),
            reason: error.to_string(),
        })
    }
}

fn push_bytes(parts: &mut Vec<Part>, name: &str, bytes: &[u8]) {
    let size = bytes.len() as u64;
    parts.push(Part::Bytes(header_of(name, size).to_vec()));
    parts.push(Part::Bytes(bytes.to_vec()));
    parts.push(Part::Zeros(padded(size) - size));
}
