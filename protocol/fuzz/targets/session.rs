//! Hostile bytes into every sessionr: see `turnpike_fuzz::session`.
#![no_main]

use turnpike_fuzz::{seeds, session};

libfuzzer_sys::fuzz_target!(init: seeds::write(&session::seeds()), |data: &[u8]| session::run(data));
