//! Whether pairs of measurements differ by more than chance.

use std::fmt;

/// A side of a pair.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    /// Questions answered a second.
    pub rate: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

impl Measured {
    /// For people.
    pub fn words(&self) -> String {
        format!("{:.0}/s, p99 {:.0} µs", self.rate, self.p99_us)
    }
}

/// The smallest change that is worth a setting.
const CHANGE_MIN: f64 = 0.02;
/// Pairs that must agree, of all.
const AGREEMENT_MIN: f64 = 0.8;

/// How a metric has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Better,
    Worse,
    Neither,
}

/// What the pairs say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// Median of the rate's changes, as a share: 0.1 = a tenth more.
    pub rate_change: f64,
    /// Median of the 99th percentile's changes.
    pub p99_change: f64,
    /// Whether to keep the knob turned.
    pub keep: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.keep { "keep" } else { "revert" };
        let (rate, p99) = (self.rate_change * 100.0, self.p99_change * 100.0);
        write!(f, "{word}: throughput {rate:+.1} %, p99 {p99:+.1} % (medians; the host is as it was)")
    }
}

/// Keeps what makes one metric better and none worse, each by at least 2 % at the median and in 4 of 5 pairs.
pub fn judge(pairs: &[(Measured, Measured)]) -> Verdict {
    let changes = |of: fn(&Measured) -> f64| -> Vec<f64> {
        pairs.iter().map(|(without, with)| of(with) / of(without).max(f64::MIN_POSITIVE) - 1.0).collect()
    };
    let (rates, p99s) = (changes(|side| side.rate), changes(|side| side.p99_us));
    let rate = change(&rates);
    let p99 = change(&p99s.iter().map(|change| -change).collect::<Vec<_>>());
    let keep = [rate, p99].contains(&Change::Better) && ![rate, p99].contains(&Change::Worse);
    Verdict { rate_change: median(&rates), p99_change: median(&p99s), keep }
}

/// Of changes for which more is better.
fn change(changes: &[f64]) -> Change {
    let agree = |sign: f64| changes.iter().filter(|change| **change * sign > 0.0).count() as f64;
    let enough = AGREEMENT_MIN * changes.len() as f64;
    let median = median(changes);
    if median >= CHANGE_MIN && agree(1.0) >= enough {
        Change::Better
    } else if median <= -CHANGE_MIN && agree(-1.0) >= enough {
        Change::Worse
    } else {
        Change::Neither
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(sides: &[(f64, f64, f64, f64)]) -> Vec<(Measured, Measured)> {
        let pair = |&(rate, p99_us, with_rate, with_p99): &(f64, f64, f64, f64)| {
            (Measured { rate, p99_us }, Measured { rate: with_rate, p99_us: with_p99 })
        };
        sides.iter().map(pair).collect()
    }

    #[test]
    fn a_knob_is_kept_when_it_helps_and_does_not_hurt() {
        let helps =
            pairs(&[(100.0, 50.0, 110.0, 50.0), (101.0, 51.0, 112.0, 50.0), (99.0, 49.0, 108.0, 50.0)]);
        assert!(judge(&helps).keep);
        let tail = pairs(&[(100.0, 50.0, 100.0, 30.0), (101.0, 51.0, 100.5, 31.0), (99.0, 49.0, 99.5, 32.0)]);
        assert!(judge(&tail).keep);
        let trades =
            pairs(&[(100.0, 50.0, 110.0, 90.0), (101.0, 51.0, 112.0, 95.0), (99.0, 49.0, 108.0, 99.0)]);
        assert!(!judge(&trades).keep);
    }

    #[test]
    fn chance_and_trifles_are_not_kept() {
        let noise =
            pairs(&[(100.0, 50.0, 140.0, 50.0), (101.0, 51.0, 70.0, 50.0), (99.0, 49.0, 103.0, 50.0)]);
        assert!(!judge(&noise).keep);
        let trifle =
            pairs(&[(100.0, 50.0, 100.5, 49.9), (100.0, 50.0, 100.6, 49.9), (100.0, 50.0, 100.4, 49.9)]);
        assert!(!judge(&trifle).keep);
        let words = judge(&trifle).to_string();
        assert!(words.starts_with("revert: throughput +0.5 %, p99 -0.2 %"), "{words}");
    }
}
