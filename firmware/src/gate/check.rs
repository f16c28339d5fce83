//! What is missing, said before anything is changed.

use super::{GateError, nft};

/// What the table is made of, each asked for alone so that the answer names the part.
const PROBES: [(&str, &str); 4] = [
    ("nftables", "table inet turnpike_probe {\n}\n"),
    (
        "quotas",
        "table inet turnpike_probe {\n quota q {\n over 1 bytes\n }\n}\n",
    ),
    (
        "connection tracking",
        "table inet turnpike_probe {\n chain c {\n type filter hook forward priority 0\n ct direction reply accept\n }\n}\n",
    ),
    (
        "masquerade",
        "table inet turnpike_probe {\n chain c {\n type nat hook postrouting priority 100\n masquerade\n }\n}\n",
    ),
];

const FORWARDING: [(&str, &str, &str); 2] = [
    ("IPv4", "net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
    (
        "IPv6",
        "net.ipv6.conf.all.forwarding",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ),
];

/// Tries everything that an open gate needs; the kernel judges and forgets.
pub fn check() -> Result<(), GateError> {
    for (feature, script) in PROBES {
        nft::would_accept(script).map_err(|e| match e {
            GateError::Refused(answer) => GateError::KernelLacks { feature, answer },
            other => other,
        })?;
    }
    for (family, sysctl, path) in FORWARDING {
        // A kernel without the family has no such file and nothing of it to forward.
        if std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0") {
            return Err(GateError::NoForwarding { family, sysctl });
        }
    }
    Ok(())
}
