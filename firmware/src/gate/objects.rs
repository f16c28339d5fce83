//! The hot path: reading counters and setting quotas by raw nf_tables messages, so that a payment costs two small
//! system calls each and no process. Numbers are those of Linux `uapi/linux/netfilter/nf_tables.h` (stable ABI).

use super::netlink::{ACK, CREATE, DUMP, Message, Request, Socket, attributes};
use super::ruleset::{Direction, ObjectName, TABLE};
use super::{ClientSlot, GateError};
use std::io;

/// `NFNLGRP_NFTABLES` (7) as a bit of the bind mask.
pub const NFTABLES_GROUP: u32 = 1 << 6;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_OBJECT: u16 = SUBSYSTEM << 8 | 18;
const GET_OBJECT: u16 = SUBSYSTEM << 8 | 19;
const FAMILY_INET: u8 = 1;

const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const TYPE_COUNTER: u32 = 1;
const TYPE_QUOTA: u32 = 2;
const COUNTER_BYTES: u16 = 1;
const QUOTA_BYTES: u16 = 1;
const QUOTA_FLAGS: u16 = 2;
/// No flag: the rule matches what is within the quota (`until` in nft's language).
const UNTIL: u32 = 0;
/// `NFT_QUOTA_F_DEPLETED`: as much as the quota has been seen.
const DEPLETED: u32 = 2;

/// The nf_tables socket of the gate.
#[derive(Debug)]
pub struct Objects {
    socket: Socket,
    table: &'static str,
}

/// One counter of a client, as the kernel has it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    pub client: ClientSlot,
    pub direction: Direction,
    pub bytes: u64,
}

impl Objects {
    /// Opens the socket in the caller's network namespace.
    pub fn open(table: &'static str) -> Result<Objects, GateError> {
        let socket = Socket::open(Some(rustix::net::netlink::NETFILTER));
        Ok(Objects {
            socket: socket.map_err(GateError::kernel("opening nf_tables"))?,
            table,
        })
    }

    /// Bytes that the counter `name` has seen.
    pub fn counter(&mut self, name: &str) -> Result<u64, GateError> {
        let sequence = self.socket.next_sequence();
        let mut request = Request::default();
        request.message(GET_OBJECT, 0, sequence, |body| {
            body.raw(&[FAMILY_INET, 0, 0, 0]);
            body.text(OBJECT_TABLE, self.table);
            body.text(OBJECT_NAME, name);
            body.attribute(OBJECT_TYPE, &TYPE_COUNTER.to_be_bytes());
        });
        let mut bytes = None;
        self.socket
            .transact(request.as_bytes(), sequence, sequence, true, |m| {
                bytes = Object::read(m)
                    .filter(|o| o.name == name.as_bytes())
                    .and_then(|o| o.counted());
                Ok(())
            })
            .map_err(gone_or("reading a counter"))?;
        bytes.ok_or(GateError::Unreadable("reading a counter"))
    }

