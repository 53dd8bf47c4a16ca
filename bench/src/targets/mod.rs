//! Servers to measure: those that the bench starts itself, pinned, loaded and alone on their ports, and those that run
//! already.

pub mod fixed;
pub mod florin;
pub mod hello;
mod idle;
pub mod ledger;
pub mod peers;
pub mod postgres;
pub mod probe;
pub mod process;
mod secured;
mod spec;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use florin_schema::{Encoding, Status, UserId};

pub(crate) use idle::allow_many_files;
pub use postgres::PgCopy;
pub use process::Process;
pub use spec::{Given, Kind, SpecError, TargetSpec, Via};

use self::{hello::HelloError, ledger::LedgerError};
use crate::{
    generator::{Access, AccessError, Endpoint, Endpoints, Speech},
    work::{Population, keys::PopulationError},
};

/// What servers are started with.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The `florin` binary.
    pub florin: PathBuf,
    /// CPUs of servers; empty: all.
    pub server_cpus: Vec<usize>,
    /// The ledger that servers serve and peers are loaded from; none: there are only running servers.
    pub ledger: Option<PathBuf>,
    /// A PostgreSQL with the same rows, which servers follow instead.
    pub postgres: Option<Arc<PgCopy>>,
    /// Whom to ask about.
    pub population: Population,
    /// Of a peer's value: as large as the body of a florin reply.
    pub value_bytes: usize,
    /// How servers run.
    pub tool: Tool,
}

/// What a server that the bench starts runs under.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Tool {
    /// Nothing.
    #[default]
    None,
    /// `valgrind --tool=callgrind`, with its output to this file.
    Callgrind(PathBuf),
}

/// A server, ready to be asked.
#[derive(Debug)]
pub struct Target {
    /// What it is called in tables.
    pub label: String,
    /// How to speak to it.
    pub speech: Speech,
    /// Where.
    pub endpoints: Endpoints,
    /// What callers are let in by.
    pub access: Access,
    /// What `--target` takes of another process, for one whose requests a second are bounded; none where nobody's are.
    pub bounded: Option<String>,
    /// Whose CPU is counted.
    pub pid: Option<rustix::process::Pid>,
    /// The CPUs that it was pinned to by the bench; empty: not known.
    pub cpus: Vec<usize>,
    /// The command, as started; empty where it ran already.
    pub command: String,
    /// Whether it answers from the bench's ledger, to which nobody writes: its values can be checked.
    pub serves_ledger: bool,
    /// Ends the server with the target.
    process: Option<Process>,
    via: Via,
    someone: UserId,
    /// Open for as long as the target is, and silent.
    idle: Vec<idle::Connection>,
    /// Only under valgrind.
    stirring: Option<probe::Stirring>,
}

