//! Who is at the other end of a socket, as far as the kernel says: asked once a connection, and only where callers have to prove who
//! they are.

use std::{io, net::IpAddr, os::fd::BorrowedFd};

use rustix::net::{getpeername, sockopt::socket_peercred};

use super::Engine;
use crate::shard::{Listener, Proof};

/// The other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    /// A host.
    Host(IpAddr),
    /// A process of this host.
    Process { uid: u32, gid: u32 },
}

impl Peer {
    /// Asks the kernel about a connection that has come by `listener`.
    ///
    /// # Errors
    /// The system's, such as where the other end has gone already.
    pub(super) fn of(socket: BorrowedFd<'_>, listener: Listener) -> io::Result<Peer> {
        if listener == Listener::Unix {
            let peer = socket_peercred(socket)?;
            return Ok(Peer::Process { uid: peer.uid.as_raw(), gid: peer.gid.as_raw() });
        }
        let address = getpeername(socket)?.map(std::net::SocketAddr::try_from);
        match address {
            Some(Ok(address)) => Ok(Peer::Host(address.ip())),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Opens a connection of this one's.
    pub(super) fn open(self, shard: &mut impl Engine, connection: u32, listener: Listener) {
        match self {
            Peer::Host(address) => {
                shard.comes_from(connection, address);
                shard.open(connection, listener);
            }
            Peer::Process { uid, gid } => {
                let principal = shard.proved(Proof::Process { uid, gid });
                shard.open_as(connection, listener, Some(principal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn the_kernel_says_who_is_there() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::getuid().as_raw();
        assert!(
            matches!(Peer::of(one.as_fd(), Listener::Unix).unwrap(), Peer::Process { uid, .. } if uid == own)
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        assert_eq!(Peer::of(socket.as_fd(), Listener::Any).unwrap(), Peer::Host(address.ip()));
    }
}
