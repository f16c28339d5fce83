//! A list of operations over two whole nodes and all around them: see `turnpike_fuzz::node`.
#![no_main]

use turnpike_fuzz::{node, seeds};

libfuzzer_sys::fuzz_target!(init: seeds::write(&node::seeds()), |data: &[u8]| node::run(data));
