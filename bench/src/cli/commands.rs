//! What each command does.

use super::{
    args::{Cli, Command, Common, DriversArgs, LimitArgs, MemoryArgs, RampArgs, RunArgs},
    error::CliError,
    flags::LoadSpec,
    guarded::Guarded,
    measuring::{one, prepare, report, start_all, warn, write_log, write_out},
    progress::Progress,
    say,
    setup::florin,
};
use crate::limits::{CALLGRIND_TIME, CALLGRIND_WARMUP};
use crate::{
    affinity::{self, Cpus},
    callgrind,
    campaign::Campaign,
    climb::Ladder,
    generator::{Settings, Span},
    memory::Speeds,
    ramp::{self, Knee, Objective},
    report::{self, Report},
    targets::{self, Kind, Target, TargetSpec, Tool, Via},
    trial::Trial,
};

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Run(args) => {
            let guarded = Guarded::of(&args)?;
            match args.callgrind {
                Some(requests) => count(&args, &guarded.targets, requests),
                None => {
                    let campaign = campaign(&args.common, &guarded.targets, &args.loads, args.rounds.rounds)?;
                    guarded.costs(&campaign, &args.loads).iter().for_each(|costs| say::result(costs));
                    Ok(())
                }
            }
        }
        Command::Ramp(args) => ramp(&args),
        Command::Drivers(args) => drivers(args),
        Command::Compare(args) => super::compare::run(&args),
        Command::Cost(args) => super::cost::run(&args),
        Command::Scale(args) => super::scale::run(&args),
        Command::Isolation(args) => super::isolation::run(&args),
        Command::Handshakes(args) => super::isolation::handshakes(&args),
        Command::MakeTrouble(args) => super::isolation::make(&args),
        Command::Memory(args) => memory(&args),
        Command::Limit(args) => limit(args),
        Command::ServeFixed(args) => Ok(targets::fixed::serve(args.listen, &args.unix, args.assets)?),
    }
}

fn memory(args: &MemoryArgs) -> Result<(), CliError> {
    let cpus: Vec<usize> = args.cpu.into_iter().collect();
    affinity::pin_current(&cpus).map_err(|error| {
        CliError::Usage(format!(
            "--cpu: expected a CPU that this process may use, got {}: {error}",
            Cpus(cpus.clone())
        ))
    })?;
    let chains: Vec<String> = Speeds::CHAINS.iter().map(|chains| format!("{chains} at once")).collect();
    say::result(&format!("| KiB | pages | ns a line: {} |", chains.join(" | ")));
    say::result("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for &kib in &args.sizes_kib {
        for in_huge_pages in [false, true] {
            let speeds = Speeds::measure(usize::try_from(kib << 10).expect("it has a bound"), in_huge_pages);
            let pages = match (in_huge_pages, speeds.huge_bytes >= kib << 9) {
                (_, true) => "huge",
                (true, false) => "small, though huge ones were asked for",
                (false, false) => "small",
            };
            let ns: Vec<String> = speeds.ns.iter().map(|ns| format!("{ns:.1}")).collect();
            say::result(&format!("| {kib} | {pages} | {} |", ns.join(" | ")));
        }
    }
    Ok(())
}

fn drivers(args: DriversArgs) -> Result<(), CliError> {
    let names = match args.drivers.is_empty() {
        true => targets::florin::drivers(&florin(&args.common.setup))?,
        false => args.drivers,
    };
    let driver = |name| TargetSpec { driver: Some(name), ..TargetSpec::new(Kind::Florin) };
    let mut targets: Vec<TargetSpec> = names.into_iter().map(driver).collect();
    targets.push(TargetSpec::new(Kind::Limit));
    campaign(&args.common, &targets, &args.loads, args.rounds.rounds).map(drop)
}

fn limit(args: LimitArgs) -> Result<(), CliError> {
    let mut limit = TargetSpec::new(Kind::Limit);
    if args.unix {
        limit.via = Via::Unix;
    }
    let targets = [vec![limit], args.targets].concat();
    campaign(&args.common, &targets, &args.loads, args.rounds.rounds).map(drop)
}

