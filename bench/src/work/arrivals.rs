//! When is asked, where the rate is fixed: arrivals that do not wait for answers.

use std::{fmt, str::FromStr};

use rand::{Rng, rngs::SmallRng};

/// How arrivals are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrivals {
    /// As independent callers do it: gaps are exponential.
    Poisson,
    /// Evenly.
    Uniform,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrivals::Poisson => "poisson",
            Arrivals::Uniform => "uniform",
        })
    }
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Arrivals, String> {
        match text {
            "poisson" => Ok(Arrivals::Poisson),
            "uniform" => Ok(Arrivals::Uniform),
            other => Err(format!("{other:?} is no kind of arrivals: say poisson or uniform")),
        }
    }
}

/// The intended times of one thread's requests, ns since the run's start.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    gap_ns: f64,
    next_ns: f64,
    random: SmallRng,
}

impl Schedule {
    /// Begins at `from_ns`, at `rate` a second.
    pub fn new(arrivals: Arrivals, rate: f64, from_ns: u64, random: SmallRng) -> Schedule {
        assert!(rate > 0.0 && rate.is_finite(), "a rate is positive, not {rate}");
        let mut schedule = Schedule { arrivals, gap_ns: 1e9 / rate, next_ns: from_ns as f64, random };
        schedule.advance();
        schedule
    }

    /// When the next arrival is due.
    #[inline]
    pub fn peek(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one after it.
    #[inline]
    pub fn advance(&mut self) {
        self.next_ns += match self.arrivals {
            Arrivals::Uniform => self.gap_ns,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.random.random::<f64>()).ln() * self.gap_ns,
        };
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn gaps(arrivals: Arrivals) -> Vec<f64> {
        let mut schedule = Schedule::new(arrivals, 10_000.0, 0, SmallRng::seed_from_u64(5));
        let mut previous = 0;
        let mut next = || {
            let gap = schedule.peek() - previous;
            previous = schedule.peek();
            schedule.advance();
            gap as f64
        };
        (0..100_000).map(|_| next()).collect()
    }

    #[test]
    fn both_keep_the_rate_and_only_one_the_distance() {
        for (arrivals, deviation) in [(Arrivals::Uniform, 0.0), (Arrivals::Poisson, 1.0)] {
            let gaps = gaps(arrivals);
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((mean - 100_000.0).abs() < 1_500.0, "{arrivals}: {mean}");
            assert!(
                (variance.sqrt() / mean - deviation).abs() < 0.02,
                "{arrivals}: {}",
                variance.sqrt() / mean
            );
        }
    }
}
