//! The machine: QEMU with a card in it.

use super::{Card, Wires};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// U-Boot for QEMU's `virt` machine, from Debian's u-boot-qemu. Boards bring their own on the card.
const VIRT_UBOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// What the Pi's own firmware loads: it is not emulated, so QEMU does.
const PI_UBOOT: &str = "u-boot.bin";
const PI_TREE: &str = "bcm2837-rpi-3-b.dtb";
/// Hardware addresses of the uplink and the guest link.
const UPLINK_MAC: &str = "52:54:00:74:70:01";
const GUEST_MAC: &str = "52:54:00:74:70:02";

/// What is emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Board {
    /// A Pi 3 B: 1 GiB, SD card, USB network interfaces. Its SD card is slow.
    Raspi3b,
    /// QEMU's own machine with so many MiB of memory, virtio disk and network interfaces.
    Virt {
        /// MiB.
        memory: u32,
    },
}

impl Board {
    /// As the figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Board::Raspi3b => "raspi3b",
            Board::Virt { .. } => "virt",
        }
    }

    /// The interface that leads to the world.
    pub fn uplink(self) -> &'static str {
        match self {
            Board::Raspi3b => "usb0",
            Board::Virt { .. } => "eth0",
        }
    }

    /// The interface that guests are on.
    pub fn guest(self) -> &'static str {
        match self {
            Board::Raspi3b => "usb1",
            Board::Virt { .. } => "eth1",
        }
    }

    /// Longest wait for anything that a boot brings, on a loaded machine with two cores.
    pub fn patience(self) -> Duration {
        match self {
            Board::Raspi3b => Duration::from_secs(600),
            Board::Virt { .. } => Duration::from_secs(180),
        }
    }
}

impl FromStr for Board {
    type Err = String;

    /// `raspi3b`, or `virt` with 512 MiB.
    fn from_str(name: &str) -> Result<Board, String> {
        match name {
            "raspi3b" => Ok(Board::Raspi3b),
            "virt" => Ok(Board::Virt { memory: 512 }),
            _ => Err(format!("there is no machine {name}: use raspi3b or virt")),
        }
    }
}

/// A machine that can be switched on and off. Dropping it cuts its power.
pub struct Machine {
    board: Board,
    card: Card,
    /// Where the disk is read from, if not from the card's file: QEMU's name of a block device.
    disk: Option<String>,
    guest_link: bool,
    ssh_port: u16,
    running: Option<Running>,
    starts: u32,
}

struct Running {
    child: Child,
    since: Instant,
}

impl Machine {
    /// A machine with this card, switched off. Its port 22 will be on 127.0.0.1:`ssh_port`.
    pub fn new(board: Board, card: Card, ssh_port: u16) -> Machine {
        Machine {
            board,
            card,
            disk: None,
            guest_link: false,
            ssh_port,
            running: None,
            starts: 0,
        }
    }

    /// Has a second network interface from the next start on, on the wires' guest link.
    pub fn with_guests(mut self) -> Machine {
        self.guest_link = true;
        self
    }

    /// Reads and writes this block device (`nbd+unix:///?socket=…`) in place of the card's file from the next start on.
    pub fn through(&mut self, disk: Option<String>) {
        self.disk = disk;
    }

    /// What it is.
    pub fn board(&self) -> Board {
        self.board
    }

    /// Its card.
    ///
    /// # Panics
    /// The machine is on: nobody else may touch the card then.
    pub fn card(&mut self) -> &mut Card {
        assert!(
            self.running.is_none(),
            "the card is in a machine that is switched on"
        );
        &mut self.card
    }

    /// Takes the card out and puts another one in; see [`Machine::card`].
    pub fn insert(&mut self, card: Card) -> Card {
        std::mem::replace(self.card(), card)
    }

