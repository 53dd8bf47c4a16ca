//! Connections that are open and say nothing: what callers' pools mostly hold.

use std::{net::TcpStream, os::unix::net::UnixStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{TargetError, operation};
use crate::generator::{Endpoint, Endpoints};

/// One of them; closed when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "they are only held")]
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Opens so many, in turn at each endpoint.
pub(super) fn connect(endpoints: &Endpoints, count: u32) -> Result<Vec<Connection>, TargetError> {
    if count > 0 {
        allow_many_files();
    }
    let open = |(number, endpoint): (u32, &Endpoint)| {
        let opened = match endpoint {
            Endpoint::Tcp(address) => TcpStream::connect(address).map(Connection::Tcp),
            Endpoint::Unix(path) => UnixStream::connect(path).map(Connection::Unix),
        };
        opened.map_err(operation(format!("idle connection {number} of {count} to {endpoint}")))
    };
    (1..=count).zip(endpoints.all().iter().cycle()).map(open).collect()
}

/// Each connection is a file of this process, and of the servers that it starts from then on. Where the limit stays too low, connecting
/// says so.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
