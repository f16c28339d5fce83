//! The seed of a node that nobody sat before when it was made: made without a word being printed, shown when asked for.

use super::setup::{Files, fresh, parse, table, write_durably};
use super::{Failure, Output, Place};
use crate::card::{Places, ProblemCode, Problems};
use crate::chain::ChainName;
use crate::store::{Origin, Store, StoreError, Table, finish_arrival};
use crate::wallet::{chain_of, is_untouched};
use std::fs::{self, File};
use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Stands in the data folder until somebody saw the words.
pub(super) const UNSEEN: &str = "seed.unseen";

/// Whether the words of this node's seed were never shown; `false` where that cannot be looked at.
pub(super) fn is_unseen(place: &Place) -> bool {
    place
        .data_dir()
        .is_ok_and(|folder| folder.join(UNSEEN).symlink_metadata().is_ok())
}

/// Makes what is missing of seed and store. Run at every start, it finishes what a power cut left.
pub(super) fn make(place: &Place, output: &Output) -> Result<(), Failure> {
    let files = Files::locate(place, None)?;
    if !files.is_configured() {
        return Err(Failure::usage(
            "there is no configuration yet: run `turnpike card settings` first",
        ));
    }
    let made = make_with(&files, &mut || Ok(()))?;
    let problems = Problems::of(&Places::find(None));
    let reported = match Store::peek_moved(files.store()) {
        Some(moved) => problems.report(ProblemCode::StoreMoved, &moved.to_string()),
        None => problems.clear(ProblemCode::StoreMoved),
    };
    // Where nobody can be told, the daemon says it.
    drop(reported);
    let text = match made {
        Made::Nothing => "this node has a seed and a store".to_owned(),
        Made::Seed => {
            "a seed was made: log in and write its words down, with `turnpike seed show`".to_owned()
        }
        Made::Store => "the store was missing beside the seed, and was made".to_owned(),
        Made::OtherStore(chain) => {
            format!(
                "the store of {} was empty and is put aside; there is one for this chain now",
                chain.word()
            )
        }
    };
    output.line(&serde_json::json!({ "seed_made": made == Made::Seed }), &text)
}

/// Shows the words, to somebody who sits there and says so.
pub(super) fn show(place: &Place, output: &Output) -> Result<(), Failure> {
    if output.json || !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage(
            "seed words are shown on a terminal only, never into a file or another program: log in and run it there",
        ));
    }
    let files = Files::locate(place, None)?;
    let words = files.read_seed()?.words();
    if !agreed("Whoever sees these words has the money of this node. Is nobody else looking? Type yes: ")? {
        return Err(Failure::new("nothing was shown"));
    }
    output.bytes(table(&words).as_bytes())?;
    let note = files.data_dir().join(UNSEEN);
    if note.symlink_metadata().is_err() {
        return Ok(());
    }
    if !agreed("Write them on paper and keep it apart from this card. Is it done? Type yes: ")? {
        output.note("`turnpike status` goes on saying that they were not written down");
        return Ok(());
    }
    remove(&note)
}

