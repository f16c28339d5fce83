//! One place that knows where log lines go: `defmt` on microcontrollers, the `log` facade elsewhere,
//! nowhere when neither feature is on. No line ever holds a key, a seed word or a preimage.

/// Something a developer wants while looking for a fault.
#[macro_export]
macro_rules! debug {
    ($($arg:expr),* $(,)?) => {{
        #[cfg(feature = "defmt")]
        { defmt::debug!($($arg),*); }
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        { log::debug!($($arg),*); }
        #[cfg(not(any(feature = "log", feature = "defmt")))]
        { let _ = ($(&$arg),*); }
    }};
}

/// Something an owner should read the next morning.
#[macro_export]
macro_rules! warn {
    ($($arg:expr),* $(,)?) => {{
        #[cfg(feature = "defmt")]
        { defmt::warn!($($arg),*); }
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        { log::warn!($($arg),*); }
        #[cfg(not(any(feature = "log", feature = "defmt")))]
        { let _ = ($(&$arg),*); }
    }};
}
