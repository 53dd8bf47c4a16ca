//! A connection's bytes: questions that wait to be sent, and the beginning of an answer that was cut.

use super::{
    pending::{Ordering, Pending},
    sealing::Sealing,
};
use crate::protocol::Wrong;

/// One connection, but for its socket.
#[derive(Debug)]
pub(super) struct Connection {
    /// Whose turn its questions are: a shard's port, or the only one.
    pub(super) lane: usize,
    pub(super) pending: Pending,
    /// Questions written while a send is in flight, or in this turn.
    pub(super) out: Vec<u8>,
    /// The other buffer, while no send has it.
    pub(super) spare: Option<Vec<u8>>,
    /// An answer's first bytes.
    pub(super) carried: Vec<u8>,
    /// In the turn's list of connections to look at.
    pub(super) touched: bool,
    /// By TLS.
    pub(super) sealing: Option<Sealing>,
}

impl Connection {
    pub(super) fn new(lane: usize, depth: usize, ordering: Ordering, sealing: Option<Sealing>) -> Connection {
        Connection {
            lane,
            pending: Pending::new(depth, ordering),
            out: Vec::new(),
            spare: Some(Vec::new()),
            carried: Vec::new(),
            touched: false,
            sealing,
        }
    }

    /// What is to be sent, as it is sent. By TLS in the buffer that is spare, which else takes what is asked next.
    #[inline]
    pub(super) fn take_out(&mut self, mut spare: Vec<u8>) -> Result<Vec<u8>, Wrong> {
        let Some(sealing) = &mut self.sealing else { return Ok(std::mem::replace(&mut self.out, spare)) };
        sealing.seal(&self.out, &mut spare)?;
        self.out.clear();
        Ok(spare)
    }
}
