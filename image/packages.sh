# Sourced: packages by their lock, and which files of them are taken.

locked() { grep -v '^#' image/packages.lock; }

# Every package of the lock in $cache, with the SHA-256 that the lock says. What is there already is not fetched again.
fetch_packages() {
    mkdir -p "$cache"
    local mirror missing=()
    local package version sum size path
    while read -r package version sum size path; do
        echo "$sum  $cache/$sum.deb" | sha256sum --check --status 2>/dev/null || missing+=("$package $version $sum $path")
    done < <(locked)
    [ ${#missing[@]} -gt 0 ] || return 0
    mirror=$(debian_mirror)
    printf '%s\n' "${missing[@]}" | xargs -P 4 -d '\n' -n 1 bash -c '
        read -r package version sum path <<<"$2"
        if ! curl -sSfL --retry 3 --connect-timeout 20 -o "$0/$sum.part" "$1/$path"; then
            echo "image: $package $version is not at $1/$path" >&2
            exit 1
        fi
        if ! echo "$sum  $0/$sum.part" | sha256sum --check --status; then
            echo "image: $package $version has another SHA-256 than image/packages.lock says; nothing was built" >&2
            exit 1
        fi
        mv "$0/$sum.part" "$0/$sum.deb"' "$cache" "$mirror" || {
        echo "image: an archive keeps no old versions for long. Set DEBIAN_MIRROR to one that does (Debian's snapshots), or take" \
            "today's versions: scripts/image_lock.sh" >&2
        exit 2
    }
}

unpack_packages() {
    local package version sum size path
    while read -r package version sum size path; do
        dpkg-deb --fsys-tarfile "$cache/$sum.deb" | tar -x -C "$pool" --no-same-owner --exclude=./usr/share/doc/\*/changelog\*
        # Which file is of which package: for the list of what is inside.
        dpkg-deb --fsys-tarfile "$cache/$sum.deb" | tar -t | sed -n "s|^\./\(.*[^/]\)\$|$package \1|p" >>"$work/owners"
    done < <(locked)
}

# The lines of one [section] of a list, without comments.
section() { # section FILE NAME
    awk -v wanted="[$2]" '{ sub(/#.*/, "") } /^\[/ { on = ($0 == wanted); next } on && NF' "$1"
}
