# Sourced: the root file system of a slot, root.img: squashfs, then its dm-verity tree.

build_root() {
    local root=$work/root
    mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,dev,proc,sys,run,tmp,boot,data,etc,root}
    ln -s usr/bin usr/sbin usr/lib "$root/"
    local files modules
    read -r -d '' -a files < <(section image/files.txt root && printf '\0')
    stage_files "$root" "${files[@]}"
    # The loader is looked for in /lib, wherever libraries are.
    stage_files "$root" usr/lib/ld-linux-aarch64.so.1
    read -r -d '' -a modules < <(section image/modules.txt root && printf '\0')
    stage_modules "$root" "${modules[@]}"
    install -m 755 "$program" "$root/usr/bin/turnpike"
    # One program under two names.
    ln -s turnpike "$root/usr/bin/turnpiked"
    local applet
    for applet in $(qemu-aarch64-static "$pool/usr/bin/busybox" --list); do
        # A program of its own comes before the applet.
        [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
    done
    cp -a image/overlay/. "$root/"
    install -m 644 image/layout.sh image/initramfs/ledger.sh "$root/usr/lib/turnpike/"
    # Whose updates are taken where the owner names nobody.
    [ -z "${KEYS:-}" ] || install -m 644 "$KEYS" "$root/etc/turnpike/update-keys.toml"
    cat >"$root/etc/os-release" <<RELEASE
ID=turnpike
NAME="Turnpike"
PRETTY_NAME="Turnpike $name"
VERSION_ID="$name"
BUILD_ID="$version"
RELEASE
    settle "$root"
    rm -f "$work/root.squashfs"
    env -u SOURCE_DATE_EPOCH mksquashfs "$root" "$work/root.squashfs" -comp xz -b 1M \
        -all-root -noappend -no-xattrs -all-time "$SOURCE_DATE_EPOCH" -mkfs-time "$SOURCE_DATE_EPOCH" -quiet -no-progress
    add_verity
}

# Sets root_hash, root_salt, root_data_blocks.
add_verity() {
    local bytes padded
    bytes=$(stat -c %s "$work/root.squashfs")
    root_data_blocks=$(((bytes + 4095) / 4096))
    padded=$((root_data_blocks * 4096))
    truncate -s $padded "$work/root.squashfs"
    root_salt=$(sha256sum "$work/root.squashfs" | cut -c 1-64)
    rm -f "$work/root.tree"
    veritysetup format --no-superblock --data-block-size=4096 --hash-block-size=4096 --hash=sha256 --salt="$root_salt" \
        --root-hash-file="$work/root.hash" "$work/root.squashfs" "$work/root.tree" >/dev/null
    root_hash=$(cat "$work/root.hash")
    cat "$work/root.squashfs" "$work/root.tree" >"$work/root.img"
    local size
    size=$(stat -c %s "$work/root.img")
    [ "$size" -le $((root_size * mib)) ] || { echo "image: the root takes $size bytes, a slot has $root_size MiB" >&2; exit 1; }
}
