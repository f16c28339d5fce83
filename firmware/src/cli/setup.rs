//! A node's files: made once, restored, never overwritten.

use super::arguments::InitOptions;
use super::{Failure, Output, Place, moving};
use crate::chain::ChainName;
use crate::config::{Config, SYSTEM, example_on};
use crate::control::Hex;
use crate::store::{Backup, Origin, Store, StoreError, destination, import};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use turnpike_protocol::base::NodeId;
use turnpike_protocol::crypto::{CoinType, Keys, Seed};
use zeroize::Zeroizing;

/// Longest input that is taken for seed words, bytes.
const MAX_WORDS: u64 = 4_096;
/// Words of the longest seed (BIP39).
const LONGEST_SEED: usize = 24;

pub(super) fn init(place: &Place, output: &Output, options: &InitOptions) -> Result<(), Failure> {
    let files = Files::locate(place, options.network)?;
    let [has_seed, has_store] = [&files.seed, &files.store].map(|path| path.symlink_metadata().is_ok());
    let never = |path: &Path, why: &str| {
        let path = path.display();
        Err(Failure::new(format!(
            "{path} exists and is never overwritten: {why}"
        )))
    };
    match (has_seed, has_store) {
        (true, true) if files.configured => {
            return never(
                &files.seed,
                "this node is set up already, or move the file away first",
            );
        }
        (true, _) if options.restore => {
            return never(
                &files.seed,
                "leave --restore out to use it, or move the file away first",
            );
        }
        (false, true) => {
            return never(
                &files.store,
                "bring its seed back beside it, or move the file away first",
            );
        }
        _ => {}
    }
    let seed = match (has_seed, options.restore) {
        (true, _) => files.read_seed()?,
        (false, true) => read_words()?,
        (false, false) => fresh()?,
    };
    // A seed that was in use, here or elsewhere, may own something.
    let used = has_seed || options.restore;
    let node = keys(&seed, files.coin())?.node();
    let mut made = Made::default();
    let result = files.folder(&mut made).and_then(|()| {
        if !has_store {
            let origin = if used { Origin::Restored } else { Origin::New };
            Store::create(&files.store, origin)?;
            made.0.push(files.store.clone());
        }
        if !has_seed {
            files.write_seed(&seed, &mut made)?;
        }
        files.write_config(&mut made)
    });
    made.keep_if(result)?;
    let words = seed.words();
    let shown = !used && (!output.json || options.show_words);
    let mut document = files.document(node);
    if output.json && shown {
        document["words"] = serde_json::Value::String(words.to_string());
    }
    let mut text = files.text(node);
    if has_seed {
        text.push_str("\nThe seed that was there is kept; what was missing beside it is made.\n");
    }
    if !used {
        text.push_str(&advice(&words));
    } else if !has_store {
        text.push_str(
            "\nThe channels and coins of this seed are looked for in the chain when turnpiked starts.\n",
        );
    }
    output.line(&document, &text)
}

