//! Listening sockets that somebody else has made and handed over, as systemd does for `florin.socket`: callers wait in
//! them while no node runs, so that a restart refuses nobody.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use socket2::{SockAddr, SockRef, Socket};

use super::{
    accept_turn::{AcceptTurn, Sharing},
    tcp,
};

/// The sockets that this process was started with. Each is used instead of binding its address again.
#[derive(Clone, Debug, Default)]
pub struct Inherited(Arc<[Held]>);

/// One of them, and whether anything has taken it.
#[derive(Debug)]
struct Held {
    socket: Socket,
    is_used: AtomicBool,
}

impl Inherited {
    /// These.
    pub fn new(sockets: impl IntoIterator<Item = OwnedFd>) -> Inherited {
        let held = |socket| Held { socket: Socket::from(socket), is_used: AtomicBool::new(false) };
        Inherited(sockets.into_iter().map(held).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that listen on `address`; `[::]` listens on `0.0.0.0` too, unless it was told not to.
    ///
    /// # Errors
    /// The system's; and one that stands in the way of `address`, for it listens on more of its port, or on less.
    pub fn tcp(&self, address: SocketAddr) -> io::Result<Vec<OwnedFd>> {
        for Held { socket, .. } in self.0.iter() {
            let Some(bound) = socket.local_addr()?.as_socket() else { continue };
            if overlap(socket, bound, address) && !covers(socket, bound, address) {
                return Err(io::Error::other(format!(
                    "the socket that was handed over (florin.socket) listens on {bound}: name the same address in both"
                )));
            }
        }
        let is_wanted = |socket: &Socket, bound: &SockAddr| {
            bound.as_socket().is_some_and(|bound| covers(socket, bound, address))
        };
        self.copies(is_wanted, |socket| tcp::prepare(SockRef::from(socket)))
    }

    /// Where those listen that nothing has taken: who connects there waits, and nobody comes.
    pub fn unused(&self) -> Vec<String> {
        let unused = self.0.iter().filter(|held| !held.is_used.load(Ordering::Relaxed));
        let place = |held: &Held| match held.socket.local_addr() {
            Ok(bound) => match (bound.as_socket(), bound.as_pathname()) {
                (Some(address), _) => address.to_string(),
                (None, Some(path)) => path.display().to_string(),
                (None, None) => "an address without a name".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        unused.map(place).collect()
    }

    /// Those that listen on `path`.
    pub fn unix(&self, path: &Path) -> io::Result<Vec<OwnedFd>> {
        self.copies(|_, bound| bound.as_pathname() == Some(path), |_| Ok(()))
    }

    fn copies(
        &self,
        is_wanted: impl Fn(&Socket, &SockAddr) -> bool,
        prepare: impl Fn(&Socket) -> io::Result<()>,
    ) -> io::Result<Vec<OwnedFd>> {
        let mut copies = Vec::new();
        for Held { socket, is_used } in self.0.iter() {
            if is_wanted(socket, &socket.local_addr()?) {
                is_used.store(true, Ordering::Relaxed);
                socket.set_nonblocking(false)?;
                prepare(socket)?;
                copies.push(socket.try_clone()?.into());
            }
        }
        Ok(copies)
    }
}

/// Whether `socket`, which is bound to `bound`, brings all callers of `wanted` and no others.
fn covers(socket: &Socket, bound: SocketAddr, wanted: SocketAddr) -> bool {
    let is_dual =
        || bound.is_ipv6() && bound.ip().is_unspecified() && socket.only_v6().is_ok_and(|only| !only);
    let is_any_v4 = wanted.is_ipv4() && wanted.ip().is_unspecified();
    bound == wanted || (bound.port() == wanted.port() && is_any_v4 && is_dual())
}

/// Whether `wanted` cannot be bound beside it.
fn overlap(socket: &Socket, bound: SocketAddr, wanted: SocketAddr) -> bool {
    let is_v6_alone = bound.is_ipv6() && wanted.is_ipv4() && socket.only_v6().unwrap_or(false);
    bound.port() == wanted.port() && !is_v6_alone && tcp::overlap(bound, wanted)
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

    /// A handed-over `[::]` beside `listen = "0.0.0.0:…"` was once "another process", and one that no setting named kept its
    /// callers waiting without a word.
    #[test]
    fn a_socket_that_listens_everywhere_is_known_and_what_is_left_over_is_named() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return eprintln!("skipped: needs IPv6") };
        let port = listener.local_addr().unwrap().port();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let left_over = other.local_addr().unwrap();
        let inherited = Inherited::new([OwnedFd::from(listener), OwnedFd::from(other)]);
        assert_eq!(inherited.unused().len(), 2);
        assert_eq!(inherited.tcp(SocketAddr::from(([0, 0, 0, 0], port))).unwrap().len(), 1);
        assert_eq!(inherited.unused(), [left_over.to_string()]);
        let narrower = inherited.tcp(SocketAddr::from(([127, 0, 0, 1], port))).unwrap_err().to_string();
        assert!(
            narrower.contains(&format!("[::]:{port}")) && narrower.contains("florin.socket"),
            "{narrower}"
        );
        let wider =
            inherited.tcp(SocketAddr::from(([0, 0, 0, 0], left_over.port()))).unwrap_err().to_string();
        assert!(wider.contains(&left_over.to_string()), "{wider}");
    }

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
