//! Options of TCP sockets.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Silence after which the kernel asks whether the peer is still there. The kernel's timer, so that an idle daemon
/// need not wake up.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// How long sent bytes may stay unacknowledged, or the peer's window shut.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Kernel buffers per direction, bytes; the kernel doubles them for its own books. Left alone they grow to megabytes, which
/// a peer that never reads could make this node hold.
const BUFFER: usize = 64 * 1024;

/// Small messages leave at once, and dead peers are found.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
