//! JSON numbers, exactly.

/// A number as it was written, compared by what it is: `1.50` equals `1.5`, and no digit is ever rounded away.
#[derive(Clone, Debug)]
pub struct Number {
    text: String,
    exact: Exact,
}

/// `digits` × 10^`exponent`; the digits neither begin nor end with a zero, and zero has none.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Exact {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    /// Reads a JSON number; `None` where it is none, or its exponent is beyond any use.
    pub fn parse(text: &str) -> Option<Number> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number =
            !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if !is_number {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let trailing = i64::try_from(all.len() - significant.len()).ok()?;
        let digits = significant.trim_start_matches('0').to_owned();
        let scale = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + trailing;
        let exact = if digits.is_empty() {
            Exact { is_negative: false, digits, exponent: 0 }
        } else {
            Exact { is_negative, digits, exponent: scale }
        };
        Some(Number { text: text.to_owned(), exact })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.exact == other.exact
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn equal(a: &str, b: &str) -> bool {
        Number::parse(a).unwrap() == Number::parse(b).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_value_and_exactly() {
        for (a, b) in [("1", "1.0"), ("100", "1e2"), ("0", "-0.00"), ("1.5e1", "15"), ("12e-1", "1.2")] {
            assert!(equal(a, b), "{a} = {b}");
        }
        for (a, b) in [
            ("9007199254740993", "9007199254740992"),
            ("123456789012345678901234567890", "123456789012345678901234567891"),
            ("0.1", "0.10000000000000001"),
            ("1", "-1"),
            ("10", "1"),
        ] {
            assert!(!equal(a, b), "{a} ≠ {b}");
        }
        for no_number in ["", "-", "1.x", "e5", "1e99999999999", "NaN", "+1"] {
            assert!(Number::parse(no_number).is_none(), "{no_number}");
        }
    }

    proptest! {
        #[test]
        fn integers_are_equal_only_to_themselves(a: i128, b: i128, zeros in 0..5usize) {
            prop_assert_eq!(equal(&a.to_string(), &b.to_string()), a == b);
            let spelled = format!("{a}.{}", "0".repeat(zeros + 1));
            prop_assert!(equal(&a.to_string(), &spelled));
        }
    }
}
