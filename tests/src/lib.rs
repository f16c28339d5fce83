//! What the end-to-end tests are made of: a real Bitcoin node, networks on one machine, and later chains and meters.

pub mod bitcoind;
pub mod emulator;
pub mod figure;
pub mod hostile;
pub mod judge;
pub mod lab;
pub mod node;
pub mod playchain;
pub mod sale;
pub mod servers;
pub mod simplex;
pub mod site;
