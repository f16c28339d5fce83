//! What the store promises, and every way of cutting the power that the disk can count.

use super::fault::Disk;
use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everything in a store, to compare.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Content {
    rows: BTreeMap<(&'static str, Vec<u8>), Vec<u8>>,
    journal: Vec<Vec<u8>>,
}

impl Content {
    fn of(store: &Store) -> Content {
        let mut content = Content::default();
        for table in Table::ALL {
            for row in store.load(table).unwrap() {
                content.rows.insert((table.name(), row.key), row.value);
            }
        }
        content.journal = store.journal().unwrap().entries().map(<[u8]>::to_vec).collect();
        content
    }

    fn apply(&mut self, step: &Step) {
        if step.folded {
            self.journal.clear();
        }
        for change in &step.changes {
            match change {
                Change::Put(table, key, value) => {
                    self.rows.insert((table.name(), key.clone()), value.clone());
                }
                Change::Delete(table, key) => {
                    self.rows.remove(&(table.name(), key.clone()));
                }
                Change::Journal(entry) => self.journal.push(entry.clone()),
            }
        }
    }
}

enum Change {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Journal(Vec<u8>),
}

struct Step {
    folded: bool,
    changes: Vec<Change>,
}

impl Step {
    fn run(&self, store: &Store) -> Result<(), StoreError> {
        let writes: Vec<_> = self
            .changes
            .iter()
            .map(|change| match change {
                Change::Put(table, key, value) => Write::Put {
                    table: *table,
                    key,
                    value,
                },
                Change::Delete(table, key) => Write::Delete { table: *table, key },
                Change::Journal(entry) => Write::Journal(entry),
            })
            .collect();
        if self.folded {
            store.commit_folded(&writes)
        } else {
            store.commit(&writes)
        }
    }
}

fn entry(n: u32, len: usize) -> Vec<u8> {
    let mut entry = vec![n as u8; len];
    entry[..4].copy_from_slice(&n.to_le_bytes());
    entry
}

fn put(table: Table, key: u8, len: usize) -> Change {
    Change::Put(table, vec![key], vec![key ^ 0x5a; len])
}

fn journal(range: std::ops::Range<u32>) -> Vec<Change> {
    range.map(|n| Change::Journal(entry(n, 90))).collect()
}

/// A short life: rows, payments by the hundred, growth of the file, a fold, more payments, deletion.
fn script() -> Vec<Step> {
    let step = |folded, changes| Step { folded, changes };
    let mut fold = vec![put(Table::Payee, 1, 300), put(Table::Payee, 2, 301)];
    fold.push(put(Table::Client, 9, 60));
    vec![
        step(false, vec![put(Table::Payee, 1, 200), put(Table::Meta, 0, 12)]),
        step(false, journal(0..3)),
        step(false, journal(3..1_500)),
        step(
            false,
            vec![put(Table::Payee, 2, 5_000), Change::Journal(entry(7, 20))],
        ),
        // Larger than a new file: it must grow.
        step(false, vec![put(Table::Wallet, 1, 700_000)]),
        step(true, fold),
        step(false, journal(9..200)),
        step(
            false,
            vec![Change::Delete(Table::Wallet, vec![1]), put(Table::Payee, 2, 299)],
        ),
        step(true, journal(500..501)),
    ]
}

fn path() -> &'static Path {
    Path::new("store.redb")
}

fn new_image() -> Vec<u8> {
    let disk = Disk::default();
    drop(Store::create_on(disk.clone(), path(), Origin::New, 0).unwrap());
    disk.image()
}

