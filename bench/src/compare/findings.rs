//! What the measurements of a comparison come to.

use serde::{Deserialize, Serialize};

use super::{
    Job, Purpose, Record, Terms,
    callers::{CallerLoad, CallerTrial, Client},
    case, schedule,
    statistics::Ratio,
};
use crate::{
    campaign::{Medians, median},
    climb::End,
    environment::Environment,
    trial::Trial,
};

/// Everything that a comparison says; the content of `compare.json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// What it takes to do it again.
    pub environment: Environment,
    /// What was compared.
    pub terms: Terms,
    /// Whether everything was measured.
    pub is_complete: bool,
    /// One for each endpoint.
    pub sections: Vec<Section>,
}

/// What was found at one endpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Section {
    /// The kind of question.
    pub endpoint: String,
    /// Each rate that a server was under while climbing; by server, then by rate.
    pub steps: Vec<Step>,
    /// Each server's, as far as its climbs have ended.
    pub knees: Vec<Knee>,
    /// Each server's knee over that of each before it.
    pub ratios: Vec<Versus>,
    /// The load at which the first server is at the given CPU.
    pub case: Option<Case>,
    /// What Go callers spend.
    pub callers: Vec<CallerTable>,
    /// Measurements of the generator's, and how many of them somebody else on the same CPUs has disturbed each time.
    pub measurements: usize,
    /// See above.
    pub disturbed: usize,
}

/// A server under one rate: medians over all climbs that came by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Of the terms' targets.
    pub target: usize,
    /// Requests a second, offered.
    pub offered: f64,
    /// How often it was measured.
    pub times: usize,
    /// What the server did.
    pub load: Medians,
}

/// A server's knee, as often as it was climbed to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Knee {
    /// Of the terms' targets.
    pub target: usize,
    /// The highest rate that held, of each climb.
    pub rates: Vec<f64>,
    /// Climbs that the generator, or the ladder, has ended: there the server might do more.
    pub at_least: usize,
    /// Climbs in which not even the lowest rate held.
    pub nothing: usize,
}

impl Knee {
    /// The median.
    pub fn rate(&self) -> Option<f64> {
        (!self.rates.is_empty()).then(|| median(self.rates.clone()))
    }
}

/// One server against an earlier one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Versus {
    /// Whose number is above the line.
    pub upper: usize,
    /// Whose is below.
    pub lower: usize,
    /// By how much they differ.
    pub ratio: Ratio,
    /// What the ratio says of the true one.
    pub bound: Bound,
}

/// What a ratio of two numbers, of which some are lower bounds, is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// What it says.
    Exact,
    /// The true one may be larger.
    AtLeast,
    /// The true one may be smaller.
    AtMost,
    /// Nothing is known: both are bounds.
    Unknown,
}

/// All servers at the load at which the first is at the given CPU.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Requests a second.
    pub rate: f64,
    /// By server.
    pub rows: Vec<Medians>,
    /// Each server against each before it.
    pub ratios: Vec<CaseVersus>,
}

/// One server against an earlier one, at the case's load.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct CaseVersus {
    /// Whose numbers are above the line.
    pub upper: usize,
    /// Whose are below.
    pub lower: usize,
    /// Of CPU.
    pub cpu: Ratio,
    /// Of resident memory.
    pub memory: Ratio,
    /// Of the 99th percentile.
    pub p99: Ratio,
}

/// Go callers under one load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallerTable {
    /// How much they ask.
    pub load: CallerLoad,
    /// The first is what the others are compared with.
    pub rows: Vec<CallerRow>,
}

/// One kind of caller and its server: medians.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallerRow {
    /// Of the terms' targets.
    pub target: usize,
    /// How it is asked.
    pub client: Client,
    /// Answers a second.
    pub rate: f64,
    /// CPU of the server for each answer.
    pub server_us: f64,
    /// CPU of the caller for each answer.
    pub caller_us: f64,
    /// Latency as the caller sees it, ns.
    pub p50_ns: f64,
    /// See above.
    pub p99_ns: f64,
    /// The largest share of errors.
    pub error_share: f64,
    /// The server's CPU against the first row's.
    pub server: Option<Ratio>,
    /// The caller's CPU against the first row's.
    pub caller: Option<Ratio>,
}

impl Findings {
    /// What `records` come to.
    pub fn of(terms: &Terms, records: &[Record], environment: Environment, is_complete: bool) -> Findings {
        let sections = (0..terms.endpoints.len()).map(|endpoint| section(terms, records, endpoint)).collect();
        Findings { environment, terms: terms.clone(), is_complete, sections }
    }
}

