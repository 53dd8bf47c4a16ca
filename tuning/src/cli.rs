//! The subcommands of `florin tune`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::apply::{self, Drift, Ground, Journal, JournalError, Mode, Report};
use crate::checks::{self, Status};
use crate::host::{self, Cpus, Facts, FactsError, Host};
use crate::knobs::Knob;
use crate::limits::{PLAN_BYTES_MAX, PLAN_PATIENCE};
use crate::plan::{self, Plan, PlanError, Request, Selection, Setting, Siblings, count};
use crate::show;

/// Where old values are kept unless told otherwise.
const JOURNAL: &str = "/run/florin-tune/journal";

/// Looks at this host, sets it up for florin, and takes that back
#[derive(Subcommand, Debug)]
pub enum TuneCommand {
    /// Draw the host: cores, caches, NICs, and which CPU does what
    Show(ShowArgs),
    /// Check everything that makes florin slow; the exit code is 1 where a check fails
    Check(CheckArgs),
    /// Say who would run where, and which settings would change
    Plan(PlanArgs),
    /// Write the plan's settings: the old values go to the journal first, and each is read back
    Apply(ApplyArgs),
    /// Say which applied settings no longer hold; the exit code is 1 where there is one
    Verify(VerifyArgs),
    /// Do that again and again, and say when something changes
    Watch(WatchArgs),
    /// Put back what the journal holds
    Revert(RevertArgs),
    /// Write down this host, as far as everybody may read it: for --root, and for whoever is to help
    Record(RecordArgs),
}

/// Which host.
#[derive(Args, Clone, Debug)]
pub struct Where {
    /// Look at DIR/sys and DIR/proc instead of this host, as `florin tune record` writes them
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

/// What placement is asked for.
#[derive(Args, Clone, Debug, Default)]
pub struct Wish {
    /// How many shards [default: those that run; else one for each core that does not keep house]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// A NIC that callers come by; again for more [default: every device that is up]
    #[arg(long = "nic", value_name = "NAME")]
    nics: Vec<String>,
    /// What becomes of the second hardware thread of a shard's core
    #[arg(long, value_enum, default_value_t)]
    siblings: Siblings,
    /// The shards' CPUs, instead of a choice
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
    /// The CPUs for everything else, instead of a choice
    #[arg(long, value_name = "LIST")]
    housekeeping_cpus: Option<Cpus>,
}

impl Wish {
    fn request(&self) -> Request {
        Request {
            shards: self.shards.map(usize::from),
            nics: self.nics.clone(),
            siblings: self.siblings,
            cpus: self.cpus.clone(),
            housekeeping: self.housekeeping_cpus.clone(),
        }
    }

    /// As asked for, or else as florin runs now.
    fn request_or_running(&self, host: &Host) -> Request {
        let mut request = self.request();
        if let (None, None, Some(running)) = (request.shards, &request.cpus, host.florin.first()) {
            let pinned = running.shards().filter(|(_, thread)| thread.cpus.len() == 1);
            let cpus: Cpus = pinned.filter_map(|(_, thread)| thread.cpus.first()).collect();
            if cpus.without(&host.allowed).is_empty() && !cpus.is_empty() {
                request.cpus = Some(cpus);
            }
        }
        request
    }
}

/// Which knobs may be turned.
#[derive(Args, Clone, Debug, Default)]
pub struct Knobs {
    /// Turn only these knobs
    #[arg(long, value_name = "KNOB,…", value_delimiter = ',')]
    only: Vec<Knob>,
    /// Turn these knobs as well, which cost something: isolation, c-states, busy-poll, swappiness
    #[arg(long, value_name = "KNOB,…", value_delimiter = ',')]
    with: Vec<Knob>,
    /// Leave these knobs alone
    #[arg(long, value_name = "KNOB,…", value_delimiter = ',')]
    without: Vec<Knob>,
}

impl Knobs {
    fn selection(&self) -> Selection {
        Selection { only: self.only.clone(), with: self.with.clone(), without: self.without.clone() }
    }
}

/// Flags of `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    wish: Wish,
    /// As an SVG picture
    #[arg(long)]
    svg: bool,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    wish: Wish,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    knobs: Knobs,
    /// As JSON, for `apply --plan`
    #[arg(long, group = "form")]
    json: bool,
    /// As a shell script
    #[arg(long, group = "form")]
    shell: bool,
    /// As drop-ins for systemd
    #[arg(long, group = "form")]
    systemd: bool,
    /// Write the drop-ins below this directory, /etc/systemd/system on a live host
    #[arg(long, value_name = "DIR", requires = "systemd")]
    out: Option<PathBuf>,
}

/// Flags of `apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    knobs: Knobs,
    /// A plan that `plan --json` has written, instead of one that is made now
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shards", "cpus", "nics", "only", "with", "without"])]
    plan: Option<PathBuf>,
    /// Change files below /proc and /sys even in a container, where many of them are its host's
    #[arg(long)]
    allow_container: bool,
    #[command(flatten)]
    change: Change,
}

