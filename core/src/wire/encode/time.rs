//! RFC 3339 times in UTC with microseconds, in fixed places of an array: each HTTP answer has two of them. jiff, which reads and
//! writes all other times, looks for the form first; tests hold the two together.

use super::digits::{pair, pairs_digits};
use crate::limits::DATES_KEPT;

/// Seconds of a day.
pub(super) const DAY_S: i64 = 86_400;
const DAY_US: i64 = DAY_S * 1_000_000;
/// 0000-01-01T00:00:00Z, in days since 1970.
const FIRST_DAY: i64 = -719_528;
/// 9999-12-31T00:00:00Z, in days since 1970.
const LAST_DAY: i64 = 2_932_896;
const FIRST_US: i64 = FIRST_DAY * DAY_US;
const LAST_US: i64 = LAST_DAY * DAY_US + DAY_US - 1;

/// What a time's digits are written into.
pub(super) const TIME: &str = "0000-00-00T00:00:00.000000Z";

/// `us` microseconds since 1970 UTC as `2026-11-22T04:05:06.000007Z`.
///
/// # Panics
/// Outside the years 0000 to 9999, which RFC 3339 cannot write: the ledger refuses such times.
pub(super) fn rfc3339(us: i64) -> [u8; TIME.len()] {
    let (day, of_day_us) = split(us);
    let mut text = [0; TIME.len()];
    for (place, piece) in Moment::new(date(day), of_day_us).pieces() {
        text[place..place + piece.len()].copy_from_slice(piece);
    }
    text
}

/// A time as text, in pieces that are one store each: those that come behind write over the end of those before.
pub(super) struct Moment {
    pub(super) date: [u8; 16],
    pub(super) clock: [u8; 8],
    pub(super) micros: [u8; 8],
}

impl Moment {
    /// Where a time's clock and its microseconds begin.
    pub(super) const CLOCK: usize = "0000-00-00T".len();
    pub(super) const MICROS: usize = Moment::CLOCK + "00:00:00".len();

    #[inline(always)]
    fn new(date: [u8; 16], of_day_us: u64) -> Moment {
        let (clock, micros) = (clock(of_day_us / 1_000_000), micros(of_day_us % 1_000_000));
        Moment { date, clock: clock.to_le_bytes(), micros: micros.to_le_bytes() }
    }

    fn pieces(&self) -> [(usize, &[u8]); 3] {
        [(0, &self.date), (Moment::CLOCK, &self.clock), (Moment::MICROS, &self.micros)]
    }
}

/// The dates of days of which was told lately: accounts were changed last on one of few days. A day has one place.
pub(super) struct Days {
    dates: [Date; DATES_KEPT],
}

/// A day since the first one, as text.
#[derive(Clone, Copy)]
struct Date {
    day: u32,
    text: [u8; 16],
}

impl Days {
    pub(super) fn new() -> Days {
        Days { dates: [Date { day: 0, text: date(0) }; DATES_KEPT] }
    }

    /// As [`rfc3339`], in pieces.
    ///
    /// # Panics
    /// As there.
    #[inline(always)]
    pub(super) fn moment(&mut self, us: i64) -> Moment {
        let (day, of_day_us) = split(us);
        let kept = &mut self.dates[day as usize % DATES_KEPT];
        if kept.day != day {
            *kept = Date { day, text: date(day) };
        }
        Moment::new(kept.text, of_day_us)
    }
}

/// The day since the first one, and the microseconds of it.
#[inline(always)]
fn split(us: i64) -> (u32, u64) {
    assert!((FIRST_US..=LAST_US).contains(&us), "{us} µs since 1970 lie outside the years 0000 to 9999");
    let since_us = us.abs_diff(FIRST_US);
    ((since_us / DAY_US as u64) as u32, since_us % DAY_US as u64)
}

/// A date, and what stands behind it before the minutes.
#[cold]
fn date(day: u32) -> [u8; 16] {
    let (year, month, of_month) = civil(i64::from(day) + FIRST_DAY);
    let mut text = *b"0000-00-00T00:00";
    for (place, number) in [(0, year / 100), (2, year % 100), (5, month), (8, of_month)] {
        text[place..place + 2].copy_from_slice(&pair(u64::from(number)));
    }
    text
}

