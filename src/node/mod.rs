//! A whole node: threads, sockets, pins, and its end.
//!
//! [`Node::start`] refuses with a [`StartError`] or returns once every shard can be connected to.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle};

use florin_schema::{NodeId, NodeIdentity, ShardIndex};
use rand::Rng;
use tokio::sync::watch;

use crate::{
    auditor::{AuditHandle, Auditor},
    callers::Callers,
    checkpoints::{Maker, MakerHandle},
    clock::Clock,
    drivers::{
        DriverError, DriverKind, Listening, RunningDriver, ShardWaker, Shutdown,
        accept_turn::{AcceptTurn, Sharing},
        inherited,
        listen::{self, ListenError, UnixPath},
        ring::RingSizes,
    },
    feed::Feed,
    mesh::Latest,
    shard::{Listener, ShardMetrics, ShardSetup, slow_link},
    sources::Ledger,
};

mod audit;
mod checkpoints;
mod config;
mod division;
mod driver;
mod error;
mod host;
mod look;
pub mod numa;
pub mod readiness;
mod shard_thread;
mod slow;
mod transport;

use host::FilesOfConnections;
use shard_thread::ShardThread;
use transport::Transport;

pub use config::NodeConfig;
pub use division::Division;
pub use error::StartError;
pub(crate) use host::allowed_cpus;
pub use look::LookPort;
pub use readiness::Obstacle;
pub use slow::SlowLog;
pub use transport::{TlsConfig, TlsHandle};

/// Where a node can be reached.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The any-shard port.
    pub listen: Option<SocketAddr>,
    /// The shard ports, by shard; empty where there are none.
    pub shard_listen: Vec<SocketAddr>,
    /// The unix socket.
    pub unix: Option<PathBuf>,
    /// The any-shard port for TLS.
    pub tls_listen: Option<SocketAddr>,
    /// The shard ports for TLS, by shard; empty where there are none.
    pub tls_shard_listen: Vec<SocketAddr>,
}

/// One shard, seen from the control plane.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// Its place in the node.
    pub index: ShardIndex,
    /// The CPU that its thread stays on.
    pub cpu: usize,
    /// The kernel's id of its thread, for `perf` and `top -H`.
    pub thread_id: u32,
    /// What it counts.
    pub metrics: Arc<ShardMetrics>,
    /// Its watermark, from the feed: (as_of µs, monotonic µs when it was taken); monotonic 0 = none yet. A shard without
    /// callers sleeps, and what it last counted grows old; this does not.
    pub watermark: Arc<Latest>,
}

impl ShardHandle {
    /// Of a shard whose thread is yet to be started.
    fn of(setup: &ShardSetup, cpu: usize) -> ShardHandle {
        ShardHandle {
            index: setup.index,
            cpu,
            thread_id: 0,
            metrics: Arc::clone(&setup.metrics),
            watermark: Arc::clone(&setup.feed.watermark),
        }
    }

    /// How far its view is behind the clock; `None` before the first watermark.
    pub fn lag_us(&self, clock: &Clock) -> Option<u64> {
        let taken_us = self.watermark.load().1;
        (taken_us > 0).then(|| clock.monotonic_us().saturating_sub(taken_us))
    }
}

/// A running node. Dropping it drains it.
pub struct Node {
    addresses: Addresses,
    identity: NodeIdentity,
    shards: Vec<ShardHandle>,
    driver: RunningDriver,
    ledger: Ledger,
    feed: Feed,
    clock: Clock,
    max_staleness_ms: u32,
    control: Control,
    threads: Vec<JoinHandle<Result<(), DriverError>>>,
    /// Callers by TLS, where there may be any.
    tls: Option<TlsHandle>,
    /// The threads that shake hands.
    handshakes: Vec<JoinHandle<()>>,
    /// Makes checkpoints, where that is asked for.
    maker: Option<Maker>,
    /// Compares what is answered with the ledger, where that is asked for.
    auditor: Option<Auditor>,
    /// What is told of slow answers, until somebody logs it.
    slow: SlowLog,
    /// The ways to each shard's users, until somebody takes them.
    looks: Vec<LookPort>,
    /// The way to tell its shards which users they have, until somebody takes it.
    division: Option<Division>,
    /// Removed from the file system at the end.
    unix: Option<UnixPath>,
}

