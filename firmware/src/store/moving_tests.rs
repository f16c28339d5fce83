//! A store that moves, and the power cut at everything that is written.

use super::arrival::{finish_with, take_over_with};
use super::fault::Disk;
use super::*;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

const WORDS: &str = "abandon abandon about";

struct Cards {
    folder: tempfile::TempDir,
    old: Store,
    to: CardId,
}

impl Cards {
    /// An old card with money, and an empty new one.
    fn new() -> Cards {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.redb");
        Store::create(&path, Origin::New).unwrap();
        let old = Store::open(&path).unwrap();
        let put = |table| Write::Put {
            table,
            key: &[1],
            value: &[7; 300],
        };
        old.commit(&[put(Table::Payee), put(Table::Wallet), Write::Journal(b"paid")])
            .unwrap();
        let cards = Cards {
            to: fresh(folder.path()),
            folder,
            old,
        };
        assert_ne!(cards.old.card().unwrap(), cards.to);
        cards
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("move")
    }

    fn leave(&self) -> Result<Departure, StoreError> {
        self.old
            .move_to(&self.file(), self.to, WORDS, true, 1_772_409_600)
    }

    fn seed(&self) -> PathBuf {
        self.folder.path().join("seed")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }
}

fn fresh(folder: &Path) -> CardId {
    let store = folder.join("store.redb");
    Store::create(&store, Origin::New).unwrap();
    fs::write(folder.join("seed"), "its own\n").unwrap();
    Store::open(&store).unwrap().card().unwrap()
}

#[test]
fn a_store_goes_on_on_the_card_that_was_named_and_not_where_it_was() {
    let cards = Cards::new();
    let left = cards.leave().unwrap();
    assert_eq!((left.backup.rows, left.backup.entries), (2, 1));
    let (path, generation) = (cards.old.path().to_owned(), cards.old.generation());
    drop(cards.old);
    let refused = Store::open(&path).unwrap_err().to_string();
    assert!(
        refused.contains(&cards.to.to_string()) && refused.contains("on 2026-03-02"),
        "{refused}"
    );

    let (seed, store) = (
        cards.folder.path().join("seed"),
        cards.folder.path().join("store.redb"),
    );
    let file = cards.folder.path().join("move");
    assert_eq!(destination(&file).unwrap(), Some(cards.to));
    let arrival = read_move(&file, cards.to, &left.code).unwrap();
    take_over(&arrival, &seed, &store).unwrap();
    assert_eq!(fs::read_to_string(&seed).unwrap(), format!("{WORDS}\n"));
    assert_eq!(
        fs::read_to_string(seed.with_extension("before-1")).unwrap(),
        "its own\n"
    );
    let new = Store::open(&store).unwrap();
    assert!(!new.restored().unwrap(), "it goes on, it is not restored");
    assert!(new.generation() > generation);
    assert_eq!(new.read(Table::Payee, &[1]).unwrap().unwrap(), [7; 300]);
    assert_eq!(new.journal().unwrap().entries().collect::<Vec<_>>(), [b"paid"]);
    // The file is used up: the card has another id now.
    let here = new.card().unwrap();
    assert!(matches!(
        read_move(&file, here, &left.code),
        Err(StoreError::OtherCard { .. })
    ));
}

