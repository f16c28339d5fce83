#!/usr/bin/env bash
# Boots the built card in an emulator. The image is target/image/turnpike-arm64.img.xz, or the file that TURNPIKE_IMAGE names.
#
# scripts/boot.sh sale [raspi3b|virt] [MEMORY] [MINUTES]   one sale, and what a boot measures
# scripts/boot.sh faults [NAME]                            the tests of what a card has to survive
# scripts/boot.sh updates [NAME]                           the tests of updates
# scripts/boot.sh rollback                                 an update that never gets healthy, and how long that takes (7 minutes)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

image=${TURNPIKE_IMAGE:-target/image/turnpike-arm64.img.xz}
if [ ! -e "$image" ]; then
    echo "boot: there is no card image at $image: run \`make image\` (or set TURNPIKE_IMAGE)" >&2
    exit 2
fi
TURNPIKE_IMAGE=$(realpath "$image")
export TURNPIKE_IMAGE

tests() { # tests GLOB [NAME]: one at a time, because each emulator takes a core
    cargo build --quiet --package turnpike-firmware --bins
    cargo test --quiet --package turnpike-tests --test "$1" -- --ignored --test-threads=1 --nocapture ${2:+"$2"}
}

case ${1:-} in
    sale)
        cargo build --quiet --package turnpike-firmware --bins
        cargo build --quiet --package turnpike-tests --bin boot
        exec target/debug/boot "${2:-virt}" ${3:+--memory "$3"} ${4:+--idle "${4%m}"}
        ;;
    faults) tests 'card_fault*' "${2:-}" ;;
    updates) tests 'card_update*' "${2:-}" ;;
    rollback) tests card_rollback ;;
    *)
        sed -n '4,7s/^# //p' "$0" >&2
        exit 2
        ;;
esac
