//! RFC 3339 times, read and written exactly: what a column of µs cannot hold is refused, never rounded.

use florin_core::ledger::Transaction;
use jiff::SignedDuration;
use jiff::civil::DateTime;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Why a text is no time of a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected a time like 1994-03-31T23:59:59.000001Z (RFC 3339 with Z or an offset, years 0001 to 9999, no finer than µs)"
)]
pub struct TimeError;

/// Reads an RFC 3339 time, in µs since 1970 UTC.
///
/// # Errors
/// Another format, a date that no calendar has, a leap second (UTC in µs has no number for it), more than six
/// significant decimals, or a time outside [`Transaction::OCCURRED_AT_US`].
pub fn parse_us(text: &str) -> Result<i64, TimeError> {
    let bytes = text.as_bytes();
    let (seconds, rest) = bytes.split_at_checked(19).ok_or(TimeError)?;
    let &[y3, y2, y1, y0, b'-', mo1, mo0, b'-', d1, d0, b'T' | b't', h1, h0, b':', mi1, mi0, b':', s1, s0] =
        seconds
    else {
        return Err(TimeError);
    };
    let year = i16::from(pair(y3, y2)?) * 100 + i16::from(pair(y1, y0)?);
    let (micros, zone) = fraction_us(rest)?;
    let civil =
        DateTime::new(year, pair(mo1, mo0)?, pair(d1, d0)?, pair(h1, h0)?, pair(mi1, mi0)?, pair(s1, s0)?, 0)
            .map_err(|_| TimeError)?;
    // Not through a Timestamp: jiff's end a day before the year 9999 does.
    let local_seconds = civil.duration_since(EPOCH).as_secs();
    let time_us = (local_seconds - offset_seconds(zone)?) * 1_000_000 + micros;
    if Transaction::OCCURRED_AT_US.contains(&time_us) { Ok(time_us) } else { Err(TimeError) }
}

/// Writes a time, in µs since 1970 UTC and within [`Transaction::OCCURRED_AT_US`], as [`parse_us`] reads it.
pub fn text(time_us: i64) -> String {
    format!("{:.6}Z", EPOCH + SignedDuration::from_micros(time_us))
}

/// The decimals after the seconds, in µs, and what follows them.
fn fraction_us(rest: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let Some((b'.', rest)) = rest.split_first() else { return Ok((0, rest)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (decimals, zone) = rest.split_at(digits);
    let (exact, beyond) = decimals.split_at(digits.min(6));
    if digits == 0 || beyond.iter().any(|&digit| digit != b'0') {
        return Err(TimeError);
    }
    let micros =
        (0..6).fold(0, |sum, at| sum * 10 + i64::from(exact.get(at).map_or(0, |digit| digit - b'0')));
    Ok((micros, zone))
}

/// How far east of UTC a zone is.
fn offset_seconds(zone: &[u8]) -> Result<i64, TimeError> {
    match *zone {
        [b'Z' | b'z'] => Ok(0),
        [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] => {
            let (hours, minutes) = (pair(h1, h0)?, pair(m1, m0)?);
            if hours > 23 || minutes > 59 {
                return Err(TimeError);
            }
            let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
            Ok(if sign == b'+' { seconds } else { -seconds })
        }
        _ => Err(TimeError),
    }
}

/// Two digits.
fn pair(tens: u8, ones: u8) -> Result<i8, TimeError> {
    let digit = |byte: u8| i8::try_from(byte.wrapping_sub(b'0')).ok().filter(|digit| (0..=9).contains(digit));
    Ok(digit(tens).ok_or(TimeError)? * 10 + digit(ones).ok_or(TimeError)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        for (text, time_us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1993-01-01T08:00:20.000000Z", 725_875_220_000_000),
            ("1993-01-01T08:00:20.5Z", 725_875_220_500_000),
            ("1993-01-01T10:00:20.000001+02:00", 725_875_220_000_001),
            ("1993-01-01t03:30:20.00000100-04:30", 725_875_220_000_001),
            ("1969-12-31T23:59:59.999999z", -1),
            ("0001-01-01T00:00:00Z", *Transaction::OCCURRED_AT_US.start()),
            ("9999-12-31T23:59:59.999999Z", *Transaction::OCCURRED_AT_US.end()),
            ("2024-02-29T23:59:59Z", 1_709_251_199_000_000),
        ] {
            assert_eq!(parse_us(text), Ok(time_us), "{text}");
        }
    }

    #[test]
    fn what_is_no_exact_time_is_refused() {
        for text in [
            "",
            "1993-01-01",
            "1993-01-01T08:00:20",
            "1993-01-01 08:00:20Z",
            "1993-01-01T08:00Z",
            "1993-01-01T08:00:20.Z",
            "1993-01-01T08:00:20.0000001Z",
            "1993-02-29T08:00:20Z",
            "1993-13-01T08:00:20Z",
            "1993-01-01T24:00:00Z",
            "2016-12-31T23:59:60Z",
            "1993-01-01T08:00:20+2:00",
            "1993-01-01T08:00:20+24:00",
            "1993-01-01T08:00:20Z[UTC]",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+993-01-01T08:00:20Z",
            "725875220",
            "1993-01-01T08:00:20é",
        ] {
            assert_eq!(parse_us(text), Err(TimeError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "\\PC{0,40}") {
            let _ = parse_us(&text);
        }

        #[test]
        fn every_time_leads_back(time_us in Transaction::OCCURRED_AT_US) {
            prop_assert_eq!(parse_us(&text(time_us)), Ok(time_us));
        }
    }
}
