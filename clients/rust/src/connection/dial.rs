//! Making a connection: the socket, and the Hello that every connection begins with.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use flatbuffers::FlatBufferBuilder;
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{LedgerId, NodeId, NodeIdentity, NodeMap, Opcode, generated as fbs};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::Shared;
use super::reach::reach;
use super::read::{RawReply, ReadBuffer};
use crate::builder::Resolver;
use crate::limits::SHARDS_MAX;
use crate::request::Request;
use crate::{Address, ConnectInfo, Disconnect, Error, Freshness, ProtocolError, reply};

pub(super) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// What a server says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ShardMap {
    /// Name and version.
    pub server: String,
    /// How many.
    pub shards: u16,
    /// Each shard's own port; none over a unix socket, or where the server routes by a function that we do not know.
    pub ports: Vec<u16>,
    /// The server's address on this connection.
    pub host: Option<IpAddr>,
    /// Which node answers, and from which ledger.
    pub identity: NodeIdentity,
}

/// A connection that has been greeted.
pub(super) struct Dialled {
    pub reading: Reading,
    pub writing: Writing,
    pub buffer: ReadBuffer,
    pub map: Arc<ShardMap>,
}

/// The Hello's request id: nothing else has been asked by then.
const HELLO_ID: u64 = 0;

/// Connects and says Hello, within the time that the settings give for it, and tells of it.
pub(super) async fn dial(shared: &Shared) -> Result<Dialled, Error> {
    let Some(hooks) = &shared.settings.hooks else { return dial_untold(shared).await };
    let began = Instant::now();
    let dialled = dial_untold(shared).await;
    hooks.connect(&ConnectInfo {
        node: shared.node(),
        address: &shared.address,
        duration: began.elapsed(),
        error: dialled.as_ref().err(),
    });
    dialled
}

async fn dial_untold(shared: &Shared) -> Result<Dialled, Error> {
    let limit = shared.settings.connect_timeout;
    let is_greeted = AtomicBool::new(false);
    match tokio::time::timeout(limit, connect_and_greet(shared, &is_greeted)).await {
        Ok(dialled) => dialled,
        Err(_) if is_greeted.load(Relaxed) => Err(shared.disconnected(Disconnect::NoHello(limit))),
        Err(_) => Err(shared.disconnected(Disconnect::ConnectTimeout(limit))),
    }
}

async fn connect_and_greet(shared: &Shared, is_greeted: &AtomicBool) -> Result<Dialled, Error> {
    let failed = |error| shared.disconnected(Disconnect::Connect(Arc::new(error)));
    let resolver = shared.settings.resolver.as_ref();
    let (mut reading, mut writing, host): (Reading, Writing, _) = match &shared.address {
        Address::Tcp { host, port } => {
            let (stream, peer) = open(resolver, host, *port).await.map_err(failed)?;
            let (reading, writing) = stream.into_split();
            (Box::new(reading), Box::new(writing), Some(peer))
        }
        Address::Tls { host, port } => {
            let (stream, peer) = open(resolver, host, *port).await.map_err(failed)?;
            let stream = secure(shared, stream, host).await.map_err(|error| shared.failed(error))?;
            let (reading, writing) = split(stream);
            (Box::new(reading), Box::new(writing), Some(peer))
        }
        Address::Unix(path) => {
            let (reading, writing) = UnixStream::connect(path).await.map_err(failed)?.into_split();
            (Box::new(reading), Box::new(writing), None)
        }
    };
    let written = write_out(&mut writing, &hello(shared)).await;
    is_greeted.store(written.is_ok(), Relaxed);
    let mut buffer = ReadBuffer::default();
    let reply = match (written, first_reply(shared, &mut reading, &mut buffer).await) {
        (Ok(()), reply) => reply?,
        // A node that ends a connection may have said why.
        (Err(_), Err(said @ Error::Disconnected { cause: Disconnect::Tls(_), .. })) => return Err(said),
        (Err(error), _) => return Err(shared.failed(error)),
    };
    let map = greeted(shared, &reply, host)?;
    Ok(Dialled { reading, writing, buffer, map: Arc::new(map) })
}

/// What the answer to Hello says. The map of partitions is kept, where there is one.
pub(super) fn greeted(shared: &Shared, reply: &RawReply, host: Option<IpAddr>) -> Result<ShardMap, Error> {
    let map = shard_map(shared, reply, host)?;
    shared.check_identity(&map)?;
    note_map(shared, reply)?;
    Ok(map)
}

