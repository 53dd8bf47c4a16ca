//! Whether a side can be reached, as those who ask it see. A change is told once, and not before it has lasted a moment: a
//! side that is there every other time is down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::answer::rfc3339;
use crate::judge::{Failure, Reason};
use crate::limits::{REACH_SETTLED, SILENT_MAX};

/// What is known of one side.
#[derive(Default, Debug)]
pub(super) struct Reach {
    is_down: AtomicBool,
    /// Questions in a row that were not answered in time.
    silent: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    down: Option<Down>,
    times: u64,
    unreached: u64,
    /// All that is over.
    down_us: i64,
}

#[derive(Debug)]
struct Down {
    since_us: i64,
    last_us: i64,
    why: String,
}

/// What has become of a side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It cannot be reached any more.
    Down(String),
    /// It can be reached again, after so many µs.
    Up(i64),
}

/// A side's reachability, for reports.
#[derive(Clone, Serialize, Debug)]
pub struct ReachSummary {
    /// RFC 3339; nothing while it can be reached, as far as anybody has tried.
    pub down_since: Option<String>,
    /// Why it could not be reached when it was last tried.
    pub why: Option<String>,
    /// How often it has gone down.
    pub times: u64,
    /// For how long in all.
    pub down_seconds: f64,
    /// Questions, and callers' connections, for which there was no way to it.
    pub unreached: u64,
}

impl Reach {
    /// It has answered, or taken a connection, at `now_us`.
    pub fn heard(&self, now_us: i64) -> Option<Change> {
        self.silent.store(0, Ordering::Relaxed);
        if !self.is_down.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state();
        let settled_us = i64::try_from(REACH_SETTLED.as_micros()).unwrap_or(i64::MAX);
        let down = state.down.take_if(|down| now_us - down.last_us >= settled_us)?;
        self.is_down.store(false, Ordering::Relaxed);
        let after_us = now_us - down.since_us;
        state.down_us += after_us;
        Some(Change::Up(after_us))
    }

    /// It gave no answer, or none that is of use.
    pub fn unheard(&self, failure: &Failure, now_us: i64) -> Option<Change> {
        let why = match failure.reason {
            Reason::Connect => failure.detail.clone(),
            Reason::Timeout if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX => {
                format!("{SILENT_MAX} questions in a row were not answered in time: {}", failure.detail)
            }
            // It has been reached, whatever it said.
            Reason::CandidateStatus(_) | Reason::Protocol => return self.heard(now_us),
            _ => return None,
        };
        let mut state = self.state();
        state.unreached += u64::from(failure.reason == Reason::Connect);
        if let Some(down) = &mut state.down {
            (down.last_us, down.why) = (now_us, why);
            return None;
        }
        state.down = Some(Down { since_us: now_us, last_us: now_us, why: why.clone() });
        state.times += 1;
        self.is_down.store(true, Ordering::Relaxed);
        Some(Change::Down(why))
    }

    pub fn summary(&self, now_us: i64) -> ReachSummary {
        let state = self.state();
        let down = state.down.as_ref();
        let down_us = state.down_us + down.map_or(0, |down| now_us - down.since_us);
        ReachSummary {
            down_since: down.map(|down| rfc3339(down.since_us)),
            why: down.map(|down| down.why.clone()),
            times: state.times,
            down_seconds: down_us as f64 / 1e6,
            unreached: state.unreached,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn failure(reason: Reason) -> Failure {
        Failure { reason, detail: "refused".to_owned() }
    }

    /// Nobody was told that a side was gone, or that it was back.
    #[test]
    fn a_change_is_told_once_and_not_before_it_has_lasted() {
        let reach = Reach::default();
        let gone = failure(Reason::Connect);
        assert_eq!(reach.heard(0), None);
        assert_eq!(reach.unheard(&gone, SECOND_US), Some(Change::Down("refused".to_owned())));
        // A side that takes every other connection says so once, however many there are.
        for at in 1..100 {
            assert_eq!(reach.heard(SECOND_US + at * 10), None);
            assert_eq!(reach.unheard(&gone, SECOND_US + at * 10), None);
        }
        let summary = reach.summary(3 * SECOND_US);
        assert_eq!((summary.times, summary.unreached, summary.down_seconds), (1, 100, 2.0));
        assert!(summary.down_since.is_some());
        assert_eq!(reach.heard(5 * SECOND_US), Some(Change::Up(4 * SECOND_US)));
        assert_eq!(reach.heard(6 * SECOND_US), None);
        let summary = reach.summary(9 * SECOND_US);
        assert_eq!((summary.down_since, summary.down_seconds), (None, 4.0));
    }

    #[test]
    fn a_side_that_answers_nothing_at_all_is_down_and_one_that_is_slow_or_fails_is_not() {
        let reach = Reach::default();
        for _ in 0..SILENT_MAX * 3 {
            assert_eq!(reach.unheard(&failure(Reason::Protocol), 0), None);
            assert_eq!(reach.unheard(&failure(Reason::Timeout), 0), None);
            reach.heard(0);
        }
        let changes: Vec<_> =
            (0..SILENT_MAX * 2).filter_map(|_| reach.unheard(&failure(Reason::Timeout), 0)).collect();
        assert!(matches!(&changes[..], [Change::Down(why)] if why.contains("in a row")), "{changes:?}");
    }
}
