//! `florin serve`: a node until a signal ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tracing::{info, warn};

use super::CliError;
use super::log::log_to_stderr;
use super::output::say;
use super::reload::{Reload, hangups};
use super::service::{EndSignals, Running, Service, ServiceError, runtime};
use super::settings::{LogFilter, Settings};
use super::state::StateLog;
use super::systemd::{inherited_sockets, tell_systemd};
use crate::admin::View;
use crate::callers::Callers;
use crate::limits::{READY_LOOK, STATE_LOOK};
use crate::node::{Obstacle, SlowLog, numa};
use crate::numbers::counted;
use crate::threads::{Vital, spawn_vital_task};

/// What `florin serve --help` ends with; [`CliError::exit_code`] and docs/node.md say the same.
pub(super) const EXIT_CODES: &str = "\
Signals:
  SIGHUP reads the configuration again and takes over log and admin-host; what else has changed is named, and takes a restart. \
The principals are read again, and hold for connections that are there too; so are certificates and keys, for those to come.
  SIGTERM and SIGINT drain: no new connections, an answer to everything that has arrived, at most 10 seconds; \
then the exit code is 0. A second one ends the process at once. A node of --group drains once others have its users, and waits a \
minute at most for that.

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
  18  an address or path cannot be listened on
  19  the ledger has a second name (a hard link)
  20  this user may not do what reading the ledger takes (its folder, an interrupted write, a Kafka topic)
  21  the PostgreSQL or Kafka of the ledger cannot be reached, refuses, or has no such table or topic
  22  the folder of checkpoints is another node\'s, or cannot be written to
  23  other hosts would reach an address, and nobody has to prove who it is
  24  another node has this one's address, and its place in --group
 134  SIGABRT: a thread without which a node would lie or fall silent has panicked; the log says which, and why";

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
    let running = args.settings.clone().or(file).filled();
    // First of all: what is refused from here on is said as all else is.
    let filter = running.log.clone().map(|LogFilter(filter)| filter).unwrap_or_default();
    let log = log_to_stderr(&filter, running.log_format.unwrap_or_default());
    let mut settings = running.clone().effective()?;
    let callers = settings.principals.as_deref().map(Callers::open).transpose()?;
    settings.node.callers.clone_from(&callers);
    let started = Instant::now();
    let hosts = settings.admin_hosts.clone();
    let mut service = Service::start_on(settings, inherited_sockets())?;
    let control = service.node.control();
    let identities = service.node.tls().map(|tls| Arc::clone(&tls.identities));
    let audit_log = service.audit_log.as_ref().map(|(log, _)| log.clone());
    let (config, flags) = (args.config, args.settings);
    let reload = Reload { config, flags, running, log, hosts, callers, audit_log, control, identities };
    let runtime = runtime()?;
    // Who has read that it is started may end it, or have it read its files again.
    let (signals, hangups) = {
        let _entered = runtime.enter();
        (EndSignals::listen()?, hangups()?)
    };
    say(&service.describe());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        shards = service.view.shards.len(),
        "started: {}",
        service.view.driver
    );
    let slow = service.node.slow_log();
    runtime.block_on(async {
        spawn_vital_task(Vital::Reload, reload.on_hangup(hangups));
        let running = service.run()?;
        tell_systemd(Arc::clone(&running.view), running.control());
        spawn_vital_task(Vital::Readiness, report_state(Arc::clone(&running.view), started, slow));
        until_ended(running, signals).await
    })?;
    info!("ended: the shards have answered all that had come");
    Ok(())
}

async fn until_ended(mut running: Running, mut signals: EndSignals) -> Result<(), ServiceError> {
    let outcome = tokio::select! {
        outcome = running.node_ended() => outcome,
        (name, _) = signals.next() => {
            Vital::Control.at_work();
            info!("{name}: {}; a second signal ends at once", Obstacle::Draining);
            tokio::select! {
                outcome = running.save_and_end() => outcome,
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

/// Logs how the node is, in the words of `/readyz`, whenever that changes; and what was answered slowly.
async fn report_state(view: Arc<View>, started: Instant, mut slow: SlowLog) {
    let mut state = StateLog::default();
    let mut has_been_ready = false;
    loop {
        Vital::Readiness.at_work();
        let obstacles = view.obstacles();
        state.look(&obstacles);
        slow.look();
        if obstacles.is_empty() && !std::mem::replace(&mut has_been_ready, true) {
            let accounts: u64 = view.shards.iter().map(|shard| shard.metrics.accounts.get()).sum();
            say(&format!(
                "ready: {}, {:.1} s after the start",
                counted(accounts, "account"),
                started.elapsed().as_secs_f64()
            ));
            report_memory(&view);
        }
        tokio::time::sleep(if has_been_ready { STATE_LOOK } else { READY_LOOK }).await;
    }
}

/// On hosts with several NUMA nodes: where the memory is, and a warning where much of it is far from every shard.
fn report_memory(view: &View) {
    let nodes = numa::nodes();
    if nodes.len() < 2 {
        return;
    }
    let memory = numa::memory_by_node();
    let all: u64 = memory.values().sum();
    let shard_cpus: Vec<usize> = view.shards.iter().map(|shard| shard.cpu).collect();
    let far = numa::far_bytes(&memory, &nodes, &shard_cpus);
    let words: Vec<String> =
        memory.iter().map(|(node, bytes)| format!("{} MiB on node {node}", bytes >> 20)).collect();
    info!("memory: {}", words.join(", "));
    if far > all / 10 {
        warn!("{} MiB lie on nodes without a shard: was florin started under numactl?", far >> 20);
    }
}
