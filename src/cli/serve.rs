//! `florin serve`: a node until a signal ends it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::CliError;
use super::output::{grouped, say};
use super::service::{EndSignals, Running, Service, ServiceError, runtime};
use super::settings::Settings;
use crate::admin::View;

/// How often the log's "ready" looks whether it may be said.
const READY_POLL: Duration = Duration::from_millis(10);

/// What `florin serve --help` ends with; [`CliError::exit_code`] and the README say the same.
pub(super) const EXIT_CODES: &str = "\
Signals:
  SIGTERM and SIGINT drain: no new connections, an answer to everything that has arrived, at most 10 seconds;
  then the exit code is 0. A second one ends the process at once.

Exit codes:
   0  ended by a signal
   1  a failure that is none of these
   2  flags or configuration
  10  the kernel is older than 6.1
  11  io_uring is forbidden (kernel.io_uring_disabled, seccomp)
  12  not enough lockable memory (ulimit -l, LimitMEMLOCK=)
  13  a port or the unix socket is taken
  14  fewer CPUs than --shards
  15  the ledger does not exist
  16  the ledger is locked
  17  the ledger's file is no ledger, or one of another schema
  18  an address or path cannot be listened on";

/// Flags of `florin serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// A TOML file with the names below as keys; a flag wins over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs `florin serve`.
pub(super) fn run(args: ServeArgs) -> Result<(), CliError> {
    let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let settings = args.settings.or(file).effective()?;
    log_to_stderr(&settings.log);
    let started = Instant::now();
    let service = Service::start(settings)?;
    say(&service.describe());
    runtime()?.block_on(async {
        let signals = EndSignals::listen()?;
        let running = service.run()?;
        tokio::spawn(report_ready(Arc::clone(&running.view), started));
        until_ended(running, signals).await
    })?;
    Ok(())
}

async fn until_ended(mut running: Running, mut signals: EndSignals) -> Result<(), ServiceError> {
    let outcome = tokio::select! {
        outcome = running.node_ended() => outcome,
        (name, _) = signals.next() => {
            info!("{name}: draining; a second signal ends at once");
            running.drain();
            tokio::select! {
                outcome = running.node_ended() => outcome,
                (name, number) = signals.next() => {
                    warn!("{name} again: ending at once");
                    // What a shell reports of a process that a signal has killed.
                    std::process::exit(128 + number);
                }
            }
        }
    };
    running.end().await;
    outcome
}

async fn report_ready(view: Arc<View>, started: Instant) {
    while !view.readiness().ready {
        tokio::time::sleep(READY_POLL).await;
    }
    let accounts: u64 = view.shards.iter().map(|shard| shard.metrics.accounts.get()).sum();
    say(&format!(
        "ready: {} accounts, {:.1} s after the start",
        grouped(accounts),
        started.elapsed().as_secs_f64()
    ));
}

/// Sends the log to standard error. A second call changes nothing.
pub(super) fn log_to_stderr(filter: &str) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = subscriber.try_init();
}
