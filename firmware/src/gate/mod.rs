//! The gate: per-client credit in nftables.
