//! `florin shadow`: compares a candidate with the service that it is to replace, on live traffic.

use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use florin_shadow::{
    Config, ConfigError, CutoverError, FormatError, Outcome, RECORD_FILE_BYTES, RECORD_FILES, RecordSettings,
    RecorderError, Redaction, ReplaySettings, Settings, Shadow, ShadowError, Share, ShareError, Speed,
    Summary, TargetAddress, Verdict, begin_at, run_replay,
};

use super::log::log_to_stderr;
use super::output::say;
use super::service::{EndSignals, ServiceError, runtime};
use super::settings::LogFormat;
use super::systemd::{feed_watchdog, inherited_sockets, keep_socket, tell_ready, tell_stopping};
use crate::numbers::grouped;

/// What `florin shadow --help` ends with.
pub(super) const AFTER_HELP: &str = "\
The primary's answers go back byte for byte, whatever the candidate does. Only requests that read are mirrored: GET, HEAD \
and POST /v1/balances:batchGet. SIGTERM and SIGINT drain, write the report, and end with a verdict; a second one ends at once. \
docs/shadow.md says what the verdicts mean, and what a configuration file may hold.

Exit codes:
   0  consistent and complete: everything was compared, and the candidate answers the same
   1  a failure that is none of these
   2  flags or configuration
  13  a port is taken
  18  an address cannot be listened on
  20  not consistent: mismatches, errors of the candidate, or too many requests that were not comparable
  21  consistent as far as it was compared, but not complete: some of it was not compared, or was only ever refused
  22  consistent and complete, but it was little: fewer answers or users than the configuration's [enough]
  23  consistent and complete, but unproven: of more than unproven-max of the requests nobody has seen whether what the candidate \
said at first was ever true, or both sides say themselves that transactions are missing
  24  consistent, but the recording that was replayed is cut or damaged: what it still holds was compared
  25  consistent as far as it was compared, but the candidate or the primary could not be reached";

/// Flags of `florin shadow`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ShadowArgs {
    #[command(subcommand)]
    command: Option<ShadowCommand>,
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// What else a shadow does.
#[derive(Subcommand, Debug)]
enum ShadowCommand {
    /// Pass callers on to the primary, and write what they ask to a file
    Record(RecordArgs),
    /// Ask two targets what was recorded, and compare their answers
    #[command(after_help = "Exit codes are those of florin shadow.")]
    Replay(ReplayArgs),
}

#[derive(Args, Debug)]
struct ProxyArgs {
    /// Where callers connect; port 0 picks one and prints it
    #[arg(long, value_name = "HOST:PORT", required = true)]
    listen: Option<SocketAddr>,
    /// Whose answers callers get
    #[arg(long, value_name = "http://HOST:PORT", value_parser = http, required = true)]
    primary: Option<String>,
    /// Who is to take over: florin:// asks in frames with rkyv bodies, or FlatBuffers with ?encoding=flatbuffers
    #[arg(long, value_name = "florin://HOST:PORT|http://HOST:PORT", required = true)]
    candidate: Option<TargetAddress>,
    /// Begin at this time, in RFC 3339, instead of the host's: to rehearse the end of an hour or a day
    #[arg(long, value_name = "TIME")]
    now: Option<jiff::Timestamp>,
    /// The candidate's share of callers, by a hash of the user: candidate=5%. The admin port changes it
    #[arg(long, value_name = "candidate=N%", value_parser = serve)]
    serve: Option<Share>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
struct CommonArgs {
    /// Where the live page, GET /v1/shadow and /metrics are; port 0 picks one and prints it
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// A folder for verdict.json, mismatches.jsonl and report.html
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Rules, budgets and cutover, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// User ids in pages and reports become keyed hashes; the key is random, or the configuration's redact.key-file
    #[arg(long)]
    redact: bool,
    /// What goes to standard error: off, error, warn, info, debug, or a filter
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Args, Debug)]
struct RecordArgs {
    /// The file. When it is full, it becomes FILE.1 and another begins
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where callers connect; port 0 picks one and prints it
    #[arg(long, value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Whose answers callers get
    #[arg(long, value_name = "http://HOST:PORT", value_parser = http)]
    primary: String,
    /// How large one file may become
    #[arg(long, value_name = "MIB", default_value_t = RECORD_FILE_BYTES >> 20, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    file_mib: u64,
    /// How many files there may be; the oldest goes when another begins
    #[arg(long, value_name = "N", default_value_t = RECORD_FILES as u64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    files: u64,
    /// Rules about which requests are left out, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What goes to standard error: off, error, warn, info, debug, or a filter
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    /// Recordings, oldest first
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Whose answers are right
    #[arg(long, value_name = "florin://HOST:PORT|http://HOST:PORT")]
    primary: TargetAddress,
    /// Who is to take over
    #[arg(long, value_name = "florin://HOST:PORT|http://HOST:PORT")]
    candidate: TargetAddress,
    /// As it was recorded, so many times as fast, or as fast as both answer
    #[arg(long, value_name = "recorded|Nx|max", default_value = "max")]
    speed: Speed,
    /// A folder for verdict.json, mismatches.jsonl and report.html
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Rules and budgets, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// User ids in the report become keyed hashes
    #[arg(long)]
    redact: bool,
    /// What goes to standard error: off, error, warn, info, debug, or a filter
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Why there is no verdict, or one that is not good.
#[derive(Debug, thiserror::Error)]
pub enum ShadowCommandError {
    /// Neither flags nor a subcommand.
    #[error("give --listen, --primary and --candidate, or record or replay; florin shadow --help says more")]
    NothingToDo,
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It could not be done.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// Signals.
    #[error(transparent)]
    Signals(#[from] ServiceError),
    /// Not consistent.
    #[error("not consistent: {0}")]
    Inconsistent(String),
    /// Not complete.
    #[error("not complete: {0}")]
    Incomplete(String),
    /// Too little to mean much.
    #[error("little was proven: {0}")]
    Little(String),
    /// There was nobody to compare.
    #[error("could not be reached: {0}")]
    Unreachable(String),
    /// Of too much nobody knows whether it was right.
    #[error("unproven: {0}")]
    Unproven(String),
    /// What was replayed is not all that was recorded.
    #[error("{0}; what it still holds was compared: {1}")]
    RecordingCut(FormatError, String),
    /// Requests are missing in the recording.
    #[error(
        "{missing} requests are missing in the recording: too long, no HTTP that can be followed, or the disk was too slow"
    )]
    RecordingIncomplete {
        /// So many.
        missing: u64,
    },
}