/// What changes a host takes.
#[derive(Args, Clone, Debug)]
pub struct Change {
    /// Where old values are kept
    #[arg(long, value_name = "FILE", default_value = JOURNAL)]
    journal: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Change {
    fn mode(&self) -> Mode {
        if self.dry_run { Mode::DryRun } else { Mode::Real }
    }
}

/// Flags of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    at: Where,
    /// What was applied
    #[arg(long, value_name = "FILE", default_value = JOURNAL)]
    journal: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Flags of `watch`.
#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    at: Where,
    /// What was applied
    #[arg(long, value_name = "FILE", default_value = JOURNAL)]
    journal: PathBuf,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How many looks [default: until it is ended]
    #[arg(long, value_name = "N")]
    times: Option<u64>,
}

/// Flags of `revert`.
#[derive(Args, Debug)]
pub struct RevertArgs {
    #[command(flatten)]
    at: Where,
    #[command(flatten)]
    change: Change,
}

/// Flags of `record`.
#[derive(Args, Debug)]
pub struct RecordArgs {
    #[command(flatten)]
    at: Where,
    /// A new folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Why a command of `florin tune` did not do what it was told, or what it found; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The host.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file that was named.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
    /// Checks have failed.
    #[error("{}: each says above how to set it right", if *failed == 1 { "1 check fails".to_owned() } else { format!("{failed} checks fail") })]
    ChecksFail {
        /// How many.
        failed: usize,
    },
    /// What lies below `/proc` and `/sys` may be somebody else's.
    #[error(
        "this is a container ({evidence}), and much of /proc and /sys in it is its host's, interrupts among it: run \
         florin tune on the host, or give --allow-container"
    )]
    Container {
        /// How that is known.
        evidence: String,
    },
    /// Some settings did not take.
    #[error("not made: {}, for the reason that each line above gives; all others hold", count(*failed, "setting"))]
    NotAllApplied {
        /// How many.
        failed: usize,
    },
    /// Some settings no longer hold.
    #[error(
        "no longer as applied: {}, named above; something else sets it, or the host was changed: apply again",
        count(*drifted, "setting")
    )]
    Drifted {
        /// How many.
        drifted: usize,
    },
}

/// Does what the command line says, and prints to `out`.
pub fn run(command: &TuneCommand, out: &mut dyn Write) -> Result<(), TuneError> {
    match command {
        TuneCommand::Show(args) => run_show(args, out),
        TuneCommand::Check(args) => run_check(args, out),
        TuneCommand::Plan(args) => run_plan(args, out),
        TuneCommand::Apply(args) => run_apply(args, out),
        TuneCommand::Verify(args) => run_verify(args, out),
        TuneCommand::Watch(args) => run_watch(args, out),
        TuneCommand::Revert(args) => run_revert(args, out),
        TuneCommand::Record(args) => {
            let facts = Facts::gather(&args.at.root)?;
            facts.write(&args.folder)?;
            writeln!(out, "{} in {}", count(facts.len(), "file"), args.folder.display())?;
            Ok(())
        }
    }
}

fn run_show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::look(&args.at.root)?;
    let placement = plan::place(&host, &args.wish.request_or_running(&host))?;
    let picture = if args.svg { show::svg(&host, &placement) } else { show::terminal(&host, &placement) };
    Ok(out.write_all(picture.as_bytes())?)
}

fn run_check(args: &CheckArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::look(&args.at.root)?;
    let everything = Selection { with: Knob::ALL.to_vec(), ..Selection::default() };
    let plan = Plan::make(&host, &args.wish.request_or_running(&host), &everything)?;
    let checks = checks::checks(&host, &plan);
    if args.json {
        json(out, &checks)?;
    } else {
        out.write_all(checks::render(&checks).as_bytes())?;
    }
    match checks.iter().filter(|check| check.status == Status::Fail).count() {
        0 => Ok(()),
        failed => Err(TuneError::ChecksFail { failed }),
    }
}

fn run_plan(args: &PlanArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::look(&args.at.root)?;
    let plan = Plan::make(&host, &args.wish.request(), &args.knobs.selection())?;
    if args.json {
        writeln!(out, "{}", plan.to_json())?;
    } else if args.shell {
        out.write_all(plan::shell(&plan).as_bytes())?;
    } else if args.systemd {
        return drop_ins(&plan, args.out.as_deref(), out);
    } else {
        out.write_all(plan::readable(&plan).as_bytes())?;
    }
    Ok(())
}

fn drop_ins(plan: &Plan, folder: Option<&Path>, out: &mut dyn Write) -> Result<(), TuneError> {
    for unit in plan::systemd(plan) {
        match folder {
            None => writeln!(out, "# /etc/systemd/system/{}\n{}", unit.path, unit.text)?,
            Some(folder) => {
                let path = folder.join(&unit.path);
                let parent = path.parent().unwrap_or(folder);
                fs::create_dir_all(parent)
                    .and_then(|()| fs::write(&path, &unit.text))
                    .map_err(|source| TuneError::File { path: path.clone(), source })?;
                writeln!(out, "wrote {}", path.display())?;
            }
        }
    }
    Ok(())
}

