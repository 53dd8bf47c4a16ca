//! The feed's side of the link to each shard: what is sent arrives in order, wakes who sleeps, and waits where there is
//! no room.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use florin_schema::UserId;

use crate::clock::Now;
use crate::limits::{FEED_RING_SLOTS, REREADS_MAX};
use crate::mesh::{self, Latest, Parking, Receiver, Sender};
use crate::shard::{FeedEvent, FeedLink, FeedRequest};

/// How long the feed waits before it looks again: a shard that goes on has emptied only part of its ring by then, and for
/// one that stands still the feed does not burn a CPU (at 50 µs it took 11 % of one).
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Wakes a shard that sleeps.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// The feed's side of the link to one shard; [`FeedLink`] is the shard's.
pub struct Outlet {
    events: Sender<FeedEvent>,
    requests: Receiver<FeedRequest>,
    applied_batch: Arc<AtomicU64>,
    watermark: Arc<Latest>,
    parking: Arc<Parking>,
    bell: Bell,
    /// Something was sent since the shard was last woken.
    unannounced: bool,
    /// Something was sent since the last end of a batch.
    unsettled: bool,
}

/// Both sides of the link to the shard that sleeps by `parking` and wakes by `bell`.
pub fn link(parking: Arc<Parking>, bell: Bell) -> (Outlet, FeedLink) {
    let (events, shard_events) = mesh::ring(FEED_RING_SLOTS);
    let (shard_requests, requests) = mesh::ring(REREADS_MAX);
    let applied_batch = Arc::new(AtomicU64::new(0));
    let watermark = Arc::new(Latest::new());
    let shard = FeedLink {
        events: shard_events,
        requests: shard_requests,
        applied_batch: Arc::clone(&applied_batch),
        watermark: Arc::clone(&watermark),
    };
    let outlet = Outlet {
        events,
        requests,
        applied_batch,
        watermark,
        parking,
        bell,
        unannounced: false,
        unsettled: false,
    };
    (outlet, shard)
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("unsettled", &self.unsettled).finish_non_exhaustive()
    }
}

impl Outlet {
    fn wake(&mut self) {
        if std::mem::take(&mut self.unannounced) && self.parking.notify() {
            (self.bell)();
        }
    }
}

/// The node is about to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stopped;

/// All outlets, and the order to stop.
pub(super) struct Router {
    outlets: Vec<Outlet>,
    shards: u16,
    batch: u64,
    stop: Arc<AtomicBool>,
}

impl Router {
    /// # Panics
    /// Without outlets, or with more than a node can have.
    pub fn new(outlets: Vec<Outlet>, stop: Arc<AtomicBool>) -> Router {
        let shards = u16::try_from(outlets.len()).expect("a node has at most 256 shards");
        assert!(shards > 0, "a node has a shard");
        Router { outlets, shards, batch: 0, stop }
    }

    /// To the shard that owns the user; waits until it has room.
    #[inline]
    pub fn send(&mut self, user: UserId, event: FeedEvent) -> Result<(), Stopped> {
        self.send_to(usize::from(user.shard(self.shards).0), event)
    }

    #[inline]
    fn send_to(&mut self, shard: usize, event: FeedEvent) -> Result<(), Stopped> {
        let outlet = &mut self.outlets[shard];
        let sent = outlet.events.push(event);
        outlet.unannounced = true;
        outlet.unsettled = true;
        match sent {
            Ok(()) => Ok(()),
            Err(event) => self.send_when_there_is_room(shard, event),
        }
    }

    #[cold]
    fn send_when_there_is_room(&mut self, shard: usize, mut event: FeedEvent) -> Result<(), Stopped> {
        // The others have something to do while this one is waited for.
        self.wake();
        loop {
            self.pause(LOOK_AGAIN)?;
            let outlet = &mut self.outlets[shard];
            outlet.unannounced = true;
            match outlet.events.push(event) {
                Ok(()) => return Ok(()),
                Err(same) => event = same,
            }
            outlet.wake();
        }
    }

    /// Wakes every shard that has been sent something and may not know.
    pub fn wake(&mut self) {
        for outlet in &mut self.outlets {
            outlet.wake();
        }
    }

    /// Returns when every shard has applied all that it was sent.
    pub fn settle(&mut self) -> Result<(), Stopped> {
        if self.outlets.iter().all(|outlet| !outlet.unsettled) {
            return Ok(());
        }
        self.batch += 1;
        for shard in 0..self.outlets.len() {
            if self.outlets[shard].unsettled {
                self.send_to(shard, FeedEvent::BatchEnd(self.batch))?;
            }
        }
        self.wake();
        for shard in 0..self.outlets.len() {
            if self.outlets[shard].unsettled {
                while self.outlets[shard].applied_batch.load(Acquire) < self.batch {
                    self.pause(LOOK_AGAIN)?;
                }
                self.outlets[shard].unsettled = false;
            }
        }
        Ok(())
    }

    /// Tells every shard that it holds what the ledger had committed at `taken`: true after [`Router::settle`].
    pub fn publish(&self, taken: Now) {
        // 0 would mean that there is no watermark yet.
        let monotonic_us = taken.monotonic_us.max(1);
        for outlet in &self.outlets {
            outlet.watermark.store(taken.wall_us, monotonic_us);
        }
    }

    /// What a shard has asked for.
    pub fn next_request(&mut self) -> Option<FeedRequest> {
        self.outlets.iter_mut().find_map(|outlet| outlet.requests.pop())
    }

    /// Waits, unless it is time to stop.
    pub fn pause(&self, duration: Duration) -> Result<(), Stopped> {
        if !self.is_stopped() {
            thread::park_timeout(duration);
        }
        if self.is_stopped() { Err(Stopped) } else { Ok(()) }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}
