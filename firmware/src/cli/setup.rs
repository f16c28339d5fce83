//! A node's files: made once, restored, never overwritten.

use super::arguments::InitOptions;
use super::{Failure, Output, Place};
use crate::config::{Config, example};
use crate::control::Hex;
use crate::store::{Backup, Origin, Store, StoreError, import};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use turnpike_protocol::base::NodeId;
use turnpike_protocol::crypto::{CoinType, Keys, Seed};
use zeroize::Zeroizing;

/// Longest input that is taken for seed words, bytes.
const MAX_WORDS: u64 = 4_096;

pub(super) fn init(place: &Place, output: &Output, options: &InitOptions) -> Result<(), Failure> {
    let files = Files::locate(place)?;
    for path in [&files.seed, &files.store] {
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Failure::new(format!(
                "{path} exists and is never overwritten: this node is set up already, or move the file away first"
            )));
        }
    }
    let seed = if options.restore { read_words()? } else { fresh()? };
    let node = keys(&seed, files.coin)?.node();
    let mut made = Made::default();
    let result = files.folder(&mut made).and_then(|()| {
        let origin = if options.restore {
            Origin::Restored
        } else {
            Origin::New
        };
        Store::create(&files.store, origin)?;
        made.0.push(files.store.clone());
        files.write_seed(&seed, &mut made)?;
        files.write_config(&mut made)
    });
    made.keep_if(result)?;
    let words = seed.words();
    let shown = !options.restore && (!output.json || options.show_words);
    let mut document = files.document(node);
    if output.json && shown {
        document["words"] = serde_json::Value::String(words.to_string());
    }
    let mut text = files.text(node);
    if !options.restore {
        text.push_str(&advice(&words));
    } else {
        text.push_str(
            "\nThe channels and coins of this seed are looked for in the chain when turnpiked starts.\n",
        );
    }
    output.line(&document, &text)
}

pub(super) fn restore(place: &Place, output: &Output, backup: &Path) -> Result<(), Failure> {
    let files = Files::locate(place)?;
    if files.store.symlink_metadata().is_ok() {
        return Err(StoreError::Exists { path: files.store }.into());
    }
    if let Err(error) = backup.metadata() {
        return Err(Failure::usage(format!(
            "{}: {error}: name what `turnpike backup` wrote",
            backup.display()
        )));
    }
    let (seed, kept) = match std::fs::read_to_string(&files.seed) {
        Ok(words) => (
            parse(&Zeroizing::new(words), &files.seed.display().to_string())?,
            true,
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (read_words()?, false),
        Err(error) => {
            return Err(Failure::new(format!(
                "{}: {error}: run as its owner",
                files.seed.display()
            )));
        }
    };
    let mut made = Made::default();
    let mut found = Backup {
        rows: 0,
        entries: 0,
        hash: [0; 32],
    };
    let result = files.folder(&mut made).and_then(|()| {
        let open = |coin| -> Result<_, Failure> {
            Ok(import(backup, keys(&seed, coin)?.recovery().as_bytes(), &files.store))
        };
        found = match open(files.coin)? {
            Err(StoreError::BackupRefused { .. }) if open(other(files.coin))?.is_ok() => {
                made.0.push(files.store.clone());
                return Err(Failure::usage(format!(
                    "{} belongs to this seed but to another chain: set chain.network in {} to that chain first",
                    backup.display(),
                    files.config.display()
                )));
            }
            opened => opened?,
        };
        made.0.push(files.store.clone());
        if !kept {
            files.write_seed(&seed, &mut made)?;
        }
        files.write_config(&mut made)
    });
    made.keep_if(result)?;
    let node = keys(&seed, files.coin)?.node();
    let mut document = files.document(node);
    document["rows"] = found.rows.into();
    document["entries"] = found.entries.into();
    document["hash"] = Hex(found.hash).to_string().into();
    let mut text = files.text(node);
    text.push_str(&format!(
        "\n{} rows and {} payments are restored. Channels in which this node is paid are settled when turnpiked starts.\n",
        found.rows, found.entries
    ));
    output.line(&document, &text)
}

/// Where everything of one node is, or will be.
struct Files {
    data_dir: PathBuf,
    seed: PathBuf,
    store: PathBuf,
    config: PathBuf,
    configured: bool,
    coin: CoinType,
}

/// Files that were made; gone again unless everything went well.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Files {
    fn locate(place: &Place) -> Result<Files, Failure> {
        let config = place.config_path();
        let configured = config.symlink_metadata().is_ok();
        let (named, coin) = if configured {
            let config = Config::read(&config)?;
            let main = config.chain.network == bitcoin::Network::Bitcoin;
            (
                config.node.data_dir,
                if main { CoinType::Bitcoin } else { CoinType::Test },
            )
        } else {
            (place.default_data_dir(), CoinType::Bitcoin)
        };
        let folder = place.data_dir.clone().unwrap_or(named);
        let data_dir = std::path::absolute(&folder)
            .map_err(|error| Failure::usage(format!("{}: {error}: name another folder", folder.display())))?;
        Ok(Files {
            seed: data_dir.join("seed"),
            store: data_dir.join("store.redb"),
            data_dir,
            config,
            configured,
            coin,
        })
    }

    fn folder(&self, made: &mut Made) -> Result<(), Failure> {
        let io = |error: std::io::Error| {
            let path = self.data_dir.display();
            Failure::new(format!(
                "{path}: {error}: run as root, or name a folder of yours with --data-dir"
            ))
        };
        if self.data_dir.is_dir() {
            return Ok(());
        }
        if let Some(above) = self.data_dir.parent() {
            std::fs::create_dir_all(above).map_err(io)?;
        }
        DirBuilder::new().mode(0o700).create(&self.data_dir).map_err(io)?;
        made.0.push(self.data_dir.clone());
        Ok(())
    }

    fn write_seed(&self, seed: &Seed, made: &mut Made) -> Result<(), Failure> {
        let words = seed.words();
        write_new(&self.seed, 0o600, &[words.as_bytes(), b"\n"], made)
    }

    fn write_config(&self, made: &mut Made) -> Result<(), Failure> {
        if self.configured {
            return Ok(());
        }
        if let Some(above) = self.config.parent() {
            std::fs::create_dir_all(above).map_err(|error| {
                Failure::new(format!(
                    "{}: {error}: run as root, or say --config",
                    above.display()
                ))
            })?;
        }
        write_new(&self.config, 0o644, &[example(&self.data_dir).as_bytes()], made)
    }

    fn document(&self, node: NodeId) -> serde_json::Value {
        serde_json::json!({
            "node": Hex(node),
            "data_dir": self.data_dir,
            "config": self.config,
            "config_written": !self.configured,
        })
    }

    fn text(&self, node: NodeId) -> String {
        let wrote = if self.configured {
            ""
        } else {
            ", written now: read it and set what you sell or buy"
        };
        format!(
            "node    {}\nfolder  {}\nconfig  {}{wrote}\n",
            Hex(node),
            self.data_dir.display(),
            self.config.display()
        )
    }
}

