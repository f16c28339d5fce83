# Sourced, by the init, by the running system and by the build: the boot ledger (protocol/spec/card.md).

# Prints one record of 512 bytes.
ledger_record() { # ledger_record GENERATION FRESH SHORT UNHEALTHY
    local text sum
    text="turnpike-ledger 1
generation=$1
fresh=$2
short=$3
unhealthy=$4
"
    sum=$(printf '%s' "$text" | gzip -c | tail -c 8 | head -c 4 | od -An -tx4 | tr -d ' ')
    { printf '%scrc=%s\n' "$text" "$sum"; head -c 512 /dev/zero; } | head -c 512
}

# Prints a record's lines if its checksum holds; fails if it does not.
ledger_lines() { # ledger_lines FILE
    local text sum
    text=$(tr -d '\000' <"$1" | sed '/^crc=/d')
    case $text in "turnpike-ledger 1"*) ;; *) return 1 ;; esac
    sum=$(printf '%s\n' "$text" | gzip -c | tail -c 8 | head -c 4 | od -An -tx4 | tr -d ' ')
    tr -d '\000' <"$1" | grep -qx "crc=$sum" || return 1
    printf '%s\n' "$text"
}

ledger_value() { # ledger_value LINES NAME: a number, 0 where there is none
    local value
    value=$(printf '%s\n' "$1" | sed -n "s/^$2=\([0-9][0-9]*\)\$/\1/p")
    echo "${value:-0}"
}

# Reads both records of a disk and sets generation, fresh, short and unhealthy to the newer one's. Fails if neither is valid.
ledger_read() { # ledger_read DISK
    local place lines found=1
    generation=0 fresh=0 short=0 unhealthy=0
    for place in $ledger_start $((ledger_start + 2)); do
        dd if="$1" of=/run/ledger bs=512 skip=$((place * 2048)) count=1 2>/dev/null || continue
        lines=$(ledger_lines /run/ledger) || continue
        if [ $found = 1 ] || [ "$(ledger_value "$lines" generation)" -gt "$generation" ]; then
            generation=$(ledger_value "$lines" generation)
            fresh=$(ledger_value "$lines" fresh)
            short=$(ledger_value "$lines" short)
            unhealthy=$(ledger_value "$lines" unhealthy)
        fi
        found=0
    done
    return $found
}

# Writes the record of generation, fresh, short and unhealthy, and reads it back from the medium. Fails if it is not there.
ledger_write() { # ledger_write DISK
    local place=$((ledger_start + (generation % 2) * 2))
    ledger_record "$generation" "$fresh" "$short" "$unhealthy" >/run/ledger
    dd if=/run/ledger of="$1" bs=512 seek=$((place * 2048)) count=1 conv=notrunc,fsync 2>/dev/null || return 1
    blockdev --flushbufs "$1"
    dd if="$1" of=/run/ledger.back bs=512 skip=$((place * 2048)) count=1 2>/dev/null
    cmp -s /run/ledger /run/ledger.back
}
