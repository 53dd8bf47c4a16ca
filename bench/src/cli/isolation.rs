//! `florin-bench isolation` and `florin-bench handshakes`: what trouble with some callers costs the others, and what a handshake takes.

use std::{env, fmt::Write, io, thread};

use super::{
    args::{HandshakesArgs, IsolationArgs, MakeTroubleArgs},
    error::CliError,
    measuring::{prepare, report, start_all, warn, write_out},
    progress::Progress,
    say,
};
use crate::{
    affinity,
    campaign::{Campaign, Summary, median},
    generator::{Endpoint, Endpoints},
    isolation::{
        self, BEGUN, IsolationError, Strength, Trouble,
        handshakes::{Flood, How},
        measure,
    },
    limits::{ISOLATED_SERVED_LEAST, QUOTA_TOLERANCE},
    report::{
        Report,
        markdown::{grouped, health},
    },
    sample::Sample,
    targets::{Given, Kind, Target, TargetSpec, Via, allow_many_files, operation},
};

/// The others' load alone, and beside each trouble, interleaved.
pub(super) fn run(args: &IsolationArgs) -> Result<(), CliError> {
    let spec = TargetSpec {
        tls: Some(Given::Made),
        token: Some(Given::Made),
        bounded_per_s: Some(args.quota),
        shards: args.node.shards,
        ..TargetSpec::new(Kind::Florin)
    };
    // What the greedy one alone does to this host: a server that looks nothing up, knows nobody and refuses nothing.
    let specs = [spec, TargetSpec { shards: None, ..TargetSpec::new(Kind::Limit) }];
    allow_many_files();
    let (bench, settings) = prepare(&args.node.common, &specs)?;
    let strength = Strength {
        half_handshakes: args.half_handshakes,
        handshake_threads: args.handshake_threads,
        connections: args.connections,
        quota_per_s: args.quota,
        times: args.times,
        program: env::current_exe().map_err(operation("finding this program's own file"))?,
        ledger: bench.ledger.clone().expect("a server that the bench starts has one"),
        cpus: match args.trouble_cpus.0.as_slice() {
            // Beside the load that is measured, which is not to wait for it.
            [] => args.node.common.setup.cpus.clone(),
            _ => args.trouble_cpus.clone(),
        },
        comes_last: args.trouble_cpus.0.is_empty(),
    };
    let rounds = usize::from(args.node.rounds.rounds);
    let progress = Progress::new((CASES.len() * rounds) as u64);
    let mut targets = start_all(&specs, &bench, &progress)?;
    let limit = &mut targets[Server::Limit as usize];
    limit.bounded = limit.endpoints.all().first().map(|endpoint| format!("limit,addr={endpoint}"));
    let mut made: Vec<Vec<f64>> = vec![Vec::new(); CASES.len()];
    let campaign = Campaign::run(CASES.len(), 1, rounds, |index, _| {
        let case = &CASES[index];
        let target = &targets[case.target as usize];
        let name = case.name(&strength);
        let load = args.load.load(args.node.common.setup.arrivals);
        target.resume()?;
        let trouble = case.trouble.map(|trouble| (trouble, &strength));
        let found = measure(target, load, &settings, trouble, &mut |rate| {
            progress.say(format!("{name}: the others' {rate:.0}/s"));
        });
        target.pause();
        progress.advance();
        let mut found = found?;
        made[index].extend(found.made_per_s);
        found.measured.trial.target = name;
        Ok::<_, CliError>(found.measured)
    })?;
    drop(progress);
    let summaries = campaign.summary(None);
    let ratios: Vec<Option<f64>> =
        CASES.iter().enumerate().map(|(index, case)| campaign.p99_ratio(0, index, case.alone)).collect();
    let made: Vec<Option<f64>> =
        made.into_iter().map(|rates| (!rates.is_empty()).then(|| median(rates))).collect();
    say::result(&table(&summaries, &ratios, &made, args.quota));
    let trials: Vec<_> =
        campaign.cells().iter().flatten().flat_map(|cell| cell.trials.iter().cloned()).collect();
    warn(&trials);
    write_out(&args.node.common, &campaign, &Report { summaries, trials, ..report(&bench, &settings) })
}

