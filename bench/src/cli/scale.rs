//! `florin-bench scale`: the same load a shard on more and more of them, and the law that it follows.

use std::fmt::Write;

use super::{
    args::ScaleArgs,
    error::CliError,
    flags::LoadSpec,
    measuring::{one, prepare, report, warn, write_out},
    progress::Progress,
    say,
};
use crate::limits::{POINTS_MIN, PREDICTED_SHARDS, SCALE_BUSY_MIN};
use crate::{
    affinity::Cpus,
    campaign::{Campaign, Summary},
    report::{
        Report,
        markdown::{grouped, health},
    },
    scale::{self, Law, Point},
    targets::{Bench, Kind, Target, TargetSpec, Via},
    trial::{Health, Trial},
};

/// The doors that are compared: each user's own shard, and whichever shard accepts.
const DOORS: [(Via, &str); 2] = [
    (Via::Shard, "asked at the user's own shard"),
    (Via::Any, "asked at the any-shard port, which passes on what is another's"),
];

pub(super) fn run(args: &ScaleArgs) -> Result<(), CliError> {
    let cpus = args.common.setup.server_cpus.0.len();
    let most = u16::try_from(cpus).unwrap_or(u16::MAX);
    let counts = if args.shards.is_empty() { scale::doublings(most.max(1)) } else { args.shards.clone() };
    let servers = &args.common.setup.server_cpus.0;
    let shared: Vec<usize> =
        args.common.setup.cpus.0.iter().copied().filter(|cpu| servers.contains(cpu)).collect();
    if cpus == 0 {
        return Err(CliError::Usage(
            "say which CPUs: --server-cpus LIST has one for each shard, and --cpus LIST others for the generator".to_owned(),
        ));
    }
    if !shared.is_empty() {
        return Err(CliError::Usage(format!(
            "a generator beside a shard on one CPU measures itself: --cpus and --server-cpus both have {}",
            Cpus(shared)
        )));
    }
    if counts.iter().any(|&shards| shards > most) {
        return Err(CliError::Usage(format!(
            "each shard needs a CPU: {} shards, and --server-cpus has {cpus}",
            counts.iter().max().unwrap_or(&1),
        )));
    }
    let specs: Vec<(TargetSpec, u16)> = DOORS
        .iter()
        .flat_map(|&(via, _)| counts.iter().map(move |&shards| (via, shards)))
        .map(|(via, shards)| {
            (TargetSpec { via, shards: Some(shards), ..TargetSpec::new(Kind::Florin) }, shards)
        })
        .collect();
    let only: Vec<TargetSpec> = specs.iter().map(|(spec, _)| spec.clone()).collect();
    let (bench, settings) = prepare(&args.common, &only)?;
    let rounds = usize::from(args.rounds.rounds);
    let progress = Progress::new((specs.len() * rounds) as u64);
    let mut targets = Vec::new();
    for (spec, shards) in &specs {
        progress.say(format!("starting {}", spec.label()));
        let server_cpus = bench.server_cpus[..usize::from(*shards)].to_vec();
        let target = Target::start(spec, &Bench { server_cpus, ..bench.clone() })?;
        target.pause();
        targets.push(target);
    }
    let campaign = Campaign::run(targets.len(), 1, rounds, |index, _| {
        let target = &targets[index];
        target.resume()?;
        let LoadSpec { connections, depth, rate } = args.load;
        let shards = usize::from(specs[index].1);
        let load = LoadSpec {
            connections: connections * shards,
            depth,
            rate: rate.map(|rate| rate * shards as f64),
        };
        let measured = one(target, load.load(args.common.setup.arrivals), &settings, &progress)?;
        target.pause();
        Ok::<_, CliError>(measured)
    })?;
    drop(progress);
    let summaries = campaign.summary(None);
    for (curve, (_, title)) in summaries.chunks(counts.len()).zip(DOORS) {
        say::result(&format!("\n{title}:\n\n{}", describe(&counts, curve)));
    }
    let trials: Vec<Trial> =
        campaign.cells().iter().flatten().flat_map(|cell| cell.trials.iter().cloned()).collect();
    warn(&trials);
    write_out(&args.common, &campaign, &Report { summaries, trials, ..report(&bench, &settings) })
}

