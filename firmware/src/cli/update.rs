//! `turnpike update`: the card's firmware. Works on the card's files; no daemon takes part.

use super::Failure;
use super::output::Output;
use crate::card::{Disk, Places};
use crate::store::{FORMAT, OLDEST_FORMAT};
use crate::update::{
    Applied, Commit, FileSource, HttpSource, Layout, Manifest, ManifestFacts, Serve, Source, Status, Step,
    Taken, UpdateError, Verdict, apply, commit, fail, rollback, settle, take_from_boot, update_line,
};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Largest signature file that is read, bytes; a longer one is none.
const MAX_READ: u64 = 64 * 1024;

const PACK_EXAMPLES: &str = "\
Example:
  turnpike update manifest --version 42 --name 0.2.0 --board raspberrypi,3-model-b --root-hash HEX --root-salt HEX \\
    --root-data-blocks 9000 --kernel kernel --initrd initrd.img --root root.img manifest.toml
  minisign -S -s your.key -m manifest.toml -x yours.minisig
  turnpike update pack --manifest manifest.toml --signature yours.minisig --signature theirs.minisig \\
    --kernel kernel --initrd initrd.img --root root.img turnpike-arm64-42.tpu";

/// What `turnpike update` takes.
#[derive(Args, Debug)]
pub(super) struct UpdateOptions {
    /// A folder that stands for the card.
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub card: Option<PathBuf>,
    #[command(subcommand)]
    pub command: UpdateCommand,
}

