//! By how much two samples differ, and whether that is more than chance: as benchstat does it, without assuming that
//! anything is distributed normally, which the numbers of a busy host are not.
//!
//! The ratio is Hodges and Lehmann's estimate on a logarithmic scale: the median of all pairwise ratios. Its interval turns
//! the Mann-Whitney test around (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, 4.3), and
//! both come from the exact distribution, since samples here have four or five values.

use serde::{Deserialize, Serialize};

use crate::campaign::median;

/// Below this a difference counts as one.
const SIGNIFICANT: f64 = 0.05;
/// What an interval should cover at least; small samples cannot always reach it.
const CONFIDENCE: f64 = 0.95;

/// How many times as large as those of another the values of a sample are.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The estimate.
    pub estimate: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// How often an interval that was made like this holds the true ratio: 0 to 1.
    pub confidence: f64,
    /// How likely chance alone would tell the samples apart at least so clearly, two-sided.
    pub p: f64,
}

impl Ratio {
    /// Of `upper` over `lower`; nothing where either is empty or has a value that is not above 0.
    pub fn of(upper: &[f64], lower: &[f64]) -> Option<Ratio> {
        let usable = |values: &[f64]| !values.is_empty() && values.iter().all(|v| *v > 0.0 && v.is_finite());
        if !usable(upper) || !usable(lower) {
            return None;
        }
        let mut ratios: Vec<f64> = upper.iter().flat_map(|u| lower.iter().map(move |l| u / l)).collect();
        ratios.sort_by(f64::total_cmp);
        let (skipped, confidence) = interval(upper.len(), lower.len());
        // The median on a logarithmic scale: of an even number, the geometric mean of the two in the middle.
        let estimate = median(ratios.iter().map(|ratio| ratio.ln()).collect()).exp();
        Some(Ratio {
            estimate,
            low: ratios[skipped],
            high: ratios[ratios.len() - 1 - skipped],
            confidence,
            p: mann_whitney(upper, lower),
        })
    }

    /// Whether the samples differ by more than chance.
    pub fn is_significant(&self) -> bool {
        self.p < SIGNIFICANT
    }
}

/// The exact two-sided probability of the Mann-Whitney test: of all ways to deal the values out to the two samples, the
/// share that parts them at least as far. Equal values share their ranks.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let ranks = doubled_ranks(a, b);
    let observed: usize = ranks[..a.len()].iter().sum();
    let ways = rank_sums(&ranks, a.len());
    // The mean of the doubled sums is the sample's size times one more than the number of values.
    let mean = a.len() * (ranks.len() + 1);
    let distance = observed.abs_diff(mean);
    let as_far = ways.iter().enumerate().filter(|(sum, _)| sum.abs_diff(mean) >= distance);
    as_far.map(|(_, ways)| ways).sum::<f64>() / ways.iter().sum::<f64>()
}

/// Each value's rank among all, times two, so that shared ranks are whole.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: f64| {
        let below = all.iter().filter(|&&other| other < value).count();
        let equal = all.iter().filter(|&&other| other == value).count();
        // Of the ranks below + 1 to below + equal, the mean, doubled.
        2 * below + equal + 1
    };
    all.iter().map(|&value| rank(value)).collect()
}

