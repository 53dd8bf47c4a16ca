//! A node's end, as its shards agree on it.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use super::ShardWaker;
use crate::limits;

/// Whether the node is to end, and how far its shards are. Wake every shard after telling them.
#[derive(Debug)]
pub struct Shutdown {
    has_begun: AtomicBool,
    /// Shards that still have something to answer.
    undrained: AtomicU16,
}

impl Shutdown {
    /// Of a node that serves.
    pub fn new(shards: u16) -> Shutdown {
        Shutdown { has_begun: AtomicBool::new(false), undrained: AtomicU16::new(shards) }
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
    fn note_drained(&self) -> bool {
        self.undrained.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether no shard has anything left to do.
    fn all_drained(&self) -> bool {
        self.undrained.load(Ordering::Acquire) == 0
    }
}

/// One shard's part in the end.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Where it has begun: when it ends at the latest.
    until_us: Option<u64>,
    /// Nothing is left to do here; the neighbours may still need answers.
    has_drained: bool,
}

impl Drain {
    /// Looks whether the node is to end. True where the drain begins with that: then the shard is to be told.
    pub fn begins(&mut self, shutdown: &Shutdown, now_us: u64) -> bool {
        let begins = self.until_us.is_none() && shutdown.has_begun();
        if begins {
            self.until_us = Some(now_us + limits::DRAIN_US);
        }
        begins
    }

    /// Without being told: the driver cannot go on.
    pub fn force(&mut self, until_us: u64) {
        self.until_us = Some(until_us);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.until_us.is_some()
    }

    /// Where it has begun: when it ends at the latest.
    pub fn until_us(&self) -> Option<u64> {
        self.until_us
    }

    /// Whether it has come to its end: on all shards, for one that still answers may need its neighbours. `is_done` says
    /// whether nothing is left to do on this one.
    pub fn is_over(
        &mut self,
        shutdown: &Shutdown,
        wakers: &[ShardWaker],
        now_us: u64,
        is_done: impl FnOnce() -> bool,
    ) -> bool {
        let Some(until_us) = self.until_us else { return false };
        if !self.has_drained {
            self.has_drained = is_done();
            if self.has_drained && shutdown.note_drained() {
                wakers.iter().for_each(ShardWaker::wake);
            }
        }
        shutdown.all_drained() || now_us >= until_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_has_drained_waits_for_the_others_and_no_longer_than_it_may() {
        let shutdown = Shutdown::new(2);
        let wakers = [ShardWaker::new().unwrap(), ShardWaker::new().unwrap()];
        let [mut first, mut second] = [Drain::default(), Drain::default()];
        assert!(!first.begins(&shutdown, 5) && !first.is_over(&shutdown, &wakers, 5, || true));
        shutdown.begin();
        assert!(first.begins(&shutdown, 5) && !first.begins(&shutdown, 6));
        assert!(!first.is_over(&shutdown, &wakers, 6, || true));
        assert!(first.is_over(&shutdown, &wakers, 5 + limits::DRAIN_US, || unreachable!("it has said so")));
        assert!(second.begins(&shutdown, 7) && !second.is_over(&shutdown, &wakers, 8, || false));
        assert!(second.is_over(&shutdown, &wakers, 9, || true));
        assert!(first.is_over(&shutdown, &wakers, 9, || unreachable!("it has said so")));
    }
}
