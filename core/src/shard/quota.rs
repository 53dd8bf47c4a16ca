//! How much of a node a principal may use: requests a second, connections, requests that wait. All shards of a node share
//! one [`Quota`] for each principal, and touch it rarely: a shard takes credit for some of its requests at once, and where a
//! principal has no quota there is nothing to touch.
//!
//! The rate is held by one word, the time at which everything that was granted is paid for (the generic cell rate
//! algorithm, ITU-T I.371). It may lie ahead of the clock by the burst, and by what one batch has beyond it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::limits::{QUOTA_LEASE_MAX, QUOTA_LEASES_PER_S, QUOTA_MAX};

/// What one second has of the units in which credit is paid for: with 64 a nanosecond the fastest rate is exact to 0.1 %, and
/// a node may run for nine years.
const UNITS_PER_S: u64 = 64_000_000_000;
const UNITS_PER_US: u64 = UNITS_PER_S / 1_000_000;

/// What one is told who has as many requests waiting as it may.
pub const TOO_MANY_WAIT: &str = "requests: this caller has as many unanswered as it may; wait for an answer, or ask whoever runs this node for \
                                 more";

/// What one is told at `now_us` who asks more often than it may, and may again at `again_us`, µs of the same clock.
pub fn too_often(again_us: u64, now_us: u64) -> String {
    let wait_ms = again_us.saturating_sub(now_us).div_ceil(1_000);
    format!(
        "requests: this caller asks more often than it may; ask again in {wait_ms} ms, or ask whoever runs this node for more"
    )
}

/// Bounds of one principal; 0 = none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Requests a second, node-wide; a batch counts as so many as it has users.
    pub requests_per_s: u32,
    /// Requests that may come at once.
    pub burst: u32,
    /// Connections at once, node-wide.
    pub connections: u32,
    /// Requests that wait for their answers at once, node-wide: for another shard, or for their freshness.
    pub in_flight: u32,
}

impl Bounds {
    /// Whether requests are counted.
    pub const fn meters_requests(&self) -> bool {
        self.requests_per_s > 0
    }

    /// Whether each of its requests has to be looked at.
    pub const fn looks_at_requests(&self) -> bool {
        self.meters_requests() || self.in_flight > 0
    }
}

/// What a principal has used; outlives changes of its bounds.
#[derive(Debug, Default)]
pub struct Usage {
    /// When everything that was granted is paid for, in units since the node's monotonic clock began.
    paid_at: AtomicU64,
    connections: AtomicU32,
    in_flight: AtomicU32,
    /// Requests refused for want of credit, or because too many wait.
    shed: AtomicU64,
    /// Connections refused.
    turned_away: AtomicU64,
}

impl Usage {
    /// Connections that are its now.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// Requests that wait for their answers now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests refused because they came too fast, or too many wait.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// Connections refused because there were too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }

