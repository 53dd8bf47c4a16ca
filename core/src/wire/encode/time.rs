//! RFC 3339 times in UTC with microseconds, in fixed places of an array: each HTTP answer has two of them. jiff, which reads and
//! writes all other times, looks for the form first; tests hold the two together.

const DAY_US: i64 = 86_400_000_000;
/// 0000-01-01T00:00:00Z, in days since 1970.
const FIRST_DAY: i64 = -719_528;
/// 9999-12-31T00:00:00Z, in days since 1970.
const LAST_DAY: i64 = 2_932_896;

/// `us` microseconds since 1970 UTC as `2026-11-22T04:05:06.000007Z`.
///
/// # Panics
/// Outside the years 0000 to 9999, which RFC 3339 cannot write: the ledger refuses such times.
pub(super) fn rfc3339(us: i64) -> [u8; 27] {
    let (day, of_day_us) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
    assert!((FIRST_DAY..=LAST_DAY).contains(&day), "{us} µs since 1970 lie outside the years 0000 to 9999");
    let (year, month, day) = civil(day);
    let (of_day_s, micros) = ((of_day_us / 1_000_000) as u32, (of_day_us % 1_000_000) as u32);

    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day_s / 3_600);
    digits(&mut text[14..16], of_day_s / 60 % 60);
    digits(&mut text[17..19], of_day_s % 60);
    digits(&mut text[20..26], micros);
    text
}

/// Writes `number` with as many digits as `place` has.
#[inline]
pub(super) fn digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar. Counted from 0000-03-01, leap days
/// come last in their year, their century and their 400 years, so each division is exact
/// (<https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`).
pub(super) fn civil(day: i64) -> (u32, u32, u32) {
    // January and February of year 0 lie before that first of March; one era more keeps them positive.
    let day = (day - FIRST_DAY - 60 + 146_097) as u32;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u32::from(month <= 2) - 400;
    (year, month, day_of_month)
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
