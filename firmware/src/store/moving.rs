//! A store that goes on elsewhere: once, on the card that was named, and here no longer.
//!
//! The old card writes a file that only its code opens, then notes durably that it has moved, and only then gives the code
//! away. So whoever can open the file knows that the old card has stopped. The note holds the code too: after a power cut
//! the same command writes the same again.
//!
//! File: magic (16 bytes), format (1), the new card's id (10), salt (32), then sealed chunks (`sealed.rs`) under the key
//! `turnpike/move/v1` of code and id.

use super::backup::{Backup, read_header, write_new};
use super::content::{Content, Traveller};
use super::database::{self, CARD_KEY, Origin, RESTORED_KEY, STORE, Store};
use super::sealed::{Opener, SALT, Sealer, cipher};
use super::spoken::Spoken;
use super::{StoreError, Table};
use bitcoin::hashes::{Hash, sha256};
use redb::ReadableDatabase;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;
use zeroize::Zeroizing;

const MAGIC: &[u8; 16] = b"turnpike moving\n";
const MOVE_FORMAT: u8 = 1;
const TAG: &[u8] = b"turnpike/move/v1";
const ID: usize = 10;
const CODE: usize = 15;
const HEADER: usize = 16 + 1 + ID + SALT;

const MOVED_KEY: &str = "moved";
/// Version of the note.
const NOTE: u8 = 1;

/// Which store this is: random, made with it, and another one in each store that is made out of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CardId(Spoken<ID>);

impl CardId {
    pub(super) fn random() -> std::io::Result<CardId> {
        Spoken::random().map(CardId)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for CardId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let why = "a card's id has 16 digits and letters: copy it from `turnpike card id` on that card";
        Spoken::read(text).map(CardId).ok_or(why)
    }
}

/// What opens a move: 112 random bits, so that no one guesses it and no stretching is needed. It opens the seed too.
#[derive(Clone, PartialEq, Eq)]
pub struct MoveCode(Zeroizing<[u8; CODE]>);

impl MoveCode {
    fn random() -> std::io::Result<MoveCode> {
        Ok(MoveCode(Zeroizing::new(*Spoken::random()?.as_bytes())))
    }

    /// For the owner's eyes.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(Spoken::from_bytes(*self.0).map_or(String::new(), |code| code.to_string()))
    }

    fn key(&self, to: CardId) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.0.as_slice(), to.0.as_bytes()].concat())
    }
}

impl FromStr for MoveCode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let why = "this is no code of a move: it has 24 digits and letters, as `turnpike backup --move-to` printed it";
        let code = Spoken::<CODE>::read(text).ok_or(why)?;
        Ok(MoveCode(Zeroizing::new(*code.as_bytes())))
    }
}

impl fmt::Debug for MoveCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoveCode(…)")
    }
}

/// That a store has moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The card that goes on.
    pub to: CardId,
    /// What opens the file.
    pub code: MoveCode,
    /// Seconds since 1970 by this machine's clock, which may be wrong.
    pub at: u64,
}

impl Moved {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let at = self.at.to_le_bytes();
        Zeroizing::new([&[NOTE][..], self.to.0.as_bytes(), self.code.0.as_slice(), &at].concat())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Moved> {
        let (version, rest) = bytes.split_first()?;
        let (to, rest) = rest.split_first_chunk()?;
        let (code, rest) = rest.split_first_chunk::<CODE>()?;
        (*version == NOTE).then_some(())?;
        Some(Moved {
            to: CardId(Spoken::from_bytes(*to)?),
            code: MoveCode(Zeroizing::new(*Spoken::from_bytes(*code)?.as_bytes())),
            at: u64::from_le_bytes(rest.try_into().ok()?),
        })
    }

    /// The day, as people write it.
    pub(super) fn day(&self) -> String {
        day(self.at)
    }
}

/// What a move wrote.
#[derive(Clone, Debug)]
pub struct Departure {
    /// What opens the file. It is given away only now that the old store has stopped.
    pub code: MoveCode,
    /// What is in the file.
    pub backup: Backup,
    /// SHA-256 of the file's bytes, as `sha256sum` says it.
    pub sha256: [u8; 32],
}

