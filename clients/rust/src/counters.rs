//! What a client has done so far: for metrics, and to see that coalescing works.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A reading of a client's counters. All of them only ever grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests handed to a connection, retries included.
    pub requests: u64,
    /// Writes that carried them: `requests / writes` is how many shared one.
    pub writes: u64,
    /// Replies that a caller got.
    pub replies: u64,
    /// Replies that came after their caller had left.
    pub late_replies: u64,
    /// Connections made, reconnections included.
    pub connects: u64,
    /// Connections that ended or could not be made.
    pub disconnects: u64,
}

/// The counters themselves, shared by a client's connections.
#[derive(Default)]
pub(crate) struct Tally {
    pub requests: AtomicU64,
    pub writes: AtomicU64,
    pub replies: AtomicU64,
    pub late_replies: AtomicU64,
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
            connects: self.connects.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
        }
    }
}

/// Adds to a counter of a [`Tally`].
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}
