//! Several targets under several loads, several times, interleaved, so that what drifts on the host drifts for all.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    sample::ServerUse,
    trial::{Health, Measured, Trial},
};

/// Which target comes when: A B C, C B A, A B C, …
pub fn order(targets: usize, rounds: usize) -> Vec<Vec<usize>> {
    (0..rounds)
        .map(|round| if round % 2 == 0 { (0..targets).collect() } else { (0..targets).rev().collect() })
        .collect()
}

/// All trials of one target under one load.
#[derive(Debug)]
pub struct Cell {
    /// One for each round.
    pub trials: Vec<Trial>,
    /// All rounds' seconds, for the interval log.
    pub intervals: Vec<Histogram<u64>>,
}

/// Trials by load, then by target, in the order in which both were given.
#[derive(Debug)]
pub struct Campaign {
    cells: Vec<Vec<Cell>>,
}

impl Campaign {
    /// Runs `measure(target, load)` for each load, in each round for each target.
    pub fn run<E>(
        targets: usize,
        loads: usize,
        rounds: usize,
        mut measure: impl FnMut(usize, usize) -> Result<Measured, E>,
    ) -> Result<Campaign, E> {
        let cell = || Cell { trials: Vec::new(), intervals: Vec::new() };
        let mut cells: Vec<Vec<Cell>> = (0..loads).map(|_| (0..targets).map(|_| cell()).collect()).collect();
        for (load, row) in cells.iter_mut().enumerate() {
            for round in order(targets, rounds) {
                for target in round {
                    let measured = measure(target, load)?;
                    row[target].trials.push(measured.trial);
                    row[target].intervals.extend(measured.intervals);
                }
            }
        }
        Ok(Campaign { cells })
    }

    /// By load, then by target.
    pub fn cells(&self) -> &[Vec<Cell>] {
        &self.cells
    }

    /// CPU of the server for a question of `upper` over `lower`'s, under a load, round by round: median.
    pub fn cpu_ratio(&self, load: usize, upper: usize, lower: usize) -> Option<f64> {
        ratio(&self.cells[load][upper], &self.cells[load][lower], cpu)
    }

    /// The 99th percentile of `upper` over `lower`'s, likewise.
    pub fn p99_ratio(&self, load: usize, upper: usize, lower: usize) -> Option<f64> {
        ratio(&self.cells[load][upper], &self.cells[load][lower], |trial| Some(trial.latency.p99_ns as f64))
    }

    /// The medians, load by load; `limit` is the target that is this host's ceiling, where one was measured.
    pub fn summary(&self, limit: Option<usize>) -> Vec<Summary> {
        let mut summaries = Vec::new();
        for row in &self.cells {
            let ceiling = limit.map(|limit| &row[limit]);
            summaries.extend(row.iter().map(|cell| Summary::of(cell, &row[0], ceiling)));
        }
        summaries
    }
}

/// A target under a load, over several trials.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Medians {
    /// Requests a second, served.
    pub rate: f64,
    /// Percentiles of latency, ns.
    pub p50_ns: f64,
    /// See above.
    pub p90_ns: f64,
    /// See above.
    pub p99_ns: f64,
    /// See above.
    pub p999_ns: f64,
    /// CPUs of the server kept busy in user mode, where its process is known.
    pub cpu_user: Option<f64>,
    /// In the kernel.
    pub cpu_system: Option<f64>,
    /// The server's resident memory.
    pub rss_bytes: Option<f64>,
    /// Of that, in huge pages.
    pub huge_bytes: Option<f64>,
    /// The largest share of errors of any trial.
    pub error_share: f64,
    /// How busy the generator's busiest thread was.
    pub generator_share: f64,
    /// The generator's worst state in any trial.
    pub generator: Health,
}

impl Medians {
    /// CPUs of the server kept busy.
    pub fn cpu(&self) -> Option<f64> {
        Some(self.cpu_user? + self.cpu_system?)
    }

