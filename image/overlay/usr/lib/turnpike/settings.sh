# Sourced: the owner's settings become files under /run/turnpike (protocol/spec/settings.md).

apply_settings() {
    local interfaces
    interfaces=$(ls /sys/class/net | grep -v '^lo$' | tr '\n' ' ')
    turnpike card settings --boot /boot --data /data --run /run/turnpike --interfaces "$interfaces" >/dev/console 2>&1 ||
        problem settings "The settings could not be read (see the console); the node runs with what it had."
    local name
    name=$(setting hostname)
    if [ -n "$name" ]; then
        hostname "$name"
        echo "$name" >/run/etc/hostname
        printf '127.0.0.1 localhost %s\n::1 localhost\n' "$name" >/run/etc/hosts
    fi
    publish_report
}

setting() { # setting NAME: one value that the owner set
    cat "/run/turnpike/settings/$1" 2>/dev/null
}

network() { # network guest|uplink|access_point|station: the interface's name
    sed -n "s/^$1=//p" /run/turnpike/settings/network 2>/dev/null
}

# REPORT.txt on the boot partition, written only when it says something new.
publish_report() {
    [ -f /run/turnpike/REPORT.txt ] || return 0
    cmp -s /run/turnpike/REPORT.txt /boot/REPORT.txt && return 0
    with_boot_writable sh -c 'cp /run/turnpike/REPORT.txt /boot/REPORT.new && sync /boot/REPORT.new && mv /boot/REPORT.new /boot/REPORT.txt'
}