/// Why a server cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No such program.
    #[error("cannot start {program}: {source}{}", .install.map(|install| format!("; install it: {install}")).unwrap_or_default())]
    Missing {
        /// What was to be started.
        program: String,
        /// How it is installed, where that is known.
        install: Option<&'static str>,
        /// Why.
        source: io::Error,
    },
    /// It ended instead of listening.
    #[error("{program} ended before it answered ({status}); it said:\n{said}")]
    Ended {
        /// What was started.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines of its output.
        said: String,
    },
    /// It runs, but does not answer.
    #[error(
        "{program} does not answer at {endpoint} within {seconds} s: {last}; does it run, and with this address?"
    )]
    Silent {
        /// What was started, or the address.
        program: String,
        /// Where.
        endpoint: Endpoint,
        /// How long the bench has waited.
        seconds: u64,
        /// What the last attempt gave.
        last: String,
    },
    /// A file, a port or a pipe.
    #[error("{operation}: {source}")]
    Operation {
        /// What was tried.
        operation: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The server's shards are not to be had.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// What callers are to be let in by.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No PostgreSQL with its rows.
    #[error(transparent)]
    Postgres(#[from] postgres::PgCopyError),
    /// No users.
    #[error(transparent)]
    Population(#[from] PopulationError),
    /// A peer would not be loaded.
    #[error("loading {program}: {what}")]
    Load {
        /// The peer.
        program: &'static str,
        /// What it answered.
        what: String,
    },
    /// A specification that needs something else.
    #[error("{0}")]
    Needs(&'static str),
}

pub(crate) fn operation(operation: impl Into<String>) -> impl FnOnce(io::Error) -> TargetError {
    let operation = operation.into();
    move |source| TargetError::Operation { operation, source }
}

impl Target {
    /// Starts what `spec` says, or finds it, and waits until it answers.
    pub fn start(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
        let mut target = match (spec.kind, spec.address) {
            (Kind::Florin, Some(address)) => Target::running(spec, bench, address)?,
            (Kind::Florin, None) => florin::start(spec, bench)?,
            (Kind::Http, Some(address)) => Target::running(spec, bench, address)?,
            (Kind::Http, None) => florin::start_http(spec, bench)?,
            (Kind::Valkey, _) => peers::valkey(spec, bench)?,
            (Kind::Memcached, _) => peers::memcached(spec, bench)?,
            (Kind::Limit, Some(address)) => Target::running(spec, bench, address)?,
            (Kind::Limit, None) => fixed::start(spec, bench)?,
        };
        target.wait_until_it_answers()?;
        target.idle = idle::connect(&target.endpoints, spec.idle)?;
        Ok(target)
    }

    /// A server that somebody else has started.
    fn running(spec: &TargetSpec, bench: &Bench, address: SocketAddr) -> Result<Target, TargetError> {
        let mut access = Access::default();
        if let Some(Given::File(authorities)) = &spec.tls {
            access = access.by_tls(authorities)?;
        }
        if let Some(Given::File(token)) = &spec.token {
            access = access.with_token_of(token)?;
        }
        let endpoints = match (spec.kind, spec.via) {
            (_, Via::Unix) => {
                return Err(TargetError::Needs("a running server's unix socket is given as unix=PATH"));
            }
            (Kind::Florin, via) => hello::endpoints(address, &access, via)?,
            _ => Endpoints::Any(Endpoint::Tcp(address)),
        };
        Ok(Target {
            label: spec.label(),
            speech: spec.speech(),
            endpoints,
            access,
            bounded: None,
            pid: spec.pid,
            cpus: Vec::new(),
            command: String::new(),
            serves_ledger: false,
            process: None,
            via: spec.via,
            someone: bench.population.users()[0],
            idle: Vec::new(),
            stirring: None,
        })
    }

    /// A server that has just been started.
    fn started(spec: &TargetSpec, bench: &Bench, process: Process, endpoints: Endpoints) -> Target {
        Target {
            label: spec.label(),
            speech: spec.speech(),
            endpoints,
            access: Access::default(),
            bounded: None,
            pid: Some(process.pid()),
            cpus: bench.server_cpus.clone(),
            command: process.command().to_owned(),
            serves_ledger: matches!(spec.kind, Kind::Florin | Kind::Http),
            process: Some(process),
            via: spec.via,
            someone: bench.population.users()[0],
            idle: Vec::new(),
            stirring: None,
        }
    }

    /// Where it is asked now. Nodes that divide the users are asked again who has which: some may have moved since.
    ///
    /// # Errors
    /// Where none of them tells.
    pub fn endpoints_now(&self) -> Result<Endpoints, HelloError> {
        let Endpoints::ByOwner(..) = &self.endpoints else { return Ok(self.endpoints.clone()) };
        let known = self.endpoints.all().iter().filter_map(|endpoint| match endpoint {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) => None,
        });
        let mut last = None;
        for address in known {
            match hello::endpoints(address, &self.access, self.via) {
                Ok(endpoints) => return Ok(endpoints),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("they have endpoints"))
    }

    fn wait_until_it_answers(&self) -> Result<(), TargetError> {
        let (endpoint, someone) = (&self.endpoints.all()[0], self.someone);
        let answers = || match (probe::answers(endpoint, &self.access, self.speech, someone), &self.endpoints)
        {
            // Another of the nodes has this user.
            (Err(said), Endpoints::ByOwner(..)) if said == Status::NotOwner.name() => Ok(()),
            (answer, _) => answer,
        };
        process::wait(self.process.as_ref(), endpoint, answers)
    }

    /// Lets a server that the bench has started sleep while another is measured: it would poll its ledger.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
        }
    }

    /// From now on a server under valgrind does next to nothing but what it is asked.
    pub fn calm(&self) {
        if let Some(stirring) = &self.stirring {
            stirring.calm();
        }
    }

    /// Wakes it again, and waits until it answers.
    pub fn resume(&self) -> Result<(), TargetError> {
        if let Some(process) = &self.process {
            process.resume();
        }
        self.wait_until_it_answers()
    }
}

/// The body encoding in tables.
pub(crate) fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Rkyv => "rkyv",
        Encoding::FlatBuffers => "flatbuffers",
    }
}
