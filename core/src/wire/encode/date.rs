//! The Date header's value (RFC 9110, section 6.6.1): formatted once a second, not once an answer.

use super::digits::pair;
use super::time::{DAY_S, civil};

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// The years 0000 to 9999, which four digits can write, in seconds since 1970.
const SECONDS: core::ops::RangeInclusive<i64> = -719_528 * DAY_S..=2_932_896 * DAY_S + DAY_S - 1;

/// One second, as text.
pub(super) struct Date {
    second: i64,
    text: [u8; 29],
}

impl Date {
    /// The beginning of 1970.
    pub(super) fn new() -> Date {
        Date { second: 0, text: imf_fixdate(0) }
    }

    /// It is `wall_us`, µs since 1970 UTC.
    #[inline]
    pub(super) fn set(&mut self, wall_us: i64) {
        let second = wall_us.div_euclid(1_000_000);
        if second != self.second {
            (self.second, self.text) = (second, imf_fixdate(second));
        }
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub(super) fn text(&self) -> &[u8; 29] {
        &self.text
    }
}

#[cold]
fn imf_fixdate(second: i64) -> [u8; 29] {
    let second = second.clamp(*SECONDS.start(), *SECONDS.end());
    let (day, of_day) = (second.div_euclid(DAY_S), second.rem_euclid(DAY_S) as u32);
    let (year, month, of_month) = civil(day);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(WEEKDAYS[day.rem_euclid(7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    for (place, number) in [
        (5, of_month),
        (12, year / 100),
        (14, year % 100),
        (17, of_day / 3_600),
        (20, of_day / 60 % 60),
        (23, of_day % 60),
    ] {
        text[place..place + 2].copy_from_slice(&pair(u64::from(number)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_rfcs_example() {
        let mut date = Date::new();
        assert_eq!(date.text(), b"Thu, 01 Jan 1970 00:00:00 GMT");
        for (wall_us, text) in [
            (784_111_777_999_999, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000_000, b"Sun, 06 Nov 1994 08:49:38 GMT"),
            (-1, b"Wed, 31 Dec 1969 23:59:59 GMT"),
            (i64::MAX, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            date.set(wall_us);
            assert_eq!(date.text(), text);
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_calendar_says(second in SECONDS) {
            let mut date = Date::new();
            date.set(second * 1_000_000);
            let expected = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_secs(second);
            prop_assert_eq!(str::from_utf8(date.text()).unwrap(), expected.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
    }
}
