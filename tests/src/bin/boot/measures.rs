//! What a booted card measures.

use crate::idle::Idle;
use std::fs;
use std::time::Duration;
use turnpike_tests::emulator::{Board, Sold, Stand, image};
use turnpike_tests::figure::Figure;

/// Most that the image may have, packed, bytes.
const IMAGE_GOAL: f64 = 64_000_000.0;
/// Most memory that is used after the boot, KiB.
const MEMORY_GOAL: f64 = 98_304.0;

/// Numbers of one boot.
pub struct Measures {
    /// From power-on to the first answered question for prices.
    pub selling: Duration,
    /// Memory in use, buffers and cache apart.
    pub memory_kib: u64,
    /// The packed image.
    pub image_bytes: u64,
    /// What it writes while nobody buys, if that was watched.
    pub idle: Option<Idle>,
}

impl Measures {
    /// Asks the machine.
    pub fn read(stand: &Stand, selling: Duration) -> Result<Measures, String> {
        let text = stand.shell.run("cat /proc/meminfo")?;
        let kib = |name: &str| -> Result<u64, String> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .ok_or_else(|| format!("/proc/meminfo has no {name}"))
        };
        let cached = kib("Buffers")? + kib("Cached")? + kib("SReclaimable")?;
        // Files in RAM are in "Cached" and cannot be given back.
        let used = kib("MemTotal")? - kib("MemFree")? - cached + kib("Shmem")?;
        Ok(Measures {
            selling,
            memory_kib: used,
            image_bytes: fs::metadata(image()?).map_err(|e| e.to_string())?.len(),
            idle: None,
        })
    }

    /// For the table and `target/bench.json`. Names are those of the virt machine with a suffix for others.
    pub fn figures(&self, board: Board, sold: &Sold) -> Vec<Figure> {
        let name = |name: &str| match board {
            Board::Virt { .. } => name.to_owned(),
            Board::Raspi3b => format!("{name}_raspi3b"),
        };
        let mut figures = vec![
            Figure::alone(
                &name("boot_to_selling_s"),
                self.selling.as_secs_f64(),
                "s",
                "report",
                "power-on to the first answered question for prices, emulated",
            ),
            Figure::new(
                &name("boot_mem_kib"),
                self.memory_kib as f64,
                "KiB",
                "limit",
                MEMORY_GOAL,
                "<= 98304",
                "used, without buffers and cache, files in RAM included",
            ),
            Figure::alone(
                &name("card_sale_bytes_per_s"),
                sold.rate as f64,
                "B/s",
                "report",
                "one paid download through the emulated card",
            ),
        ];
        if image().is_ok_and(|path| path.extension().is_some_and(|end| end == "xz")) {
            figures.push(Figure::new(
                "image_xz_bytes",
                self.image_bytes as f64,
                "B",
                "limit",
                IMAGE_GOAL,
                "<= 64 MB",
                "",
            ));
        }
        if let Some(idle) = &self.idle {
            figures.push(idle.figure(&name("idle_write_bytes_per_day")));
        }
        figures
    }
}
