# Sourced: where Debian's packages are taken from.

# $DEBIAN_MIRROR, or the first archive that this system's apt uses. A mirror of snapshots keeps versions that others drop.
debian_mirror() {
    local mirror=${DEBIAN_MIRROR:-}
    if [ -z "$mirror" ] && command -v apt-get >/dev/null 2>&1; then
        mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
            awk '$2 == "main" && $1 ~ /\/debian\/?$/ { print $1; exit }')
    fi
    if [ -z "$mirror" ]; then
        echo "image: no Debian archive is configured here; set DEBIAN_MIRROR to the address of one (it ends in /debian)" >&2
        return 2
    fi
    echo "${mirror%/}"
}
