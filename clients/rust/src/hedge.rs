//! A second request where the first takes long.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use florin_schema::Opcode;

use crate::limits::{HEDGE_AFTER_MIN, HEDGES_KEPT, OBSERVED_EVERY, OBSERVED_MAX};

/// Sends a second request where the first takes long: to another node, or where there is only one over another connection to it.
/// Whole answers are as good from one as from the other, so the first to come is the caller's, and the other is discarded. It is for
/// the last percent of calls: those that meet a node, or a path, that stands still for a moment.
///
/// At most one is sent for a call, and no more of them than a share of all requests: where everything is slow, it is nodes that have
/// too much to do, and the share is all that comes on top. No answer goes back in time by it: another node is asked for what has
/// been shown at least, and an answer that lacks something (a quarantined account, a batch's entry that is not OK) does not win.
///
/// ```
/// use std::time::Duration;
/// use florin_client::{Client, Hedge};
///
/// // What 99 of 100 requests stay below; of 100 requests, no more than 2 are sent twice.
/// let builder = Client::builder().hedge(Hedge::after(Duration::from_millis(5)).share(0.02));
/// // Or what 95 of 100 of the last ones have stayed below.
/// let builder = Client::builder().hedge(Hedge::at_p95());
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hedge {
    after: After,
    share: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum After {
    Fixed(Duration),
    P95,
}

impl Hedge {
    /// The second request is sent once the first has been unanswered for so long. Time for which the server may hold a request
    /// ([`crate::Freshness::waiting`]) comes on top. Choose a delay that few requests take: what 95 or 99 of 100 stay below.
    pub fn after(delay: Duration) -> Hedge {
        Hedge { after: After::Fixed(delay), share: 0.05 }
    }

    /// After what 95 of 100 of the last requests have stayed below: of 256, each operation by itself, at least a millisecond. Until
    /// there have been 64 of an operation, no second one is sent.
    pub fn at_p95() -> Hedge {
        Hedge { after: After::P95, share: 0.05 }
    }

    /// How many second requests there may be, 0 to 1 of all requests; 0.05 where nothing is said. What is not used is kept, for 100
    /// of them at most.
    #[must_use]
    pub fn share(self, share: f64) -> Hedge {
        Hedge { share, ..self }
    }

    /// In thousandths, for whoever checks it.
    pub(crate) fn share_thousandths(&self) -> usize {
        (self.share * 1_000.0).ceil() as usize
    }
}

/// What a request is worth to the budget, which counts in millionths of one.
const REQUEST: i64 = 1_000_000;

/// A client's second requests.
pub(crate) struct Hedging {
    after: After,
    share: i64,
    /// What may be spent on them.
    budget: AtomicI64,
    /// What requests have taken, by opcode; kept for [`After::P95`] alone.
    took: [Observed; OPCODES],
}

const OPCODES: usize = Opcode::Ping as usize + 1;

impl Hedging {
    pub fn new(hedge: Hedge) -> Hedging {
        let share = (hedge.share * REQUEST as f64) as i64;
        Hedging { after: hedge.after, share, budget: AtomicI64::new(0), took: Default::default() }
    }

    /// Counts a first request.
    pub fn earn(&self) {
        if self.budget.load(Relaxed) < HEDGES_KEPT * REQUEST {
            self.budget.fetch_add(self.share, Relaxed);
        }
    }

    /// Takes a second request out of the budget; false where that has none.
    pub fn spend(&self) -> bool {
        let spent = |has: i64| (has >= REQUEST).then(|| has - REQUEST);
        self.budget.fetch_update(Relaxed, Relaxed, spent).is_ok()
    }

    /// How long a request may be unanswered; `None` where that is not known.
    pub fn delay(&self, opcode: Opcode) -> Option<Duration> {
        match self.after {
            After::Fixed(delay) => Some(delay),
            After::P95 => self.took[opcode as usize].p95(),
        }
    }

    /// A request was answered.
    pub fn note(&self, opcode: Opcode, took: Duration) {
        if self.after == After::P95 {
            self.took[opcode as usize].note(took);
        }
    }
}

/// What the last requests took, in µs.
struct Observed {
    count: AtomicU64,
    last: [AtomicU64; OBSERVED_MAX],
    /// 0 before it is known.
    p95: AtomicU64,
}

impl Default for Observed {
    fn default() -> Observed {
        Observed {
            count: AtomicU64::new(0),
            last: [const { AtomicU64::new(0) }; OBSERVED_MAX],
            p95: AtomicU64::new(0),
        }
    }
}

impl Observed {
    fn note(&self, took: Duration) {
        let before = self.count.fetch_add(1, Relaxed) as usize;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last[before % OBSERVED_MAX].store(us, Relaxed);
        let count = before + 1;
        if !count.is_multiple_of(OBSERVED_EVERY) {
            return;
        }
        let known = &self.last[..count.min(OBSERVED_MAX)];
        let mut sorted: Vec<u64> = known.iter().map(|us| us.load(Relaxed)).collect();
        sorted.sort_unstable();
        let p95 = sorted[sorted.len() * 95 / 100];
        self.p95.store(p95.max(HEDGE_AFTER_MIN.as_micros() as u64), Relaxed);
    }

    fn p95(&self) -> Option<Duration> {
        match self.p95.load(Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_of_the_share_is_kept_within_reason() {
        let hedging = Hedging::new(Hedge::after(Duration::ZERO).share(0.1));
        for calls in 1..=100 {
            hedging.earn();
            assert_eq!(hedging.spend(), calls % 10 == 0, "{calls} calls");
        }
        for _ in 0..100 * HEDGES_KEPT {
            hedging.earn();
        }
        assert!((0..HEDGES_KEPT).all(|_| hedging.spend()));
        assert!(!hedging.spend());
    }

    #[test]
    fn a_delay_is_observed_for_each_operation() {
        let hedging = Hedging::new(Hedge::at_p95());
        let note = |ms: u64| hedging.note(Opcode::GetBalance, Duration::from_millis(ms));
        (1..OBSERVED_EVERY).for_each(|_| note(60_000));
        assert_eq!(hedging.delay(Opcode::GetBalance), None);
        (0..OBSERVED_MAX + OBSERVED_EVERY).for_each(|index| note(index as u64 % 100 * 10));
        let delay = hedging.delay(Opcode::GetBalance).unwrap();
        assert!((900..=980).contains(&delay.as_millis()), "{delay:?}");
        (0..OBSERVED_MAX + OBSERVED_EVERY).for_each(|_| note(0));
        assert_eq!(hedging.delay(Opcode::GetBalance), Some(HEDGE_AFTER_MIN));
        assert_eq!(hedging.delay(Opcode::GetStatistics), None);
    }
}
