//! One HTTP/1.1 POST over a fresh TCP connection: all of HTTP that a bitcoind needs. Answers are bounded in size and
//! time. No TLS, no redirects, no chunked answers: bitcoind sends none of them.

use super::backend::Fault;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest status line and headers together, bytes; bitcoind's are under 300.
const MAX_HEAD: usize = 8 * 1024;

/// Where to POST to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

/// A status code and a body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Endpoint {
    /// Reads `http://host:port/path`; the path may be missing. IPv6 addresses stand in brackets.
    pub(super) fn parse(url: &str) -> Result<Self, Fault> {
        let rest = url
            .strip_prefix("http://")
            .ok_or(Fault::Address("it does not start with http://"))?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(Fault::Address("user and password do not belong into it"));
        }
        if !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Fault::Address("its path has spaces or control characters"));
        }
        let (host, port) = authority
            .rsplit_once(':')
            .ok_or(Fault::Address("it has no port"))?;
        let port = port
            .parse()
            .map_err(|_| Fault::Address("its port is not a number up to 65535"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty()
            || !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-:_".contains(&b))
        {
            return Err(Fault::Address("its host is not a name or an address"));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// Sends `body` and waits for the whole answer, `patience` at most, `limit` bytes at most.
    pub(super) async fn post(
        &self,
        authorization: &str,
        body: &[u8],
        limit: usize,
        patience: Duration,
    ) -> Result<Answer, Fault> {
        let exchange = async {
            let mut stream = TcpStream::connect((self.host.as_str(), self.port))
                .await
                .map_err(Fault::Unreachable)?;
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: {}:{}\r\nAuthorization: Basic {authorization}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.path,
                self.host,
                self.port,
                body.len()
            );
            let mut request = head.into_bytes();
            request.extend_from_slice(body);
            stream.write_all(&request).await.map_err(Fault::Unreachable)?;
            read_answer(&mut stream, limit).await
        };
        timeout(patience, exchange)
            .await
            .map_err(|_| Fault::Slow(patience))?
    }
}

async fn read_answer(stream: &mut TcpStream, limit: usize) -> Result<Answer, Fault> {
    let mut bytes = Vec::with_capacity(4 * 1024);
    let body_at = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if bytes.len() > MAX_HEAD {
            return Err(Fault::TooLong(MAX_HEAD));
        }
        if stream.read_buf(&mut bytes).await.map_err(Fault::Unreachable)? == 0 {
            return Err(broken("closed the connection before answering"));
        }
    };
    let mut body = bytes.split_off(body_at);
    let head = parse_head(&bytes)?;
    if head.length.is_some_and(|l| l > limit) {
        return Err(Fault::TooLong(limit));
    }
    loop {
        match head.length {
            Some(length) if body.len() >= length => {
                body.truncate(length);
                break;
            }
            _ if body.len() > limit => return Err(Fault::TooLong(limit)),
            _ => {}
        }
        if stream.read_buf(&mut body).await.map_err(Fault::Unreachable)? == 0 {
            match head.length {
                Some(_) => return Err(broken("closed the connection in the middle of an answer")),
                None => break,
            }
        }
    }
    Ok(Answer {
        status: head.status,
        body,
    })
}

struct Head {
    status: u16,
    length: Option<usize>,
}

fn parse_head(bytes: &[u8]) -> Result<Head, Fault> {
    let garbled = |what: &str| Fault::Garbled(what.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| garbled("the answer's head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let status = status
        .strip_prefix("HTTP/1.")
        .and_then(|s| s.get(2..5))
        .and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| garbled("no HTTP/1.1 status line"))?;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(
                value
                    .trim()
                    .parse()
                    .map_err(|_| garbled("its Content-Length is not a number"))?,
            );
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(garbled("it uses a Transfer-Encoding, as a proxy would"));
        }
    }
    Ok(Head { status, length })
}

fn broken(what: &'static str) -> Fault {
    Fault::Unreachable(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn addresses_are_read_and_bad_ones_say_why() {
        let ok = Endpoint::parse("http://127.0.0.1:8332/wallet/a").unwrap();
        assert_eq!(
            (ok.host.as_str(), ok.port, ok.path.as_str()),
            ("127.0.0.1", 8332, "/wallet/a")
        );
        let v6 = Endpoint::parse("http://[::1]:18443").unwrap();
        assert_eq!((v6.host.as_str(), v6.port, v6.path.as_str()), ("::1", 18443, "/"));
        for bad in [
            "https://a:1",
            "http://a",
            "http://a:99999",
            "http://u:p@a:1",
            "http://:1",
            "http://a b:1/",
            "http://a:1/\r\nX:",
        ] {
            assert!(matches!(Endpoint::parse(bad), Err(Fault::Address(_))), "{bad}");
        }
    }

    async fn answer(reply: &'static [u8], limit: usize) -> Result<Answer, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(reply).await;
            // An empty reply stands for a server that never answers.
            if reply.is_empty() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let got = endpoint.post("", b"{}", limit, Duration::from_millis(300)).await;
        server.abort();
        got
    }

    #[tokio::test]
    async fn answers_are_bounded_in_length_and_time() {
        let whole = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}xx", 10)
            .await
            .unwrap();
        assert_eq!((whole.status, whole.body.as_slice()), (200, b"{}".as_slice()));
        let to_the_end = answer(b"HTTP/1.0 500 No\r\n\r\nabc", 10).await.unwrap();
        assert_eq!(
            (to_the_end.status, to_the_end.body.as_slice()),
            (500, b"abc".as_slice())
        );

        let announced = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", 10).await;
        assert!(matches!(announced, Err(Fault::TooLong(10))), "{announced:?}");
        let unannounced = answer(b"HTTP/1.1 200 OK\r\n\r\n12345678901", 10).await;
        assert!(matches!(unannounced, Err(Fault::TooLong(10))), "{unannounced:?}");
        let cut = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", 10).await;
        assert!(matches!(cut, Err(Fault::Unreachable(_))), "{cut:?}");
        let silent = answer(b"", 10).await;
        assert!(matches!(silent, Err(Fault::Slow(_))), "{silent:?}");
        let nonsense = answer(b"SSH-2.0-x\r\n\r\n", 10).await;
        assert!(matches!(nonsense, Err(Fault::Garbled(_))), "{nonsense:?}");
    }
}
