# Sourced by the other scripts: finds a Rust that can build for TARGET.
#
#   rust_for TARGET   sets rust_env (variables for `env`) and rust_flags (arguments for cargo); fails where
#                     there is none. Order: rustup's own target; rustup's library sources, built along;
#                     Debian's rustc with its cross library or its library sources.

rust_env=()
rust_flags=()

rust_for() {
    local target=$1 compiler root
    rust_env=()
    rust_flags=(--target "$target")
    for compiler in rustc /usr/bin/rustc; do
        command -v "$compiler" >/dev/null 2>&1 || continue
        root=$("$compiler" --print sysroot 2>/dev/null) || continue
        [ "$compiler" = rustc ] || rust_env=(RUSTC="$compiler")
        if compgen -G "$root/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null; then
            return 0
        fi
        # Without a finished library only core and alloc can be built along, so only for bare metal.
        case $target in *-none-*) ;; *) continue ;; esac
        if [ -e "$root/lib/rustlib/src/rust/library/core/Cargo.toml" ]; then
            rust_env+=(RUSTC_BOOTSTRAP=1)
            rust_flags+=(-Zbuild-std=core,alloc)
            return 0
        fi
    done
    rust_env=()
    rust_flags=()
    return 1
}
