#!/bin/sh
# Prints the path of a bitcoind that can be run; tests that judge transactions by a real node need one.
#
#   scripts/bitcoind.sh              print the path, fetching bitcoind first if there is none
#   scripts/bitcoind.sh --check      print the path, or exit 1 if there is none; never fetches
#
# Order: $TURNPIKE_BITCOIND, `bitcoind` on PATH, target/tools/bitcoin/bitcoind. The last is unpacked from Debian's
# testing suite (package bitcoin-knots) with mmdebstrap, using the archive that this system's apt is set up for; it
# brings its own C library and touches nothing outside target/. Exit 2: something is missing, the message says what.
set -eu

suite=forky
root=$(cd "$(dirname "$0")/.." && pwd)
tools=${CARGO_TARGET_DIR:-$root/target}/tools/bitcoin

say() { printf '%s\n' "$*" >&2; }

if [ -n "${TURNPIKE_BITCOIND:-}" ]; then
    [ -x "$TURNPIKE_BITCOIND" ] || { say "TURNPIKE_BITCOIND=$TURNPIKE_BITCOIND is not an executable file."; exit 2; }
    printf '%s\n' "$TURNPIKE_BITCOIND"
    exit 0
fi
if command -v bitcoind >/dev/null 2>&1; then
    command -v bitcoind
    exit 0
fi
if [ -x "$tools/bitcoind" ]; then
    printf '%s\n' "$tools/bitcoind"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    say "No bitcoind: set TURNPIKE_BITCOIND, put one on PATH, or run scripts/bitcoind.sh."
    exit 1
fi

if ! command -v apt-get >/dev/null 2>&1 || ! grep -Eq '^ID="?debian"?$' /etc/os-release 2>/dev/null; then
    say "No bitcoind on PATH, and this script can fetch one on Debian only. Install Bitcoin Core (version 26 or newer)"
    say "and put bitcoind on PATH, or set TURNPIKE_BITCOIND to it."
    exit 2
fi
if ! command -v mmdebstrap >/dev/null 2>&1; then
    if [ "$(id -u)" != 0 ]; then
        say "mmdebstrap is missing. Run this once, then this script again: sudo apt-get install -y mmdebstrap"
        exit 2
    fi
    say "Installing mmdebstrap ..."
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap; } >&2
fi

# The first archive that apt knows for a Debian suite other than security: the same one carries $suite.
archive=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 == "main" && $1 ~ /\/debian\/?$/ { print $1; exit }')
if [ -z "$archive" ]; then
    say "apt has no Debian archive configured (no URI that ends in /debian with the component main), so bitcoind cannot"
    say "be fetched. Put a bitcoind on PATH, or set TURNPIKE_BITCOIND to one."
    exit 2
fi

# Unpacked beside its place and moved there whole, so that an interrupted run leaves nothing that looks finished.
mkdir -p "$tools"
new=$tools/root.$$
trap 'rm -rf "$new" "$tools/bitcoind.$$"' EXIT INT TERM
say "Unpacking bitcoin-knots from $archive $suite into $tools ..."
mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include=bitcoin-knots \
    "$suite" "$new" "deb $archive $suite main" >&2
rm -rf "$new/usr/share/doc" "$new/usr/share/man" "$new/usr/share/locale" "$tools/root"
mv "$new" "$tools/root"

# Its own dynamic loader and libraries, since the system's may be older.
cat >"$tools/bitcoind.$$" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libs=$(echo "$root"/usr/lib/*-linux-gnu*)
for loader in "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.* "$libs"/ld-linux-*.so.*; do
    [ -e "$loader" ] && exec "$loader" --library-path "$libs" "$root/usr/bin/bitcoind" "$@"
done
echo "No dynamic loader under $root: delete that folder and run scripts/bitcoind.sh again." >&2
exit 2
WRAPPER
chmod +x "$tools/bitcoind.$$"
"$tools/bitcoind.$$" --version >/dev/null || { say "The unpacked bitcoind does not run here."; exit 2; }
mv "$tools/bitcoind.$$" "$tools/bitcoind"
printf '%s\n' "$tools/bitcoind"
