# Sourced: setup mode (protocol/spec/card.md). For an owner without a keyboard: a page to write the settings on.

setup_minutes=15

# Asked for by a file on the boot partition, which is used up by that, or by three starts in a row that did not last.
setup_wanted() {
    if [ -e /boot/recover ] || [ -e /boot/recover.txt ]; then
        with_boot_writable rm -f /boot/recover /boot/recover.txt
        setup_why="the file \"recover\" was on the boot partition; it is removed"
    elif [ "$(fact short)" -ge 3 ]; then
        setup_why="the node was switched on three times for less than 20 s"
    else
        return 1
    fi
}

begin_setup() {
    touch $facts/setup
    problem setup-mode "This node waits to be set up, because $setup_why. It sells nothing now, and its settings are not used. Open the address that its wired network gave it in a browser, or join its open Wi-Fi turnpike-setup and open http://10.73.0.1; there is a page to write settings on. $setup_minutes minutes after its start it starts again as usual."
    # Nobody gets anywhere through it.
    sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
}

# An open network on the first radio, if there is one.
write_setup_hostapd() { # write_setup_hostapd INTERFACE
    local mac
    mac=$(tr -d ':' <"/sys/class/net/$1/address")
    mkdir -p /run/turnpike/setup
    cat >/run/turnpike/setup/hostapd.conf <<CONF
interface=$1
driver=nl80211
ssid=turnpike-setup-${mac#????????}
hw_mode=g
channel=6
auth_algs=1
wpa=0
ap_isolate=1
CONF
}

enable_setup_services() {
    local interface
    for interface in $(ls /sys/class/net); do
        case $interface in
            eth* | end* | usb* | en*) enable dhcp "dhcp-$interface" "$interface" ;;
            wlan0)
                write_setup_hostapd wlan0
                enable hostapd hostapd /run/turnpike/setup/hostapd.conf
                enable guests guests wlan0
                ;;
        esac
    done
    enable hotplug
    enable klog
    [ -s /run/turnpike/settings/authorized_keys ] && enable dropbear
    enable setup
    enable health
}