/// Opens the store and runs the script. Gives how many commits returned `Ok`; opening does not count.
fn live(disk: &Disk) -> (bool, usize) {
    let Ok(store) = Store::open_on(disk.clone(), path()) else {
        return (false, 0);
    };
    let steps = script();
    let done = steps.iter().take_while(|step| step.run(&store).is_ok()).count();
    (true, done)
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_state_before_or_after_the_commit() {
    let mut states = vec![Content::default()];
    for step in script() {
        let mut next = states.last().unwrap().clone();
        next.apply(&step);
        states.push(next);
    }
    let image = new_image();
    let whole = Disk::holding(image.clone());
    assert_eq!(live(&whole), (true, script().len()));
    let points = whole.operations();

    let (mut cuts, mut images) = (0, 0);
    for n in 0..points {
        let disk = Disk::holding(image.clone()).cut_at(n);
        let (opened, done) = live(&disk);
        assert!(disk.is_cut(), "cut point {n} was not reached");
        cuts += 1;
        disk.images(8, |found| {
            images += 1;
            let store = Store::open_on(Disk::holding(found), path())
                .unwrap_or_else(|error| panic!("cut at {n} after {done} commits: {error}"));
            let content = Content::of(&store);
            // While opening, the generation alone changes.
            let after = states.get(done + usize::from(opened)).unwrap_or(&states[done]);
            assert!(
                content == states[done] || content == *after,
                "cut at {n} after {done} commits left neither the state before nor after"
            );
            assert!(store.generation() >= if opened { 2 } else { 1 });
        });
    }
    assert_eq!(cuts, points);
    println!("file of {} bytes, grew from {}", whole.image().len(), image.len());
    println!("{cuts} cut points, {images} different media");
    assert_eq!(
        cuts, CUT_POINTS,
        "the number of cut points changed with redb or with the script"
    );
    assert!(images > 10 * cuts);
}

/// Writes, syncs and changes of length of [`script`], opening and closing included, with the locked redb.
const CUT_POINTS: u64 = 99;

#[test]
fn a_store_made_while_the_power_goes_is_whole_or_refused() {
    let whole = Disk::default();
    drop(Store::create_on(whole.clone(), path(), Origin::New, 0).unwrap());
    for n in 0..whole.operations() {
        let disk = Disk::default().cut_at(n);
        drop(Store::create_on(disk.clone(), path(), Origin::New, 0));
        disk.images(8, |found| match Store::open_on(Disk::holding(found), path()) {
            Ok(store) => assert_eq!(Content::of(&store), Content::default()),
            Err(StoreError::Unreadable { .. }) => {}
            Err(other) => panic!("{other}"),
        });
    }
}

#[test]
fn commits_are_there_after_reopening_and_the_generation_rises() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    Store::create(&path, Origin::New).unwrap();
    let mut content = Content::default();
    let mut generation = 0;
    for step in &script() {
        let store = Store::open(&path).unwrap();
        assert!(store.generation() > generation);
        generation = store.generation();
        assert_eq!(Content::of(&store), content);
        step.run(&store).unwrap();
        content.apply(step);
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.read(Table::Meta, &[0]).unwrap().unwrap().len(), 12);
    assert_eq!(store.read(Table::Meta, &[1]).unwrap(), None);
    assert_eq!(store.load_from(Table::Payee, &[2], 9).unwrap().len(), 1);
    assert_eq!(store.load_from(Table::Payee, &[], 1).unwrap()[0].key, [1]);
    assert!(!store.restored().unwrap());
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    Store::create(&path, Origin::New).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_daemons_cannot_have_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    Store::create(&path, Origin::New).unwrap();
    let first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("store.redb is in use by another turnpiked: stop that one first")
    );
    drop(first);
    Store::open(&path).unwrap();
}

#[test]
fn a_missing_or_existing_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    assert!(matches!(Store::open(&path), Err(StoreError::Missing { .. })));
    Store::create(&path, Origin::New).unwrap();
    assert!(matches!(
        Store::create(&path, Origin::New),
        Err(StoreError::Exists { .. })
    ));
}

