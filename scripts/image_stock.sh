#!/usr/bin/env bash
# Makes what the card's start is compared with: a minimal stock Debian for arm64 with systemd, into target/image/stock.
#
# Packages are unpacked here and configured inside the emulator, by their own scripts on the kernel that they are for. That
# takes a quarter of an hour, once. Needs a built image (its initramfs starts the second part).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
. image/mirror.sh

to=$PWD/target/image/stock
pool=$PWD/target/image/stage/pool
[ -d "$pool" ] || { echo "image-stock: build the card first: make image" >&2; exit 2; }
[ ! -e "$to/done" ] || exit 0
command -v debootstrap >/dev/null || { echo "image-stock: debootstrap is missing; run: sudo apt-get install -y debootstrap" >&2; exit 2; }
rm -rf "$to"
mkdir -p "$to/boot"
mirror=$(debian_mirror)

echo "image-stock: fetching and unpacking"
# The cleaner would ask for a mount; the second part has it.
debootstrap --foreign --arch=arm64 --variant=minbase \
    --include=systemd-sysv,udev,dbus,kmod,netbase,ifupdown,openssh-server,linux-image-arm64,initramfs-tools,zstd,e2fsprogs \
    trixie "$to/tree" "$mirror" >"$to/log" 2>&1 || { tail -n 5 "$to/log" >&2; exit 2; }

echo "image-stock: configuring in the emulator (ten minutes or more)"
cat >"$to/tree/configure" <<'SCRIPT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive HOME=/ LC_ALL=C
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -o remount,rw /
/debootstrap/debootstrap --second-stage >/second-stage.log 2>&1 && echo "CONFIGURED" || { tail -n 30 /second-stage.log; echo "NOT CONFIGURED"; }
echo stock >/etc/hostname
printf '/dev/root / ext4 rw 0 1\n' >/etc/fstab
rm -rf /configure /second-stage.log /debootstrap /var/cache/apt/archives/*.deb
sync; mount -o remount,ro /
echo o >/proc/sysrq-trigger; sleep 60
SCRIPT
chmod 755 "$to/tree/configure"
truncate -s 2G "$to/stock.img"
/usr/sbin/mke2fs -q -F -t ext4 -L stock -d "$to/tree" "$to/stock.img"
# debootstrap leaves most packages packed for the second part.
dpkg-deb -x "$(compgen -G "$to/tree/var/cache/apt/archives/linux-image-[0-9]*_arm64.deb")" "$to/kernel"
kernel=$(echo "$to"/kernel/boot/vmlinuz-*)
cp "$kernel" "$to/boot/vmlinuz"
# The first start has no initramfs of its own yet: busybox and the modules for an emulated disk.
release=${kernel#*vmlinuz-}
mkdir -p "$to/first/modules" "$to/first/bin" "$to/first/mnt" "$to/first/dev"
cp "$pool/usr/bin/busybox" "$to/first/bin/"
for module in virtio_blk crc32c_generic mbcache jbd2 crc16 ext4; do
    file=$(find "$to/kernel/usr/lib/modules/$release" -name "$module.ko.xz")
    [ -z "$file" ] || xz -dc "$file" >"$to/first/modules/$module.ko"
done
cat >"$to/first/init" <<'SCRIPT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in virtio_blk crc32c_generic crc16 mbcache jbd2 ext4; do [ ! -e /modules/$module.ko ] || /bin/busybox insmod /modules/$module.ko; done
tries=0
until [ -b /dev/vda ] || [ $tries = 100 ]; do tries=$((tries + 1)); /bin/busybox sleep 0.2; done
/bin/busybox mount -t ext4 /dev/vda /mnt
/bin/busybox mount -o move /dev /mnt/dev
exec /bin/busybox switch_root /mnt /configure
SCRIPT
chmod 755 "$to/first/init"
(cd "$to/first" && find . | cpio --quiet -o -H newc) | gzip >"$to/first.img"
timeout 2400 qemu-system-aarch64 -M virt -cpu max -smp 2 -m 2G -accel tcg,thread=multi -kernel "$to/boot/vmlinuz" -initrd "$to/first.img" \
    -append "console=ttyAMA0 panic=1 loglevel=3" -drive "file=$to/stock.img,if=virtio,format=raw" -display none -serial "file:$to/configure.log" -no-reboot </dev/null
grep -aq "^CONFIGURED" "$to/configure.log" || { tail -n 20 "$to/configure.log" >&2; echo "image-stock: Debian's packages were not configured; the log is $to/configure.log" >&2; exit 2; }
initrd=$(/usr/sbin/debugfs -R "ls -p /boot" "$to/stock.img" 2>/dev/null | tr '/' '\n' | grep '^initrd' | head -n 1)
/usr/sbin/debugfs -R "dump /boot/$initrd $to/boot/initrd.img" "$to/stock.img" 2>/dev/null
[ -s "$to/boot/initrd.img" ] || { echo "image-stock: there is no initramfs in the stock system" >&2; exit 2; }
rm -rf "$to/tree" "$to/first" "$to/kernel"
touch "$to/done"
echo "image-stock: ok, in $to"
