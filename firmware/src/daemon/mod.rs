//! The daemon.

mod rows;
pub use rows::Batch;
pub use rows::load;
