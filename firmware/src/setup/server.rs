//! The server: a few connections at once, one request each, for a limited time.

use super::page::{Facts, Said, farewell, notice, page};
use super::request::{Request, read};
use crate::card::{Places, Problems};
use crate::settings::{self, Interfaces};
use crate::update;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections at once, and of one address.
const MAX_CONNECTIONS: usize = 16;
const MAX_PER_ADDRESS: usize = 4;
/// Until a reader has taken a page.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at whether somebody calls.
const TICK: Duration = Duration::from_millis(100);
/// Longest answer is waited for after the wish to start again.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The address is taken, or not this machine's.
    #[error("{address}: {error}: end the program that has it, or name another address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: {0}: restart it")]
    Random(getrandom::Error),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Somebody wants the node to start again.
    Asked,
    /// The time is over.
    Late,
}

/// A listening server.
#[derive(Debug)]
pub struct Setup {
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Places,
    interfaces: Interfaces,
    hostname: String,
    /// In every form: pages elsewhere do not know it.
    token: String,
    end: Instant,
    restart: AtomicBool,
    connections: Mutex<HashMap<IpAddr, usize>>,
    /// One form at a time.
    storing: Mutex<()>,
}

impl Setup {
    /// Listens, for `time` from now on.
    pub fn bind(
        places: Places,
        interfaces: Interfaces,
        hostname: String,
        listen: SocketAddr,
        time: Duration,
    ) -> Result<Setup, SetupError> {
        let bind = || {
            let listener = TcpListener::bind(listen)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = bind().map_err(|error| SetupError::Listen {
            address: listen,
            error,
        })?;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(SetupError::Random)?;
        Ok(Setup {
            listener,
            shared: Arc::new(Shared {
                places,
                interfaces,
                hostname,
                token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
                end: Instant::now() + time,
                restart: AtomicBool::new(false),
                connections: Mutex::default(),
                storing: Mutex::default(),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until somebody says that it is enough, or the time is over.
    pub fn run(self) -> Ended {
        loop {
            if self.shared.restart.load(Ordering::Relaxed) {
                // Its answer is on the way.
                std::thread::sleep(FAREWELL);
                return Ended::Asked;
            }
            if Instant::now() >= self.shared.end {
                return Ended::Late;
            }
            match self.listener.accept() {
                Ok((stream, from)) => admit(&self.shared, stream, from.ip()),
                // Nobody calls, or there is no room for one more.
                Err(_) => std::thread::sleep(TICK),
            }
        }
    }
}

/// Starts a thread for the connection; who comes too often is cut off.
fn admit(shared: &Arc<Shared>, mut stream: TcpStream, from: IpAddr) {
    {
        let mut connections = lock(&shared.connections);
        let all: usize = connections.values().sum();
        let own = connections.get(&from).copied().unwrap_or(0);
        if all >= MAX_CONNECTIONS || own >= MAX_PER_ADDRESS {
            return;
        }
        connections.insert(from, own + 1);
    }
    let ended = End {
        shared: shared.clone(),
        from,
    };
    // Dropped with the closure if the thread cannot be started.
    let work = move || {
        // A reader that goes away is no matter.
        drop(answer(&ended.shared, &mut stream));
    };
    drop(std::thread::Builder::new().name("setup".to_owned()).spawn(work));
}

/// Counts a connection off when it ends, however it ends.
struct End {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut connections = lock(&self.shared.connections);
        if let Some(own) = connections.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.from);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let (status, text) = match read(stream, &shared.hostname)? {
        Ok(request) => respond(shared, &request),
        Err(status) => (
            status,
            notice(&shared.hostname, status.lines().next().unwrap_or_default()),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: same-origin\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}

fn respond(shared: &Shared, request: &Request) -> (&'static str, String) {
    let (host, path) = (&shared.hostname, request.path.as_str());
    match (request.post, path) {
        (false, "/") => ("200 OK", page(&facts(shared, None), &Said::Nothing)),
        (true, "/settings" | "/restart") if !is_token(shared, request) => (
            "403 Forbidden",
            notice(host, "This form is too old: open the page again."),
        ),
        (true, "/settings") => store(shared, request.field("text").unwrap_or_default()),
        (true, "/restart") => {
            shared.restart.store(true, Ordering::Relaxed);
            ("200 OK", farewell(host))
        }
        (false, "/settings" | "/restart") => (
            "303 See Other\r\nLocation: /",
            notice(host, "The page has another address."),
        ),
        _ => ("404 Not Found", notice(host, "There is no such page.")),
    }
}

fn is_token(shared: &Shared, request: &Request) -> bool {
    let said = request.field("token").unwrap_or_default();
    // As long for a token that is nearly right as for any other.
    let differ = said
        .bytes()
        .zip(shared.token.bytes())
        .fold(0, |all, (a, b)| all | (a ^ b));
    said.len() == shared.token.len() && differ == 0
}

fn store(shared: &Shared, text: &str) -> (&'static str, String) {
    let _one = lock(&shared.storing);
    let lines = |findings: &[settings::Finding]| findings.iter().map(ToString::to_string).collect();
    match settings::accept(&shared.places, text, &shared.interfaces) {
        Ok(Ok(odd)) => ("200 OK", page(&facts(shared, None), &Said::Stored(lines(&odd)))),
        Ok(Err(why)) => (
            "422 Unprocessable Content",
            page(&facts(shared, Some(text)), &Said::Refused(lines(&why))),
        ),
        Err(error) => {
            let why = format!("the open partition cannot be written: {error}: the card may be worn out");
            (
                "500 Internal Server Error",
                page(&facts(shared, Some(text)), &Said::Refused(vec![why])),
            )
        }
    }
}

fn facts(shared: &Shared, typed: Option<&str>) -> Facts {
    let places = &shared.places;
    let report = std::fs::read_to_string(places.run.join("REPORT.txt"));
    let update = update::Status::read(places);
    let left = shared.end.saturating_duration_since(Instant::now());
    Facts {
        hostname: shared.hostname.clone(),
        problems: Problems::of(places).list(),
        report: report.unwrap_or_else(|error| format!("REPORT.txt: {error}")),
        update: update.map_or_else(|error| error.to_string(), |status| status.to_text()),
        settings: typed.map_or_else(|| settings::for_editing(places), str::to_owned),
        minutes: left.as_secs().div_ceil(60),
        token: shared.token.clone(),
    }
}
