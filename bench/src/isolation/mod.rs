//! What trouble with some callers costs all others: handshakes that are begun and left, floods of whole ones, and one caller who asks
//! far more often than it may. The others' load is measured alone and beside each, in turn.
//!
//! Trouble is made by a process of its own ([`Maker`]), as it is where others make it: threads of the one that measures would share its
//! memory and its locks, and it would wait for them.

pub mod handshakes;
mod maker;

use std::{io, net::SocketAddr, sync::mpsc, thread, time::Instant};

use clap::ValueEnum;

use self::handshakes::{Flood, Halves, How};
pub use self::maker::{BEGUN, Maker, Strength};
use crate::{
    generator::{self, Endpoint, GeneratorError, Load, Plan, Settings, Span},
    limits::{GREEDY_DEPTH, GREEDY_MOST, ISOLATED_P99_MOST, ISOLATED_P99_MOST_OF_FLOODED},
    targets::Target,
    trial::{self, Measured, TrialError},
    work::Arrivals,
};

/// What goes on beside the load that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Trouble {
    /// Handshakes that are begun and go no further.
    HalfHandshakes,
    /// As many whole ones as some threads can make.
    Handshakes,
    /// A principal that asks many times as often as it may, on many connections.
    Greed,
}

impl Trouble {
    /// All of it.
    pub const ALL: [Trouble; 3] = [Trouble::HalfHandshakes, Trouble::Handshakes, Trouble::Greed];

    /// The most that the others' 99th percentile may be, as a multiple of what it is alone.
    pub const fn p99_most(self) -> f64 {
        match self {
            Trouble::HalfHandshakes | Trouble::Handshakes => ISOLATED_P99_MOST,
            Trouble::Greed => ISOLATED_P99_MOST_OF_FLOODED,
        }
    }
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The others' load.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The trouble itself.
    #[error("{what}: {source}")]
    Trouble {
        /// Which.
        what: String,
        /// Why it could not be made.
        source: io::Error,
    },
    /// The greedy one's.
    #[error("the greedy one's load: {0}")]
    Greed(#[from] GeneratorError),
    /// A server that bounds nobody, or is not reached by TCP.
    #[error("{0}")]
    Needs(&'static str),
}

/// A trial of the others, and what was made beside it.
pub struct Found {
    /// The others'.
    pub measured: Measured,
    /// Handshakes, or the greedy one's answers, a second; none where there were neither.
    pub made_per_s: Option<f64>,
}

/// Loads `target` once, beside some trouble or alone.
pub fn measure(
    target: &Target,
    load: Load,
    settings: &Settings,
    trouble: Option<(Trouble, &Strength)>,
    progress: &mut dyn FnMut(f64),
) -> Result<Found, IsolationError> {
    let Some((trouble, strength)) = trouble else {
        return Ok(Found { measured: trial::measure(target, load, settings, progress)?, made_per_s: None });
    };
    let failed = |source| IsolationError::Trouble { what: strength.name(trouble), source };
    let needs = IsolationError::Needs("trouble takes a server that bounds somebody, which the bench starts");
    let bounded = target.bounded.as_deref().ok_or(needs)?;
    let maker = Maker::begin(trouble, strength, bounded, settings).map_err(failed)?;
    let measured = trial::measure(target, load, settings, progress)?;
    let made_per_s = maker.end().map_err(failed)?;
    Ok(Found { measured, made_per_s })
}

/// Makes trouble for `target` until `is_over` returns, and says how much a second, as [`Found::made_per_s`]. `has_begun` is called when all
/// of it is there. Until the process ends the greedy one goes on: what its end takes is nobody's trouble.
///
/// `count`: half handshakes, threads, or the greedy one's connections, who asks `rate` times a second.
pub fn make(
    (trouble, count, rate): (Trouble, usize, f64),
    target: &Target,
    settings: &Settings,
    has_begun: &mut dyn FnMut(),
    is_over: &mut dyn FnMut(),
) -> Result<Option<f64>, IsolationError> {
    let failed = |source| IsolationError::Trouble { what: "handshakes".to_owned(), source };
    match trouble {
        Trouble::HalfHandshakes => {
            let held = Halves::begin(address(target)?, &target.access, count).map_err(failed)?;
            has_begun();
            is_over();
            held.end().map_err(failed)?;
            Ok(None)
        }
        Trouble::Handshakes => {
            let flood = Flood::begin(address(target)?, &target.access, How::Full, count);
            has_begun();
            is_over();
            Ok(Some(flood.end().map_err(failed)?.rate()))
        }
        Trouble::Greed => ask_greedily((count, rate), target, settings, has_begun, is_over).map(Some),
    }
}

/// What the greedy one is answered a second, once its connections are there and its burst is over.
fn ask_greedily(
    (connections, rate): (usize, f64),
    target: &Target,
    settings: &Settings,
    has_begun: &mut dyn FnMut(),
    is_over: &mut dyn FnMut(),
) -> Result<f64, IsolationError> {
    let Span::Time { warmup, .. } = settings.span else {
        return Err(IsolationError::Needs("trouble lasts for a time, not for a number of requests"));
    };
    let plan = Plan {
        endpoints: target.endpoints.clone(),
        access: target.access.clone(),
        speech: target.speech,
        load: Load::Open { connections, depth: GREEDY_DEPTH, rate, arrivals: Arrivals::Poisson },
        settings: Settings { span: Span::Time { warmup, measure: GREEDY_MOST }, ..settings.clone() },
    };
    let (told, counts) = mpsc::channel();
    let greedy = thread::spawn(move || {
        generator::run(&plan, &mut |_, served| {
            // Nobody listens any more at the end.
            let _ = told.send((Instant::now(), served));
        })
    });
    let begun = counts.recv();
    if begun.is_ok() {
        has_begun();
        is_over();
    }
    match (begun, counts.try_iter().last()) {
        _ if greedy.is_finished() => Err(match greedy.join().expect("a generator does not panic") {
            Err(error) => error.into(),
            Ok(_) => IsolationError::Needs("the greedy one has ended before the others"),
        }),
        (Ok((from, before)), Some((to, served))) => Ok((served - before) as f64 / (to - from).as_secs_f64()),
        _ => Err(IsolationError::Needs("trouble lasts for half a second at least")),
    }
}

fn address(target: &Target) -> Result<SocketAddr, IsolationError> {
    match target.endpoints.all().first() {
        Some(Endpoint::Tcp(address)) => Ok(*address),
        _ => Err(IsolationError::Needs("handshakes are made over TCP: say via=shard or via=any")),
    }
}
