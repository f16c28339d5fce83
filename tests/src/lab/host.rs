//! One host of the lab: a network namespace with a name.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};

/// A network namespace. Cheap to clone; the namespace lives as long as the lab.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    name: String,
}

/// Kernel counters of one interface, as `ip -s link` shows them. They count link-layer bytes: 14 per Ethernet frame
/// more than layer 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

impl Counters {
    /// What came since `earlier`.
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            rx_bytes: self.rx_bytes - earlier.rx_bytes,
            rx_packets: self.rx_packets - earlier.rx_packets,
            tx_bytes: self.tx_bytes - earlier.tx_bytes,
            tx_packets: self.tx_packets - earlier.tx_packets,
        }
    }

    /// Received layer-3 bytes: without the Ethernet headers.
    pub fn rx_layer3(self) -> u64 {
        self.rx_bytes - 14 * self.rx_packets
    }

    /// Sent layer-3 bytes: without the Ethernet headers.
    pub fn tx_layer3(self) -> u64 {
        self.tx_bytes - 14 * self.tx_packets
    }
}

impl Host {
    pub(super) fn named(name: &str) -> Host {
        Host {
            name: name.to_owned(),
        }
    }

    /// The name of the namespace, for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run on this host. Its process id is the program's own, so it can be signalled.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a command line (split at blanks, no quoting) and waits for it.
    pub fn try_run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a command line has a program"));
        command
            .args(words)
            .output()
            .unwrap_or_else(|e| panic!("{}: {line}: {e}", self.name))
    }

    /// Runs a command line that must succeed, and gives its output.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{}: {line}: {}\n{out}{err}",
            self.name,
            output.status
        );
        out.into_owned()
    }

    /// Runs `work` on a thread of its own inside this host's network: sockets that it opens and programs that it
    /// starts are on this host. `/proc/sys/net` and `/proc/net` are this host's, too.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = File::open(self.path()).expect("the namespace is there");
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))
                    .expect("entering a namespace");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Kernel counters of an interface of this host.
    pub fn counters(&self, device: &str) -> Counters {
        let text = self
            .within(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("net/dev can be read"));
        let line = text
            .lines()
            .find_map(|l| l.trim_start().strip_prefix(device)?.strip_prefix(':'));
        let line = line.unwrap_or_else(|| panic!("{} has no interface {device}", self.name));
        let n: Vec<u64> = line
            .split_whitespace()
            .map(|w| w.parse().expect("a counter is a number"))
            .collect();
        Counters {
            rx_bytes: n[0],
            rx_packets: n[1],
            tx_bytes: n[8],
            tx_packets: n[9],
        }
    }

    /// Takes the name away; the namespace itself ends with the last program and socket in it.
    pub(super) fn remove(&self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}