/// `04:05:06` of a second of the day, the first digit in the lowest byte. Its part of an hour stands in 32 bits behind the point, whose
/// sixtieths are minutes; the factor is 2³² / 3,600, rounded up by less than a second adds in all of a day.
#[inline(always)]
fn clock(of_day_s: u64) -> u64 {
    const TEXT: u64 = u64::from_le_bytes(*b"00:00:00");
    let hours = 1_193_047 * of_day_s;
    let minutes = 60 * (hours & 0xffff_ffff);
    let seconds = 60 * (minutes & 0xffff_ffff);
    // As `pairs_digits`, with room for a colon behind each.
    let pairs = hours >> 32 | minutes >> 32 << 24 | seconds >> 32 << 48;
    let tens = ((pairs * 103) >> 10) & 0x000f_0000_0f00_000f;
    ((pairs << 8) - tens * ((10 << 8) - 1)) | TEXT
}

/// `.000007Z` of a microsecond of the second, in the same way: the factor is 2³² / 10,000, rounded up.
#[inline(always)]
fn micros(of_second_us: u64) -> u64 {
    const TEXT: u64 = u64::from_le_bytes(*b".000000Z");
    let first = 429_497 * of_second_us;
    let second = 100 * (first & 0xffff_ffff);
    let last = 100 * (second & 0xffff_ffff);
    pairs_digits(first >> 32 | second >> 32 << 16 | last >> 32 << 32) << 8 | TEXT
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar. Counted from a first of March, leap days come last in
/// their year, their century and their 400 years. The year of a century is a multiplication whose upper half is the year and whose
/// lower half the day in it (Neri and Schneider, Euclidean affine functions and their application to calendar algorithms, 2022).
#[inline]
pub(super) fn civil(day: i64) -> (u32, u32, u32) {
    // January and February of year 0 lie before that year's first of March; 400 years more keep them positive.
    let quarter_days = 4 * (day - FIRST_DAY - 60 + 146_097) as u32 + 3;
    let (century, of_century) = (quarter_days / 146_097, quarter_days % 146_097 / 4);
    let product = 2_939_745 * u64::from(4 * of_century + 3);
    let (year, of_year) = ((product >> 32) as u32, product as u32 / 2_939_745 / 4);
    let months = 2_141 * of_year + 197_913;
    let (month, of_month) = (months >> 16, (months & 0xffff) / 2_141);
    let is_next_year = of_year >= 306;
    let year = 100 * century + year + u32::from(is_next_year) - 400;
    (year, if is_next_year { month - 12 } else { month }, of_month + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(us: i64) -> String {
        String::from_utf8(rfc3339(us).to_vec()).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(text(FIRST_US), "0000-01-01T00:00:00.000000Z");
        assert_eq!(text(LAST_US), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_day_that_is_kept_gives_way_to_another() {
        let mut days = Days::new();
        for us in [
            0,
            1,
            DATES_KEPT as i64 * DAY_US,
            DAY_US,
            0,
            FIRST_US,
            LAST_US,
            FIRST_US + DATES_KEPT as i64 * DAY_US,
        ] {
            let kept = days.moment(us);
            let (day, of_day_us) = split(us);
            let fresh = Moment::new(date(day), of_day_us);
            assert_eq!(kept.pieces(), fresh.pieces());
        }
    }

    #[test]
    fn every_second_of_a_day_and_every_microsecond_of_a_second() {
        for second in 0..DAY_S as u64 {
            let expected = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
            assert_eq!(clock(second).to_le_bytes(), expected.as_bytes());
        }
        for us in 0..1_000_000 {
            assert_eq!(micros(us).to_le_bytes(), format!(".{us:06}Z").as_bytes());
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = jiff::civil::date(0, 1, 1);
        for day in FIRST_DAY..=LAST_DAY {
            let (year, month, day) = civil(day);
            let got = (year as i16, month as i8, day as i8);
            assert_eq!(got, (expected.year(), expected.month(), expected.day()));
            expected = expected.tomorrow().unwrap_or(expected);
        }
    }
}
