#!/usr/bin/env bash
# Puts in place what a make target needs: scripts/setup.sh build|demo|test|check|bench|fuzz|mcu|cross|image|boot
#
# Silent when nothing is missing. As root on Debian it installs the missing packages; otherwise it prints
# the one line that would, and ends with status 2. Nothing is ever removed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
. scripts/rust_target.sh

# Oldest Rust that builds the workspace; the same number as `rust-version` in Cargo.toml.
rust_minor=85

have() { command -v "$1" >/dev/null 2>&1; }
installed() { have dpkg-query && dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

packages=()
need() { # need COMMAND PACKAGE...: the packages are wanted where the command is missing
    have "$1" || packages+=("${@:2}")
}

# Debian 12 carries a Rust that is new enough only under the names that its browsers build with.
web() {
    local candidate
    candidate=$(LC_ALL=C apt-cache policy rustc 2>/dev/null | sed -n 's/^ *Candidate: 1\.\([0-9]*\).*/\1/p')
    [ "${candidate:-0}" -ge "$rust_minor" ] || echo "-web"
}

need_rust() {
    need cc gcc libc6-dev
    need c++ g++
    if ! have cargo || ! have rustc; then
        packages+=("cargo$(web)" "rustc$(web)" ca-certificates)
        return
    fi
    local version
    version=$(rustc --version)
    if [ "$(sed -n 's/^rustc 1\.\([0-9]*\).*/\1/p' <<<"$version")" -lt "$rust_minor" ]; then
        echo "setup: $version is too old, 1.$rust_minor or newer is needed: run 'rustup update stable'," \
            "or remove it from PATH and run this again" >&2
        exit 2
    fi
}

need_lints() {
    cargo fmt --version >/dev/null 2>&1 || packages+=("rustfmt$(web)")
    cargo clippy --version >/dev/null 2>&1 || packages+=("rust$(web)-clippy")
    need git git
    need awk mawk
}

need_network() {
    need nft nftables
    need ip iproute2
    need conntrack conntrack
    need iperf3 iperf3
    need curl curl
    need mmdebstrap mmdebstrap
    # With these mmdebstrap unpacks a Bitcoin node without being root.
    [ "$(id -u)" = 0 ] || need fakechroot fakechroot fakeroot
    need unshare util-linux
    need sysctl procps
}

need_mcu() {
    need arm-none-eabi-gcc gcc-arm-none-eabi
    # The headers that the curve library's C code includes.
    [ -e /usr/include/newlib/stdlib.h ] || [ -e /usr/lib/arm-none-eabi/include/stdlib.h ] \
        || ! have dpkg-query || installed libnewlib-arm-none-eabi || packages+=(libnewlib-arm-none-eabi)
    need qemu-system-arm qemu-system-arm
    rust_for thumbv7em-none-eabihf || packages+=("rustc$(web)" "rust$(web)-src")
}

need_cross() {
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
    need qemu-aarch64-static qemu-user-static
    rust_for aarch64-unknown-linux-gnu || packages+=("rustc$(web)" "libstd-rust$(web)-dev:arm64")
}

# What takes Debian packages apart and makes a card of them.
need_image() {
    need mksquashfs squashfs-tools
    need veritysetup cryptsetup-bin
    need mcopy mtools
    need mkfs.vfat dosfstools
    need sfdisk fdisk
    need modinfo kmod
    need cpio cpio
    need xz xz-utils
    need mkimage u-boot-tools
    need bmaptool bmap-tools
    need jq jq
    need curl curl ca-certificates
    need git git
}

# What boots a card in an emulator and deals with it from outside.
need_boot() {
    need minisign minisign
    need cpio cpio
    need qemu-system-aarch64 qemu-system-arm
    [ -e /usr/lib/u-boot/qemu_arm64/u-boot.bin ] || packages+=(u-boot-qemu)
    need mcopy mtools
    need fsck.vfat dosfstools
    need e2fsck e2fsprogs
    need xz xz-utils
    need ssh openssh-client
    # A DHCP client that anybody may have.
    need busybox busybox
    need nft nftables
    need ip iproute2
    need curl curl
    need unshare util-linux
}

# The tests and the demo build their networks in a user namespace, which some systems forbid.
need_namespaces() {
    unshare --user --map-root-user --net --mount true 2>/dev/null && return
    local remedy="boot a kernel with user namespaces"
    if [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ]; then
        remedy="run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    elif [ "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ]; then
        remedy="run: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    elif [ "$(cat /proc/sys/user/max_user_namespaces 2>/dev/null)" = 0 ]; then
        remedy="run: sudo sysctl -w user.max_user_namespaces=1000"
    fi
    echo "setup: this system forbids user namespaces, in which the networks are built; $remedy" >&2
    exit 2
}

