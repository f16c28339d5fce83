//! A list of operations over one payer, one payee and their chain: see `turnpike_fuzz::channel`.
#![no_main]

use turnpike_fuzz::{channel, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write(&channel::seeds()), |data: &[u8]| channel::run(data));
