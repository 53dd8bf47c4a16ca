//! What a node has besides where callers come by TLS: its certificates, listeners, the ways to the shards, and the threads that
//! shake hands.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{Addresses, Control, NodeConfig, StartError};
use crate::clock::Clock;
use crate::drivers::DriverKind;
use crate::drivers::handover::{self, Arrivals, Door};
use crate::drivers::handshakes::{self, Desk, To};
use crate::drivers::listen::{self, ListenError};
use crate::tls::{Identities, TlsFiles, TlsTally};

/// Where callers come by TLS, and what they are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The any-shard port.
    pub listen: Option<SocketAddr>,
    /// The first of the shard ports; port 0 = any free port for each.
    pub shard_listen: Option<SocketAddr>,
    /// Certificates and keys.
    pub files: TlsFiles,
}

impl TlsConfig {
    /// Whether shards serve callers by TLS.
    pub fn serves_callers(&self) -> bool {
        self.listen.is_some() || self.shard_listen.is_some()
    }
}

/// What the control plane sees of it.
#[derive(Clone, Debug)]
pub struct TlsHandle {
    /// What is shown, and who is trusted.
    pub identities: Arc<Identities>,
    /// What is counted.
    pub tally: Arc<TlsTally>,
}

/// Everything but the threads.
pub(super) struct Transport {
    pub(super) handle: TlsHandle,
    listeners: Vec<(OwnedFd, To)>,
    doors: Vec<Door>,
}

impl Transport {
    /// Reads the certificates and binds the ports; with a shard's end of the way to each.
    pub(super) fn prepare(
        config: &NodeConfig,
        driver: DriverKind,
        control: &Control,
        addresses: &mut Addresses,
    ) -> Result<(Option<Transport>, Vec<Option<Arrivals>>), StartError> {
        let shards = control.wakers.len();
        let Some(tls) = &config.tls else { return Ok((None, (0..shards).map(|_| None).collect())) };
        let serves_callers = tls.serves_callers();
        if serves_callers && driver != DriverKind::Ring {
            return Err(StartError::TlsNeedsRing { driver });
        }
        let identities = Arc::new(Identities::read(tls.files.clone())?);
        if let Some(out_of_time) = identities.current().is_out_of_time(jiff::Timestamp::now().as_second()) {
            tracing::warn!("{out_of_time}");
        }
        let listeners = bind(config, tls, shards, addresses)?;
        let tally = Arc::<TlsTally>::default();
        let ways = (0..shards).map(|shard| handover::way(shard, &control.wakers, &tally));
        let (doors, arrivals): (Vec<_>, Vec<_>) = ways.unzip();
        let transport = Transport { handle: TlsHandle { identities, tally }, listeners, doors };
        Ok((
            Some(transport),
            arrivals.into_iter().map(|arrivals| serves_callers.then_some(arrivals)).collect(),
        ))
    }

    /// Lets callers in, once the shards serve.
    pub(super) fn start(
        self,
        clock: Clock,
        control: &Control,
    ) -> Result<(TlsHandle, Vec<JoinHandle<()>>), StartError> {
        let Transport { handle, listeners, doors } = self;
        if listeners.is_empty() {
            return Ok((handle, Vec::new()));
        }
        let TlsHandle { identities, tally } = handle.clone();
        let desk = Desk { identities, doors, tally, clock };
        let threads = handshakes::start(listeners, desk, &control.ending.subscribe());
        Ok((handle, threads.map_err(|source| StartError::Thread { source })?))
    }
}

/// Binds the ports, which no shard accepts on by itself.
fn bind(
    config: &NodeConfig,
    tls: &TlsConfig,
    shards: usize,
    addresses: &mut Addresses,
) -> Result<Vec<(OwnedFd, To)>, StartError> {
    let mut listeners = Vec::new();
    if let Some(address) = tls.listen {
        let failed = |source| ListenError::Address { address, source };
        let inherited = config.inherited.tcp(address).map_err(failed)?;
        addresses.tls_listen = Some(address);
        if inherited.is_empty() {
            let (actual, own) = listen::any_port(address, 1)?;
            addresses.tls_listen = Some(actual);
            listeners.extend(own.into_iter().map(|socket| (socket, To::All)));
        }
        listeners.extend(inherited.into_iter().map(|socket| (socket, To::All)));
    }
    if let Some(first) = tls.shard_listen {
        let shards = u16::try_from(shards).expect("at most SHARDS_MAX");
        for (address, socket) in listen::shard_ports(first, shards, &config.inherited)? {
            listeners.push((socket, To::Shard(addresses.tls_shard_listen.len())));
            addresses.tls_shard_listen.push(address);
        }
    }
    Ok(listeners)
}
