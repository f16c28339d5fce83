#!/usr/bin/env bash
# Replays the golden vectors on an emulated Cortex-M4, then once more with one digit changed, which must fail.
# Prints the log and the memory figures, and writes target/mcu.json. `scripts/mcu.sh build` only builds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/rust_target.sh

target=thumbv7em-none-eabihf
manifest=protocol/mcu/Cargo.toml
out=$PWD/target/mcu
elf=$out/$target/release/turnpike-mcu
emulator_seconds=120

rust_for $target || { echo "mcu: no Rust for $target; run scripts/setup.sh mcu" >&2; exit 2; }
# Not --locked: the lock file of this workspace follows the protocol's dependencies.
env "${rust_env[@]}" DEFMT_LOG=info CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER=arm-none-eabi-gcc \
    CARGO_TARGET_THUMBV7EM_NONE_EABIHF_RUSTFLAGS="-D warnings" \
    cargo build --release --manifest-path $manifest --target-dir "$out" -p turnpike-mcu "${rust_flags[@]}"
[ "${1:-}" != build ] || exit 0
cargo build --manifest-path $manifest --target-dir "$out" -p turnpike-mcu-log

# replay FOLDER: runs the firmware on the vector files in it, the log goes to FOLDER/log
replay() {
    local status=0
    (cd "$1" && timeout $emulator_seconds qemu-system-arm -M mps2-an386 -cpu cortex-m4 -display none -serial none \
        -monitor none -semihosting-config enable=on,target=native -kernel "$elf" </dev/null >frames) || status=$?
    "$out/debug/turnpike-mcu-log" "$elf" <"$1/frames" >"$1/log" || status=3
    sed 's/^/mcu: /' "$1/log"
    return $status
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp protocol/vectors/*.txt "$folder/"
published=${TURNPIKE_VECTORS:-../shared/vectors}/bips/bip-0340/test-vectors.csv
[ ! -e "$published" ] || cp "$published" "$folder/bip340.csv"
status=0
replay "$folder" || status=$?
if [ $status != 0 ]; then
    echo "mcu: the replay FAILED (status $status: 1 a vector differs, 101 panic, 102 fault, 124 no end)" >&2
    exit 1
fi
for file in protocol/vectors/*; do
    grep -q "replayed.*\b${file##*/}\b" "$folder/log" || { echo "mcu: $file was not replayed" >&2; exit 1; }
done
cp "$folder/log" "$out/log"

# The judge must be able to say no: the last digit of the first message becomes another one.
sed -i '1{s/[0-7]$/8/;t;s/.$/0/}' "$folder/messages.txt"
if cmp -s "$folder/messages.txt" protocol/vectors/messages.txt; then echo "mcu: nothing was changed" >&2; exit 1; fi
status=0
replay "$folder" >/dev/null || status=$?
if [ $status != 1 ]; then
    echo "mcu: with one digit of a vector changed the replay ended with status $status instead of 1" >&2
    exit 1
fi
echo "mcu: with one digit changed the replay fails, as it must"

figure() { awk -v name="$1" '$2 == name { print $3 }' "$out/log"; }
text=$(arm-none-eabi-size -A "$elf" | awk '/^\.(vector_table|text|rodata|data) / { sum += $2 } END { print sum }')
ram=$(($(figure mcu_static_bytes) + $(figure mcu_heap_bytes) + $(figure mcu_stack_bytes)))
row='{"name":"%s","value":%s,"unit":"B","against":null,"against_value":null,"ratio":null}'
printf "[$row,\n$row]\n" mcu_text_bytes "$text" mcu_ram_bytes "$ram" >target/mcu.json
echo "mcu: ok mcu_text_bytes=$text mcu_ram_bytes=$ram"