/// A table of a curve, its law, and what neither can show.
fn describe(counts: &[u16], curve: &[Summary]) -> String {
    let mut text = String::from(
        "| shards | requests/s | of one shard's, each | CPU-µs/request | p99 µs | server CPU | generator |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    let (mut points, mut unusable) = (Vec::new(), Vec::new());
    let first = curve[0].medians.rate / f64::from(counts[0]);
    for (&shards, summary) in counts.iter().zip(curve) {
        let (rate, busy) = (summary.medians.rate, summary.server_share.unwrap_or_default());
        let _ = writeln!(
            text,
            "| {shards} | {} | {:.2} | {:.3} | {:.1} | {:.0} % | {} |",
            grouped(rate),
            if first > 0.0 { rate / f64::from(shards) / first } else { 0.0 },
            summary.cpu_us_per_request.unwrap_or_default(),
            summary.medians.p99_ns / 1e3,
            busy * 100.0,
            health(summary.medians.generator, summary.medians.generator_share),
        );
        if summary.medians.generator != Health::Fine {
            unusable.push(format!("{shards}: the generator was at its own end (give it more CPUs: --cpus)"));
        } else if busy < SCALE_BUSY_MIN * f64::from(shards) {
            unusable.push(format!(
                "{shards}: the shards were busy for {:.0} % of the time (give them more to do: --load)",
                busy / f64::from(shards) * 100.0
            ));
        } else {
            points.push(Point { shards, rate });
        }
    }
    text.push('\n');
    unusable.iter().for_each(|why| {
        let _ = writeln!(text, "says nothing about how florin scales, with {why}");
    });
    let Some(law) = Law::fit(&points) else {
        let _ = writeln!(
            text,
            "no law: it takes {POINTS_MIN} numbers of shards that say something, and here are {}. A host with 8 CPUs or more \
             (4 for 1, 2 and 4 shards, the others for the generator) shows it.",
            points.len()
        );
        return text;
    };
    let _ = writeln!(
        text,
        "universal scalability law: λ {}/s a shard, σ {:.4}, κ {:.6}; {}",
        grouped(law.lambda),
        law.sigma,
        law.kappa,
        law.peak().map_or("no peak".to_owned(), |peak| format!("more than {peak:.0} shards would do less"))
    );
    let _ = writeln!(
        text,
        "predicted, not measured: {}/s with {PREDICTED_SHARDS} shards ({:.2} of {PREDICTED_SHARDS} times one)",
        grouped(law.rate(PREDICTED_SHARDS)),
        law.rate(PREDICTED_SHARDS) / law.lambda / f64::from(PREDICTED_SHARDS),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::tests::trial;
    use crate::trial::Measured;

    /// What is said of shards that do this many requests a second, busy for this share of the time.
    fn said(rates: &[(u16, f64, f64)], spoil: impl Fn(u16, &mut Trial)) -> String {
        let campaign = Campaign::run(rates.len(), 1, 1, |index, _| {
            let (shards, rate, busy) = rates[index];
            let mut trial = trial("florin", "64 × 32", rate, 1.0);
            trial.server.as_mut().unwrap().cpu_share = busy * f64::from(shards);
            spoil(shards, &mut trial);
            Ok::<_, ()>(Measured { trial, intervals: Vec::new() })
        });
        let counts: Vec<u16> = rates.iter().map(|&(shards, ..)| shards).collect();
        describe(&counts, &campaign.unwrap().summary(None))
    }

    const CURVE: [(u16, f64, f64); 3] = [(1, 1e6, 1.0), (2, 1.98e6, 1.0), (4, 3.88e6, 1.0)];

    #[test]
    fn a_curve_has_its_law_and_a_prediction_that_says_so() {
        let text = said(&CURVE, |_, _| {});
        for part in [
            "| 4 | 3,880,000 | 0.97 |",
            "σ 0.0099, κ 0.000104",
            "predicted, not measured: ",
            "with 40 shards",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("says nothing"), "{text}");
    }

    #[test]
    fn what_the_generator_or_an_idle_shard_has_bent_is_no_part_of_a_law() {
        let late = said(&CURVE, |shards, trial| {
            if shards == 4 {
                trial.generator.verdict = Health::Busy;
            }
        });
        assert!(
            late.contains("with 4: the generator was at its own end") && late.contains("here are 2"),
            "{late}"
        );
        let idle = said(&[(1, 1e6, 1.0), (2, 2e6, 0.7), (4, 4e6, 1.0)], |_, _| {});
        assert!(idle.contains("with 2: the shards were busy for 70 %") && idle.contains("no law"), "{idle}");
    }
}
