//! The load of the case study's own table: the one at which the first server keeps its CPU busy to a given share. It is
//! found by interpolation between what has been measured, and by measuring there until it is met.

use crate::limits::{CASE_TOLERANCE, CASE_TRIES_MAX};

/// The sums below want this much of a difference between two loads.
const NEIGHBOURS: usize = 2;

/// A load and what it took.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// Requests a second.
    pub rate: f64,
    /// CPUs kept busy: 1 is one whole CPU.
    pub cpu: f64,
}

/// How the search goes on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Next {
    /// With a measurement of this rate.
    Measure(f64),
    /// This rate is it.
    Found(f64),
    /// Nothing is known that the share could be looked for between.
    Unknown,
}

/// How the search for the load that takes `share` of a CPU goes on, after the climbs' `points` and its own `tries`.
pub fn next(share: f64, points: &[Point], tries: &[Point]) -> Next {
    let distance = |point: &&Point| (point.cpu - share).abs();
    let best = tries.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    match best {
        Some(best) if distance(&best) <= CASE_TOLERANCE || tries.len() >= CASE_TRIES_MAX => {
            return Next::Found(best.rate);
        }
        _ => {}
    }
    // What the search itself has measured is newer and nearer; the climbs lend it the slope.
    let rate = match best {
        None => interpolate(share, points),
        Some(best) => step(share, *best, points),
    };
    match rate {
        Some(rate) if tries.iter().any(|tried| tried.rate == rate) => Next::Found(rate),
        Some(rate) => Next::Measure(rate),
        None => Next::Unknown,
    }
}

/// The rate at which a straight line between the nearest loads meets the share.
fn interpolate(share: f64, points: &[Point]) -> Option<f64> {
    let means = by_rate(points);
    // The last pair that the share lies between: at the top, CPU grows steadily.
    let pair = means.windows(NEIGHBOURS).rev().find(|pair| pair[0].cpu <= share && share <= pair[1].cpu);
    if let Some([below, above]) = pair {
        let part = (share - below.cpu) / (above.cpu - below.cpu).max(f64::EPSILON);
        return Some((below.rate + part * (above.rate - below.rate)).round());
    }
    // Everything lies to one side: go on in proportion from the nearest.
    let nearest = means.iter().min_by(|a, b| (a.cpu - share).abs().total_cmp(&(b.cpu - share).abs()))?;
    (nearest.cpu > 0.0).then(|| (nearest.rate * share / nearest.cpu).round())
}

/// From a try, along the slope between the loads that surround the share.
fn step(share: f64, from: Point, points: &[Point]) -> Option<f64> {
    let means = by_rate(points);
    let slopes = means.windows(NEIGHBOURS).filter(|pair| pair[1].rate > pair[0].rate);
    let near = slopes.min_by(|a, b| middle(a, share).total_cmp(&middle(b, share)));
    let slope = near.map(|pair| (pair[1].cpu - pair[0].cpu) / (pair[1].rate - pair[0].rate));
    // Noise may make a slope flat or turn it around; in proportion then.
    let slope = slope.filter(|slope| *slope > 0.3 * from.cpu / from.rate).unwrap_or(from.cpu / from.rate);
    // To less than half of what was tried no slope leads: then something else has kept the CPU busy for that while.
    (slope > 0.0).then(|| (from.rate + (share - from.cpu) / slope).max(from.rate / 2.0).max(1.0).round())
}

fn middle(pair: &[Point], share: f64) -> f64 {
    (f64::midpoint(pair[0].cpu, pair[1].cpu) - share).abs()
}

/// The mean CPU of each rate, in order of rates.
fn by_rate(points: &[Point]) -> Vec<Point> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let groups = sorted.chunk_by(|a, b| a.rate == b.rate);
    let mean = |group: &[Point]| group.iter().map(|point| point.cpu).sum::<f64>() / group.len() as f64;
    groups.map(|group| Point { rate: group[0].rate, cpu: mean(group) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose cost per request falls as it gets busier.
    fn cpu(rate: f64) -> f64 {
        (rate * 15e-6 - rate * rate * 3e-11).min(1.0)
    }

    fn climb(rates: &[f64]) -> Vec<Point> {
        rates.iter().map(|&rate| Point { rate, cpu: cpu(rate) }).collect()
    }

    fn search(points: &[Point], cpu: impl Fn(f64) -> f64) -> (Option<f64>, usize) {
        let mut tries = Vec::new();
        loop {
            match next(0.78, points, &tries) {
                Next::Measure(rate) => tries.push(Point { rate, cpu: cpu(rate) }),
                Next::Found(rate) => return (Some(rate), tries.len()),
                Next::Unknown => return (None, tries.len()),
            }
            assert!(tries.len() <= CASE_TRIES_MAX);
        }
    }

    #[test]
    fn the_load_is_met() {
        let points = climb(&[10e3, 13e3, 18e3, 24e3, 33e3, 44e3, 60e3, 80e3]);
        let (rate, tries) = search(&points, cpu);
        assert!((cpu(rate.unwrap()) - 0.78).abs() <= CASE_TOLERANCE, "{rate:?}");
        assert!(tries <= 3, "{tries}");
    }

    #[test]
    fn a_host_that_has_slowed_down_since_is_followed() {
        let points = climb(&[10e3, 20e3, 40e3, 60e3, 80e3]);
        let slower = |rate: f64| (cpu(rate) * 1.2).min(1.0);
        let rate = search(&points, slower).0.unwrap();
        assert!((slower(rate) - 0.78).abs() <= CASE_TOLERANCE, "{rate}");
    }

    #[test]
    fn a_cpu_that_others_keep_busy_does_not_lead_to_nothing() {
        let points = climb(&[1e3, 2e3, 3.5e3]);
        let tried = [Point { rate: 2e3, cpu: 1.9 }];
        assert_eq!(next(0.78, &points, &tried), Next::Measure(1e3));
    }

    #[test]
    fn beyond_what_was_measured_it_goes_on_in_proportion() {
        let rate = search(&climb(&[5e3, 10e3]), |rate| rate * 14e-6).0.unwrap();
        assert!((rate * 14e-6 - 0.78).abs() <= CASE_TOLERANCE, "{rate}");
    }

    #[test]
    fn without_points_there_is_nothing_to_look_for() {
        assert_eq!(search(&[], cpu), (None, 0));
        assert_eq!(search(&[Point { rate: 5.0, cpu: 0.0 }], cpu), (None, 0));
    }
}
