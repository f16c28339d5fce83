//! The words of the command line.

use super::amount::{
    parse_blocks, parse_days, parse_mib, parse_rate, parse_sat, parse_search, parse_slot, parse_wait,
};
use super::update::UpdateOptions;
use crate::chain::ChainName;
use crate::control::{Hex, Target};
use crate::store::CardId;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use turnpike_protocol::base::{FeeRate, NodeId};

/// Heading of the options that every command takes.
const GLOBAL: &str = "Options of every command";

const INIT_EXAMPLES: &str = "\
Examples:
  turnpike init --network play       to try it out: coins that are worth nothing
  turnpike init --restore <words     a node whose seed words are at hand";

const BUY_EXAMPLES: &str = "\
Examples:
  turnpike buy --mib 500 --max-sat 100              from the only relay around, after asking
  turnpike buy --auto --max-sat 1000 --mib 5000     from the cheapest one, without asking";

const OPEN_EXAMPLES: &str = "\
Examples:
  turnpike channel open --capacity-sat 50000
  turnpike channel open --relay 192.0.2.1:7473 --lifetime-blocks 432 --yes";

const BACKUP_EXAMPLES: &str = "\
Examples:
  turnpike backup /media/stick/pole-7               now and then; a restored node settles its channels
  turnpike backup --move-to 0000-0000-0000-001Y /media/stick/move    to a new card, which goes on as if nothing was";

/// Buys and sells metered bandwidth over Bitcoin trade channels.
#[derive(Parser, Debug)]
#[command(name = "turnpike", version, propagate_version = true)]
pub(super) struct Arguments {
    /// The configuration file [default: /etc/turnpike/turnpike.toml, else ~/.config/turnpike/turnpike.toml].
    #[arg(long, global = true, env = "TURNPIKE_CONFIG", value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// The folder of seed, store and control socket, in place of the one that the configuration names.
    #[arg(long, global = true, value_name = "FOLDER", help_heading = GLOBAL)]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON document, or one JSON document per line for what goes on.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Make this node's seed, store and configuration, and show the seed words once.
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitOptions),
    /// Make the store out of a backup; without a seed file, read the seed words from standard input. Or go on, on a card
    /// that is new, with what `turnpike backup --move-to` wrote for it; its code is read from standard input.
    Restore {
        /// What `turnpike backup` wrote.
        file: PathBuf,
    },
    /// How the node is.
    Status,
    /// Look for relays on the link.
    Discover {
        /// For how long.
        #[arg(long, default_value_t = 3, value_parser = parse_search, allow_negative_numbers = true)]
        seconds: u32,
    },
    /// Connect to a relay.
    Connect {
        /// IDENTITY@HOST:PORT, or HOST:PORT to take whoever answers.
        relay: Target,
    },
    /// Prices of this relay.
    #[command(subcommand)]
    Price(PriceCommand),
    /// Buy bandwidth; Ctrl-C stops and keeps the credit.
    #[command(after_help = BUY_EXAMPLES)]
    Buy(BuyOptions),
    /// Stop buying; credit is kept.
    Stop {
        /// From this relay only.
        #[arg(long, value_name = "IDENTITY")]
        relay: Option<Hex<NodeId>>,
    },
    /// Trade channels.
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// The on-chain wallet.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Receipts that both sides signed.
    Receipts {
        #[command(subcommand)]
        command: Option<ReceiptsCommand>,
    },
    /// What would be lost if the others vanished now.
    Exposure,
    /// Clients of this relay.
    Clients {
        #[command(subcommand)]
        command: Option<ClientsCommand>,
    },
    /// Refunds of the channels in which this node pays.
    #[command(subcommand)]
    Refund(RefundCommand),
    /// Write an encrypted backup of the store, or move this node's identity and money to another card.
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(BackupOptions),
    /// The firmware of the card.
    Update(UpdateOptions),
    /// Look for what is wrong, and say what to do.
    Doctor,
    /// Print what happens, until Ctrl-C.
    Events,
    /// The seed of this node.
    #[command(subcommand)]
    Seed(SeedCommand),
    /// What a node that runs from a card does for itself.
    #[command(subcommand)]
    Card(CardCommand),
    /// Print a completion script.
    Completions {
        /// For this shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum CardCommand {
    /// Read the settings on the card's open partition and write what the node's programs need; or check a file for it.
    Settings(CardOptions),
    /// Make what is missing of this node's seed and store, without showing the words.
    Init,
    /// Serve setup mode's web page; ends when somebody there says so, or after its time.
    Setup {
        /// Where.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:80")]
        listen: std::net::SocketAddr,
        /// For so long.
        #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=900))]
        seconds: u32,
    },
    /// Print this card's id, which `turnpike backup --move-to` names on the old one.
    Id,
}

