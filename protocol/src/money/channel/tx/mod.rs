//! Pure transaction builders.
