//! What can go wrong at the gate. Each text is one line: what happened, what it means, what to do.

use super::{ClientSlot, Mac};

/// Why the gate could not do what it was asked. Nothing here ever means "zero bytes used".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The `nft` program is not installed.
    #[error("nft was not found, so traffic cannot be metered: install the package nftables")]
    NoNft,
    /// The process may not change the firewall of its network namespace.
    #[error(
        "not allowed to change the firewall: run as root or with CAP_NET_ADMIN (in systemd: AmbientCapabilities=CAP_NET_ADMIN)"
    )]
    NoPermission,
    /// The kernel lacks what the table needs.
    #[error(
        "the kernel refused {feature} ({answer}): use a kernel with nftables, quota, conntrack and masquerade"
    )]
    KernelLacks {
        /// The part that was refused.
        feature: &'static str,
        /// What nft answered.
        answer: String,
    },
    /// The kernel does not forward packets of this family.
    #[error("the kernel does not forward {family}: set {sysctl}=1 (sysctl -w {sysctl}=1)")]
    NoForwarding {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Name of the setting.
        sysctl: &'static str,
    },
    /// A configured network interface does not exist.
    #[error("there is no network interface {0}: check guest and uplink interfaces in the configuration")]
    NoInterface(String),
    /// A name that cannot be a network interface.
    #[error("{0:?} is no interface name: 1 to 15 letters, digits, dots, dashes or underscores")]
    BadInterfaceName(String),
    /// A MAC address that could not be read.
    #[error("{0:?} is no MAC address: six hexadecimal pairs with colons")]
    BadMac(String),
    /// A table of our name that this version did not make.
    #[error(
        "table inet {0} exists and was not made by this version: stop the other program, then run `nft delete table inet {0}`"
    )]
    ForeignTable(&'static str),
    /// The table vanished while the gate was open.
    #[error(
        "table inet turnpike is gone, something else removed it: guests are no longer metered, restart turnpiked"
    )]
    TableGone,
    /// A slot that is not attached.
    #[error("client {0} is not attached to the gate")]
    UnknownClient(ClientSlot),
    /// A slot that is attached already, with another binding.
    #[error("client {0} is attached already with another binding: detach it first")]
    SlotTaken(ClientSlot),
    /// An address of the binding belongs to another client.
    #[error("{address} is bound to client {holder} already")]
    AddressTaken {
        /// The address that both claim.
        address: String,
        /// Who has it.
        holder: ClientSlot,
    },
    /// A binding without any address.
    #[error("a binding of {0} needs at least one address")]
    NoAddress(Mac),
    /// An address that cannot be a guest's.
    #[error("{0} cannot be bound: it is not a unicast address that is forwarded")]
    BadAddress(std::net::IpAddr),
    /// All places are taken.
    #[error("the gate holds {0} clients, which is all it can: detach one first")]
    Full(usize),
    /// nft refused a change; nothing of it was applied.
    #[error("nft refused a change, nothing was applied: {0}")]
    Refused(String),
    /// The kernel answered a request with an error.
    #[error("the kernel answered {doing} with: {source}")]
    Kernel {
        /// What was asked.
        doing: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("the kernel's answer to {0} could not be read: no figure was taken from it")]
    Unreadable(&'static str),
    /// A counter went backwards: someone reset it.
    #[error("a counter of client {0} went backwards, something reset it: its reading cannot be used")]
    CounterReset(ClientSlot),
}

impl GateError {
    /// The binding that was asked for is at fault, not the gate.
    pub const fn is_of_binding(&self) -> bool {
        matches!(
            self,
            GateError::AddressTaken { .. }
                | GateError::NoAddress(_)
                | GateError::BadAddress(_)
                | GateError::NoInterface(_)
                | GateError::Full(_)
        )
    }

    pub(super) fn kernel(doing: &'static str) -> impl FnOnce(std::io::Error) -> GateError {
        move |source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => GateError::NoPermission,
            _ => GateError::Kernel { doing, source },
        }
    }
}
