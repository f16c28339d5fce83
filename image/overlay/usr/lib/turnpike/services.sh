# Sourced: which services run, by what the settings ask for and what the board has.

enable() { # enable SERVICE [NAME [ARGUMENT]]: a copy in RAM, because the supervisor writes beside it
    local to=/run/service/.${2:-$1}
    [ ! -d "/run/service/${2:-$1}" ] || return 0
    mkdir -p "$to/log"
    cp /etc/sv/"$1" "$to/run"
    [ -z "$3" ] || echo "$3" >"$to/argument"
    printf '#!/usr/bin/sh\nmkdir -p /run/log/%s\nprintf "s65536\\nn3\\n" >/run/log/%s/config\nexec svlogd -tt /run/log/%s\n' \
        "${2:-$1}" "${2:-$1}" "${2:-$1}" >"$to/log/run"
    chmod 755 "$to/run" "$to/log/run"
    mv "$to" "/run/service/${2:-$1}"
}

enable_services() {
    local interface guest
    guest=$(network guest)
    for interface in $(ls /sys/class/net); do
        case $interface in
            lo | wlan* | "$guest") ;;
            eth* | end* | usb* | en*) enable dhcp "dhcp-$interface" "$interface" ;;
        esac
    done
    [ -z "$guest" ] || enable guests guests "$guest"
    [ -f /run/turnpike/settings/wifi/hostapd.conf ] && enable hostapd hostapd /run/turnpike/settings/wifi/hostapd.conf
    [ -f /run/turnpike/settings/wifi/wpa_supplicant.conf ] && enable wpa wpa "$(network station)" && enable dhcp "dhcp-$(network station)" "$(network station)"
    enable hotplug
    enable klog
    enable turnpiked
    [ -s /run/turnpike/settings/authorized_keys ] && enable dropbear
    # The own firmware for the neighbours, where the owner wants that.
    [ "$(setting update-serve)" = true ] && enable serve
    enable health
}