# Debian's aarch64 standard library must have the compiler's own version; the two archives of a release
# are not always in step, so both are pinned to the newest version that both have.
pin_cross() {
    local i std compiler version=
    for i in "${!packages[@]}"; do
        case ${packages[$i]} in libstd-rust*:arm64) std=${packages[$i]} ;; esac
    done
    [ -n "${std:-}" ] || return 0
    compiler="rustc$(web)"
    version=$(comm -12 \
        <(apt-cache madison "$compiler" | awk '{print $3}' | sort -u) \
        <(apt-cache madison "$std" | awk '{print $3}' | sort -u) | sort -V | tail -n 1)
    [ -n "$version" ] || { echo "setup: no version of $compiler is there for both architectures" >&2; exit 2; }
    for i in "${!packages[@]}"; do
        case ${packages[$i]} in "$compiler" | "$std") packages[i]+="=$version" ;; esac
    done
    # The compiler brings its own standard library along, which must follow it.
    packages+=("libstd-rust$(web)-dev=$version")
}

install() {
    local foreign=
    case " ${packages[*]} " in *:arm64*) dpkg --print-foreign-architectures | grep -qx arm64 || foreign=yes ;; esac
    if [ "$(id -u)" != 0 ]; then
        local line="apt-get update && sudo apt-get install -y --no-remove ${packages[*]}"
        [ -z "$foreign" ] || line="dpkg --add-architecture arm64 && sudo $line"
        echo "setup: missing tools; run: sudo $line" >&2
        exit 2
    fi
    export DEBIAN_FRONTEND=noninteractive
    echo "setup: installing ${packages[*]}" >&2
    local log status=0
    log=$(mktemp)
    if [ -n "$foreign" ]; then
        dpkg --add-architecture arm64
        apt-get update >"$log" 2>&1 || status=$?
    elif ! apt-get install -s --no-remove "${packages[@]}" >/dev/null 2>&1; then
        apt-get update >"$log" 2>&1 || status=$?
    fi
    pin_cross
    [ $status != 0 ] || apt-get install -y --no-install-recommends --no-remove --allow-downgrades -o DPkg::Lock::Timeout=300 \
        "${packages[@]}" </dev/null >>"$log" 2>&1 || status=$?
    if [ $status != 0 ]; then
        tail -n 15 "$log" >&2
        echo "setup: apt-get failed (status $status); its last lines stand above" >&2
    fi
    rm -f "$log"
    [ $status = 0 ] || exit 2
}

case "${1:-}" in
    demo) need_rust; need_network ;;
    test) need_rust; need_network; need_mcu ;;
    check) need_rust; need_lints; need_mcu ;;
    bench) need_rust; need_network; need_mcu; need valgrind valgrind ;;
    build | fuzz) need_rust ;;
    mcu) need_rust; need_mcu ;;
    cross) need_rust; need_cross ;;
    image) need_rust; need_cross; need_image ;;
    boot) need_rust; need_boot ;;
    *) echo "usage: scripts/setup.sh build|demo|test|check|bench|fuzz|mcu|cross|image|boot" >&2; exit 2 ;;
esac
if [ "${#packages[@]}" -gt 0 ]; then
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    if ! have apt-get; then
        echo "setup: missing tools, and this is no Debian; install what these Debian packages hold: ${packages[*]}" >&2
        exit 2
    fi
    install
fi
case "$1" in demo | test | bench | boot) need_namespaces ;; esac
