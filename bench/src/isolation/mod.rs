//! What trouble with some callers costs all others: handshakes that are begun and left, floods of whole ones, and one caller who asks
//! far more often than it may. The others' load is measured alone and beside each, in turn.

pub mod handshakes;

use std::{io, net::SocketAddr, sync::mpsc, thread};

use self::handshakes::{Flood, Halves, How};
use crate::{
    affinity::Place,
    generator::{self, Endpoint, GeneratorError, Load, Moment, Plan, Settings, Span},
    limits::{ISOLATED_P99_MOST, ISOLATED_P99_MOST_OF_FLOODED},
    targets::Target,
    trial::{self, Measured, TrialError},
    work::Arrivals,
};

/// What goes on beside the load that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Handshakes that are begun and go no further.
    HalfHandshakes,
    /// As many whole ones as some threads can make.
    Handshakes,
    /// A principal that asks many times as often as it may, on many connections.
    Greed,
}

impl Trouble {
    /// All of it, nothing first.
    pub const ALL: [Trouble; 4] =
        [Trouble::None, Trouble::HalfHandshakes, Trouble::Handshakes, Trouble::Greed];

    /// The most that the others' 99th percentile may be, as a multiple of what it is alone.
    pub const fn p99_most(self) -> f64 {
        match self {
            Trouble::None | Trouble::HalfHandshakes | Trouble::Handshakes => ISOLATED_P99_MOST,
            Trouble::Greed => ISOLATED_P99_MOST_OF_FLOODED,
        }
    }
}

/// How much trouble.
#[derive(Clone, Debug)]
pub struct Strength {
    /// Half handshakes at any time.
    pub half_handshakes: usize,
    /// Threads that make whole ones.
    pub handshake_threads: usize,
    /// Connections of the greedy one.
    pub connections: usize,
    /// What it may ask a second.
    pub quota_per_s: u32,
    /// How many times as often it asks.
    pub times: u32,
    /// Where all of it is made.
    pub place: Place,
}

impl Strength {
    /// What a trouble of this strength is called.
    pub fn name(&self, trouble: Trouble) -> String {
        match trouble {
            Trouble::None => "alone".to_owned(),
            Trouble::HalfHandshakes => format!("{} half handshakes", self.half_handshakes),
            Trouble::Handshakes => format!("handshakes from {} threads", self.handshake_threads),
            Trouble::Greed => {
                format!(
                    "one at {} × its {}/s, {} connections",
                    self.times, self.quota_per_s, self.connections
                )
            }
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

/// Loads `target` once, beside some trouble.
pub fn measure(
    target: &Target,
    load: Load,
    settings: &Settings,
    trouble: Trouble,
    strength: &Strength,
    progress: &mut dyn FnMut(f64),
) -> Result<Found, IsolationError> {
    let made = |source| IsolationError::Trouble { what: strength.name(trouble), source };
    let mut others = || trial::measure(target, load, settings, progress);
    let (measured, made_per_s) = match trouble {
        Trouble::None => (others()?, None),
        Trouble::HalfHandshakes => {
            let held =
                Halves::begin(address(target)?, &target.access, strength.half_handshakes, &strength.place);
            let held = held.map_err(made)?;
            let measured = others()?;
            held.end().map_err(made)?;
            (measured, None)
        }
        Trouble::Handshakes => {
            let threads = strength.handshake_threads;
            let flood = Flood::begin(address(target)?, &target.access, How::Full, threads, &strength.place);
            let measured = others();
            let handshakes = flood.end().map_err(made)?;
            (measured?, Some(handshakes.rate()))
        }
        Trouble::Greed => {
            let (measured, answered) = beside_greed(target, settings, strength, &mut others)?;
            (measured, Some(answered))
        }
    };
    Ok(Found { measured, made_per_s })
}

/// The others', from when the greedy one's connections are there and its burst is over, and what it was answered a second.
fn beside_greed(
    target: &Target,
    settings: &Settings,
    strength: &Strength,
    others: &mut dyn FnMut() -> Result<Measured, TrialError>,
) -> Result<(Measured, f64), IsolationError> {
    let needs =
        IsolationError::Needs("a greedy caller takes a server that bounds it, which the bench starts");
    let access = target.bounded.clone().ok_or(needs)?;
    let Span::Time { warmup, measure } = settings.span else {
        return Err(IsolationError::Needs("trouble lasts for a time, not for a number of requests"));
    };
    let window = warmup + measure;
    let plan = Plan {
        endpoints: target.endpoints.clone(),
        access,
        speech: target.speech,
        load: Load::Open {
            connections: strength.connections,
            depth: 4,
            rate: f64::from(strength.quota_per_s) * f64::from(strength.times),
            arrivals: Arrivals::Uniform,
        },
        settings: Settings {
            span: Span::Time { warmup, measure: window },
            cpus: strength.place.cpus.clone(),
            comes_last: strength.place.comes_last,
            truth: None,
            ..settings.clone()
        },
    };
    let (begun, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let greedy = scope.spawn(move || {
            generator::run(&plan, &mut |moment, _| {
                if moment == Moment::Begin {
                    // Nobody waits any more where the others have failed.
                    let _ = begun.send(());
                }
            })
        });
        // An error says that it has ended before it began, and why says its outcome.
        let measured = has_begun.recv().map(|()| others());
        let outcome = greedy.join().expect("a generator does not panic")?;
        let measured =
            measured.map_err(|_| IsolationError::Needs("the greedy one has ended before it began"))??;
        Ok((measured, outcome.latencies().len() as f64 / window.as_secs_f64()))
    })
}

fn address(target: &Target) -> Result<SocketAddr, IsolationError> {
    match target.endpoints.all().first() {
        Some(Endpoint::Tcp(address)) => Ok(*address),
        _ => Err(IsolationError::Needs("handshakes are made over TCP: say via=shard or via=any")),
    }
}
