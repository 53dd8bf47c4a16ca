//! Makes load: a thread a CPU, each with its own io_uring, connections and keys. [`run`] starts them, tells an observer
//! when the measured window begins and ends, and puts together what they have found.

#[allow(unsafe_code)]
pub mod sockets;

mod access;
mod backlog;
mod connection;
pub mod pending;
mod plan;
mod recorder;
mod sealing;
mod worker;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use florin_schema::Status;
use hdrhistogram::Histogram;
use rand::{SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use self::{access::Opened, sockets::SocketsError, worker::Worker};
pub(crate) use self::{access::client, recorder::histogram};
pub use self::{
    access::{Access, AccessError, Stream},
    plan::{Endpoint, Endpoints, Load, Plan, Settings, Span, Speech, Waiting},
};
use crate::{
    affinity::{self, Cpus},
    limits,
    protocol::{Http, Memcached, Native, Protocol, Resp, Wrong, resp::Values},
    truth::Claims,
    work::{Draws, Kind, Schedule, keys::DrawPlan, keys::LaneEmpty},
};

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// Nobody listens.
    #[error("cannot connect to {endpoint}: {source}; does the server run, and with this address?")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Fewer connections than threads and shards need.
    #[error("{connections} connections are too few for {threads} threads and {lanes} shard ports: give {}", threads * lanes)]
    TooFewConnections {
        /// As planned.
        connections: usize,
        /// Of the generator.
        threads: usize,
        /// Of the server.
        lanes: usize,
    },
    /// More than a thread can tell apart.
    #[error(
        "at most {} connections a thread, and a depth of at most {}",
        limits::CONNECTIONS_MAX,
        limits::DEPTH_MAX
    )]
    TooMany,
    /// A kind that the protocol does not have.
    #[error(
        "{kind} cannot be asked over {speech} here: leave it out of --mix, or ask the target by another protocol"
    )]
    Unspoken {
        /// The kind.
        kind: Kind,
        /// The protocol.
        speech: Speech,
    },
    /// A CPU that this process may not use.
    #[error("cannot put a generator thread on CPU {cpus}: {source}")]
    Pin {
        /// Which; any, where none is named.
        cpus: Cpus,
        /// Why.
        source: io::Error,
    },
    /// Not every shard has somebody to be asked about.
    #[error(transparent)]
    Lane(#[from] LaneEmpty),
    /// No io_uring.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// A system call in the middle of a run.
    #[error("io_uring_enter: {0}")]
    Enter(#[source] io::Error),
    /// The server has given a wrong answer.
    #[error("wrong answer: {0}")]
    Wrong(#[from] Wrong),
}

/// What all threads have found.
#[derive(Debug)]
pub struct Outcome {
    /// Latencies of the window, ns, in intervals of a second.
    pub intervals: Vec<Histogram<u64>>,
    /// Questions asked, in the window and outside.
    pub asked: u64,
    /// Answered, in the window and outside.
    pub served: u64,
    /// Answered in the window, by lane.
    pub by_lane: Vec<u64>,
    /// Refused for now, by status, in the window; NOT_OWNER are those whose users have moved to another node since the run began.
    pub shed: BTreeMap<Status, u64>,
    /// Due in the window, but never sent, because the backlog was full or the run over.
    pub unsent: u64,
    /// Sent, but unanswered at the end of the drain.
    pub lost: u64,
    /// The most arrivals that ever waited for a free connection in one thread.
    pub backlog_max: usize,
    /// How the generator was.
    pub effort: Effort,
}

impl Outcome {
    /// All latencies of the window.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = histogram();
        for interval in &self.intervals {
            all.add(interval).expect("all histograms here have the same bounds");
        }
        all
    }
}

/// How much the generator had to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Effort {
    /// Of the window, the share in which the busiest thread worked or waited for a CPU.
    pub busy_share: f64,
    /// Open loop: the 99th percentile of how late arrivals were looked at.
    pub lag_p99_ns: Option<u64>,
}

impl Effort {
    /// Whether the generator itself may have been the bottleneck, and how it shows.
    pub fn health(&self) -> Health {
        match self.lag_p99_ns {
            Some(lag) if lag > limits::LAG_MAX_NS => Health::Late,
            _ if self.busy_share >= limits::BUSY_SHARE => Health::Busy,
            _ => Health::Fine,
        }
    }
}

/// What [`Effort`] comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It had time to spare.
    Fine,
    /// Its CPU was full: the server might do more.
    Busy,
    /// It sent later than it should have: part of the latency is its own.
    Late,
}

/// A moment of a run, told to the observer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Moment {
    /// The window begins.
    Begin,
    /// In the window.
    Tick,
    /// The window has ended.
    End,
}

/// What all threads share: counters, each in its own thread's cache line, and the end.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) epoch: OnceLock<Instant>,
    pub(crate) stop: AtomicBool,
    threads: Box<[ThreadCounter]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadCounter {
    served: AtomicU64,
    finished: AtomicBool,
}

