//! RFC 3339 times in UTC with microseconds, in fixed places of an array: each HTTP answer has two of them. jiff, which reads and
//! writes all other times, looks for the form first; tests hold the two together.

use super::digits::ascii;

const DAY_US: i64 = 86_400_000_000;
/// 0000-01-01T00:00:00Z, in days since 1970.
const FIRST_DAY: i64 = -719_528;
/// 9999-12-31T00:00:00Z, in days since 1970.
const LAST_DAY: i64 = 2_932_896;

/// `us` microseconds since 1970 UTC as `2026-11-22T04:05:06.000007Z`.
///
/// # Panics
/// Outside the years 0000 to 9999, which RFC 3339 cannot write: the ledger refuses such times.
#[inline]
pub(super) fn rfc3339(us: i64) -> [u8; 27] {
    let (day, of_day_us) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US) as u64);
    assert!((FIRST_DAY..=LAST_DAY).contains(&day), "{us} µs since 1970 lie outside the years 0000 to 9999");
    let (year, month, day) = civil(day);
    let (of_day_s, micros) = (of_day_us / 1_000_000, of_day_us % 1_000_000);

    let date = ascii(u64::from(year * 10_000 + month * 100 + day));
    let clock = ascii(of_day_s / 3_600 * 10_000 + of_day_s / 60 % 60 * 100 + of_day_s % 60);
    let micros = ascii(micros);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    text[0..4].copy_from_slice(&date[..4]);
    text[5..7].copy_from_slice(&date[4..6]);
    text[8..10].copy_from_slice(&date[6..]);
    text[11..13].copy_from_slice(&clock[2..4]);
    text[14..16].copy_from_slice(&clock[4..6]);
    text[17..19].copy_from_slice(&clock[6..]);
    text[20..26].copy_from_slice(&micros[2..]);
    text
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
        assert_eq!(text(FIRST_DAY * DAY_US), "0000-01-01T00:00:00.000000Z");
        assert_eq!(text(LAST_DAY * DAY_US + DAY_US - 1), "9999-12-31T23:59:59.999999Z");
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
