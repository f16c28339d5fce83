//! Learns that credit is used up without asking: the kernel sends one note per quota when its last byte is spent,
//! and is armed again by the next grant. An idle watcher never wakes.

use super::netlink::Socket;
use super::objects::{NFTABLES_GROUP, used_up};
use super::{ClientSlot, GateError};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the kernel told.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WatcherEvent {
    /// This client's credit is spent: its next packet is dropped, or one has been.
    UsedUp(ClientSlot),
    /// Notes were lost because nobody read them in time: read every client.
    Overrun,
}

/// A socket that hears about used-up quotas in the network namespace where it was opened.
#[derive(Debug)]
pub struct Watcher {
    socket: Socket,
}

impl Watcher {
    /// Starts to listen. Open it before the first grant, so that no note is missed.
    ///
    /// # Errors
    /// No permission, or a kernel without nf_tables.
    pub fn open() -> Result<Watcher, GateError> {
        let socket = Socket::listen(Some(rustix::net::netlink::NETFILTER), NFTABLES_GROUP);
        Ok(Watcher {
            socket: socket.map_err(GateError::kernel("listening for used-up credit"))?,
        })
    }

    /// Takes what has been told so far, without waiting. Empty is normal.
    pub fn drain(&mut self) -> Result<Vec<WatcherEvent>, GateError> {
        let mut events = Vec::new();
        match self
            .socket
            .drain(|m| events.extend(used_up(m).map(WatcherEvent::UsedUp)))
        {
            Ok(()) => Ok(events),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                events.push(WatcherEvent::Overrun);
                Ok(events)
            }
            Err(e) => Err(GateError::kernel("listening for used-up credit")(e)),
        }
    }

    /// Waits up to `limit` on the calling thread; empty when nothing came. For code outside the runtime.
    pub fn wait(&mut self, limit: Duration) -> Result<Vec<WatcherEvent>, GateError> {
        let failed = GateError::kernel("listening for used-up credit");
        let start = std::time::Instant::now();
        loop {
            let events = self.drain()?;
            let left = limit.saturating_sub(start.elapsed());
            if !events.is_empty() || left.is_zero() {
                return Ok(events);
            }
            let mut ready = [rustix::event::PollFd::new(
                &self.socket,
                rustix::event::PollFlags::IN,
            )];
            let time = rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()) as _,
            };
            match rustix::event::poll(&mut ready, Some(&time)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
    }

    /// Hands the socket to the running tokio runtime.
    ///
    /// # Errors
    /// When called outside a runtime that has its IO driver on.
    pub fn into_async(self) -> Result<AsyncWatcher, GateError> {
        let failed = GateError::kernel("listening for used-up credit");
        // SAFETY: `Socket` owns its descriptor and answers `as_raw_fd` with it for as long as it lives; only shared
        // and mutable borrows of it leave the `AsyncFd`, and nothing in `Socket` closes or replaces the descriptor.
        let ready = unsafe { AsyncFd::register_with_interest(self.socket, Interest::READABLE) };
        Ok(AsyncWatcher {
            ready: ready.map_err(|e| failed(e.into()))?,
        })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A [`Watcher`] inside a tokio runtime.
#[derive(Debug)]
pub struct AsyncWatcher {
    ready: AsyncFd<Socket>,
}

impl AsyncWatcher {
    /// Waits for the next notes; never returns an empty list. Safe to drop while waiting: nothing is lost.
    pub async fn next(&mut self) -> Result<Vec<WatcherEvent>, GateError> {
        let failed = GateError::kernel("listening for used-up credit");
        loop {
            let mut guard = match self.ready.readable_mut().await {
                Ok(guard) => guard,
                Err(e) => return Err(failed(e)),
            };
            let mut events = Vec::new();
            let read = guard
                .get_inner_mut()
                .drain(|m| events.extend(used_up(m).map(WatcherEvent::UsedUp)));
            match read {
                Ok(()) => guard.clear_ready(),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => events.push(WatcherEvent::Overrun),
                Err(e) => return Err(failed(e)),
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