    /// Counts a connection that entered, and has gone.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Of a connection that was counted with `counted` requests in flight there are `now`.
    pub fn settle(&self, counted: u32, now: u32) {
        match now.checked_sub(counted) {
            Some(0) => {}
            Some(more) => {
                self.in_flight.fetch_add(more, Relaxed);
            }
            None => {
                self.in_flight.fetch_sub(counted - now, Relaxed);
            }
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    bounds: Bounds,
    usage: Arc<Usage>,
}

impl Quota {
    /// With what has been used already.
    pub fn new(bounds: Bounds, usage: Arc<Usage>) -> Quota {
        Quota { bounds, usage }
    }

    /// What it allows.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What has been used.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Takes credit at `now_us` for what `needed` requests want beyond what is at hand, which is less, and for some more where there is;
    /// else when there may be enough.
    ///
    /// # Errors
    /// The time, µs of the same clock.
    pub fn lease(&self, needed: u32, at_hand: u32, now_us: u64) -> Result<u32, u64> {
        let some = (self.rate() / QUOTA_LEASES_PER_S).min(u64::from(QUOTA_LEASE_MAX)) as u32;
        self.grant(needed, at_hand, some, now_us)
    }

    /// Takes credit for one request and no more, for one who would not use the rest.
    ///
    /// # Errors
    /// As [`Quota::lease`].
    pub fn take_one(&self, now_us: u64) -> Result<(), u64> {
        if self.bounds.meters_requests() { self.grant(1, 0, 1, now_us).map(drop) } else { Ok(()) }
    }

    fn grant(&self, needed: u32, at_hand: u32, some: u32, now_us: u64) -> Result<u32, u64> {
        let mut outcome = Err(0);
        let _ = self.usage.paid_at.fetch_update(Relaxed, Relaxed, |paid_at| {
            let terms = self.terms(needed, at_hand, some, (now_us * UNITS_PER_US, paid_at));
            outcome = terms.map(|(granted, _)| granted);
            terms.map(|(_, paid_at)| paid_at).ok()
        });
        outcome.map_err(|units: u64| units.div_ceil(UNITS_PER_US).max(now_us + 1))
    }

    fn rate(&self) -> u64 {
        u64::from(self.bounds.requests_per_s.clamp(1, QUOTA_MAX))
    }

    /// How many are granted, `some` where there is so much, and when they are paid for; or when there is enough for those that are
    /// needed. In units.
    fn terms(
        &self,
        needed: u32,
        at_hand: u32,
        some: u32,
        (now, paid_at): (u64, u64),
    ) -> Result<(u32, u64), u64> {
        let rate = self.rate();
        let burst = self.bounds.burst.clamp(1, QUOTA_MAX);
        let cost = |requests: u32| (u64::from(requests) * UNITS_PER_S).div_ceil(rate);
        let (from, latest) = (paid_at.max(now), now + cost(burst));
        // A batch larger than the burst waits for a whole one, and is owed for the rest of it: else many small bursts would be large ones.
        let at_once = cost(needed.min(burst).saturating_sub(at_hand));
        if from + at_once > latest {
            return Err(now + (from + at_once - latest));
        }
        let all = ((latest - from) * rate / UNITS_PER_S) as u32;
        let granted = some.min(all).max(needed - at_hand);
        Ok((granted, from + cost(granted)))
    }

    /// Counts requests that were refused.
    pub fn count_shed(&self) {
        self.usage.shed.fetch_add(1, Relaxed);
    }

    /// Counts one more request in flight; `false`, and nothing, where there would be too many.
    pub fn begin(&self) -> bool {
        let most = self.bounds.in_flight;
        let begins = |waiting: u32| (most == 0 || waiting < most).then(|| waiting + 1);
        self.usage.in_flight.fetch_update(Relaxed, Relaxed, begins).is_ok()
    }

    /// Counts one more connection; `false`, and nothing, where there would be too many.
    pub fn enter(&self) -> bool {
        let most = self.bounds.connections;
        let enters = |open: u32| (most == 0 || open < most).then(|| open + 1);
        let entered = self.usage.connections.fetch_update(Relaxed, Relaxed, enters).is_ok();
        if !entered {
            self.usage.turned_away.fetch_add(1, Relaxed);
        }
        entered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(requests_per_s: u32, burst: u32) -> Quota {
        Quota::new(Bounds { requests_per_s, burst, connections: 2, in_flight: 2 }, Arc::default())
    }

    /// What a caller gets that always asks for more, of a node that has run for a year, over 10 s and by several shards.
    fn granted(quota: &Quota, shards: usize, needed: u32) -> u64 {
        const YEAR_US: u64 = 365 * 86_400 * 1_000_000;
        let mut left = alloc::vec![0_u32; shards];
        let mut granted = 0;
        for step in 0..10_000 {
            let now_us = YEAR_US + step * 1_000;
            for left in &mut left {
                for _ in 0..2_000 {
                    if *left < needed {
                        match quota.lease(needed, *left, now_us) {
                            Ok(more) => *left += more,
                            Err(again_us) => {
                                assert!(again_us > now_us);
                                break;
                            }
                        }
                    }
                    *left = left.saturating_sub(needed);
                    granted += u64::from(needed);
                }
            }
        }
        granted
    }

    #[test]
    fn whoever_asks_for_more_gets_the_rate_and_one_burst() {
        for (rate, burst) in [(1, 1), (7, 3), (1_000, 50), (33_333, 1_000), (900_000, 10_000)] {
            for shards in [1, 5] {
                let got = granted(&quota(rate, burst), shards, 1);
                // Credit that a shard has not used yet is what it may hold, and counts as used.
                let least = 10 * u64::from(rate) - u64::from(rate) / 20;
                let most = 10 * u64::from(rate) + u64::from(burst) + 1;
                assert!((least..=most).contains(&got), "{rate} burst {burst} on {shards}: {got}");
            }
        }
    }

    #[test]
    fn a_batch_counts_as_so_many_as_it_has_users_however_small_the_burst() {
        for (rate, burst, users) in [(1_000, 100, 64), (1_000, 100, 1_024), (1_000, 1, 1_024), (7, 3, 64)] {
            for shards in [1, 5] {
                let got = granted(&quota(rate, burst), shards, users);
                // The last may have been answered just now, and be owed for; what a shard has left over counts as used.
                let least = 10 * u64::from(rate) - u64::from(rate) / 20;
                let most = 10 * u64::from(rate) + u64::from(burst + users);
                assert!((least..=most).contains(&got), "{users} of {rate} burst {burst} on {shards}: {got}");
            }
        }
        let large = quota(1_000, 100);
        // What is at hand is a part of the burst that is waited for.
        assert_eq!(large.lease(10, 0, 1_000_000), Ok(10));
        assert_eq!(large.lease(1_024, 10, 1_000_000), Ok(1_014));
        assert_eq!(large.lease(1, 0, 1_000_000), Err(1_925_000));
        assert_eq!(large.lease(1_024, 0, 1_000_000), Err(2_024_000));
        let spent = quota(1_000, 100);
        spent.lease(100, 0, 1_000_000).unwrap();
        assert_eq!(spent.lease(1_024, 0, 1_000_000), Err(1_100_000));
        assert_eq!(spent.lease(10, 0, 1_000_000), Err(1_010_000));
        assert!(spent.lease(10, 0, 1_010_000).is_ok());
    }

    #[test]
    fn silence_earns_one_burst_and_no_more() {
        let quota = quota(10, 20);
        let at_once = |now_us| (0..1_000).filter(|_| quota.lease(1, 0, now_us).is_ok()).count();
        assert_eq!(at_once(1_000_000), 20);
        assert_eq!(at_once(1_000_000_000_000), 20);
        assert_eq!(at_once(1_000_000_500_000), 5);
    }

    #[test]
    fn one_is_taken_as_one_however_fast_the_rate() {
        let fast = quota(1_000_000, 1_000);
        let taken = (0..2_000).filter(|_| fast.take_one(1_000_000).is_ok()).count();
        assert_eq!(taken, 1_000);
        assert_eq!(fast.take_one(1_000_000), Err(1_000_001));
        let unbounded = Quota::default();
        assert!((0..1_000).all(|_| unbounded.take_one(1_000_000).is_ok()));
    }

    #[test]
    fn what_is_in_flight_is_counted_over_all_connections() {
        let quota = quota(1, 1);
        assert!(quota.begin() && quota.begin() && !quota.begin());
        quota.usage().settle(2, 5);
        assert_eq!(quota.usage().in_flight(), 5);
        quota.usage().settle(5, 1);
        assert!(quota.begin() && !quota.begin());
        assert!(Quota::default().begin(), "without a bound there is none");
    }

    #[test]
    fn connections_are_counted_and_one_too_many_is_not() {
        let quota = quota(1, 1);
        assert!(quota.enter() && quota.enter() && !quota.enter());
        assert_eq!((quota.usage().connections(), quota.usage().turned_away()), (2, 1));
        quota.usage().leave();
        assert!(quota.enter());
        assert!(Quota::default().enter(), "without a bound there is none");
    }
}
