//! Listening sockets that somebody else has made and handed over, as systemd does for `florin.socket`: callers wait in
//! them while no node runs, so that a restart refuses nobody.

use std::{io, net::SocketAddr, os::fd::OwnedFd, path::Path, sync::Arc};

use socket2::{SockAddr, SockRef, Socket};

use super::{
    accept_turn::{AcceptTurn, Sharing},
    tcp,
};

/// The sockets that this process was started with. Each is used instead of binding its address again.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Arc<[Socket]>);

impl Inherited {
    /// These.
    pub fn new(sockets: impl IntoIterator<Item = OwnedFd>) -> Inherited {
        Inherited(sockets.into_iter().map(Socket::from).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that listen on `address`.
    pub fn tcp(&self, address: SocketAddr) -> io::Result<Vec<OwnedFd>> {
        self.copies(|bound| bound.as_socket() == Some(address), |socket| tcp::prepare(SockRef::from(socket)))
    }

    /// Those that listen on `path`.
    pub fn unix(&self, path: &Path) -> io::Result<Vec<OwnedFd>> {
        self.copies(|bound| bound.as_pathname() == Some(path), |_| Ok(()))
    }

    fn copies(
        &self,
        is_wanted: impl Fn(&SockAddr) -> bool,
        prepare: impl Fn(&Socket) -> io::Result<()>,
    ) -> io::Result<Vec<OwnedFd>> {
        let mut copies = Vec::new();
        for socket in self.0.iter() {
            if is_wanted(&socket.local_addr()?) {
                socket.set_nonblocking(false)?;
                prepare(socket)?;
                copies.push(socket.try_clone()?.into());
            }
        }
        Ok(copies)
    }
}

/// A socket for each shard: its own where there are as many, else the first, on which all of them take turns.
pub fn spread(sockets: Vec<OwnedFd>, shards: u16) -> io::Result<Vec<(OwnedFd, Sharing)>> {
    if sockets.len() == usize::from(shards) {
        return Ok(sockets.into_iter().map(|socket| (socket, Sharing::Own)).collect());
    }
    let Some(first) = sockets.first() else { return Ok(Vec::new()) };
    let turn = Arc::new(AcceptTurn::new(shards));
    (0..shards).map(|_| Ok((first.try_clone()?, Sharing::AllShards(Arc::clone(&turn))))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_are_found_by_where_they_listen_and_spread_over_the_shards() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inherited = Inherited::new([OwnedFd::from(listener)]);
        assert!(inherited.tcp("127.0.0.1:1".parse().unwrap()).unwrap().is_empty());
        assert!(inherited.unix(Path::new("/run/florin.sock")).unwrap().is_empty());
        let found = inherited.tcp(address).unwrap();
        assert_eq!(found.len(), 1);
        let shared = spread(found, 3).unwrap();
        assert!(
            shared.len() == 3 && shared.iter().all(|(_, sharing)| matches!(sharing, Sharing::AllShards(_)))
        );
        let own = spread(inherited.tcp(address).unwrap(), 1).unwrap();
        assert!(matches!(own[..], [(_, Sharing::Own)]));
        assert!(spread(Vec::new(), 2).unwrap().is_empty());
    }
}
