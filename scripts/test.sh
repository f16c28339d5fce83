#!/usr/bin/env bash
# Builds everything, replays the golden vectors on the emulated microcontroller, then runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."

# The judge of every transaction is a real node; fetched once where none is on PATH.
TURNPIKE_BITCOIND=$(scripts/bitcoind.sh)
export TURNPIKE_BITCOIND
cargo build --locked --workspace
scripts/mcu.sh
cargo test --locked --workspace --no-fail-fast
