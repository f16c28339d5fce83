//! A web server for update bundles that counts what it gives, and can be slow.

use super::Wires;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PIECE: usize = 64 * 1_024;
const MAX_REQUEST: usize = 8_192;

/// Serves the files of a folder by name, with byte ranges, on 127.0.0.1; the machine reaches it at [`Wires::WORLD`].
pub struct Depot {
    port: u16,
    state: Arc<State>,
}

struct State {
    folder: PathBuf,
    served: AtomicU64,
    /// Bytes in a second; 0: as fast as it goes.
    rate: AtomicU64,
}

impl Depot {
    /// Serves until the process ends.
    pub fn open(folder: &Path) -> Depot {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State {
            folder: folder.to_owned(),
            served: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A reader that goes away ends its own connection only.
                std::thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        Depot { port, state }
    }

    /// Where the machine finds this file.
    pub fn address(&self, file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        format!("http://{}:{}/{name}", Wires::WORLD, self.port)
    }

    /// At most so many bytes in a second to each reader from now on; 0: as fast as it goes.
    pub fn slow(&self, rate: u64) {
        self.state.rate.store(rate, Ordering::SeqCst);
    }

    /// Bytes of files that went out so far.
    pub fn served(&self) -> u64 {
        self.state.served.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1_024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = stream.read(&mut piece)?;
        if length == 0 || request.len() > MAX_REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let name = text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let path = state.folder.join(name);
    let Ok(size) = fs::metadata(&path).map(|facts| facts.len()) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let range = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("range").then_some(value)?;
        let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        let end = to.parse::<u64>().map_or(size, |to| (to + 1).min(size));
        Some((from.parse::<u64>().ok()?.min(end), end))
    });
    let (from, end) = range.unwrap_or((0, size));
    let status = match range {
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}",
            end.max(1) - 1
        ),
        None => "200 OK".to_owned(),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        end - from
    );
    stream.write_all(head.as_bytes())?;
    if text.starts_with("HEAD") {
        return Ok(());
    }
    let mut file = File::open(&path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut left = end - from;
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let now = left.min(PIECE as u64) as usize;
        file.read_exact(&mut piece[..now])?;
        stream.write_all(&piece[..now])?;
        state.served.fetch_add(now as u64, Ordering::SeqCst);
        left -= now as u64;
        let rate = state.rate.load(Ordering::SeqCst);
        if let Some(pause) = (now as u64 * 1_000).checked_div(rate) {
            std::thread::sleep(Duration::from_millis(pause));
        }
    }
    Ok(())
}