pub(super) fn restore(place: &Place, output: &Output, backup: &Path) -> Result<(), Failure> {
    let files = Files::locate(place, None)?;
    if let Err(error) = backup.metadata() {
        return Err(Failure::usage(format!(
            "{}: {error}: name what `turnpike backup` wrote",
            backup.display()
        )));
    }
    if let Some(to) = destination(backup)? {
        return moving::arrive(&files, output, backup, to);
    }
    if files.store.symlink_metadata().is_ok() {
        return Err(StoreError::Exists { path: files.store }.into());
    }
    let kept = files.seed.symlink_metadata().is_ok();
    let seed = if kept { files.read_seed()? } else { read_words()? };
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
        found = match open(files.coin())? {
            Err(StoreError::BackupRefused { .. }) if open(other(files.coin()))?.is_ok() => {
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
    let node = keys(&seed, files.coin())?.node();
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
pub(super) struct Files {
    data_dir: PathBuf,
    seed: PathBuf,
    store: PathBuf,
    config: PathBuf,
    configured: bool,
    chain: ChainName,
}

/// Files that were made; gone again unless everything went well.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Files {
    /// `wanted` is the chain that the owner named now; it has to be that of a configuration which is there.
    pub(super) fn locate(place: &Place, wanted: Option<ChainName>) -> Result<Files, Failure> {
        let config = place.config_path();
        let configured = config.symlink_metadata().is_ok();
        let absolute = |folder: &Path| {
            std::path::absolute(folder).map_err(|error| {
                Failure::usage(format!("{}: {error}: name another folder", folder.display()))
            })
        };
        let (named, chain) = if configured {
            let read = Config::read(&config)?;
            let (file, chain) = (config.display(), read.chain.name());
            if let Some(wanted) = wanted.filter(|wanted| *wanted != chain) {
                return Err(Failure::usage(format!(
                    "{file} is there and says {}: change its [chain] to {}, or name another file with --config",
                    chain.word(),
                    wanted.word()
                )));
            }
            let folder = absolute(&read.node.data_dir)?;
            if let Some(other) = &place.data_dir {
                // turnpiked reads the file only: it would look for them elsewhere.
                if absolute(other)?.components().ne(folder.components()) {
                    return Err(Failure::usage(format!(
                        "{file} is there and names the folder {}: leave --data-dir out, or change node.data_dir",
                        folder.display()
                    )));
                }
            }
            (folder, chain)
        } else {
            let folder = match (&place.data_dir, &place.config) {
                (Some(folder), _) => folder.clone(),
                // Beside the file that was named, unless that is the system's.
                (None, Some(file)) if file != Path::new(SYSTEM) => {
                    file.parent().unwrap_or(Path::new("")).join("data")
                }
                _ => place.default_data_dir(),
            };
            (absolute(&folder)?, wanted.unwrap_or(ChainName::Bitcoin))
        };
        let data_dir = named;
        Ok(Files {
            seed: data_dir.join("seed"),
            store: data_dir.join("store.redb"),
            data_dir,
            config,
            configured,
            chain,
        })
    }

    fn coin(&self) -> CoinType {
        match self.chain {
            ChainName::Bitcoin => CoinType::Bitcoin,
            _ => CoinType::Test,
        }
    }

    pub(super) fn read_seed(&self) -> Result<Seed, Failure> {
        let path = self.seed.display();
        let words = std::fs::read_to_string(&self.seed)
            .map_err(|error| Failure::new(format!("{path}: {error}: run as its owner")))?;
        parse(&Zeroizing::new(words), &path.to_string())
    }

    /// Whose seed is there.
    pub(super) fn node(&self) -> Result<NodeId, Failure> {
        Ok(keys(&self.read_seed()?, self.coin())?.node())
    }

    pub(super) fn seed(&self) -> &Path {
        &self.seed
    }

    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) fn chain(&self) -> ChainName {
        self.chain
    }

    /// The configuration is there.
    pub(super) fn is_configured(&self) -> bool {
        self.configured
    }

    pub(super) fn make_folder(&self) -> Result<(), Failure> {
        self.folder(&mut Made::default())
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
        write_new(
            &self.config,
            0o644,
            &[example_on(self.chain, &self.data_dir).as_bytes()],
            made,
        )
    }

    pub(super) fn document(&self, node: NodeId) -> serde_json::Value {
        serde_json::json!({
            "node": Hex(node),
            "network": self.chain.word(),
            "data_dir": self.data_dir,
            "seed": self.seed,
            "config": self.config,
            "config_written": !self.configured,
        })
    }

    pub(super) fn text(&self, node: NodeId) -> String {
        let wrote = if self.configured {
            ""
        } else {
            ", written now: read it and set what you sell or buy"
        };
        format!(
            "node    {}, on this chain\nchain   {}\nfolder  {}\nconfig  {}{wrote}\n",
            Hex(node),
            stakes(self.chain),
            self.data_dir.display(),
            self.config.display()
        )
    }
}

/// The chain, and what is at stake on it.
fn stakes(chain: ChainName) -> String {
    let word = chain.word();
    match chain {
        ChainName::Bitcoin => format!(
            "{word}: REAL MONEY. To try it out: `turnpike init --network play`, or regtest, signet, testnet4"
        ),
        ChainName::Play => format!("{word}: its coins are worth nothing; run `turnpike-playchain` for it"),
        _ => format!("{word}: a test chain, its coins are worth nothing"),
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

/// A new file for its owner alone, durable with its name.
pub(super) fn write_durably(path: &Path, parts: &[&[u8]]) -> Result<(), Failure> {
    write_new(path, 0o600, parts, &mut Made::default())
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

pub(super) fn fresh() -> Result<Seed, Failure> {
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
        drop(writeln!(
            stderr(),
            "The seed words, with their numbers or without, then an empty line:"
        ));
        read_lines(&mut input, &mut words)
    } else {
        input.read_to_string(&mut words)
    };
    read.map_err(|error| Failure::usage(format!("standard input: {error}: give the seed words there")))?;
    parse(&words, "standard input")
}

/// Up to the last word of the longest seed, an empty line, or the end.
fn read_lines(input: &mut impl BufRead, words: &mut String) -> std::io::Result<usize> {
    loop {
        let read = input.read_line(words)?;
        let empty = words.ends_with("\n\n") || words.trim().is_empty();
        if read == 0 || empty || only_words(words).split(' ').count() >= LONGEST_SEED {
            return Ok(words.len());
        }
    }
}

pub(super) fn parse(words: &str, source: &str) -> Result<Seed, Failure> {
    Seed::from_words(&only_words(words)).map_err(|error| Failure::usage(format!("{source}: {error}")))
}

/// Seed words as they were written down: over several lines, and each with its number before it.
fn only_words(text: &str) -> Zeroizing<String> {
    let mut words = Zeroizing::new(String::with_capacity(text.len()));
    for part in text.split_whitespace() {
        let word = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let word = if word.len() < part.len() {
            word.trim_start_matches(['.', ')', ':'])
        } else {
            word
        };
        if !word.is_empty() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
    }
    words
}

/// The words with their numbers, six in a row.
pub(super) fn table(words: &str) -> Zeroizing<String> {
    // With room for all of it, no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_SEED * 32));
    for (row, line) in words.split(' ').collect::<Vec<_>>().chunks(6).enumerate() {
        for (column, word) in line.iter().enumerate() {
            text.push_str(&format!("{:>4} {word:<9}", row * 6 + column + 1));
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push('\n');
    }
    text
}

fn advice(words: &str) -> String {
    let mut text = String::from("\nThe seed words. They are shown this once:\n\n");
    text.push_str(&table(words));
    text.push_str(
        "\nWrite them on paper and keep it apart from this machine. Whoever has them has the money;\n\
         if this card dies, they are all that is needed to find it again.\n",
    );
    text
}
