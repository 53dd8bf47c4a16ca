//! Watches over the candidate while it serves callers. Pure: counts in, a reason to stop out.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::limits::{GUARD_REQUESTS_MIN, GUARD_TICKS};

/// What the candidate must not exceed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Of the requests that were its to answer, the share that it failed.
    pub error_rate: f64,
    /// The 99th percentile of its answers, in µs.
    pub p99_us: u64,
    /// Of its answers that were compared, the share that was wrong.
    pub mismatch_rate: f64,
}

/// What happened in one tick.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Requests that were the candidate's to answer.
    pub asked: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Requests that were compared.
    pub compared: u64,
    /// Of those, mismatches.
    pub mismatches: u64,
    /// How long the candidate took, µs; a failure took as long as the caller waited for it.
    pub latencies: Histogram<u64>,
}

impl Tick {
    /// In which nothing happened.
    pub fn empty() -> Tick {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are constant");
        Tick { asked: 0, failed: 0, compared: 0, mismatches: 0, latencies }
    }
}

/// The last second.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    ticks: VecDeque<Tick>,
}

impl Guard {
    /// Has seen nothing.
    pub fn new(bounds: Bounds) -> Guard {
        Guard { bounds, ticks: VecDeque::new() }
    }

    /// Looks at one more tick: why the candidate must stop, if it must.
    pub fn look(&mut self, tick: Tick) -> Option<String> {
        if self.ticks.len() == GUARD_TICKS {
            self.ticks.pop_front();
        }
        self.ticks.push_back(tick);
        let sum = |count: fn(&Tick) -> u64| self.ticks.iter().map(count).sum::<u64>();
        let (asked, failed) = (sum(|tick| tick.asked), sum(|tick| tick.failed));
        let (compared, mismatches) = (sum(|tick| tick.compared), sum(|tick| tick.mismatches));
        let percent = |rate: f64| format!("{:.2} %", rate * 100.0);
        let exceeds =
            |part: u64, all: u64, most: f64| all >= GUARD_REQUESTS_MIN && part as f64 / all as f64 > most;
        let share = |part: u64, all: u64| percent(part as f64 / all as f64);
        if exceeds(failed, asked, self.bounds.error_rate) {
            let (rate, most) = (share(failed, asked), percent(self.bounds.error_rate));
            return Some(format!(
                "it failed {failed} of {asked} requests ({rate}) within a second; {most} is allowed"
            ));
        }
        if exceeds(mismatches, compared, self.bounds.mismatch_rate) {
            let (rate, most) = (share(mismatches, compared), percent(self.bounds.mismatch_rate));
            return Some(format!(
                "{mismatches} of {compared} answers were wrong ({rate}) within a second; {most} is allowed"
            ));
        }
        let mut all = Tick::empty().latencies;
        for tick in &self.ticks {
            all.add(&tick.latencies).expect("all have the same bounds");
        }
        let p99_us = all.value_at_quantile(0.99);
        (all.len() >= GUARD_REQUESTS_MIN && p99_us > self.bounds.p99_us).then(|| {
            let (p99, most) = (p99_us as f64 / 1e3, self.bounds.p99_us as f64 / 1e3);
            format!("its 99th percentile was {p99:.1} ms within a second; {most:.1} ms is allowed")
        })
    }

    /// Forgets what it has seen: for a new beginning.
    pub fn forget(&mut self) {
        self.ticks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { error_rate: 0.01, p99_us: 10_000, mismatch_rate: 0.001 };

    fn tick(asked: u64, failed: u64, us: u64) -> Tick {
        let mut tick = Tick { asked, failed, compared: asked, ..Tick::empty() };
        tick.latencies.record_n(us, asked).unwrap();
        tick
    }

    #[test]
    fn a_breach_is_seen_within_the_tick_in_which_it_happens() {
        let mut guard = Guard::new(BOUNDS);
        for _ in 0..50 {
            assert_eq!(guard.look(tick(100, 1, 500)), None);
        }
        let why = guard.look(tick(100, 60, 500)).unwrap();
        assert_eq!(why, "it failed 69 of 1000 requests (6.90 %) within a second; 1.00 % is allowed");
        guard.forget();
        assert_eq!(guard.look(tick(100, 0, 500)), None);
        assert!(guard.look(tick(100, 0, 20_000)).unwrap().contains("99th percentile was 20."));
        guard.forget();
        let wrong = Tick { compared: 500, mismatches: 1, ..Tick::empty() };
        let why = guard.look(wrong).unwrap();
        assert_eq!(why, "1 of 500 answers were wrong (0.20 %) within a second; 0.10 % is allowed");
    }

    #[test]
    fn a_few_requests_say_nothing_and_old_ones_are_forgotten() {
        let mut guard = Guard::new(BOUNDS);
        assert_eq!(guard.look(tick(GUARD_REQUESTS_MIN - 1, GUARD_REQUESTS_MIN - 1, 1)), None);
        for _ in 0..GUARD_TICKS {
            guard.look(tick(0, 0, 1));
        }
        assert_eq!(guard.look(tick(GUARD_REQUESTS_MIN - 1, GUARD_REQUESTS_MIN - 1, 1)), None);
        assert!(guard.look(tick(1, 0, 1)).is_some());
    }
}
