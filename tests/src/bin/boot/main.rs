//! `make boot`: boots the built card in an emulator, buys from it, measures, and ends with the line `boot: ok …`.
//!
//! Exit status 1 if anything is not as it has to be, 2 if something is missing here.

mod idle;
mod measures;

use idle::Idle;
use measures::Measures;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use turnpike_tests::emulator::{Board, Stand, image};
use turnpike_tests::figure::{add, table};
use turnpike_tests::lab;

/// MiB of one purchase; all but one of them come in one download.
const SALE: u64 = 9;
const JSON: &str = "target/bench.json";
const USAGE: &str = "usage: boot [raspi3b|virt] [--memory MIB] [--idle MINUTES]";

struct Wish {
    board: Board,
    idle: Option<Duration>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wish = match wish(&words) {
        Ok(wish) => wish,
        Err(words) => {
            eprintln!("boot: {words}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(words) = image() {
        eprintln!("boot: {words}");
        return ExitCode::from(2);
    }
    lab::enter();
    match run(&wish) {
        Ok(line) => {
            println!("boot: ok {line}");
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("boot: FAILED: {words}");
            ExitCode::FAILURE
        }
    }
}

fn wish(words: &[String]) -> Result<Wish, String> {
    let mut wish = Wish {
        board: Board::Virt { memory: 512 },
        idle: None,
    };
    let mut words = words.iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let mut number = || -> Result<u32, String> {
            let text = words.next().ok_or(format!("{word} wants a number"))?;
            let digits = text.trim_end_matches(['M', 'm']);
            digits.parse().map_err(|_| format!("{word}: {text} is no number"))
        };
        match word.as_str() {
            "--memory" => {
                let memory = number()?;
                if let Board::Virt { memory: size } = &mut wish.board {
                    *size = memory;
                }
            }
            "--idle" => wish.idle = Some(Duration::from_secs(u64::from(number()?) * 60)),
            name => wish.board = name.parse()?,
        }
    }
    Ok(wish)
}

fn say(text: &str) {
    println!("boot: {text}");
}

fn run(wish: &Wish) -> Result<String, String> {
    let image = image()?;
    say(&format!("{} on {}", image.display(), wish.board.name()));
    let mut stand = Stand::new(wish.board);
    stand.client.start();
    stand.fund();
    say("power on");
    stand.machine.start();
    let (leased, selling) = stand.first_prices()?;
    say(&format!(
        "an address for the client after {:.1} s, prices after {:.1} s",
        leased.as_secs_f64(),
        selling.as_secs_f64()
    ));
    let status = stand.status()?;
    say(&format!("status over SSH: {}", status["node"]));
    let problems = stand.problems();
    if !problems.is_empty() {
        return Err(format!("a fresh card has problems: {problems}"));
    }
    let mut measures = Measures::read(&stand, selling)?;
    if let Some(time) = wish.idle {
        measures.idle = Some(Idle::watch(&stand, time, say)?);
    }
    say(&format!(
        "turnpike buy --mib {SALE}, a download of {} MiB, one of more than is left, and the end of the channel",
        SALE - 1
    ));
    let sold = stand.sale(SALE)?;
    let problems = stand.problems();
    if !problems.is_empty() {
        return Err(format!("the card has problems after the sale: {problems}"));
    }
    let figures = measures.figures(wish.board, &sold);
    print!("{}", table(&figures));
    add(Path::new(JSON), &figures).map_err(|e| format!("{JSON}: {e}"))?;
    Ok(format!(
        "machine={} boot_to_selling_s={:.1} boot_mem_kib={} sold_bytes={} msat_paid={} settled_sat={} image_xz_bytes={}",
        wish.board.name(),
        selling.as_secs_f64(),
        measures.memory_kib,
        sold.billed,
        sold.msat,
        sold.settled_sat,
        measures.image_bytes
    ))
}