    /// Of one trial or more.
    pub fn of(trials: &[&Trial]) -> Medians {
        let each = |of: &dyn Fn(&Trial) -> f64| median(trials.iter().map(|trial| of(trial)).collect());
        let server = |of: &dyn Fn(&ServerUse) -> f64| server(trials, of);
        let worst = |health| trials.iter().any(|trial| trial.generator.verdict == health);
        Medians {
            rate: each(&|trial| trial.rate),
            p50_ns: each(&|trial| trial.latency.p50_ns as f64),
            p90_ns: each(&|trial| trial.latency.p90_ns as f64),
            p99_ns: each(&|trial| trial.latency.p99_ns as f64),
            p999_ns: each(&|trial| trial.latency.p999_ns as f64),
            cpu_user: server(&|server| server.cpu_share * server.user_share),
            cpu_system: server(&|server| server.cpu_share * (1.0 - server.user_share)),
            rss_bytes: server(&|server| server.rss_bytes as f64),
            huge_bytes: server(&|server| server.huge_bytes as f64),
            error_share: trials.iter().map(|trial| trial.error_share()).fold(0.0, f64::max),
            generator_share: each(&|trial| trial.generator.busy_share),
            generator: match () {
                () if worst(Health::Late) => Health::Late,
                () if worst(Health::Busy) => Health::Busy,
                () => Health::Fine,
            },
        }
    }
}

/// The median of what the server used, where its process is known in all trials.
fn server(trials: &[&Trial], of: &dyn Fn(&ServerUse) -> f64) -> Option<f64> {
    let values: Option<Vec<f64>> = trials.iter().map(|trial| trial.server.as_ref().map(of)).collect();
    values.map(median)
}

/// One line of a table: a target under a load.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// The target's label.
    pub target: String,
    /// The load, in words.
    pub load: String,
    /// How many trials.
    pub rounds: usize,
    /// Of all of them.
    #[serde(flatten)]
    pub medians: Medians,
    /// Questions served a second: lowest and highest.
    pub rate_range: (f64, f64),
    /// CPU of the server for a question: median.
    pub cpu_us_per_request: Option<f64>,
    /// CPUs that the server kept busy: median.
    pub server_share: Option<f64>,
    /// Rate over that of the first target, round by round: median.
    pub rate_ratio: Option<f64>,
    /// CPU for a question of the first target over this one's, round by round: median. Above 1: cheaper than the first.
    pub cpu_ratio: Option<f64>,
    /// CPU for a question of the limit over this one's; of rates, where the CPU is not known.
    pub limit_share: Option<f64>,
}

impl Summary {
    fn of(cell: &Cell, first: &Cell, limit: Option<&Cell>) -> Summary {
        let trials: Vec<&Trial> = cell.trials.iter().collect();
        let rates = trials.iter().map(|trial| trial.rate);
        Summary {
            target: trials[0].target.clone(),
            load: trials[0].load.clone(),
            rounds: trials.len(),
            medians: Medians::of(&trials),
            rate_range: (rates.clone().fold(f64::INFINITY, f64::min), rates.fold(0.0, f64::max)),
            cpu_us_per_request: server(&trials, &|server| server.cpu_us_per_request),
            server_share: server(&trials, &|server| server.cpu_share),
            rate_ratio: ratio(cell, first, |trial| Some(trial.rate)),
            cpu_ratio: ratio(first, cell, cpu),
            limit_share: limit.and_then(|limit| {
                ratio(limit, cell, cpu).or_else(|| ratio(cell, limit, |trial| Some(trial.rate)))
            }),
        }
    }
}

fn cpu(trial: &Trial) -> Option<f64> {
    trial.server.as_ref().map(|server| server.cpu_us_per_request)
}

