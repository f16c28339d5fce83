# Sourced: copying programs with what they link to, and kernel modules with what they depend on, out of the pool.

# Copies files (globs, relative to the pool) into a folder, and every library that they need.
stage_files() { # stage_files FOLDER GLOB...
    local to=$1 glob file
    shift
    for glob in "$@"; do
        local found=
        while IFS= read -r file; do
            found=yes
            stage_file "$to" "$file"
        done < <(cd "$pool" && compgen -G "$glob")
        [ -n "$found" ] || { echo "image: no package has $glob" >&2; exit 1; }
    done
}

stage_file() { # stage_file FOLDER FILE
    local to=$1 file=$2 library
    [ ! -e "$to/$file" ] && [ ! -L "$to/$file" ] || return 0
    mkdir -p "$to/$(dirname "$file")"
    cp -a "$pool/$file" "$to/$file"
    if [ -L "$pool/$file" ]; then
        stage_file "$to" "$(cd "$pool" && realpath --relative-to=. "$(dirname "$file")/$(readlink "$file")")"
    elif [ -d "$pool/$file" ]; then
        return 0
    elif head -c 4 "$pool/$file" | grep -q ELF; then
        while read -r library; do
            [ -e "$pool/usr/lib/aarch64-linux-gnu/$library" ] ||
                { echo "image: $file needs $library, which no package in image/packages.txt has" >&2; exit 1; }
            stage_file "$to" "usr/lib/aarch64-linux-gnu/$library"
        done < <(aarch64-linux-gnu-readelf -d "$pool/$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    fi
}

# Copies modules and what they depend on, unpacked, and makes their index.
stage_modules() { # stage_modules FOLDER NAME...
    local to=$1 module release
    shift
    release=$(cd "$pool/usr/lib/modules" && echo *)
    local from=$pool/usr/lib/modules/$release into=$to/usr/lib/modules/$release
    if [ ! -f "$work/modules" ]; then
        # name path, by the names that modules use among themselves
        (cd "$from" && find kernel -name '*.ko.xz' -printf '%f %p\n') | sed 's/\.ko\.xz / /' | awk '{ gsub(/-/, "_", $1); print }' >"$work/modules"
    fi
    mkdir -p "$into"
    cp "$from"/modules.{order,builtin,builtin.modinfo} "$into/"
    for module in "$@"; do
        stage_module "${module//-/_}"
    done
    depmod --basedir "$to" "$release"
    # Busybox reads the texts.
    rm "$into"/modules.*.bin "$into"/modules.{order,builtin.modinfo,devname}
}

stage_module() { # stage_module NAME; sees $from and $into of stage_modules
    local path need
    path=$(awk -v name="$1" '$1 == name { print $2 }' "$work/modules")
    if [ -z "$path" ]; then
        tr - _ <"$from/modules.builtin" | grep -q "/$1.ko\$" && return 0
        echo "image: the kernel has no module $1" >&2
        exit 1
    fi
    [ ! -e "$into/${path%.xz}" ] || return 0
    mkdir -p "$into/$(dirname "$path")"
    # Types for BPF programs, of which there are none here, are a quarter of a module.
    xz -dc "$from/$path" >"$work/module.ko"
    aarch64-linux-gnu-objcopy --remove-section=.BTF --remove-section=.BTF.base "$work/module.ko" "$into/${path%.xz}"
    for need in $(modinfo -F depends "$into/${path%.xz}" | tr ',' ' '); do
        stage_module "${need//-/_}"
    done
    for need in $(modinfo -F softdep "$into/${path%.xz}" | sed 's/pre:\|post://g'); do
        # A wish, not a need: not every kernel has it.
        if grep -q "^${need//-/_} " "$work/modules"; then stage_module "${need//-/_}"; fi
    done
}

# Every file with the same time, so that the archive of a folder is the same bytes each time.
settle() { # settle FOLDER
    chmod -R u+rwX,go+rX,go-w "$1"
    find "$1" -print0 | xargs -0 touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
}
