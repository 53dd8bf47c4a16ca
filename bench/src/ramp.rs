//! The knee: the highest rate at which a server still keeps an objective.
//!
//! The rate doubles until the objective breaks, then the gap is halved until it is narrow. The rate that is left is
//! measured again; it is a knee only if it holds then too, and if a higher rate has broken the objective while the
//! generator kept up. Everything else is a lower bound, and says why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    limits,
    trial::{Health, Trial},
};

/// What a server promises.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Objective {
    /// The 99th percentile stays at or below this.
    pub p99_max_ns: u64,
    /// The share of errors stays at or below this.
    pub error_share_max: f64,
}

impl Objective {
    /// Whether a trial has kept it.
    pub fn judge(&self, trial: &Trial) -> Judgement {
        let offered = trial.offered_rate.unwrap_or(trial.rate);
        let broken = if trial.latency.count == 0 {
            Some(format!("nothing was answered at {offered:.0}/s"))
        } else if trial.error_share() > self.error_share_max {
            Some(format!("{:.3} % errors at {offered:.0}/s", trial.error_share() * 100.0))
        } else if trial.latency.p99_ns > self.p99_max_ns {
            Some(format!("p99 of {:.2} ms at {offered:.0}/s", trial.latency.p99_ns as f64 / 1e6))
        } else {
            None
        };
        match (broken, trial.generator.verdict) {
            (None, _) => Judgement::Holds,
            (Some(why), Health::Fine) => Judgement::Breaks(why),
            // The generator was at its end too: nobody can say whose fault it was.
            (Some(why), Health::Busy | Health::Late) => Judgement::Unclear(why),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p99 ≤ {} ms, errors ≤ {} %", self.p99_max_ns as f64 / 1e6, self.error_share_max * 100.0)
    }
}

/// What one rate has shown.
#[derive(Clone, PartialEq, Debug)]
pub enum Judgement {
    /// The objective holds.
    Holds,
    /// It does not, for this reason.
    Breaks(String),
    /// It does not, but the generator may be the reason.
    Unclear(String),
}

/// How the search goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Search {
    /// The first rate.
    pub from: f64,
    /// No rate above this.
    pub to: f64,
    /// The gap between the rate that holds and the one that breaks, as a share of the former, at which to stop.
    pub precision: f64,
}

/// What the search has found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Knee {
    /// A rate that held twice, and a higher one that broke.
    Knee {
        /// The former.
        rate: f64,
        /// The latter.
        broken_at: f64,
        /// How it broke.
        why: String,
    },
    /// A rate that held; the server may well do more.
    LowerBound {
        /// It.
        rate: f64,
        /// Why no more is known.
        why: String,
    },
    /// Not even the first rate held.
    Nothing {
        /// It.
        broken_at: f64,
        /// How.
        why: String,
    },
}

impl fmt::Display for Knee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Knee::Knee { rate, broken_at, why } => {
                write!(f, "knee at {rate:.0}/s (held twice; {broken_at:.0}/s broke it: {why})")
            }
            Knee::LowerBound { rate, why } => write!(f, "lower bound {rate:.0}/s ({why})"),
            Knee::Nothing { broken_at, why } => write!(f, "not even {broken_at:.0}/s: {why}"),
        }
    }
}

impl Search {
    /// Searches with `probe`, which measures one rate.
    pub fn run<E>(&self, mut probe: impl FnMut(f64) -> Result<Judgement, E>) -> Result<Knee, E> {
        let (mut holds, mut broken) = match self.double(&mut probe)? {
            Doubled::Found { holds, broken } => (holds, broken),
            Doubled::Ended(knee) => return Ok(knee),
        };
        for _ in 0..limits::CONFIRMATIONS_MAX {
            while broken.rate - holds > holds * self.precision {
                let rate = f64::midpoint(holds, broken.rate);
                match probe(rate)? {
                    Judgement::Holds => holds = rate,
                    Judgement::Breaks(why) => broken = Broken { rate, why, clear: true },
                    Judgement::Unclear(why) => broken = Broken { rate, why, clear: false },
                }
            }
            match probe(holds)? {
                Judgement::Holds => return Ok(broken.confirmed(holds)),
                Judgement::Breaks(why) => broken = Broken { rate: holds, why, clear: true },
                Judgement::Unclear(why) => broken = Broken { rate: holds, why, clear: false },
            }
            // What held once did not hold twice: look below it.
            holds = (holds * (1.0 - 2.0 * self.precision)).max(self.from.min(holds / 2.0));
        }
        let why = "no rate held twice: the host is too noisy for this precision".to_owned();
        Ok(Knee::Nothing { broken_at: broken.rate, why: format!("{why} ({})", broken.why) })
    }

