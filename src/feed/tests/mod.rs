//! The feed against shards that the tests play themselves, and against real ones.

mod following;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

use florin_sqlite::scratch::Scratch;

use crate::clock::Clock;
use crate::feed::{Feed, link};
use crate::ledger::Transaction;
use crate::mesh::Parking;
use crate::shard::{FeedEvent, FeedLink, FeedRequest, Reason};
use crate::sources::Ledger;

/// A shard that only takes in.
struct Consumer {
    link: FeedLink,
    parking: Arc<Parking>,
    wakes: Arc<AtomicU64>,
    events: Vec<FeedEvent>,
}

impl Consumer {
    /// Takes one event and acknowledges the end of a batch; whether there was one.
    fn take_one(&mut self) -> bool {
        let Some(event) = self.link.events.pop() else { return false };
        self.events.push(event);
        if let FeedEvent::BatchEnd(batch) = event {
            self.link.applied_batch.store(batch, Release);
        }
        true
    }

    fn take_all(&mut self) {
        while self.take_one() {}
    }

    /// The rows so far.
    fn rows(&self) -> Vec<Transaction> {
        let row = |event: &FeedEvent| match event {
            FeedEvent::Row(row) | FeedEvent::Part(row) => Some(*row),
            _ => None,
        };
        self.events.iter().filter_map(row).collect()
    }

    fn count(&self) -> usize {
        self.rows().len()
    }

    fn is_warm(&self) -> bool {
        self.link.watermark.load().1 > 0
    }

    fn request(&mut self, request: FeedRequest) {
        self.link.requests.push(request).unwrap();
    }
}

/// A feed over the ledger in `scratch`, with as many shards as asked for.
fn start<const SHARDS: usize>(scratch: &Scratch, clock: Clock) -> (Feed, [Consumer; SHARDS]) {
    let mut outlets = Vec::new();
    let consumers = [(); SHARDS].map(|()| {
        let (parking, wakes) = (Arc::new(Parking::new()), Arc::new(AtomicU64::new(0)));
        let ring = Arc::clone(&wakes);
        let waker = Arc::new(move || {
            ring.fetch_add(1, Relaxed);
        });
        let (outlet, link) = link(Arc::clone(&parking), waker);
        outlets.push(outlet);
        Consumer { link, parking, wakes, events: Vec::new() }
    });
    let feed = Feed::spawn(&ledger_in(scratch), clock, outlets, None).unwrap();
    (feed, consumers)
}

fn ledger_in(scratch: &Scratch) -> Ledger {
    Ledger::open(&scratch.ledger().into()).unwrap()
}

/// Goes on until `done`, which must come within a minute.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        // Who is waited for has the CPU meanwhile.
        thread::park_timeout(Duration::from_millis(1));
    }
}