#[test]
fn a_move_opens_with_its_code_on_its_card_and_unchanged_only() {
    let cards = Cards::new();
    let left = cards.leave().unwrap();
    let whole = fs::read(cards.file()).unwrap();
    assert!(
        !whole.windows(7).any(|part| part == b"abandon"),
        "the seed must not be readable"
    );
    let other = Cards::new();
    let wrong = other.leave().unwrap().code;
    let open = |code| read_move(&cards.file(), cards.to, code);
    assert!(matches!(open(&wrong), Err(StoreError::MoveRefused { .. })));
    assert!(matches!(
        read_move(&cards.file(), other.to, &left.code),
        Err(StoreError::OtherCard { .. })
    ));
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(cards.file(), changed).unwrap();
        assert!(open(&left.code).is_err(), "byte {at}");
    }
    for end in 0..whole.len() {
        fs::write(cards.file(), &whole[..end]).unwrap();
        assert!(open(&left.code).is_err(), "cut at {end}");
    }
    // With another card's id written into it, it opens there neither.
    let mut readdressed = whole.clone();
    let other_file = fs::read(other.file()).unwrap();
    readdressed[17..27].copy_from_slice(&other_file[17..27]);
    fs::write(cards.file(), readdressed).unwrap();
    assert!(matches!(
        read_move(&cards.file(), other.to, &left.code),
        Err(StoreError::MoveRefused { .. })
    ));
    fs::write(cards.file(), &whole).unwrap();
    open(&left.code).unwrap();
    // A backup is no move, and a move no backup.
    assert!(import(&cards.file(), &[1; 32], &cards.folder.path().join("x")).is_err());
    let backup = cards.folder.path().join("backup");
    cards.old.export(&backup, &[1; 32]).unwrap();
    assert_eq!(destination(&backup).unwrap(), None);
}

#[test]
fn the_same_move_gives_file_and_code_again_and_another_one_is_refused() {
    let cards = Cards::new();
    let first = cards.leave().unwrap();
    let again = cards.leave().unwrap();
    assert_eq!(
        (&again.code, again.sha256),
        (&first.code, first.sha256),
        "the file is there"
    );
    fs::remove_file(cards.file()).unwrap();
    let anew = cards.leave().unwrap();
    assert_eq!((anew.code, anew.backup), (first.code.clone(), first.backup));
    read_move(&cards.file(), cards.to, &first.code).unwrap();
    let other = cards
        .old
        .move_to(&cards.folder.path().join("2"), Cards::new().to, WORDS, true, 0);
    assert!(matches!(other, Err(StoreError::Moved { .. })), "{other:?}");
    let own = cards.old.card().unwrap();
    let itself = cards
        .old
        .move_to(&cards.folder.path().join("3"), own, WORDS, true, 0);
    assert!(matches!(itself, Err(StoreError::OwnCard { .. })));
    assert!(!cards.folder.path().join("2").exists() && !cards.folder.path().join("3").exists());
}

#[test]
fn a_move_that_is_undone_goes_on_as_a_restored_store_under_another_id() {
    let cards = Cards::new();
    let own = cards.old.card().unwrap();
    let first = cards.leave().unwrap();
    cards.old.undo_move().unwrap();
    let path = cards.old.path().to_owned();
    let (to, file) = (cards.to, cards.file());
    drop(cards.old);
    let store = Store::open(&path).unwrap();
    assert!(store.restored().unwrap());
    assert_ne!(store.card().unwrap(), own);
    // What moves again without its channels being closed is restored there, too.
    fs::remove_file(&file).unwrap();
    let second = store.move_to(&file, to, WORDS, false, 0).unwrap();
    assert_ne!(second.code, first.code);
    let arrival = read_move(&file, to, &second.code).unwrap();
    assert!(!arrival.shown());
    arrival.build(&cards.folder.path().join("there")).unwrap();
    assert!(
        Store::open(&cards.folder.path().join("there"))
            .unwrap()
            .restored()
            .unwrap()
    );
}

#[test]
fn a_move_that_cannot_be_written_stops_nothing() {
    let cards = Cards::new();
    fs::write(cards.file(), "somebody's").unwrap();
    assert!(matches!(cards.leave(), Err(StoreError::Exists { .. })));
    assert!(cards.old.moved().unwrap().is_none());
    let nowhere = cards.folder.path().join("none/move");
    assert!(cards.old.move_to(&nowhere, cards.to, WORDS, true, 0).is_err());
    assert!(cards.old.moved().unwrap().is_none());
}

