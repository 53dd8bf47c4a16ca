//! What every listening TCP socket is set to, which accepted sockets inherit; and which two cannot be beside each other.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};

use crate::limits;

/// Sets a listening socket's options, whoever has made it.
pub fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    // Each send is a whole batch of answers: nothing is gained by waiting for more.
    socket.set_tcp_nodelay(true)?;
    // A peer that vanished without a word (a pulled cable, a dropped mapping) would hold its slot for ever.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_micros(limits::KEEPALIVE_IDLE_US))
        .with_interval(Duration::from_micros(limits::KEEPALIVE_INTERVAL_US))
        .with_retries(limits::KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    // While answers are unacknowledged no probes are sent, and the kernel would retransmit for a quarter of an hour.
    socket.set_tcp_user_timeout(Some(Duration::from_micros(limits::UNACKNOWLEDGED_US)))
}

/// Whether one port cannot be listened on at both addresses: they are one, or one of them takes callers of the other. `[::]` takes
/// those by IPv4 too, unless its socket was told not to.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: SocketAddr, other: SocketAddr| {
        one.ip().is_unspecified() && (one.is_ipv6() || one.is_ipv4() == other.is_ipv4())
    };
    one.ip() == other.ip() || takes(one, other) || takes(other, one)
}
