//! A node's end, as its shards agree on it.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// Whether the node is to end, and how far its shards are. Wake every shard after telling them.
#[derive(Debug)]
pub struct Shutdown {
    has_begun: AtomicBool,
    /// Shards that still have something to answer.
    undrained: AtomicU16,
    #[cfg(feature = "fault-injection")]
    hang: AtomicBool,
}

impl Shutdown {
    /// Of a node that serves.
    pub fn new(shards: u16) -> Shutdown {
        Shutdown {
            has_begun: AtomicBool::new(false),
            undrained: AtomicU16::new(shards),
            #[cfg(feature = "fault-injection")]
            hang: AtomicBool::new(false),
        }
    }

    /// A fault: one shard is never to turn again.
    #[cfg(feature = "fault-injection")]
    pub fn hang(&self) {
        self.hang.store(true, Ordering::Release);
    }

    /// Does not return to the first shard that comes after that was ordered.
    #[cfg(feature = "fault-injection")]
    pub fn hang_if_ordered(&self) {
        if self.hang.swap(false, Ordering::AcqRel) {
            loop {
                std::thread::park();
            }
        }
    }

    /// Accept nothing more, answer what has arrived, end.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// One shard has nothing left to do, and says so once. True if it was the last: it must wake every other.
    #[must_use = "the others sleep until they are woken"]
    pub fn note_drained(&self) -> bool {
        self.undrained.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether no shard has anything left to do.
    pub fn all_drained(&self) -> bool {
        self.undrained.load(Ordering::Acquire) == 0
    }
}
