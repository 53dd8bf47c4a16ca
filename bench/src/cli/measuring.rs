//! What all commands that measure do alike: servers and users are made, a trial is run and shown, results are written.

use std::path::Path;

use super::{
    args::Common,
    error::CliError,
    progress::Progress,
    say,
    setup::{Asked, set_up},
};
use crate::{
    campaign::Campaign,
    environment::Environment,
    generator::{Load, Settings},
    limits,
    report::{self, Report, ReportError},
    targets::{Bench, Target, TargetSpec},
    trial::{self, Measured, Trial},
};

pub(super) fn one(
    target: &Target,
    load: Load,
    settings: &Settings,
    progress: &Progress,
) -> Result<Measured, CliError> {
    let name = format!("{}, {load}", target.label);
    progress.say(&*name);
    let measured =
        trial::measure(target, load, settings, &mut |rate| progress.say(format!("{name}: {rate:.0}/s")))?;
    progress.advance();
    Ok(measured)
}

/// Starts all targets; they sleep until it is their turn.
pub(super) fn start_all(
    specs: &[TargetSpec],
    bench: &Bench,
    progress: &Progress,
) -> Result<Vec<Target>, CliError> {
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
pub(super) fn prepare(common: &Common, specs: &[TargetSpec]) -> Result<(Bench, Settings), CliError> {
    let asked = Asked {
        mix: common.mix.clone(),
        value_bytes: common.value_bytes,
        warmup: common.warmup,
        duration: common.duration,
        keys_drawn: limits::KEYS_DRAWN,
    };
    set_up(&common.setup, specs, asked)
}

/// A report without results.
pub(super) fn report(bench: &Bench, settings: &Settings) -> Report {
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

/// Writes what a campaign has found, where that was asked for.
pub(super) fn write_out(common: &Common, campaign: &Campaign, report: &Report) -> Result<(), CliError> {
    let Some(out) = &common.out else { return Ok(()) };
    for cell in campaign.cells().iter().flatten() {
        write_log(out, &cell.trials[0], &cell.intervals)?;
    }
    Ok(report.write(out)?)
}

pub(super) fn write_log(
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
pub(super) fn warn(trials: &[Trial]) {
    if cfg!(debug_assertions) {
        say::note("note: this is a debug build of the generator: it measures itself");
    }
    for trial in trials {
        if trial.error_share() > 0.0 {
            let Trial { target, load, shed, unsent, lost, .. } = trial;
            say::note(&format!("note: {target}, {load}: shed {shed:?}, not sent {unsent}, lost {lost}"));
        }
    }
    for line in trials.iter().filter_map(Trial::divided) {
        say::note(&format!("nodes: {line}"));
    }
    for line in trials.iter().filter_map(Trial::disturbance) {
        say::note(&format!("note: disturbed: {line}"));
    }
    if trials.iter().any(|trial| trial.generator.verdict != trial::Health::Fine) {
        say::note(
            "note: where the last column says full or late, the generator was at its own end: the server may do more \
             (give the generator more CPUs: --cpus)",
        );
    }
}
