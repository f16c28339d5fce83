//! `turnpike-playchain`: the play-money chain as a process, and its owner's two wishes: coins and blocks.

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use turnpike_firmware::chain::{Auth, BackendError, Bitcoind, Fault};
use turnpike_firmware::playchain::{PlayServer, ServerConfig};

const BANNER: &str = "\
PLAY MONEY. The coins of this chain are worthless: anybody can make them, and nobody will take them.
It is for demos and tests; for money, use a bitcoind.";
/// A thousand blocks take a second; an answer that takes so much longer never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A play-money chain that answers like a bitcoind. Its coins are worthless.
///
/// Without a command it serves until Ctrl-C, and prints at the start what belongs into the configuration of every node.
/// The commands talk to the chain that runs.
#[derive(Parser)]
#[command(name = "turnpike-playchain", version)]
struct Options {
    /// Address and port to serve JSON-RPC on; for the commands: that the chain serves on.
    #[arg(long, default_value = "127.0.0.1:18555", global = true)]
    listen: SocketAddr,
    /// Folder for the cookie file and the chain; it is made if missing.
    #[arg(long, default_value = "playchain", global = true)]
    folder: PathBuf,
    /// Seconds between blocks; 0 makes blocks only when asked to (mine, generatetoaddress).
    #[arg(long, default_value_t = 10)]
    block_time: u64,
    /// Forget the chain at the end.
    #[arg(long)]
    forget: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Give coins to an address, such as `turnpike wallet address` shows; they are there with the next block.
    Faucet {
        /// Begins with bcrt1.
        address: String,
        /// How many satoshi, from 330 to 1,000,000,000 at once.
        sat: u64,
    },
    /// Make blocks now.
    Mine {
        /// How many, 10,000 at most at once.
        blocks: u32,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("cannot start: {e}")),
    };
    let result = match &options.command {
        None => runtime.block_on(serve(options)),
        Some(command) => runtime.block_on(ask(&options, command)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

async fn serve(options: Options) -> Result<(), String> {
    eprintln!("{BANNER}");
    // A node's configuration may stand in another folder than the one that this was started in.
    let folder = std::path::absolute(&options.folder)
        .map_err(|e| format!("{}: {e}; name another --folder", options.folder.display()))?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let config = ServerConfig {
        listen: options.listen,
        folder: folder.clone(),
        keep: !options.forget,
        block_time: (options.block_time > 0).then(|| Duration::from_secs(options.block_time)),
    };
    let server = PlayServer::bind(config).await.map_err(|e| e.to_string())?;
    let text = advice(server.address(), &folder, &server.cookie());
    // In one piece; whoever reads only the first lines may close the pipe.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let stop = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    server.run(stop).await.map_err(|e| e.to_string())
}

/// What a node's owner needs to know about this chain.
fn advice(address: SocketAddr, folder: &Path, cookie: &Path) -> String {
    let (url, folder, cookie) = (url(address), folder.display(), cookie.display());
    let command = format!("turnpike-playchain --listen {address} --folder {folder}");
    format!(
        "url {url}
cookie {cookie}

The section for the turnpike.toml of every node that reaches this chain there:

[chain]
backend = \"play\"
url = \"{url}\"
cookie = \"{cookie}\"

Coins: {command} faucet ADDRESS SAT     (turnpike wallet address shows a node's address)
Blocks: {command} mine N
"
    )
}

async fn ask(options: &Options, command: &Command) -> Result<(), String> {
    let cookie = options.folder.join(".cookie");
    let chain =
        Bitcoind::new(&url(options.listen), Auth::Cookie(cookie), PATIENCE).map_err(|e| e.to_string())?;
    let answer = match command {
        Command::Faucet { address, sat } => chain.call("faucet", json!([address, sat])).await,
        Command::Mine { blocks } => chain.call("mine", json!([blocks])).await,
    };
    let answer = answer.map_err(refused)?;
    let text = match command {
        Command::Faucet { sat, .. } => {
            let txid = answer["txid"].as_str().unwrap_or_default();
            format!("{sat} sat on their way, in the next block: {txid}\n")
        }
        Command::Mine { .. } => format!("height {}\n", Value::to_string(&answer)),
    };
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn refused(error: BackendError) -> String {
    match error.fault {
        Fault::Refused { message, .. } => message,
        Fault::Unreachable(_) | Fault::Cookie { .. } | Fault::Unauthorised => format!(
            "no play chain of this folder answers at {}: start `turnpike-playchain`, or give the same --listen and --folder as to the one that runs",
            error.url
        ),
        _ => error.to_string(),
    }
}

/// The RPC's address as seen from this machine.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

fn fail(message: &str) -> ExitCode {
    eprintln!("turnpike-playchain: {message}");
    ExitCode::FAILURE
}