impl Shared {
    fn new(threads: usize) -> Shared {
        let threads = (0..threads).map(|_| ThreadCounter::default()).collect();
        Shared { epoch: OnceLock::new(), stop: AtomicBool::new(false), threads }
    }

    pub(crate) fn publish(&self, thread: usize, served: u64) {
        self.threads[thread].served.store(served, Ordering::Relaxed);
    }

    fn served(&self) -> u64 {
        self.threads.iter().map(|thread| thread.served.load(Ordering::Relaxed)).sum()
    }

    fn all_finished(&self) -> bool {
        self.threads.iter().all(|thread| thread.finished.load(Ordering::Acquire))
    }
}

/// Times of a run, ns since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) begins: u64,
    pub(crate) ends: u64,
}

impl Window {
    fn of(span: Span) -> Window {
        match span {
            Span::Time { warmup, measure } => {
                Window { begins: warmup.as_nanos() as u64, ends: (warmup + measure).as_nanos() as u64 }
            }
            Span::Requests { at_most, .. } => Window { begins: 0, ends: at_most.as_nanos() as u64 },
        }
    }

    pub(crate) fn holds(&self, at_ns: u64) -> bool {
        (self.begins..self.ends).contains(&at_ns)
    }
}

/// Runs `plan`; calls `observe` with the number of questions answered so far as the window begins, about twice a second
/// while it lasts, and as it ends.
pub fn run(plan: &Plan, observe: &mut dyn FnMut(Moment, u64)) -> Result<Outcome, GeneratorError> {
    match plan.speech {
        Speech::Native(encoding) => {
            run_as(plan, || Native::new(encoding, plan.settings.truth.clone()), observe)
        }
        Speech::Http => {
            let truth = &plan.settings.truth;
            run_as(plan, || Http::new(truth.clone()).showing(plan.access.token()), observe)
        }
        Speech::Resp(ask, values) => {
            let truth = plan.settings.truth.clone().filter(|_| values == Values::Balances);
            run_as(plan, || Resp { ask, values, claims: truth.clone().map(Claims::new) }, observe)
        }
        Speech::Memcached => run_as(plan, Memcached::default, observe),
    }
}

fn run_as<P: Protocol>(
    plan: &Plan,
    protocol: impl Fn() -> P + Sync,
    observe: &mut dyn FnMut(Moment, u64),
) -> Result<Outcome, GeneratorError> {
    if let Some(kind) = plan.settings.work.mix.kinds().find(|&kind| !P::speaks(kind)) {
        return Err(GeneratorError::Unspoken { kind, speech: plan.speech });
    }
    let threads = plan.settings.cpus.len().max(1);
    let shares = connect_all(plan, threads)?;
    let shared = Arc::new(Shared::new(threads));
    let ready = Barrier::new(threads + 1);
    let results: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = shares
            .into_iter()
            .enumerate()
            .map(|(index, opened)| {
                let (shared, ready, protocol) = (Arc::clone(&shared), &ready, &protocol);
                let body = move || {
                    let counter = Finished(Arc::clone(&shared), index);
                    let worker = prepare(plan, index, opened, protocol(), shared);
                    ready.wait();
                    let outcome = worker.and_then(Worker::run);
                    if outcome.is_err() {
                        counter.0.stop.store(true, Ordering::Relaxed);
                    }
                    outcome
                };
                thread::Builder::new().name(format!("generator-{index}")).spawn_scoped(scope, body)
            })
            .collect();
        // The workers wait for the epoch after the barrier, so that none begins before the clock.
        ready.wait();
        let epoch = *shared.epoch.get_or_init(Instant::now);
        watch(&shared, epoch, Window::of(plan.settings.span), observe);
        handles
            .into_iter()
            .map(|handle| handle.expect("a thread can be started").join().expect("a worker does not panic"))
            .collect()
    });
    merge(results)
}

/// Tells the observer when the window begins and ends.
fn watch(shared: &Shared, epoch: Instant, window: Window, observe: &mut dyn FnMut(Moment, u64)) {
    let sleep_until = |at_ns: u64| {
        let tick = Duration::from_nanos(limits::TICK_NS);
        let until = epoch + Duration::from_nanos(at_ns);
        while Instant::now() < until && !shared.all_finished() {
            thread::sleep(tick.min(until.saturating_duration_since(Instant::now())));
        }
    };
    sleep_until(window.begins);
    observe(Moment::Begin, shared.served());
    let mut next = window.begins + limits::INTERVAL_MS * 1_000_000;
    while next < window.ends && !shared.all_finished() {
        sleep_until(next);
        observe(Moment::Tick, shared.served());
        next += limits::INTERVAL_MS * 1_000_000;
    }
    sleep_until(window.ends);
    observe(Moment::End, shared.served());
}

/// Says that a thread is through, however it ends.
struct Finished(Arc<Shared>, usize);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.threads[self.1].finished.store(true, Ordering::Release);
    }
}