/// How many subsets of `size` ranks have each sum.
fn rank_sums(ranks: &[usize], size: usize) -> Vec<f64> {
    let total: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; total + 1]; size + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        for taken in (1..=size).rev() {
            for sum in (rank..=total).rev() {
                ways[taken][sum] += ways[taken - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(size)
}

/// How many of the sorted pairwise ratios lie outside of the interval at either end, and what it covers.
fn interval(n: usize, m: usize) -> (usize, f64) {
    let ranks: Vec<usize> = (1..=n + m).collect();
    let ways = rank_sums(&ranks, n);
    let all: f64 = ways.iter().sum();
    // The rank sum is the statistic U plus the smallest sum there is.
    let smallest = n * (n + 1) / 2;
    let tail = |u: usize| ways[smallest..=smallest + u].iter().sum::<f64>() / all;
    let mut skipped = 0;
    while 1.0 - 2.0 * tail(skipped + 1) >= CONFIDENCE {
        skipped += 1;
    }
    (skipped, (1.0 - 2.0 * tail(skipped)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn samples_that_do_not_overlap_are_as_unlikely_as_the_tables_say() {
        // 2 of the ways to choose n out of n + m: the published tables of the exact test begin with these.
        for (n, m, p) in [(3, 3, 0.1), (4, 4, 2.0 / 70.0), (5, 5, 2.0 / 252.0), (4, 6, 2.0 / 210.0)] {
            let a: Vec<f64> = (0..n).map(f64::from).collect();
            let b: Vec<f64> = (0..m).map(|value| 100.0 + f64::from(value)).collect();
            assert!(close(mann_whitney(&a, &b), p), "{n} {m}: {}", mann_whitney(&a, &b));
            assert!(close(mann_whitney(&b, &a), p));
        }
    }

    #[test]
    fn overlapping_samples_agree_with_counting_by_hand() {
        // Ranks 1 and 3 of 4: U = 1, and of the 6 ways 4 lie that far from the middle or further.
        assert!(close(mann_whitney(&[1.0, 3.0], &[2.0, 4.0]), 4.0 / 6.0));
        // Everything is equal: every way is as extreme as any.
        assert!(close(mann_whitney(&[7.0; 4], &[7.0; 5]), 1.0));
        // Ranks 1, 2.5, 2.5, 4 with 1 and 2.5 drawn (3.5, mean 5): 3.5 twice and 6.5 twice of 6.
        assert!(close(mann_whitney(&[1.0, 2.0], &[2.0, 3.0]), 4.0 / 6.0));
    }

    #[test]
    fn the_exact_test_agrees_with_dealing_out_every_hand() {
        let values = [3.0, 1.5, 4.0, 4.0, 5.5, 9.0, 2.0, 6.0, 4.0];
        let (a, b) = values.split_at(4);
        let statistic = |chosen: u32| {
            // Twice U of the chosen against the others, less its mean.
            let pick = |taken: bool| {
                values
                    .iter()
                    .enumerate()
                    .filter(move |(i, _)| (chosen >> i & 1 == 1) == taken)
                    .map(|(_, v)| v)
            };
            let wins = pick(true).flat_map(|x| pick(false).map(move |y| i32::from(x > y) - i32::from(x < y)));
            wins.sum::<i32>().abs()
        };
        let observed = statistic(0b1111);
        let hands: Vec<u32> = (0..1 << values.len()).filter(|hand: &u32| hand.count_ones() == 4).collect();
        let as_far = hands.iter().filter(|&&hand| statistic(hand) >= observed).count();
        assert!(close(mann_whitney(a, b), as_far as f64 / hands.len() as f64));
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Critical values of U, two-sided 5 %: 4 and 4: 0; 5 and 5: 2; 6 and 6: 5; 10 and 10: 23. One more is left out.
        assert_eq!(interval(4, 4), (0, 1.0 - 2.0 / 70.0));
        for (n, critical) in [(5, 2), (6, 5), (8, 13), (10, 23)] {
            let (skipped, confidence) = interval(n, n);
            assert_eq!(skipped, critical, "{n}");
            assert!((0.95..0.99).contains(&confidence), "{n}: {confidence}");
        }
        // Three and three cannot do better than nine in ten.
        assert_eq!(interval(3, 3), (0, 0.9));
        assert_eq!(interval(1, 1), (0, 0.0));
    }

    #[test]
    fn a_ratio_is_found_through_noise_and_its_inverse_too() {
        let lower = [100.0, 102.0, 98.0, 101.0, 99.5];
        let upper = lower.map(|value| value * 2.5);
        let ratio = Ratio::of(&upper, &lower).unwrap();
        assert!((ratio.estimate - 2.5).abs() < 0.02 && ratio.is_significant(), "{ratio:?}");
        assert!(ratio.low < 2.5 && 2.5 < ratio.high && ratio.high - ratio.low < 0.2, "{ratio:?}");
        let inverse = Ratio::of(&lower, &upper).unwrap();
        assert!(close(inverse.estimate, 1.0 / ratio.estimate) && close(inverse.low, 1.0 / ratio.high));
        assert_eq!(inverse.p, ratio.p);
    }

    #[test]
    fn one_outlier_does_not_carry_the_estimate_away() {
        let ratio =
            Ratio::of(&[200.0, 201.0, 199.0, 20.0, 200.5], &[100.0, 100.5, 99.5, 100.2, 99.8]).unwrap();
        assert!((ratio.estimate - 2.0).abs() < 0.02, "{ratio:?}");
    }

    #[test]
    fn equal_samples_do_not_differ() {
        let ratio = Ratio::of(&[10.0, 11.0, 12.0, 13.0], &[10.5, 11.5, 11.2, 12.5]).unwrap();
        assert!(!ratio.is_significant() && ratio.low < 1.0 && 1.0 < ratio.high, "{ratio:?}");
    }

    #[test]
    fn what_has_no_ratio_gets_none() {
        for (upper, lower) in [(&[][..], &[1.0][..]), (&[1.0], &[]), (&[1.0], &[0.0]), (&[f64::NAN], &[1.0])]
        {
            assert_eq!(Ratio::of(upper, lower), None);
        }
    }
}
