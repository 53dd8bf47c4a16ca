//! Lists of CPUs and nodes as the kernel writes them, `0-3,8`: the one reader for files, flags and plans.

use crate::limits::NUMBERS_MAX;

/// Reads a list, ascending, each number once; `None` for what is none, the empty text included.
pub fn numbers(text: &str) -> Option<Vec<usize>> {
    let number = |text: &str| {
        let digits = text.trim();
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<usize>().ok() } else { None }
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && last < NUMBERS_MAX).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let mut numbers: Vec<usize> = ranges?.into_iter().flatten().collect();
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_what_is_none_is_refused() {
        assert_eq!(numbers("8,0-2,1\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(numbers("8191"), Some(vec![8_191]));
        for wrong in
            ["", "a", "3-1", "0,", "0,,1", "-1", "1-", "+1", "8192", "0-8192", "18446744073709551616"]
        {
            assert_eq!(numbers(wrong), None, "{wrong:?}");
        }
    }
}
