//! Bundles over HTTP: servers that are stock, poor, broken or dishonest, and another node.

use super::card::{Bundle, Card, MIB, PLAIN, judges, path, run, trusting};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server by script; each connection is one request. Answers get the requested offset, if one was named.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(answer: impl Fn(Option<usize>, &mut TcpStream) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut offset = None;
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let line = line.to_ascii_lowercase();
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        offset = range.trim_end_matches('-').parse().ok();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                seen.lock().unwrap().push(offset);
                answer(offset, &mut stream);
            }
        });
        Server { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}/x.tpu", self.address)
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

/// What a good server does, from the offset on and at most so many bytes.
fn part(stream: &mut TcpStream, bytes: &[u8], offset: usize, most: usize) {
    let (left, last, length) = (bytes.len() - offset, bytes.len() - 1, bytes.len());
    say(
        stream,
        &format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {left}\r\nContent-Range: bytes {offset}-{last}/{length}\r\n\r\n"
        ),
    );
    let _ = stream.write_all(&bytes[offset..offset + left.min(most)]);
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bytes = fs::read(card.bundle(&PLAIN)).unwrap();
    let server = {
        let bytes = bytes.clone();
        Server::start(move |offset, stream| part(stream, &bytes, offset.unwrap(), MIB + 100_000))
    };
    assert_eq!(card.ok(&["apply", &server.url()])["version"], 42);
    assert!(card.holds("b"));
    let requests = server.requests.lock().unwrap().clone();
    let offsets: Vec<usize> = requests.iter().map(|offset| offset.unwrap()).collect();
    let expected: Vec<usize> = (0..offsets.len()).map(|n| n * (MIB + 100_000)).collect();
    assert_eq!(offsets, expected, "nothing was asked for twice");
}

#[test]
fn what_is_in_the_slot_is_not_asked_for_again() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bytes = Arc::new(fs::read(card.bundle(&PLAIN)).unwrap());
    // The source goes away for good after 2.5 MiB.
    let given = Arc::new(AtomicUsize::new(0));
    let server = {
        let (bytes, given) = (bytes.clone(), given.clone());
        Server::start(move |offset, stream| {
            if given.fetch_add(1, Ordering::SeqCst) == 0 {
                part(stream, &bytes, offset.unwrap(), 5 * MIB / 2);
            }
        })
    };
    let line = card.refused(&["apply", &server.url()]);
    assert!(line.contains("try again, what was written is kept"), "{line}");
    assert_eq!(card.stage(), "fetching");
    assert_eq!(card.status()["next"], "a");
    let server = {
        let bytes = bytes.clone();
        Server::start(move |offset, stream| part(stream, &bytes, offset.unwrap(), usize::MAX))
    };
    let applied = card.ok(&["apply", &server.url()]);
    let fetched = applied["fetched_bytes"].as_u64().unwrap() as usize;
    // Kernel, initramfs and the root's first MiB less what was in flight.
    assert!(fetched <= 3 * MIB + 4_096 && fetched > 2 * MIB, "{applied}");
    assert!(card.holds("b"));
}

