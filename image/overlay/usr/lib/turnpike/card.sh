# Sourced: what all scripts of the card share.
facts=/run/turnpike/card

say() { echo "turnpike: $*" >/dev/console; }

problem() { # problem CODE TEXT: `turnpike status` shows it
    say "$2"
    mkdir -p /run/turnpike/problems
    echo "$2" >"/run/turnpike/problems/$1"
}

fact() { # fact NAME: what the initramfs found out
    cat "$facts/$1" 2>/dev/null
}

# Runs a command while the boot partition is writable. Nothing else may write there.
with_boot_writable() {
    (
        flock 9
        mount -o remount,rw /boot || exit 1
        "$@"
        status=$?
        sync -f /boot 2>/dev/null || sync
        mount -o remount,ro /boot
        exit $status
    ) 9>/run/turnpike/boot.lock
}

write_ledger() { # write_ledger SHORT UNHEALTHY: with layout.sh and ledger.sh
    ledger_read /dev/turnpike/disk || return
    [ "$short $unhealthy" = "$1 $2" ] && return
    generation=$((generation + 1)) short=$1 unhealthy=$2
    ledger_write /dev/turnpike/disk
}