fn section(terms: &Terms, records: &[Record], endpoint: usize) -> Section {
    let knees: Vec<Knee> =
        (0..terms.labels.len()).map(|target| knee(terms, records, endpoint, target)).collect();
    let ratios = pairs(knees.len()).filter_map(|(upper, lower)| {
        Some(Versus {
            upper,
            lower,
            ratio: Ratio::of(&knees[upper].rates, &knees[lower].rates)?,
            bound: match (knees[upper].at_least > 0, knees[lower].at_least > 0) {
                (false, false) => Bound::Exact,
                (true, false) => Bound::AtLeast,
                (false, true) => Bound::AtMost,
                (true, true) => Bound::Unknown,
            },
        })
    });
    let trials = || records.iter().filter(|r| r.job.endpoint == endpoint).filter_map(Record::trial);
    Section {
        endpoint: terms.endpoints[endpoint].clone(),
        steps: steps(terms, records, endpoint),
        ratios: ratios.collect(),
        knees,
        measurements: trials().count(),
        disturbed: trials().filter(|trial| trial.is_disturbed()).count(),
        case: case(terms, records, endpoint),
        callers: (0..terms.callers.len())
            .filter_map(|load| caller_table(terms, records, endpoint, load))
            .collect(),
    }
}

/// Each server with each before it.
fn pairs(targets: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..targets).flat_map(|upper| (0..upper).map(move |lower| (upper, lower)))
}

fn knee(terms: &Terms, records: &[Record], endpoint: usize, target: usize) -> Knee {
    let mut knee = Knee { target, rates: Vec::new(), at_least: 0, nothing: 0 };
    for end in schedule::ends(terms, records, endpoint, target) {
        match end {
            End::Knee(rung) => knee.rates.push(terms.ladder.rate(rung)),
            End::AtLeast(rung) => {
                knee.rates.push(terms.ladder.rate(rung));
                knee.at_least += 1;
            }
            End::Nothing => knee.nothing += 1,
        }
    }
    knee
}

fn steps(terms: &Terms, records: &[Record], endpoint: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for target in 0..terms.labels.len() {
        let is_climb = |job: &Job| {
            (job.endpoint, job.target) == (endpoint, target) && matches!(job.purpose, Purpose::Climb { .. })
        };
        let mut trials: Vec<&Trial> =
            records.iter().filter(|record| is_climb(&record.job)).filter_map(Record::trial).collect();
        let offered = |trial: &Trial| trial.offered_rate.unwrap_or(trial.rate);
        trials.sort_by(|a, b| offered(a).total_cmp(&offered(b)));
        for group in trials.chunk_by(|a, b| offered(a) == offered(b)) {
            let step =
                Step { target, offered: offered(group[0]), times: group.len(), load: Medians::of(group) };
            steps.push(step);
        }
    }
    steps
}

fn case(terms: &Terms, records: &[Record], endpoint: usize) -> Option<Case> {
    let case::Next::Found(rate) = schedule::case_rate(terms, records, endpoint) else { return None };
    let of = |target: usize| -> Vec<&Trial> {
        let wanted = |job: &Job| {
            (job.endpoint, job.target) == (endpoint, target) && matches!(job.purpose, Purpose::Case { .. })
        };
        records.iter().filter(|record| wanted(&record.job)).filter_map(Record::trial).collect()
    };
    let trials: Vec<Vec<&Trial>> = (0..terms.labels.len()).map(of).collect();
    if trials.iter().any(Vec::is_empty) {
        return None;
    }
    let ratios = pairs(trials.len()).filter_map(|(upper, lower)| {
        let ratio = |of: &dyn Fn(&Trial) -> Option<f64>| {
            let values =
                |trials: &[&Trial]| trials.iter().map(|trial| of(trial)).collect::<Option<Vec<f64>>>();
            Ratio::of(&values(&trials[upper])?, &values(&trials[lower])?)
        };
        Some(CaseVersus {
            upper,
            lower,
            cpu: ratio(&|trial| Some(trial.server.as_ref()?.cpu_share))?,
            memory: ratio(&|trial| Some(trial.server.as_ref()?.rss_bytes as f64))?,
            p99: ratio(&|trial| Some(trial.latency.p99_ns as f64))?,
        })
    });
    Some(Case {
        rate,
        rows: trials.iter().map(|trials| Medians::of(trials)).collect(),
        ratios: ratios.collect(),
    })
}

fn caller_table(terms: &Terms, records: &[Record], endpoint: usize, load: usize) -> Option<CallerTable> {
    let mut kinds: Vec<(usize, Client)> = Vec::new();
    for record in records.iter().filter(|record| record.job.endpoint == endpoint) {
        match record.job.purpose {
            Purpose::Caller { load: l, client, .. } if l == load => kinds.push((record.job.target, client)),
            _ => {}
        }
    }
    kinds.sort_by_key(|&(target, client)| (target, client == Client::Florin));
    kinds.dedup();
    let of = |(target, client)| -> Vec<&CallerTrial> {
        schedule::caller_trials(records, endpoint, load, target, client).collect()
    };
    let first = of(*kinds.first()?);
    let rows = kinds.iter().map(|&kind| caller_row(kind, &of(kind), &first)).collect();
    Some(CallerTable { load: terms.callers[load], rows })
}

