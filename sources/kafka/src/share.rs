//! Which partitions a node follows, and how far it is with each: shared by the thread that reads and whoever decides.
//!
//! A partition that is taken up is loaded beside those that are followed, and holds up no watermark meanwhile. One that is let go
//! of is read no further. What was read of it stays, and so does its place in the position: taken up again it goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use florin_core::clock::Now;

/// No offset is as high: they are 63 bits.
const UNKNOWN: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub struct Share {
    /// Of each partition that is wanted, from which watermark on everything of it is in.
    standings: Mutex<BTreeMap<u32, Option<Now>>>,
    /// Raised whenever other partitions are wanted, so that the thread that reads need not take the lock to see that none are.
    generation: AtomicU64,
    lags: Box<[AtomicU64]>,
}

impl Share {
    /// A share of a topic with so many partitions. None is followed until it is wanted.
    pub fn new(partitions: u32) -> Arc<Share> {
        Arc::new(Share {
            standings: Mutex::default(),
            generation: AtomicU64::new(1),
            lags: (0..partitions).map(|_| AtomicU64::new(UNKNOWN)).collect(),
        })
    }

    /// From now on these are followed, and no others. Returns at once; the thread that reads takes it over within milliseconds.
    ///
    /// # Panics
    /// Where the topic has no such partition.
    pub fn want(&self, wanted: &BTreeSet<u32>) {
        let last = wanted.last().copied().unwrap_or_default() as usize;
        assert!(wanted.is_empty() || last < self.lags.len(), "partition {last} of {}", self.lags.len());
        let mut standings = self.lock();
        if standings.keys().eq(wanted) {
            return;
        }
        standings.retain(|partition, _| wanted.contains(partition));
        for &partition in wanted {
            standings.entry(partition).or_insert_with(|| {
                self.lags[partition as usize].store(UNKNOWN, Relaxed);
                None
            });
        }
        self.generation.fetch_add(1, Release);
    }

    /// Of each partition that is wanted, from which watermark on everything of it is in; `None` = it is being loaded. Once the node's
    /// watermark has come to that time every shard has applied it.
    pub fn standings(&self) -> BTreeMap<u32, Option<Now>> {
        self.lock().clone()
    }

    /// Of each partition that is wanted the offsets between what was read and its end, as it was asked for last; those of which that is
    /// not known yet are not among them.
    pub fn lags(&self) -> BTreeMap<u32, u64> {
        let lag = |&partition: &u32| (partition, self.lags[partition as usize].load(Relaxed));
        self.lock().keys().map(lag).filter(|&(_, lag)| lag != UNKNOWN).collect()
    }

    /// Whether a partition is wanted.
    pub(crate) fn wants(&self, partition: u32) -> bool {
        self.lock().contains_key(&partition)
    }

    /// What is wanted, if it is not what it was when this was called last with the same `seen`, which is 0 at first.
    pub(crate) fn news(&self, seen: &mut u64) -> Option<BTreeMap<u32, Option<Now>>> {
        if self.generation.load(Acquire) == *seen {
            return None;
        }
        let standings = self.lock();
        *seen = self.generation.load(Acquire);
        Some(standings.clone())
    }

    /// Everything of a partition is in with the watermark of that time. One that is not wanted any more is none of the share.
    pub(crate) fn arrive(&self, partition: u32, at: Now) {
        if let Some(standing) = self.lock().get_mut(&partition) {
            standing.get_or_insert(at);
        }
    }

    /// Offsets between what was read of a partition and its end.
    pub(crate) fn lags_by(&self, partition: u32, lag: u64) {
        self.lags[partition as usize].store(lag, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Option<Now>>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic_us: u64) -> Now {
        Now { wall_us: 0, monotonic_us }
    }

    #[test]
    fn what_is_wanted_is_told_once_and_stands_as_it_arrived() {
        let (share, mut seen) = (Share::new(4), 0);
        let standing = |partition| share.standings().get(&partition).copied();
        assert_eq!(
            share.news(&mut seen),
            Some(BTreeMap::new()),
            "nothing is wanted, and that is told at first"
        );
        assert_eq!(share.news(&mut seen), None);
        share.want(&BTreeSet::from([1, 3]));
        assert_eq!(share.news(&mut seen), Some(BTreeMap::from([(1, None), (3, None)])));
        share.arrive(1, at(5));
        share.arrive(2, at(5));
        share.arrive(1, at(6));
        assert_eq!((standing(1), standing(2), standing(3)), (Some(Some(at(5))), None, Some(None)));
        share.want(&BTreeSet::from([1, 3]));
        assert_eq!(share.news(&mut seen), None, "the same are wanted");
        share.want(&BTreeSet::from([1, 2]));
        assert_eq!(share.news(&mut seen), Some(BTreeMap::from([(1, Some(at(5))), (2, None)])));
        share.want(&BTreeSet::new());
        share.want(&BTreeSet::from([1]));
        assert_eq!(standing(1), Some(None), "it was let go of");
        assert_eq!(share.news(&mut seen), Some(BTreeMap::from([(1, None)])));
    }

    #[test]
    fn a_lag_is_told_once_it_is_known() {
        let share = Share::new(3);
        share.want(&BTreeSet::from([0, 2]));
        assert_eq!(share.lags(), BTreeMap::new());
        (0..3).for_each(|partition| share.lags_by(partition, 7));
        assert_eq!(share.lags(), BTreeMap::from([(0, 7), (2, 7)]));
        share.want(&BTreeSet::from([0, 1]));
        assert_eq!(share.lags(), BTreeMap::from([(0, 7)]));
    }

    #[test]
    #[should_panic(expected = "partition 3 of 3")]
    fn no_partition_is_wanted_that_there_is_not() {
        Share::new(3).want(&BTreeSet::from([0, 3]));
    }
}