    /// Switches it on.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the machine is on already");
        self.starts += 1;
        let log = self.log();
        File::create(&log).expect("the console's file");
        let words = File::create(self.words()).expect("a file for QEMU's words");
        let mut command = self.command(&log);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .expect("qemu-system-aarch64 from qemu-system-arm");
        self.running = Some(Running {
            child,
            since: Instant::now(),
        });
    }

    /// Cuts the power: whatever the machine has not given to its card is gone.
    pub fn cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// Since it was switched on.
    pub fn on_for(&self) -> Duration {
        self.running
            .as_ref()
            .map_or(Duration::ZERO, |r| r.since.elapsed())
    }

    /// What the console said since the machine was switched on.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits for a text on the console; gives the time since power-on.
    ///
    /// # Errors
    /// It did not come in time, or QEMU ended; with the end of the console.
    pub fn see(&mut self, text: &str, patience: Duration) -> Result<Duration, String> {
        self.see_times(text, 1, patience)
    }

    /// Waits until a text stood on the console so many times: of machines that start again by themselves.
    ///
    /// # Errors
    /// See [`Machine::see`].
    pub fn see_times(&mut self, text: &str, times: usize, patience: Duration) -> Result<Duration, String> {
        let end = Instant::now() + patience;
        loop {
            if self.console().matches(text).count() >= times {
                return Ok(self.on_for());
            }
            self.alive()?;
            if Instant::now() > end {
                return Err(format!(
                    "\"{text}\" did not stand on the console within {} s; its end:\n{}",
                    patience.as_secs(),
                    self.console_end()
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// That QEMU runs.
    ///
    /// # Errors
    /// Its last words.
    pub fn alive(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else {
            return Err("the machine is off".to_owned());
        };
        match running.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!(
                "QEMU ended with {status}: {}{}",
                fs::read_to_string(self.words()).unwrap_or_default(),
                self.console_end()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The last lines of the console.
    pub fn console_end(&self) -> String {
        let text = self.console();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn log(&self) -> PathBuf {
        self.card.folder().join(format!("console-{}", self.starts))
    }

    fn words(&self) -> PathBuf {
        self.card.folder().join("qemu")
    }

    fn command(&self, log: &Path) -> Command {
        let mut command = Command::new("qemu-system-aarch64");
        let file = self.card.path();
        let disk = self.disk.clone().unwrap_or_else(|| file.display().to_string());
        let serial = format!("file:{}", log.display());
        let uplink = format!("user,id=uplink,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port);
        let guests = format!("tap,id=guests,ifname={},script=no,downscript=no", Wires::TAP);
        let (device, ports) = match self.board {
            Board::Raspi3b => {
                let (uboot, tree) = (self.taken_out(PI_UBOOT), self.taken_out(PI_TREE));
                command.args(["-M", "raspi3b", "-kernel"]).arg(uboot);
                command.arg("-dtb").arg(tree);
                command.arg("-drive").arg(format!("file={disk},if=sd,format=raw"));
                command.args(["-serial", "null", "-serial", &serial]);
                // Two ports, whose order gives the interfaces their names.
                command.args(["-device", "usb-hub"]);
                ("usb-net", [",port=1.1", ",port=1.2"])
            }
            Board::Virt { memory } => {
                assert!(
                    Path::new(VIRT_UBOOT).exists(),
                    "{VIRT_UBOOT} is missing: apt-get install u-boot-qemu"
                );
                command.args(["-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m"]);
                command.arg(format!("{memory}M")).args(["-bios", VIRT_UBOOT]);
                command
                    .arg("-drive")
                    .arg(format!("file={disk},if=virtio,format=raw"));
                command.args(["-device", "i6300esb", "-device", "virtio-rng-pci"]);
                command.args(["-serial", &serial]);
                ("virtio-net-pci", ["", ""])
            }
        };
        command.args(["-netdev", &uplink, "-device"]);
        command.arg(format!("{device},netdev=uplink,mac={UPLINK_MAC}{}", ports[0]));
        if self.guest_link {
            command.args(["-netdev", &guests, "-device"]);
            command.arg(format!("{device},netdev=guests,mac={GUEST_MAC}{}", ports[1]));
        }
        command.args(["-display", "none", "-monitor", "none"]);
        command
    }

    /// A file of the card's boot partition, where QEMU can read it.
    fn taken_out(&self, name: &str) -> PathBuf {
        let bytes = self.card.read(name);
        let bytes = bytes.unwrap_or_else(|| panic!("the card has no {name}"));
        let path = self.card.folder().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.running.is_some() {
            eprintln!("--- console ---\n{}", self.console_end());
        }
        self.cut();
    }
}
