//! What is measured next: a function of the terms and of what has been measured, and of nothing else.
//!
//! Servers take turns, A B B A, so that what drifts on the host drifts for all. A server whose climb has ended sits out until
//! the others' have.

use super::{
    Job, Outcome, Purpose, Record, Terms,
    callers::Client,
    case::{self, Point},
};
use crate::{
    campaign,
    climb::{self, End, Next, Probe},
};

/// What comes next; none where everything is measured. `clients` are those that each target can be asked with.
pub fn next(terms: &Terms, clients: &[Vec<Client>], records: &[Record]) -> Option<Job> {
    let endpoints = 0..terms.endpoints.len();
    endpoints
        .clone()
        .find_map(|endpoint| {
            next_climb(terms, endpoint, records).or_else(|| next_case(terms, endpoint, records))
        })
        .or_else(|| endpoints.clone().find_map(|endpoint| next_caller(terms, clients, endpoint, records)))
}

/// About how many measurements there will be: climbs cannot know how high they will have to go.
pub fn estimate(terms: &Terms, clients: &[Vec<Client>]) -> u64 {
    const FIRST_CLIMB: u64 = 16;
    const LATER_CLIMB: u64 = 8;
    const SEEKING: u64 = 2;
    let (targets, rounds) = (terms.labels.len() as u64, u64::from(terms.rounds));
    let climbs = FIRST_CLIMB + LATER_CLIMB * u64::from(terms.climbs.saturating_sub(1));
    let callers = clients.iter().flatten().count() as u64 * terms.callers.len() as u64 * rounds;
    terms.endpoints.len() as u64 * (targets * (climbs + rounds) + SEEKING + callers)
}

/// What a target's climb has found so far, in order.
pub fn probes(terms: &Terms, records: &[Record], endpoint: usize, target: usize, climb: u32) -> Vec<Probe> {
    let probe = |record: &Record| match record.job {
        Job { endpoint: e, target: t, purpose: Purpose::Climb { climb: c, rung } }
            if (e, t, c) == (endpoint, target, climb) =>
        {
            Some(Probe { rung, verdict: terms.verdict(record.trial()?) })
        }
        _ => None,
    };
    records.iter().filter_map(probe).collect()
}

/// Where each of a target's climbs has ended, as far as they have.
pub fn ends(terms: &Terms, records: &[Record], endpoint: usize, target: usize) -> Vec<End> {
    let mut ends: Vec<End> = Vec::new();
    for number in 0..terms.climbs {
        let start = ends.last().map_or(0, |&end| terms.ladder.start_below(end));
        match climb::next(&terms.ladder, start, &probes(terms, records, endpoint, target, number)) {
            Next::Ended(end) => ends.push(end),
            Next::Measure(_) => break,
        }
    }
    ends
}

fn next_climb(terms: &Terms, endpoint: usize, records: &[Record]) -> Option<Job> {
    let ends: Vec<Vec<End>> =
        (0..terms.labels.len()).map(|target| ends(terms, records, endpoint, target)).collect();
    for number in 0..terms.climbs {
        // Whoever has been measured the fewest times is next; among equals, forth in one turn and back in the next.
        let waiting = (0..terms.labels.len()).filter(|&target| ends[target].len() <= number as usize);
        let turn = waiting.map(|target| (probes(terms, records, endpoint, target, number), target));
        let Some((probes, target)) = turn.min_by_key(|(probes, target)| {
            let place = if probes.len().is_multiple_of(2) { *target } else { terms.labels.len() - target };
            (probes.len(), place)
        }) else {
            continue;
        };
        let start = ends[target].last().map_or(0, |&end| terms.ladder.start_below(end));
        if let Next::Measure(rung) = climb::next(&terms.ladder, start, &probes) {
            return Some(Job { endpoint, target, purpose: Purpose::Climb { climb: number, rung } });
        }
    }
    None
}

/// Loads that the first server has been under, and what they took of its CPU.
fn points(records: &[Record], endpoint: usize, is_seeking: fn(&Purpose) -> bool) -> Vec<Point> {
    let of = records
        .iter()
        .filter(|r| r.job.endpoint == endpoint && r.job.target == 0 && is_seeking(&r.job.purpose));
    of.filter_map(|record| {
        let trial = record.trial()?;
        Some(Point { rate: trial.offered_rate?, cpu: trial.server.as_ref()?.cpu_share })
    })
    .collect()
}

