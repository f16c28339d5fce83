#!/bin/sh
# Stands in front of the compiler (RUSTC_WRAPPER) and adds libFuzzer's counters to our own code and to what reads our
# bytes: others' code, and what only runs at build time, stays as it is, which halves the build.
case ${CARGO_PKG_NAME:-} in
    turnpike-* | postcard) ;;
    *) exec "$@" ;;
esac
# Counters on every edge, and the operands of comparisons, so that magic numbers are found.
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
