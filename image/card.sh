# Sourced: the boot partition and the whole card.

build_card() {
    build_slot
    build_boot
    build_whole
}

# Compatible texts of the boards that this firmware is for, and of the emulator's own board.
boards=(raspberrypi,3-model-a-plus raspberrypi,3-model-b raspberrypi,3-model-b-plus raspberrypi,model-zero-2-w raspberrypi,4-model-b
    raspberrypi,400 raspberrypi,4-compute-module raspberrypi,5-model-b linux,dummy-virt)

# Our own program, as the card has it.
turnpike() { qemu-aarch64-static "$program" "$@"; }

# What a slot is made of, and the update that brings it (protocol/spec/update.md).
build_slot() {
    local slot=$work/slot board named=()
    for board in "${boards[@]}"; do named+=(--board "$board"); done
    mkdir -p "$slot"
    cp "$work/kernel" "$work/initrd.img" "$slot/"
    local files=(--kernel "$work/kernel" --initrd "$work/initrd.img" --root "$work/root.img")
    turnpike update manifest --version "$version" --name "$name" "${named[@]}" --root-hash "$root_hash" --root-salt "$root_salt" \
        --root-data-blocks "$root_data_blocks" "${files[@]}" "$slot/manifest.toml"
    turnpike update slot-env "$slot/manifest.toml" "$slot/slot.env"
    turnpike update pack --manifest "$slot/manifest.toml" "${files[@]}" "$work/bundle.tpu"
    : >"$slot/good"
}

build_boot() {
    local boot=$work/boot file files tree
    mkdir -p "$boot"
    read -r -d '' -a files < <(section image/files.txt boot && printf '\0')
    for file in "${files[@]}"; do
        cp "$pool/$file" "$boot/"
    done
    tree=$(echo "$pool"/usr/lib/modules/*/dtb)
    cp "$tree"/broadcom/bcm2837-rpi-3-{a-plus,b,b-plus}.dtb "$tree"/broadcom/bcm2837-rpi-zero-2-w.dtb \
        "$tree"/broadcom/bcm2711-rpi-{4-b,400,cm4-io}.dtb "$tree"/broadcom/bcm2712{,-d}-rpi-5-b.dtb "$boot/"
    cp image/boot/config.txt "$boot/"
    # All settings with their defaults, each behind a "#".
    turnpike card settings --example >"$boot/turnpike.toml"
    mkimage -A arm64 -O linux -T script -C none -n turnpike -d image/boot/boot.cmd "$boot/boot.scr" >/dev/null
    mkenvimage -s 0x4000 -o "$boot/uboot.env" image/boot/uboot.txt
    printf 'trial_slot=\n' | mkenvimage -s 0x400 -p 0x00 -o "$boot/trial.env" -
    cp -r "$work/slot" "$boot/a"
    mkdir "$boot/b"
    settle "$boot"
    truncate -s $((boot_size * mib)) "$work/boot.img"
    mkfs.vfat --invariant -F 32 -s 4 -n BOOTFS -i $boot_volume_id "$work/boot.img" >/dev/null
    # In one order: the file system's own order is not the same everywhere.
    (cd "$boot" && find . -mindepth 1 -type d | sort | while read -r file; do mmd -i "$work/boot.img" "::${file#./}"; done)
    (cd "$boot" && find . -type f | sort | while read -r file; do mcopy -m -i "$work/boot.img" "$file" "::${file#./}"; done)
}

build_whole() {
    local card=$work/turnpike-arm64.img
    rm -f "$card"
    truncate -s $((card_size * mib)) "$card"
    sfdisk --quiet --no-reread --no-tell-kernel "$card" <<TABLE
label: dos
label-id: $disk_id
unit: sectors
start=$((boot_start * 2048)), size=$((boot_size * 2048)), type=c, bootable
start=$((root_a_start * 2048)), size=$((root_size * 2048)), type=83
start=$((root_b_start * 2048)), size=$((root_size * 2048)), type=83
start=$((data_start * 2048)), size=$((data_size * 2048)), type=83
TABLE
    place "$work/boot.img" $boot_start
    place "$work/root.img" $root_a_start
    first_ledger >"$work/ledger"
    place "$work/ledger" $ledger_start
}

place() { # place FILE MIB: into the card at that MiB, without what is zero
    dd if="$1" of="$work/turnpike-arm64.img" bs=1M seek="$2" conv=notrunc,sparse status=none
}

# The record that allows one making of the data file system.
first_ledger() {
    . image/initramfs/ledger.sh
    ledger_record 0 1 0 0
}