/// What ends a node, from whichever thread hears the signal.
#[derive(Clone, Debug)]
pub struct Control {
    shutdown: Arc<Shutdown>,
    wakers: Arc<[ShardWaker]>,
    /// Tells the threads that shake hands.
    ending: watch::Sender<bool>,
}

impl Control {
    /// Accepts nothing more, answers what has arrived, and ends: at most [`crate::limits::DRAIN_US`] from now.
    pub fn drain(&self) {
        self.shutdown.begin();
        self.ending.send_replace(true);
        self.wake();
    }

    /// What wakes one shard: for whoever puts something into one of its rings.
    fn waking(&self, shard: ShardIndex) -> Arc<dyn Fn() + Send + Sync> {
        let wakers = Arc::clone(&self.wakers);
        Arc::new(move || wakers[usize::from(shard.0)].wake())
    }

    /// Makes every shard turn, those that sleep too.
    pub fn wake(&self) {
        self.wakers.iter().for_each(ShardWaker::wake);
    }
}

impl Node {
    /// Starts a node, or says why not.
    pub fn start(config: NodeConfig) -> Result<Node, StartError> {
        Node::start_sized(config, RingSizes::default())
    }

    /// Starts a node with rings of other sizes than usual, to reach their ends in tests.
    pub fn start_sized(config: NodeConfig, sizes: RingSizes) -> Result<Node, StartError> {
        let driver = driver::choose(config.driver)?;
        let sizes = RingSizes { spin: config.spin, ..sizes };
        driver::check_spinning(driver.kind, config.spin);
        if !config.inherited.is_empty() && driver.kind != DriverKind::Ring {
            return Err(StartError::InheritedNeedsRing { driver: driver.kind });
        }
        let cpus = host::choose_cpus(&config)?;
        if let Some(kept) = &config.housekeeping_cpus {
            // Before any thread is started: they stay where this one is, but for the shards', which pin themselves.
            host::keep_house(kept, &cpus)?;
        }
        let shards = u16::try_from(cpus.len()).expect("at most SHARDS_MAX");
        let files = FilesOfConnections::of(driver.kind);
        let connections = sizes.connections.min(host::connections_per_shard(shards, files));
        let sizes = RingSizes { connections, ..sizes };
        let Bound { mut addresses, sockets, unix } = bind(&config, shards)?;

        let clock = Clock::new(config.fixed_wall_us).with_leaps(config.wall_leap_us);
        let control = Control::new(shards)?;
        let (transport, arrivals) = Transport::prepare(&config, driver.kind, &control, &mut addresses)?;
        let max_staleness_ms = config.max_staleness_ms;
        let ledger = Ledger::open(&config.ledger)?;
        let ledger = if config.divides_users { ledger.divided() } else { ledger };
        // Who this node is for as long as it runs, and whose answers it gives.
        let node = NodeId(rand::rng().random_range(1..=u64::MAX));
        let identity = NodeIdentity { node, ledger: ledger.id() };
        let (setups, outlets): (Vec<_>, Vec<_>) = shard_thread::wire_up(
            shards,
            u64::from(max_staleness_ms) * 1_000,
            &addresses,
            identity,
            &control,
        )
        .into_iter()
        .unzip();
        let mut handles: Vec<_> =
            setups.iter().zip(cpus).map(|(setup, cpu)| ShardHandle::of(setup, cpu)).collect();

        // The ledger was opened before anyone is answered, and is loaded while the shards answer that they are warming up.
        if config.checkpoints.is_some() && !ledger.keeps_checkpoints() {
            return Err(StartError::NoCheckpoints);
        }
        let (keeping, links) = match &config.checkpoints {
            Some(config) => checkpoints::wire_up(config, &setups, &control)?,
            None => (None, setups.iter().map(|_| None).collect()),
        };
        let (restoring, start_maker) = keeping.unzip();
        let doubts = start_maker.as_ref().map(|start| start.doubts());
        let (auditor, audit_links) = audit::wire_up(config.audit, &ledger, &setups, clock, &control, doubts)?;
        let (looks, look_links) = look::wire_up(&setups, &control);
        let (division, division_links) = division::wire_up(config.divides_users, &setups, &control);
        let feed = Feed::spawn(&ledger, clock, outlets, restoring)?;
        let maker = start_maker.map(|start| start.begin(clock, feed.status())).transpose()?;
        let (slow_told, slow_links): (Vec<_>, Vec<_>) =
            setups.iter().map(|_| config.slow_us.map(slow_link).unzip()).unzip();
        let metrics = setups.iter().map(|setup| Arc::clone(&setup.metrics));
        let slow = SlowLog::new(slow_told.into_iter().flatten().zip(metrics).collect());
        let links = links.into_iter().zip(audit_links).zip(slow_links).zip(look_links).zip(division_links);
        let wired = setups.into_iter().zip(sockets).zip(links).zip(arrivals).zip(&handles);
        let callers = config.callers.as_ref();
        let shard_threads = wired.map(|((((setup, listening), links), arrivals), handle)| {
            let ((((checkpoints, audit), slow), looks), holdings) = links;
            ShardThread {
                setup,
                checkpoints,
                audit,
                slow,
                looks,
                holdings,
                callers: callers.map(Callers::link),
                listening,
                arrivals,
                cpu: handle.cpu,
                clock,
                control: control.clone(),
            }
        });
        let mut threads = Vec::new();
        for (thread, thread_id) in driver::launch(driver.kind, shard_threads, sizes)? {
            handles[threads.len()].thread_id = thread_id;
            threads.push(thread);
        }
        let started = transport.map(|transport| transport.start(clock, &control)).transpose()?;
        let (tls, handshakes) = started.map_or((None, Vec::new()), |(tls, threads)| (Some(tls), threads));
        Ok(Node {
            addresses,
            identity,
            shards: handles,
            driver,
            ledger,
            feed,
            clock,
            max_staleness_ms,
            control,
            threads,
            tls,
            handshakes,
            maker,
            auditor,
            slow,
            looks,
            division,
            unix,
        })
    }

