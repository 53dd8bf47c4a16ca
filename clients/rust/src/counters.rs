//! What a client has done so far: for metrics, and to see that coalescing works.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Address;

/// A reading of a client's counters. All of them only ever grow. Hellos are not among the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Requests handed to a connection, those that were sent again and second ones included.
    pub requests: u64,
    /// Writes that carried them: `requests / writes` is how many shared one.
    pub writes: u64,
    /// Replies that a caller got.
    pub replies: u64,
    /// Replies that came after their caller had left.
    pub late_replies: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Second requests; see [`crate::Hedge`].
    pub hedges: u64,
    /// Second requests whose answer the caller got.
    pub hedges_won: u64,
    /// Second requests that were due, and not sent for the share was used up.
    pub hedges_withheld: u64,
    /// Connections made, reconnections included.
    pub connects: u64,
    /// Connections that ended or could not be made.
    pub disconnects: u64,
}

/// How a client's connections to one node stand at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodePool {
    /// The node's, as the caller gave it.
    pub address: Address,
    /// How many shards the node has; 0 before the client has learnt it.
    pub shards: u16,
    /// How many connections the client keeps: those to the address, and those to the shards.
    pub connections: usize,
    /// Of these, those that are heard.
    pub good: usize,
    /// And those that owe answers and have been silent for [`crate::Builder::stall_after`]. The rest is being made, or made again.
    pub silent: usize,
    /// Requests that are unanswered, of at most [`crate::Builder::in_flight_max`] on each connection.
    pub in_flight: usize,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
}

/// The counters themselves, shared by a client's connections.
#[derive(Default)]
pub(crate) struct Tally {
    pub requests: AtomicU64,
    pub writes: AtomicU64,
    pub replies: AtomicU64,
    pub late_replies: AtomicU64,
    pub retries: AtomicU64,
    pub hedges: AtomicU64,
    pub hedges_won: AtomicU64,
    pub hedges_withheld: AtomicU64,
    pub connects: AtomicU64,
    pub disconnects: AtomicU64,
}

impl Tally {
    pub fn read(&self) -> Counters {
        Counters {
            requests: self.requests.load(Relaxed),
            writes: self.writes.load(Relaxed),
            replies: self.replies.load(Relaxed),
            late_replies: self.late_replies.load(Relaxed),
            retries: self.retries.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            hedges_won: self.hedges_won.load(Relaxed),
            hedges_withheld: self.hedges_withheld.load(Relaxed),
            connects: self.connects.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
        }
    }
}

/// Adds to a counter of a [`Tally`].
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}
