#!/usr/bin/env bash
# What must hold before a change lands. scripts/check.sh [stage…] runs some of the stages, without names all.
set -euo pipefail
cd "$(dirname "$0")/.."

# Longest .rs file, not counting the tests at its end; the longest file of any kind, Cargo.lock apart.
max_rust_lines=600
max_file_bytes=$((512 * 1024))

# The firmware for the microcontroller and the fuzz targets are workspaces of their own.
mcu=protocol/mcu/Cargo.toml
fuzz=protocol/fuzz/Cargo.toml

fmt() {
    cargo fmt --all -- --check -l
    cargo fmt --manifest-path $mcu --all -- --check -l
    cargo fmt --manifest-path $fuzz --all -- --check -l
}

lint() {
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --manifest-path $mcu --target-dir target/mcu -p turnpike-mcu-log -- -D warnings
    cargo clippy --locked --manifest-path $fuzz --target-dir target/fuzz --all-targets -- -D warnings
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
}

deny() {
    local deny=cargo-deny
    if ! command -v cargo-deny >/dev/null 2>&1; then
        deny=target/tools/bin/cargo-deny
        if [ ! -x "$deny" ]; then
            echo "check: building cargo-deny into target/tools (once, about a minute)"
            # Unoptimised: it builds in half the time and needs a second for its work.
            CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --debug --locked --quiet --root target/tools --target-dir target/tools/build
            rm -rf target/tools/build
        fi
    fi
    local manifest
    for manifest in Cargo.toml $mcu $fuzz; do
        "$deny" --log-level warn --manifest-path $manifest --config deny.toml check bans licenses sources
    done
    if timeout 120 "$deny" --log-level error fetch db >/dev/null 2>&1; then
        for manifest in Cargo.toml $mcu $fuzz; do
            "$deny" --log-level warn --manifest-path $manifest --config deny.toml check advisories
        done
    else
        echo "check: NOT CHECKED: advisories, because the advisory database cannot be reached from here"
    fi
}

# The protocol for a target that has no std at all; warnings are errors there too.
no_std() {
    scripts/mcu.sh build
}

files() {
    local bad=0 file lines bytes
    while IFS= read -r -d '' file; do
        [ -f "$file" ] || continue
        bytes=$(wc -c <"$file")
        if [ "$file" != Cargo.lock ] && [ "$bytes" -gt "$max_file_bytes" ]; then
            echo "check: $file has $bytes bytes, more than $max_file_bytes" >&2
            bad=1
        fi
        case $file in
            */tests.rs | */tests/*.rs) continue ;;
            *.rs) ;;
            *) continue ;;
        esac
        lines=$(awk '/^#\[cfg\(test\)\]/ { getline following; if (following ~ /^mod .*{/) exit; n++ } { n++ } END { print n + 0 }' "$file")
        if [ "$lines" -gt "$max_rust_lines" ]; then
            echo "check: $file has $lines lines without its tests, more than $max_rust_lines: split it by idea" >&2
            bad=1
        fi
    done < <(git ls-files -z --cached --others --exclude-standard)
    # git counts no lines of a file that it takes for a binary.
    local binaries
    binaries=$(git diff --numstat "$(git hash-object -t tree /dev/null)" | awk -F '\t' '$1 == "-" { print $3 }')
    if [ -n "$binaries" ]; then
        printf 'check: built or binary file in the repository: %s\n' $binaries >&2
        bad=1
    fi
    return $bad
}

# Paths of one machine and hosts of package registries have no place in the repository. Each pattern is
# written so that it does not find itself.
words() {
    local bad=0 pattern
    for pattern in '/(wor[k]|far[m])/' '/(hom[e]|User[s])/[a-z]' '/roo[t]/[.a-z]' '/tm[p]/[A-Za-z]' \
        '(index|static)\.crate[s]\.io' 'registr[y]\.npmjs' 'pyp[i]\.(org|python)' 'static\.rust-lan[g]'; do
        if git grep -nIE --untracked -e "$pattern" -- . ':!LICENSE-*' >&2; then
            echo "check: the lines above hold what must not occur: $pattern" >&2
            bad=1
        fi
    done
    return $bad
}

# Every test that the page of the rules of money names is there.
rules() {
    local bad=0 name
    for name in $(grep -oE '`(rule_[0-9]+_\*|[a-z0-9_]{30,})`' protocol/spec/money.md | tr -d '`*'); do
        if ! git grep -qE --untracked "fn $name[a-z0-9_]*\(\)" -- '*.rs'; then
            echo "check: protocol/spec/money.md names a test $name, which is not there" >&2
            bad=1
        fi
    done
    return $bad
}

stages=("$@")
[ "${#stages[@]}" -gt 0 ] || stages=(files words rules fmt lint docs deny no_std)
failed=()
for stage in "${stages[@]}"; do
    case $stage in
        files | words | rules | fmt | lint | docs | deny | no_std) ;;
        *) echo "check: no stage $stage; there are files words rules fmt lint docs deny no_std" >&2; exit 2 ;;
    esac
    start=$SECONDS
    status=0
    # In a subshell of its own, because `set -e` is void inside a condition.
    set +e
    (set -e; "$stage")
    status=$?
    set -e
    if [ $status = 0 ]; then
        echo "check: $stage ok ($((SECONDS - start)) s)"
    else
        echo "check: $stage FAILED ($((SECONDS - start)) s)" >&2
        failed+=("$stage")
    fi
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "check: FAILED: ${failed[*]}" >&2
    exit 1
fi
echo "check: ok"