impl ShadowCommandError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            ShadowCommandError::NothingToDo
            | ShadowCommandError::Config(_)
            | ShadowCommandError::Shadow(
                ShadowError::Cutover(CutoverError::Forgetful)
                | ShadowError::Record(RecorderError::Foreign { .. }),
            ) => 2,
            ShadowCommandError::Shadow(ShadowError::Listen { source, .. }) => match source.kind() {
                std::io::ErrorKind::AddrInUse => 13,
                _ => 18,
            },
            ShadowCommandError::Inconsistent(_) => 20,
            ShadowCommandError::Incomplete(_) | ShadowCommandError::RecordingIncomplete { .. } => 21,
            ShadowCommandError::Little(_) => 22,
            ShadowCommandError::Unproven(_) => 23,
            ShadowCommandError::RecordingCut(..) => 24,
            ShadowCommandError::Unreachable(_) => 25,
            ShadowCommandError::Shadow(_) | ShadowCommandError::Signals(_) => 1,
        }
    }
}

/// Runs `florin shadow`.
pub(super) fn run(args: ShadowArgs) -> Result<(), ShadowCommandError> {
    match args.command {
        Some(ShadowCommand::Record(args)) => record(args),
        Some(ShadowCommand::Replay(args)) => replay(args),
        None => proxy(args.proxy),
    }
}

fn proxy(args: ProxyArgs) -> Result<(), ShadowCommandError> {
    // Required where there is no subcommand, so clap has refused their absence.
    let (Some(listen), Some(primary), Some(candidate)) = (args.listen, args.primary, args.candidate) else {
        return Err(ShadowCommandError::NothingToDo);
    };
    log_to_stderr(&args.common.log, LogFormat::Text);
    let config = config(args.common.config.as_deref())?;
    let redaction = if args.common.redact { config.redaction() } else { Redaction::Shown };
    if let Some(now) = args.now {
        begin_at(now.as_microsecond());
    }
    let outcome = until_ended(Settings {
        listen,
        primary,
        candidate: Some(candidate),
        admin: args.common.admin,
        report: args.common.report,
        redaction,
        serve: args.serve.unwrap_or(Share::NONE),
        record: None,
        config,
    })?;
    judged(&outcome.summary)
}

