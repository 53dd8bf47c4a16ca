//! What a run is: where to, how, how much, about whom, and how long.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use florin_schema::Encoding;

use super::Access;
use crate::{
    protocol::resp::{Ask, Values},
    truth::Truth,
    work::{
        Arrivals, Population, Work,
        keys::{Owners, Routing},
    },
};

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Which endpoints there are, and who is asked for at which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoints {
    /// One for everybody.
    Any(Endpoint),
    /// Each shard's own, in their order.
    ByShard(Vec<Endpoint>),
    /// Those of nodes that divide the users, by their owners' lanes.
    ByOwner(Arc<Owners>, Vec<Endpoint>),
}

impl Endpoints {
    pub(super) fn routing(&self) -> Routing {
        match self {
            Endpoints::Any(_) => Routing::Any,
            Endpoints::ByShard(shards) => Routing::ByShard(shards.len() as u16),
            Endpoints::ByOwner(owners, _) => Routing::ByOwner(Arc::clone(owners)),
        }
    }

    /// One for each lane.
    pub fn all(&self) -> &[Endpoint] {
        match self {
            Endpoints::Any(endpoint) => std::slice::from_ref(endpoint),
            Endpoints::ByShard(endpoints) | Endpoints::ByOwner(_, endpoints) => endpoints,
        }
    }
}

/// Which protocol is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speech {
    /// Florin's own.
    Native(Encoding),
    /// HTTP/1.1 with JSON.
    Http,
    /// Valkey, and whatever else speaks RESP.
    Resp(Ask, Values),
    /// memcached.
    Memcached,
}

impl fmt::Display for Speech {
    /// As the options of a target name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speech::Native(_) => "florin's own protocol",
            Speech::Http => "HTTP",
            Speech::Resp(..) => "RESP (ask=get, ask=mget)",
            Speech::Memcached => "memcached's protocol",
        })
    }
}

/// How much is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// Each connection keeps `depth` questions unanswered: the load follows the server.
    Closed {
        /// How many.
        connections: usize,
        /// Questions in flight on each.
        depth: usize,
    },
    /// Questions come at a rate, whatever the server does; their latency counts from when they were due.
    Open {
        /// How many.
        connections: usize,
        /// Questions in flight on each, at most; further ones wait in the backlog.
        depth: usize,
        /// A second.
        rate: f64,
        /// How they are spaced.
        arrivals: Arrivals,
    },
}

impl Load {
    /// Connections of all threads.
    pub fn connections(&self) -> usize {
        match *self {
            Load::Closed { connections, .. } | Load::Open { connections, .. } => connections,
        }
    }

    /// Questions in flight on a connection, at most.
    pub fn depth(&self) -> usize {
        match *self {
            Load::Closed { depth, .. } | Load::Open { depth, .. } => depth,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed { connections, depth } => write!(f, "{connections} × {depth}"),
            Load::Open { connections, depth, rate, arrivals } => {
                write!(f, "{rate:.0}/s {arrivals} over {connections} × ≤{depth}")
            }
        }
    }
}

/// What a thread does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Waiting {
    /// Sleeps until something arrives or is due.
    #[default]
    Parked,
    /// Asks the kernel again at once: sends on time to the microsecond, and takes its CPU whole.
    Spinning,
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// After a warm-up and a measured window.
    Time {
        /// Not measured.
        warmup: Duration,
        /// Measured.
        measure: Duration,
    },
    /// After so many questions, all measured; or after the time, whichever comes first.
    Requests {
        /// Of all threads.
        count: u64,
        /// At most so long.
        at_most: Duration,
    },
}

/// What all runs of a measurement have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is asked.
    pub work: Work,
    /// About whom.
    pub population: Population,
    /// How long.
    pub span: Span,
    /// One thread on each of these CPUs; without any, one thread wherever the kernel puts it.
    pub cpus: Vec<usize>,
    /// See [`Waiting`].
    pub waiting: Waiting,
    /// Keys drawn beforehand, for each thread: see [`crate::limits::KEYS_DRAWN`].
    pub keys_drawn: usize,
    /// What answers must say, where that is known.
    pub truth: Option<Arc<Truth>>,
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub endpoints: Endpoints,
    /// What callers are let in by.
    pub access: Access,
    /// How.
    pub speech: Speech,
    /// How much.
    pub load: Load,
    /// Everything else.
    pub settings: Settings,
}
