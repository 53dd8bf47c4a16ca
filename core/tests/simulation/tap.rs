//! The follower's way to a shard: the production one, with a log of what went through it, small rings that fill, and a
//! watermark that arrives later than it was published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use florin_core::follower::{MeshOutlet, Outlet, link_of};
use florin_core::limits::REREAD_PAUSE_MIN_US;
use florin_core::mesh::{Latest, Parking};
use florin_core::shard::{FeedEvent, FeedLink, FeedRequest};
use florin_schema::UserId;

use super::random::Random;

/// See the module.
pub struct Tap {
    outlet: MeshOutlet,
    slots: usize,
    /// Everything that was ever sent.
    pub log: Vec<FeedEvent>,
    /// Of these, rows of histories that are read again.
    pub reread_rows: usize,
    /// As the shard sees it.
    pub watermark: Arc<Latest>,
    /// Published, and not yet arrived.
    pub under_way: Option<(i64, u64)>,
    woken: Arc<AtomicBool>,
    pub now_us: u64,
    /// The history that is being sent: how many rows from the first are there, and whether it has a hole.
    history: (u64, bool),
    /// When an account's history turned out to have a hole.
    holes: BTreeMap<UserId, u64>,
    /// What a follower must never do, and did.
    pub violation: Option<String>,
}

impl Tap {
    /// Both ends.
    pub fn new(random: &mut Random, parking: Arc<Parking>) -> (Tap, FeedLink) {
        let slots = random.pick(&[4, 16, 64, 256]);
        let woken = Arc::new(AtomicBool::new(false));
        let wakes = Arc::clone(&woken);
        let waker = Arc::new(move || wakes.store(true, Relaxed));
        let (outlet, link) = link_of(slots, random.pick(&[1, 2, 64]), parking, waker);
        let watermark = Arc::clone(&link.watermark);
        (
            Tap {
                outlet,
                slots,
                log: Vec::new(),
                reread_rows: 0,
                watermark,
                under_way: None,
                woken,
                now_us: 0,
                history: (0, false),
                holes: BTreeMap::new(),
                violation: None,
            },
            link,
        )
    }

    /// How many events the shard has taken.
    pub fn taken(&mut self) -> usize {
        self.log.len() - (self.slots - self.outlet.room())
    }

    /// Whether the shard was to be woken since the last call.
    pub fn has_woken(&self) -> bool {
        self.woken.swap(false, Relaxed)
    }

    /// An account whose hole is in the ledger is not read again at once.
    fn note_history(&mut self, event: FeedEvent) {
        let (whole, has_hole) = &mut self.history;
        match event {
            FeedEvent::RereadBegin(user) => {
                (*whole, *has_hole) = (0, false);
                let too_soon = |since: &u64| self.now_us < since + REREAD_PAUSE_MIN_US;
                if self.holes.get(&user).is_some_and(too_soon) {
                    self.violation =
                        Some(format!("{user} is read again at once, and its hole is in the ledger"));
                }
            }
            FeedEvent::RereadRow(row) => {
                *has_hole |= row.version.0 > *whole + 1;
                *whole += u64::from(row.version.0 == *whole + 1);
            }
            FeedEvent::RereadEnd(user) if *has_hole => drop(self.holes.insert(user, self.now_us)),
            FeedEvent::RereadEnd(user) => drop(self.holes.remove(&user)),
            FeedEvent::Row(_)
            | FeedEvent::Part(_)
            | FeedEvent::CommitEnd
            | FeedEvent::Unreadable(_)
            | FeedEvent::BatchEnd(_) => {}
        }
    }

    /// What was published arrives.
    pub fn deliver(&mut self) {
        if let Some((as_of_us, taken_us)) = self.under_way.take() {
            self.outlet.publish(as_of_us, taken_us);
        }
    }
}

impl Outlet for Tap {
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent> {
        self.outlet.send(event)?;
        self.log.push(event);
        self.note_history(event);
        self.reread_rows += usize::from(matches!(event, FeedEvent::RereadRow(_)));
        Ok(())
    }

    fn applied_batch(&self) -> u64 {
        self.outlet.applied_batch()
    }

    fn publish(&mut self, as_of_us: i64, taken_us: u64) {
        self.under_way = Some((as_of_us, taken_us));
    }

    fn next_request(&mut self) -> Option<FeedRequest> {
        self.outlet.next_request()
    }

    fn wake(&mut self) {
        self.outlet.wake();
    }
}
