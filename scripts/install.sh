#!/usr/bin/env bash
# Installs what `make build` made: programs, the systemd unit, completions for bash, zsh and fish.
#
#   [PREFIX=/usr/local] [DESTDIR=] [BUILD=target/release] scripts/install.sh
#
# DESTDIR is put before every path, for packagers. Nothing is started, and no configuration is touched.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}$prefix
build=${BUILD:-${CARGO_TARGET_DIR:-target}/release}

programs=(turnpike turnpiked turnpike-playchain)
for program in "${programs[@]}"; do
    [ -x "$build/$program" ] || { echo "install: $build/$program is not there; run make build first" >&2; exit 2; }
done
case $prefix in /*) ;; *) echo "install: PREFIX=$prefix is no path from the root" >&2; exit 2 ;; esac
folder=$root
while [ ! -e "$folder" ]; do folder=$(dirname "$folder"); done
[ -w "$folder" ] || { echo "install: no permission to write in $folder; run sudo make install, or set PREFIX" >&2; exit 2; }

for program in "${programs[@]}"; do
    install -D -m 755 "$build/$program" "$root/bin/$program"
done
unit=$root/lib/systemd/system/turnpiked.service
install -d "${unit%/*}"
sed "s|^ExecStart=/usr/local/|ExecStart=$prefix/|" firmware/systemd/turnpiked.service >"$unit"
chmod 644 "$unit"
complete() { # complete SHELL FILE
    install -d "$(dirname "$root/share/$2")"
    "$build/turnpike" completions "$1" >"$root/share/$2"
    chmod 644 "$root/share/$2"
}
complete bash bash-completion/completions/turnpike
complete zsh zsh/site-functions/_turnpike
complete fish fish/vendor_completions.d/turnpike.fish

echo "install: ${programs[*]} in $root/bin, turnpiked.service in ${unit%/*}, completions in $root/share"
if [ -z "${DESTDIR:-}" ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
