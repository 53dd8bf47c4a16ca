//! Hours, days, and which of them each window holds at a given time.
//!
//! A window is a run of whole UTC buckets that ends with the current one: hours for 24h, days for 7d and 30d. So a
//! transaction later today already counts in 7d and 30d, and in 24h once its hour begins.

use florin_schema::Window;

use crate::limits::{CLOCK_AHEAD_HOURS, CLOCK_BACK_HOURS};

const HOUR_US: i64 = 3_600_000_000;
const HOURS_PER_DAY: i32 = 24;

/// An hour of UTC, counted from 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hour(pub i32);

impl Hour {
    /// The hour that holds `at_us` (µs since 1970).
    ///
    /// # Panics
    /// Where `at_us` is so far away that its hour has no 32-bit number; a transaction's never is.
    #[inline]
    pub fn of(at_us: i64) -> Hour {
        Hour(i32::try_from(at_us.div_euclid(HOUR_US)).expect("a time within a million years of 1970"))
    }

    /// The first hour of its day.
    #[inline]
    pub fn day(self) -> Hour {
        Hour(self.0 - self.0.rem_euclid(HOURS_PER_DAY))
    }
}

/// The windows' edges at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Horizon {
    this_hour: Hour,
    today: Hour,
}

impl Horizon {
    /// The edges at `wall_us` (µs since 1970).
    #[inline]
    pub fn at(wall_us: i64) -> Horizon {
        Horizon::of_hour(Hour::of(wall_us))
    }

    /// The hours, first and last, that `window` holds; `None` for lifetime, which holds all.
    #[inline]
    pub fn hours(&self, window: Window) -> Option<(Hour, Hour)> {
        let end_of_today = Hour(self.today.0 + HOURS_PER_DAY - 1);
        match window {
            Window::Hours24 => Some((Hour(self.this_hour.0 - 23), self.this_hour)),
            Window::Days7 => Some((Hour(self.today.0 - 6 * HOURS_PER_DAY), end_of_today)),
            Window::Days30 => Some((Hour(self.today.0 - 29 * HOURS_PER_DAY), end_of_today)),
            Window::Lifetime => None,
        }
    }

    /// How `hour` is remembered from now on: by itself while a window of hours may still reach it, by its day while only
    /// windows of days do, not at all once none does, nor while it lies far ahead. What is kept is a little more than
    /// this moment needs, so that it is exact for clocks a little before and after it, too.
    #[inline]
    pub fn keep(&self, hour: Hour) -> Kept {
        let earliest = Horizon::of_hour(Hour(self.this_hour.0 - CLOCK_BACK_HOURS));
        let day = hour.day();
        if hour.0 > self.this_hour.0 + CLOCK_AHEAD_HOURS {
            // No window holds it before its day begins.
            Kept { bucket: None, exact: Clocks { last: Hour(day.0 - 1), ..Clocks::ALL } }
        } else if hour == day && hour.0 >= earliest.today.0 - 29 * HOURS_PER_DAY
            || hour.0 >= earliest.this_hour.0 - 23
        {
            Kept { bucket: Some(hour), exact: Clocks::ALL }
        } else if hour.0 >= earliest.today.0 - 29 * HOURS_PER_DAY {
            // Which of its day's hours it was, nobody asks once the last 24 have passed it.
            Kept { bucket: Some(day), exact: Clocks { first: Hour(hour.0 + 24), ..Clocks::ALL } }
        } else {
            Kept { bucket: None, exact: Clocks { first: Hour(day.0 + 30 * HOURS_PER_DAY), ..Clocks::ALL } }
        }
    }

    fn of_hour(this_hour: Hour) -> Horizon {
        Horizon { this_hour, today: this_hour.day() }
    }

    /// Whether what is exact for `clocks` is exact at this moment.
    #[inline]
    pub fn is_within(&self, clocks: Clocks) -> bool {
        (clocks.first..=clocks.last).contains(&self.this_hour)
    }

    /// Whether this moment is within a day of the end of `clocks`, or beyond it.
    #[inline]
    pub fn nears_end_of(&self, clocks: Clocks) -> bool {
        self.this_hour.0 > clocks.last.0.saturating_sub(HOURS_PER_DAY)
    }
}

/// How an hour is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The hour itself, or the first of its day; `None` where it is not remembered.
    pub bucket: Option<Hour>,
    /// The clocks by which that makes no difference to any window.
    pub exact: Clocks,
}

/// The hours, first and last, in which a clock may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// The first.
    pub first: Hour,
    /// The last.
    pub last: Hour,
}

impl Clocks {
    /// Any clock.
    pub const ALL: Clocks = Clocks { first: Hour(i32::MIN), last: Hour(i32::MAX) };