    fn double<E>(&self, probe: &mut impl FnMut(f64) -> Result<Judgement, E>) -> Result<Doubled, E> {
        let (mut holds, mut rate) = (None, self.from);
        loop {
            let (why, clear) = match probe(rate)? {
                Judgement::Holds if rate >= self.to => {
                    let why = format!("the search ends at {:.0}/s", self.to);
                    return Ok(Doubled::Ended(Knee::LowerBound { rate, why }));
                }
                Judgement::Holds => {
                    holds = Some(rate);
                    rate = (rate * 2.0).min(self.to);
                    continue;
                }
                Judgement::Breaks(why) => (why, true),
                Judgement::Unclear(why) => (why, false),
            };
            return Ok(match holds {
                Some(holds) => Doubled::Found { holds, broken: Broken { rate, why, clear } },
                None => Doubled::Ended(Knee::Nothing { broken_at: rate, why }),
            });
        }
    }
}

enum Doubled {
    Found { holds: f64, broken: Broken },
    Ended(Knee),
}

/// The lowest rate that has broken the objective.
struct Broken {
    rate: f64,
    why: String,
    clear: bool,
}

impl Broken {
    fn confirmed(self, rate: f64) -> Knee {
        if self.clear {
            return Knee::Knee { rate, broken_at: self.rate, why: self.why };
        }
        let why = format!("the generator was at its own end at {:.0}/s: {}", self.rate, self.why);
        Knee::LowerBound { rate, why }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const SEARCH: Search = Search { from: 1_000.0, to: 1e9, precision: 0.02 };

    /// A server that breaks at `knee`, under a generator that gives out at `generator`.
    fn search(search: Search, knee: f64, generator: f64) -> (Knee, usize) {
        let mut probes = 0;
        let found = search.run(|rate| {
            probes += 1;
            Ok::<_, Infallible>(match rate {
                _ if rate > generator => Judgement::Unclear("late".to_owned()),
                _ if rate > knee => Judgement::Breaks("slow".to_owned()),
                _ => Judgement::Holds,
            })
        });
        (found.unwrap(), probes)
    }

    #[test]
    fn the_knee_lies_between_what_held_and_what_broke() {
        for knee in [1_000.0, 1_001.0, 3_333.0, 123_456.0, 7_654_321.0] {
            let (found, probes) = search(SEARCH, knee, f64::INFINITY);
            let Knee::Knee { rate, broken_at, .. } = found else { panic!("{knee}: {found}") };
            assert!(rate <= knee && broken_at > knee, "{knee}: {rate} to {broken_at}");
            assert!(broken_at - rate <= rate * 0.02, "{knee}: {rate} to {broken_at}");
            assert!(probes < 30, "{knee}: {probes} probes");
        }
    }

    #[test]
    fn without_a_clear_break_there_is_only_a_lower_bound() {
        let (found, _) = search(SEARCH, 1e7, 50_000.0);
        assert!(
            matches!(found, Knee::LowerBound { rate, .. } if rate <= 50_000.0 && rate > 48_000.0),
            "{found}"
        );
        let (found, _) = search(Search { to: 5_000.0, ..SEARCH }, 1e7, f64::INFINITY);
        assert_eq!(found, Knee::LowerBound { rate: 5_000.0, why: "the search ends at 5000/s".to_owned() });
        let (found, _) = search(SEARCH, 10.0, f64::INFINITY);
        assert!(matches!(found, Knee::Nothing { broken_at: 1_000.0, .. }), "{found}");
    }

    #[test]
    fn a_rate_that_held_by_luck_is_not_the_knee() {
        // Between 40,000 and 60,000 it holds on the first attempt at a rate and breaks on every later one.
        let mut seen = Vec::new();
        let found = SEARCH.run(|rate: f64| {
            let again = seen.contains(&rate.to_bits());
            seen.push(rate.to_bits());
            Ok::<_, Infallible>(match rate {
                _ if rate > 60_000.0 || (rate > 40_000.0 && again) => Judgement::Breaks("slow".to_owned()),
                _ => Judgement::Holds,
            })
        });
        match found.unwrap() {
            Knee::Knee { rate, .. } => assert!(rate <= 40_000.0, "{rate} held by luck alone"),
            Knee::Nothing { why, .. } => assert!(why.contains("no rate held twice"), "{why}"),
            other @ Knee::LowerBound { .. } => panic!("{other}"),
        }
    }

    #[test]
    fn an_objective_breaks_by_latency_or_by_errors() {
        let objective = Objective { p99_max_ns: 90_000, error_share_max: 0.0001 };
        let mut trial = crate::campaign::tests::trial("a", "x", 1.0, 1.0);
        assert_eq!(objective.judge(&trial), Judgement::Holds);
        trial.latency.p99_ns += 1;
        assert!(matches!(objective.judge(&trial), Judgement::Breaks(why) if why.contains("p99")));
        trial.generator.verdict = Health::Late;
        assert!(matches!(objective.judge(&trial), Judgement::Unclear(_)));
        trial.generator.verdict = Health::Fine;
        trial.latency.p99_ns = 1;
        trial.lost = 1;
        assert!(matches!(objective.judge(&trial), Judgement::Breaks(why) if why.contains("errors")));
        trial.latency.count = 0;
        assert!(
            matches!(objective.judge(&trial), Judgement::Breaks(why) if why.contains("nothing was answered"))
        );
    }
}
