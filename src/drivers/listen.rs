//! Binding the sockets that shards accept on.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, Mode, OFlags, chmod, fchmod, flock};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{accept_turn::Sharing, inherited::Inherited, tcp};
use crate::{limits, shard::Listener};

/// Who may use a unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnixAccess {
    /// Its file's mode.
    pub mode: u32,
    /// The group that it is given to; none = this process's.
    pub group: Option<u32>,
}

impl Default for UnixAccess {
    /// Its user and its group.
    fn default() -> UnixAccess {
        UnixAccess { mode: 0o660, group: None }
    }
}

/// One listening socket of one shard. Blocking, because io_uring waits by itself for those and gives up on others.
#[derive(Debug)]
pub struct Listening {
    /// Which kind of port a connection came by.
    pub listener: Listener,
    /// The socket.
    pub socket: OwnedFd,
    /// Whether others accept on the same one.
    pub sharing: Sharing,
    /// Whether it was there before this process, and callers may have waited in it since.
    pub is_inherited: bool,
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "{address} is taken: another process listens there, or this node does already (ss -ltnp shows which); stop it, or choose \
         another port"
    )]
    Taken {
        /// Where.
        address: SocketAddr,
    },
    /// A live process listens there.
    #[error("{} is taken: another process accepts on this unix socket; stop it, or choose another path", path.display())]
    UnixTaken {
        /// Where.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} is not a socket and will not be replaced: choose another path for the unix socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The socket, or the lock beside it, would be one of the ledger's files.
    #[error(
        "--unix {}: this path, or {} beside it, is one of the ledger's own files: choose another path for the unix socket",
        path.display(), lock_of(path).display()
    )]
    LedgersOwn {
        /// Where.
        path: PathBuf,
    },
    /// The path cannot be used.
    #[error("cannot listen on the unix socket {}: {source}; {}", path.display(), unix_remedy(source))]
    Unix {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; {}", remedy(source))]
    Address {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The shard ports go beyond the last.
    #[error("{shards} shard ports from {first} on go beyond port 65535: choose a lower first port")]
    BeyondLastPort {
        /// The first shard's.
        first: u16,
        /// How many there are.
        shards: u16,
    },
}

/// What to do about an address that cannot be had.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has that address: give one that `ip address` lists, or 0.0.0.0 or [::] for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are root's: give a higher one, or CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit)"
        }
        _ => "give another address",
    }
}

/// What to do about a path that cannot be had.
fn unix_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "its folder has to be there: make it, or give another path"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "this user must be able to write to its folder: give another path, or RuntimeDirectory= in the unit"
        }
        io::ErrorKind::InvalidInput => "a socket's path has at most 107 bytes: give a shorter one",
        _ => "give another path",
    }
}

/// Binds one port once for each shard, among which the kernel spreads connections. Gives the actual address.
pub fn any_port(address: SocketAddr, shards: u16) -> Result<(SocketAddr, Vec<OwnedFd>), ListenError> {
    // The first claims the port alone, and only then lets siblings in. Were it bound as a sibling from the start, two
    // nodes of one user could share a port and each answer half of the callers.
    let first = exclusive(address)?;
    let failed = |source| ListenError::Address { address, source };
    first.set_reuse_port(true).map_err(failed)?;
    let actual = local_address(&first, address)?;
    let mut sockets = vec![OwnedFd::from(first)];
    for _ in 1..shards {
        let sibling = tcp_socket(actual).map_err(failed)?;
        sibling.set_reuse_port(true).map_err(failed)?;
        sibling.bind(&actual.into()).map_err(failed)?;
        sibling.listen(limits::LISTEN_BACKLOG).map_err(failed)?;
        sockets.push(sibling.into());
    }
    Ok((actual, sockets))
}

/// A port of its own for each shard: `first.port() + i`, or any free ones where that is 0. Those that were inherited are
/// taken, and the others bound.
pub fn shard_ports(
    first: SocketAddr,
    shards: u16,
    inherited: &Inherited,
) -> Result<Vec<(SocketAddr, OwnedFd)>, ListenError> {
    let base = first.port();
    let port_of = |shard: u16| match base {
        0 => Ok(0),
        _ => base.checked_add(shard).ok_or(ListenError::BeyondLastPort { first: base, shards }),
    };
    (0..shards)
        .map(|shard| {
            let address = SocketAddr::new(first.ip(), port_of(shard)?);
            let copies = inherited.tcp(address).map_err(|source| ListenError::Address { address, source })?;
            if let Some(socket) = copies.into_iter().next_back() {
                return Ok((address, socket));
            }
            let socket = exclusive(address)?;
            Ok((local_address(&socket, address)?, socket.into()))
        })
        .collect()
}

