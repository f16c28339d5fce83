//! A small netlink client: one socket, messages built into a buffer, attributes read without trust in lengths.
//! No allocation per attribute, no unsafe, no waiting without end.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

pub const REQUEST: u16 = 0x01;
pub const ACK: u16 = 0x04;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
const DUMP_INTERRUPTED: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// The kernel answers at once; a second means that something is badly wrong, and the caller is told.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The kernel fills at most 32 KiB per dump datagram (`netlink_dump`), or one message that is larger.
const RECEIVE: usize = 64 * 1024;
/// Datagrams read for one request before giving up: far above what a full table of clients needs.
const MAX_DATAGRAMS: usize = 4_096;

/// A netlink socket, with a number for each request.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A message as received: kind, flags and the bytes after the header.
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

impl Socket {
    /// A socket for requests.
    pub fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = Socket::bound(protocol, 0, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&socket.fd, Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(socket)
    }

    /// A socket that hears the multicast groups in the bit mask `groups` and never blocks.
    pub fn listen(protocol: Option<Protocol>, groups: u32) -> io::Result<Socket> {
        let socket = Socket::bound(protocol, groups, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // One note per client fits many times over; more only delays the overrun that is reported anyway.
        set_socket_recv_buffer_size(&socket.fd, 1 << 20)?;
        Ok(socket)
    }

    fn bound(protocol: Option<Protocol>, groups: u32, flags: SocketFlags) -> io::Result<Socket> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Socket {
            fd,
            sequence: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// A number for the next message.
    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends `request` and reads until the answer to message `sequence` is complete: a dump's end, an
    /// acknowledgement, or (`single`) its one reply. An error for any number in `first..=sequence` ends it too.
    ///
    /// # Errors
    /// What the kernel answered; `Interrupted` when the tables changed under a dump, which may be repeated.
    pub fn transact(
        &mut self,
        request: &[u8],
        first: u32,
        sequence: u32,
        single: bool,
        mut each: impl FnMut(&Message<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        rustix::net::sendto(
            &self.fd,
            request,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut torn = false;
        for _ in 0..MAX_DATAGRAMS {
            let length = self.receive()?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            for message in messages(datagram) {
                if message.sequence.wrapping_sub(first) > sequence.wrapping_sub(first) {
                    continue; // a late answer to an earlier request
                }
                torn |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    NLMSG_ERROR => {
                        let code = message.body.first_chunk::<4>().map(|b| i32::from_ne_bytes(*b));
                        match code {
                            Some(0) if message.sequence == sequence => return Ok(()),
                            Some(0) => {}
                            Some(code) => return Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                            None => return Err(io::ErrorKind::InvalidData.into()),
                        }
                    }
                    NLMSG_DONE if torn => return Err(io::ErrorKind::Interrupted.into()),
                    NLMSG_DONE => return Ok(()),
                    _ => {
                        each(&message)?;
                        if single && message.sequence == sequence {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Reads one datagram from the kernel into the buffer. Datagrams of other processes are passed over.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            let (length, whole, sender) =
                match rustix::net::recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC) {
                    Err(rustix::io::Errno::INTR) => continue,
                    other => other?,
                };
            let sender = sender.and_then(|a| SocketAddrNetlink::try_from(a).ok());
            if sender.is_some_and(|a| a.pid() != 0) {
                continue;
            }
            if whole > length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            return Ok(length);
        }
    }

    /// Reads every datagram that is waiting. `WouldBlock` is not an error here; an overrun (`ENOBUFS`) is.
    pub fn drain(&mut self, mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        for _ in 0..MAX_DATAGRAMS {
            let length = match self.receive() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            };
            messages(self.buffer.get(..length).unwrap_or_default()).for_each(|m| each(&m));
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Messages being written, one after another, into one buffer.
#[derive(Default)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Adds a message whose body `fill` writes.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Body {
            bytes: &mut self.bytes,
        });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of one message.
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// Raw bytes, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute of at most 65,531 bytes; ours are names and numbers.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes
            .extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// An attribute that holds a text, with its closing zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut zeroed = value.as_bytes().to_vec();
        zeroed.push(0);
        self.attribute(kind, &zeroed);
    }

    /// An attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        fill(&mut Body { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// The messages of a datagram; stops at the first length that does not fit.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let word = |at: usize| Some(u16::from_ne_bytes(*datagram.get(at..)?.first_chunk()?));
        let message = Message {
            kind: word(4)?,
            flags: word(6)?,
            sequence: u32::from_ne_bytes(*datagram.get(8..)?.first_chunk()?),
            body: datagram.get(HEADER..length)?,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message body; stops at the first length that does not fit.
pub fn attributes(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*body.first_chunk()?));
        let kind = u16::from_ne_bytes(*body.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = body.get(4..length)?;
        body = body.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut request = Request::default();
        request.message(7, ACK, 3, |body| {
            body.raw(&[1, 0, 0, 0]);
            body.text(2, "q1");
            body.nested(4, |inner| inner.attribute(1, &5u64.to_be_bytes()));
        });
        request.message(8, 0, 4, |_| {});
        let read: Vec<_> = messages(request.as_bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[0].kind, read[0].flags, read[0].sequence),
            (7, ACK | REQUEST, 3)
        );
        let found: Vec<_> = attributes(&read[0].body[4..]).collect();
        assert_eq!(found[0], (2, &b"q1\0"[..]));
        assert_eq!(attributes(found[1].1).next(), Some((1, &5u64.to_be_bytes()[..])));
        assert!(read[1].body.is_empty());
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for length in [0u32, 4, 15, 17, 4_000, u32::MAX] {
            let mut bytes = [0u8; 16];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = [0u8; 8];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
    }
}
