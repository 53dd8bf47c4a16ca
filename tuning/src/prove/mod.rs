//! What a knob is worth on this host: florin-bench without it and with it, in turn, and a verdict with numbers.

mod verdict;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde::Deserialize;

pub use verdict::{Measured, Verdict, judge};

use crate::apply::{self, Journal};
use crate::cli::{TuneError, Where, Wish, boot};
use crate::host::Host;
use crate::knobs::Knob;
use crate::plan::{Plan, Selection, Setting};

/// Flags of `florin tune prove`.
#[derive(Args, Debug)]
pub struct ProveArgs {
    /// Which
    #[arg(value_name = "KNOB")]
    knob: Knob,
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    wish: Wish,
    /// The load generator [default: `florin-bench` beside this binary]
    #[arg(long, value_name = "PATH")]
    bench: Option<PathBuf>,
    /// Times that each side is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..))]
    rounds: u16,
    /// Where old values are kept meanwhile
    #[arg(long, value_name = "FILE", default_value = "/run/florin-tune/prove.journal")]
    journal: PathBuf,
    /// What `florin-bench run` is told, after -- [default: --target florin --load 64x32 --duration 5]
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// Why there is no verdict, besides what any command may meet. The host is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Somebody was interrupted.
    #[error("{} holds what an earlier proof has not undone: florin tune revert --journal {}", .0.display(), .0.display())]
    Unfinished(PathBuf),
    /// The host has it already, or has no such thing.
    #[error("{0} changes nothing on this host: it is set already, or the host has no such file; see {page}", page = .0.page())]
    NothingToChange(Knob),
    /// It takes a reboot.
    #[error("{0} takes a reboot: measure before and after it with florin-bench; see {page}", page = .0.page())]
    NeedsReboot(Knob),
    /// The host refuses.
    #[error("a setting was refused, and nothing was measured with it: {0}")]
    Refused(String),
    /// A value was not restored.
    #[error("the old value was not restored: {line}; florin tune revert --journal {} tries again", journal.display())]
    NotRestored {
        /// What and why.
        line: String,
        /// Where the old value is.
        journal: PathBuf,
    },
    /// No bench.
    #[error("cannot run {}: {source}; build florin-bench, or name it with --bench", path.display())]
    Bench {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It found something wrong.
    #[error("florin-bench has failed: {0}")]
    BenchFailed(String),
}

/// What of florin-bench's report is looked at.
#[derive(Deserialize)]
struct BenchReport {
    trials: Vec<Trial>,
}

#[derive(Deserialize)]
struct Trial {
    rate: f64,
    latency: Latency,
}

#[derive(Deserialize)]
struct Latency {
    p99_ns: f64,
}

/// Runs `florin tune prove`.
pub(crate) fn run(args: &ProveArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::look(&args.at.root)?;
    let only = Selection { only: vec![args.knob], ..Selection::default() };
    let plan = Plan::make(&host, &args.wish.request(), &only)?;
    if plan.settings.is_empty() {
        return Err(ProveError::NothingToChange(args.knob).into());
    }
    if plan.settings.iter().any(Setting::is_of_boot) {
        return Err(ProveError::NeedsReboot(args.knob).into());
    }
    if args.journal.exists() {
        return Err(ProveError::Unfinished(args.journal.clone()).into());
    }
    let trial = Proof { args, settings: &plan.settings, boot: boot(&host.facts) };
    let mut pairs = Vec::new();
    for round in 0..args.rounds {
        // Who is first changes, so that what drifts on the host drifts for both.
        let pair = if round % 2 == 0 {
            let without = trial.measure()?;
            Pair { without, with: trial.measure_with()? }
        } else {
            let with = trial.measure_with()?;
            Pair { without: trial.measure()?, with }
        };
        writeln!(out, "round {}: without {}, with {}", round + 1, pair.without.words(), pair.with.words())?;
        out.flush()?;
        pairs.push((pair.without, pair.with));
    }
    let verdict = judge(&pairs);
    writeln!(out, "{}: {verdict}", args.knob)?;
    Ok(())
}

struct Pair {
    without: Measured,
    with: Measured,
}

struct Proof<'a> {
    args: &'a ProveArgs,
    settings: &'a [Setting],
    boot: String,
}

impl Proof<'_> {
    /// With the knob turned, and turned back whatever happens.
    fn measure_with(&self) -> Result<Measured, TuneError> {
        let (root, path) = (&self.args.at.root, &self.args.journal);
        let mut journal = Journal::open(path, &self.boot)?;
        let reports = apply::apply(root, self.settings, &mut journal)?;
        let refused = reports.iter().find(|report| report.outcome.is_failure());
        let measured = match refused {
            Some(report) => Err(ProveError::Refused(report.line()).into()),
            None => self.measure(),
        };
        let restored = apply::revert(root, journal, apply::Mode::Real)?;
        if let Some(report) = restored.iter().find(|report| report.outcome.is_failure()) {
            return Err(ProveError::NotRestored { line: report.line(), journal: path.clone() }.into());
        }
        measured
    }

    fn measure(&self) -> Result<Measured, TuneError> {
        let bench = self.args.bench.clone().unwrap_or_else(beside_this_binary);
        let folder =
            tempfile::tempdir().map_err(|source| TuneError::File { path: std::env::temp_dir(), source })?;
        let mut command = Command::new(&bench);
        command.arg("run");
        if self.args.flags.is_empty() {
            command.args(["--target", "florin", "--load", "64x32", "--duration", "5"]);
        } else {
            command.args(&self.args.flags);
        }
        let output = command.arg("--out").arg(folder.path()).output();
        let output = output.map_err(|source| ProveError::Bench { path: bench, source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ProveError::BenchFailed(said).into());
        }
        Ok(read_report(&folder.path().join("report.json"))?)
    }
}

fn beside_this_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("florin-bench")
}

fn read_report(path: &Path) -> Result<Measured, ProveError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ProveError::BenchFailed(format!("it wrote no {}: {error}", path.display())))?;
    let report: BenchReport = serde_json::from_str(&text).map_err(|error| {
        ProveError::BenchFailed(format!("its report is another one than expected: {error}"))
    })?;
    let trial = report.trials.first();
    let trial = trial.ok_or_else(|| ProveError::BenchFailed("its report holds no trial".to_owned()))?;
    Ok(Measured { rate: trial.rate, p99_us: trial.latency.p99_ns / 1_000.0 })
}