/// Each target under each load, interleaved.
fn campaign(
    common: &Common,
    specs: &[TargetSpec],
    loads: &[LoadSpec],
    rounds: u16,
) -> Result<Campaign, CliError> {
    let (bench, settings) = prepare(common, specs)?;
    let progress = Progress::new((specs.len() * loads.len()) as u64 * u64::from(rounds));
    let targets = start_all(specs, &bench, &progress)?;
    let campaign = Campaign::run(targets.len(), loads.len(), usize::from(rounds), |target, load| {
        let target = &targets[target];
        target.resume()?;
        let measured = one(target, loads[load].load(common.setup.arrivals), &settings, &progress)?;
        target.pause();
        Ok::<_, CliError>(measured)
    })?;
    drop(progress);
    let summaries = campaign.summary(specs.iter().position(|spec| spec.kind == Kind::Limit));
    say::result(&report::table(&summaries));
    let trials: Vec<Trial> =
        campaign.cells().iter().flatten().flat_map(|cell| cell.trials.iter().cloned()).collect();
    warn(&trials);
    write_out(common, &campaign, &Report { summaries, trials, ..report(&bench, &settings) })?;
    Ok(campaign)
}

/// Each target's knee.
fn ramp(args: &RampArgs) -> Result<(), CliError> {
    let common = &args.common;
    let (bench, settings) = prepare(common, &args.targets)?;
    let objective =
        Objective { p99_max_ns: (args.p99_ms * 1e6) as u64, error_share_max: args.errors / 100.0 };
    let ladder = Ladder { from: args.from, rung_percent: args.precision, to: args.to.max(args.from) };
    let progress = Progress::new(0);
    let targets = start_all(&args.targets, &bench, &progress)?;
    let (mut knees, mut trials): (Vec<(String, Knee)>, Vec<Trial>) = (Vec::new(), Vec::new());
    for target in &targets {
        target.resume()?;
        let knee = ramp::find(&ladder, |rate| {
            let load = LoadSpec { rate: Some(rate), ..args.load }.load(common.setup.arrivals);
            let measured = one(target, load, &settings, &progress)?;
            if let Some(out) = &common.out {
                write_log(out, &measured.trial, &measured.intervals)?;
            }
            let judgement = objective.judge(&measured.trial);
            progress.print(&format!("{}: {rate:.0}/s: {judgement}", target.label));
            trials.push(measured.trial);
            Ok::<_, CliError>(judgement)
        })?;
        target.pause();
        knees.push((target.label.clone(), knee));
    }
    drop(progress);
    say::result(&format!("{objective}:\n\n{}", report::knees(&knees)));
    warn(&trials);
    let Some(out) = &common.out else { return Ok(()) };
    Ok(Report { knees, objective: Some(objective), trials, ..report(&bench, &settings) }.write(out)?)
}

/// Instructions per request of each target under each load, one server after the other.
fn count(args: &RunArgs, targets: &[TargetSpec], requests: u64) -> Result<(), CliError> {
    let (mut bench, settings) = prepare(&args.common, targets)?;
    let progress = Progress::new((targets.len() * args.loads.len()) as u64);
    let directory = targets::process::scratch()?;
    let mut trials = Vec::new();
    for (index, spec) in targets.iter().enumerate() {
        for (number, load) in args.loads.iter().enumerate() {
            let out = directory.path().join(format!("callgrind.{index}.{number}"));
            bench.tool = Tool::Callgrind(out.clone());
            progress.say(format!("starting {} under valgrind", spec.label()));
            let target = Target::start(spec, &bench)?;
            let load = load.load(args.common.setup.arrivals);
            let of = |count| Settings {
                span: Span::Requests { count, at_most: args.common.duration.max(CALLGRIND_TIME) },
                ..settings.clone()
            };
            one(&target, load, &of(CALLGRIND_WARMUP), &progress)?;
            target.calm();
            let pid = target.pid.expect("the bench has started it");
            callgrind::zero(pid)?;
            let mut measured = one(&target, load, &of(requests), &progress)?;
            measured.trial.instructions = Some(callgrind::dump(pid, &out, measured.trial.served)?);
            trials.push(measured.trial);
        }
    }
    drop(progress);
    let report = Report { trials, ..report(&bench, &settings) };
    say::result(&report.to_markdown());
    match &args.common.out {
        Some(out) => Ok(report.write(out)?),
        None => Ok(()),
    }
}