fn run_apply(args: &ApplyArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::look(&args.at.root)?;
    let plan = match &args.plan {
        None => Plan::make(&host, &args.wish.request(), &args.knobs.selection())?,
        Some(path) => {
            let text = florin_input::read_text(path, PLAN_BYTES_MAX, PLAN_PATIENCE)
                .map_err(|source| TuneError::File { path: path.clone(), source })?;
            Plan::from_json(&path.display().to_string(), &text)?
        }
    };
    let ground = Ground { root: &args.at.root, irqs: &host.irqs };
    let reports = match args.change.mode() {
        // A rehearsal touches nothing, the journal neither.
        Mode::DryRun => apply::rehearse(ground, &plan.settings),
        Mode::Real => {
            if let Some(evidence) = host::container(&args.at.root).filter(|_| !args.allow_container) {
                return Err(TuneError::Container { evidence });
            }
            let mut journal = Journal::open(&args.change.journal, &boot(&host.facts))?;
            apply::apply(ground, &plan.settings, &mut journal)?
        }
    };
    report(&reports, args.change.json, out)
}

fn run_revert(args: &RevertArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let host = Host::of(Facts::gather_for_journal(&args.at.root)?);
    let journal = match Journal::open_existing(&args.change.journal, &boot(&host.facts)) {
        // It is as it should be then: a unit that is stopped after it has failed may say so once more.
        Err(missing @ JournalError::Missing(_)) => return Ok(writeln!(out, "{missing}")?),
        journal => journal?,
    };
    let ground = Ground { root: &args.at.root, irqs: &host.irqs };
    let reports = apply::revert(ground, journal, args.change.mode())?;
    report(&reports, args.change.json, out)
}

/// What of the settings that `florin tune apply` has made on this host is otherwise now; empty where all of it still holds.
///
/// # Errors
/// Where it has made none, or its journal or the host cannot be read.
pub fn drifts() -> Result<Vec<Drift>, TuneError> {
    Ok(verified(Path::new("/"), Path::new(JOURNAL))?.1)
}

/// What the journal has, and what of it is otherwise now.
fn verified(root: &Path, journal: &Path) -> Result<(Vec<Setting>, Vec<Drift>), TuneError> {
    let host = Host::of(Facts::gather_for_journal(root)?);
    let entries = Journal::read(journal, &boot(&host.facts))?;
    let drifts = apply::verify(Ground { root, irqs: &host.irqs }, &entries);
    Ok((entries, drifts))
}

fn run_verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let (entries, drifts) = verified(&args.at.root, &args.journal)?;
    if args.json {
        json(out, &drifts)?;
    } else {
        for drift in &drifts {
            writeln!(out, "{}", drift.line())?;
        }
        writeln!(
            out,
            "{} of {} still as applied",
            entries.len() - drifts.len(),
            count(entries.len(), "setting")
        )?;
    }
    drifted(&drifts)
}

fn run_watch(args: &WatchArgs, out: &mut dyn Write) -> Result<(), TuneError> {
    let mut known: Vec<Drift> = Vec::new();
    let mut look = 0;
    loop {
        look += 1;
        let (entries, drifts) = verified(&args.at.root, &args.journal)?;
        for drift in drifts.iter().filter(|drift| !known.contains(drift)) {
            writeln!(out, "{}", drift.line())?;
        }
        for back in known.iter().filter(|known| drifts.iter().all(|drift| drift.path != known.path)) {
            writeln!(out, "holds again: {}", back.path)?;
        }
        if look == 1 {
            writeln!(out, "watching {}", count(entries.len(), "setting"))?;
        }
        out.flush()?;
        known = drifts;
        if args.times.is_some_and(|times| look >= times) {
            return drifted(&known);
        }
        std::thread::sleep(Duration::from_secs(args.every));
    }
}

fn drifted(drifts: &[Drift]) -> Result<(), TuneError> {
    match drifts.len() {
        0 => Ok(()),
        drifted => Err(TuneError::Drifted { drifted }),
    }
}

fn report(reports: &[Report], as_json: bool, out: &mut dyn Write) -> Result<(), TuneError> {
    if as_json {
        json(out, reports)?;
    } else {
        for report in reports {
            writeln!(out, "{}", report.line())?;
        }
        if reports.is_empty() {
            writeln!(out, "nothing to change")?;
        }
    }
    match reports.iter().filter(|report| report.outcome.is_failure()).count() {
        0 => Ok(()),
        failed => Err(TuneError::NotAllApplied { failed }),
    }
}

fn json<T: serde::Serialize + ?Sized>(out: &mut dyn Write, value: &T) -> Result<(), TuneError> {
    let text = serde_json::to_string_pretty(value).expect("reports have only texts");
    Ok(writeln!(out, "{text}")?)
}

/// Which run of the host this is: what was written goes with it.
fn boot(facts: &Facts) -> String {
    facts.get("proc/sys/kernel/random/boot_id").unwrap_or("recorded").to_owned()
}
