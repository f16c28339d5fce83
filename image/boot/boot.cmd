# What U-Boot runs on each start: picks a slot and starts its kernel. The rules, and why: protocol/spec/card.md.
# Variables that begin with trial_ live in trial.env; nothing else is kept.

setenv part ${devnum}:${distro_bootpart}
if test -z "${distro_bootpart}"; then setenv part ${devnum}:1; fi

# Addresses as offsets from the start of RAM: kernel at 2 MiB, unpacked at 64 MiB and moved back there, device tree at 120 MiB,
# initramfs at 128 MiB. The kernel takes 52 MiB, and 512 MiB is the least that a board has.
if test "${board}" = "qemu-arm"; then
    setenv kernel_addr_r 0x40200000; setenv kernel_comp_addr_r 0x44000000; setenv copy_addr 0x47800000; setenv ramdisk_addr_r 0x48000000
    setenv console console=ttyAMA0
else
    setenv kernel_addr_r 0x00200000; setenv kernel_comp_addr_r 0x04000000; setenv copy_addr 0x07800000; setenv ramdisk_addr_r 0x08000000
    setenv console console=tty0 console=ttyS1,115200
fi
setenv kernel_comp_size 0x3400000
setenv scratch ${ramdisk_addr_r}

setenv good a
setenv other b
if test -e ${devtype} ${part} b/good; then setenv good b; setenv other a; fi
if test -e ${devtype} ${part} ${good}/bad; then
    if test -e ${devtype} ${part} ${other}/good; then
        if test -e ${devtype} ${part} ${other}/bad; then true; else setenv swap ${good}; setenv good ${other}; setenv other ${swap}; fi
    fi
fi

setenv chosen ${good}
setenv spare ${other}
setenv trial_slot
setenv trial_left
setenv notes
if load ${devtype} ${part} ${scratch} trial.env 0x400; then
    if env import -c ${scratch} 0x400 trial_slot trial_left; then
        setenv next
        if test "${trial_left}" = 3; then setenv next 2; fi
        if test "${trial_left}" = 2; then setenv next 1; fi
        if test "${trial_left}" = 1; then setenv next 0; fi
        if test "${trial_left}" = 0; then setenv notes turnpike.failed=${trial_slot}; fi
        if test -n "${next}"; then
            setenv trial_left ${next}
            mw.b ${scratch} 0 0x400
            # Not counted is not tried: a slot that cannot be given up on is never started.
            if env export -c -s 0x400 ${scratch} trial_slot trial_left; then
                if fatwrite ${devtype} ${part} ${scratch} trial.env 0x400; then
                    setenv chosen ${trial_slot}
                    setenv spare ${good}
                    setenv notes turnpike.trial=${trial_left}
                fi
            fi
        fi
    fi
fi

for slot in ${chosen} ${spare}; do
    echo "Turnpike: slot ${slot} ${notes}"
    setenv root_hash
    if load ${devtype} ${part} ${scratch} ${slot}/slot.env; then
        env import -t ${scratch} ${filesize} root_hash root_salt root_data_blocks version
        if load ${devtype} ${part} ${kernel_addr_r} ${slot}/kernel; then
            setenv kernel_comp_size ${filesize}
            if load ${devtype} ${part} ${ramdisk_addr_r} ${slot}/initrd.img; then
                setenv initrd ${ramdisk_addr_r}:${filesize}
                setenv bootargs "${console} panic=5 loglevel=4 turnpike.slot=${slot} turnpike.root=${root_hash},${root_salt},${root_data_blocks} ${notes}"
                # U-Boot's own copy of what the Pi's firmware made; the original may lie where the kernel is now.
                fdt addr ${fdtcontroladdr}
                fdt move ${fdtcontroladdr} ${copy_addr} 0x100000
                booti ${kernel_addr_r} ${initrd} ${copy_addr}
            fi
        fi
    fi
    setenv notes "${notes} turnpike.unbootable=${slot}"
done
echo "Turnpike: no slot has a kernel that can be loaded; flash the card again (the data partition need not be lost: see image/README.md)"
sleep 10
reset
