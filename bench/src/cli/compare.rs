//! `florin-bench compare`.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    error::CliError,
    flags::{LoadSpec, not_negative, positive, seconds},
    progress::Progress,
    say,
    setup::{Asked, Setup, set_up},
};
use crate::limits::{COMPARE_KEYS_DRAWN, LINE_EVERY};
use crate::{
    climb::Ladder,
    compare::{
        Terms,
        callers::{Caller, CallerLoad},
        findings::Findings,
        journal::Journal,
        run::{Comparison, Ended, RunError, Watcher},
    },
    environment::Environment,
    generator::Settings,
    ramp::Objective,
    targets::{Bench, SpecError, TargetSpec},
    work::{Kind, Mix},
};

#[derive(Args, Debug)]
pub(super) struct CompareArgs {
    /// What to load, as in `run`: first the server that might be replaced, then at least one that might replace it
    #[arg(long = "target", value_name = "TARGET", required = true)]
    targets: Vec<TargetText>,
    /// What is asked: balance, statistics or batch:N; each is compared by itself
    #[arg(long = "endpoint", value_name = "KIND", default_values = ["balance", "statistics", "batch:64"])]
    endpoints: Vec<Kind>,
    /// Connections, and questions in flight on each at most; further ones wait in the generator, and their time counts
    #[arg(long, value_name = "CxD", default_value = "256x1")]
    load: LoadSpec,
    /// The objective: 99th percentile, in ms
    #[arg(long, value_name = "MS", default_value_t = 5.0, value_parser = positive)]
    p99_ms: f64,
    /// The objective: errors, in % of what was due
    #[arg(long, value_name = "%", default_value_t = 0.01, value_parser = not_negative)]
    errors: f64,
    /// The first rate of the first climb
    #[arg(long, value_name = "RATE", default_value_t = 2_000.0, value_parser = positive)]
    from: f64,
    /// No rate above this
    #[arg(long, value_name = "RATE", default_value_t = 2_000_000.0, value_parser = positive)]
    to: f64,
    /// How precise a knee is, in %
    #[arg(long, value_name = "%", default_value_t = 2.5, value_parser = positive)]
    precision: f64,
    /// How often each server's knee is climbed to; with less than 4, no difference can be told from chance
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=30))]
    climbs: u32,
    /// How often each server is measured where the first is at --case-cpu, and with each caller
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=30))]
    rounds: u32,
    /// All servers are compared at the load at which the first is so busy, in % of one CPU
    #[arg(long, value_name = "%", default_value_t = 78.0, value_parser = positive)]
    case_cpu: f64,
    /// The program of bench/caller: compare too what asking the first and the last server costs a Go service, with net/http
    /// and with florin's client
    #[arg(long, value_name = "PATH")]
    caller: Option<PathBuf>,
    /// How much the caller asks: GOROUTINES@RATE, or GOROUTINES for as fast as answers come; again for more
    #[arg(long = "caller-load", value_name = "G[@RATE]", default_values = ["256@20000", "256"])]
    caller_loads: Vec<CallerLoad>,
    /// Seconds before each measured window
    #[arg(long, value_name = "SECONDS", default_value = "0.25", value_parser = seconds)]
    warmup: Duration,
    /// Seconds of each measured window
    #[arg(long, value_name = "SECONDS", default_value = "1.25", value_parser = seconds)]
    duration: Duration,
    /// Where compare.json, compare.html and compare.md are written, and the journal, by which the same command goes on
    /// where it was interrupted
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    out: PathBuf,
    /// Begin anew, whatever the directory holds
    #[arg(long)]
    fresh: bool,
    /// Measure for about so many seconds, then stop; the same command goes on
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    at_most: Option<Duration>,
    #[command(flatten)]
    setup: Setup,
}

/// A target, and how it was written.
#[derive(Clone, Debug)]
struct TargetText {
    text: String,
    spec: TargetSpec,
}

impl FromStr for TargetText {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<TargetText, SpecError> {
        Ok(TargetText { text: text.to_owned(), spec: text.parse()? })
    }
}

