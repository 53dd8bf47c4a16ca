//! What each command does.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use florin_schema::layout::BalanceView;

use super::{
    args::{Cli, Command, Common, DriversArgs, LimitArgs, LoadSpec, RampArgs, RunArgs, Setup},
    progress::Progress,
    say,
};
use crate::{
    callgrind::{self, CallgrindError},
    campaign::Campaign,
    climb::Ladder,
    environment::Environment,
    generator::{Load, Span, Waiting},
    limits,
    ramp::{self, Knee, Objective},
    report::{self, Report, ReportError},
    targets::{self, Bench, Kind, Target, TargetError, TargetSpec, Tool, Via, ledger},
    trial::{self, Measured, Settings, Trial, TrialError},
    truth::Truth,
    work::{Mix, Population, Work},
};

/// Assets of the average user where no ledger says.
const ASSETS: usize = 2;
/// Requests before the counted ones under valgrind: so that first-time costs are not counted.
const CALLGRIND_WARMUP: u64 = 2_000;

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A measurement, or a wrong answer in it.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// Counting instructions.
    #[error(transparent)]
    Callgrind(#[from] CallgrindError),
    /// A comparison.
    #[error(transparent)]
    Compare(#[from] crate::compare::run::RunError),
    /// A comparison's money.
    #[error(transparent)]
    Cost(#[from] crate::cost::CostError),
    /// What a comparison cannot begin without.
    #[error("{0}")]
    Usage(String),
    /// The results' files.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The fixed server.
    #[error(transparent)]
    Fixed(#[from] targets::fixed::FixedError),
}

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Run(args) => match args.callgrind {
            Some(requests) => count(&args, requests),
            None => campaign(&args.common, &args.targets, &args.loads, args.rounds.rounds),
        },
        Command::Ramp(args) => ramp(&args),
        Command::Drivers(args) => drivers(args),
        Command::Compare(args) => super::compare::run(&args),
        Command::Cost(args) => super::cost::run(&args),
        Command::Limit(args) => limit(args),
        Command::ServeFixed(args) => Ok(targets::fixed::serve(args.listen, &args.unix, args.assets)?),
    }
}

fn drivers(args: DriversArgs) -> Result<(), CliError> {
    let names = match args.drivers.is_empty() {
        true => targets::florin::drivers(&florin(&args.common.setup))?,
        false => args.drivers,
    };
    let driver = |name| TargetSpec { driver: Some(name), ..TargetSpec::new(Kind::Florin) };
    let mut targets: Vec<TargetSpec> = names.into_iter().map(driver).collect();
    targets.push(TargetSpec::new(Kind::Limit));
    campaign(&args.common, &targets, &args.loads, args.rounds.rounds)
}

fn limit(args: LimitArgs) -> Result<(), CliError> {
    let mut limit = TargetSpec::new(Kind::Limit);
    if args.unix {
        limit.via = Via::Unix;
    }
    let targets = [vec![limit], args.targets].concat();
    campaign(&args.common, &targets, &args.loads, args.rounds.rounds)
}

/// Each target under each load, interleaved.
fn campaign(common: &Common, specs: &[TargetSpec], loads: &[LoadSpec], rounds: u16) -> Result<(), CliError> {
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
    let Some(out) = &common.out else { return Ok(()) };
    for cell in campaign.cells().iter().flatten() {
        write_log(out, &cell.trials[0], &cell.intervals)?;
    }
    Ok(Report { summaries, trials, ..report(&bench, &settings) }.write(out)?)
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
    let Some(out) = &common.out else { return Ok(()) };
    Ok(Report { knees, objective: Some(objective), trials, ..report(&bench, &settings) }.write(out)?)
}

/// Instructions per request of each target under each load, one server after the other.
fn count(args: &RunArgs, requests: u64) -> Result<(), CliError> {
    let (mut bench, settings) = prepare(&args.common, &args.targets)?;
    let progress = Progress::new((args.targets.len() * args.loads.len()) as u64);
    let directory = targets::process::scratch()?;
    let mut trials = Vec::new();
    for (index, spec) in args.targets.iter().enumerate() {
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

/// Under valgrind a server is some fifty times slower: what a hundred thousand requests may take.
const CALLGRIND_TIME: Duration = Duration::from_secs(120);

fn one(target: &Target, load: Load, settings: &Settings, progress: &Progress) -> Result<Measured, CliError> {
    let name = format!("{}, {load}", target.label);
    progress.say(&*name);
    let measured =
        trial::measure(target, load, settings, &mut |rate| progress.say(format!("{name}: {rate:.0}/s")))?;
    progress.advance();
    Ok(measured)
}

/// Starts all targets; they sleep until it is their turn.
fn start_all(specs: &[TargetSpec], bench: &Bench, progress: &Progress) -> Result<Vec<Target>, CliError> {
    let mut targets = Vec::new();
    for spec in specs {
        progress.say(format!("starting {}", spec.label()));
        let target = Target::start(spec, bench)?;
        target.pause();
        targets.push(target);
    }
    Ok(targets)
}

/// Finds or makes the ledger and the users, and what all trials share.
fn prepare(common: &Common, specs: &[TargetSpec]) -> Result<(Bench, Settings), CliError> {
    let asked = Asked {
        mix: common.mix.clone(),
        value_bytes: common.value_bytes,
        warmup: common.warmup,
        duration: common.duration,
        keys_drawn: limits::KEYS_DRAWN,
    };
    set_up(&common.setup, specs, asked)
}

/// What commands differ in.
pub(super) struct Asked {
    pub(super) mix: Mix,
    pub(super) value_bytes: Option<usize>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) keys_drawn: usize,
}

pub(super) fn set_up(
    setup: &Setup,
    specs: &[TargetSpec],
    asked: Asked,
) -> Result<(Bench, Settings), CliError> {
    let florin = florin(setup);
    let needs_ledger = specs.iter().any(|spec| spec.address.is_none() && spec.kind != Kind::Limit);
    let ledger = match &setup.ledger {
        Some(path) => Some(path.clone()),
        None if needs_ledger => Some(generated(setup, &florin)?),
        None => None,
    };
    let population = match (&setup.ids, &ledger) {
        (Some(ids), _) => Population::read(ids.clone()),
        (None, Some(ledger)) => Population::new(ledger::population(ledger).map_err(TargetError::Ledger)?),
        (None, None) => Population::first(setup.users),
    };
    let population = population.map_err(TargetError::Population)?;
    let value_bytes = match (asked.value_bytes, &ledger) {
        (Some(bytes), _) => bytes,
        (None, Some(ledger)) => ledger::balance_bytes(ledger, &population).map_err(TargetError::Ledger)?,
        (None, None) => BalanceView::bytes_of(ASSETS),
    };
    let are_checked =
        specs.iter().any(|spec| spec.address.is_none() && matches!(spec.kind, Kind::Florin | Kind::Http));
    let truth = ledger.as_deref().filter(|_| are_checked).map(Truth::read);
    let settings = Settings {
        work: Work { mix: asked.mix, keys: setup.keys, seed: setup.seed },
        population: population.clone(),
        span: Span::Time { warmup: asked.warmup, measure: asked.duration },
        cpus: setup.cpus.0.clone(),
        waiting: if setup.spin { Waiting::Spinning } else { Waiting::Parked },
        keys_drawn: asked.keys_drawn,
        truth: truth.transpose().map_err(TargetError::Ledger)?.map(Arc::new),
    };
    let server_cpus = setup.server_cpus.0.clone();
    Ok((Bench { florin, server_cpus, ledger, population, value_bytes, tool: Tool::None }, settings))
}

fn generated(setup: &Setup, florin: &Path) -> Result<PathBuf, TargetError> {
    let generated = ledger::Generated {
        users: setup.users,
        transactions: setup.transactions.unwrap_or(10 * u64::from(setup.users)),
        seed: 7,
    };
    let directory = setup.data.clone().unwrap_or_else(|| env::temp_dir().join("florin-bench"));
    Ok(ledger::kept(florin, &directory, generated)?)
}

/// The server's binary: as told, or beside the bench's own.
pub(super) fn florin(setup: &Setup) -> PathBuf {
    let beside =
        || env::current_exe().ok().map(|own| own.with_file_name("florin")).filter(|path| path.exists());
    setup.server.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("florin"))
}

/// A report without results.
fn report(bench: &Bench, settings: &Settings) -> Report {
    Report {
        environment: Environment::look(),
        server_cpus: bench.server_cpus.clone(),
        generator_cpus: settings.cpus.clone(),
        users: settings.population.users().len(),
        summaries: Vec::new(),
        objective: None,
        knees: Vec::new(),
        trials: Vec::new(),
    }
}

fn write_log(
    out: &Path,
    trial: &Trial,
    intervals: &[hdrhistogram::Histogram<u64>],
) -> Result<(), ReportError> {
    let plain = |text: &str| -> String {
        let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let dashed: String = letters.collect();
        dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    };
    let name = format!("{}-{}.hlog", plain(&trial.target), plain(&trial.load.replace(" × ", "x")));
    report::write(out, &name, &report::interval_log(&trial.target, intervals))
}

/// Says what a reader of the table must not overlook.
fn warn(trials: &[Trial]) {
    if cfg!(debug_assertions) {
        say::note("note: this is a debug build of the generator: it measures itself");
    }
    for trial in trials {
        if trial.error_share() > 0.0 {
            let Trial { target, load, shed, unsent, lost, .. } = trial;
            say::note(&format!("note: {target}, {load}: shed {shed:?}, not sent {unsent}, lost {lost}"));
        }
    }
    if trials.iter().any(|trial| trial.generator.verdict != trial::Health::Fine) {
        say::note(
            "note: where the last column says full or late, the generator was at its own end: the server may do more \
             (give the generator more CPUs: --cpus)",
        );
    }
}
