//! Watches over the candidate while it serves callers. Pure: counts in, a reason to stop out.
//!
//! A share is held to be too large only where chance does not explain it: with a true share of `most`, so many would be seen with
//! a probability of at most `exp(-n · KL(seen ‖ most))` (Chernoff's bound for the binomial distribution; Hoeffding 1963,
//! theorem 1), and that has to be below one in a million, for the guard looks ten times a second.

use std::collections::VecDeque;
use std::ops::AddAssign;

use crate::limits::{GUARD_DOUBT, GUARD_REQUESTS_MIN, GUARD_TICK, GUARD_TICKS, GUARD_TICKS_MAX};

/// The share of requests that may take longer than a 99th percentile.
const ABOVE_P99: f64 = 0.01;

/// What the candidate must not exceed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Of the requests that were its to answer, and of those that were compared, the share that it failed.
    pub error_rate: f64,
    /// The 99th percentile of its answers, in µs.
    pub p99_us: u64,
    /// Of its answers that were compared, the share that was wrong.
    pub mismatch_rate: f64,
    /// Of its answers, the share that was older than `age_us`, or that never could be compared.
    pub stale_rate: f64,
    /// How old an answer may be, by its own `Florin-As-Of`.
    pub age_us: i64,
    /// Of all requests, the share that may go without a verdict.
    pub unjudged_rate: f64,
}

/// What happened in one tick, or in several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tick {
    /// Requests that were the candidate's to answer.
    pub asked: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Of those, not answered in the time that the 99th percentile may take; counted when that time was over.
    pub late: u64,
    /// Of those, answered with something older than is allowed.
    pub old: u64,
    /// Requests with a verdict.
    pub compared: u64,
    /// Of those, mismatches.
    pub mismatches: u64,
    /// Of those, errors of the candidate.
    pub errors: u64,
    /// Of those, not comparable: a side was behind, or the primary gave no answer.
    pub not_comparable: u64,
    /// Of those, answers of which nobody knows whether they ever were true.
    pub unproven: u64,
    /// Requests that were dropped.
    pub dropped: u64,
}

impl AddAssign<&Tick> for Tick {
    fn add_assign(&mut self, other: &Tick) {
        self.asked += other.asked;
        self.failed += other.failed;
        self.late += other.late;
        self.old += other.old;
        self.compared += other.compared;
        self.mismatches += other.mismatches;
        self.errors += other.errors;
        self.not_comparable += other.not_comparable;
        self.unproven += other.unproven;
        self.dropped += other.dropped;
    }
}

/// Remembers the newest ticks one by one, and all of them together.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    /// The newest first.
    ticks: VecDeque<Tick>,
    all: Tick,
    count: u64,
}

/// What some ticks hold of one kind.
struct Seen {
    part: u64,
    all: u64,
    seconds: f64,
}

/// One thing that is watched: of which requests which part, how much of it is allowed, and how a breach is told.
struct Watched {
    part: fn(&Tick) -> u64,
    all: fn(&Tick) -> u64,
    most: f64,
    says: String,
    what: &'static str,
}

impl Bounds {
    fn watched(&self) -> [Watched; 8] {
        let watched =
            |part, all, most, says: &str, what| Watched { part, all, most, says: says.to_owned(), what };
        let late = format!("it took longer than {:.1} ms for", self.p99_us as f64 / 1e3);
        let old = format!("it was older than {:.0} ms in", self.age_us as f64 / 1e3);
        [
            watched(|t| t.failed, |t| t.asked, self.error_rate, "it failed", "requests"),
            watched(|t| t.mismatches, |t| t.compared, self.mismatch_rate, "it was wrong in", "answers"),
            watched(|t| t.late, |t| t.asked.max(t.late), ABOVE_P99, &late, "requests"),
            watched(|t| t.old, |t| t.asked, self.stale_rate, &old, "answers"),
            watched(
                |t| t.errors,
                |t| t.compared,
                self.error_rate,
                "it gave no answer to",
                "compared requests",
            ),
            watched(
                |t| t.not_comparable,
                |t| t.compared,
                self.stale_rate,
                "it could not be compared in",
                "answers",
            ),
            watched(|t| t.unproven, |t| t.compared, self.unjudged_rate, "it is unproven in", "answers"),
            watched(
                |t| t.dropped,
                |t| t.compared + t.dropped,
                self.unjudged_rate,
                "nobody compared",
                "requests",
            ),
        ]
    }

    /// Why what some ticks hold together is more than is allowed, if it is.
    pub fn breach(&self, all: &Tick) -> Option<String> {
        let seen = |w: &Watched| Seen { part: (w.part)(all), all: (w.all)(all), seconds: 0.0 };
        let found = self.watched().into_iter().find(|watched| seen(watched).exceeds(watched.most))?;
        Some(format!("{} {} of {} {}", found.says, (found.part)(all), (found.all)(all), found.what))
    }
}

impl Guard {
    /// Has seen nothing.
    pub fn new(bounds: Bounds) -> Guard {
        Guard { bounds, ticks: VecDeque::new(), all: Tick::default(), count: 0 }
    }