/// A unix socket's place in the file system, removed when the node ends.
#[derive(Debug)]
pub struct UnixPath {
    path: PathBuf,
    /// Device and inode, so that a successor's socket at the same path is left alone.
    identity: (u64, u64),
    /// Held as long as the socket is. The file stays, for whoever removed it could take it from a successor.
    _lock: OwnedFd,
}

impl UnixPath {
    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity) {
            // Whoever removed it in between has done what was to be done.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a unix socket on which all shards accept. Replaces what a dead process left there.
pub fn unix(path: &Path, access: UnixAccess, shards: u16) -> Result<(UnixPath, Vec<OwnedFd>), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let lock = lock(path)?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // The first narrows the mode with which the file is made, so that it is never wider than wanted, nor for the wrong group; the
    // second puts right what the umask has narrowed further.
    let narrow = if access.group.is_some() { 0o600 } else { access.mode };
    fchmod(&socket, Mode::from_raw_mode(narrow)).map_err(|errno| failed(errno.into()))?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::UnixTaken { path: path.to_owned() },
        _ => failed(source),
    })?;
    let file = fs::symlink_metadata(path).map_err(failed)?;
    let bound = UnixPath { path: path.to_owned(), identity: (file.dev(), file.ino()), _lock: lock };
    if access.group.is_some() {
        std::os::unix::fs::chown(path, None, access.group).map_err(failed)?;
    }
    chmod(path, Mode::from_raw_mode(access.mode)).map_err(|errno| failed(errno.into()))?;
    socket.listen(limits::LISTEN_BACKLOG).map_err(failed)?;
    let sockets = (0..shards).map(|_| socket.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>();
    Ok((bound, sockets.map_err(failed)?))
}

