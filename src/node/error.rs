//! Why a node does not start, and with which exit code.

use std::io;

use florin_record::LedgerError;

use super::host::KERNEL_MIN;
use crate::{
    checkpoints::StoreError,
    drivers::{DriverError, DriverKind, listen::ListenError},
    feed::FeedError,
    tls::TlsError,
};

/// A refusal to start. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// By `uname`.
    #[error("kernel {release} is too old: florin needs Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1)]
    KernelTooOld {
        /// What the kernel calls itself.
        release: String,
    },
    /// More shards than the CPUs may have.
    #[error(
        "{shards} shards need as many CPUs, and this process may use {cpus} CPUs: lower --shards, or allow more CPUs \
         (--cpus, taskset, AllowedCPUs= in the systemd unit); to try a layout out, let them share (--shards-per-cpu)"
    )]
    NotEnoughCpus {
        /// Asked for.
        shards: usize,
        /// There.
        cpus: usize,
    },
    /// A CPU that does not exist or that this process may not use.
    #[error("CPU {cpu} is not among those that this process may use ({}): change {flag}", list(allowed))]
    CpuNotAllowed {
        /// By which it was named.
        flag: &'static str,
        /// Named.
        cpu: usize,
        /// There.
        allowed: Vec<usize>,
    },
    /// A CPU named more than once.
    #[error("--cpus names a CPU twice ({}): each shard needs its own", list(cpus))]
    CpuTwice {
        /// As named.
        cpus: Vec<usize>,
    },
    /// No shards.
    #[error("a node has at least one shard: raise --shards")]
    NoShards,
    /// Sockets that were handed over, and a driver that could not leave them as they were.
    #[error(
        "the sockets of florin.socket need the ring driver, and this node runs on {driver}: allow io_uring, or disable the socket"
    )]
    InheritedNeedsRing {
        /// Which.
        driver: DriverKind,
    },
    /// Callers by TLS, and a driver that does not know how.
    #[error(
        "--tls-listen and --tls-shard-listen need the ring driver, and this node runs on {driver}: allow io_uring, or leave them out"
    )]
    TlsNeedsRing {
        /// Which.
        driver: DriverKind,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Checkpoints of a ledger that cannot be gone on with from one.
    #[error(
        "a ledger without versions is counted from its first row, and cannot be gone on with from a checkpoint: leave --checkpoint out"
    )]
    NoCheckpoints,
    /// The folder of checkpoints.
    #[error(transparent)]
    Checkpoints(#[from] StoreError),
    /// Nowhere to listen.
    #[error("a node that listens nowhere serves nobody: give --listen, --shard-listen or --unix")]
    NoListener,
    /// The host does not say which CPUs there are.
    #[error("the host does not say which CPUs this process may use: name them with --cpus")]
    Affinity,
    /// The other threads cannot be kept on their CPUs.
    #[error("cannot keep house on the CPUs {}: {source}; change --housekeeping-cpus", list(cpus))]
    Housekeeping {
        /// Where they should be.
        cpus: Vec<usize>,
        /// The system's answer.
        source: io::Error,
    },
    /// A NUMA node that is not there.
    #[error("there is no NUMA node {node} (this host has {}): change --numa", list(known))]
    NoSuchNode {
        /// Named.
        node: usize,
        /// There.
        known: Vec<usize>,
    },
    /// A shard's thread cannot be kept on its CPU.
    #[error("cannot pin a shard to CPU {cpu}: {source}")]
    Pin {
        /// Where it should be.
        cpu: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// A thread, or its eventfd.
    #[error("cannot start a shard's thread: {source}")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
    /// A port or socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ledger cannot be followed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The feed does not begin.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The rings.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl StartError {
    /// What the process ends with.
    ///
    /// | code | means |
    /// | --- | --- |
    /// | 1 | anything else |
    /// | 2 | the configuration contradicts itself |
    /// | 10 | the kernel is too old |
    /// | 11 | io_uring is forbidden |
    /// | 12 | not enough lockable memory |
    /// | 13 | a port or socket is taken |
    /// | 14 | not enough CPUs |
    /// | 15, 16, 17 | the ledger is missing, locked, of another schema |
    /// | 18 | an address or path cannot be listened on |
    /// | 19 | the ledger has a second name (a hard link) |
    /// | 20 | this user may not do what reading the ledger takes |
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::NoShards
            | StartError::NoCheckpoints
            | StartError::NoListener
            | StartError::InheritedNeedsRing { .. }
            | StartError::TlsNeedsRing { .. }
            | StartError::Tls(_)
            | StartError::CpuTwice { .. } => 2,
            StartError::KernelTooOld { .. } | StartError::Driver(DriverError::KernelTooOld { .. }) => 10,
            StartError::Driver(DriverError::NotBuiltIn { .. }) => 2,
            StartError::Driver(DriverError::Forbidden { .. }) => 11,
            StartError::Driver(DriverError::Memlock { .. }) => 12,
            StartError::Listen(ListenError::Taken { .. } | ListenError::UnixTaken { .. }) => 13,
            StartError::NotEnoughCpus { .. }
            | StartError::CpuNotAllowed { .. }
            | StartError::NoSuchNode { .. } => 14,
            StartError::Listen(ListenError::BeyondLastPort { .. }) => 2,
            StartError::Listen(_) => 18,
            StartError::Checkpoints(_) => 22,
            StartError::Ledger(error) | StartError::Feed(FeedError::Ledger(error)) => error.exit_code,
            StartError::Affinity
            | StartError::Housekeeping { .. }
            | StartError::Feed(FeedError::Thread(_) | FeedError::Identity(_))
            | StartError::Pin { .. }
            | StartError::Thread { .. }
            | StartError::Driver(DriverError::Operation { .. }) => 1,
        }
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