/// Whoever has the code knows that the old store has stopped, wherever the power was cut; and a store that has stopped
/// gives file and code again.
#[test]
fn a_power_cut_while_leaving_gives_no_code_to_a_store_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let to = fresh(folder.path());
    let made = Disk::default();
    drop(Store::create_on(made.clone(), Path::new("old"), Origin::New, 4).unwrap());
    let image = made.image();
    let mut number = 0;
    let mut run = |disk: &Disk| {
        number += 1;
        let file = folder.path().join(format!("move-{number}"));
        let store = Store::open_on(disk.clone(), Path::new("old"))?;
        let left = store.move_to(&file, to, WORDS, true, 0)?;
        Ok::<_, StoreError>((file, left))
    };
    let whole = Disk::holding(image.clone());
    run(&whole).unwrap();
    let points = whole.operations();
    let (mut stopped, mut going) = (0, 0);
    for n in 0..points {
        let disk = Disk::holding(image.clone()).cut_at(n);
        let left = run(&disk).ok();
        disk.images(8, |found| {
            let disk = Disk::holding(found);
            let again = folder.path().join("again");
            match Store::open_on(disk.clone(), Path::new("old")) {
                Ok(_) => {
                    assert!(
                        left.is_none(),
                        "cut at {n}: it goes on, and its code was given away"
                    );
                    going += 1;
                }
                Err(StoreError::Moved { .. }) => {
                    let store = Store::open_whether(disk, Path::new("old")).unwrap();
                    let second = store.move_to(&again, to, WORDS, true, 0).unwrap();
                    assert_eq!(read_move(&again, to, &second.code).unwrap().words(), WORDS);
                    if let Some((file, first)) = &left {
                        assert_eq!(first.code, second.code);
                        read_move(file, to, &second.code).unwrap();
                    }
                    fs::remove_file(&again).unwrap();
                    stopped += 1;
                }
                Err(other) => panic!("cut at {n}: {other}"),
            }
        });
    }
    println!("{points} cut points: {going} media go on, {stopped} have stopped");
    assert!(going > 0 && stopped > 0);
}

/// After a cut at any step of the arrival, and another one at any step of ending it, a card has either its own empty store
/// with its own seed, and the file opens still, or what arrived with its seed.
#[test]
fn a_power_cut_while_arriving_leaves_a_card_as_it_was_or_with_all_that_arrived() {
    let mut outcomes = [0, 0];
    for first in 0..8 {
        for second in 0..5 {
            let cards = Cards::new();
            let left = cards.leave().unwrap();
            let arrival = read_move(&cards.file(), cards.to, &left.code).unwrap();
            let (seed, store) = (cards.seed(), cards.store());
            let cut_after = |steps: i32| {
                let left = Cell::new(steps);
                move || match left.replace(left.get() - 1) {
                    0 => Err(std::io::Error::other("the power is gone")),
                    _ => Ok(()),
                }
            };
            let done = take_over_with(&arrival, &seed, &store, &mut cut_after(first)).is_ok();
            drop(finish_with(&seed, &store, &mut cut_after(second)));
            finish_arrival(&seed, &store).unwrap();
            let words = fs::read_to_string(&seed).unwrap();
            let opened = Store::open(&store).unwrap();
            let arrived = opened.read(Table::Payee, &[1]).unwrap().is_some();
            outcomes[usize::from(arrived)] += 1;
            assert!(arrived || !done);
            assert!(!opened.restored().unwrap());
            match arrived {
                true => {
                    assert_eq!(words.trim(), WORDS);
                    assert_ne!(opened.card().unwrap(), cards.to);
                }
                false => {
                    assert_eq!(words, "its own\n");
                    assert_eq!(opened.card().unwrap(), cards.to);
                    drop(opened);
                    take_over(&arrival, &seed, &store).unwrap();
                }
            }
            let names = fs::read_dir(cards.folder.path()).unwrap();
            let left_over = names.filter(|entry| {
                let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
                name.ends_with("arriving") || name.ends_with("unfinished")
            });
            assert_eq!(left_over.count(), 0);
        }
    }
    assert!(outcomes.iter().all(|count| *count > 4), "{outcomes:?}");
}