    /// What it says of itself in a Hello.
    pub fn identity(&self) -> NodeIdentity {
        self.identity
    }

    /// Where it can be reached, with the ports that it got.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What drives its shards.
    pub fn driver(&self) -> &RunningDriver {
        &self.driver
    }

    /// Its shards, by index.
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// The ledger that it follows.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Who makes its checkpoints, where any are made.
    pub fn checkpoints(&self) -> Option<MakerHandle> {
        self.maker.as_ref().map(Maker::handle)
    }

    /// Callers by TLS, where there may be any.
    pub fn tls(&self) -> Option<&TlsHandle> {
        self.tls.as_ref()
    }

    /// What compares it with its ledger, where that is done.
    pub fn audit(&self) -> Option<AuditHandle> {
        self.auditor.as_ref().map(Auditor::handle)
    }

    /// What is told of slow answers; the second time nothing is.
    pub fn slow_log(&mut self) -> SlowLog {
        std::mem::replace(&mut self.slow, SlowLog::new(Vec::new()))
    }

    /// The ways to each shard's users, in the shards' order; for one who asks for them.
    pub fn take_looks(&mut self) -> Vec<LookPort> {
        std::mem::take(&mut self.looks)
    }

    /// The way to tell its shards which users they have, where it divides them with other nodes; for one who asks for it.
    pub fn take_division(&mut self) -> Option<Division> {
        self.division.take()
    }

