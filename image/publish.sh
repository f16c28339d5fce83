# Sourced: what a person downloads.

publish() {
    local card=$work/turnpike-arm64.img
    xz -T0 --block-size=64MiB -9 --keep --force --stdout "$card" >"$out/turnpike-arm64.img.xz"
}