impl Store {
    /// Which store this is.
    pub fn card(&self) -> Result<CardId, StoreError> {
        let found = self
            .value(CARD_KEY)?
            .and_then(|value| Spoken::from_bytes(value.try_into().ok()?));
        found
            .map(CardId)
            .ok_or_else(|| StoreError::unreadable(self.path(), "it has no card id"))
    }

    /// Whether this store goes on elsewhere. One that does is opened by [`Store::open_moved`] only.
    pub fn moved(&self) -> Result<Option<Moved>, StoreError> {
        let Some(note) = self.value(MOVED_KEY)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let moved = Moved::from_bytes(&note);
        let unreadable = || StoreError::unreadable(self.path(), "its note about a move makes no sense");
        moved.map(Some).ok_or_else(unreadable)
    }

    /// [`StoreError::Moved`] of a store that nobody has open and that was closed well; the file stays as it is.
    pub fn peek_moved(path: &Path) -> Option<StoreError> {
        let note = || -> Result<Option<Vec<u8>>, redb::Error> {
            let txn = redb::ReadOnlyDatabase::open(path)?.begin_read()?;
            let meta = txn.open_table(STORE)?;
            Ok(meta.get(MOVED_KEY)?.map(|value| value.value().to_vec()))
        };
        // As in `open_on`: some damage is answered with a panic. It is for opening to explain.
        let note = catch_unwind(AssertUnwindSafe(note)).ok()?.ok()??;
        Moved::from_bytes(&note).map(|moved| StoreError::moved(path, &moved))
    }

    /// Writes the file with which card `to` goes on, and stops this store: it is not opened again except by
    /// [`Store::open_moved`]. On a store that has moved to the same card it writes the same again, or finds it.
    ///
    /// # Errors
    /// After any error but [`StoreError::Io`] of a store that had not moved, this one goes on as before, and nobody can
    /// open what was written.
    pub fn move_to(
        &self,
        path: &Path,
        to: CardId,
        words: &str,
        shown: bool,
        at: u64,
    ) -> Result<Departure, StoreError> {
        if self.card()? == to {
            return Err(StoreError::OwnCard { card: to });
        }
        let before = self.moved()?;
        if let Some(moved) = before.as_ref().filter(|moved| moved.to != to) {
            return Err(StoreError::moved(self.path(), moved));
        }
        let noted = before.is_some();
        let moved = match before {
            Some(moved) => moved,
            None => Moved {
                to,
                code: MoveCode::random().map_err(|error| StoreError::io(path, error))?,
                at,
            },
        };
        let backup = match noted && path.symlink_metadata().is_ok() {
            true => read_move(path, to, &moved.code)?.backup(),
            false => {
                let traveller = Traveller {
                    words: Zeroizing::new(words.to_owned()),
                    shown,
                    restored: self.restored()?,
                };
                self.write_move(path, &moved, &traveller)?
            }
        };
        let sha256 = sum(path)?;
        if !noted {
            let note = moved.to_bytes();
            self.transact(|txn| {
                txn.open_table(STORE)?.insert(MOVED_KEY, note.as_slice())?;
                Ok(())
            })?;
        }
        Ok(Departure {
            code: moved.code,
            backup,
            sha256,
        })
    }

    /// Lets a store that has moved go on here after all, as one that was restored (money.md rule 16) and under another
    /// id. Only the owner can know that the new card never started with it.
    pub fn undo_move(&self) -> Result<(), StoreError> {
        let card = CardId::random().map_err(|error| StoreError::io(self.path(), error))?;
        self.transact(|txn| {
            let mut meta = txn.open_table(STORE)?;
            meta.remove(MOVED_KEY)?;
            meta.insert(RESTORED_KEY, [1].as_slice())?;
            meta.insert(CARD_KEY, card.as_bytes())?;
            Ok(())
        })
    }

