# Sourced: the initramfs, initrd.img: static busybox, dmsetup, and the modules that lead to the root.

build_initramfs() {
    local to=$work/initramfs files modules applet
    mkdir -p "$to"/{usr/bin,usr/sbin,usr/lib,dev,proc,sys,run,root,boot}
    ln -s usr/bin usr/sbin usr/lib "$to/"
    read -r -d '' -a files < <(section image/files.txt initramfs && printf '\0')
    stage_files "$to" "${files[@]}"
    stage_files "$to" usr/lib/ld-linux-aarch64.so.1
    read -r -d '' -a modules < <(section image/modules.txt initramfs && printf '\0')
    stage_modules "$to" "${modules[@]}"
    for applet in $(qemu-aarch64-static "$pool/usr/bin/busybox" --list); do
        [ -e "$to/usr/bin/$applet" ] || ln -s busybox "$to/usr/bin/$applet"
    done
    install -m 755 image/initramfs/init "$to/init"
    install -m 644 image/layout.sh image/initramfs/*.sh "$to/usr/lib/"
    settle "$to"
    (cd "$to" && find . -mindepth 1 | sort | cpio --quiet --reproducible --create --format=newc --owner=0:0) |
        xz --check=crc32 -9e >"$work/initrd.img"
    # What U-Boot unpacks, and knows by the first two bytes that the default parameters give: gzip would be 5 MB more to load and to update, LZMA takes it some seconds more (protocol/spec/decisions/0009).
    xz --format=lzma -9e --stdout "$pool"/usr/lib/modules/*/vmlinuz >"$work/kernel"
}
