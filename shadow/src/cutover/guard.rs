//! Watches over the candidate while it serves callers. Pure: counts in, a reason to stop out.

use std::collections::VecDeque;

use crate::limits::{GUARD_REQUESTS_MIN, GUARD_TICK, GUARD_TICKS, GUARD_TICKS_MAX};

/// The share of requests that may take longer than a 99th percentile.
const ABOVE_P99: f64 = 0.01;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick {
    /// Requests that were the candidate's to answer.
    pub asked: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Of those, not answered in the time that the 99th percentile may take; counted when that time was over.
    pub late: u64,
    /// Requests that were compared.
    pub compared: u64,
    /// Of those, mismatches.
    pub mismatches: u64,
}

/// Remembers the newest ticks.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    /// The newest first.
    ticks: VecDeque<Tick>,
}

/// What the newest ticks hold of one kind.
struct Recent {
    part: u64,
    all: u64,
    seconds: f64,
}

impl Guard {
    /// Has seen nothing.
    pub fn new(bounds: Bounds) -> Guard {
        Guard { bounds, ticks: VecDeque::new() }
    }

    /// Looks at one more tick: why the candidate must stop, if it must.
    pub fn look(&mut self, tick: Tick) -> Option<String> {
        self.ticks.truncate(GUARD_TICKS_MAX - 1);
        self.ticks.push_front(tick);
        let Bounds { error_rate, mismatch_rate, p99_us } = self.bounds;

        let failed = self.recent(|tick| tick.failed, |tick| tick.asked);
        if failed.exceeds(error_rate) {
            return Some(format!("it failed {}", failed.words("requests", error_rate)));
        }
        let wrong = self.recent(|tick| tick.mismatches, |tick| tick.compared);
        if wrong.exceeds(mismatch_rate) {
            return Some(format!("it was wrong in {}", wrong.words("answers", mismatch_rate)));
        }
        let late = self.recent(|tick| tick.late, |tick| tick.asked.max(tick.late));
        late.exceeds(ABOVE_P99).then(|| {
            let most_ms = p99_us as f64 / 1e3;
            format!("it took longer than {most_ms:.1} ms for {}", late.words("requests", ABOVE_P99))
        })
    }

    /// Of the newest ticks, as many as hold enough requests.
    fn recent(&self, part: fn(&Tick) -> u64, all: fn(&Tick) -> u64) -> Recent {
        let mut recent = Recent { part: 0, all: 0, seconds: 0.0 };
        for (at, tick) in self.ticks.iter().enumerate() {
            if at >= GUARD_TICKS && recent.all >= GUARD_REQUESTS_MIN {
                break;
            }
            recent.part += part(tick);
            recent.all += all(tick);
            recent.seconds += GUARD_TICK.as_secs_f64();
        }
        recent
    }

    /// Forgets what it has seen: for a new beginning.
    pub fn forget(&mut self) {
        self.ticks.clear();
    }
}

impl Recent {
    /// A few requests say nothing of a rate; but where none is allowed, one is too many.
    fn exceeds(&self, most: f64) -> bool {
        let is_enough = self.all >= GUARD_REQUESTS_MIN || most == 0.0;
        self.part > 0 && is_enough && self.part as f64 / self.all as f64 > most
    }

    fn words(&self, what: &str, most: f64) -> String {
        let Recent { part, all, seconds } = self;
        let (share, most) = (*part as f64 / *all as f64 * 100.0, most * 100.0);
        format!("{part} of {all} {what} ({share:.2} %) within {seconds:.1} s; {most:.2} % is allowed")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { error_rate: 0.01, p99_us: 10_000, mismatch_rate: 0.001 };

    fn tick(asked: u64, failed: u64) -> Tick {
        Tick { asked, failed, compared: asked, ..Tick::default() }
    }

    #[test]
    fn a_breach_is_seen_in_the_tick_in_which_it_happens() {
        let mut guard = Guard::new(BOUNDS);
        for _ in 0..50 {
            assert_eq!(guard.look(tick(100, 1)), None);
        }
        let why = guard.look(tick(100, 60)).unwrap();
        assert_eq!(why, "it failed 67 of 800 requests (8.38 %) within 0.8 s; 1.00 % is allowed");
        guard.forget();
        assert_eq!(guard.look(tick(100, 0)), None);
        let why = guard.look(Tick { late: 3, ..tick(100, 0) }).unwrap();
        assert_eq!(
            why,
            "it took longer than 10.0 ms for 3 of 200 requests (1.50 %) within 0.2 s; 1.00 % is allowed"
        );
        guard.forget();
        let why = guard.look(Tick { compared: 500, mismatches: 1, ..Tick::default() }).unwrap();
        assert_eq!(why, "it was wrong in 1 of 500 answers (0.20 %) within 0.1 s; 0.10 % is allowed");
    }

    #[test]
    fn who_hangs_altogether_is_seen_within_a_second_whatever_went_well_before() {
        let mut guard = Guard::new(BOUNDS);
        for _ in 0..20 {
            assert_eq!(guard.look(tick(100_000, 0)), None);
        }
        let late = Tick { late: 8, ..Tick::default() };
        let ticks = (1..).find(|_| guard.look(late).is_some()).unwrap();
        assert!(GUARD_TICK * ticks < Duration::from_secs(1), "{ticks} ticks");
    }

    #[test]
    fn a_few_requests_say_nothing_until_there_are_enough_of_them() {
        let mut guard = Guard::new(BOUNDS);
        // One in two seconds, each of which fails: a second never holds enough.
        for number in 1..GUARD_REQUESTS_MIN {
            assert_eq!(guard.look(tick(1, 1)), None, "{number}");
            for _ in 1..20 {
                assert_eq!(guard.look(Tick::default()), None, "{number}");
            }
        }
        let why = guard.look(tick(1, 1)).unwrap();
        assert_eq!(why, "it failed 20 of 20 requests (100.00 %) within 38.1 s; 1.00 % is allowed");
    }

    #[test]
    fn where_a_second_says_enough_nothing_before_it_counts() {
        let mut guard = Guard::new(BOUNDS);
        assert_eq!(guard.look(tick(GUARD_REQUESTS_MIN - 1, GUARD_REQUESTS_MIN - 1)), None);
        for _ in 1..GUARD_TICKS {
            assert_eq!(guard.look(Tick::default()), None);
        }
        assert_eq!(guard.look(tick(GUARD_REQUESTS_MIN, 0)), None);
    }

    #[test]
    fn where_none_is_allowed_the_first_is_a_breach() {
        let strict = Bounds { error_rate: 0.0, mismatch_rate: 0.0, ..BOUNDS };
        assert!(Guard::new(strict).look(tick(1, 1)).is_some());
        let wrong = Tick { compared: 3, mismatches: 1, ..Tick::default() };
        assert!(Guard::new(strict).look(wrong).is_some());
        assert_eq!(Guard::new(strict).look(tick(1, 0)), None);
        assert_eq!(Guard::new(strict).look(Tick::default()), None);
    }
}