/// The trouble of `isolation`, in its process.
pub(super) fn make(args: &MakeTroubleArgs) -> Result<(), CliError> {
    let specs = [args.target.clone()];
    let (bench, settings) = prepare(&args.common, &specs)?;
    affinity::pin_current(&args.common.setup.cpus.0)
        .map_err(operation(format!("pinning to CPUs {}", args.common.setup.cpus)))?;
    allow_many_files();
    let target = Target::start(&specs[0], &bench)?;
    let made = isolation::make(
        (args.trouble, args.count, args.rate),
        &target,
        &settings,
        &mut || say::result(BEGUN),
        // It ends as well where whoever has started it ends.
        &mut || drop(io::copy(&mut io::stdin(), &mut io::sink())),
    )?;
    if let Some(rate) = made {
        say::result(&rate.to_string());
    }
    Ok(())
}

/// Some trouble with one of the servers.
struct Case {
    target: Server,
    trouble: Option<Trouble>,
    /// The case in which that server has none.
    alone: usize,
}

/// In the order in which they are started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Florin,
    Limit,
}

/// Each trouble with florin, and what nobody can be spared on this host: the greedy one's requests and their answers, where nothing else
/// is done with them.
const CASES: [Case; 6] = [
    Case { target: Server::Florin, trouble: None, alone: 0 },
    Case { target: Server::Florin, trouble: Some(Trouble::HalfHandshakes), alone: 0 },
    Case { target: Server::Florin, trouble: Some(Trouble::Handshakes), alone: 0 },
    Case { target: Server::Florin, trouble: Some(Trouble::Greed), alone: 0 },
    Case { target: Server::Limit, trouble: None, alone: 4 },
    Case { target: Server::Limit, trouble: Some(Trouble::Greed), alone: 4 },
];

impl Case {
    fn name(&self, strength: &Strength) -> String {
        let name = self.trouble.map_or_else(|| "alone".to_owned(), |trouble| strength.name(trouble));
        if self.target == Server::Limit { format!("limit: {name}") } else { name }
    }
}

/// A line for each case: what it did to the others, and what it may.
fn table(summaries: &[Summary], ratios: &[Option<f64>], made: &[Option<f64>], quota: u32) -> String {
    let mut text = String::from(
        "| beside | others' p99 µs | × alone | at most | others served, at least | made or answered/s | generator |\n\
         | --- | ---: | ---: | --- | ---: | ---: | --- |\n",
    );
    let judged = |holds: bool| if holds { "reached" } else { "missed" };
    for ((case, summary), (ratio, made)) in CASES.iter().zip(summaries).zip(ratios.iter().zip(made)) {
        let is_judged = case.target == Server::Florin;
        let most = case.trouble.filter(|_| is_judged).map(Trouble::p99_most);
        let ratio = ratio.unwrap_or(f64::INFINITY);
        let served = 1.0 - summary.medians.error_share;
        let made = match (case.trouble, made) {
            (_, None) => "–".to_owned(),
            (Some(Trouble::Greed), Some(rate)) if is_judged => {
                let share = rate / f64::from(quota);
                let holds = (share - 1.0).abs() <= QUOTA_TOLERANCE;
                format!("{} ({share:.3} of its own: {})", grouped(*rate), judged(holds))
            }
            (_, Some(rate)) => grouped(*rate),
        };
        let _ = writeln!(
            text,
            "| {} | {:.1} | {ratio:.2} | {} | {:.3} %{} | {made} | {} |",
            summary.target,
            summary.medians.p99_ns / 1e3,
            most.map_or_else(|| "–".to_owned(), |most| format!("{most}: {}", judged(ratio <= most))),
            served * 100.0,
            if is_judged { format!(" ({})", judged(served >= ISOLATED_SERVED_LEAST)) } else { String::new() },
            health(summary.medians.generator, summary.medians.generator_share),
        );
    }
    text
}

