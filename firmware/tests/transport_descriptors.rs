//! A relay that has run out of file descriptors: waits, and goes on when there are some again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use turnpike_firmware::transport::{LinkEvent, LinkLimits, Links};
use turnpike_protocol::base::GenesisHash;
use turnpike_protocol::crypto::{CoinType, Keys, Seed};

const GENESIS: GenesisHash = GenesisHash::from_bytes([3; 32]);
const INSIDE: &str = "TURNPIKE_TEST_FEW_DESCRIPTORS";
const NAME: &str = "without_descriptors_the_relay_waits_instead_of_spinning_and_recovers";

fn links(seed: u8) -> (Links, mpsc::Receiver<LinkEvent>) {
    let keys = Keys::new(&Seed::from_entropy(&[seed; 32]), CoinType::Test).unwrap();
    let (sender, events) = mpsc::channel(16);
    (
        Links::new(Arc::new(keys), GENESIS, sender, LinkLimits::default()),
        events,
    )
}

/// The relay: uses up its descriptors, says its address, and gives them back after three seconds.
async fn relay() {
    let (links, mut events) = links(1);
    let address = links.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    println!("address {address}");
    let up = timeout(Duration::from_secs(3), events.recv()).await;
    assert!(up.is_err(), "{up:?} although nothing can be accepted");
    drop(hoard);
    println!("room");
    let up = timeout(Duration::from_secs(10), events.recv()).await.unwrap();
    assert!(matches!(up, Some(LinkEvent::Up { .. })), "{up:?}");
}

#[test]
fn without_descriptors_the_relay_waits_instead_of_spinning_and_recovers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if std::env::var_os(INSIDE).is_some() {
        return runtime.block_on(relay());
    }
    let mut child = Command::new("sh")
        .args(["-c", r#"ulimit -n 64; exec "$0" --exact "$1" --nocapture"#])
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env(INSIDE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let address: SocketAddr = said
        .find_map(|line| line.split_once("address ")?.1.parse().ok())
        .expect("an address");
    runtime.block_on(async {
        // The system completes them; the relay cannot take them.
        let strangers = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let before = processor(child.id());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let used = processor(child.id()) - before;
        println!("{used:?} of processor in two seconds without descriptors");
        assert!(used < Duration::from_millis(60), "{used:?}");
        drop(strangers);
        assert!(said.any(|line| line.contains("room")));
        let (links, _events) = links(2);
        let connected = timeout(Duration::from_secs(8), links.connect(address, None)).await;
        connected.unwrap().unwrap();
    });
    assert!(child.wait().unwrap().success());
}

/// Processor time of all threads of a process, as the kernel counts it.
fn processor(process: u32) -> Duration {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .map(|text| Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap()))
        .sum()
}
