//! Where a bundle comes from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes at an offset of a bundle. Offsets mostly rise; what lies between was taken before.
pub trait Source {
    /// Bytes in all, where the source says so. It may lie: nothing but a refusal follows from it.
    fn length(&self) -> Option<u64>;
    /// Fills `out`, or fails.
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError>;
}

/// The source did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It has fewer bytes.
    #[error(
        "{source_name} ends after {length} bytes: it is not whole; get it again, what was written is kept"
    )]
    Ended {
        /// Name of the source.
        source_name: String,
        /// Its bytes.
        length: u64,
    },
    /// It cannot be read.
    #[error("{source_name}: {reason}: try again, what was written is kept")]
    Failed {
        /// Name of the source.
        source_name: String,
        /// What happened.
        reason: String,
    },
    /// It answers what cannot be right.
    #[error("{source_name} answers {reason}: get the bundle elsewhere, what was written is kept")]
    Dishonest {
        /// Name of the source.
        source_name: String,
        /// What it says.
        reason: String,
    },
}

/// A bundle in a file.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
    name: String,
}

impl FileSource {
    /// Opens it.
    pub fn open(path: &Path) -> Result<FileSource, SourceError> {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| {
            let about = file.metadata()?;
            match about.is_file() {
                true => Ok((file, about.len())),
                false => Err(io::Error::other("this is no file")),
            }
        });
        match opened {
            Ok((file, length)) => Ok(FileSource { file, length, name }),
            Err(error) => Err(SourceError::Failed {
                source_name: name,
                reason: error.to_string(),
            }),
        }
    }
}

impl Source for FileSource {
    fn length(&self) -> Option<u64> {
        Some(self.length)
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SourceError::Ended {
                    source_name: self.name.clone(),
                    length: self.length,
                },
                _ => SourceError::Failed {
                    source_name: self.name.clone(),
                    reason: error.to_string(),
                },
            })
    }
}