#[derive(Args, Debug)]
pub(super) struct BackupOptions {
    /// A new file.
    #[arg(required_unless_present = "undo_move", conflicts_with = "undo_move")]
    pub file: Option<PathBuf>,
    /// Stop this node for good, and let the card with this id, which is new, go on with its identity and money. The daemon
    /// has to be stopped. The file holds the seed too; the code that opens it is printed.
    #[arg(long, value_name = "CARD-ID", conflicts_with = "undo_move")]
    pub move_to: Option<CardId>,
    /// Let this node go on after all, because the other card never started with the file and never will.
    #[arg(long)]
    pub undo_move: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum SeedCommand {
    /// Show the words to write down, on a terminal, after asking.
    Show,
}

#[derive(Args, Debug)]
pub(super) struct CardOptions {
    /// Only say what a node would make of this file: turnpike.toml or rpi-preseed.toml.
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// Only print a commented turnpike.toml to fill in.
    #[arg(long, conflicts_with = "check")]
    pub example: bool,
    /// The open partition.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/boot",
        conflicts_with = "check"
    )]
    pub boot: PathBuf,
    /// The data partition.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/data",
        conflicts_with = "check"
    )]
    pub data: PathBuf,
    /// Where the outcome goes.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/run/turnpike",
        conflicts_with = "check"
    )]
    pub run: PathBuf,
    /// Network interfaces of the node, separated by spaces [default: those of this machine; with --check: eth0 wlan0].
    #[arg(long, value_name = "NAMES")]
    pub interfaces: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct InitOptions {
    /// Read the words of a seed that was in use before from standard input. With a backup at hand, use `turnpike
    /// restore` instead.
    #[arg(long)]
    pub restore: bool,
    /// With --json, print the words too.
    #[arg(long)]
    pub show_words: bool,
    /// The chain that a new configuration names: mainnet is real money, play is worth nothing [default: mainnet].
    #[arg(long, value_name = "CHAIN", value_parser = chain_values())]
    pub network: Option<ChainName>,
}

#[derive(Subcommand, Debug)]
pub(super) enum PriceCommand {
    /// The prices in force.
    Show,
    /// Change prices in the configuration file and in the daemon; what is not named stays as it is.
    Set(PriceOptions),
    /// Let the daemon read the prices in the configuration file again.
    Reload,
}

#[derive(Args, Debug, Default)]
pub(super) struct PriceOptions {
    /// Per MiB from the client, such as "50 msat/MiB".
    #[arg(long, value_name = "PRICE")]
    pub up: Option<String>,
    /// Per MiB to the client.
    #[arg(long, value_name = "PRICE")]
    pub down: Option<String>,
    /// Per second of open service, such as "10 msat/s".
    #[arg(long, value_name = "PRICE")]
    pub per_second: Option<String>,
    /// Free per client and day, such as "10 MiB".
    #[arg(long, value_name = "SIZE")]
    pub free: Option<String>,
    /// Free for all clients together and day.
    #[arg(long, value_name = "SIZE")]
    pub free_total: Option<String>,
    /// Smallest window, such as "128 KiB".
    #[arg(long, value_name = "SIZE")]
    pub window_min: Option<String>,
    /// Largest window.
    #[arg(long, value_name = "SIZE")]
    pub window_max: Option<String>,
    /// Only until the daemon restarts or reloads; the file stays as it is.
    #[arg(long)]
    pub temporary: bool,
}