#[test]
fn a_damaged_file_is_never_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let damaged = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("restore a backup with `turnpike restore`"),
            "{error}"
        );
        assert_eq!(
            fs::read(&path).unwrap(),
            bytes,
            "the damaged file must stay as it is"
        );
    };
    damaged(b"");
    damaged(b"not a database");
    damaged(&[0; 100_000]);
    let mut short = new_image();
    short.truncate(2_000);
    damaged(&short);
    // A whole redb database that holds something else.
    let other = folder.path().join("other");
    drop(redb::Database::create(&other).unwrap());
    fs::copy(&other, &path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Unreadable { .. })));
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing() {
    let disk = Disk::holding(new_image());
    let store = Store::open_on(disk.clone(), path()).unwrap();
    let mut states = vec![Content::of(&store)];
    for step in script().iter().take(4) {
        step.run(&store).unwrap();
        states.push(Content::of(&store));
    }
    drop(store);
    let image = disk.image();
    let (mut refused, mut unharmed) = (0, 0);
    for at in (0..image.len()).step_by(509) {
        let mut image = image.clone();
        image[at] ^= 0x10;
        match Store::open_on(Disk::holding(image), path()) {
            Ok(store) => {
                // The byte was free space, or belonged to the newest commit alone, which then never was.
                let content = Content::of(&store);
                assert!(
                    states.iter().rev().take(2).any(|state| *state == content),
                    "byte {at}"
                );
                unharmed += 1;
            }
            Err(StoreError::Unreadable { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(
        refused > 10 && unharmed > 10,
        "{refused} refused, {unharmed} unharmed"
    );
}

#[test]
fn a_newer_format_is_refused() {
    let disk = Disk::holding(new_image());
    {
        let db = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
        let txn = db.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("store");
        txn.open_table(meta)
            .unwrap()
            .insert("format", [2, 0, 0, 0].as_slice())
            .unwrap();
        txn.commit().unwrap();
    }
    let error = Store::open_on(disk, path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "store.redb has store format 2, this version knows 1: update turnpike"
    );
}

#[test]
fn after_a_failed_write_nothing_more_is_accepted() {
    let disk = Disk::holding(new_image());
    let store = Store::open_on(disk.clone(), path()).unwrap();
    let now = disk.operations();
    let _ = disk.clone().cut_at(now);
    let write = [Write::Journal(b"paid")];
    assert!(matches!(store.commit(&write), Err(StoreError::Io { .. })));
    assert!(matches!(store.commit(&write), Err(StoreError::Io { .. })));
}

#[test]
fn the_journal_is_bounded_and_folding_empties_it() {
    let store = Store::open_on(Disk::holding(new_image()), path()).unwrap();
    let long = vec![7; MAX_ENTRY];
    assert!(matches!(
        store.commit(&[Write::Journal(&vec![0; MAX_ENTRY + 1])]),
        Err(StoreError::EntryTooLong(65_536))
    ));
    let batch = vec![Write::Journal(long.as_slice()); 64];
    let mut commits = 0;
    let error = loop {
        match store.commit(&batch) {
            Ok(()) => commits += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::JournalFull));
    assert_eq!(commits, MAX_JOURNAL / (64 * (2 + MAX_ENTRY as u64)));
    assert!(store.should_fold());
    store
        .commit(&[Write::Delete {
            table: Table::Meta,
            key: b"x",
        }])
        .unwrap();
    store.commit_folded(&[]).unwrap();
    assert!(!store.should_fold());
    assert!(store.journal().unwrap().is_empty());
    store
        .commit(&[Write::Journal(b"one"), Write::Journal(b"")])
        .unwrap();
    let journal = store.journal().unwrap();
    assert_eq!(journal.entries().collect::<Vec<_>>(), [b"one".as_slice(), b""]);
}

#[test]
fn a_backup_brings_everything_back_and_says_that_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store.redb"), folder.path().join("backup"));
    Store::create(&path, Origin::New).unwrap();
    let store = Store::open(&path).unwrap();
    for step in script().iter().take(7) {
        step.run(&store).unwrap();
    }
    let (content, key, generation) = (Content::of(&store), [42; 32], store.generation());
    let written = store.export(&copy, &key).unwrap();
    assert_eq!(written.entries, 191);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(
        store.export(&copy, &key),
        Err(StoreError::Exists { .. })
    ));
    let sealed = fs::read(&copy).unwrap();
    assert!(
        !sealed.windows(5).any(|w| w == b"payee"),
        "a backup must not be readable"
    );

    assert!(matches!(
        import(&copy, &key, &path),
        Err(StoreError::Exists { .. })
    ));
    drop(store);
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        import(&copy, &[1; 32], &path),
        Err(StoreError::BackupRefused { .. })
    ));
    assert!(!path.exists());
    assert_eq!(import(&copy, &key, &path).unwrap(), written);
    let store = Store::open(&path).unwrap();
    assert_eq!(Content::of(&store), content);
    assert!(store.generation() > generation);
    assert!(store.restored().unwrap());
    store.commit(&[Write::ClearRestored]).unwrap();
    drop(store);
    assert!(!Store::open(&path).unwrap().restored().unwrap());
}

