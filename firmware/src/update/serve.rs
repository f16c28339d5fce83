//! The running slot as a bundle, over HTTP/1.1, for nodes near by.
//!
//! GET and HEAD of `/update.tpu` or of the bundle's own name, with byte ranges, one request per connection. It gives the
//! files, manifest and signatures that came in an update; who takes them judges them by keys of its own.

use super::apply::place;
use super::bundle::is_signature;
use super::checks::Standing;
use super::{Layout, MAX_MANIFEST, MAX_SIGNATURE, Manifest, NotNow, UpdateError};
use crate::card::{MANIFEST, Places, SlotFiles};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections at once, and of one address: what a Zero 2 W serves beside its own work.
const MAX_CONNECTIONS: usize = 8;
const MAX_PER_ADDRESS: usize = 2;
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
const MAX_LINES: usize = 64;
/// Until the whole head is there.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Until a reader takes anything.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// Until a reader has taken everything, per MiB: as long as this firmware waits for it.
const MIB_PATIENCE: Duration = Duration::from_secs(240);
/// Bytes that are read and sent at once.
const PIECE: usize = 64 * 1024;
/// After a failed accept, such as one for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening server.
#[derive(Debug)]
pub struct Serve {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    version: u64,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

impl Serve {
    /// Listens. The running slot has to be committed, and to have come as an update: a flashed one has no signatures.
    pub fn bind(places: &Places, listen: SocketAddr) -> Result<Serve, UpdateError> {
        let (standing, line) = Standing::read(places)?;
        if let Some(slot) = line.on_trial() {
            return Err(NotNow::OnTrial { slot }.into());
        }
        let slot = standing.running;
        let files = SlotFiles::of(places, slot);
        let path = files.path(MANIFEST);
        let text = read(&path, MAX_MANIFEST).map_err(UpdateError::card(&path))?;
        let folder = places.slot(slot);
        let signatures = signatures(&folder).map_err(UpdateError::card(&folder))?;
        if signatures.is_empty() {
            return Err(NotNow::Unsigned.into());
        }
        let manifest = Manifest::parse(&text)?;
        let [kernel, initrd, root] = manifest.files.each_ref().map(|file| place(places, slot, file));
        let layout =
            Layout::new(&text, &signatures, [&kernel, &initrd, &root]).map_err(UpdateError::card(&folder))?;
        let bind = || {
            let listener = TcpListener::bind(listen)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bind().map_err(|error: io::Error| NotNow::Listen {
            address: listen,
            reason: error.to_string(),
        })?;
        Ok(Serve {
            listener,
            address,
            shared: Arc::new(Shared {
                layout,
                version: manifest.facts.version,
                connections: Mutex::default(),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The version that it gives.
    pub fn version(&self) -> u64 {
        self.shared.version
    }

    /// Serves until it cannot listen any more; gives the reason.
    pub fn run(self) -> io::Error {
        let mut failures = 0;
        loop {
            match self.listener.accept() {
                Ok((stream, from)) => {
                    failures = 0;
                    let shared = self.shared.clone();
                    admit(shared, stream, from.ip());
                }
                // A hundred in a row are ten seconds.
                Err(error) if failures == 100 => return error,
                Err(_) => {
                    failures += 1;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
}

/// Starts a thread for the connection, or says that there are too many.
fn admit(shared: Arc<Shared>, mut stream: TcpStream, from: IpAddr) {
    let room = {
        let mut connections = lock(&shared);
        let all: usize = connections.values().sum();
        let own = connections.entry(from).or_default();
        let room = all < MAX_CONNECTIONS && *own < MAX_PER_ADDRESS;
        *own += usize::from(room);
        if *own == 0 {
            connections.remove(&from);
        }
        room
    };
    if !room {
        // Into the socket's empty buffer: this does not wait.
        drop(stream.set_nonblocking(true));
        drop(stream.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ));
        return;
    }
    let ended = End { shared, from };
    // Dropped with the closure if the thread cannot be started.
    let work = move || {
        // A reader that goes away is no matter.
        drop(answer(&ended.shared, &mut stream));
    };
    drop(
        std::thread::Builder::new()
            .name("update-serve".to_owned())
            .spawn(work),
    );
}

/// Counts a connection off when it ends, however it ends.
struct End {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut connections = lock(&self.shared);
        if let Some(own) = connections.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.from);
            }
        }
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Request {
    head_only: bool,
    range: Option<String>,
}

fn answer(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let length = shared.layout.length();
    let request = match read_request(shared, stream)? {
        Ok(request) => request,
        Err(status) => {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return stream.write_all(head.as_bytes());
        }
    };
    let asked = request.range.as_deref().and_then(|text| byte_range(text, length));
    let (status, range) = match asked {
        None => ("200 OK".to_owned(), 0..length),
        Some(Some(range)) => {
            let line = format!(
                "206 Partial Content\r\nContent-Range: bytes {}-{}/{length}",
                range.start,
                range.end - 1
            );
            (line, range)
        }
        Some(None) => (
            format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{length}"),
            0..0,
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n\
         ETag: \"{}\"\r\nConnection: close\r\n\r\n",
        range.end - range.start,
        shared.version
    );
    stream.write_all(head.as_bytes())?;
    if request.head_only {
        return Ok(());
    }
    send(shared, stream, range)
}

fn send(shared: &Shared, stream: &mut TcpStream, range: Range<u64>) -> io::Result<()> {
    let mib = u32::try_from((range.end - range.start) >> 20).unwrap_or(u32::MAX);
    let deadline = Instant::now() + WRITE_PATIENCE + MIB_PATIENCE * mib.min(2_048);
    let mut piece = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end && Instant::now() < deadline {
        let count = (range.end - at).min(PIECE as u64) as usize;
        let part = piece.get_mut(..count).unwrap_or_default();
        shared.layout.fill(at, part)?;
        stream.write_all(part)?;
        at += count as u64;
    }
    Ok(())
}

/// The request, or the status line that it deserves.
fn read_request(shared: &Shared, stream: &mut TcpStream) -> io::Result<Result<Request, &'static str>> {
    let deadline = Instant::now() + HEAD_PATIENCE;
    let mut head = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() >= MAX_HEAD {
            return Ok(Err("400 Bad Request"));
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 1_024];
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let mut parsed = httparse::Request::new(&mut lines);
        match parsed.parse(&head) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => return Ok(understand(shared, &parsed)),
            Err(_) => return Ok(Err("400 Bad Request")),
        }
    }
}

fn understand(shared: &Shared, parsed: &httparse::Request<'_, '_>) -> Result<Request, &'static str> {
    let head_only = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err("405 Method Not Allowed\r\nAllow: GET, HEAD"),
    };
    let own = format!("/turnpike-arm64-{}.tpu", shared.version);
    if !parsed
        .path
        .is_some_and(|path| path == "/update.tpu" || path == own)
    {
        return Err("404 Not Found");
    }
    let value = |name: &str| {
        let mut lines = parsed.headers.iter();
        let line = lines.find(|line| line.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(line.value).ok()
    };
    // Only where it continues what this server gave.
    let same = value("If-Range").is_none_or(|tag| tag == format!("\"{}\"", shared.version));
    Ok(Request {
        head_only,
        range: value("Range").filter(|_| same).map(str::to_owned),
    })
}

/// One range of bytes; `None` for what is no such range, and is passed over; `Some(None)` for one that holds nothing.
fn byte_range(text: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let range = match (first, last) {
        ("", last) => length.saturating_sub(number(last)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some((range.start < range.end).then_some(range))
}

fn signatures(folder: &Path) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_signature) {
            let text = read(&entry.path(), MAX_SIGNATURE)?;
            texts.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(texts)
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(byte_range("bytes=0-", 10), Some(Some(0..10)));
        assert_eq!(byte_range("bytes=9-", 10), Some(Some(9..10)));
        assert_eq!(byte_range("bytes=2-4", 10), Some(Some(2..5)));
        assert_eq!(byte_range("bytes=2-400", 10), Some(Some(2..10)));
        assert_eq!(byte_range("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(byte_range("bytes=-30", 10), Some(Some(0..10)));
        for nothing in ["bytes=10-", "bytes=11-12", "bytes=-0"] {
            assert_eq!(byte_range(nothing, 10), Some(None), "{nothing}");
        }
        let large = format!("bytes=0-{}", u64::MAX);
        assert_eq!(byte_range(&large, 10), Some(Some(0..10)));
        for none in [
            "",
            "bytes=",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-",
            "bytes=+1-",
            "bytes=--",
        ] {
            assert_eq!(byte_range(none, 10), None, "{none}");
        }
    }
}
