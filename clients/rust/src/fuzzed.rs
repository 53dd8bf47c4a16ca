//! What a server may say, read as a client reads it: for `fuzz/`, and for no caller.

use std::sync::Arc;

use florin_schema::records::{Balance, Balances, Statistics};
use florin_schema::{NodeMap, Opcode};

use crate::connection::read::{RawReply, ReadBuffer};
use crate::connection::{Common, greeted};
use crate::{Address, Builder, Error, Reply, reply};

/// Reads `came` as the replies of a node, each as an answer to every question.
///
/// # Errors
/// The first that is no reply.
pub fn replies(came: &[u8]) -> Result<usize, crate::ProtocolError> {
    let address: Address = "127.0.0.1:1".parse().expect("an address");
    let replies = taken(came)?;
    for raw in &replies {
        let balance: Result<Reply<Balance>, Error> = reply::read(&address, Opcode::GetBalance, raw.clone());
        let _ = balance.map(|reply| reply.to_record());
        let statistics: Result<Reply<Statistics>, Error> =
            reply::read(&address, Opcode::GetStatistics, raw.clone());
        let _ = statistics.map(|reply| reply.to_record());
        let balances: Result<Reply<Balances>, Error> =
            reply::read(&address, Opcode::GetBalances, raw.clone());
        let _ = balances.map(|reply| reply.origin());
        let _ = reply::check_header(&address, Opcode::Ping, raw);
    }
    Ok(replies.len())
}

/// What a node says of itself.
#[derive(Debug)]
pub struct Hello {
    /// How many it has.
    pub shards: u16,
    /// How many of their ports it tells.
    pub ports: usize,
    /// Who has which partition, where it tells.
    pub map: Option<Arc<NodeMap>>,
}

/// Reads `came` as the replies of nodes, each as the answer to the first Hello of a client; those that are none are left out.
///
/// # Errors
/// The first that is no reply.
pub fn hellos(came: &[u8]) -> Result<Vec<Hello>, crate::ProtocolError> {
    let address: Address = "127.0.0.1:1".parse().expect("an address");
    let settings = Arc::new(Builder::default().settings);
    let hello = |raw: &RawReply| {
        let common = Common {
            settings: Arc::clone(&settings),
            tls: None,
            tally: Arc::default(),
            ledger: Arc::default(),
            good: Arc::default(),
            heard: Arc::default(),
        };
        let said = greeted(&common, &address, raw).ok()?;
        Some(Hello { shards: said.shards, ports: said.ports.len(), map: common.heard.later_than(0) })
    };
    Ok(taken(came)?.iter().filter_map(hello).collect())
}

/// In two pieces, as the kernel may hand them over.
fn taken(came: &[u8]) -> Result<Vec<RawReply>, crate::ProtocolError> {
    let (mut buffer, mut replies) = (ReadBuffer::default(), Vec::new());
    for piece in [&came[..came.len() / 2], &came[came.len() / 2..]] {
        buffer.room().extend_from_slice(piece);
        buffer.take(&mut replies)?;
    }
    Ok(replies)
}
