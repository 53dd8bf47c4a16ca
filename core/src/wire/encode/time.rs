//! RFC 3339 times in UTC with microseconds, in fixed places of an array: each HTTP answer has two of them. jiff, which reads and
//! writes all other times, looks for the form first; tests hold the two together.

use super::digits::ascii_pairs;

const DAY_US: i64 = DAY_S as i64 * 1_000_000;
const DAY_S: u64 = 86_400;
/// 0000-01-01T00:00:00Z, in days since 1970.
const FIRST_DAY: i64 = -719_528;
/// 9999-12-31T00:00:00Z, in days since 1970.
const LAST_DAY: i64 = 2_932_896;
const FIRST_US: i64 = FIRST_DAY * DAY_US;
const LAST_US: i64 = LAST_DAY * DAY_US + DAY_US - 1;

/// `us` microseconds since 1970 UTC as `2026-11-22T04:05:06.000007Z`.
///
/// # Panics
/// As [`write_rfc3339`].
pub(super) fn rfc3339(us: i64) -> [u8; 27] {
    let mut text = [0; 27];
    write_rfc3339(&mut text, us);
    text
}

/// The same where it is to stand: a text in small pieces that is copied as a whole waits for each of them.
///
/// # Panics
/// Outside the years 0000 to 9999, which RFC 3339 cannot write: the ledger refuses such times.
#[inline(always)]
pub(super) fn write_rfc3339(text: &mut [u8; 27], us: i64) {
    assert!((FIRST_US..=LAST_US).contains(&us), "{us} µs since 1970 lie outside the years 0000 to 9999");
    let since_us = us.abs_diff(FIRST_US);
    let (since_s, micros) = (since_us / 1_000_000, since_us % 1_000_000);
    let (year, month, day) = civil((since_s / DAY_S) as i64 + FIRST_DAY);
    let [hour, minute, second] = clock(since_s % DAY_S);
    let micros = micros_pairs(micros);

    let date = ascii_pairs([year / 100, year % 100, month, day].map(u64::from));
    let clock = ascii_pairs([hour, minute, second, micros[0]]);
    let micros = ascii_pairs([micros[1], micros[2], 0, 0]);
    *text = *b"0000-00-00T00:00:00.000000Z";
    text[0..4].copy_from_slice(&date[..4]);
    text[5..7].copy_from_slice(&date[4..6]);
    text[8..10].copy_from_slice(&date[6..]);
    text[11..13].copy_from_slice(&clock[..2]);
    text[14..16].copy_from_slice(&clock[2..4]);
    text[17..19].copy_from_slice(&clock[4..6]);
    text[20..22].copy_from_slice(&clock[6..]);
    text[22..26].copy_from_slice(&micros[..4]);
}

/// Hour, minute and second of a second of the day: its part of an hour in 32 bits behind the point, whose sixtieths are minutes. The
/// factor is 2³² / 3,600, rounded up by less than a second adds in all of a day.
#[inline(always)]
fn clock(of_day_s: u64) -> [u64; 3] {
    let hours = 1_193_047 * of_day_s;
    let minutes = 60 * (hours & 0xffff_ffff);
    [hours >> 32, minutes >> 32, (60 * (minutes & 0xffff_ffff)) >> 32]
}

/// Two digits each of the microseconds of a second, in the same way: the factor is 2³² / 10,000, rounded up.
#[inline(always)]
fn micros_pairs(micros: u64) -> [u64; 3] {
    let first = 429_497 * micros;
    let second = 100 * (first & 0xffff_ffff);
    [first >> 32, second >> 32, (100 * (second & 0xffff_ffff)) >> 32]
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
    fn every_second_of_a_day_and_every_microsecond_of_a_second() {
        for second in 0..DAY_S {
            assert_eq!(clock(second), [second / 3_600, second / 60 % 60, second % 60]);
        }
        for micros in 0..1_000_000 {
            assert_eq!(micros_pairs(micros), [micros / 10_000, micros / 100 % 100, micros % 100]);
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
