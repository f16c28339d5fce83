//! A network on one machine: clients, a relay and an uplink, each in a namespace of its own, all inside one user
//! namespace, so that an ordinary user can run it and nothing is left behind.
//!
//! What comes in: a [`Plan`]. What goes out: commands that run in a namespace, and the kernel's own interface counters
//! as the judge. What it never does: touch the machine's network, or outlive its process.
//!
//! ```text
//! client0 ── eth0 │ guest0 ─ relay ─ up0 │ eth0 ── uplink
//! client1 ── eth0 │ (more than one client: guest0 is a bridge with isolated ports)
//! ```
//!
//! A test says `in_lab!(fn name() { … })`; a program calls [`enter`] first thing in `main`. Both start themselves
//! again inside `unshare`.

mod host;
mod setup;
mod traffic;

pub use host::{Counters, Host};
pub use setup::Plan;
pub use traffic::{Dialogue, Flow, Stream, StreamKind, deliver};

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, ExitStatus};

/// Set inside the user namespace.
const INSIDE: &str = "TURNPIKE_LAB";
const UNSHARE: [&str; 8] = [
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// The whole network. Dropping it ends the hosts' namespaces; commands that still run are the caller's to end, and
/// end at the latest with the lab's own process.
#[derive(Debug)]
pub struct Lab {
    clients: Vec<Host>,
    relay: Host,
    uplink: Host,
    plan: Plan,
}

impl Lab {
    /// Builds the network: everything is up, addressed and routed, forwarding is on, no firewall.
    ///
    /// # Panics
    /// Outside the user namespace (see [`enter`] and `in_lab!`), or when a step fails; the text names the step.
    pub fn new(plan: Plan) -> Lab {
        assert!(
            std::env::var_os(INSIDE).is_some(),
            "the lab is built inside its user namespace: use in_lab! or enter()"
        );
        let (clients, relay, uplink) = setup::build(&plan);
        Lab {
            clients,
            relay,
            uplink,
            plan,
        }
    }

    /// Client `i`, from 0.
    pub fn client(&self, i: usize) -> &Host {
        &self.clients[i]
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The relay.
    pub fn relay(&self) -> &Host {
        &self.relay
    }

    /// The host behind the relay's uplink.
    pub fn uplink(&self) -> &Host {
        &self.uplink
    }

    /// The plan that it was built to.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes the guest link away and lays it anew: same names and addresses, new interfaces. For one client only.
    pub fn rebuild_guest_link(&self) {
        assert_eq!(
            self.clients.len(),
            1,
            "only the link of a lab with one client can be laid anew"
        );
        self.relay.run(&format!("ip link del {}", Lab::GUEST));
        setup::guest_side(&self.clients, &self.relay, &self.plan);
    }

    /// Kernel counters of interface `device` on `host`.
    pub fn counters(&self, host: &Host, device: &str) -> Counters {
        host.counters(device)
    }

    /// The relay's interface that guests are on.
    pub const GUEST: &'static str = "guest0";
    /// The relay's interface to the uplink.
    pub const UP: &'static str = "up0";
    /// The one interface of each client and of the uplink host.
    pub const ETH: &'static str = "eth0";

    /// The relay's addresses on the guest side: IPv4, IPv6 and link-local.
    pub const RELAY4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// IPv6 of the relay itself, on its guest side.
    pub const RELAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, 1);
    /// The clients' default gateway for IPv6.
    pub const RELAY6_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    /// The relay's IPv4 address towards the uplink.
    pub const RELAY_UP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The relay's IPv6 address towards the uplink.
    pub const RELAY_UP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
    /// The uplink host's IPv4 address (TEST-NET-1).
    pub const UPLINK4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    /// The uplink host's IPv6 address (documentation range).
    pub const UPLINK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2);

    /// IPv4 address of client `i`.
    pub fn client4(&self, i: usize) -> Ipv4Addr {
        setup::client4(i)
    }

    /// IPv6 address of client `i`; the /64 around it is the client's own.
    pub fn client6(&self, i: usize) -> Ipv6Addr {
        setup::client6(i)
    }

    /// MAC address of client `i`.
    pub fn client_mac(&self, i: usize) -> String {
        setup::client_mac(i)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in self.clients.iter().chain([&self.relay, &self.uplink]) {
            host.remove();
        }
    }
}

/// Starts this program again inside a fresh user namespace and ends with its exit status; returns at once when that
/// has been done. Call it first thing in `main`.
///
/// Where namespaces are forbidden it prints the remedy and ends with status 2.
pub fn enter() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    if let Err(remedy) = possible() {
        eprintln!("{remedy}");
        std::process::exit(2);
    }
    let status = again(std::env::args_os().skip(1));
    std::process::exit(status.code().unwrap_or(1));
}

/// Whether labs can be built here; if not, the one line that says what to do.
pub fn possible() -> Result<(), String> {
    for tool in ["unshare", "nsenter", "ip", "nft"] {
        let found = Command::new(tool).arg("-V").env("PATH", search_path()).output();
        if found.is_err() {
            return Err(format!(
                "{tool} is missing: apt-get install util-linux iproute2 nftables"
            ));
        }
    }
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .arg("true")
        .output()
        .map_err(|e| e.to_string())?;
    if tried.status.success() {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&tried.stderr);
    Err(format!(
        "user namespaces are forbidden here ({}): sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 \
         kernel.apparmor_restrict_unprivileged_userns=0",
        answer.trim()
    ))
}

/// Body of `in_lab!`: outside, runs the test `name` of this binary again inside; inside, runs `body`.
#[doc(hidden)]
pub fn run_test(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Err(remedy) = possible() {
        panic!("{remedy}");
    }
    let status = again(
        ["--exact", name, "--nocapture", "--include-ignored"]
            .map(Into::into)
            .into_iter(),
    );
    assert!(status.success(), "{name} failed inside the lab: {status}");
}

/// A host of another network than [`Lab`]'s, inside the same user namespace.
pub(crate) fn host(name: &str) -> Host {
    setup::own_run();
    setup::host(name)
}

fn again(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitStatus {
    let program = std::env::current_exe().expect("this program has a path");
    Command::new("unshare")
        .args(UNSHARE)
        .arg("--")
        .arg(program)
        .args(arguments)
        .env(INSIDE, "1")
        .env("PATH", search_path())
        .status()
        .expect("unshare starts")
}

/// PATH with the directories where distributions keep ip, nft and tc, which ordinary users' PATH lacks.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Declares tests that run inside the lab's user namespace: `in_lab! { fn name() { … } }`.
#[macro_export]
macro_rules! in_lab {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        #[test]
        $(#[$meta])*
        fn $name() {
            let module = module_path!();
            let path = match module.split_once("::") {
                Some((_, inner)) => format!("{inner}::{}", stringify!($name)),
                None => stringify!($name).to_owned(),
            };
            $crate::lab::run_test(&path, || $body);
        }
    )*};
}
