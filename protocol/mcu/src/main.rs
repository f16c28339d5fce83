//! Firmware that asks one question: does `turnpike-protocol` on a Cortex-M4 produce and accept the very bytes
//! that it does on a desktop?
//!
//! What it does: replays every golden vector, and reports the memory that this took.
//! What comes in: the vector files, read over semihosting from the folder that the emulator was started in.
//! What goes out: defmt frames on the semihosting console, and the exit status, 0 only if every byte agrees.
//! What it never does: keep a copy of the vectors of its own; a byte changed in a file must fail the run.
//! Spec page: `protocol/spec/wire.md`.
#![no_std]
#![no_main]

extern crate alloc;

mod curve;
mod heap;
mod host_file;
mod stack;
mod wire;

use core::panic::PanicInfo;
use cortex_m as _; // the critical section of the log
use cortex_m_rt::{ExceptionFrame, entry, exception};
use defmt_semihosting as _;
use semihosting::process;

/// Exit status when a vector differs.
const DIFFERS: i32 = 1;
/// Exit status of a panic; its text stands in the log.
const PANICKED: i32 = 101;
/// Exit status of a fault. The log may be what faulted, so the status alone says it.
const FAULTED: i32 = 102;

/// Why a file of vectors was not replayed to its end.
pub struct Disagreement {
    /// What differs, or what could not be read.
    pub what: &'static str,
    /// Where: a line of the file or a message kind, as `what` says; 0 where it has no place.
    pub place: usize,
}

#[entry]
fn main() -> ! {
    heap::start();
    let mut agreed = true;
    for (files, outcome) in [
        ("messages.txt schema.txt", wire::replay()),
        ("bip340.csv", curve::replay()),
    ] {
        match outcome {
            Ok(Some(count)) => defmt::info!("replayed {=str}: {=usize} vectors agree", files, count),
            Ok(None) => defmt::warn!("skipped: no vectors in {=str}", files),
            Err(Disagreement { what, place }) => {
                agreed = false;
                defmt::error!("{=str}: {=str} {=usize}", files, what, place);
            }
        }
    }
    defmt::info!("mcu_static_bytes {=usize}", heap::static_bytes());
    defmt::info!("mcu_heap_bytes {=usize}", heap::high_water());
    defmt::info!("mcu_stack_bytes {=usize}", stack::high_water());
    process::exit(if agreed { 0 } else { DIFFERS })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    process::exit(PANICKED)
}

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    process::exit(FAULTED)
}
