//! A request, as far as it is believed.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Longest head of a request, bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
const MAX_LINES: usize = 64;
/// Longest body, bytes: a file of 64 KiB of which every byte is written as three, and the token.
const MAX_BODY: usize = 3 * 64 * 1024 + 1_024;
/// Until the whole request is there.
const PATIENCE: Duration = Duration::from_secs(15);

/// What somebody asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub post: bool,
    pub path: String,
    /// Fields of a form, in its order.
    pub form: Vec<(String, String)>,
}

impl Request {
    /// A field of the form.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.form.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is read from: a socket, whose patience can be set.
pub(super) trait Input: Read {
    /// The next read ends after this.
    fn patience(&self, left: Duration) -> io::Result<()>;
}

impl Input for std::net::TcpStream {
    fn patience(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left))
    }
}

/// Reads one request. `Ok(Err(_))` is the status line that it deserves.
pub(super) fn read(input: &mut impl Input, hostname: &str) -> io::Result<Result<Request, &'static str>> {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let (mut request, start, length) = loop {
        {
            let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
            let mut parsed = httparse::Request::new(&mut lines);
            match parsed.parse(&bytes) {
                Ok(httparse::Status::Complete(start)) => match understand(&parsed, hostname) {
                    Ok((request, length)) => break (request, start, length),
                    Err(status) => return Ok(Err(status)),
                },
                Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => {}
                Ok(httparse::Status::Partial) => return Ok(Err("431 Request Header Fields Too Large")),
                Err(_) => return Ok(Err("400 Bad Request")),
            }
        }
        let room = MAX_HEAD - bytes.len();
        if !more(input, &mut bytes, room, deadline)? {
            return Ok(Err("408 Request Timeout"));
        }
    };
    let mut body = bytes.split_off(start);
    while body.len() < length {
        let room = length - body.len();
        if !more(input, &mut body, room, deadline)? {
            return Ok(Err("408 Request Timeout"));
        }
    }
    body.truncate(length);
    if request.post {
        match form(&body) {
            Some(form) => request.form = form,
            None => return Ok(Err("400 Bad Request")),
        }
    }
    Ok(Ok(request))
}

/// Reads something, `room` bytes at most; false once the time is over.
fn more(input: &mut impl Input, bytes: &mut Vec<u8>, room: usize, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    input.patience(left)?;
    let mut piece = [0; 4_096];
    let room = room.min(piece.len());
    let count = input.read(piece.get_mut(..room).unwrap_or_default())?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    Ok(true)
}

/// What the head says, and the length of the body.
fn understand(parsed: &httparse::Request<'_, '_>, hostname: &str) -> Result<(Request, usize), &'static str> {
    let mut host = None;
    let mut origin = None;
    let mut length = None;
    let mut kind = None;
    for line in parsed.headers.iter() {
        let place = match line.name.to_ascii_lowercase().as_str() {
            "host" => &mut host,
            "origin" => &mut origin,
            "content-length" => &mut length,
            "content-type" => &mut kind,
            // Two programs that disagree about where a body ends are how requests are smuggled.
            "transfer-encoding" => return Err("411 Length Required"),
            _ => continue,
        };
        let text = std::str::from_utf8(line.value).map_err(|_| "400 Bad Request")?;
        if place.replace(text.trim()).is_some() {
            return Err("400 Bad Request");
        }
    }
    let host = host.ok_or("400 Bad Request")?;
    // A page elsewhere whose name was made to lead here (DNS rebinding) is not served.
    if !is_own(host, hostname) {
        return Err("421 Misdirected Request");
    }
    let post = match parsed.method {
        Some("GET") => false,
        Some("POST") => true,
        _ => return Err("405 Method Not Allowed\r\nAllow: GET, POST"),
    };
    let length = match (post, length) {
        (false, None | Some("0")) => 0,
        (false, Some(_)) => return Err("400 Bad Request"),
        (true, None) => return Err("411 Length Required"),
        (true, Some(length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map_err(|_| "413 Content Too Large")?
        }
        (true, Some(_)) => return Err("400 Bad Request"),
    };
    if length > MAX_BODY {
        return Err("413 Content Too Large");
    }
    if post {
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            return Err("415 Unsupported Media Type");
        }
        // Browsers name it with every POST; the form's token holds for what does not.
        if origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host)) {
            return Err("403 Forbidden");
        }
    }
    let path = parsed.path.unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let request = Request {
        post,
        path: path.to_owned(),
        form: Vec::new(),
    };
    Ok((request, length))
}

