//! Where this process spends its CPU time: the kernel looks at each thread some hundred times for each second that it runs (perf
//! events), and a thread of our own reads what it saw. So a shard is profiled from outside, and still makes no system call.
//!
//! | file | holds |
//! | --- | --- |
//! | `sampler.rs` | the kernel's samples of all threads |
//! | `sample.rs` | one of them |
//! | `modules.rs` | the program and its libraries, as they lie in memory |
//! | `unwinding.rs` | from a sample's registers and stack to the functions that had called each other |
//! | `symbols.rs` | from addresses to names and lines, of the kernel too |
//! | `recording.rs` | stacks, and how often each was seen |
//! | `pprof.rs`, `flamegraph.rs` | a recording in two forms |

mod flamegraph;
mod modules;
mod pprof;
mod recording;
mod sample;
mod sampler;
mod symbols;
mod unwinding;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::limits::{PROFILE_HZ, PROFILE_LOOK};
use modules::Module;
use recording::Recording;
use sampler::Sampling;
use symbols::Symbols;
use unwinding::Unwinding;

/// Takes profiles of this process, one at a time.
#[derive(Clone, Debug, Default)]
pub struct Profiler {
    is_busy: Arc<AtomicBool>,
}

/// What a profile is written as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// pprof's `profile.proto`, gzipped.
    Pprof,
    /// A flame graph as SVG.
    Flamegraph,
}

/// What is to be profiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// For how long.
    pub during: Duration,
    /// As what it is written.
    pub form: Form,
    /// When it begins, µs since 1970 UTC.
    pub began_us: i64,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Somebody else asks.
    #[error("a profile is being taken, and there is one at a time: ask again when it is done")]
    Busy,
    /// The host does not let this process look at its own threads.
    #[error(
        "this host forbids perf events ({source}): kernel.perf_event_paranoid is {paranoid}, and 2 or less lets a process look at its \
         own threads (sysctl kernel.perf_event_paranoid=2); where it is 2 or less, a filter of system calls refuses perf_event_open \
         (systemd: SystemCallFilter=perf_event_open in a drop-in; a container: its seccomp profile)"
    )]
    Forbidden {
        /// What the host says of it.
        paranoid: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Its buffers find no room.
    #[error(
        "no memory for a profile's buffers ({source}): raise kernel.perf_event_mlock_kb, or the locked memory of this process \
         (ulimit -l, LimitMEMLOCK=)"
    )]
    Memory {
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something else.
    #[error("no profile: {what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The thread that took it has panicked; the log says where.
    #[error("no profile: the thread that took it has ended, and the log says why")]
    Ended,
}

/// Held while a profile is taken.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Profiler {
    /// Takes a profile; it ends early where nobody waits for it any more.
    ///
    /// # Errors
    /// Where another is being taken, or the host permits none.
    pub async fn take(&self, order: Order) -> Result<Vec<u8>, ProfileError> {
        if self.is_busy.swap(true, Ordering::Acquire) {
            return Err(ProfileError::Busy);
        }
        let turn = Turn(Arc::clone(&self.is_busy));
        let (told, heard) = oneshot::channel();
        let run = move || {
            let mut told = told;
            let taken = take(order, &mut told);
            // Who has its answer may ask for the next at once.
            drop(turn);
            // Who asked may have gone.
            let _ = told.send(taken);
        };
        let thread = thread::Builder::new().name("florin-profile".to_owned()).spawn(run);
        thread.map_err(|source| ProfileError::Failed { what: "starting a thread", source })?;
        heard.await.unwrap_or(Err(ProfileError::Ended))
    }
}

/// Samples, and writes down what was seen.
fn take(
    order: Order,
    told: &mut oneshot::Sender<Result<Vec<u8>, ProfileError>>,
) -> Result<Vec<u8>, ProfileError> {
    let modules =
        Module::all().map_err(|source| ProfileError::Failed { what: "reading /proc/self/maps", source })?;
    let mut unwinding = Unwinding::of(&modules);
    let mut recording = Recording::default();
    let started = Instant::now();
    let mut sampling = Sampling::begin()?;
    loop {
        let rest = order.during.saturating_sub(started.elapsed());
        thread::sleep(rest.min(PROFILE_LOOK));
        sampling.drain(|thread, sample| recording.count(thread, unwinding.addresses(&sample)));
        if rest.is_zero() || told.is_closed() {
            break;
        }
    }
    recording.lost = sampling.lost();
    drop(sampling);
    let taken = Taken { order, period: Duration::from_secs(1) / PROFILE_HZ, recording };
    let mut symbols = Symbols::of(modules);
    let written = match order.form {
        Form::Pprof => pprof::write(&taken, &mut symbols),
        Form::Flamegraph => flamegraph::write(&taken, &mut symbols),
    };
    written.map_err(|source| ProfileError::Failed { what: "writing it down", source })
}

/// A profile before it is written down.
struct Taken {
    order: Order,
    /// CPU time that a sample stands for.
    period: Duration,
    recording: Recording,
}