    /// What its feed does.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The clock that all its threads read.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Why it is not to be sent requests; nothing where it is ready.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let (is_draining, feed) = (self.control.shutdown.has_begun(), Some(&**self.feed.status()));
        readiness::obstacles(is_draining, feed, &self.shards, &self.clock, self.max_staleness_ms)
    }

    /// What ends it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// See [`Control::drain`].
    pub fn drain(&self) {
        self.control.drain();
    }

    /// Waits until it has ended, which it does after [`Node::drain`] or for an error.
    pub fn join(mut self) -> Result<(), DriverError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), DriverError> {
        let ended =
            self.threads.drain(..).map(|thread| thread.join().expect("a shard that panics ends the process"));
        let outcome = ended.fold(Ok(()), Result::and);
        for thread in self.handshakes.drain(..) {
            thread.join().expect("a thread that panics ends the process");
        }
        self.unix = None;
        outcome
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain();
        if let Err(error) = self.end() {
            tracing::error!(%error, "a shard has failed");
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("addresses", &self.addresses)
            .field("shards", &self.shards.len())
            .finish()
    }
}

impl Control {
    fn new(shards: u16) -> Result<Control, StartError> {
        let wakers = (0..shards).map(|_| ShardWaker::new()).collect::<std::io::Result<Arc<[ShardWaker]>>>();
        let wakers = wakers.map_err(|source| StartError::Thread { source })?;
        Ok(Control { shutdown: Arc::new(Shutdown::new(shards)), wakers, ending: watch::Sender::new(false) })
    }
}

struct Bound {
    addresses: Addresses,
    /// By shard.
    sockets: Vec<Vec<Listening>>,
    unix: Option<UnixPath>,
}

/// Binds all that the configuration names.
fn bind(config: &NodeConfig, shards: u16) -> Result<Bound, StartError> {
    let mut addresses = Addresses::default();
    let mut listening: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    if let Some(address) = config.listen {
        let failed = |source| ListenError::Address { address, source };
        let mut sockets = config
            .inherited
            .tcp(address)
            .and_then(|found| inherited::spread(found, shards))
            .map_err(failed)?;
        let is_inherited = !sockets.is_empty();
        addresses.listen = Some(address);
        if !is_inherited {
            let (actual, own) = listen::any_port(address, shards)?;
            addresses.listen = Some(actual);
            sockets = own.into_iter().map(|socket| (socket, Sharing::Own)).collect();
        }
        for (of_shard, (socket, sharing)) in listening.iter_mut().zip(sockets) {
            of_shard.push(Listening { listener: Listener::Any, socket, sharing, is_inherited });
        }
    }
    if let Some(first) = config.shard_listen {
        let ports = listen::shard_ports(first, shards, &config.inherited)?;
        for (of_shard, (address, socket)) in listening.iter_mut().zip(ports) {
            let failed = |source| ListenError::Address { address, source };
            let is_inherited = !config.inherited.tcp(address).map_err(failed)?.is_empty();
            addresses.shard_listen.push(address);
            of_shard.push(Listening {
                listener: Listener::Shard,
                socket,
                sharing: Sharing::Own,
                is_inherited,
            });
        }
    }
    let mut unix = None;
    if let Some(path) = &config.unix {
        if config.ledger.owns(path) || config.ledger.owns(&listen::lock_of(path)) {
            return Err(ListenError::LedgersOwn { path: path.clone() }.into());
        }
        let failed = |source| ListenError::Unix { path: path.clone(), source };
        let mut sockets =
            config.inherited.unix(path).and_then(|found| inherited::spread(found, shards)).map_err(failed)?;
        let is_inherited = !sockets.is_empty();
        addresses.unix = Some(path.clone());
        if !is_inherited {
            let (bound, own) = listen::unix(path, config.unix_access, shards)?;
            addresses.unix = Some(bound.path().to_owned());
            unix = Some(bound);
            let turn = Arc::new(AcceptTurn::new(shards));
            sockets = own.into_iter().map(|socket| (socket, Sharing::AllShards(Arc::clone(&turn)))).collect();
        }
        for (of_shard, (socket, sharing)) in listening.iter_mut().zip(sockets) {
            of_shard.push(Listening { listener: Listener::Unix, socket, sharing, is_inherited });
        }
    }
    let has_tls = config.tls.as_ref().is_some_and(TlsConfig::serves_callers);
    if listening.iter().all(Vec::is_empty) && !has_tls {
        return Err(StartError::NoListener);
    }
    Ok(Bound { addresses, sockets: listening, unix })
}
