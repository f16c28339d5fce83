//! Real traffic by programs that everybody has: curl and iperf3, against servers on the uplink host.

use crate::judge::Kernel;
use crate::lab::Lab;
use crate::site::{PATIENCE, Site};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const HTTP: u16 = 8_080;
/// How long nothing may move before the client counts as cut.
const QUIET: Duration = Duration::from_millis(1_500);

/// A web server and iperf3 on the uplink host.
pub struct Servers {
    iperf: Child,
}

impl Servers {
    /// Starts both.
    pub fn start(site: &Site) -> Servers {
        let listener = site
            .lab
            .uplink()
            .within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP)).expect("a port"));
        web(listener);
        let iperf = site
            .lab
            .uplink()
            .command("iperf3")
            .arg("-s")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Servers {
            iperf: iperf.expect("iperf3"),
        }
    }

    /// Downloads `bytes` by curl, over IPv4 or IPv6.
    ///
    /// # Errors
    /// Fewer bytes came, within a minute.
    pub fn curl(&self, site: &Site, v6: bool, bytes: u64) -> Result<(), String> {
        let output = curl(site, v6, bytes)
            .args(["-w", "%{size_download}"])
            .output()
            .map_err(|e| e.to_string())?;
        let got: u64 = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap_or(0);
        if got == bytes {
            Ok(())
        } else {
            Err(format!("curl got {got} of {bytes} bytes (IPv6: {v6})"))
        }
    }

    /// Begins a download and leaves it running.
    pub fn download(&self, site: &Site, bytes: u64) -> Child {
        curl(site, false, bytes)
            .stdout(Stdio::null())
            .spawn()
            .expect("curl")
    }

    /// Runs one iperf3 test.
    ///
    /// # Errors
    /// iperf3's own words.
    pub fn iperf(&self, site: &Site, more: &[&str]) -> Result<(), String> {
        let address = Lab::UPLINK4.to_string();
        let mut command = site.lab.client(0).command("timeout");
        command
            .args(["60", "iperf3", "-c", &address])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = command.output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "iperf3 {}: {}",
            more.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }

    /// Downloads more than there is credit for, until nothing moves; gives what the kernel had forwarded then.
    ///
    /// # Errors
    /// curl cannot be started.
    pub fn until_cut(&self, site: &Site, kernel: &Kernel) -> Result<u64, String> {
        let before = kernel.counted();
        let mut download = curl(site, false, 1 << 30)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let end = Instant::now() + PATIENCE;
        while kernel.counted() == before && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let at_cut = kernel.settled(QUIET);
        let _ = download.kill();
        let _ = download.wait();
        Ok(at_cut)
    }
}

/// Serves `GET /N` with N bytes on a thread of its own, until the process ends.
pub fn web(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
}

fn curl(site: &Site, v6: bool, bytes: u64) -> std::process::Command {
    let host = if v6 {
        format!("[{}]", Lab::UPLINK6)
    } else {
        Lab::UPLINK4.to_string()
    };
    let mut command = site.lab.client(0).command("curl");
    command.args([
        "-s",
        "-g",
        "-o",
        "/dev/null",
        "--max-time",
        "60",
        &format!("http://{host}:{HTTP}/{bytes}"),
    ]);
    command
}

/// Answers `GET /N` with N bytes.
fn serve(mut stream: TcpStream) {
    let mut request = [0; 1_024];
    let length = stream.read(&mut request).unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..length]);
    let bytes: u64 = text
        .split('/')
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n");
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    let chunk = vec![0x55; 64 * 1_024];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len() as u64) as usize;
        if stream.write_all(&chunk[..now]).is_err() {
            return;
        }
        left -= now as u64;
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.iperf.kill();
        let _ = self.iperf.wait();
    }
}