/// The case's load, once it is found.
pub fn case_rate(terms: &Terms, records: &[Record], endpoint: usize) -> case::Next {
    let climbs = points(records, endpoint, |purpose| matches!(purpose, Purpose::Climb { .. }));
    let tries = points(records, endpoint, |purpose| matches!(purpose, Purpose::Seek { .. }));
    case::next(terms.case_cpu, &climbs, &tries)
}

fn next_case(terms: &Terms, endpoint: usize, records: &[Record]) -> Option<Job> {
    if terms.rounds == 0 {
        return None;
    }
    let rate = match case_rate(terms, records, endpoint) {
        case::Next::Measure(rate) => {
            return Some(Job { endpoint, target: 0, purpose: Purpose::Seek { rate } });
        }
        case::Next::Found(rate) => rate,
        case::Next::Unknown => return None,
    };
    let jobs = in_turn(terms, terms.labels.len()).map(|(round, target)| Job {
        endpoint,
        target,
        purpose: Purpose::Case { round, rate },
    });
    undone(jobs, records)
}

fn next_caller(terms: &Terms, clients: &[Vec<Client>], endpoint: usize, records: &[Record]) -> Option<Job> {
    let pairs: Vec<(usize, Client)> = clients
        .iter()
        .enumerate()
        .flat_map(|(target, clients)| clients.iter().map(move |&client| (target, client)))
        .collect();
    (0..terms.callers.len()).find_map(|load| {
        let jobs = in_turn(terms, pairs.len()).map(|(round, pair)| {
            let (target, client) = pairs[pair];
            Job { endpoint, target, purpose: Purpose::Caller { round, load, client } }
        });
        undone(jobs, records)
    })
}

/// Rounds and whose turn it is: forth and back.
fn in_turn(terms: &Terms, count: usize) -> impl Iterator<Item = (u32, usize)> {
    let order = campaign::order(count, terms.rounds as usize);
    order.into_iter().zip(0..).flat_map(|(turns, round)| turns.into_iter().map(move |turn| (round, turn)))
}

fn undone(mut jobs: impl Iterator<Item = Job>, records: &[Record]) -> Option<Job> {
    jobs.find(|job| !records.iter().any(|record| record.job == *job))
}

