//! The buyer on its own.