#[test]
fn a_backup_that_was_changed_cut_or_lengthened_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store.redb"), folder.path().join("backup"));
    let store = Store::open_on(Disk::holding(new_image()), Path::new("memory")).unwrap();
    for step in script().iter().take(3) {
        step.run(&store).unwrap();
    }
    store.export(&copy, &[9; 32]).unwrap();
    let whole = fs::read(&copy).unwrap();
    assert!(whole.len() > 2 * 65_536, "more than one chunk");
    let refused = |bytes: &[u8]| {
        fs::write(&copy, bytes).unwrap();
        let error = import(&copy, &[9; 32], &path).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::BackupDamaged { .. }
                    | StoreError::BackupRefused { .. }
                    | StoreError::BackupNewer { .. }
            ),
            "{error:?}"
        );
        assert!(!path.exists());
    };
    for at in [0, 16, 17, 48, 49, 52, 53, 70_000, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refused(&changed);
    }
    // Cut at every chunk boundary and elsewhere.
    for end in [0, 10, 49, 53, 49 + 4 + 65_536 + 16, whole.len() - 1] {
        refused(&whole[..end]);
    }
    refused(&[whole.as_slice(), b"x"].concat());
    fs::write(&copy, &whole).unwrap();
    import(&copy, &[9; 32], &path).unwrap();
}

/// The price of durability per payment: processor time of this thread by the kernel's count, the medium left out.
#[test]
fn a_thousand_journal_entries_cost_little_processor_time() {
    let spent = || -> u64 {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let store = Store::open_on(Disk::holding(new_image()), path()).unwrap();
    let entries: Vec<_> = (0..1_000).map(|n| entry(n, 90)).collect();
    let writes: Vec<_> = entries.iter().map(|entry| Write::Journal(entry)).collect();
    let start = spent();
    for _ in 0..100 {
        store.commit(&writes).unwrap();
    }
    let per_entry = (spent() - start) / 100_000;
    println!("{per_entry} ns of processor time per journal entry");
    // The goal is 2 µs, a fifteenth of a signature check; one row per entry would cost 15 µs.
    assert!(per_entry < 4_000, "{per_entry} ns");
}

#[test]
fn all_rows_whose_keys_begin_alike_go_together_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    Store::create(&path, Origin::New).unwrap();
    let store = Store::open(&path).unwrap();
    let keys: [&[u8]; 7] = [
        &[1],
        &[1, 255],
        &[1, 255, 0],
        &[1, 255, 255],
        &[2],
        &[255],
        &[255, 255, 1],
    ];
    let left = |prefix: &[u8]| {
        let puts = keys.iter().map(|key| Write::Put {
            table: Table::Receipt,
            key,
            value: &[1],
        });
        let mut writes: Vec<_> = puts.collect();
        writes.push(Write::Put {
            table: Table::Peer,
            key: prefix,
            value: &[1],
        });
        writes.push(Write::DeleteAll {
            table: Table::Receipt,
            prefix,
        });
        store.commit(&writes).unwrap();
        assert!(
            store.read(Table::Peer, prefix).unwrap().is_some(),
            "another table"
        );
        let rows = store.load(Table::Receipt).unwrap();
        rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    let others = |prefix: &[u8]| {
        let kept = keys.iter().filter(|key| !key.starts_with(prefix));
        kept.map(|key| key.to_vec()).collect::<Vec<_>>()
    };
    for prefix in [&[1, 255][..], &[1], &[255, 255], &[255], &[3]] {
        assert_eq!(left(prefix), others(prefix), "{prefix:?}");
    }
}

/// What a peer of both is shown; `only_a_peer_whose_money_was_seen_is_believed_about_the_age_of_this_store` of the protocol
/// says what follows.
#[test]
fn two_copies_of_a_card_that_were_started_equally_often_show_different_generations() {
    let image = new_image();
    let copies = [(); 2].map(|()| Store::open_on(Disk::holding(image.clone()), path()).unwrap());
    let [one, other] = copies.each_ref().map(Store::generation);
    assert_ne!(one, other);
    assert_eq!(
        copies[0].card().unwrap(),
        copies[1].card().unwrap(),
        "a copy is not told by the id"
    );
}