/// Writes, to the end: what encrypts keeps what it could not write at once.
pub(super) async fn write_out(writing: &mut Writing, bytes: &[u8]) -> io::Result<()> {
    writing.write_all(bytes).await?;
    writing.flush().await
}

/// A socket, and who is at its other end.
async fn open(resolver: Option<&Resolver>, host: &str, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let stream = reach(resolver, host, port).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    let peer = stream.peer_addr()?.ip();
    Ok((stream, peer))
}

async fn secure(shared: &Shared, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let called = shared.node().host().unwrap_or(host);
    let connector = shared.tls.as_ref().expect("whoever has an address for TLS has a connector");
    connector.secure(stream, called).await
}

/// Finds a peer that has vanished without a word, also where nothing is asked: within half a minute.
fn keepalive() -> TcpKeepalive {
    let (idle, interval) = (Duration::from_secs(15), Duration::from_secs(5));
    TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3)
}

fn hello(shared: &Shared) -> Vec<u8> {
    let body = hello_body(shared);
    let request = Request { opcode: Opcode::Hello, user_id: 0, freshness: Freshness::default(), body: &body };
    let mut frame = Vec::new();
    request.encode(HELLO_ID, &mut frame);
    frame
}

/// What a Hello says.
pub(super) fn hello_body(shared: &Shared) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let client = Some(builder.create_string(&shared.settings.client_name));
    let token = Some(builder.create_string(&shared.settings.token));
    let root = fbs::Hello::create(&mut builder, &fbs::HelloArgs { client, token });
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

async fn first_reply(
    shared: &Shared,
    reading: &mut Reading,
    buffer: &mut ReadBuffer,
) -> Result<RawReply, Error> {
    let mut replies = Vec::new();
    loop {
        let read = reading.read_buf(buffer.room()).await.map_err(|error| shared.failed(error))?;
        if read == 0 {
            return Err(shared.disconnected(buffer.closed()));
        }
        buffer.take(&mut replies).map_err(|error| shared.garbage(error))?;
        // One request has been sent; what a server says beyond its answer is nobody's.
        if !replies.is_empty() {
            let reply = replies.swap_remove(0);
            return match reply.header.request_id.get() {
                HELLO_ID => Ok(reply),
                other => Err(shared.garbage(ProtocolError::RequestId(other))),
            };
        }
    }
}

fn hello_reply<'a>(shared: &Shared, reply: &'a RawReply) -> Result<fbs::HelloReply<'a>, Error> {
    reply::check_header(&shared.address, Opcode::Hello, reply)?;
    flatbuffers::root::<fbs::HelloReply>(reply.body())
        .map_err(|error| shared.garbage(ProtocolError::Body(error.to_string())))
}

/// Keeps the map of partitions, where the node has told one.
pub(super) fn note_map(shared: &Shared, reply: &RawReply) -> Result<(), Error> {
    let map = hello_reply(shared, reply)?.nodes().map(NodeMap::read).transpose();
    let map = map.map_err(|error| shared.garbage(ProtocolError::NodeMap(error)))?;
    shared.heard.hear(map);
    Ok(())
}

fn shard_map(shared: &Shared, reply: &RawReply, host: Option<IpAddr>) -> Result<ShardMap, Error> {
    let garbage = |error| shared.garbage(error);
    let hello = hello_reply(shared, reply)?;
    if hello.rkyv_schema() != SCHEMA_FINGERPRINT {
        return Err(reply::schema_mismatch(&shared.address, hello.rkyv_schema() as u32));
    }
    let ports: Vec<u16> = hello.ports().map(|ports| ports.iter().collect()).unwrap_or_default();
    let shards = hello.shards();
    if shards == 0 || shards > SHARDS_MAX || !(ports.is_empty() || ports.len() == usize::from(shards)) {
        return Err(garbage(ProtocolError::ShardMap { shards, ports: ports.len() }));
    }
    let routable = hello.mix() == Some("splitmix64");
    Ok(ShardMap {
        server: hello.server().unwrap_or_default().to_owned(),
        shards,
        ports: if routable { ports } else { Vec::new() },
        host,
        identity: NodeIdentity { node: NodeId(hello.node_id()), ledger: LedgerId(hello.ledger_id()) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose host had vanished kept its callers' connections, on which nothing was asked, for ever.
    #[tokio::test]
    async fn a_node_is_asked_whether_it_is_still_there() {
        let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (stream, _) = open(None, "127.0.0.1", node.local_addr().unwrap().port()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
    }
}