/// Measures what is missing, and writes what is known.
pub(super) fn run(args: &CompareArgs) -> Result<(), CliError> {
    if args.targets.len() < 2 {
        return Err(CliError::Usage("a comparison needs two servers: give --target twice".to_owned()));
    }
    let asked = Asked {
        mix: Mix::only(args.endpoints[0]),
        value_bytes: None,
        warmup: args.warmup,
        duration: args.duration,
        keys_drawn: COMPARE_KEYS_DRAWN,
    };
    let specs: Vec<TargetSpec> = args.targets.iter().map(|target| target.spec.clone()).collect();
    let (bench, settings) = set_up(&args.setup, &specs, asked)?;
    let terms = terms(args, &specs, &bench, &settings)?;
    if args.fresh {
        Journal::discard(&args.out).map_err(RunError::Journal)?;
    }
    let caller = args.caller.clone().map(|program| Caller::new(program, &settings.population, &terms));
    let plan = Comparison {
        terms,
        specs,
        kinds: args.endpoints.clone(),
        arrivals: args.setup.arrivals,
        bench,
        settings,
        caller: caller.transpose().map_err(RunError::Caller)?,
    };
    let environment = Environment::look();
    let mut shown = Shown { progress: Progress::new(1), since: Instant::now(), first: None };
    let (journal, ended) = plan.run(&args.out, args.at_most, &mut shown)?;
    drop(shown);
    let findings = Findings::of(&plan.terms, journal.records(), environment, ended == Ended::Complete);
    findings.write(&args.out)?;
    say::result(&findings.summary());
    if cfg!(debug_assertions) {
        say::note("note: this is a debug build of the generator: it measures itself");
    }
    findings.warnings().iter().for_each(|warning| say::note(&format!("note: {warning}")));
    if ended == Ended::OutOfTime {
        say::note("note: the time is up; the same command goes on from here");
    }
    say::note(&format!("written: {}", args.out.join("compare.html").display()));
    Ok(())
}

fn terms(
    args: &CompareArgs,
    specs: &[TargetSpec],
    bench: &Bench,
    settings: &Settings,
) -> Result<Terms, CliError> {
    let LoadSpec { connections, depth, rate: None } = args.load else {
        return Err(CliError::Usage("--load of a comparison has no rate: the climbs choose it".to_owned()));
    };
    let mut programs = Vec::new();
    for spec in specs.iter().filter(|spec| spec.address.is_none()) {
        programs.push(fingerprint(spec.binary.as_deref().unwrap_or(&bench.florin))?);
    }
    if let Some(caller) = &args.caller {
        programs.push(fingerprint(caller)?);
    }
    Ok(Terms {
        targets: args.targets.iter().map(|target| target.text.clone()).collect(),
        labels: specs.iter().map(TargetSpec::label).collect(),
        programs,
        endpoints: args.endpoints.iter().map(Kind::to_string).collect(),
        objective: Objective { p99_max_ns: (args.p99_ms * 1e6) as u64, error_share_max: args.errors / 100.0 },
        ladder: Ladder { from: args.from, rung_percent: args.precision, to: args.to.max(args.from) },
        climbs: args.climbs,
        rounds: args.rounds,
        case_cpu: args.case_cpu / 100.0,
        connections,
        depth,
        callers: if args.caller.is_some() { args.caller_loads.clone() } else { Vec::new() },
        warmup_seconds: args.warmup.as_secs_f64(),
        seconds: args.duration.as_secs_f64(),
        keys: settings.work.keys.to_string(),
        seed: settings.work.seed,
        arrivals: args.setup.arrivals.to_string(),
        users: settings.population.users().len(),
        ledger: ledger(bench),
        server_cpus: bench.server_cpus.clone(),
        generator_cpus: settings.cpus.clone(),
    })
}

/// As a journal has it, to be told from another: without what differs from run to run.
fn ledger(bench: &Bench) -> String {
    let path = bench.ledger.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    if bench.postgres.is_some() { format!("{path}, in a PostgreSQL") } else { path }
}

/// A program's path, length and hash.
fn fingerprint(program: &Path) -> Result<String, CliError> {
    let bytes = fs::read(program).map_err(|error| {
        CliError::Usage(format!("cannot read the program {}: {error}; has it been built?", program.display()))
    })?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(format!("{} ({} bytes, {:016x})", program.display(), bytes.len(), hasher.finish()))
}

/// Progress on a terminal.
struct Shown {
    progress: Progress,
    since: Instant,
    /// How many there were in the journal already.
    first: Option<u64>,
}

impl Watcher for Shown {
    fn begins(&mut self, what: &str) {
        self.progress.say(what);
    }

    fn rate(&mut self, what: &str, rate: f64) {
        self.progress.say(format!("{what}: {rate:.0}/s served"));
    }

    fn done(&mut self, done: u64, of_about: u64) {
        let first = *self.first.get_or_insert(done);
        self.progress.at(done, of_about);
        if done.is_multiple_of(LINE_EVERY) {
            self.progress.log(&format!("{done} of about {of_about} measurements"));
        }
        if done > first {
            let each = self.since.elapsed() / (done - first).try_into().unwrap_or(u32::MAX);
            let left = each * (of_about - done).try_into().unwrap_or(u32::MAX);
            self.progress.left(left);
        }
    }
}