/// The median of upper over lower, round by round: trials of one round were neighbours in time.
fn ratio(upper: &Cell, lower: &Cell, of: fn(&Trial) -> Option<f64>) -> Option<f64> {
    let pairs = upper.trials.iter().zip(&lower.trials);
    let ratio = |(upper, lower): (&Trial, &Trial)| Some(of(upper)? / of(lower).filter(|&lower| lower > 0.0)?);
    pairs.map(ratio).collect::<Option<Vec<f64>>>().map(median)
}

/// The middle one; the mean of the two in the middle where their number is even.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "nothing has no median");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trial::{GeneratorUse, Latency, Second};

    /// A trial with just these numbers.
    pub(crate) fn trial(target: &str, load: &str, rate: f64, cpu_us_per_request: f64) -> Trial {
        let latency = Latency {
            count: 1_000,
            mean_ns: 50_000.0,
            p50_ns: 40_000,
            p90_ns: 60_000,
            p99_ns: 90_000,
            p999_ns: 200_000,
            max_ns: 900_000,
            curve: vec![(0.5, 40_000), (0.99, 90_000), (0.999, 200_000)],
        };
        Trial {
            target: target.to_owned(),
            command: String::new(),
            load: load.to_owned(),
            connections: 64,
            depth: 1,
            offered_rate: None,
            mix: "balance".to_owned(),
            keys: "uniform".to_owned(),
            seed: 1,
            seconds: 5.0,
            served: (rate * 5.0) as u64,
            rate,
            latency,
            shed: Default::default(),
            unsent: 0,
            lost: 0,
            server: Some(ServerUse {
                cpu_share: 1.0,
                user_share: 0.3,
                cpu_us_per_request,
                rss_bytes: 1 << 28,
                huge_bytes: 1 << 27,
                voluntary_switches: 10,
                involuntary_switches: 1,
            }),
            generator: GeneratorUse {
                cpus: vec![1],
                busy_share: 0.8,
                lag_p99_ns: None,
                backlog_max: 0,
                verdict: Health::Fine,
            },
            foreign_cpu: Some(0.0),
            strangers: Vec::new(),
            series: vec![Second { served: 10, p50_ns: 1, p99_ns: 2 }],
            instructions: None,
            nodes: Vec::new(),
        }
    }

    #[test]
    fn rounds_go_forth_and_back() {
        assert_eq!(order(3, 3), [[0, 1, 2], [2, 1, 0], [0, 1, 2]]);
    }

    #[test]
    fn a_ratio_survives_a_host_that_drifts() {
        // The host slows down by half between rounds; the second target is always twice as fast as the first.
        let speed = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25];
        let mut turn = 0;
        let campaign = Campaign::run(2, 1, 3, |target, _| {
            let rate = 1_000.0 * speed[turn] * if target == 1 { 2.0 } else { 1.0 };
            turn += 1;
            let trial = trial(["a", "b"][target], "64 × 1", rate, 1e6 / rate);
            Ok::<_, ()>(Measured { trial, intervals: Vec::new() })
        })
        .unwrap();
        let [a, b] = &campaign.summary(Some(1))[..] else { panic!("two targets under one load") };
        assert_eq!((a.medians.rate, a.rate_ratio, a.cpu_ratio), (500.0, Some(1.0), Some(1.0)));
        assert_eq!((b.medians.rate, b.rate_ratio, b.cpu_ratio), (1_000.0, Some(2.0), Some(2.0)));
        assert_eq!((a.limit_share, b.limit_share), (Some(0.5), Some(1.0)));
        assert_eq!((a.rounds, a.rate_range), (3, (250.0, 1_000.0)));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn errors_are_a_share_of_all_that_was_due() {
        let mut trial = trial("a", "x", 1.0, 1.0);
        assert_eq!(trial.error_share(), 0.0);
        trial.latency.count = 990;
        trial.lost = 3;
        trial.unsent = 2;
        trial.shed.insert("OVERLOADED".to_owned(), 5);
        assert_eq!(trial.error_share(), 0.01);
    }
}