    /// Gives a store that has none an id.
    pub(super) fn name_card(&self) -> Result<(), StoreError> {
        if self.value(CARD_KEY)?.is_some() {
            return Ok(());
        }
        let card = CardId::random().map_err(|error| StoreError::io(self.path(), error))?;
        self.transact(|txn| {
            txn.open_table(STORE)?.insert(CARD_KEY, card.as_bytes())?;
            Ok(())
        })
    }

    fn write_move(&self, path: &Path, moved: &Moved, traveller: &Traveller) -> Result<Backup, StoreError> {
        let snapshot = self.snapshot()?;
        write_new(path, |file| {
            let mut salt = [0; SALT];
            getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
            let header = [MAGIC, &[MOVE_FORMAT][..], moved.to.0.as_bytes(), &salt].concat();
            let cipher = cipher(TAG, &moved.code.key(moved.to), &salt);
            let mut out = Sealer::begin(BufWriter::new(file), header, cipher)?;
            let found = snapshot.write(self.generation(), Some(traveller), &mut out)?;
            out.finish()?.flush()?;
            Ok(found)
        })
    }
}

/// A move that was opened: everything in it is whole.
pub struct Arrival {
    content: Content,
    traveller: Traveller,
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arrival({:?})", self.content.found)
    }
}

impl Arrival {
    /// The words of the seed.
    pub fn words(&self) -> &str {
        &self.traveller.words
    }

    /// Somebody has seen them.
    pub fn shown(&self) -> bool {
        self.traveller.shown
    }

    /// How much it is.
    pub fn backup(&self) -> Backup {
        self.content.found
    }

    /// The wallet's journal, as [`crate::wallet::chain_of`] takes it.
    pub fn wallet(&self) -> Vec<Vec<u8>> {
        self.content.values(Table::Wallet)
    }

    /// Makes the store that goes on, as a new file.
    pub fn build(&self, store: &Path) -> Result<(), StoreError> {
        let origin = match self.traveller.restored {
            true => Origin::Restored,
            false => Origin::Moved,
        };
        database::build(store, |backend| self.content.store_on(backend, store, origin))
    }
}

/// For which card a file is; `None` if it is no move.
pub fn destination(path: &Path) -> Result<Option<CardId>, StoreError> {
    let mut file = File::open(path).map_err(|error| StoreError::backup(path, error))?;
    match read_header(&mut file, path, MAGIC, MOVE_FORMAT, HEADER) {
        Ok(header) => Ok(card_of(&header)),
        Err(StoreError::BackupDamaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a move for card `here`.
pub fn read_move(path: &Path, here: CardId, code: &MoveCode) -> Result<Arrival, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::backup(path, error))?;
    let mut file = BufReader::new(file);
    let header = read_header(&mut file, path, MAGIC, MOVE_FORMAT, HEADER)?;
    match card_of(&header) {
        Some(to) if to != here => {
            return Err(StoreError::OtherCard {
                path: path.to_owned(),
                to,
                here,
            });
        }
        _ => {}
    }
    let salt = header.last_chunk::<SALT>().copied().unwrap_or_default();
    let cipher = cipher(TAG, &code.key(here), &salt);
    let mut records = Opener::begin(file, path, header, cipher);
    let mut content = Content::read(&mut records).map_err(|error| match error {
        StoreError::BackupRefused { path } => StoreError::MoveRefused { path },
        error => error,
    })?;
    let traveller = content.traveller.take();
    Ok(Arrival {
        content,
        traveller: traveller.ok_or_else(|| records.damaged("it holds no seed"))?,
    })
}

/// SHA-256 of a file's bytes, as `sha256sum` says it.
pub fn sum(path: &Path) -> Result<[u8; 32], StoreError> {
    let mut engine = sha256::Hash::engine();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut engine))
        .map_err(|error| StoreError::backup(path, error))?;
    Ok(sha256::Hash::from_engine(engine).to_byte_array())
}

fn card_of(header: &[u8]) -> Option<CardId> {
    let id = header.get(17..)?.first_chunk::<ID>()?;
    Spoken::from_bytes(*id).map(CardId)
}

/// `2026-03-01`, by Hinnant's reckoning of civil days.
fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
