//! A bundle on an HTTP server, ours or any other.
//!
//! The server is not trusted: it decides nothing but when the bundle is complete. Every wait has an end, and a broken
//! connection is taken up where it broke.

use super::{CHUNK, Source, SourceError};
use std::io::{self, Read};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, BodyReader};

/// A name, a connection, the head of an answer, the next bytes: each within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A chunk has this long on top of [`PATIENCE`]: about 4 kB/s, what a bad radio link still gives.
const CHUNK_PATIENCE: Duration = Duration::from_secs(240);
/// Connections for one reading.
const ATTEMPTS: u32 = 5;
/// Connections for one bundle: a link that breaks every MiB still brings the largest one.
const MAX_CONNECTIONS: u32 = 2_000;
/// Between one attempt and the next; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// Redirections of one request.
const MAX_REDIRECTS: u32 = 5;
/// Longest head of an answer, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that are rather read and thrown away than asked for again.
const SKIP: u64 = 256 * 1024;
/// 2026-01-01: an earlier clock was never set, and every certificate seems to be of the future.
const CLOCK_IS_SET: Duration = Duration::from_secs(1_767_225_600);

/// A bundle by HTTP or HTTPS.
pub struct HttpSource {
    agent: Agent,
    url: String,
    length: Option<u64>,
    open: Option<Open>,
    connections: u32,
}

/// A body that is being read.
struct Open {
    body: BodyReader<'static>,
    /// Offset in the bundle of its next byte.
    at: u64,
}

/// Why one attempt brought nothing.
enum Fault {
    /// Another attempt may help.
    Broken(String),
    /// It will not.
    Final(SourceError),
}

impl HttpSource {
    /// Asks for the bundle once, to know its length.
    ///
    /// # Errors
    /// The server cannot be reached, does not have it, or answers nonsense.
    pub fn open(url: &str) -> Result<HttpSource, SourceError> {
        HttpSource::open_within(url, PATIENCE)
    }

    fn open_within(url: &str, patience: Duration) -> Result<HttpSource, SourceError> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .max_response_header_size(MAX_HEAD)
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_send_request(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .accept_encoding("identity")
            .user_agent(concat!("turnpike/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut source = HttpSource {
            agent,
            url: url.to_owned(),
            length: None,
            open: None,
            connections: 0,
        };
        source.attempt(0, |_| Ok(()))?;
        Ok(source)
    }

    /// Tries `work` on a body that is at `offset`, with a new connection where the old one broke.
    fn attempt(
        &mut self,
        offset: u64,
        mut work: impl FnMut(&mut Open) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut pause = PAUSE;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(pause);
                pause *= 2;
            }
            let result = self
                .reach(offset)
                .and_then(|open| work(open).map_err(|error| Fault::Broken(error.to_string())));
            match result {
                Ok(()) => return Ok(()),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Broken(reason)) => {
                    self.open = None;
                    last = reason;
                }
            }
        }
        Err(self.failed(format!("{last} ({ATTEMPTS} attempts)")))
    }

    /// The body that is being read, if it is at `offset` or a little before; else a new one.
    fn reach(&mut self, offset: u64) -> Result<&mut Open, Fault> {
        let near = self
            .open
            .as_ref()
            .is_some_and(|open| (open.at..=open.at + SKIP).contains(&offset));
        let mut open = match self.open.take().filter(|_| near) {
            Some(open) => open,
            None => self.connect(offset)?,
        };
        let skip = offset.saturating_sub(open.at);
        if skip > 0 {
            let deadline = Instant::now() + patience(skip);
            skip_bytes(&mut open, skip, deadline).map_err(|error| Fault::Broken(error.to_string()))?;
        }
        Ok(self.open.insert(open))
    }

    fn connect(&mut self, offset: u64) -> Result<Open, Fault> {
        self.connections += 1;
        if self.connections > MAX_CONNECTIONS {
            return Err(Fault::Final(self.dishonest("again and again only a few bytes")));
        }
        let request = self
            .agent
            .get(&self.url)
            .header(header::RANGE, format!("bytes={offset}-"));
        let answer = request.call().map_err(|error| self.call_fault(&error))?;
        let (at, length) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(&answer);
                let (start, length) = range.ok_or_else(|| self.wrong("a range without saying which"))?;
                if start != offset {
                    return Err(self.wrong("another range than the one that was asked for"));
                }
                (start, Some(length))
            }
            // No ranges: everything from the beginning.
            StatusCode::OK => (0, answer.body().content_length()),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Fault::Final(SourceError::Ended {
                    source_name: self.url.clone(),
                    length: self.length.unwrap_or(offset).min(offset),
                }));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Fault::Broken(format!("the server says {status}")));
            }
            status => return Err(Fault::Final(self.failed(format!("the server says {status}")))),
        };
        match (self.length, length) {
            (Some(before), Some(now)) if before != now => {
                return Err(self.wrong("another length than before"));
            }
            (None, length) => self.length = length,
            _ => {}
        }
        Ok(Open {
            body: answer.into_body().into_reader(),
            at,
        })
    }

    fn call_fault(&self, error: &ureq::Error) -> Fault {
        match error {
            ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => {
                Fault::Broken(self.with_clock(error))
            }
            // A name may be unknown only for now, as a network comes up.
            ureq::Error::HostNotFound => Fault::Broken(error.to_string()),
            _ => Fault::Final(self.failed(self.with_clock(error))),
        }
    }

    fn with_clock(&self, error: &ureq::Error) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unset = now.is_ok_and(|now| now < CLOCK_IS_SET);
        match unset && self.url.starts_with("https:") {
            true => {
                format!("{error} (this node's clock is not set, so no certificate counts: use http, or wait)")
            }
            false => error.to_string(),
        }
    }

    fn wrong(&self, reason: &str) -> Fault {
        Fault::Final(self.dishonest(reason))
    }

    fn dishonest(&self, reason: &str) -> SourceError {
        SourceError::Dishonest {
            source_name: self.url.clone(),
            reason: reason.to_owned(),
        }
    }

    fn failed(&self, reason: String) -> SourceError {
        SourceError::Failed {
            source_name: self.url.clone(),
            reason,
        }
    }
}

