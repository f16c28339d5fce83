#!/usr/bin/env bash
# Builds everything, replays the golden vectors on the emulated microcontroller, then runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --workspace
scripts/mcu.sh
cargo test --locked --workspace
