//! A run from its start to its verdict. Callers have threads of their own, each with a runtime of its own, so that a
//! relay never moves between threads; everything behind them shares one runtime of a lower priority.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::address::TargetAddress;
use crate::admin::{self, RunState};
use crate::budget::Budget;
use crate::config::Config;
use crate::cutover::{self, Cutover, CutoverError, DecisionFile, Share};
use crate::evidence::{
    ENDED, Evidence, EvidenceSettings, Redaction, Report, ReportError, ServeSummary, Summary,
};
use crate::judge::Sides;
use crate::limits::{
    ADMIN_END, BEHIND_NICE, BEHIND_THREADS_MAX, CALLER_THREADS_MAX, CALLERS_MAX, COPIES_BYTES_MAX,
    KEEP_EVERY, TURN,
};
use crate::mirror::{self, Comparer};
use crate::proxy::{self, Phase, ProxyContext, Timeouts};
use crate::record::{FormatError, RecordSettings, Recorded, Recorder, RecorderError, Recording};
use crate::replay::{ReplaySettings, replay};

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Whose answers they get: `host:port`.
    pub primary: String,
    /// Who is to take over; none where traffic is only recorded.
    pub candidate: Option<TargetAddress>,
    /// Where the admin port listens.
    pub admin: Option<SocketAddr>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// What is done to user ids in it.
    pub redaction: Redaction,
    /// The candidate's share of callers at the start.
    pub serve: Share,
    /// Where traffic is recorded.
    pub record: Option<RecordSettings>,
    /// Rules and budgets.
    pub config: Config,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// A port cannot be had.
    #[error(
        "cannot listen on {address}: {source}; end who has it (ss -ltnp names it), or give another {flag}"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Its flag.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The host gives no threads.
    #[error("cannot start the shadow's threads: {0}")]
    Threads(#[source] io::Error),
    /// The candidate's share cannot be what it is to be.
    #[error(transparent)]
    Cutover(#[from] CutoverError),
    /// The folder takes no report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The recording cannot be written.
    #[error(transparent)]
    Record(#[from] RecorderError),
    /// The recording cannot be read.
    #[error(transparent)]
    Replay(#[from] FormatError),
}

/// A run that takes callers.
pub struct Shadow {
    callers: Vec<thread::JoinHandle<()>>,
    background: Runtime,
    phase: watch::Sender<Phase>,
    mirror: Option<JoinHandle<()>>,
    recording: Option<Recording>,
    admin: Option<JoinHandle<io::Result<()>>>,
    admin_end: oneshot::Sender<()>,
    /// How often each thread that relays has turned, a few times a second.
    pub turns: Vec<Arc<AtomicU64>>,
    run_state: RunState,
    keeper: JoinHandle<()>,
    drain: Duration,
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Where the admin port listens.
    pub admin_address: Option<SocketAddr>,
}

/// What a run has come to.
#[derive(Debug)]
pub struct Outcome {
    /// The verdict.
    pub summary: Summary,
    /// Of the recording, where there was one.
    pub recorded: Option<Recorded>,
    /// What of the recordings that were replayed is not there.
    pub damages: Vec<FormatError>,
}

impl Shadow {
    /// Takes the ports. Callers are served when this returns, whether or not anybody else is there yet. A socket that was there before is
    /// taken over, and `keep` is told of it for the next start.
    ///
    /// # Errors
    /// Where a port, a folder or a thread cannot be had.
    pub fn start(
        settings: Settings,
        inherited: Option<std::net::TcpListener>,
        keep: impl FnOnce(BorrowedFd<'_>),
    ) -> Result<Shadow, ShadowError> {
        let behind_runtime = runtime("shadow-behind", threads(BEHIND_THREADS_MAX), BEHIND_NICE)?;
        let listener = match inherited {
            Some(listener) => taken_over(&behind_runtime, listener).map_err(ShadowError::Threads)?,
            None => bind(&behind_runtime, settings.listen, "--listen")?,
        };
        keep(listener.as_fd());
        let admin_listener =
            settings.admin.map(|address| bind(&behind_runtime, address, "--admin")).transpose()?;
        let listen = listener.local_addr().map_err(ShadowError::Threads)?;
        let admin_address = admin_listener.as_ref().map(TcpListener::local_addr).transpose();
        let admin_address = admin_address.map_err(ShadowError::Threads)?;

        let primary = TargetAddress::Http(settings.primary.clone());
        let candidate = settings.candidate.clone().unwrap_or_else(|| primary.clone());
        let evidence = evidence(&settings, &primary, &candidate)?;
        let kept = settings.report.as_deref().map(DecisionFile::within);
        let serve = settings.config.serve.clone();
        let cutover = Cutover::new(&candidate, serve, settings.serve, kept, Arc::clone(&evidence))?;
        let cutover = Arc::new(cutover);
        let (recorder, recording) = settings.record.map(Recorder::start).transpose()?.unzip();
        let _entered = behind_runtime.enter();
        let (mirror, mirror_task) = settings
            .candidate
            .is_some()
            .then(|| {
                let mirror = settings.config.mirror.clone();
                let (evidence, cutover) = (Arc::clone(&evidence), Some(Arc::clone(&cutover)));
                let comparer = Comparer::new(mirror, evidence, cutover);
                mirror::start(Arc::new(comparer))
            })
            .unzip();
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let run_state = RunState {
            evidence: Arc::clone(&evidence),
            cutover: Arc::clone(&cutover),
            phase: phase_seen.clone(),
        };
        let keeper = tokio::spawn(keep_report(run_state.clone()));
        let (admin_end, admin_ended) = oneshot::channel::<()>();
        let admin = admin_listener.map(|listener| {
            let end = async { admin_ended.await.unwrap_or(()) };
            tokio::spawn(admin::serve(listener, run_state.clone(), end))
        });
        let context = Arc::new(ProxyContext {
            primary: settings.primary,
            timeouts: Timeouts::default(),
            scope: settings.config.scope,
            mirror,
            recorder,
            evidence,
            cutover: Arc::clone(&cutover),
            budget: Budget::new(COPIES_BYTES_MAX),
        });
        let drain = settings.config.drain;
        drop(_entered);
        let listener = listener.into_std().map_err(ShadowError::Threads)?;
        let watching = cutover::watch(cutover);
        let (callers, turns) = start_callers(&listener, &context, &phase_seen, drain, watching)?;
        Ok(Shadow {
            callers,
            background: behind_runtime,
            phase,
            mirror: mirror_task,
            recording,
            admin,
            admin_end,
            turns,
            run_state,
            keeper,
            drain,
            listen,
            admin_address,
        })
    }

    /// Takes no more callers, answers and compares what is under way within the drain's time, and draws the line.
    ///
    /// # Errors
    /// Where the report or the recording cannot be written.
    pub fn end(self) -> Result<Outcome, ShadowError> {
        let deadline = Instant::now() + self.drain;
        self.phase.send_replace(Phase::Draining);
        // They have their own time limit, the same. With the last relay goes the last way into the mirror and the recording.
        for thread in self.callers {
            thread.join().expect("a caller's thread does not panic");
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(mirror) = self.mirror {
            let ended = self.background.block_on(async { tokio::time::timeout(left, mirror).await });
            if ended.is_err() {
                tracing::warn!("comparisons were still open after {:?}: they count as dropped", self.drain);
            }
        }
        // Nothing may be written over the last word.
        self.keeper.abort();
        let _ = self.background.block_on(self.keeper);
        self.run_state.evidence.seal();
        let recorded = self.recording.map(Recording::end).transpose()?;
        let summary = self.run_state.evidence.summary(ENDED, self.run_state.cutover.summary());
        self.run_state.evidence.keep_report(&summary)?;
        drop(self.admin_end);
        if let Some(admin) = self.admin {
            let _ = self.background.block_on(async { tokio::time::timeout(ADMIN_END, admin).await });
        }
        self.background.shutdown_background();
        Ok(Outcome { summary, recorded, damages: Vec::new() })
    }
}

type Callers = (Vec<thread::JoinHandle<()>>, Vec<Arc<AtomicU64>>);

/// Starts the threads that relay, each of which counts its turns. The guard is `beside` the first of them, with the callers'
/// priority: it must act while everything behind them is starved.
fn start_callers(
    listener: &std::net::TcpListener,
    context: &Arc<ProxyContext>,
    phase: &watch::Receiver<Phase>,
    drain: Duration,
    beside: impl Future<Output = ()> + Send + 'static,
) -> Result<Callers, ShadowError> {
    let mut beside = Some(beside);
    let callers_max = CALLERS_MAX / threads(CALLER_THREADS_MAX);
    let turns: Vec<_> = (0..threads(CALLER_THREADS_MAX)).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let callers = turns.iter().map(|turns| {
        let listener = listener.try_clone().map_err(ShadowError::Threads)?;
        let (context, phase) = (Arc::clone(context), phase.clone());
        let (beside, turns) = (beside.take(), Arc::clone(turns));
        let beside = async move {
            tokio::join!(count_turns(turns), async {
                if let Some(beside) = beside {
                    beside.await;
                }
            });
        };
        on_a_thread("shadow-callers", beside, async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => proxy::serve(listener, context, phase, drain, callers_max).await,
                Err(error) => tracing::error!("cannot accept callers: {error}"),
            }
        })
    });
    let callers = callers.collect::<Result<Vec<_>, ShadowError>>()?;
    Ok((callers, turns))
}

/// Writes the verdict as it stands, again and again: a process that is killed leaves the last one behind.
async fn keep_report(run_state: RunState) {
    let mut ticks = tokio::time::interval(KEEP_EVERY);
    loop {
        ticks.tick().await;
        let summary = run_state.summary();
        if let Err(error) = run_state.evidence.keep_report(&summary) {
            tracing::error!("{error}");
        }
    }
}

/// Runs recordings against two targets, to the end or until `end` resolves.
///
/// # Errors
/// Where a recording cannot be read or the report cannot be written.
pub fn run_replay(
    settings: &Settings,
    primary: &TargetAddress,
    what: ReplaySettings,
    end: impl Future<Output = ()>,
) -> Result<Outcome, ShadowError> {
    let runtime = runtime("shadow-replay", threads(BEHIND_THREADS_MAX), 0)?;
    let candidate = settings.candidate.clone().unwrap_or_else(|| primary.clone());
    let evidence = evidence(settings, primary, &candidate)?;
    let mirror = settings.config.mirror.clone();
    let comparer = Comparer::new(mirror, Arc::clone(&evidence), None);
    let replayed = runtime.block_on(async {
        let replay = replay(what, Arc::new(comparer), Arc::clone(&evidence), settings.config.scope.clone());
        tokio::select! {
            // Whoever sees that a recording is being read may end the replay: what listens for that comes first.
            biased;
            () = end => {
                evidence.cut_short();
                Ok(Vec::new())
            }
            replayed = replay => replayed.inspect_err(|_| evidence.cut_short()),
        }
    });
    evidence.seal();
    let summary = evidence.summary(ENDED, ServeSummary::default());
    evidence.keep_report(&summary)?;
    runtime.shutdown_background();
    Ok(Outcome { summary, recorded: None, damages: replayed? })
}

fn evidence(
    settings: &Settings,
    primary: &TargetAddress,
    candidate: &TargetAddress,
) -> Result<Arc<Evidence>, ShadowError> {
    let report = settings.report.as_deref().map(Report::open).transpose()?;
    let evidence = EvidenceSettings {
        report,
        redaction: settings.redaction.clone(),
        sides: Sides { primary: primary.clone(), candidate: candidate.clone() },
        tolerance: settings.config.tolerance,
        queue_capacity: settings.config.mirror.queue_max as u64,
    };
    Ok(Arc::new(Evidence::new(evidence, &settings.config.mirror.judge_settings.rules)))
}

/// Counts, as long as the thread turns.
async fn count_turns(turns: Arc<AtomicU64>) {
    loop {
        turns.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(TURN).await;
    }
}

fn taken_over(runtime: &Runtime, listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    TcpListener::from_std(listener)
}

/// No more threads than CPUs that this process may use: they would only take each other's turns.
fn threads(most: usize) -> usize {
    thread::available_parallelism().map_or(most, |cpus| most.min(cpus.get()))
}

/// Runs `main` to its end on a thread of its own, and `beside` next to it as long as that lasts.
fn on_a_thread(
    name: &str,
    beside: impl Future<Output = ()> + Send + 'static,
    main: impl Future<Output = ()> + Send + 'static,
) -> Result<thread::JoinHandle<()>, ShadowError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(ShadowError::Threads)?;
    let run = move || {
        runtime.spawn(beside);
        runtime.block_on(main);
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(ShadowError::Threads)
}

fn runtime(name: &'static str, threads: usize, nice: i32) -> Result<Runtime, ShadowError> {
    let lower = move || {
        // Linux gives each thread a priority of its own. Where that is forbidden, comparing is only less polite.
        if nice > 0 {
            let _ = rustix::process::setpriority_process(None, nice);
        }
    };
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).on_thread_start(lower).enable_all();
    builder.build().map_err(ShadowError::Threads)
}

fn bind(runtime: &Runtime, address: SocketAddr, flag: &'static str) -> Result<TcpListener, ShadowError> {
    runtime.block_on(TcpListener::bind(address)).map_err(|source| ShadowError::Listen {
        address,
        flag,
        source,
    })
}
