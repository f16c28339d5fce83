//! What a card writes while it sells and nobody buys.

use std::time::{Duration, Instant};
use turnpike_tests::emulator::Stand;
use turnpike_tests::figure::Figure;

/// Most in a day, bytes.
const GOAL: f64 = 5_000_000.0;
const DAY: f64 = 86_400.0;
/// What a boot still writes after it is done: the ledger's second record at 20 s, the file system's commit 30 s later.
const SETTLE: Duration = Duration::from_secs(120);

/// Bytes written by the kernel's counter of the disk, and over which time.
pub struct Idle {
    bytes: u64,
    time: Duration,
}

impl Idle {
    /// Watches a machine that nobody buys from.
    pub fn watch(stand: &Stand, time: Duration, say: impl Fn(&str)) -> Result<Idle, String> {
        say(&format!("idle for {} min", time.as_secs() / 60));
        std::thread::sleep(SETTLE);
        let (before, start) = (written(stand)?, Instant::now());
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_secs(60).min(time));
            let now = written(stand)? - before;
            say(&format!("{now} bytes written in {} s", start.elapsed().as_secs()));
        }
        Ok(Idle {
            bytes: written(stand)? - before,
            time: start.elapsed(),
        })
    }

    /// For the table.
    pub fn figure(&self, name: &str) -> Figure {
        let day = self.bytes as f64 * DAY / self.time.as_secs_f64();
        let note = format!(
            "{} bytes in {:.0} min",
            self.bytes,
            self.time.as_secs_f64() / 60.0
        );
        Figure::new(name, day, "B/day", "limit", GOAL, "<= 5 MB", note)
    }
}

/// Bytes written since the boot, of the whole disk.
fn written(stand: &Stand) -> Result<u64, String> {
    // Seventh number: sectors of 512 bytes.
    let text = stand
        .shell
        .run("cat /sys/block/$(basename $(readlink /dev/turnpike/disk))/stat")?;
    let sectors = text
        .split_whitespace()
        .nth(6)
        .and_then(|word| word.parse::<u64>().ok());
    sectors
        .map(|sectors| sectors * 512)
        .ok_or_else(|| format!("no counters in {text}"))
}
