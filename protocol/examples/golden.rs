//! Prints the golden files of `protocol/vectors/`: `cargo run -p turnpike-protocol --features vectors --example golden
//! -- messages` (or `schema`). For new kinds only: lines that exist are frozen.

use turnpike_protocol::wire::{golden, schema_text, write_frame};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("schema") {
        print!("{}", schema_text());
        return;
    }
    for message in golden::samples() {
        let mut frame = Vec::new();
        write_frame(&message, &mut frame);
        let debug = format!("{message:?}");
        let name: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        println!("{} {name} {hex}", message.kind().number());
    }
}
