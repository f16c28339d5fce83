#!/usr/bin/env bash
# Resolves image/packages.txt into image/packages.lock: for each package the newest version of its suite, with its
# SHA-256 from the archive's signed index. The archive is the one that this system's apt uses, or $DEBIAN_MIRROR.
set -euo pipefail
cd "$(dirname "$0")/.."
. image/mirror.sh

mirror=$(debian_mirror)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
work=target/image/index
rm -rf "$work"
mkdir -p "$work"/{lists/partial,cache/archives/partial,etc,dpkg}
: >"$work/dpkg/status"
listed() { sed -e 's/#.*//' -e '/^ *$/d' image/packages.txt; }
listed | awk '{ seen[$1] = seen[$1] " " $2 } END { for (suite in seen) print suite, seen[suite] }' |
    while read -r suite components; do
        components=$(tr ' ' '\n' <<<"$components" | sort -u | tr '\n' ' ')
        echo "deb [arch=arm64 signed-by=$keyring] $mirror $suite $components"
    done >"$work/etc/sources.list"
apt=(-o "Dir::State=$PWD/$work" -o "Dir::State::status=$PWD/$work/dpkg/status" -o "Dir::Cache=$PWD/$work/cache"
    -o "Dir::Etc::SourceList=$PWD/$work/etc/sources.list" -o Dir::Etc::SourceParts=- -o Dir::Etc::Preferences=-
    -o Dir::Etc::PreferencesParts=- -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
apt-get "${apt[@]}" update >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; echo "image-lock: the index could not be read" >&2; exit 2; }

{
    echo "# Made by scripts/image_lock.sh out of packages.txt: package, version, SHA-256, bytes, path in the archive."
    listed | while read -r suite component package; do
        apt-cache "${apt[@]}" show --no-all-versions -o APT::Default-Release="$suite" "$package" 2>/dev/null |
            awk -v package="$package" '
                /^Version: / { version = $2 } /^SHA256: / { sum = $2 } /^Size: / { size = $2 } /^Filename: / { path = $2 }
                /^$/ { exit }
                END { if (path == "") exit 1; print package, version, sum, size, path }' ||
            { echo "image-lock: $package is not in $suite $component" >&2; exit 1; }
    done
} >"$work/packages.lock"
if cmp -s "$work/packages.lock" image/packages.lock; then
    echo "image-lock: nothing newer"
else
    diff <(cut -d' ' -f1-2 image/packages.lock 2>/dev/null) <(cut -d' ' -f1-2 "$work/packages.lock") | grep '^[<>]' || true
    mv "$work/packages.lock" image/packages.lock
    echo "image-lock: wrote image/packages.lock; build and boot it (make image boot), then commit it"
fi
