//! Hostile bytes into every decoder: see `turnpike_fuzz::decode`.
#![no_main]

use turnpike_fuzz::{decode, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write(&decode::seeds()), |data: &[u8]| decode::run(data));
