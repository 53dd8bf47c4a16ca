//! The shards' threads: what each is wired to, and how they start together.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use florin_schema::{NodeIdentity, ShardIndex};

use super::{Addresses, Control, StartError, host};
use crate::{
    clock::Clock,
    drivers::{Driver, DriverError, Listening, ShardContext, handover::Arrivals},
    feed::{self, Outlet},
    mesh::Parking,
    shard::{
        self, AuditLink, CallersLink, CheckpointLink, HoldingsLink, LookLink, Shard, ShardMetrics,
        ShardSetup, SlowLink,
    },
    threads::{EndsProcess, Vital},
};

/// Everything that one shard's thread is started with.
pub(super) struct ShardThread {
    pub(super) setup: ShardSetup,
    pub(super) checkpoints: Option<CheckpointLink>,
    pub(super) callers: Option<CallersLink>,
    pub(super) audit: Option<AuditLink>,
    pub(super) slow: Option<SlowLink>,
    pub(super) looks: LookLink,
    pub(super) holdings: Option<HoldingsLink>,
    pub(super) listening: Vec<Listening>,
    pub(super) arrivals: Option<Arrivals>,
    pub(super) cpu: usize,
    pub(super) clock: Clock,
    pub(super) control: Control,
}

/// Links every shard to every other and to the feed: what each shard is made of, and the feed's side of its link.
pub(super) fn wire_up(
    shards: u16,
    max_staleness_us: u64,
    addresses: &Addresses,
    identity: NodeIdentity,
    control: &Control,
) -> Vec<(ShardSetup, Outlet)> {
    let parkings: Vec<Arc<Parking>> = (0..shards).map(|_| Arc::default()).collect();
    let ports_of = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::port).collect::<Vec<u16>>();
    let (ports, tls_ports) = (ports_of(&addresses.shard_listen), ports_of(&addresses.tls_shard_listen));
    let wire = |((index, peers), parking): ((u16, _), Arc<Parking>)| {
        let (outlet, feed) = feed::link(Arc::clone(&parking), control.waking(ShardIndex(index)));
        let setup = ShardSetup {
            index: ShardIndex(index),
            shards,
            peers,
            parking,
            feed,
            metrics: Arc::new(ShardMetrics::default()),
            max_staleness_us,
            server: concat!("florin ", env!("CARGO_PKG_VERSION")).to_owned(),
            ports: ports.clone(),
            tls_ports: tls_ports.clone(),
            identity,
        };
        (setup, outlet)
    };
    (0..shards).zip(shard::mesh(&parkings)).zip(parkings).map(wire).collect()
}

/// A shard's thread, and the kernel's id of it.
pub(super) type StartedShard = (JoinHandle<Result<(), DriverError>>, u32);

/// Starts a thread for each shard, and lets them serve once all of them are ready: or none.
pub(super) fn launch<D>(
    shard_threads: impl Iterator<Item = ShardThread>,
    settings: D::Settings,
) -> Result<Vec<StartedShard>, StartError>
where
    D: Driver,
    D::Settings: Clone + Send + 'static,
{
    let mut starting = Vec::new();
    for shard_thread in shard_threads {
        let (report, reported) = sync_channel(1);
        let (go, started) = sync_channel(1);
        let settings = settings.clone();
        let thread = thread::Builder::new()
            .name(Vital::Shard(usize::from(shard_thread.setup.index.0)).to_string())
            .spawn(move || shard_thread.run::<D>(settings, report, started))
            .map_err(|source| StartError::Thread { source })?;
        starting.push((thread, reported, go));
    }
    // An early return drops every `go`, and the threads that are ready end unheard.
    let mut ready = Vec::new();
    for (thread, reported, go) in starting {
        let report = reported.recv();
        let thread_id = report
            .unwrap_or_else(|_| Err(StartError::Thread { source: io::ErrorKind::BrokenPipe.into() }))?;
        ready.push((thread, thread_id, go));
    }
    let threads = ready.into_iter().map(|(thread, thread_id, go)| {
        go.send(()).expect("a thread that is ready waits for this");
        (thread, thread_id)
    });
    Ok(threads.collect())
}

impl ShardThread {
    /// The life of a shard's thread.
    fn run<D: Driver>(
        self,
        settings: D::Settings,
        report: SyncSender<Result<u32, StartError>>,
        started: Receiver<()>,
    ) -> Result<(), DriverError> {
        let _end = EndsProcess::of(Vital::Shard(usize::from(self.setup.index.0)));
        let control = self.control.clone();
        match self.set_up::<D>(settings) {
            Ok(driver) => {
                // Nobody listens any more where another shard has failed meanwhile; then nobody says go either.
                let _ = report.send(Ok(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()));
                if started.recv().is_err() {
                    return Ok(());
                }
                let outcome = driver.run();
                if let Err(error) = &outcome {
                    // The others' users would be answered and this shard's not: all end.
                    tracing::error!(%error, "a shard cannot go on; the node ends");
                    control.drain();
                }
                outcome
            }
            Err(error) => {
                let _ = report.send(Err(error));
                Ok(())
            }
        }
    }

    fn set_up<D: Driver>(self, settings: D::Settings) -> Result<D, StartError> {
        host::pin(self.cpu)?;
        let own_shard = usize::from(self.setup.index.0);
        let mut shard = Shard::new(self.setup).with_looks(self.looks);
        if let Some(link) = self.callers {
            shard = shard.with_callers(link);
        }
        if let Some(link) = self.holdings {
            shard = shard.with_holdings(link);
        }
        if let Some(link) = self.checkpoints {
            shard = shard.with_checkpoints(link);
        }
        if let Some(link) = self.audit {
            shard = shard.with_audit(link);
        }
        if let Some(link) = self.slow {
            shard = shard.with_slow(link);
        }
        let context = ShardContext {
            // Built here, after the pin, so that its memory is this CPU's own.
            shard,
            clock: self.clock,
            listening: self.listening,
            arrivals: self.arrivals,
            wakers: Arc::clone(&self.control.wakers),
            own_shard,
            shutdown: Arc::clone(&self.control.shutdown),
        };
        Ok(D::set_up(context, settings)?)
    }
}
