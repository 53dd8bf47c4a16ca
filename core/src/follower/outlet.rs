//! The follower's side of the link to each shard: what is sent arrives in order, and wakes who sleeps.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Acquire;

use florin_schema::UserId;

use crate::limits::{FEED_RING_SLOTS, REREADS_MAX};
use crate::mesh::{self, Latest, Parking, Receiver, Sender};
use crate::shard::{FeedEvent, FeedLink, FeedRequest, Housekeeping};

/// Wakes a shard's thread that sleeps.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The way to one shard.
pub trait Outlet {
    /// Sends one event, or gives it back where there is no room at the moment.
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent>;
    /// The last batch of which the shard has applied everything, and asked for everything that it led to.
    fn applied_batch(&self) -> u64;
    /// Publishes a watermark.
    fn publish(&mut self, as_of_us: i64, taken_us: u64);
    /// What the shard has asked for.
    fn next_request(&mut self) -> Option<FeedRequest>;
    /// Wakes the shard if it was sent something since the last call, and sleeps; does what it can do for it meanwhile.
    fn wake(&mut self);
}

/// The way to a shard of this process. [`FeedLink`] is the shard's side.
pub struct MeshOutlet {
    events: Sender<FeedEvent>,
    requests: Receiver<FeedRequest>,
    applied_batch: Arc<AtomicU64>,
    watermark: Arc<Latest>,
    housekeeping: Arc<Housekeeping>,
    /// Its ledger is loaded: callers may wait for it.
    is_published: bool,
    parking: Arc<Parking>,
    waker: Waker,
    /// Something was sent since the shard was last woken.
    unannounced: bool,
}

/// Both sides of the link to the shard that sleeps by `parking` and is woken by `waker`.
pub fn link(parking: Arc<Parking>, waker: Waker) -> (MeshOutlet, FeedLink) {
    link_of(FEED_RING_SLOTS, REREADS_MAX, parking, waker)
}

/// The same with rings of other sizes, to reach their ends in tests.
pub fn link_of(
    event_slots: usize,
    request_slots: usize,
    parking: Arc<Parking>,
    waker: Waker,
) -> (MeshOutlet, FeedLink) {
    let (events, shard_events) = mesh::ring(event_slots);
    let (shard_requests, requests) = mesh::ring(request_slots);
    let applied_batch = Arc::new(AtomicU64::new(0));
    let watermark = Arc::new(Latest::new());
    let housekeeping = Arc::new(Housekeeping::default());
    let shard = FeedLink {
        events: shard_events,
        requests: shard_requests,
        applied_batch: Arc::clone(&applied_batch),
        watermark: Arc::clone(&watermark),
        housekeeping: Arc::clone(&housekeeping),
    };
    let outlet = MeshOutlet {
        events,
        requests,
        applied_batch,
        watermark,
        housekeeping,
        is_published: false,
        parking,
        waker,
        unannounced: false,
    };
    (outlet, shard)
}

impl MeshOutlet {
    /// Events for which there is room at this moment.
    pub fn room(&mut self) -> usize {
        self.events.free()
    }
}

impl Outlet for MeshOutlet {
    #[inline]
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent> {
        self.events.push(event)?;
        self.unannounced = true;
        Ok(())
    }

    fn applied_batch(&self) -> u64 {
        self.applied_batch.load(Acquire)
    }

    fn publish(&mut self, as_of_us: i64, taken_us: u64) {
        self.watermark.store(as_of_us, taken_us);
        self.is_published = true;
    }

    fn next_request(&mut self) -> Option<FeedRequest> {
        self.requests.pop()
    }

    fn wake(&mut self) {
        if core::mem::take(&mut self.unannounced) && self.parking.notify() {
            (self.waker)();
        }
        // While the ledger is loaded nobody waits for a shard: each fills its own pages, and all at once.
        if self.is_published {
            self.housekeeping.work();
        }
    }
}