    /// Looks at one more tick: why the candidate must stop, if it must. A breach that is quick to see is seen in the last
    /// second; one that is small, in the last minute, or in all that there has been.
    pub fn look(&mut self, tick: Tick) -> Option<String> {
        self.ticks.truncate(GUARD_TICKS_MAX - 1);
        self.ticks.push_front(tick);
        self.all += &tick;
        self.count += 1;
        self.bounds.watched().iter().find_map(|watched| {
            let (recent, minute) = (self.newest(watched, GUARD_TICKS), self.newest(watched, GUARD_TICKS_MAX));
            let seconds = self.count as f64 * GUARD_TICK.as_secs_f64();
            let ever = Seen { part: (watched.part)(&self.all), all: (watched.all)(&self.all), seconds };
            let seen = [recent, minute, ever].into_iter().find(|seen| seen.exceeds(watched.most))?;
            Some(format!("{} {}", watched.says, seen.words(watched.what, watched.most)))
        })
    }

    /// Of so many of the newest ticks.
    fn newest(&self, watched: &Watched, ticks: usize) -> Seen {
        let mut seen = Seen { part: 0, all: 0, seconds: 0.0 };
        for tick in self.ticks.iter().take(ticks) {
            seen.part += (watched.part)(tick);
            seen.all += (watched.all)(tick);
            seen.seconds += GUARD_TICK.as_secs_f64();
        }
        seen
    }

    /// Forgets what it has seen: for a new beginning.
    pub fn forget(&mut self) {
        *self = Guard::new(self.bounds);
    }
}

impl Seen {
    /// A few requests say nothing of a rate; but where none is allowed, one is too many.
    fn exceeds(&self, most: f64) -> bool {
        if self.part == 0 || (most > 0.0 && self.all < GUARD_REQUESTS_MIN) {
            return false;
        }
        let share = self.part as f64 / self.all as f64;
        share > most && (most == 0.0 || self.all as f64 * divergence(share, most) > -GUARD_DOUBT.ln())
    }

    fn words(&self, what: &str, most: f64) -> String {
        let Seen { part, all, seconds } = self;
        let (share, most) = (*part as f64 / *all as f64 * 100.0, most * 100.0);
        format!("{part} of {all} {what} ({share:.2} %) within {seconds:.1} s; {most:.2} % is allowed")
    }
}

/// Kullback and Leibler's, of two shares in nats: how badly `expected` explains `seen`.
fn divergence(seen: f64, expected: f64) -> f64 {
    let part = |seen: f64, expected: f64| if seen <= 0.0 { 0.0 } else { seen * (seen / expected).ln() };
    part(seen, expected) + part(1.0 - seen, 1.0 - expected)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        error_rate: 0.01,
        p99_us: 10_000,
        mismatch_rate: 0.001,
        stale_rate: 0.01,
        age_us: 1_000_000,
        unjudged_rate: 0.1,
    };

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
        let why = guard.look(Tick { late: 30, ..tick(100, 0) }).unwrap();
        assert_eq!(
            why,
            "it took longer than 10.0 ms for 30 of 200 requests (15.00 %) within 0.2 s; 1.00 % is allowed"
        );
        guard.forget();
        let why = guard.look(Tick { compared: 500, mismatches: 10, ..Tick::default() }).unwrap();
        assert_eq!(why, "it was wrong in 10 of 500 answers (2.00 %) within 0.1 s; 0.10 % is allowed");
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
        assert_eq!(why, "it failed 5 of 5 requests (100.00 %) within 8.1 s; 1.00 % is allowed");
    }

    #[test]
    fn a_few_that_failed_are_outweighed_by_those_that_did_not() {
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

    /// One late answer in a second of twenty requests once ended a cutover for good: 1 % was no bound there.
    #[test]
    fn what_chance_explains_is_no_breach_and_what_it_does_not_is_one_however_rare() {
        let mut guard = Guard::new(BOUNDS);
        for second in 0..3_600 {
            // Twenty requests a second, of which one in 200 is late.
            let late = u64::from(second % 10 == 0);
            for part in 0..10 {
                let late = if part == 0 { late } else { 0 };
                assert_eq!(guard.look(Tick { late, ..tick(2, 0) }), None, "second {second}");
            }
        }
        // One in fifty, for as long as it takes.
        let mut guard = Guard::new(BOUNDS);
        let seconds = (0..3_600).find(|second| {
            let late = if second % 5 == 0 { 2 } else { 0 };
            guard.look(Tick { late, ..tick(20, 0) }).is_some()
        });
        assert!(seconds.is_some(), "twice of what is allowed was never seen");
    }

    /// A candidate that was steadily five seconds behind served all it was asked.
    #[test]
    fn who_is_behind_or_out_of_sight_is_stopped_as_well() {
        let counts = [
            (Tick { old: 40, ..tick(40, 0) }, "it was older than 1000 ms in 40 of 40 answers"),
            (Tick { not_comparable: 40, ..tick(40, 0) }, "it could not be compared in 40 of 40 answers"),
            (Tick { unproven: 40, ..tick(40, 0) }, "it is unproven in 40 of 40 answers"),
            (Tick { errors: 40, ..tick(40, 0) }, "it gave no answer to 40 of 40 compared requests"),
            (Tick { dropped: 40, compared: 0, ..tick(40, 0) }, "nobody compared 40 of 40 requests"),
        ];
        for (tick, words) in counts {
            let why = Guard::new(BOUNDS).look(tick).unwrap();
            assert!(why.starts_with(words), "{why}");
            assert!(BOUNDS.breach(&tick).unwrap().starts_with(words));
        }
    }
}
