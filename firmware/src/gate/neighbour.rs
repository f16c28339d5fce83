//! Which device has an address: the kernel's neighbour table, read over rtnetlink.

use super::netlink::{DUMP, Request, Socket, attributes};
use super::{GateError, InterfaceName, Mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const DESTINATION: u16 = 1;
const LINK_ADDRESS: u16 = 2;
/// `NUD_INCOMPLETE | NUD_FAILED | NUD_NOARP`: entries that say nothing about a device.
const UNUSABLE: u16 = 0x01 | 0x20 | 0x40;

/// One entry of the neighbour table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The address on the link.
    pub address: IpAddr,
    /// The device that answered for it.
    pub mac: Mac,
}

/// The MAC address behind `address` on `interface`, or `None` if the kernel has not heard from it lately.
/// A client that is talking to the relay is always in the table.
pub fn mac_of(interface: &InterfaceName, address: IpAddr) -> Result<Option<Mac>, GateError> {
    Ok(neighbours(interface)?
        .into_iter()
        .find(|n| n.address == address)
        .map(|n| n.mac))
}

/// Every device that the kernel knows on `interface`, both families.
pub fn neighbours(interface: &InterfaceName) -> Result<Vec<Neighbour>, GateError> {
    let failed = || GateError::kernel("reading the neighbour table");
    let index = index_of(interface)?;
    let mut socket = Socket::open(None).map_err(failed())?;
    let sequence = socket.next_sequence();
    let mut request = Request::default();
    request.message(GET_NEIGHBOUR, DUMP, sequence, |body| body.raw(&[0; 12]));
    let mut found = Vec::new();
    socket
        .transact(request.as_bytes(), sequence, sequence, false, |m| {
            found.extend(read(m.kind, m.body, index));
            Ok(())
        })
        .map_err(failed())?;
    Ok(found)
}

/// The kernel's number for an interface, the scope of link-local addresses on it.
///
/// # Errors
/// There is none of this name.
pub fn index_of(interface: &InterfaceName) -> Result<u32, GateError> {
    let socket = Socket::open(None).map_err(GateError::kernel("looking up an interface"))?;
    rustix::net::netdevice::name_to_index(&socket, interface.as_str())
        .map_err(|_| GateError::NoInterface(interface.to_string()))
}

/// `struct ndmsg`: family, padding, interface (4..8), state (8..10), flags, type; then attributes.
fn read(kind: u16, body: &[u8], index: u32) -> Option<Neighbour> {
    let on = u32::from_ne_bytes(*body.get(4..)?.first_chunk()?);
    let state = u16::from_ne_bytes(*body.get(8..)?.first_chunk()?);
    if kind != NEW_NEIGHBOUR || on != index || state & UNUSABLE != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(body.get(12..)?) {
        match (kind, value.len()) {
            (DESTINATION, 4) => address = Some(IpAddr::V4(Ipv4Addr::from(*value.first_chunk()?))),
            (DESTINATION, 16) => address = Some(IpAddr::V6(Ipv6Addr::from(*value.first_chunk()?))),
            (LINK_ADDRESS, 6) => mac = Some(Mac(*value.first_chunk()?)),
            _ => {}
        }
    }
    Some(Neighbour {
        address: address?,
        mac: mac?,
    })
}