impl fmt::Debug for MeshOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshOutlet").field("unannounced", &self.unannounced).finish_non_exhaustive()
    }
}

/// A ring has no room: go on when its shard has taken something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// All outlets: routes events to their shards, and knows which shards have still to say that they applied them.
pub(super) struct Outlets<O> {
    outlets: Vec<O>,
    shards: u16,
    batch: u64,
    /// By shard: what it was sent since its last end of a batch.
    unsettled: Vec<bool>,
    /// By shard: it was sent a part of a commit, whose end it has not heard of.
    unfinished: Vec<bool>,
    /// By shard: the batch whose end it was sent and has not acknowledged; 0 = none.
    awaited: Vec<u64>,
}

impl<O: Outlet> Outlets<O> {
    /// # Panics
    /// Without outlets, or with more than a node can have.
    pub fn new(outlets: Vec<O>) -> Outlets<O> {
        let shards = u16::try_from(outlets.len()).expect("a node has at most 256 shards");
        assert!(shards > 0, "a node has a shard");
        let (none, awaited) = (alloc::vec![false; outlets.len()], alloc::vec![0; outlets.len()]);
        Outlets { outlets, shards, batch: 0, unsettled: none.clone(), unfinished: none, awaited }
    }

    /// To the shard that owns the user.
    #[inline]
    pub fn send(&mut self, user: UserId, event: FeedEvent) -> Result<(), Full> {
        let shard = usize::from(user.shard(self.shards).0);
        self.unsettled[shard] = true;
        self.outlets[shard].send(event).map_err(|_| Full)
    }

    /// A row of the user was sent whose commit goes on.
    pub fn note_unfinished(&mut self, user: UserId) {
        let shard = usize::from(user.shard(self.shards).0);
        self.unfinished[shard] = true;
    }

    /// Whether a shard was sent a part of a commit, and not its end.
    pub fn has_unfinished(&self) -> bool {
        self.unfinished.contains(&true)
    }

    /// Tells every shard that was sent a part of a commit that it has ended.
    pub fn end_commit(&mut self) -> Result<(), Full> {
        for (shard, outlet) in self.outlets.iter_mut().enumerate() {
            if self.unfinished[shard] {
                outlet.send(FeedEvent::CommitEnd).map_err(|_| Full)?;
                self.unsettled[shard] = true;
                self.unfinished[shard] = false;
            }
        }
        Ok(())
    }

    /// Wakes every shard that was sent something and may not know.
    pub fn wake(&mut self) {
        self.outlets.iter_mut().for_each(Outlet::wake);
    }

    /// Every shard may have taken in something that this has not sent.
    pub fn unsettle(&mut self) {
        self.unsettled.fill(true);
    }

    /// Begins to wait until every shard has applied what it was sent.
    pub fn end_batch(&mut self) {
        self.batch += 1;
    }

    /// Whether every shard has applied what it was sent before [`Outlets::end_batch`].
    pub fn is_settled(&mut self) -> bool {
        let mut settled = true;
        for (shard, outlet) in self.outlets.iter_mut().enumerate() {
            if self.unsettled[shard] {
                if outlet.send(FeedEvent::BatchEnd(self.batch)).is_ok() {
                    self.unsettled[shard] = false;
                    self.awaited[shard] = self.batch;
                }
                settled = false;
            } else if self.awaited[shard] > 0 {
                if outlet.applied_batch() < self.awaited[shard] {
                    settled = false;
                } else {
                    self.awaited[shard] = 0;
                }
            }
        }
        settled
    }

    /// Tells every shard the watermark.
    pub fn publish(&mut self, as_of_us: i64, taken_us: u64) {
        for outlet in &mut self.outlets {
            outlet.publish(as_of_us, taken_us);
        }
    }

    /// What a shard has asked for.
    pub fn next_request(&mut self) -> Option<FeedRequest> {
        self.outlets.iter_mut().find_map(Outlet::next_request)
    }