/// An address, or a name that belongs to this node.
fn is_own(host: &str, hostname: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            return match rest.split_once(']') {
                Some((address, port)) => {
                    address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
                }
                None => false,
            };
        }
        None => match host.find(':') {
            Some(at) if is_port(host.get(at..).unwrap_or_default()) => host.get(..at).unwrap_or_default(),
            Some(_) => return false,
            None => host,
        },
    };
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".local").unwrap_or(&name);
    name == "turnpike" || (!hostname.is_empty() && name == hostname.to_ascii_lowercase())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| {
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Fields of `application/x-www-form-urlencoded`; `None` if it is none, or not UTF-8.
fn form(body: &[u8]) -> Option<Vec<(String, String)>> {
    let body = std::str::from_utf8(body).ok()?;
    let pairs = body.split('&').filter(|pair| !pair.is_empty()).take(16);
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((plain(name)?, plain(value)?))
        })
        .collect()
}

fn plain(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes<'b>(&'b [u8]);

    impl Read for Bytes<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            // In small pieces, as from a slow link.
            let end = out.len().min(7);
            self.0.read(&mut out[..end])
        }
    }

    impl Input for Bytes<'_> {
        fn patience(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(text: &str) -> Result<Request, &'static str> {
        read(&mut Bytes(text.as_bytes()), "pole-7").unwrap()
    }

    fn post(head: &str, body: &str) -> String {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        format!(
            "POST /x HTTP/1.1\r\n{kind}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn only_addresses_and_own_names_are_answered() {
        for host in [
            "10.73.0.1",
            "10.73.0.1:80",
            "[fe80::1]",
            "[::1]:8080",
            "turnpike.local",
            "Turnpike",
            "pole-7",
            "POLE-7.local:80",
        ] {
            let request = asked(&format!("GET /?a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(request.unwrap().path, "/", "{host}");
        }
        for host in [
            "evil.example",
            "10.73.0.1.evil.example",
            "10.73.0.1@evil",
            "turnpike.local.evil.example",
            "[::1",
            "[::1]x",
            "turnpike:",
            "turnpike:99999999",
            "",
            "local",
            ".local",
        ] {
            let request = asked(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(request, Err("421 Misdirected Request"), "{host}");
        }
        assert_eq!(asked("GET / HTTP/1.1\r\n\r\n"), Err("400 Bad Request"));
        let two = "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nHost: 10.0.0.2\r\n\r\n";
        assert_eq!(asked(two), Err("400 Bad Request"));
    }

    #[test]
    fn a_form_of_another_page_is_not_taken() {
        let own = "Host: 10.73.0.1\r\nOrigin: http://10.73.0.1";
        assert_eq!(asked(&post(own, "a=b")).unwrap().field("a"), Some("b"));
        for origin in [
            "http://evil.example",
            "https://10.73.0.1",
            "null",
            "http://10.73.0.1:81",
            "",
        ] {
            let head = format!("Host: 10.73.0.1\r\nOrigin: {origin}");
            assert_eq!(asked(&post(&head, "a=b")), Err("403 Forbidden"), "{origin}");
        }
    }

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let body = "token=1&text=%5Bnode%5D%0D%0Aname+%3D+%22%C3%A9%22&empty=&alone";
        let request = asked(&post("Host: 10.73.0.1", body)).unwrap();
        assert_eq!(request.field("text"), Some("[node]\r\nname = \"é\""));
        assert_eq!(
            (request.field("empty"), request.field("alone")),
            (Some(""), Some(""))
        );
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=%c3"] {
            assert_eq!(
                asked(&post("Host: 10.73.0.1", wrong)),
                Err("400 Bad Request"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn everything_is_bounded() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", "a".repeat(9_000));
        assert_eq!(asked(&long), Err("431 Request Header Fields Too Large"));
        let many = format!(
            "GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n{}\r\n",
            "A: b\r\n".repeat(70)
        );
        assert_eq!(asked(&many), Err("400 Bad Request"));
        let head = "POST / HTTP/1.1\r\nHost: 10.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        for (lines, status) in [
            ("Content-Length: 200000\r\n", "413 Content Too Large"),
            (
                "Content-Length: 99999999999999999999999\r\n",
                "413 Content Too Large",
            ),
            ("Content-Length: -1\r\n", "400 Bad Request"),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", "400 Bad Request"),
            ("Transfer-Encoding: chunked\r\n", "411 Length Required"),
            ("", "411 Length Required"),
        ] {
            assert_eq!(asked(&format!("{head}{lines}\r\n")), Err(status), "{lines}");
        }
        assert_eq!(asked("\u{0}\u{1}\r\n\r\n"), Err("400 Bad Request"));
        let method = asked("DELETE / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n").unwrap_err();
        assert!(method.starts_with("405"));
        let cut = read(&mut Bytes(b"GET / HT"), "x");
        assert!(cut.is_err(), "who goes away gets no answer");
    }
}
