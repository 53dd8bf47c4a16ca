//! Hello: how a caller learns the shards' ports, and who divides the users.

use std::{
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use florin_schema::{MapNode, NodeMap, generated::HelloReply};

use super::Via;
use crate::{
    generator::{Access, Endpoint, Endpoints},
    limits::PROBE_TIME,
    protocol::hello,
    work::keys::Owners,
};

/// Why the shards are not known.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The connection.
    #[error("asking {address} for its shards: {source}{}", unreached(source))]
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

/// What to do where nobody was reached.
fn unreached(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
            "; does the server run, and with this address?"
        }
        _ => "",
    }
}

/// Where the server at `address` is asked so: one of several nodes that divide the users tells of all of them.
pub fn endpoints(address: SocketAddr, access: &Access, via: Via) -> Result<Endpoints, HelloError> {
    let told = told(address, access)?;
    match (via, &told.map) {
        (Via::Neighbour, Some(_)) => Err(HelloError::Answer {
            address,
            what: "nodes that divide the users, which via=neighbour is not for".to_owned(),
        }),
        (_, Some(map)) => by_owner(map, address, access, via),
        (Via::Shard, None) => Ok(Endpoints::ByShard(told.shards(address)?)),
        (Via::Neighbour, None) => neighbours(address, told.shards(address)?),
        (Via::Any | Via::Http | Via::Unix, None) => Ok(Endpoints::Any(Endpoint::Tcp(address))),
    }
}

/// The lanes of nodes that divide the users: each node's shards' ports, or its any-shard port.
fn by_owner(map: &NodeMap, address: SocketAddr, access: &Access, via: Via) -> Result<Endpoints, HelloError> {
    let (mut lanes, mut endpoints) = (Vec::new(), Vec::new());
    for (place, node) in map.nodes().iter().enumerate() {
        let owns = |partition| map.owner(partition).is_some_and(|owner| usize::from(owner) == place);
        let of_node = match (0..map.partitions()).any(owns) {
            false => Vec::new(),
            true => {
                let at =
                    resolved(node, access).map_err(|source| HelloError::Connection { address, source })?;
                match via {
                    Via::Shard => told(at, access)?.shards(at)?,
                    _ => vec![Endpoint::Tcp(at)],
                }
            }
        };
        lanes.push(of_node.len() as u16);
        endpoints.extend(of_node);
    }
    let owners = Owners::new(map.clone(), lanes).map_err(|partition| HelloError::Answer {
        address,
        what: format!("nobody owns partition {partition} at the moment: wait until the nodes have it"),
    })?;
    Ok(Endpoints::ByOwner(Arc::new(owners), endpoints))
}

/// Where a node of a map is asked.
fn resolved(node: &MapNode, access: &Access) -> io::Result<SocketAddr> {
    let port = if access.tls().is_some() { node.tls_port } else { node.port };
    let nowhere =
        || io::Error::new(io::ErrorKind::NotFound, format!("node {} has no port for that", node.host));
    if port == 0 {
        return Err(nowhere());
    }
    (node.host.as_str(), port).to_socket_addrs()?.next().ok_or_else(nowhere)
}

/// The shard ports of the server at `address`, by shard: for callers by TLS those for them.
pub fn shard_ports(address: SocketAddr, access: &Access) -> Result<Vec<Endpoint>, HelloError> {
    told(address, access)?.shards(address)
}

/// What a Hello is answered, as far as it matters.
struct Told {
    shards: u16,
    ports: Vec<u16>,
    map: Option<NodeMap>,
}

impl Told {
    fn shards(&self, address: SocketAddr) -> Result<Vec<Endpoint>, HelloError> {
        let (count, shards) = (self.ports.len(), self.shards);
        if count == 0 || count != usize::from(shards) {
            return Err(HelloError::Answer { address, what: format!("{count} ports for {shards} shards") });
        }
        let endpoint = |&port: &u16| Endpoint::Tcp(SocketAddr::new(address.ip(), port));
        Ok(self.ports.iter().map(endpoint).collect())
    }
}

fn told(address: SocketAddr, access: &Access) -> Result<Told, HelloError> {
    let wrong = |what: String| HelloError::Answer { address, what };
    let body = exchange(address, access).map_err(|source| match source.kind() {
        // What is wrong with a certificate says nothing of who answers there.
        _ if source.get_ref().is_some_and(|error| error.is::<rustls::Error>()) => {
            HelloError::Connection { address, source }
        }
        io::ErrorKind::InvalidData => wrong(source.to_string()),
        io::ErrorKind::WouldBlock => wrong(format!("no answer within {PROBE_TIME:?}")),
        _ => HelloError::Connection { address, source },
    })?;
    let reply = flatbuffers::root::<HelloReply<'_>>(&body).map_err(|error| wrong(error.to_string()))?;
    let map = reply.nodes().map(NodeMap::read).transpose().map_err(|error| wrong(error.to_string()))?;
    let ports = reply.ports().map(|ports| ports.iter().collect()).unwrap_or_default();
    Ok(Told { shards: reply.shards(), ports, map })
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
