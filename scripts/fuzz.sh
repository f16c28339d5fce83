#!/usr/bin/env bash
# Fuzzes the protocol: scripts/fuzz.sh [SECONDS [TARGET…]], each target that long, 60 seconds by default.
#
# Stable Rust is enough: the compiler's own coverage pass, and libFuzzer's C++ code built by the system's compiler.
# What was found interesting is kept in target/fuzz/corpus, and an input that breaks a promise in
# target/fuzz/findings. SEED=n repeats a run's choices. How to take one apart: protocol/fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
targets=("${@:2}")
[ "${#targets[@]}" -gt 0 ] || targets=(decode session channel node)

out=target/fuzz
RUSTC_WRAPPER=$PWD/scripts/coverage.sh cargo build --locked --release --manifest-path protocol/fuzz/Cargo.toml \
    --target-dir $out --bins

failed=()
for target in "${targets[@]}"; do
    corpus=$out/corpus/$target
    mkdir -p "$corpus" $out/findings
    log=$out/$target.log
    echo "fuzz: $target for $seconds s"
    if TURNPIKE_FUZZ_SEEDS=$out/seeds/$target "$out/release/$target" "$corpus" "$out/seeds/$target" \
        -max_total_time="$seconds" -artifact_prefix=$out/findings/$target- -timeout=20 -rss_limit_mb=2048 \
        ${SEED:+-seed="$SEED"} -print_final_stats=1 -verbosity=1 >"$log" 2>&1 </dev/null; then
        # The last line with counters, and how many inputs were run.
        grep -E '^#[0-9]+.* cov: ' "$log" | tail -n 1
        grep -E '^stat::(number_of_executed_units|average_exec_per_sec)' "$log"
    else
        failed+=("$target")
        tail -n 60 "$log" >&2
        echo "fuzz: $target broke a promise; the whole log is in $log" >&2
    fi
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "fuzz: FAILED: ${failed[*]}; how to go on: protocol/fuzz/README.md" >&2
    exit 1
fi
echo "fuzz: ok"
