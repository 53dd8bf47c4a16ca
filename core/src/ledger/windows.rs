//! Hours, days, and which of them each window holds at a given time.
//!
//! A window is a run of whole UTC buckets that ends with the current one: hours for 24h, days for 7d and 30d. So a
//! transaction later today already counts in 7d and 30d, and in 24h once its hour begins.

use florin_schema::Window;

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
        let this_hour = Hour::of(wall_us);
        Horizon { this_hour, today: this_hour.day() }
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

    /// The bucket in which `hour` has to be remembered from now on: itself while a window of hours may still reach
    /// it, its day while only windows of days do, nothing once none does. As time goes on, an hour's bucket only
    /// ever gets coarser.
    #[inline]
    pub fn bucket(&self, hour: Hour) -> Option<Hour> {
        if hour.0 >= self.this_hour.0 - 23 {
            Some(hour)
        } else if hour.0 >= self.today.0 - 29 * HOURS_PER_DAY {
            Some(hour.day())
        } else {
            None
        }
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
        assert_eq!(horizon.bucket(at(70, 3)), Some(at(70, 3)), "ahead of the clock");
        assert_eq!(horizon.bucket(at(58, 11)), Some(at(58, 11)), "the oldest hour of 24h");
        assert_eq!(horizon.bucket(at(58, 10)), Some(at(58, 0)), "beyond 24h");
        assert_eq!(horizon.bucket(at(30, 23)), Some(at(30, 0)), "the oldest day of 30d");
        assert_eq!(horizon.bucket(at(29, 23)), None, "beyond 30d");
    }

    #[test]
    fn hours_before_1970_round_down() {
        assert_eq!(Hour::of(-1), Hour(-1));
        assert_eq!(Hour(-1).day(), Hour(-24));
        assert_eq!(Hour::of(-HOUR_US), Hour(-1));
        assert_eq!(Hour::of(-HOUR_US - 1), Hour(-2));
    }
}