/// Connections a second in plain, and by TLS with and without tickets; and what each costs the server.
pub(super) fn handshakes(args: &HandshakesArgs) -> Result<(), CliError> {
    let plain = TargetSpec { via: Via::Any, shards: args.node.shards, ..TargetSpec::new(Kind::Florin) };
    let specs = [plain.clone(), TargetSpec { tls: Some(Given::Made), ..plain }];
    let (bench, _) = prepare(&args.node.common, &specs)?;
    let ways =
        [(How::Plain, 0, "in plain"), (How::Full, 1, "by TLS"), (How::Resumed, 1, "by TLS, with a ticket")];
    let rounds = usize::from(args.node.rounds.rounds);
    let progress = Progress::new((ways.len() * rounds) as u64);
    let targets = start_all(&specs, &bench, &progress)?;
    let mut found: Vec<Vec<Connections>> = ways.iter().map(|_| Vec::new()).collect();
    for round in crate::campaign::order(ways.len(), rounds) {
        for way in round {
            let (how, target, name) = ways[way];
            progress.say(name);
            found[way].push(connections(&targets[target], how, args)?);
            progress.advance();
        }
    }
    drop(progress);
    let mut text = String::from(
        "| connections | a second | CPU-µs each | p50 µs | p99 µs | with a ticket | failed |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for ((_, _, name), found) in ways.iter().zip(&found) {
        let each = |of: fn(&Connections) -> f64| median(found.iter().map(of).collect());
        let _ = writeln!(
            text,
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.0} % | {:.0} |",
            grouped(each(|found| found.rate)),
            each(|found| found.cpu_us),
            each(|found| found.p50_us),
            each(|found| found.p99_us),
            each(|found| found.resumed_share) * 100.0,
            each(|found| found.failed),
        );
    }
    say::result(&text);
    Ok(())
}

/// One way's connections in one round.
struct Connections {
    rate: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    resumed_share: f64,
    failed: f64,
}

fn connections(target: &Target, how: How, args: &HandshakesArgs) -> Result<Connections, CliError> {
    let failed = |source| IsolationError::Trouble { what: target.label.clone(), source };
    target.resume()?;
    let Endpoints::Any(Endpoint::Tcp(address)) = &target.endpoints else {
        return Err(CliError::Usage("connections are made to the any-shard port".to_owned()));
    };
    let pid = target.pid.expect("the bench has started it");
    let before = Sample::take(pid).map_err(failed)?;
    let flood = affinity::pinned(&args.node.common.setup.cpus.0, || {
        Flood::begin(*address, &target.access, how, args.threads)
    });
    let flood = flood.map_err(failed)?;
    thread::sleep(args.node.common.duration);
    let made = flood.end().map_err(failed)?;
    let server = Sample::take(pid).map_err(failed)?.since(&before, made.count);
    target.pause();
    let at = |quantile| made.latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Connections {
        rate: made.rate(),
        cpu_us: server.cpu_us_per_request,
        p50_us: at(0.5),
        p99_us: at(0.99),
        resumed_share: made.resumed as f64 / made.count.max(1) as f64,
        failed: made.failed as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{campaign::tests::trial, trial::Measured};

    #[test]
    fn what_the_others_suffer_stands_beside_what_they_may() {
        let p99_us = [100, 119, 130, 190, 40, 72];
        let names = ["alone", "half", "whole", "greed", "limit: alone", "limit: greed"];
        let campaign = Campaign::run(names.len(), 1, 1, |index, _| {
            let mut trial = trial(names[index], "8 × 8", 5e3, 1.0);
            trial.latency.p99_ns = p99_us[index] * 1_000;
            trial.lost = u64::from(index == 3) * 2;
            Ok::<_, ()>(Measured { trial, intervals: Vec::new() })
        })
        .unwrap();
        let ratios: Vec<_> =
            CASES.iter().enumerate().map(|(index, case)| campaign.p99_ratio(0, index, case.alone)).collect();
        let made = [None, None, Some(2_500.0), Some(1_910.0), None, Some(19_990.0)];
        let text = table(&campaign.summary(None), &ratios, &made, 2_000);
        for line in [
            "| alone | 100.0 | 1.00 | – | 100.000 % (reached) | – |",
            "| half | 119.0 | 1.19 | 1.2: reached | 100.000 % (reached) | – |",
            "| whole | 130.0 | 1.30 | 1.2: missed | 100.000 % (reached) | 2,500 |",
            "| greed | 190.0 | 1.90 | 2: reached | 99.800 % (missed) | 1,910 (0.955 of its own: reached) |",
            "| limit: alone | 40.0 | 1.00 | – | 100.000 % | – |",
            "| limit: greed | 72.0 | 1.80 | – | 100.000 % | 19,990 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let late = table(&campaign.summary(None), &ratios, &[None, None, None, Some(1_890.0)], 2_000);
        assert!(late.contains("(0.945 of its own: missed)"), "{late}");
    }
}
