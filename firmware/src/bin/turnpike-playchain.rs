//! `turnpike-playchain`: the play-money chain as a process.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use turnpike_firmware::playchain::{PlayServer, ServerConfig};

const BANNER: &str = "\
PLAY MONEY. The coins of this chain are worthless: anybody can make them, and nobody will take them.
It is for demos and tests; for money, use a bitcoind.";

/// A play-money chain that answers like a bitcoind. Its coins are worthless.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Address and port to serve JSON-RPC on.
    #[arg(long, default_value = "127.0.0.1:18555")]
    listen: SocketAddr,
    /// Folder for the cookie file and the chain; it is made if missing.
    #[arg(long, default_value = "playchain")]
    folder: PathBuf,
    /// Seconds between blocks; 0 makes blocks only when asked to (generatetoaddress).
    #[arg(long, default_value_t = 10)]
    block_time: u64,
    /// Forget the chain at the end.
    #[arg(long)]
    forget: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    eprintln!("{BANNER}");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("cannot start: {e}")),
    };
    match runtime.block_on(run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

async fn run(options: Options) -> Result<(), String> {
    std::fs::create_dir_all(&options.folder)
        .map_err(|e| format!("cannot make {}: {e}", options.folder.display()))?;
    let config = ServerConfig {
        listen: options.listen,
        folder: options.folder,
        keep: !options.forget,
        block_time: (options.block_time > 0).then(|| Duration::from_secs(options.block_time)),
    };
    let server = PlayServer::bind(config).await.map_err(|e| e.to_string())?;
    println!("url http://{}", server.address());
    println!("cookie {}", server.cookie().display());
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let stop = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    server.run(stop).await.map_err(|e| e.to_string())
}

fn fail(message: &str) -> ExitCode {
    eprintln!("turnpike-playchain: {message}");
    ExitCode::FAILURE
}
