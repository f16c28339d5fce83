#!/usr/bin/env bash
# One whole sale on this machine: `make demo`, or `make demo CHAIN=bitcoind`. Exit status 1 if any figure does not match
# what the kernel and the chain say, 2 if something is missing here.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"
chain="${1:-play}"
scripts/setup.sh demo
if [ "$chain" = bitcoind ]; then
    scripts/bitcoind.sh >/dev/null
fi
if [ ! -x "${CARGO_TARGET_DIR:-target}/debug/demo" ]; then
    echo "building (about 4 minutes the first time)"
fi
cargo build --quiet --package turnpike-firmware --bins
cargo build --quiet --package turnpike-tests --bin demo
exec target/debug/demo "$chain"
