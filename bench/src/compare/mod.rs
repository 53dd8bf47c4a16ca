//! Two servers or more under the same work: what replacing the first by another would bring.
//!
//! ```text
//!  for each endpoint        climbs, in turn A B B A: a low rate, then higher ones until the objective breaks, several
//!                           times over: each climb is one independent measurement of each server's knee
//!                           case: the load at which A is at 78 % CPU; all servers there, several times, in turn
//!  then                     callers: what a Go caller itself spends, with net/http and with florin's client
//!
//!  terms ──▶ schedule: what comes next, from what there is ──▶ run: measures it ──▶ journal: a line for each
//!                 ▲                                                                      │
//!                 └──────────────────────────────────────────────────────────────────────┤
//!                                                     findings: knees, ratios, case ◀────┘ ──▶ report
//! ```
//!
//! `statistics`, `case`, `schedule` and `findings` are pure, as the climbs are: given the same lines they say the same. So a comparison
//! that was interrupted is continued by reading its journal.

pub mod callers;
pub mod case;
pub mod findings;
pub mod journal;
pub mod run;
pub mod schedule;
pub mod statistics;

use serde::{Deserialize, Serialize};

use crate::limits::FULL_SHARE;
use crate::{
    climb::{Ladder, Verdict},
    ramp::Objective,
    trial::{Health, Trial},
};

/// Everything that two parts of one comparison must agree on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The servers, as given; the first is the one that might be replaced.
    pub targets: Vec<String>,
    /// What they are called.
    pub labels: Vec<String>,
    /// Size and hash of each program involved, so that no two builds are taken for one.
    pub programs: Vec<String>,
    /// The kinds of question, each a section of its own.
    pub endpoints: Vec<String>,
    /// What a server has to keep.
    pub objective: Objective,
    /// The rates.
    pub ladder: Ladder,
    /// Climbs of each server at each endpoint.
    pub climbs: u32,
    /// Measurements of each server under the case's load, and with each caller.
    pub rounds: u32,
    /// The share of a CPU at which the case finds the first server.
    pub case_cpu: f64,
    /// Connections of the generator.
    pub connections: usize,
    /// Questions in flight on each, at most.
    pub depth: usize,
    /// Loads of the Go caller; empty: there is none.
    pub callers: Vec<callers::CallerLoad>,
    /// Seconds before each measured window.
    pub warmup_seconds: f64,
    /// Seconds of each.
    pub seconds: f64,
    /// How unequal the users are.
    pub keys: String,
    /// Of keys and arrivals.
    pub seed: u64,
    /// How arrivals are spaced.
    pub arrivals: String,
    /// Users asked about.
    pub users: usize,
    /// The ledger, where servers are started with one.
    pub ledger: String,
    /// CPUs of the servers.
    pub server_cpus: Vec<usize>,
    /// CPUs of the generator and of callers.
    pub generator_cpus: Vec<usize>,
}

impl Terms {
    /// What a trial says about its server.
    pub fn verdict(&self, trial: &Trial) -> Verdict {
        match self.objective.judge(trial).verdict {
            // What the server took beyond all that the generator's lateness can explain, and with no CPU left, is its own.
            Verdict::Unclear if self.is_full(trial) && self.is_beyond_lateness(trial) => Verdict::Breaks,
            verdict => verdict,
        }
    }

    /// A late generator is late twice: when it asks, and when it reads the answer.
    fn is_beyond_lateness(&self, trial: &Trial) -> bool {
        let explained = self.objective.p99_max_ns.saturating_add(2 * trial.generator.lag_p99_ns.unwrap_or(0));
        trial.generator.verdict == Health::Busy || trial.latency.p99_ns > explained
    }

    fn is_full(&self, trial: &Trial) -> bool {
        let cpus = self.server_cpus.len().max(1) as f64;
        trial.server.as_ref().is_some_and(|server| server.cpu_share >= FULL_SHARE * cpus)
    }
}

/// One thing to measure.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Of the terms' endpoints.
    pub endpoint: usize,
    /// Of the terms' targets.
    pub target: usize,
    /// What for.
    pub purpose: Purpose,
}

/// What a measurement is for.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To find the knee.
    Climb {
        /// From 0.
        climb: u32,
        /// Of the ladder.
        rung: u32,
    },
    /// To find the case's load.
    Seek {
        /// Requests a second.
        rate: f64,
    },
    /// The case's table.
    Case {
        /// From 0.
        round: u32,
        /// Requests a second.
        rate: f64,
    },
    /// What the caller spends.
    Caller {
        /// From 0.
        round: u32,
        /// Of the terms' callers.
        load: usize,
        /// How it asks.
        client: callers::Client,
    },
}

/// A line of the journal: what was measured, and what came out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for.
    pub job: Job,
    /// What the server and the generator did.
    pub outcome: Outcome,
}

/// What came out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Of the generator's load.
    Trial(Box<Trial>),
    /// Of a Go caller's.
    Caller(callers::CallerTrial),
}

impl Record {
    /// The generator's trial, where it was one.
    pub fn trial(&self) -> Option<&Trial> {
        match &self.outcome {
            Outcome::Trial(trial) => Some(trial),
            Outcome::Caller(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::schedule::tests::terms;
    use crate::{campaign::tests::trial, climb::Verdict, trial::Health};

    #[test]
    fn a_generator_at_its_end_is_blamed_only_for_what_it_can_have_done() {
        let terms = terms();
        let verdict = |health, cpu, p99_ms: u64, lag_ms: u64| {
            let mut trial = trial("old", "x", 1e4, 1.0);
            trial.generator.verdict = health;
            trial.generator.lag_p99_ns = Some(lag_ms * 1_000_000);
            trial.server.as_mut().unwrap().cpu_share = cpu;
            trial.latency.p99_ns = p99_ms * 1_000_000;
            terms.verdict(&trial)
        };
        assert_eq!(verdict(Health::Late, 1.0, 4, 2), Verdict::Holds);
        assert_eq!(verdict(Health::Fine, 0.5, 6, 0), Verdict::Breaks);
        // Busy but on time: the server's fault where it was full.
        assert_eq!(verdict(Health::Busy, 0.95, 6, 0), Verdict::Breaks);
        assert_eq!(verdict(Health::Busy, 0.8, 6, 0), Verdict::Unclear);
        // Late: only where that does not explain it, and the server was full too.
        assert_eq!(verdict(Health::Late, 0.95, 9, 2), Verdict::Unclear);
        assert_eq!(verdict(Health::Late, 0.95, 10, 2), Verdict::Breaks);
        assert_eq!(verdict(Health::Late, 0.5, 50, 2), Verdict::Unclear);
    }
}
