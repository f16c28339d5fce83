#!/usr/bin/env bash
# Builds the card: target/image/turnpike-arm64.img.xz, the update bundle, and what belongs beside them.
#
# Files are taken out of pinned Debian packages (image/packages.lock) and of our own cross build; nothing is installed,
# nothing runs as root, and the same commit gives the same bytes. Steps are in image/, in the order of this file.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C TZ=UTC
umask 022
. image/layout.sh
. image/mirror.sh
. image/packages.sh
. image/stage.sh
. image/root.sh
. image/initramfs.sh
. image/card.sh
. image/publish.sh

began=$SECONDS
out=$PWD/target/image
work=$out/stage
cache=${TURNPIKE_PACKAGES:-$out/packages}
pool=$work/pool
# The commit's moment stands for every time stamp, and for the version, which only rises.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$SOURCE_DATE_EPOCH
name=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

say() { echo "image: $*"; }

scripts/cross.sh card
program=$PWD/target/cross/aarch64-unknown-linux-gnu/card/turnpike
say "packages"
fetch_packages
chmod -R u+w "$work" 2>/dev/null || true
rm -rf "$work"
mkdir -p "$pool"
unpack_packages
say "root"
build_root
build_initramfs
say "card"
build_card
say "publishing"
publish
say "ok in $((SECONDS - began)) s: $out/turnpike-arm64.img.xz, $(stat -c %s "$out/turnpike-arm64.img.xz") bytes"
