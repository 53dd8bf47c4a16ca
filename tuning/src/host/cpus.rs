//! Sets of CPUs, in the two notations of the kernel: lists (`0-3,8`) and masks (`ff,00000001`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::limits::NUMBERS_MAX;

use serde::{Deserialize, Serialize};

/// A set of CPUs. Displayed, and read, as a list: `0-3,8`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cpus(pub BTreeSet<usize>);

/// A text that is no set of CPUs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a list of CPU numbers and ranges, like 0-3,8, found {0:?}")]
pub struct CpusError(String);

impl Cpus {
    /// Reads a mask: hexadecimal words of 32 bits, the lowest last.
    pub fn from_mask(text: &str) -> Option<Cpus> {
        let mut cpus = BTreeSet::new();
        let text = text.trim();
        for (word, digits) in text.rsplit(',').enumerate() {
            let bits = u32::from_str_radix(digits, 16).ok()?;
            cpus.extend((0..32).filter(|bit| bits & (1 << bit) != 0).map(|bit| word * 32 + bit));
        }
        cpus.last().is_none_or(|&cpu| cpu < NUMBERS_MAX).then_some(Cpus(cpus))
    }

    /// Writes a mask, without leading zeros: every file that holds one takes it so.
    pub fn to_mask(&self) -> String {
        let words = self.0.last().map_or(1, |last| last / 32 + 1);
        let word = |word: usize| {
            (0..32).filter(|bit| self.0.contains(&(word * 32 + bit))).fold(0_u32, |bits, bit| bits | 1 << bit)
        };
        let mut text = format!("{:x}", word(words - 1));
        (0..words - 1).rev().for_each(|lower| text.push_str(&format!(",{:08x}", word(lower))));
        text
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// Ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// The lowest.
    pub fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// Those in both.
    pub fn and(&self, other: &Cpus) -> Cpus {
        Cpus(self.0.intersection(&other.0).copied().collect())
    }

    /// Those in either.
    pub fn or(&self, other: &Cpus) -> Cpus {
        Cpus(self.0.union(&other.0).copied().collect())
    }

    /// Those that `other` has not.
    pub fn without(&self, other: &Cpus) -> Cpus {
        Cpus(self.0.difference(&other.0).copied().collect())
    }

    /// The list, or a word for an empty one.
    pub fn or_none(&self) -> String {
        if self.is_empty() { "none".to_owned() } else { self.to_string() }
    }
}

impl FromIterator<usize> for Cpus {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Cpus {
        Cpus(cpus.into_iter().collect())
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            let written = if last > first { format!("{first}-{last}") } else { first.to_string() };
            write!(f, "{separator}{written}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    /// An empty text is an empty set, for so the kernel writes one.
    fn from_str(text: &str) -> Result<Cpus, CpusError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Cpus::default());
        }
        let numbers = crate::numbers(text).ok_or_else(|| CpusError(text.to_owned()))?;
        Ok(numbers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Cpus {
        text.parse().unwrap()
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for text in ["", "0", "0-3", "0-3,8", "1,3,5", "0-63,128-191"] {
            assert_eq!(cpus(text).to_string(), text);
        }
        assert_eq!(cpus("8,0-2,1\n"), cpus("0-2,8"));
        for wrong in ["a", "3-1", "0,", "-1", "8192"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn masks_are_words_of_32_bits() {
        let cases = [("0", ""), ("3", "0-1"), ("ff", "0-7"), ("1,00000001", "0,32"), ("80000000", "31")];
        for (mask, list) in cases {
            assert_eq!(Cpus::from_mask(mask), Some(cpus(list)));
            assert_eq!(cpus(list).to_mask(), mask);
        }
        assert_eq!(Cpus::from_mask("00000000,000000ff\n"), Some(cpus("0-7")));
        assert_eq!(Cpus::from_mask("xyz"), None);
    }
}
