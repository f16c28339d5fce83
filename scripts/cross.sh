#!/usr/bin/env bash
# Builds the firmware's binaries for the Pi (aarch64, static, so that they run on any Linux), asks each for its
# version under an emulator, and runs the protocol's own tests there, golden vectors included.
#
# scripts/cross.sh card   only the program that the card carries, small and without the play-money chain
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/rust_target.sh

target=aarch64-unknown-linux-gnu
out=$PWD/target/cross
rust_for $target || { echo "cross: no Rust for $target; run scripts/setup.sh cross" >&2; exit 2; }
# Bytes must not depend on the folders that they were built in.
registry=${CARGO_HOME:-$HOME/.cargo}
build=(env "${rust_env[@]}"
    CFLAGS_aarch64_unknown_linux_gnu="-ffile-prefix-map=$registry=/cargo -ffile-prefix-map=$PWD=/turnpike"
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
    CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$registry=/cargo --remap-path-prefix=$PWD=/turnpike"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
    cargo)

if [ "${1:-}" = card ]; then
    "${build[@]}" build --locked --profile card --target-dir "$out" -p turnpike-firmware --bin turnpike --no-default-features "${rust_flags[@]}"
    exit
fi
"${build[@]}" build --locked --release --target-dir "$out" -p turnpike-firmware --bins "${rust_flags[@]}"
for binary in "$out/$target/release"/turnpike*; do
    case $binary in *.d) continue ;; esac
    if [ ! -f "$binary" ] || [ ! -x "$binary" ]; then continue; fi
    version=$(timeout 60 qemu-aarch64-static "$binary" --version)
    echo "cross: ${binary##*/}: $version, $(wc -c <"$binary") bytes"
done
"${build[@]}" test --locked --release --target-dir "$out" -p turnpike-protocol --lib "${rust_flags[@]}"
echo "cross: ok, in $out/$target/release"