fn caller_row(
    (target, client): (usize, Client),
    trials: &[&CallerTrial],
    first: &[&CallerTrial],
) -> CallerRow {
    let all = |trials: &[&CallerTrial], of: &dyn Fn(&CallerTrial) -> f64| -> Vec<f64> {
        trials.iter().map(|trial| of(trial)).collect()
    };
    let each = |of: &dyn Fn(&CallerTrial) -> f64| median(all(trials, of));
    let ratio = |of: &dyn Fn(&CallerTrial) -> f64| Ratio::of(&all(trials, of), &all(first, of));
    let server_us = |trial: &CallerTrial| trial.server.cpu_us_per_request;
    let caller_us = |trial: &CallerTrial| trial.caller.cpu_us_per_request();
    let errors = |trial: &&CallerTrial| {
        let (served, errors) = (trial.caller.served, trial.caller.errors);
        errors as f64 / (served + errors).max(1) as f64
    };
    CallerRow {
        target,
        client,
        rate: each(&|trial| trial.caller.served as f64 / trial.caller.seconds),
        server_us: each(&server_us),
        caller_us: each(&caller_us),
        p50_ns: each(&|trial| trial.caller.p50_ns as f64),
        p99_ns: each(&|trial| trial.caller.p99_ns as f64),
        error_share: trials.iter().map(errors).fold(0.0, f64::max),
        server: ratio(&server_us),
        caller: ratio(&caller_us),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        compare::schedule::tests::{complete, measure, terms},
        trial::Health,
    };

    pub(crate) fn findings() -> Findings {
        let terms = terms();
        Findings::of(&terms, &complete(&terms), Environment::look(), true)
    }

    #[test]
    fn a_server_twice_as_good_is_found_to_be() {
        let findings = findings();
        assert_eq!(findings.sections.len(), 2);
        for section in &findings.sections {
            let [versus] = section.ratios[..] else { panic!("one pair") };
            assert_eq!((versus.upper, versus.lower, versus.bound), (1, 0, Bound::Exact));
            assert!((versus.ratio.estimate - 2.0).abs() < 0.06, "{versus:?}");
            assert!(versus.ratio.is_significant());
            assert_eq!(section.knees[0].rates.len(), 4);
            let case = section.case.as_ref().unwrap();
            let [versus] = case.ratios[..] else { panic!("one pair") };
            assert!((versus.cpu.estimate - 0.5).abs() < 1e-9 && (versus.memory.estimate - 0.25).abs() < 1e-9);
            assert!((versus.p99.estimate - 1.0).abs() < 1e-9 && !versus.p99.is_significant());
            assert!((case.rows[0].cpu().unwrap() - 0.78).abs() < 0.02);
            let table = &section.callers[0];
            let kinds: Vec<(usize, Client)> = table.rows.iter().map(|row| (row.target, row.client)).collect();
            assert_eq!(kinds, [(0, Client::Http), (1, Client::Http), (1, Client::Florin)]);
            assert!((table.rows[2].server.unwrap().estimate - 0.04).abs() < 1e-9);
            assert!((table.rows[2].caller.unwrap().estimate - 0.04).abs() < 1e-9);
        }
    }

    #[test]
    fn every_rate_that_was_measured_is_a_step() {
        let (terms, findings) = (terms(), findings());
        let records = complete(&terms);
        let climbs = records.iter().filter(|r| matches!(r.job.purpose, Purpose::Climb { .. })).count();
        let times: usize = findings.sections.iter().flat_map(|s| &s.steps).map(|step| step.times).sum();
        assert_eq!(times, climbs);
        let rates: Vec<f64> =
            findings.sections[0].steps.iter().filter(|s| s.target == 0).map(|s| s.offered).collect();
        assert!(rates.is_sorted() && rates[0] == 1_000.0, "{rates:?}");
    }

    #[test]
    fn a_generator_at_its_end_makes_a_ratio_a_bound() {
        let terms = Terms { callers: Vec::new(), ..terms() };
        let mut records = Vec::new();
        while let Some(job) = schedule::next(&terms, &[], &records) {
            let mut record = measure(&terms, job);
            if let (1, crate::compare::Outcome::Trial(trial)) = (job.target, &mut record.outcome) {
                trial.generator.verdict = Health::Late;
                trial.generator.lag_p99_ns = Some(30_000_000);
            }
            records.push(record);
        }
        let findings = Findings::of(&terms, &records, Environment::look(), true);
        let section = &findings.sections[0];
        assert_eq!((section.knees[0].at_least, section.knees[1].at_least), (0, 4));
        assert_eq!(section.ratios[0].bound, Bound::AtLeast);
    }

    #[test]
    fn what_is_not_finished_says_only_what_it_knows() {
        let terms = terms();
        let records = complete(&terms);
        let findings = Findings::of(&terms, &records[..3], Environment::look(), false);
        let section = &findings.sections[0];
        assert_eq!(section.steps.iter().map(|step| step.times).sum::<usize>(), 3);
        assert!(section.ratios.is_empty() && section.case.is_none() && section.callers.is_empty());
        assert_eq!(section.knees[0].rate(), None);
    }
}
