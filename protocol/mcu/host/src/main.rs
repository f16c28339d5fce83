//! Prints a microcontroller's defmt log: `turnpike-mcu-log FIRMWARE.elf <FRAMES`.
//!
//! The frames hold numbers only; the strings they stand for are in the firmware's ELF file.

use defmt_decoder::{DecodeError, Table};
use std::io::{self, Read, Write};
use std::{env, error::Error, fs, process::ExitCode};

fn main() -> ExitCode {
    match print_log() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("turnpike-mcu-log: {e}");
            ExitCode::FAILURE
        }
    }
}

fn print_log() -> Result<(), Box<dyn Error>> {
    let firmware = env::args_os()
        .nth(1)
        .ok_or("usage: turnpike-mcu-log FIRMWARE.elf <FRAMES")?;
    let table = Table::parse(&fs::read(firmware)?)?.ok_or("the firmware holds no log strings")?;
    let mut decoder = table.new_stream_decoder();
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut chunk = [0; 4096];
    loop {
        let length = input.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        decoder.received(&chunk[..length]);
        loop {
            match decoder.decode() {
                Ok(frame) => {
                    let level = frame.level().map_or("print", |level| level.as_str());
                    writeln!(output, "{level} {}", frame.display_message())?;
                }
                Err(DecodeError::UnexpectedEof) => break,
                Err(DecodeError::Malformed) => return Err("a frame is malformed".into()),
            }
        }
    }
}
