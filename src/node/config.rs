//! What a node is made of.

use std::{net::SocketAddr, path::PathBuf};

use super::TlsConfig;
use crate::{
    auditor::Share,
    callers::Callers,
    checkpoints::CheckpointConfig,
    drivers::{DriverChoice, Spin, inherited::Inherited, listen::UnixAccess},
    sources::LedgerAddress,
};

/// What a node is made of; `florin serve --help` has more of each.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The ledger that it follows.
    pub ledger: LedgerAddress,
    /// The any-shard port.
    pub listen: Option<SocketAddr>,
    /// The first of the shard ports; port 0 = any free port for each.
    pub shard_listen: Option<SocketAddr>,
    /// The unix socket.
    pub unix: Option<PathBuf>,
    /// Who may use it.
    pub unix_access: UnixAccess,
    /// Callers by TLS; none = there are none.
    pub tls: Option<TlsConfig>,
    /// How many shards; none = as many as the CPUs may have.
    pub shards: Option<u16>,
    /// The CPUs for them, in order; none = all that this process may use.
    pub cpus: Option<Vec<usize>>,
    /// How many shards a CPU may have.
    pub shards_per_cpu: u16,
    /// Where every thread that is no shard's is kept; none = anywhere that this process may use.
    pub housekeeping_cpus: Option<Vec<usize>>,
    /// The NUMA nodes that shards may run on; none = all.
    pub numa: Option<Vec<usize>>,
    /// Sockets that this process was started with: used instead of binding their addresses.
    pub inherited: Inherited,
    /// What drives them.
    pub driver: DriverChoice,
    /// When a shard polls before it sleeps; the ring alone does, others sleep at once.
    pub spin: Spin,
    /// Where the wall clock stands still, µs since 1970 UTC; none = it runs.
    pub fixed_wall_us: Option<i64>,
    /// By how much one that stands still goes on with each second, µs: so that hours and days end while a test looks on.
    pub wall_leap_us: i64,
    /// Age of the data beyond which none is answered.
    pub max_staleness_ms: u32,
    /// What is done about checkpoints; none = nothing.
    pub checkpoints: Option<CheckpointConfig>,
    /// Who may ask what; none = everybody everything.
    pub callers: Option<Callers>,
    /// How much time is spent comparing what is answered with the ledger; none = none.
    pub audit: Option<Share>,
    /// Whether it divides the users with other nodes, and answers nobody before it is told whom it has.
    pub divides_users: bool,
    /// From where on answers are slow, and logged, µs; none = none is.
    pub slow_us: Option<u64>,
}

impl NodeConfig {
    /// A node for this host alone, on free ports of the loopback; all else is as `florin serve` has it.
    pub fn local(ledger: impl Into<LedgerAddress>) -> NodeConfig {
        let any_port = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        NodeConfig {
            ledger: ledger.into(),
            listen: any_port,
            shard_listen: any_port,
            unix: None,
            unix_access: UnixAccess::default(),
            tls: None,
            shards: None,
            cpus: None,
            shards_per_cpu: 1,
            housekeeping_cpus: None,
            numa: None,
            inherited: Inherited::default(),
            driver: DriverChoice::Auto,
            spin: Spin::default(),
            fixed_wall_us: None,
            wall_leap_us: 0,
            max_staleness_ms: 30_000,
            checkpoints: None,
            callers: None,
            audit: None,
            divides_users: false,
            slow_us: None,
        }
    }
}
