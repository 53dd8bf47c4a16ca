//! The knee of one target: a [`climb`] with the reasons. It is a knee only if it has held twice and a higher rate has
//! broken the objective while the generator kept up. Everything else is a lower bound, and says why.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    climb::{self, End, Ladder, Next, Probe, Verdict},
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
        let verdict = match (&broken, trial.generator.verdict) {
            (None, _) => Verdict::Holds,
            (Some(_), Health::Fine) => Verdict::Breaks,
            // The generator was at its end too: nobody can say whose fault it was.
            (Some(_), Health::Busy | Health::Late) => Verdict::Unclear,
        };
        Judgement { verdict, why: broken.unwrap_or_default() }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p99 ≤ {} ms, errors ≤ {} %", self.p99_max_ns as f64 / 1e6, self.error_share_max * 100.0)
    }
}

/// What one rate has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Whether the objective holds.
    pub verdict: Verdict,
    /// Why not; empty where it does.
    pub why: String,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Holds => write!(f, "holds"),
            Verdict::Breaks => write!(f, "breaks: {}", self.why),
            Verdict::Unclear => write!(f, "breaks, but the generator was at its own end: {}", self.why),
        }
    }
}

/// What the search has found.
#[derive(Clone, PartialEq, Debug, Serialize)]
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

/// Climbs `ladder` with `probe`, which measures one rate.
pub fn find<E>(ladder: &Ladder, mut probe: impl FnMut(f64) -> Result<Judgement, E>) -> Result<Knee, E> {
    let (mut probes, mut reasons) = (Vec::new(), BTreeMap::new());
    loop {
        match climb::next(ladder, 0, &probes) {
            Next::Ended(end) => return Ok(knee(ladder, end, &mut reasons)),
            Next::Measure(rung) => {
                let Judgement { verdict, why } = probe(ladder.rate(rung))?;
                probes.push(Probe { rung, verdict });
                if verdict != Verdict::Holds {
                    reasons.insert(rung, why);
                }
            }
        }
    }
}

fn knee(ladder: &Ladder, end: End, reasons: &mut BTreeMap<u32, String>) -> Knee {
    let mut why = |rung| reasons.remove(&rung).unwrap_or_default();
    match end {
        End::Knee(rung) => {
            Knee::Knee { rate: ladder.rate(rung), broken_at: ladder.rate(rung + 1), why: why(rung + 1) }
        }
        End::AtLeast(rung) if rung == ladder.top() => {
            let rate = ladder.rate(rung);
            Knee::LowerBound { rate, why: format!("the search ends at {rate:.0}/s") }
        }
        End::AtLeast(rung) => {
            let (rate, beyond) = (ladder.rate(rung), ladder.rate(rung + 1));
            let why = format!("the generator was at its own end at {beyond:.0}/s: {}", why(rung + 1));
            Knee::LowerBound { rate, why }
        }
        End::Nothing => Knee::Nothing { broken_at: ladder.rate(0), why: why(0) },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const LADDER: Ladder = Ladder { from: 1_000.0, rung_percent: 2.0, to: 1e9 };

    /// A server that breaks at `knee`, under a generator that gives out at `generator`.
    fn search(ladder: Ladder, knee: f64, generator: f64) -> Knee {
        let judge = |verdict, why: &str| Judgement { verdict, why: why.to_owned() };
        let found = find(&ladder, |rate| {
            Ok::<_, Infallible>(match rate {
                _ if rate > generator => judge(Verdict::Unclear, "late"),
                _ if rate > knee => judge(Verdict::Breaks, "slow"),
                _ => judge(Verdict::Holds, ""),
            })
        });
        found.unwrap()
    }

    #[test]
    fn the_knee_lies_between_what_held_and_what_broke() {
        for knee in [1_000.0, 1_001.0, 3_333.0, 123_456.0, 7_654_321.0] {
            let found = search(LADDER, knee, f64::INFINITY);
            let Knee::Knee { rate, broken_at, why } = found else { panic!("{knee}: {found}") };
            assert!(rate <= knee && broken_at > knee && why == "slow", "{knee}: {rate} to {broken_at}");
            assert!(broken_at - rate <= rate * 0.021, "{knee}: {rate} to {broken_at}");
        }
    }

    #[test]
    fn without_a_clear_break_there_is_only_a_lower_bound() {
        let found = search(LADDER, 1e7, 50_000.0);
        assert!(
            matches!(&found, Knee::LowerBound { rate, why } if *rate <= 50_000.0 && *rate > 48_000.0 && why.ends_with("late")),
            "{found}"
        );
        let found = search(Ladder { to: 5_000.0, ..LADDER }, 1e7, f64::INFINITY);
        assert_eq!(found, Knee::LowerBound { rate: 5_000.0, why: "the search ends at 5000/s".to_owned() });
        let found = search(LADDER, 10.0, f64::INFINITY);
        assert!(matches!(&found, Knee::Nothing { broken_at: 1_000.0, why } if why == "slow"), "{found}");
    }

    #[test]
    fn an_objective_breaks_by_latency_or_by_errors() {
        let objective = Objective { p99_max_ns: 90_000, error_share_max: 0.0001 };
        let mut trial = crate::campaign::tests::trial("a", "x", 1.0, 1.0);
        let judge = |trial: &Trial| objective.judge(trial);
        assert_eq!(judge(&trial).verdict, Verdict::Holds);
        trial.latency.p99_ns += 1;
        assert!(judge(&trial).verdict == Verdict::Breaks && judge(&trial).why.contains("p99"));
        trial.generator.verdict = Health::Late;
        assert_eq!(judge(&trial).verdict, Verdict::Unclear);
        trial.generator.verdict = Health::Fine;
        trial.latency.p99_ns = 1;
        trial.lost = 1;
        assert!(judge(&trial).verdict == Verdict::Breaks && judge(&trial).why.contains("errors"));
        trial.latency.count = 0;
        assert!(
            judge(&trial).verdict == Verdict::Breaks && judge(&trial).why.contains("nothing was answered")
        );
    }
}