/// Opens all connections: each thread's share, lane by lane in turn.
fn connect_all(plan: &Plan, threads: usize) -> Result<Vec<Vec<Opened>>, GeneratorError> {
    let (connections, lanes) = (plan.load.connections(), plan.endpoints.routing().lanes());
    if connections < threads * lanes {
        return Err(GeneratorError::TooFewConnections { connections, threads, lanes });
    }
    if connections.div_ceil(threads) > limits::CONNECTIONS_MAX
        || !(1..=limits::DEPTH_MAX).contains(&plan.load.depth())
    {
        return Err(GeneratorError::TooMany);
    }
    let share = |thread| connections / threads + usize::from(thread < connections % threads);
    let connect = |index: usize| {
        let endpoint = &plan.endpoints.all()[index % lanes];
        let failed = |source| GeneratorError::Connect { endpoint: endpoint.clone(), source };
        plan.access.open(endpoint, plan.speech).map_err(failed)
    };
    (0..threads).map(|thread| (0..share(thread)).map(connect).collect()).collect()
}

/// Makes a thread's worker, on that thread.
fn prepare<P: Protocol>(
    plan: &Plan,
    index: usize,
    opened: Vec<Opened>,
    protocol: P,
    shared: Arc<Shared>,
) -> Result<Worker<P>, GeneratorError> {
    let cpus: Vec<usize> = plan.settings.cpus.get(index).copied().into_iter().collect();
    affinity::pin_current(&cpus).map_err(|source| GeneratorError::Pin { cpus: Cpus(cpus), source })?;
    let mut random = SmallRng::seed_from_u64(plan.settings.work.seed.wrapping_add(index as u64));
    let draw_plan = DrawPlan {
        population: &plan.settings.population,
        shape: plan.settings.work.keys,
        routing: plan.endpoints.routing(),
        count: plan.settings.keys_drawn,
        seed: plan.settings.work.seed,
    };
    let draws = Draws::new(&draw_plan, &mut random)?;
    let kinds = plan.settings.work.mix.draw(&mut random);
    let threads = plan.settings.cpus.len().max(1);
    let schedule = match plan.load {
        Load::Closed { .. } => None,
        Load::Open { rate, arrivals, .. } => {
            Some(Schedule::new(arrivals, rate / threads as f64, 0, SmallRng::from_rng(&mut random)))
        }
    };
    let request_bytes = plan.settings.work.mix.kinds().map(P::request_bytes_max).max().unwrap_or_default()
        + plan.access.more_bytes(plan.speech);
    let (files, sealings) = opened.into_iter().map(|opened| (opened.file, opened.sealing)).unzip();
    let setup = worker::Setup {
        thread: index,
        depth: plan.load.depth(),
        lanes: plan.endpoints.routing().lanes(),
        window: Window::of(plan.settings.span),
        requests_max: match plan.settings.span {
            Span::Time { .. } => u64::MAX,
            Span::Requests { count, .. } => count / threads as u64,
        },
        waiting: plan.settings.waiting,
        inline: match plan.load.depth() * request_bytes < limits::INLINE_SEND_BYTES {
            true => sockets::Inline::Surely,
            false => sockets::Inline::Perhaps,
        },
        schedule,
        sealings,
    };
    Ok(Worker::new(setup, sockets::Sockets::new(files)?, protocol, draws, kinds, shared))
}

fn merge(results: Vec<Result<worker::Report, GeneratorError>>) -> Result<Outcome, GeneratorError> {
    let reports = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut intervals: Vec<Histogram<u64>> = Vec::new();
    let mut lags: Option<Histogram<u64>> = None;
    let (mut shed, mut by_lane) = (BTreeMap::new(), Vec::new());
    for report in &reports {
        by_lane.resize(report.by_lane.len(), 0);
        by_lane.iter_mut().zip(&report.by_lane).for_each(|(sum, served)| *sum += served);
        for (index, interval) in report.intervals.iter().enumerate() {
            match intervals.get_mut(index) {
                Some(merged) => merged.add(interval).expect("all histograms here have the same bounds"),
                None => intervals.push(interval.clone()),
            }
        }
        if let Some(lag) = &report.lags {
            lags.get_or_insert_with(histogram).add(lag).expect("the same bounds");
        }
        for (&status, &count) in &report.shed {
            *shed.entry(status).or_default() += count;
        }
    }
    let sum = |of: fn(&worker::Report) -> u64| reports.iter().map(of).sum();
    Ok(Outcome {
        intervals,
        asked: sum(|report| report.asked),
        served: sum(|report| report.served),
        by_lane,
        shed,
        unsent: sum(|report| report.unsent),
        lost: sum(|report| report.lost),
        backlog_max: reports.iter().map(|report| report.backlog_max).max().unwrap_or_default(),
        effort: Effort {
            busy_share: reports.iter().map(|report| report.busy_share).fold(0.0, f64::max),
            lag_p99_ns: lags.map(|lags| lags.value_at_quantile(0.99)),
        },
    })
}