#[test]
fn a_stock_server_without_ranges_does_as_well() {
    if !judges(&["minisign", "python3"]) {
        return;
    }
    let card = trusting();
    let bundle = card.bundle(&PLAIN);
    let mut child = Command::new("python3")
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
        .current_dir(card.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line.split_whitespace().nth(5).unwrap().to_owned();
    let name = bundle.file_name().unwrap().to_str().unwrap();
    let url = format!("http://127.0.0.1:{port}/{name}");
    // Once whole, and once from the root's second MiB on.
    card.ok(&["apply", &url]);
    let mut root = fs::read(card.at("root-b")).unwrap();
    root[MIB + 5] ^= 1;
    fs::write(card.at("root-b"), root).unwrap();
    let applied = card.ok(&["apply", &url]);
    assert_eq!(applied["fetched_bytes"], MIB);
    assert!(card.holds("b"));
    assert!(
        card.refused(&["apply", &format!("http://127.0.0.1:{port}/nothing.tpu")])
            .contains("404")
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_server_that_lies_brings_nothing_but_a_refusal() {
    if !judges(&["minisign"]) {
        return;
    }
    let card = trusting();
    let bytes = Arc::new(fs::read(card.bundle(&PLAIN)).unwrap());
    let whole = bytes.clone();
    refuse(
        &card,
        "another range than the one that was asked for",
        move |offset, stream| match offset {
            Some(0) => part(stream, &whole, 0, MIB),
            _ => part(stream, &whole, 0, usize::MAX),
        },
    );
    let whole = bytes.clone();
    refuse(
        &card,
        "another length than before",
        move |offset, stream| match offset {
            Some(0) => part(stream, &whole, 0, MIB),
            Some(offset) => part(stream, &whole[..whole.len() - 512], offset, usize::MAX),
            None => {}
        },
    );
    // The right words, other bytes.
    let whole = bytes.clone();
    refuse(&card, "kernel is not what was signed", move |offset, stream| {
        let mut other = whole.to_vec();
        if offset != Some(0) {
            other.rotate_left(7);
        }
        part(stream, &other, offset.unwrap(), 200_000);
    });
    refuse(&card, "a range without saying which", |_, stream| {
        say(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n01234",
        )
    });
    refuse(&card, "no bundle has more than", |_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    });
    refuse(&card, "500", |_, stream| {
        say(stream, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
    });
    refuse(&card, "redirect", |_, stream| {
        say(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /y.tpu\r\nContent-Length: 0\r\n\r\n",
        )
    });
    refuse(&card, "http", |_, stream| {
        say(
            stream,
            &format!("HTTP/1.1 200 OK\r\n{}", "X-A: 1\r\n".repeat(100_000)),
        )
    });
    refuse(&card, "http", |_, stream| say(stream, "220 this is mail\r\n"));
    // A body without an end, of zeros.
    refuse(&card, "tar header", |_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[0; 65_536]).is_ok() {}
    });
    // A manifest of a gigabyte, by its tar header.
    let mut header = bytes[..512].to_vec();
    header[124..136].copy_from_slice(b"10000000000\0");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    refuse(&card, "its manifest has 1073741824 bytes", move |_, stream| {
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        let _ = stream.write_all(&header);
        while stream.write_all(&[b'#'; 65_536]).is_ok() {}
    });
    assert!(
        card.refused(&["apply", "http://127.0.0.1:1/x.tpu"])
            .contains("5 attempts")
    );
    assert!(
        card.refused(&["apply", "http://"])
            .starts_with("turnpike: http://")
    );
}

fn refuse(card: &Card, why: &str, answer: impl Fn(Option<usize>, &mut TcpStream) + Send + 'static) {
    let server = Server::start(answer);
    let line = card.refused(&["apply", &server.url()]);
    assert!(line.contains(why), "{line}");
    assert_eq!(card.status()["next"], "a", "{why}");
    assert!(server.requests.lock().unwrap().len() <= 10, "{why}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    if !judges(&["openssl", "minisign"]) {
        return;
    }
    let card = trusting();
    let folder = card.folder.path();
    let mut make = vec![
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.pem",
    ];
    make.extend(["-days", "2", "-subj", "/CN=localhost"]);
    run("openssl", folder, &make);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let mut child = Command::new("openssl")
        .args([
            "s_server", "-accept", &listen, "-cert", "tls.pem", "-key", "tls.key", "-WWW", "-quiet",
        ])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if TcpStream::connect(&listen).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let line = card.refused(&["apply", &format!("https://localhost:{port}/x.tpu")]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("certificate"), "{line}");
}

/// A node that serves its slot.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start(card: &Card) -> Node {
        let mut child = Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .args(["--json", "update", "serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("TURNPIKE_CARD", card.folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}/update.tpu", told["address"].as_str().unwrap());
        Node { child, url }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_gives_its_running_slot_as_the_same_bytes_and_another_node_takes_it() {
    if !judges(&["minisign", "curl"]) {
        return;
    }
    let card = trusting();
    assert!(
        card.refused(&["serve", "--listen", "127.0.0.1:0"])
            .contains("manifest.toml")
    );
    let bundle = card.bundle(&PLAIN);
    card.ok(&["apply", path(&bundle)]);
    card.boots("turnpike.slot=b turnpike.trial=2");
    assert!(
        card.refused(&["serve", "--listen", "127.0.0.1:0"])
            .contains("on trial")
    );
    card.ok(&["commit"]);
    card.boots("turnpike.slot=b");
    let node = Node::start(&card);
    let bytes = fs::read(&bundle).unwrap();
    let folder = card.folder.path();
    let curl = |words: &[&str]| {
        let all = [&["-sS", "--max-time", "20"], words].concat();
        run("curl", folder, &all).stdout
    };
    assert!(curl(&[&node.url]) == bytes, "all of it");
    let own = node.url.replace("update.tpu", "turnpike-arm64-42.tpu");
    assert!(curl(&["-r", "1000000-2000000", &own]) == bytes[1_000_000..=2_000_000]);
    assert!(curl(&["-r", "-700", &node.url]) == bytes[bytes.len() - 700..]);
    // curl goes on with half a file.
    fs::write(card.at("half"), &bytes[..bytes.len() / 2]).unwrap();
    curl(&["-C", "-", "-o", "half", &node.url]);
    assert!(fs::read(card.at("half")).unwrap() == bytes);
    let head = String::from_utf8(curl(&["-I", &node.url]))
        .unwrap()
        .to_lowercase();
    assert!(
        head.contains(&format!("content-length: {}", bytes.len())) && head.contains("accept-ranges: bytes"),
        "{head}"
    );
    let code = |words: &[&str]| {
        let all = [&["-o", "out", "-w", "%{http_code}"], words].concat();
        String::from_utf8(curl(&all)).unwrap()
    };
    assert_eq!(code(&["-r", "99999999-", &node.url]), "416");
    assert_eq!(
        code(&[
            &node.url.replace("update.tpu", "../../etc/passwd"),
            "--path-as-is"
        ]),
        "404"
    );
    assert_eq!(code(&["-X", "POST", &node.url]), "405");
    assert_eq!(
        code(&["-H", &format!("X-A: {}", "x".repeat(9_000)), &node.url]),
        "400"
    );

    // Two of one address at a time; a third is told to come back.
    let address = node
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/update.tpu")
        .to_owned();
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(&address).unwrap()).collect();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut third = TcpStream::connect(&address).unwrap();
    let mut said = String::new();
    let _ = third.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    drop(held);
    std::thread::sleep(std::time::Duration::from_millis(100));

    // The other node trusts the same people.
    let other = Card::new();
    let keys = ["one", "two"].map(|name| fs::read_to_string(card.at(&format!("{name}.pub"))).unwrap());
    let keys = keys.map(|text| text.lines().nth(1).unwrap().to_owned());
    other.trust(&[&keys[0], &keys[1]], 2);
    let applied = other.ok(&["apply", &node.url]);
    assert_eq!((&applied["version"], &applied["slot"]), (&42.into(), &"b".into()));
    for name in [
        "root-b",
        "boot/b/kernel",
        "boot/b/initrd.img",
        "boot/b/slot.env",
        "boot/b/manifest.toml",
    ] {
        assert!(
            fs::read(other.at(name)).unwrap() == fs::read(card.at(name)).unwrap(),
            "{name}"
        );
    }
    // A node that was tampered with cannot pass that on.
    let third = Card::new();
    third.trust(&[&keys[0], &keys[1]], 2);
    let mut root = fs::read(card.at("root-b")).unwrap();
    root[MIB + 1] ^= 4;
    fs::write(card.at("root-b"), root).unwrap();
    let line = third.refused(&["apply", &node.url]);
    assert!(line.contains("root.img is not what was signed (MiB 1)"), "{line}");
    let newer = card.bundle(&Bundle { version: 43, ..PLAIN });
    assert_eq!(third.ok(&["apply", path(&newer)])["version"], 43);
}