fn record(args: RecordArgs) -> Result<(), ShadowCommandError> {
    log_to_stderr(&args.log, LogFormat::Text);
    let config = config(args.config.as_deref())?;
    let (file, files) = (args.file, usize::try_from(args.files).unwrap_or(usize::MAX));
    let settings = RecordSettings { file, file_bytes: args.file_mib << 20, files, kept: config.kept.clone() };
    let outcome = until_ended(Settings {
        listen: args.listen,
        primary: args.primary,
        candidate: None,
        admin: None,
        report: None,
        redaction: Redaction::Shown,
        serve: Share::NONE,
        record: Some(settings),
        config,
    })?;
    let Some(recorded) = outcome.recorded else { return Ok(()) };
    // Without a candidate nothing else is dropped than what never came to be recorded.
    match recorded.dropped + outcome.summary.verdicts.of(Verdict::Dropped) {
        0 => {
            say(&format!("recorded {} requests", grouped(recorded.written)));
            Ok(())
        }
        missing => Err(ShadowCommandError::RecordingIncomplete { missing }),
    }
}

fn replay(args: ReplayArgs) -> Result<(), ShadowCommandError> {
    log_to_stderr(&args.log, LogFormat::Text);
    let config = config(args.config.as_deref())?;
    let redaction = if args.redact { config.redaction() } else { Redaction::Shown };
    let in_flight_max = config.mirror.in_flight_max;
    let settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        primary: args.primary.to_string(),
        candidate: Some(args.candidate),
        admin: None,
        report: args.report,
        redaction,
        serve: Share::NONE,
        record: None,
        config,
    };
    let what = ReplaySettings { files: args.files, speed: args.speed, in_flight_max };
    let end = async {
        match EndSignals::listen() {
            Ok(mut signals) => drop(signals.next().await),
            Err(_) => pending().await,
        }
    };
    let outcome = run_replay(&settings, &args.primary, what, end)?;
    match outcome.damages.into_iter().next() {
        Some(damage) if outcome.summary.consistent => {
            Err(ShadowCommandError::RecordingCut(damage, outcome.summary.verdict))
        }
        _ => judged(&outcome.summary),
    }
}

/// Runs until a signal ends it.
fn until_ended(settings: Settings) -> Result<Outcome, ShadowCommandError> {
    // First of all: descriptors that were handed over are marked in the environment, which threads share.
    let inherited = inherited_sockets();
    let runtime = runtime()?;
    let mut signals = {
        let _entered = runtime.enter();
        EndSignals::listen()?
    };
    let listen = inherited.tcp(settings.listen).ok().and_then(|mut sockets| sockets.pop());
    let shadow =
        Shadow::start(settings, listen.map(TcpListener::from), |socket| keep_socket("listen", socket))?;
    let is_ending = Arc::new(AtomicBool::new(false));
    runtime.spawn(feed_watchdog(shadow.turns.clone(), Arc::clone(&is_ending)));
    let mut lines = vec![format!("florin shadow {}", env!("CARGO_PKG_VERSION"))];
    lines.push(format!("  listen     http://{}", shadow.listen));
    lines.extend(shadow.admin_address.map(|address| format!("  admin      http://{address}")));
    say(&lines.join("\n"));
    tell_ready();
    runtime.block_on(async {
        let (name, _) = signals.next().await;
        is_ending.store(true, Ordering::Relaxed);
        tell_stopping();
        tracing::info!("{name}: draining; a second signal ends at once");
        let ended = tokio::task::spawn_blocking(move || shadow.end());
        tokio::select! {
            outcome = ended => Ok(outcome.expect("ending a shadow does not panic")?),
            // What a shell reports of a process that a signal has killed.
            (_, number) = signals.next() => std::process::exit(128 + number),
        }
    })
}

fn config(file: Option<&std::path::Path>) -> Result<Config, ConfigError> {
    file.map_or_else(|| Ok(Config::defaults()), Config::read)
}

fn judged(summary: &Summary) -> Result<(), ShadowCommandError> {
    let words = summary.verdict.clone();
    match (summary.consistent, summary.complete) {
        (true, true) if summary.unproven.is_exceeded() => Err(ShadowCommandError::Unproven(words)),
        (true, true) if !summary.proven => Err(ShadowCommandError::Little(words)),
        (true, true) => {
            say(&words);
            Ok(())
        }
        (true, false) if summary.lacks_a_side() => Err(ShadowCommandError::Unreachable(words)),
        (true, false) => Err(ShadowCommandError::Incomplete(words)),
        (false, _) => Err(ShadowCommandError::Inconsistent(words)),
    }
}

fn http(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(TargetAddress::Http(authority)) => Ok(authority),
        _ => Err("expected http://HOST:PORT: callers of the primary speak HTTP".to_owned()),
    }
}

fn serve(text: &str) -> Result<Share, String> {
    let share = text
        .strip_prefix("candidate=")
        .ok_or_else(|| "expected candidate=N%, like candidate=5%".to_owned())?;
    share.parse().map_err(|error: ShareError| error.to_string())
}