impl Source for HttpSource {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let end = offset.checked_add(out.len() as u64);
        if let Some(length) = self.length.filter(|length| end.is_none_or(|end| end > *length)) {
            return Err(SourceError::Ended {
                source_name: self.url.clone(),
                length,
            });
        }
        let deadline = Instant::now() + patience(out.len() as u64);
        let mut filled = 0;
        while filled < out.len() {
            let at = offset + filled as u64;
            let mut count = 0;
            let rest = out.get_mut(filled..).unwrap_or_default();
            self.attempt(at, |open| {
                count = read_some(open, rest, deadline)?;
                Ok(())
            })?;
            filled += count;
        }
        Ok(())
    }
}

fn patience(bytes: u64) -> Duration {
    let chunks = bytes.div_ceil(CHUNK).max(1);
    PATIENCE + CHUNK_PATIENCE * u32::try_from(chunks).unwrap_or(u32::MAX).min(1_024)
}

/// Some bytes: an end before them is an error.
fn read_some(open: &mut Open, out: &mut [u8], deadline: Instant) -> io::Result<usize> {
    if Instant::now() > deadline {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the source is too slow"));
    }
    match open.body.read(out)? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection ended early",
        )),
        count => {
            open.at += count as u64;
            Ok(count)
        }
    }
}

fn skip_bytes(open: &mut Open, bytes: u64, deadline: Instant) -> io::Result<()> {
    let mut left = bytes;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        left -= read_some(open, buffer.get_mut(..most).unwrap_or_default(), deadline)? as u64;
    }
    Ok(())
}

/// First byte and whole length of `Content-Range: bytes FIRST-LAST/LENGTH`.
fn content_range(answer: &Response<Body>) -> Option<(u64, u64)> {
    let text = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, length.parse().ok()?);
    (first <= last && last < length).then_some((first, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Serves every connection by `answer`, for as long as the test lives.
    fn server(answer: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x.tpu", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap());
            }
        });
        url
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let url = server(|_| std::thread::sleep(Duration::from_millis(400)));
        let began = Instant::now();
        let Err(error) = HttpSource::open_within(&url, Duration::from_millis(100)) else {
            panic!("it answered");
        };
        assert!(error.to_string().contains("5 attempts"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn a_server_that_stops_in_the_middle_is_asked_again_a_few_times() {
        let url = server(|stream| {
            let mut head = [0; 1_000];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
            std::thread::sleep(Duration::from_millis(300));
        });
        let mut source = HttpSource::open_within(&url, Duration::from_millis(100)).unwrap();
        assert_eq!(source.length(), Some(100));
        let mut out = [0; 10];
        source.read_at(0, &mut out).unwrap();
        assert_eq!(&out, b"0123456789");
        let mut out = [0; 20];
        assert!(source.read_at(0, &mut out).is_err());
        assert!(matches!(
            source.read_at(90, &mut [0; 11]),
            Err(SourceError::Ended { length: 100, .. })
        ));
    }

    #[test]
    fn only_ranges_that_make_sense_are_read() {
        let of = |text: &str| {
            let answer = Response::builder().header("content-range", text);
            content_range(&answer.body(Body::builder().data("")).unwrap())
        };
        assert_eq!(of("bytes 5-9/10"), Some((5, 10)));
        for text in [
            "",
            "bytes 5-9/*",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes */10",
            "bytes 5-9",
            "5-9/10",
            "bytes a-b/c",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