    pub fn all(&mut self) -> &mut [O] {
        &mut self.outlets
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::{Relaxed, Release};

    use super::*;
    use crate::shard::Reason;

    #[test]
    fn who_sleeps_is_woken_once_for_all_that_it_was_sent() {
        let (woken, parking) = (Arc::new(AtomicU64::new(0)), Arc::new(Parking::new()));
        let counted = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || _ = counted.fetch_add(1, Relaxed));
        let (mut outlet, mut shard) = link_of(2, 1, Arc::clone(&parking), waker);
        let woken = || woken.load(Relaxed);
        parking.announce();
        outlet.wake();
        assert_eq!((woken(), outlet.room()), (0, 2), "it sleeps, and nothing is there for it");
        outlet.send(FeedEvent::CommitEnd).unwrap();
        outlet.send(FeedEvent::CommitEnd).unwrap();
        assert_eq!(outlet.send(FeedEvent::CommitEnd), Err(FeedEvent::CommitEnd));
        assert_eq!((woken(), outlet.room()), (0, 0), "more may come");
        outlet.wake();
        outlet.wake();
        assert_eq!(woken(), 1);
        assert!(shard.events.pop().is_some());
        assert_eq!(outlet.room(), 1);
        outlet.send(FeedEvent::CommitEnd).unwrap();
        outlet.wake();
        assert_eq!(woken(), 1, "who turns needs nobody");
    }

    /// Of two shards one is sent something, and then both have something that they were not sent.
    #[test]
    fn a_batch_is_settled_once_each_shard_has_applied_what_it_was_sent() {
        let (woken, parking) = (Arc::new(AtomicU64::new(0)), Arc::new(Parking::new()));
        let counted = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || _ = counted.fetch_add(1, Relaxed));
        let (outlet, mut first) = link_of(4, 1, Arc::clone(&parking), Arc::clone(&waker));
        let (other, mut second) = link_of(4, 1, Arc::new(Parking::new()), waker);
        let mut outlets = Outlets::new(alloc::vec![outlet, other]);
        let is_first = |user: &UserId| user.shard(2).0 == 0;
        let user = (1..).filter_map(UserId::new).find(is_first).expect("there are many");
        assert!(outlets.is_settled() && !outlets.has_unfinished(), "nobody was sent anything");

        parking.announce();
        outlets.send(user, FeedEvent::Unreadable(user)).unwrap();
        outlets.note_unfinished(user);
        assert!(outlets.has_unfinished());
        outlets.end_commit().unwrap();
        assert!(!outlets.has_unfinished());
        outlets.wake();
        assert_eq!(woken.load(Relaxed), 1);
        let mut heard = || (first.events.pop(), second.events.pop());
        assert_eq!(heard(), (Some(FeedEvent::Unreadable(user)), None));
        assert_eq!(heard(), (Some(FeedEvent::CommitEnd), None));

        outlets.end_batch();
        assert!(!outlets.is_settled());
        assert_eq!(heard(), (Some(FeedEvent::BatchEnd(1)), None));
        assert!(!outlets.is_settled(), "it has been told, and has not said that it is done");
        first.applied_batch.store(1, Release);
        assert!(outlets.is_settled());

        outlets.unsettle();
        outlets.end_batch();
        assert!(!outlets.is_settled());
        let end = Some(FeedEvent::BatchEnd(2));
        assert_eq!((first.events.pop(), second.events.pop()), (end, end));
        first.applied_batch.store(2, Release);
        assert!(!outlets.is_settled());
        second.applied_batch.store(2, Release);
        assert!(outlets.is_settled());

        outlets.publish(7, 8);
        assert_eq!((first.watermark.load(), second.watermark.load()), ((7, 8), (7, 8)));
        assert!(outlets.next_request().is_none());
        second.requests.push(FeedRequest::Reread { user_id: user, reason: Reason::Gap }).unwrap();
        assert!(outlets.next_request().is_some());
    }
}