#[derive(Args, Debug)]
pub(super) struct OpenOptions {
    /// IDENTITY@HOST:PORT, IDENTITY, or HOST:PORT [default: the relay that is connected or configured].
    #[arg(long, value_name = "RELAY")]
    pub relay: Option<Target>,
    /// Satoshi to lock in a new channel.
    #[arg(long, value_name = "SAT", value_parser = parse_sat, allow_negative_numbers = true)]
    pub capacity_sat: Option<u64>,
    /// Blocks until a new channel's expiry: a relay that falls silent locks the capacity for as long.
    #[arg(long, value_name = "BLOCKS", value_parser = parse_blocks, allow_negative_numbers = true)]
    pub lifetime_blocks: Option<u32>,
    /// Open channels without asking.
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub(super) struct BuyOptions {
    /// How much, in MiB, such as 50 or 0.5 [default: as much as the money buys].
    #[arg(long, value_name = "MIB", value_parser = parse_mib, allow_negative_numbers = true)]
    pub mib: Option<u64>,
    /// The most to spend on it, in satoshi; fees of channels are not counted.
    #[arg(long, value_name = "SAT", value_parser = parse_sat, allow_negative_numbers = true)]
    pub max_sat: u64,
    /// Find a relay and open channels where needed, without asking.
    #[arg(long)]
    pub auto: bool,
    #[command(flatten)]
    pub open: OpenOptions,
}

#[derive(Subcommand, Debug)]
pub(super) enum ChannelCommand {
    /// Every channel.
    List,
    /// Open a channel to a relay.
    #[command(after_help = OPEN_EXAMPLES)]
    Open(OpenOptions),
    /// Close a channel, or all of them: those in which this node is paid are settled together.
    Close {
        /// Its number in the list.
        #[arg(required_unless_present = "all", conflicts_with = "all", value_parser = parse_slot, allow_negative_numbers = true)]
        slot: Option<u32>,
        /// Close every one.
        #[arg(long)]
        all: bool,
        /// Wait so long at most for the settlement to be broadcast.
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = parse_wait, allow_negative_numbers = true)]
        wait: u32,
    },
    /// Raise the fee of the settlement that holds a channel.
    Raise {
        /// Its number in the list.
        #[arg(value_parser = parse_slot, allow_negative_numbers = true)]
        slot: u32,
        /// Fee rate in sat/vB, such as 2.5.
        #[arg(value_parser = parse_rate, value_name = "SAT/VB", allow_negative_numbers = true)]
        rate: FeeRate,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum WalletCommand {
    /// A new address to receive on.
    Address,
    /// What is in it.
    Balance,
    /// Send coins.
    Send {
        /// To whom.
        address: String,
        /// How many satoshi, the fee not included.
        #[arg(value_name = "SAT", value_parser = parse_sat, allow_negative_numbers = true)]
        amount_sat: u64,
        /// Fee rate in sat/vB, such as 2.5 [default: the present estimate].
        #[arg(long, value_parser = parse_rate, value_name = "SAT/VB", allow_negative_numbers = true)]
        rate: Option<FeeRate>,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum ReceiptsCommand {
    /// Every receipt, with its number.
    List,
    /// Check both signatures under receipts; a file needs no daemon. Status 0: both sides signed them all. 1: one is forged or
    /// says something else than was signed. 3: all are genuine, but one is the relay's claim alone.
    Verify {
        /// Number in the list, a file of `turnpike --json receipts`, or "-" for standard input.
        receipt: String,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum ClientsCommand {
    /// Every client that was ever served.
    List,
    /// Sales per day and client.
    Sales {
        /// So many days at most.
        #[arg(long, value_parser = parse_days, allow_negative_numbers = true)]
        days: Option<u32>,
    },
    /// Serve a client no longer.
    Block {
        /// Its identity, or enough of its beginning.
        client: Beginning,
    },
    /// Let a client pay as others do.
    Unblock {
        /// Its identity, or enough of its beginning.
        client: Beginning,
    },
    /// Serve a client for nothing.
    Exempt {
        /// Its identity, or enough of its beginning.
        client: Beginning,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum RefundCommand {
    /// Print them signed, for any node to broadcast once their height is reached.
    Export,
}

/// The words of `turnpike.toml` for the chains.
fn chain_values() -> impl TypedValueParser<Value = ChainName> {
    PossibleValuesParser::new(ChainName::ALL.map(ChainName::word)).try_map(|word| {
        let named = ChainName::ALL.into_iter().find(|chain| chain.word() == word);
        named.ok_or_else(|| format!("no chain is called {word}"))
    })
}

/// An identity or its beginning, in hex.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Beginning(pub String);

impl std::str::FromStr for Beginning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = (4..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        good.then(|| Beginning(text.to_ascii_lowercase())).ok_or_else(|| {
            "an identity is expected, or at least its first 4 hexadecimal digits, as in `turnpike clients`".to_owned()
        })
    }
}
