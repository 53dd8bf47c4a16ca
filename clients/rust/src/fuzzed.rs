//! What a server may say, read as a client reads it: for `fuzz/`, and for no caller.

use florin_schema::Opcode;
use florin_schema::records::{Balance, Balances, Statistics};

use crate::connection::read::ReadBuffer;
use crate::{Address, Error, Reply, reply};

/// Reads `came` as the replies of a node, each as an answer to every question.
///
/// # Errors
/// The first that is no reply.
pub fn replies(came: &[u8]) -> Result<usize, crate::ProtocolError> {
    let address: Address = "127.0.0.1:1".parse().expect("an address");
    let (mut buffer, mut replies) = (ReadBuffer::default(), Vec::new());
    // In two pieces, as the kernel may hand them over.
    for piece in [&came[..came.len() / 2], &came[came.len() / 2..]] {
        buffer.room().extend_from_slice(piece);
        buffer.take(&mut replies)?;
    }
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