    /// Every counter of every client, in one dump. Repeats when the table changes meanwhile.
    pub fn counters(&mut self) -> Result<Vec<Count>, GateError> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            match self.dump() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => return other.map_err(gone_or("reading all counters")),
            }
        }
        Err(GateError::Unreadable("reading all counters"))
    }

    fn dump(&mut self) -> io::Result<Vec<Count>> {
        let sequence = self.socket.next_sequence();
        let mut request = Request::default();
        request.message(GET_OBJECT, DUMP, sequence, |body| {
            body.raw(&[FAMILY_INET, 0, 0, 0]);
            body.text(OBJECT_TABLE, self.table);
            body.attribute(OBJECT_TYPE, &TYPE_COUNTER.to_be_bytes());
        });
        let mut counts = Vec::new();
        self.socket
            .transact(request.as_bytes(), sequence, sequence, false, |m| {
                let object = Object::read(m).ok_or(io::ErrorKind::InvalidData)?;
                let name = std::str::from_utf8(object.name).ok().and_then(ObjectName::parse);
                if let Some((client, direction)) = name {
                    let bytes = object.counted().ok_or(io::ErrorKind::InvalidData)?;
                    counts.push(Count {
                        client,
                        direction,
                        bytes,
                    });
                }
                Ok(())
            })?;
        Ok(counts)
    }

    /// Sets how many bytes the quota `name` lets through in all, in place: what it has seen stays counted.
    pub fn set_quota(&mut self, name: &str, bytes: u64) -> Result<(), GateError> {
        let first = self.socket.next_sequence();
        let sequence = self.socket.next_sequence();
        let last = self.socket.next_sequence();
        let batch = [0, 0, (SUBSYSTEM >> 8) as u8, SUBSYSTEM as u8];
        let mut request = Request::default();
        request.message(BATCH_BEGIN, 0, first, |body| body.raw(&batch));
        request.message(NEW_OBJECT, CREATE | ACK, sequence, |body| {
            body.raw(&[FAMILY_INET, 0, 0, 0]);
            body.text(OBJECT_TABLE, self.table);
            body.text(OBJECT_NAME, name);
            body.attribute(OBJECT_TYPE, &TYPE_QUOTA.to_be_bytes());
            body.nested(OBJECT_DATA, |data| {
                data.attribute(QUOTA_BYTES, &bytes.to_be_bytes());
                data.attribute(QUOTA_FLAGS, &UNTIL.to_be_bytes());
            });
        });
        request.message(BATCH_END, 0, last, |body| body.raw(&batch));
        self.socket
            .transact(request.as_bytes(), first, sequence, false, |_| Ok(()))
            .map_err(gone_or("setting a quota"))
    }
}

/// A client's object that the kernel says has gone means that our table has.
fn gone_or(doing: &'static str) -> impl FnOnce(io::Error) -> GateError {
    move |e| match e.kind() {
        io::ErrorKind::NotFound => GateError::TableGone,
        io::ErrorKind::InvalidData => GateError::Unreadable(doing),
        _ => GateError::kernel(doing)(e),
    }
}

/// An object as a message tells it.
struct Object<'a> {
    table: &'a [u8],
    name: &'a [u8],
    kind: u32,
    data: &'a [u8],
}

impl<'a> Object<'a> {
    fn read(message: &Message<'a>) -> Option<Object<'a>> {
        if message.kind != NEW_OBJECT {
            return None;
        }
        let mut object = Object {
            table: &[],
            name: &[],
            kind: 0,
            data: &[],
        };
        for (kind, value) in attributes(message.body.get(4..)?) {
            match kind {
                OBJECT_TABLE => object.table = value.strip_suffix(&[0])?,
                OBJECT_NAME => object.name = value.strip_suffix(&[0])?,
                OBJECT_TYPE => object.kind = u32::from_be_bytes(*value.first_chunk()?),
                OBJECT_DATA => object.data = value,
                _ => {}
            }
        }
        Some(object)
    }

    fn counted(&self) -> Option<u64> {
        let (_, value) = attributes(self.data).find(|(kind, _)| *kind == COUNTER_BYTES)?;
        (self.kind == TYPE_COUNTER).then_some(())?;
        Some(u64::from_be_bytes(*value.first_chunk()?))
    }
}

/// The client whose quota a multicast note calls used up, if it is one of ours. Our own changes are announced in the
/// same form, without the flag.
pub fn used_up(message: &Message<'_>) -> Option<ClientSlot> {
    let object = Object::read(message)?;
    if object.kind != TYPE_QUOTA || object.table != TABLE.as_bytes() {
        return None;
    }
    let (_, flags) = attributes(object.data).find(|(kind, _)| *kind == QUOTA_FLAGS)?;
    if u32::from_be_bytes(*flags.first_chunk()?) & DEPLETED == 0 {
        return None;
    }
    ObjectName::parse_quota(std::str::from_utf8(object.name).ok()?)
}
