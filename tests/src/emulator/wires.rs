//! The network around the machine: its guest link, and the client at the other end of it.

use crate::lab::{self, Host};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What busybox's DHCP client runs with what it learned.
const SCRIPT: &str = "#!/bin/sh
[ \"$1\" = bound ] || exit 0
ip address replace \"$ip/$mask\" dev \"$interface\" && ip route replace default via \"${router%% *}\" dev \"$interface\" && echo \"$ip\" >LEASE
";

/// The guest link, built in the lab's user namespace, and the client's host.
pub struct Wires {
    client: Host,
}

impl Wires {
    /// The end of the guest link that QEMU holds.
    pub(super) const TAP: &'static str = "tap0";
    /// The test's own address towards the client, for what the client does not buy: the chain.
    pub const SIDE: &'static str = "10.99.0.1";
    /// The client's interface on the guest link.
    pub const ETH: &'static str = "eth0";
    /// The machine's address on its guest link.
    pub const RELAY: &'static str = "10.73.0.1";
    /// The test's own loopback address, as the machine's guests see it.
    pub const WORLD: &'static str = "10.0.2.2";

    /// Lays them.
    ///
    /// # Panics
    /// Outside the lab's user namespace, or when a step fails.
    pub fn lay() -> Wires {
        let client = lab::host("client0");
        for line in [
            "ip link set lo up",
            "ip tuntap add dev tap0 mode tap",
            "ip link add link0 type bridge",
            "ip link set link0 addrgenmode none",
            "ip link set tap0 addrgenmode none",
            "ip link add port0 type veth peer name eth0 netns client0",
            "ip link set port0 addrgenmode none",
            "ip link set tap0 master link0 up",
            "ip link set port0 master link0 up",
            "ip link set link0 up",
            "ip link add side0 type veth peer name chain0 netns client0",
            "ip address add 10.99.0.1/24 dev side0",
            "ip link set side0 up",
        ] {
            sh(line);
        }
        client.run("ip link set eth0 address 02:00:00:00:02:01");
        client.run("ip link set eth0 up");
        client.run("ip address add 10.99.0.2/24 dev chain0");
        client.run("ip link set chain0 up");
        Wires { client }
    }

    /// The client's host.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// Asks the machine for an address by a stock DHCP client, which takes its default route, too.
    ///
    /// # Errors
    /// No lease within some seconds.
    pub fn lease(&self, folder: &Path) -> Result<String, String> {
        let (script, lease) = (folder.join("dhcp"), folder.join("lease"));
        let _ = fs::remove_file(&lease);
        fs::write(&script, SCRIPT.replace("LEASE", &lease.display().to_string())).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
        let line = format!(
            "busybox udhcpc -i eth0 -f -q -n -t 2 -T 1 -s {}",
            script.display()
        );
        let output = self.client.try_run(&line);
        fs::read_to_string(&lease).map_or_else(
            |_| {
                Err(format!(
                    "no address by DHCP: {}",
                    String::from_utf8_lossy(&output.stderr)
                ))
            },
            |address| Ok(address.trim().to_owned()),
        )
    }
}

fn sh(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().expect("a word")).args(words).output();
    let output = output.unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
