//! Hello: how a caller learns the shards' ports.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::generated::{Hello, HelloArgs, HelloReply};
use florin_schema::{Opcode, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::probe;
use crate::{
    generator::{Endpoint, Endpoints},
    limits,
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

/// The shard ports of the server at `address`, by shard.
pub fn shard_ports(address: SocketAddr) -> Result<Vec<Endpoint>, HelloError> {
    let (header, body) = exchange(address).map_err(|source| HelloError::Connection { address, source })?;
    let wrong = |what: String| HelloError::Answer { address, what };
    if header.status != Status::Ok as u8 || header.opcode != Opcode::Hello as u8 {
        return Err(wrong(format!("status {} to opcode {}", header.status, header.opcode)));
    }
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

fn exchange(address: SocketAddr) -> io::Result<(ReplyHeader, Vec<u8>)> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let client = Some(builder.create_string(concat!("florin-bench ", env!("CARGO_PKG_VERSION"))));
    let hello = Hello::create(&mut builder, &HelloArgs { client, token: None });
    builder.finish(hello, None);
    let body = builder.finished_data();
    let request = RequestHeader {
        length: ((size_of::<RequestHeader>() + body.len()) as u32).into(),
        version: frame::VERSION,
        opcode: Opcode::Hello as u8,
        encoding: 0,
        flags: 0,
        request_id: 1.into(),
        user_id: 0.into(),
    };
    let mut stream = probe::connect(&Endpoint::Tcp(address))?;
    stream.write_all(&[request.as_bytes(), body].concat())?;
    let mut header = [0; size_of::<ReplyHeader>()];
    stream.read_exact(&mut header)?;
    let header = ReplyHeader::read_from_bytes(&header).expect("as many bytes as a header has");
    let body_bytes = (header.length.get() as usize).saturating_sub(size_of::<ReplyHeader>());
    let mut body = vec![0; body_bytes.min(limits::REPLY_BYTES_MAX)];
    stream.read_exact(&mut body)?;
    Ok((header, body))
}
