//! How throughput grows with shards: Gunther's universal scalability law, fitted to what was measured.
//!
//! X(N) = λN / (1 + σ(N − 1) + κN(N − 1)): λ is what one shard does alone, σ the share of work that waits in a line, κ what each shard
//! pays for every other one. σ = κ = 0 is a straight line.

use serde::Serialize;

use crate::limits::POINTS_MIN;

/// What so many shards have done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// How many.
    pub shards: u16,
    /// Requests served a second.
    pub rate: f64,
}

/// The law's constants.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Law {
    /// Requests a second of one shard.
    pub lambda: f64,
    /// Contention: the share of the work that is done one after the other.
    pub sigma: f64,
    /// Coherence: what each pair of shards costs.
    pub kappa: f64,
}

impl Law {
    /// Fits the law to `points` by least squares of the relative error; neither constant is below zero, for no work does itself. None
    /// where there are fewer than [`crate::limits::POINTS_MIN`] numbers of shards.
    pub fn fit(points: &[Point]) -> Option<Law> {
        let mut counts: Vec<u16> = points.iter().map(|point| point.shards).collect();
        counts.sort_unstable();
        counts.dedup();
        if counts.len() < POINTS_MIN || counts[0] == 0 || points.iter().any(|point| point.rate <= 0.0) {
            return None;
        }
        // The inverse is linear in its constants: N/X = a + b(N − 1) + cN(N − 1), with λ = 1/a, σ = b/a, κ = c/a.
        let fits = [[true, true], [true, false], [false, true], [false, false]].into_iter();
        let fits =
            fits.filter_map(|has| fit_with(points, has)).filter(|law| law.sigma >= 0.0 && law.kappa >= 0.0);
        fits.min_by(|one, other| one.error(points).total_cmp(&other.error(points)))
    }

    /// Requests a second of `shards` shards.
    pub fn rate(&self, shards: u16) -> f64 {
        let n = f64::from(shards);
        self.lambda * n / (1.0 + self.sigma * (n - 1.0) + self.kappa * n * (n - 1.0))
    }

    /// The number of shards beyond which more of them do less; none where there is no such number.
    pub fn peak(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt())
    }

    /// The sum of squares of what `points` differ by, relative to each.
    fn error(&self, points: &[Point]) -> f64 {
        points.iter().map(|point| (point.rate / self.rate(point.shards) - 1.0).powi(2)).sum()
    }
}

/// The best law among those whose contention, and whose coherence, is zero unless `has` it.
fn fit_with(points: &[Point], has: [bool; 2]) -> Option<Law> {
    // Normal equations of rows that are divided by N/X, so that each should be 1.
    let mut matrix = [[0.0; 4]; 3];
    for point in points {
        let n = f64::from(point.shards);
        let weight = point.rate / n;
        let row = [1.0, n - 1.0, n * (n - 1.0)].map(|term| term * weight);
        for i in 0..3 {
            (0..3).for_each(|j| matrix[i][j] += row[i] * row[j]);
            matrix[i][3] += row[i];
        }
    }
    for (constant, _) in has.into_iter().enumerate().filter(|(_, has)| !has) {
        let index = constant + 1;
        matrix[index] = [0.0; 4];
        (0..3).for_each(|i| matrix[i][index] = 0.0);
        matrix[index][index] = 1.0;
    }
    let [a, b, c] = solve(matrix)?;
    (a > 0.0).then(|| Law { lambda: 1.0 / a, sigma: b / a, kappa: c / a })
}

/// Solves three equations, by elimination with the largest pivot.
fn solve(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|&i, &j| rows[i][column].abs().total_cmp(&rows[j][column].abs()))?;
        rows.swap(column, pivot);
        let top = rows[column];
        if top[column] == 0.0 {
            return None;
        }
        for row in rows.iter_mut().skip(column + 1) {
            let factor = row[column] / top[column];
            row.iter_mut().zip(top).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut found = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|column| rows[row][column] * found[column]).sum();
        found[row] = (rows[row][3] - known) / rows[row][row];
    }
    found.iter().all(|value: &f64| value.is_finite()).then_some(found)
}

/// 1, 2, 4, … and the largest.
pub fn doublings(largest: u16) -> Vec<u16> {
    let powers = (0..16).map(|power| 1_u16 << power).take_while(|&shards| shards < largest);
    powers.chain([largest]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(law: Law, counts: &[u16]) -> Vec<Point> {
        counts.iter().map(|&shards| Point { shards, rate: law.rate(shards) }).collect()
    }

    #[test]
    fn a_law_is_found_again() {
        for (sigma, kappa) in [(0.0, 0.0), (0.03, 0.0), (0.0, 0.0004), (0.05, 0.001), (0.4, 0.02)] {
            let law = Law { lambda: 220_000.0, sigma, kappa };
            for counts in [&[1, 2, 4][..], &[1, 2, 4, 8, 16], &[2, 3, 16]] {
                let found = Law::fit(&points(law, counts)).unwrap();
                let is_near = |found: f64, is: f64, scale: f64| (found - is).abs() < 1e-6 * scale;
                assert!(
                    is_near(found.lambda, law.lambda, law.lambda)
                        && is_near(found.sigma, sigma, 1.0)
                        && is_near(found.kappa, kappa, 1.0),
                    "{law:?} {counts:?}: {found:?}"
                );
                assert!(is_near(found.rate(40), law.rate(40), law.rate(40)));
            }
        }
    }

    #[test]
    fn more_than_a_straight_line_is_none_of_the_laws_doing() {
        // By chance four shards did more than four times as much as one: work that does itself would be promised forty-fold.
        let better = [(1, 100.0), (2, 205.0), (4, 420.0)].map(|(shards, rate)| Point { shards, rate });
        let law = Law::fit(&better).unwrap();
        assert_eq!((law.sigma, law.kappa, law.peak()), (0.0, 0.0, None));
        assert!(
            (law.rate(40) / 40.0 - law.lambda).abs() < 1e-9 && law.lambda > 100.0 && law.lambda < 105.0,
            "{law:?}"
        );
    }

    #[test]
    fn the_peak_is_where_more_shards_do_less() {
        let law = Law { lambda: 1.0, sigma: 0.02, kappa: 0.0005 };
        let peak = law.peak().unwrap();
        assert!((44.0..45.0).contains(&peak));
        assert!(law.rate(44) > law.rate(40) && law.rate(45) > law.rate(50));
    }

    #[test]
    fn two_numbers_of_shards_show_no_law() {
        let two = [(1, 100.0), (2, 190.0), (2, 195.0)].map(|(shards, rate)| Point { shards, rate });
        assert_eq!(Law::fit(&two), None);
        assert_eq!(Law::fit(&[]), None);
    }

    #[test]
    fn shards_double_up_to_the_largest() {
        assert_eq!(doublings(1), [1]);
        assert_eq!(doublings(2), [1, 2]);
        assert_eq!(doublings(12), [1, 2, 4, 8, 12]);
        assert_eq!(doublings(16), [1, 2, 4, 8, 16]);
    }
}
