//! Hello: how a caller learns the shards' ports.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use florin_schema::generated::HelloReply;

use crate::{
    generator::{Access, Endpoint, Endpoints},
    protocol::hello,
};

/// Why the shards are not known.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The connection.
    #[error("asking {address} for its shards: {source}")]
    Connection {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An answer that is none.
    #[error("{address} does not say which shards it has ({what}): is it florin? else say via=any")]
    Answer {
        /// Where.
        address: SocketAddr,
        /// What is wrong.
        what: String,
    },
}

/// The shard ports of the server at `address`, by shard: for callers by TLS those for them.
pub fn shard_ports(address: SocketAddr, access: &Access) -> Result<Vec<Endpoint>, HelloError> {
    let wrong = |what: String| HelloError::Answer { address, what };
    let body = exchange(address, access).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => wrong(source.to_string()),
        _ => HelloError::Connection { address, source },
    })?;
    let reply = flatbuffers::root::<HelloReply<'_>>(&body).map_err(|error| wrong(error.to_string()))?;
    let ports: Vec<u16> = reply.ports().map(|ports| ports.iter().collect()).unwrap_or_default();
    if ports.is_empty() || ports.len() != usize::from(reply.shards()) {
        return Err(wrong(format!("{} ports for {} shards", ports.len(), reply.shards())));
    }
    Ok(ports.into_iter().map(|port| Endpoint::Tcp(SocketAddr::new(address.ip(), port))).collect())
}

/// For each shard of the server at `address` the port of the next one, at which every question about its users is another shard's.
pub fn neighbours(address: SocketAddr, mut ports: Vec<Endpoint>) -> Result<Endpoints, HelloError> {
    if ports.len() < 2 {
        let what = "one shard, which has no neighbour: say shards=2".to_owned();
        return Err(HelloError::Answer { address, what });
    }
    ports.rotate_left(1);
    Ok(Endpoints::ByShard(ports))
}

fn exchange(address: SocketAddr, access: &Access) -> io::Result<Vec<u8>> {
    let mut stream = access.connect(&Endpoint::Tcp(address))?;
    stream.write_all(&hello::request(access.token()))?;
    hello::reply(stream)
}