impl Made {
    fn keep_if(self, result: Result<(), Failure>) -> Result<(), Failure> {
        if result.is_err() {
            for path in self.0.iter().rev() {
                // A folder that somebody else put something into stays.
                let _ = if path.is_dir() {
                    std::fs::remove_dir(path)
                } else {
                    std::fs::remove_file(path)
                };
            }
        }
        result
    }
}

fn write_new(path: &Path, mode: u32, parts: &[&[u8]], made: &mut Made) -> Result<(), Failure> {
    let io = |error: std::io::Error| {
        Failure::new(format!(
            "{}: {error}: check the disk and the folder",
            path.display()
        ))
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(io)?;
    made.0.push(path.to_owned());
    parts
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all())
        .map_err(io)?;
    // The name has to survive a power cut as well.
    let folder = path.parent().map_or(Ok(()), |above| {
        std::fs::File::open(above).and_then(|f| f.sync_all())
    });
    folder.map_err(io)
}

fn keys(seed: &Seed, coin: CoinType) -> Result<Keys, Failure> {
    Keys::new(seed, coin).map_err(Failure::new)
}

fn other(coin: CoinType) -> CoinType {
    match coin {
        CoinType::Bitcoin => CoinType::Test,
        CoinType::Test => CoinType::Bitcoin,
    }
}

fn fresh() -> Result<Seed, Failure> {
    let mut entropy = Zeroizing::new([0; 32]);
    getrandom::fill(entropy.as_mut())
        .map_err(|error| Failure::new(format!("the system gives no random numbers: {error}: restart it")))?;
    Ok(Seed::from_entropy(&entropy))
}

fn read_words() -> Result<Seed, Failure> {
    // With room for all of it, no copy is left behind by growing.
    let mut words = Zeroizing::new(String::with_capacity(MAX_WORDS as usize));
    let input = stdin();
    let mut input = input.lock().take(MAX_WORDS);
    let read = if stdin().is_terminal() {
        drop(write!(stderr(), "The seed words, in one line: "));
        input.read_line(&mut words)
    } else {
        input.read_to_string(&mut words)
    };
    read.map_err(|error| Failure::usage(format!("standard input: {error}: give the seed words there")))?;
    parse(&words, "standard input")
}

fn parse(words: &str, source: &str) -> Result<Seed, Failure> {
    Seed::from_words(words.trim()).map_err(|error| Failure::usage(format!("{source}: {error}")))
}

fn advice(words: &str) -> String {
    let mut text = String::from("\nThe seed words. They are shown this once:\n\n");
    for (row, line) in words.split(' ').collect::<Vec<_>>().chunks(6).enumerate() {
        for (column, word) in line.iter().enumerate() {
            text.push_str(&format!("{:>4} {word:<9}", row * 6 + column + 1));
        }
        text = text.trim_end().to_owned();
        text.push('\n');
    }
    text.push_str(
        "\nWrite them on paper and keep it apart from this machine. Whoever has them has the money;\n\
         if this card dies, they are all that is needed to find it again.\n",
    );
    text
}
