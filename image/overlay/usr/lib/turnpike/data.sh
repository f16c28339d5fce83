# Sourced: the data partition. It is made once, on a card that says it is fresh, and never again.
. /usr/lib/turnpike/layout.sh
. /usr/lib/turnpike/ledger.sh

options=nosuid,nodev,noatime,commit=30,errors=remount-ro

open_data() {
    modprobe -q ext4
    if [ "$(fact fresh)" = 1 ]; then
        # The older of the two records says so still when the newer one got lost. What a node has lived in is never made anew.
        if mount_data && [ -e /data/generation ]; then
            say "the data partition was in use before; it is kept"
            no_longer_fresh
            check_generation
            keep_room
            return
        fi
        umount /data 2>/dev/null
        make_data
        return
    fi
    if mount_data; then
        check_generation
        keep_room
        return
    fi
    # Repairs without asking are those that lose nothing.
    /usr/sbin/e2fsck -p /dev/turnpike/data >/run/log/e2fsck 2>&1
    if mount_data; then
        say "the data partition was repaired"
        check_generation
        keep_room
        return
    fi
    mount -t tmpfs -o nosuid,nodev,size=25% data /data
    touch $facts/no-data
    problem data-unreadable "The data partition cannot be read, so this node sells and buys nothing. Nothing on it was changed: take the card to another computer, or restore a backup onto a new card."
    lay_out_data
}

mount_data() {
    mount -t ext4 -o $options /dev/turnpike/data /data 2>/run/log/mount
}

# The file system of a fresh card. A cut anywhere here leaves the card fresh, and the next boot does it again.
make_data() {
    say "first start: making the data partition"
    /usr/sbin/mke2fs -q -F -t ext4 -L data -m 0 -E lazy_itable_init=1,lazy_journal_init=0,nodiscard /dev/turnpike/data >/run/log/mke2fs 2>&1
    if ! mount_data; then
        mount -t tmpfs -o nosuid,nodev,size=25% data /data
        touch $facts/no-data
        problem data-unreadable "The data partition could not be made, so this node sells and buys nothing: the card is too small or failing. Try another card."
        say "$(tail -n 3 /run/log/mke2fs) $(cat /run/log/mount)"
        lay_out_data
        return
    fi
    lay_out_data
    fact generation >/data/generation
    keep_room
    sync
    no_longer_fresh
    echo "$generation" >/data/generation
}

# In both records, one after the other; and never behind what the data partition has seen.
no_longer_fresh() {
    local seen
    seen=$(cat /data/generation 2>/dev/null)
    case $seen in '' | *[!0-9]*) seen=0 ;; esac
    generation=$(fact generation) fresh=0 short=$(fact short) unhealthy=$(fact unhealthy)
    [ "$seen" -le "$generation" ] || generation=$seen
    for record in 1 2; do
        generation=$((generation + 1))
        ledger_write /dev/turnpike/disk
    done
    echo "$generation" >$facts/generation
    echo 0 >$facts/fresh
}

lay_out_data() {
    mkdir -p -m 700 /data/settings /data/ssh /data/crash /data/turnpike
    chown turnpike:turnpike /data/turnpike
}

# The ledger counts first. A data partition that knows a later boot means that the card forgot what it was told.
check_generation() {
    lay_out_data
    local seen
    seen=$(cat /data/generation 2>/dev/null)
    case $seen in '' | *[!0-9]*) seen=0 ;; esac
    if [ "$seen" -gt "$(fact generation)" ]; then
        problem card-drops-writes "This card forgot boots that it had counted (it remembers $(fact generation), $seen were noted). It is failing: back the node up (turnpike backup) and flash a new card."
    fi
    fact generation >/data/generation.new && sync /data/generation.new && mv /data/generation.new /data/generation
}

# Four MiB that are given to the store when the partition is full, so that it can still commit. Called again and again.
keep_room() {
    [ ! -e $facts/no-data ] || return 0
    local free
    free=$(df -k /data | awk 'NR == 2 { print $4 }')
    if [ "$free" -gt 16384 ]; then
        [ -e /data/reserve ] || { dd if=/dev/zero of=/data/reserve.new bs=1M count=4 2>/dev/null && mv /data/reserve.new /data/reserve; }
        rm -f /run/turnpike/problems/data-full
    elif [ "$free" -lt 2048 ]; then
        rm -f /data/reserve /data/reserve.new
        [ -e /run/turnpike/problems/data-full ] ||
            problem data-full "The data partition is full. Settled channels and receipts can go: turnpike doctor says what takes room."
    fi
}