/// The lock beside a unix socket.
pub fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Takes `PATH.lock`, which one node at a time holds. Without it two that start at once could each find the place free or
/// stale, and one remove the socket on which the other has begun to listen.
fn lock(path: &Path) -> Result<OwnedFd, ListenError> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let failed = |errno: rustix::io::Errno| ListenError::Unix { path: path.to_owned(), source: errno.into() };
    let file = rustix::fs::open(lock_of(path), flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ListenError::UnixTaken { path: path.to_owned() }),
        Err(errno) => Err(failed(errno)),
    }
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // A listener whose queue is full would keep a blocking caller for as long as it accepts nobody.
    caller.set_nonblocking(true).map_err(failed)?;
    match caller.connect(&SockAddr::unix(path).map_err(failed)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It answers, or is too busy to: somebody lives there.
        Ok(()) => Err(ListenError::UnixTaken { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ListenError::UnixTaken { path: path.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Listens on a port that nobody else has, and waits a little for a predecessor that has just ended: its ring may hold
/// the listener a moment longer than its process lived.
fn exclusive(address: SocketAddr) -> Result<Socket, ListenError> {
    let deadline = Instant::now() + Duration::from_micros(limits::BIND_RETRY_US);
    loop {
        let attempt = tcp_socket(address).and_then(|socket| {
            socket.bind(&address.into())?;
            socket.listen(limits::LISTEN_BACKLOG)?;
            Ok(socket)
        });
        match attempt {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(ListenError::Address { address, source: error });
            }
            Err(_) if Instant::now() >= deadline => return Err(ListenError::Taken { address }),
            Err(_) => thread::sleep(limits::BIND_RETRY),
        }
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of a predecessor that are still being closed must not keep the port from us.
    socket.set_reuse_address(true)?;
    tcp::prepare(SockRef::from(&socket))?;
    Ok(socket)
}

fn local_address(socket: &Socket, address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let actual = socket.local_addr().map_err(|source| ListenError::Address { address, source })?;
    Ok(actual.as_socket().expect("a TCP socket's address is one of IP"))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::fs::PermissionsExt, os::unix::net::UnixListener};

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:0";

    #[test]
    fn one_port_serves_several_shards_and_no_second_node() {
        let (address, sockets) = any_port(LOOPBACK.parse().unwrap(), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_ne!(address.port(), 0);
        for shards in [1, 2] {
            let refusal = any_port(address, shards).unwrap_err();
            assert!(matches!(refusal, ListenError::Taken { .. }), "{refusal}");
        }
        let refusal = shard_ports(address, 1, &Inherited::default()).unwrap_err();
        assert!(refusal.to_string().contains("is taken"), "{refusal}");
    }

    #[test]
    fn a_port_that_somebody_else_listens_on_is_refused() {
        let stranger = TcpListener::bind(LOOPBACK).unwrap();
        let refusal = any_port(stranger.local_addr().unwrap(), 2).unwrap_err();
        assert!(matches!(refusal, ListenError::Taken { .. }), "{refusal}");
    }

    #[test]
    fn a_port_that_becomes_free_within_the_time_is_taken() {
        let predecessor = TcpListener::bind(LOOPBACK).unwrap();
        let address = predecessor.local_addr().unwrap();
        let successor = thread::spawn(move || any_port(address, 2).map(|(address, _)| address));
        drop(predecessor);
        assert_eq!(successor.join().unwrap().unwrap(), address);
    }

    #[test]
    fn shard_ports_follow_each_other_or_are_any_and_end_with_the_last_port() {
        let any = shard_ports(LOOPBACK.parse().unwrap(), 3, &Inherited::default()).unwrap();
        assert!(any.iter().all(|(address, _)| address.port() != 0));
        let refusal = shard_ports("127.0.0.1:65535".parse().unwrap(), 2, &Inherited::default()).unwrap_err();
        assert!(matches!(refusal, ListenError::BeyondLastPort { .. }), "{refusal}");
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_the_systems_words() {
        let refusal = any_port("192.0.2.1:0".parse().unwrap(), 1).unwrap_err();
        assert!(refusal.to_string().contains("192.0.2.1"), "{refusal}");
        assert!(matches!(refusal, ListenError::Address { .. }));
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_node() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("florin.sock");
        let (bound, sockets) = unix(&path, UnixAccess::default(), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(unix(&path, UnixAccess::default(), 1).unwrap_err(), ListenError::UnixTaken { .. }));
        drop((bound, sockets));
        assert!(!path.exists());
    }

    #[test]
    fn a_unix_socket_is_whose_it_was_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("florin.sock");
        let group = rustix::process::getgid().as_raw();
        let (_bound, _) = unix(&path, UnixAccess { mode: 0o606, group: Some(group) }, 1).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.permissions().mode() & 0o777, file.gid()), (0o606, group));
    }

    /// Two nodes that started at once on one path: each could find a stale socket there, and the slower one removed the live
    /// socket of the faster one, or ended as if the path could not be used at all.
    #[test]
    fn of_those_that_start_at_once_on_one_path_one_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("florin.sock");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(4);
            let outcomes: Vec<_> = thread::scope(|scope| {
                let race = || {
                    start.wait();
                    unix(&path, UnixAccess::default(), 1)
                };
                let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).collect()
            });
            assert!(path.exists());
            let (served, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(served.len(), 1);
            for refusal in refused {
                assert!(matches!(refusal, Err(ListenError::UnixTaken { .. })), "{refusal:?}");
            }
            drop(served);
            assert!(!path.exists());
        }
    }

    /// A listener that had stopped accepting, its queue full, held the start of another node on its path for ever.
    #[test]
    fn a_live_listener_whose_queue_is_full_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("florin.sock");
        let stuck = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        stuck.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        stuck.listen(0).unwrap();
        let mut queued = Vec::new();
        let full = (0..16).find_map(|_| {
            let caller = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            caller.set_nonblocking(true).unwrap();
            let outcome = caller.connect(&SockAddr::unix(&path).unwrap()).err();
            queued.push(caller);
            outcome
        });
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        let (tell, told) = std::sync::mpsc::channel();
        let at = path.clone();
        thread::spawn(move || tell.send(unix(&at, UnixAccess::default(), 1).map(drop)));
        let outcome = told.recv_timeout(Duration::from_secs(30)).expect("it ends");
        assert!(matches!(outcome, Err(ListenError::UnixTaken { .. })), "{outcome:?}");
        assert!(path.exists(), "a live socket stays");
    }

    #[test]
    fn a_dead_processes_socket_is_replaced_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("florin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (bound, _sockets) = unix(&path, UnixAccess::default(), 1).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert!(matches!(unix(&file, UnixAccess::default(), 1).unwrap_err(), ListenError::NotASocket { .. }));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        // A successor that took the path over keeps it.
        fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn a_unix_path_that_cannot_be_is_refused_by_name() {
        let refusal = unix(Path::new("/nonexistent/florin.sock"), UnixAccess::default(), 1).unwrap_err();
        assert!(refusal.to_string().contains("/nonexistent/florin.sock"), "{refusal}");
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(matches!(unix(&long, UnixAccess::default(), 1).unwrap_err(), ListenError::Unix { .. }));
    }
}
