//! A process that opens a gate and holds it until it is killed: for tests of what a crash leaves.
//!
//! `gate_holder check` says what is missing and ends. `gate_holder hold INTERFACE UPLINK MAC IPV4 LIMIT` attaches one
//! client in slot 1, grants LIMIT bytes, prints `ready` and waits for ever.

use std::io::Write;
use turnpike_firmware::gate::{Binding, ClientSlot, Gate, GateError, GatePlan};
use turnpike_protocol::base::ByteCount;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["check"] => Gate::check(),
        ["hold", guest, uplink, mac, ipv4, limit] => hold(guest, uplink, mac, ipv4, limit),
        _ => panic!("see the first lines of this program"),
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(2);
    }
}

fn hold(guest: &str, uplink: &str, mac: &str, ipv4: &str, limit: &str) -> Result<(), GateError> {
    let plan = GatePlan {
        guests: vec![guest.parse()?],
        uplinks: vec![uplink.parse()?],
        masquerade_ipv4: true,
        masquerade_ipv6: false,
    };
    let (mut gate, _) = Gate::open(plan)?;
    let mut binding = Binding::new(guest.parse()?, mac.parse()?);
    binding.ipv4 = Some(ipv4.parse().expect("an IPv4 address"));
    gate.attach(ClientSlot(1), binding)?;
    gate.grant(
        ClientSlot(1),
        ByteCount::new(limit.parse().expect("a number of bytes")),
    )?;
    println!("ready");
    std::io::stdout().flush().expect("a reader");
    loop {
        std::thread::park();
    }
}