#[derive(Subcommand, Debug)]
pub(super) enum UpdateCommand {
    /// Both slots, the newest update and what became of it.
    Status,
    /// Bring an update into the slot that does not run, and start that one next, on trial.
    Apply {
        /// A bundle: a file, or an address such as http://192.0.2.1:7480/update.tpu.
        source: String,
    },
    /// Start the other slot next, on trial.
    Rollback,
    /// The node is healthy: keep the firmware that is on trial. For the health service.
    Commit,
    /// The node is not healthy: give up the firmware that is on trial at the next restart. For the health service.
    Fail {
        /// What is wrong, in one sentence.
        reason: String,
    },
    /// Once per boot: record how a trial ended, then take a bundle that lies on the boot partition. Status 3: restart now,
    /// another slot is to start.
    Boot,
    /// Give the running firmware to other nodes, until it is stopped.
    Serve {
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:7480")]
        listen: SocketAddr,
    },
    /// Write the manifest of an update.
    #[command(after_help = PACK_EXAMPLES, disable_version_flag = true)]
    Manifest(ManifestOptions),
    /// Put manifest, signatures and files into a bundle.
    #[command(after_help = PACK_EXAMPLES)]
    Pack(PackOptions),
    /// Write what U-Boot needs to know of a slot with this manifest.
    SlotEnv {
        /// `manifest.toml`
        manifest: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
}

/// The three files of a slot.
#[derive(Args, Debug)]
pub(super) struct FilesOptions {
    /// The kernel.
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// The initramfs.
    #[arg(long, value_name = "FILE")]
    pub initrd: PathBuf,
    /// The root with its hash tree.
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct ManifestOptions {
    /// Number that only rises.
    #[arg(long, value_name = "NUMBER")]
    pub version: u64,
    /// What people call it, such as 0.2.0.
    #[arg(long)]
    pub name: String,
    /// A `compatible` text of a board's device tree; give it once per board.
    #[arg(long = "board", value_name = "COMPATIBLE", required = true)]
    pub boards: Vec<String>,
    /// Hash at the top of the root's tree, in hex.
    #[arg(long, value_name = "HEX")]
    pub root_hash: String,
    /// Salt of the tree, in hex.
    #[arg(long, value_name = "HEX")]
    pub root_salt: String,
    /// Blocks of 4,096 bytes before the tree.
    #[arg(long, value_name = "BLOCKS")]
    pub root_data_blocks: u64,
    /// Oldest store format that the firmware reads [default: this program's].
    #[arg(long, value_name = "FORMAT", default_value_t = OLDEST_FORMAT, hide_default_value = true)]
    pub store_oldest: u32,
    /// Newest store format that it reads [default: this program's].
    #[arg(long, value_name = "FORMAT", default_value_t = FORMAT, hide_default_value = true)]
    pub store_newest: u32,
    /// Store format that it writes [default: this program's].
    #[arg(long, value_name = "FORMAT", default_value_t = FORMAT, hide_default_value = true)]
    pub store_writes: u32,
    #[command(flatten)]
    pub files: FilesOptions,
    /// The file to write.
    pub out: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct PackOptions {
    /// What `turnpike update manifest` wrote.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// What `minisign -S` made of the manifest; give it once per key.
    #[arg(long = "signature", value_name = "FILE")]
    pub signatures: Vec<PathBuf>,
    #[command(flatten)]
    pub files: FilesOptions,
    /// The bundle to write.
    pub out: PathBuf,
}

/// Runs it.
pub(super) fn run(output: &Output, options: UpdateOptions) -> Result<(), Failure> {
    let places = Places::find(options.card.as_deref());
    match options.command {
        UpdateCommand::Status => {
            let status = Status::read(&places).map_err(Failure::new)?;
            output.line(&status, &status.to_text())
        }
        UpdateCommand::Apply { source } => {
            let mut bundle = open(&source)?;
            bring(&places, output, &source, bundle.as_mut())
        }
        UpdateCommand::Rollback => {
            let (slot, version) = rollback(&places, &mut Disk)?;
            output.line(
                &json!({ "slot": slot, "version": version }),
                &format!(
                    "slot {} with version {version} starts next, on trial: restart",
                    slot.name()
                ),
            )
        }
        UpdateCommand::Commit => match commit(&places, &mut Disk)? {
            Commit::Done(slot) => output.line(
                &json!({ "committed": slot }),
                &format!("slot {} is good", slot.name()),
            ),
            Commit::NoTrial => output.line(&json!({ "committed": null }), "no trial is under way"),
        },
        UpdateCommand::Fail { reason } => {
            let slot = fail(&places, &reason, &mut Disk)?;
            output.line(
                &json!({ "failed": slot }),
                &format!("slot {} is given up at the next restart", slot.name()),
            )
        }
        UpdateCommand::Boot => boot(&places, output),
        UpdateCommand::Serve { listen } => {
            let serve = Serve::bind(&places, listen)?;
            let address = serve.address();
            output.line(
                &json!({ "address": address, "version": serve.version() }),
                &format!("version {} is at http://{address}/update.tpu", serve.version()),
            )?;
            Err(Failure::new(serve.run()))
        }
        UpdateCommand::Manifest(options) => manifest(output, &options),
        UpdateCommand::Pack(options) => pack(output, &options),
        UpdateCommand::SlotEnv { manifest, out } => {
            let manifest = Manifest::parse(&read(&manifest)?).map_err(Failure::new)?;
            write(&out, |file| {
                file.write_all(manifest.slot_env().to_text().as_bytes())
            })
        }
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        Failure::new(error)
    }
}

fn open(source: &str) -> Result<Box<dyn Source>, Failure> {
    let opened: Result<Box<dyn Source>, _> =
        match source.starts_with("http://") || source.starts_with("https://") {
            true => HttpSource::open(source).map(|source| Box::new(source) as Box<dyn Source>),
            false => FileSource::open(Path::new(source)).map(|source| Box::new(source) as Box<dyn Source>),
        };
    opened.map_err(Failure::new)
}

fn bring(places: &Places, output: &Output, name: &str, source: &mut dyn Source) -> Result<(), Failure> {
    let bar = Bar::new(output);
    let applied = apply(places, name, source, &mut Disk, &mut |step| bar.step(step));
    bar.end();
    let applied = applied?;
    output.line(&applied, &applied_text(&applied))
}

fn applied_text(applied: &Applied) -> String {
    format!(
        "version {} ({}) is in slot {} and starts next, on trial ({} bytes came from the source, {} were there): restart",
        applied.version,
        applied.name,
        applied.slot.name(),
        applied.fetched_bytes,
        applied.kept_bytes
    )
}

fn boot(places: &Places, output: &Output) -> Result<(), Failure> {
    let settled = match settle(places, &mut Disk)? {
        Verdict::Nothing => None,
        Verdict::Committed(outcome) | Verdict::RolledBack(outcome) => Some(outcome),
    };
    let bar = Bar::new(output);
    let taken = take_from_boot(places, &mut |step| bar.step(step));
    bar.end();
    let mut text = match &settled {
        Some(outcome) => format!("{}\n", update_line(outcome)),
        None => String::new(),
    };
    let (applied, refused) = match taken? {
        Taken::Nothing => (None, None),
        Taken::Switched(applied) => {
            text += &applied_text(&applied);
            (Some(applied), None)
        }
        Taken::Refused { file, reason } => {
            text += &format!("{file}: {reason}");
            (None, Some(reason))
        }
    };
    output.line(
        &json!({ "settled": settled, "applied": applied, "refused": refused }),
        &text,
    )?;
    match applied {
        Some(applied) => Err(Failure::claim(format!(
            "restart now: slot {} is to start",
            applied.slot.name()
        ))),
        None => Ok(()),
    }
}

/// How far it is, on a terminal.
struct Bar<'o> {
    output: &'o Output,
    bar: ProgressBar,
}

impl Bar<'_> {
    fn new(output: &Output) -> Bar<'_> {
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg}");
        let bar = match output.bar() {
            true => {
                ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            }
            false => ProgressBar::hidden(),
        };
        Bar { output, bar }
    }

    fn step(&self, step: Step) {
        match step {
            Step::Checked { version, slot, bytes } => {
                self.bar.set_length(bytes);
                self.output.note(&format!(
                    "version {version} is signed and fits; it goes into slot {}",
                    slot.name()
                ));
            }
            Step::Brought { bytes, .. } => self.bar.inc(bytes),
            Step::ReadingBack => self.bar.set_message("reading back"),
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn manifest(output: &Output, options: &ManifestOptions) -> Result<(), Failure> {
    let facts = ManifestFacts {
        version: options.version,
        name: options.name.clone(),
        boards: options.boards.clone(),
        store_reads: [options.store_oldest, options.store_newest],
        store_writes: options.store_writes,
        root_hash: options.root_hash.clone(),
        root_salt: options.root_salt.clone(),
        root_data_blocks: options.root_data_blocks,
    };
    let FilesOptions { kernel, initrd, root } = &options.files;
    let manifest = Manifest::make(facts, kernel, initrd, root).map_err(Failure::new)?;
    write(&options.out, |file| file.write_all(manifest.to_text().as_bytes()))?;
    let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
    output.line(
        &json!({ "version": manifest.facts.version, "bytes": bytes }),
        &format!("{}: version {}", options.out.display(), manifest.facts.version),
    )
}

fn pack(output: &Output, options: &PackOptions) -> Result<(), Failure> {
    let text = read(&options.manifest)?;
    let signatures: Vec<String> = options
        .signatures
        .iter()
        .map(|path| Ok(String::from_utf8_lossy(&read(path)?).into_owned()))
        .collect::<Result<_, Failure>>()?;
    let FilesOptions { kernel, initrd, root } = &options.files;
    let layout = Layout::new(&text, &signatures, [kernel, initrd, root]).map_err(Failure::new)?;
    let manifest = Manifest::parse(&text).map_err(Failure::new)?;
    layout.check(&manifest).map_err(Failure::new)?;
    write(&options.out, |file| layout.write_to(file))?;
    output.line(
        &json!({ "version": manifest.facts.version, "bytes": layout.length(), "signatures": signatures.len() }),
        &format!(
            "{}: version {}, {} bytes, {} signatures",
            options.out.display(),
            manifest.facts.version,
            layout.length(),
            signatures.len()
        ),
    )
}

/// A manifest or a signature.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let most = MAX_READ.max(crate::update::MAX_MANIFEST) + 1;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    match bytes.len() as u64 == most {
        true => Err(Failure::new(format!(
            "{}: it is too long for a manifest or a signature",
            path.display()
        ))),
        false => Ok(bytes),
    }
}

/// A whole file or none.
fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = path.with_file_name(name);
    let work = || {
        let mut file = File::create(&unfinished)?;
        fill(&mut file)?;
        fs::rename(&unfinished, path)
    };
    work().map_err(|error| {
        drop(fs::remove_file(&unfinished));
        Failure::new(format!("{}: {error}", path.display()))
    })
}