fn agreed(question: &str) -> Result<bool, Failure> {
    let mut answer = String::new();
    let mut asked = stderr();
    asked
        .write_all(question.as_bytes())
        .and_then(|()| asked.flush())
        .and_then(|()| stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::new(format!("the terminal: {error}: log in again")))?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

#[derive(PartialEq, Debug)]
enum Made {
    Nothing,
    Seed,
    Store,
    /// The store of this chain was empty and stands aside.
    OtherStore(ChainName),
}

/// `step` comes after everything that is durable: a power cut can only fall on one of its calls.
fn make_with(files: &Files, step: &mut dyn FnMut() -> Result<(), Failure>) -> Result<Made, Failure> {
    let there = |path: &Path| path.symlink_metadata().is_ok();
    let (seed, store) = (files.seed(), files.store());
    finish_arrival(seed, store)?;
    if there(seed) && there(store) {
        return change_chain(files, step);
    }
    if there(seed) {
        // What the seed may have promised under a store that is gone is looked for in the chain.
        bring_store(files, Origin::Restored)?;
        return Ok(Made::Store);
    }
    files.make_folder()?;
    // The seed gets its name last: until then nothing was promised under it.
    let unnamed = files.data_dir().join("seed.new");
    let written = fs::read_to_string(&unnamed)
        .map(Zeroizing::new)
        .unwrap_or_default();
    if parse(&written, "").is_err() {
        if there(store) {
            return Err(Failure::new(format!(
                "{} has no seed beside it: bring its seed back, or move the store away",
                store.display()
            )));
        }
        let note = files.data_dir().join(UNSEEN);
        if !there(&note) {
            write_durably(
                &note,
                &[b"The words of the seed were not shown yet: `turnpike seed show`\n"],
            )?;
            step()?;
        }
        remove(&unnamed)?;
        let words = fresh()?.words();
        write_durably(&unnamed, &[words.as_bytes(), b"\n"])?;
        step()?;
    }
    if !there(store) {
        Store::create(store, Origin::New)?;
        step()?;
    }
    rename(&unnamed, seed)?;
    step()?;
    Ok(Made::Seed)
}

/// A store belongs to the chain that it was opened for first. One in which nothing happened gives way.
fn change_chain(files: &Files, step: &mut dyn FnMut() -> Result<(), Failure>) -> Result<Made, Failure> {
    let store = files.store();
    // Looking is cheaper than opening, and nearly always enough.
    if let Ok(Some(rows)) = Store::peek(store, Table::Wallet) {
        let journal: Vec<_> = rows.into_iter().map(|row| row.value).collect();
        if !matches!(chain_of(&journal), Ok(Some(of)) if of != files.chain().genesis()) {
            return Ok(Made::Nothing);
        }
    }
    let Some((of, origin)) = empty_store_of(store)? else {
        return Ok(Made::Nothing);
    };
    if of == files.chain() {
        return Ok(Made::Nothing);
    }
    let aside = aside(store, of);
    if aside.symlink_metadata().is_ok() {
        // Older, so what is in it may be worth more than nothing.
        remove(store)?;
    } else {
        rename(store, &aside)?;
    }
    step()?;
    bring_store(files, origin)?;
    Ok(Made::OtherStore(of))
}

/// Whether no channel, no coin and no peer was ever in a store.
pub(super) fn is_empty(store: &Store) -> Result<bool, Failure> {
    for table in Table::ALL {
        let expected = matches!(table, Table::Meta | Table::Wallet | Table::Chain);
        if !expected && !store.load(table)?.is_empty() {
            return Ok(false);
        }
    }
    let journal = wallet_of(store)?;
    Ok(store.journal()?.is_empty() && is_untouched(&journal).unwrap_or(false))
}

fn wallet_of(store: &Store) -> Result<Vec<Vec<u8>>, Failure> {
    let rows = store.load(Table::Wallet)?;
    Ok(rows.into_iter().map(|row| row.value).collect())
}

/// The chain and origin of a store in which nothing happened; `None` of any other.
fn empty_store_of(path: &Path) -> Result<Option<(ChainName, Origin)>, Failure> {
    // What cannot be read or is in use is the daemon's to explain.
    let Ok(store) = Store::open(path) else {
        return Ok(None);
    };
    if !is_empty(&store)? {
        return Ok(None);
    }
    let of = chain_of(&wallet_of(&store)?)
        .ok()
        .flatten()
        .and_then(ChainName::of);
    let origin = if store.restored()? {
        Origin::Restored
    } else {
        Origin::New
    };
    Ok(of.map(|of| (of, origin)))
}

/// The store of this chain that was put aside, or a new one.
fn bring_store(files: &Files, origin: Origin) -> Result<(), Failure> {
    let aside = aside(files.store(), files.chain());
    if aside.symlink_metadata().is_ok() {
        return rename(&aside, files.store());
    }
    match Store::create(files.store(), origin) {
        Err(StoreError::Exists { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As `turnpiked` advises to name it.
fn aside(store: &Path, chain: ChainName) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(format!(".{}", chain.word()));
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    let renamed = fs::rename(from, to).and_then(|()| sync_folder(to));
    renamed.map_err(|error| disk(to, &error))
}

pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk(path, &error)),
        Ok(()) => sync_folder(path).map_err(|error| disk(path, &error)),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn disk(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "{}: {error}: check the disk and the folder",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn files(folder: &Path, network: &str) -> Files {
        let config = folder.join("turnpike.toml");
        let text = format!(
            "[node]\ndata_dir = \"data\"\n[chain]\nbackend = \"bitcoind\"\nnetwork = \"{network}\"\n"
        );
        fs::write(&config, text).unwrap();
        let place = Place {
            config: Some(config),
            data_dir: None,
        };
        Files::locate(&place, None).unwrap()
    }

    fn seed(files: &Files) -> String {
        fs::read_to_string(files.seed()).unwrap()
    }

    #[test]
    fn a_power_cut_at_any_step_is_finished_at_the_next_start_with_one_seed() {
        for steps in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let files = files(folder.path(), "regtest");
            let mut left = steps;
            let cut = make_with(&files, &mut || {
                left -= 1;
                if left < 0 {
                    Err(Failure::new("the power is gone"))
                } else {
                    Ok(())
                }
            });
            assert_eq!(cut.is_err(), steps < 4, "after {steps} steps");
            let early = fs::read_to_string(files.data_dir().join("seed.new")).ok();
            let made = make_with(&files, &mut || Ok(())).unwrap();
            assert_eq!(made == Made::Nothing, steps >= 3, "after {steps} steps");
            // A seed that got as far as the disk is the one that stays, and nobody has seen it.
            let kept = seed(&files);
            assert!(early.is_none_or(|early| early == kept));
            assert!(parse(&kept, "").is_ok());
            assert!(files.data_dir().join(UNSEEN).exists());
            assert!(!Store::open(files.store()).unwrap().restored().unwrap());
            assert_eq!(make_with(&files, &mut || Ok(())).unwrap(), Made::Nothing);
            assert_eq!(seed(&files), kept);
        }
    }

    #[test]
    fn half_a_seed_is_no_seed_and_a_store_without_one_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), "regtest");
        fs::create_dir(files.data_dir()).unwrap();
        fs::write(files.data_dir().join("seed.new"), "abandon abandon ab").unwrap();
        make_with(&files, &mut || Ok(())).unwrap();
        let words = seed(&files);
        fs::remove_file(files.seed()).unwrap();
        let refused = make_with(&files, &mut || Ok(())).unwrap_err();
        assert!(format!("{refused:?}").contains("bring its seed back"));
        assert!(!files.seed().exists());
        fs::write(files.seed(), words).unwrap();
        fs::remove_file(files.store()).unwrap();
        assert_eq!(make_with(&files, &mut || Ok(())).unwrap(), Made::Store);
        assert!(Store::open(files.store()).unwrap().restored().unwrap());
    }

    /// A store that a daemon opened for this chain, with nothing in it yet.
    fn opened_for(files: &Files, config: &Config) {
        use crate::store::Write;
        use crate::wallet::{Wallet, WalletKeys};
        use turnpike_protocol::crypto::{CoinType, Keys};
        let words = parse(&seed(files), "").unwrap();
        let keys = Keys::new(&words, CoinType::Test).unwrap();
        let account = keys.account();
        let wallet_keys = WalletKeys {
            external: &account.external,
            internal: &account.internal,
            network: config.chain.network,
            genesis: config.chain.name().genesis(),
            recovery: keys.recovery().as_bytes(),
        };
        let mut wallet = Wallet::open(&wallet_keys, &Vec::<Vec<u8>>::new()).unwrap();
        wallet.change_address();
        let value = wallet.take_changes().unwrap().unwrap();
        let put = Write::Put {
            table: Table::Wallet,
            key: &0_u64.to_be_bytes(),
            value: &value,
        };
        Store::open(files.store()).unwrap().commit(&[put]).unwrap();
    }

    #[test]
    fn an_empty_store_gives_way_to_another_chain_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let config = || Config::read(&folder.path().join("turnpike.toml")).unwrap();
        let regtest = files(folder.path(), "regtest");
        make_with(&regtest, &mut || Ok(())).unwrap();
        opened_for(&regtest, &config());
        assert_eq!(make_with(&regtest, &mut || Ok(())).unwrap(), Made::Nothing);
        let first = fs::read(regtest.store()).unwrap();
        let words = seed(&regtest);

        let signet = files(folder.path(), "signet");
        let made = make_with(&signet, &mut || Ok(())).unwrap();
        assert_eq!(made, Made::OtherStore(ChainName::Regtest));
        opened_for(&signet, &config());
        let aside = fs::read(folder.path().join("data/store.redb.regtest")).unwrap();
        assert_eq!(aside.len(), first.len());

        let regtest = files(folder.path(), "regtest");
        assert_eq!(
            make_with(&regtest, &mut || Ok(())).unwrap(),
            Made::OtherStore(ChainName::Signet)
        );
        assert_eq!(
            empty_store_of(regtest.store()).unwrap(),
            Some((ChainName::Regtest, Origin::New))
        );
        assert_eq!(seed(&regtest), words);

        // One in which something happened stays where it is; the daemon says what to do.
        let store = Store::open(regtest.store()).unwrap();
        let put = crate::store::Write::Put {
            table: Table::Payee,
            key: &[0],
            value: &[1],
        };
        store.commit(&[put]).unwrap();
        drop(store);
        let signet = files(folder.path(), "signet");
        assert_eq!(make_with(&signet, &mut || Ok(())).unwrap(), Made::Nothing);
        assert_eq!(empty_store_of(signet.store()).unwrap(), None);
    }
}