/// The callers' trials of a job's kind.
pub fn caller_trials(
    records: &[Record],
    endpoint: usize,
    load: usize,
    target: usize,
    client: Client,
) -> impl Iterator<Item = &super::callers::CallerTrial> {
    records.iter().filter_map(move |record| match (&record.job, &record.outcome) {
        (
            Job { endpoint: e, target: t, purpose: Purpose::Caller { load: l, client: c, .. } },
            Outcome::Caller(trial),
        ) if (*e, *t, *l, *c) == (endpoint, target, load, client) => Some(trial),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{campaign::tests::trial, climb::Ladder, compare::callers::CallerLoad, ramp::Objective};

    /// Two servers, the first of which breaks above 10,000 a second and takes a whole CPU there; the second does twice that.
    pub(crate) fn terms() -> Terms {
        Terms {
            targets: vec!["http,addr=127.0.0.1:1".into(), "florin,via=http".into()],
            labels: vec!["old".into(), "new".into()],
            programs: Vec::new(),
            endpoints: vec!["balance".into(), "statistics".into()],
            objective: Objective { p99_max_ns: 5_000_000, error_share_max: 0.0001 },
            ladder: Ladder { from: 1_000.0, rung_percent: 2.5, to: 1e6 },
            climbs: 4,
            rounds: 4,
            case_cpu: 0.78,
            connections: 16,
            depth: 1,
            callers: vec![CallerLoad { goroutines: 64, rate: 5_000 }],
            warmup_seconds: 0.1,
            seconds: 1.0,
            keys: "uniform".into(),
            seed: 1,
            arrivals: "poisson".into(),
            users: 100,
            ledger: String::new(),
            server_cpus: vec![0],
            generator_cpus: vec![1],
        }
    }

    /// What that pair of servers does with a job.
    pub(crate) fn measure(terms: &Terms, job: Job) -> Record {
        let speed = if job.target == 0 { 10_000.0 } else { 20_000.0 };
        let rate = match job.purpose {
            Purpose::Climb { rung, .. } => terms.ladder.rate(rung),
            Purpose::Seek { rate } | Purpose::Case { rate, .. } => rate,
            Purpose::Caller { client, .. } => {
                return Record {
                    job,
                    outcome: Outcome::Caller(crate::compare::callers::tests::caller(client)),
                };
            }
        };
        let mut measured = trial(&terms.labels[job.target], "x", rate.min(speed), 1e6 / speed);
        measured.offered_rate = Some(rate);
        measured.latency.p99_ns = if rate > speed { 50_000_000 } else { 200_000 };
        let server = measured.server.as_mut().unwrap();
        server.cpu_share = (rate / speed).min(1.0);
        server.rss_bytes = (1 << 28) >> (2 * job.target);
        Record { job, outcome: Outcome::Trial(Box::new(measured)) }
    }

    /// Everything, to the end.
    pub(crate) fn complete(terms: &Terms) -> Vec<Record> {
        let clients = [vec![Client::Http], vec![Client::Http, Client::Florin]];
        let mut records = Vec::new();
        while let Some(job) = next(terms, &clients, &records) {
            records.push(measure(terms, job));
            assert!(records.len() < 1_000, "the schedule does not end");
        }
        records
    }

    #[test]
    fn everything_is_measured_and_the_servers_take_turns() {
        let terms = terms();
        let records = complete(&terms);
        let first_climb =
            records.iter().take_while(|r| matches!(r.job.purpose, Purpose::Climb { climb: 0, .. }));
        let turns: Vec<usize> = first_climb.map(|record| record.job.target).collect();
        assert_eq!(turns[..8], [0, 1, 1, 0, 0, 1, 1, 0]);
        for endpoint in 0..2 {
            for (target, knee) in [(0, 10_000.0), (1, 20_000.0)] {
                let ends = ends(&terms, &records, endpoint, target);
                assert_eq!(ends.len(), 4);
                for end in ends {
                    let End::Knee(rung) = end else { panic!("{end:?}") };
                    assert!(terms.ladder.rate(rung) <= knee && terms.ladder.rate(rung + 1) > knee);
                }
            }
            let case::Next::Found(rate) = case_rate(&terms, &records, endpoint) else { panic!("no case") };
            assert!((rate - 7_800.0).abs() < 200.0, "{rate}");
            let cases = records.iter().filter(|r| r.job.endpoint == endpoint);
            let cases: Vec<usize> = cases
                .filter(|r| matches!(r.job.purpose, Purpose::Case { .. }))
                .map(|r| r.job.target)
                .collect();
            assert_eq!(cases, [0, 1, 1, 0, 0, 1, 1, 0]);
            for (target, client) in [(0, Client::Http), (1, Client::Http), (1, Client::Florin)] {
                assert_eq!(caller_trials(&records, endpoint, 0, target, client).count(), 4);
            }
        }
        assert!(
            records.len().abs_diff(
                estimate(&terms, &[vec![Client::Http], vec![Client::Http, Client::Florin]]) as usize
            ) < 40
        );
    }

    #[test]
    fn a_comparison_that_was_interrupted_anywhere_goes_on_as_it_would_have() {
        let terms = terms();
        let clients = [vec![Client::Http], vec![Client::Http, Client::Florin]];
        let records = complete(&terms);
        for cut in 0..records.len() {
            assert_eq!(next(&terms, &clients, &records[..cut]), Some(records[cut].job), "after {cut}");
        }
    }

    #[test]
    fn without_the_servers_cpu_there_is_no_case() {
        let terms = Terms { callers: Vec::new(), ..terms() };
        let mut records = Vec::new();
        while let Some(job) = next(&terms, &[], &records) {
            let mut record = measure(&terms, job);
            let Outcome::Trial(trial) = &mut record.outcome else { panic!("no caller was asked for") };
            trial.server = None;
            records.push(record);
        }
        assert!(records.iter().all(|record| matches!(record.job.purpose, Purpose::Climb { .. })));
        assert!(!records.is_empty());
    }
}
