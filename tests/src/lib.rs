//! What the end-to-end tests are made of: a real Bitcoin node, and later chains, namespaces and meters.

pub mod bitcoind;