    /// Those of both.
    #[inline]
    pub fn and(self, other: Clocks) -> Clocks {
        Clocks { first: self.first.max(other.first), last: self.last.min(other.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 24 * HOUR_US;

    #[test]
    fn windows_are_whole_buckets_that_include_the_current_one() {
        // 1970-03-01T10:30, day 59.
        let horizon = Horizon::at(59 * DAY_US + 10 * HOUR_US + HOUR_US / 2);
        let day = |n: i32| n * 24;
        assert_eq!(horizon.hours(Window::Hours24), Some((Hour(day(58) + 11), Hour(day(59) + 10))));
        assert_eq!(horizon.hours(Window::Days7), Some((Hour(day(53)), Hour(day(59) + 23))));
        assert_eq!(horizon.hours(Window::Days30), Some((Hour(day(30)), Hour(day(59) + 23))));
        assert_eq!(horizon.hours(Window::Lifetime), None);
    }

    #[test]
    fn buckets_coarsen_with_age() {
        let horizon = Horizon::at(59 * DAY_US + 10 * HOUR_US);
        let at = |day: i32, hour: i32| Hour(day * 24 + hour);
        let bucket = |day, hour| horizon.keep(at(day, hour)).bucket;
        assert_eq!(bucket(66, 10), Some(at(66, 10)), "ahead of the clock");
        assert_eq!(bucket(66, 11), None, "far ahead of it");
        assert_eq!(
            bucket(58, 9),
            Some(at(58, 9)),
            "the oldest hour of 24h, had the clock to go back two hours"
        );
        assert_eq!(bucket(58, 8), Some(at(58, 0)), "beyond 24h");
        assert_eq!(bucket(30, 23), Some(at(30, 0)), "the oldest day of 30d");
        assert_eq!(bucket(29, 23), None, "beyond 30d");
        let exact = |day, hour| horizon.keep(at(day, hour)).exact;
        assert_eq!(exact(58, 9), Clocks::ALL);
        assert_eq!(exact(66, 11), Clocks { last: at(65, 23), ..Clocks::ALL }, "before its day begins");
        assert_eq!(exact(58, 8), Clocks { first: at(59, 8), ..Clocks::ALL }, "once a day has passed it");
        assert_eq!(exact(29, 23), Clocks { first: at(59, 0), ..Clocks::ALL }, "once 30 days have");
        assert_eq!(exact(30, 0), Clocks::ALL, "a day's first hour stands for the day");
        assert_eq!(exact(29, 0), Clocks { first: at(59, 0), ..Clocks::ALL }, "which is forgotten with it");
    }

    #[test]
    fn an_end_is_near_for_a_day_before_it() {
        let nears = |hour: i32, last: i32| {
            Horizon::of_hour(Hour(hour)).nears_end_of(Clocks { last: Hour(last), ..Clocks::ALL })
        };
        assert_eq!(
            [nears(99, 124), nears(100, 124), nears(101, 124), nears(125, 124)],
            [false, false, true, true]
        );
        assert!(!nears(100, i32::MAX));
    }

    /// For each moment and hour, whether each window of each clock holds the hour is the same as whether it holds the
    /// bucket, for all clocks that are said to be exact; and these reach from before the moment to after it.
    #[test]
    fn what_is_kept_is_exact_for_the_clocks_that_it_names() {
        let holds = |clock: i32, window, hour: Option<Hour>| {
            let (first, last) = Horizon::of_hour(Hour(clock)).hours(window).expect("has edges");
            hour.is_some_and(|hour| (first..=last).contains(&hour))
        };
        for moment in 7_000..7_030 {
            let now = Horizon::of_hour(Hour(moment));
            for hour in (moment - 800..moment + 220).map(Hour) {
                let Kept { bucket, exact } = now.keep(hour);
                assert!(exact.first.0 <= moment - CLOCK_BACK_HOURS, "{hour:?} at {moment}");
                assert!(exact.last.0 >= moment + CLOCK_AHEAD_HOURS - 24, "{hour:?} at {moment}");
                for clock in (moment - 60..moment + 60).chain([moment - 750, moment + 200, moment + 800]) {
                    if !Horizon::of_hour(Hour(clock)).is_within(exact) {
                        continue;
                    }
                    for window in [Window::Hours24, Window::Days7, Window::Days30] {
                        let (held, kept) = (holds(clock, window, Some(hour)), holds(clock, window, bucket));
                        assert_eq!(held, kept, "{hour:?} kept at {moment}, asked at {clock}");
                    }
                }
            }
        }
    }

    #[test]
    fn hours_before_1970_round_down() {
        assert_eq!(Hour::of(-1), Hour(-1));
        assert_eq!(Hour(-1).day(), Hour(-24));
        assert_eq!(Hour::of(-HOUR_US), Hour(-1));
        assert_eq!(Hour::of(-HOUR_US - 1), Hour(-2));
    }
}
