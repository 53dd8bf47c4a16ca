//! The one spelling of a whole number, wherever people and programs write one: paths, queries, JSON strings, CSV, flags.

/// Reads decimal digits: no sign, no space, no leading zero, at most `u64::MAX`.
#[inline]
pub fn decimal(text: impl AsRef<[u8]>) -> Option<u64> {
    match text.as_ref() {
        [] | [b'0', _, ..] => None,
        digits => digits.iter().try_fold(0_u64, |number, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            number.checked_mul(10)?.checked_add(u64::from(digit))
        }),
    }
}

/// What a refusal of `text` adds where only the spelling of a number is wrong; empty for everything else.
pub fn misspelling(text: &str) -> &'static str {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    match text.as_bytes() {
        [b'0', _, ..] if is_number(text) => ": leading zeros are not allowed",
        [b'+', ..] if is_number(&text[1..]) => ": a sign is not allowed",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_is_one_spelling() {
        assert_eq!((decimal("0"), decimal("18446744073709551615")), (Some(0), Some(u64::MAX)));
        for text in [
            "",
            "00",
            "01",
            "+1",
            "-0",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "1_000",
            "18446744073709551616",
            "\u{661}",
        ] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    /// `01` was refused with "expected 0 to 9223372036854775807", which it seems to be.
    #[test]
    fn what_looks_like_a_number_is_told_what_is_wrong_with_it() {
        for (text, hint) in [
            ("01", ": leading zeros are not allowed"),
            ("000", ": leading zeros are not allowed"),
            ("+1", ": a sign is not allowed"),
            ("0", ""),
            ("-1", ""),
            ("0x1", ""),
            ("18446744073709551616", ""),
            ("+", ""),
            ("", ""),
        ] {
            assert_eq!(misspelling(text), hint, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_would_be_written(text in "[-+0-9 .]{0,22}", number: u64) {
            prop_assert_eq!(decimal(number.to_string()), Some(number));
            if let Some(number) = decimal(&text) {
                prop_assert_eq!(number.to_string(), text);
            }
        }
    }
}
